//! Which calls the store's writer has just changed: told once they are on disk, and never waited for.
//!
//! The way holds [`QUEUE_MAX`] calls. What does not fit is not told, and that is: who judges looks the store through
//! then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use roomtone_protocol::ack::Ack;
use roomtone_protocol::id::{CallId, EndpointId};
use roomtone_protocol::record::Record;

use crate::call::call_of;
use crate::store::{Content, Operation, Store, StoreError};

/// The most calls that wait: a group of the writer has at most 2,048 records, and so as many calls.
pub const QUEUE_MAX: usize = 4_096;

/// A call of an endpoint.
pub type CallKey = (EndpointId, CallId);

/// A call that was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// Which.
    pub key: CallKey,
    /// Whether its end was told.
    pub is_closing: bool,
}

/// A store that tells which calls it has changed.
pub struct TellingStore {
    store: Box<dyn Store>,
    sender: SyncSender<Touch>,
    missed: Arc<AtomicBool>,
}

/// Where it is told.
#[derive(Debug)]
pub struct Touches {
    receiver: Receiver<Touch>,
    missed: Arc<AtomicBool>,
}

/// Lets a store tell.
#[must_use]
pub fn telling(store: Box<dyn Store>) -> (TellingStore, Touches) {
    let (sender, receiver) = sync_channel(QUEUE_MAX);
    let missed = Arc::new(AtomicBool::new(false));
    (TellingStore { store, sender, missed: missed.clone() }, Touches { receiver, missed })
}

impl Store for TellingStore {
    fn commit(
        &mut self,
        operations: &[Operation],
        received_us: u64,
    ) -> Result<Vec<Option<Ack>>, StoreError> {
        let answers = self.store.commit(operations, received_us)?;
        for (key, is_closing) in touched(operations) {
            // Nobody listens any more once the judge has ended.
            if self.sender.try_send(Touch { key, is_closing }).is_err() {
                self.missed.store(true, Ordering::Relaxed);
            }
        }
        Ok(answers)
    }
}

impl Touches {
    /// Waits for a touch.
    ///
    /// # Errors
    /// [`RecvTimeoutError`] after `wait`, or where the store is gone.
    pub fn wait(&self, wait: Duration) -> Result<Touch, RecvTimeoutError> {
        self.receiver.recv_timeout(wait)
    }

    /// Whether touches were not told since this was asked last.
    pub fn were_missed(&self) -> bool {
        self.missed.swap(false, Ordering::Relaxed)
    }
}

fn touched(operations: &[Operation]) -> BTreeMap<CallKey, bool> {
    let mut calls = BTreeMap::new();
    for operation in operations {
        let incoming = match operation {
            Operation::Record(incoming) => incoming,
            Operation::Attach(_) | Operation::Detach { .. } => continue,
        };
        let Content::Known(record) = &incoming.content else { continue };
        if let Some(call) = call_of(record) {
            let is_closing = matches!(**record, Record::CallClosed(_));
            *calls.entry((incoming.endpoint, call)).or_insert(false) |= is_closing;
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::call::{CallCloseReason, CallClosed, CallOpened, CallPurpose};
    use roomtone_protocol::id::{Epoch, RecordId, Sequence};
    use roomtone_protocol::time::Stamp;

    use super::*;
    use crate::store::Incoming;
    use crate::store::memory::MemoryStore;

    const ENDPOINT: EndpointId = EndpointId([1; 16]);

    fn operation(sequence: u32, record: Record) -> Operation {
        let id = RecordId { epoch: Epoch(1), sequence: Sequence(sequence) };
        let content = Content::Known(Box::new(record));
        Operation::Record(Incoming { endpoint: ENDPOINT, id, content })
    }

    fn opened(call: u64) -> Record {
        let opened = Stamp { wall_us: 0, uptime_us: 0 };
        Record::CallOpened(CallOpened { call: CallId(call), opened, purpose: CallPurpose::Meeting })
    }

    fn closed(call: u64) -> Record {
        let closed = Stamp { wall_us: 1, uptime_us: 1 };
        let reason = CallCloseReason::Idle;
        Record::CallClosed(CallClosed { call: CallId(call), closed, reason, legs: 0 })
    }

    #[test]
    fn each_call_of_a_group_is_told_once_and_its_end_with_it() {
        let (mut store, touches) = telling(Box::new(MemoryStore::new()));
        let group = [operation(0, opened(1)), operation(1, closed(1)), operation(2, opened(2))];
        store.commit(&group, 5).unwrap();
        let mut told = Vec::new();
        while let Ok(touch) = touches.wait(Duration::ZERO) {
            told.push((touch.key, touch.is_closing));
        }
        assert_eq!(told, [((ENDPOINT, CallId(1)), true), ((ENDPOINT, CallId(2)), false)]);
        assert!(!touches.were_missed());
    }

    #[test]
    fn what_does_not_fit_is_missed_and_holds_nobody_up() {
        let (mut store, touches) = telling(Box::new(MemoryStore::new()));
        let many: Vec<_> =
            (0..=QUEUE_MAX as u32).map(|it| operation(it, opened(it.into()))).collect();
        store.commit(&many, 5).unwrap();
        assert!(touches.were_missed());
        assert!(!touches.were_missed(), "it is told once");
        assert_eq!(std::iter::from_fn(|| touches.wait(Duration::ZERO).ok()).count(), QUEUE_MAX);
    }
}
