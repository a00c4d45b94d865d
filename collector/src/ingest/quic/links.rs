//! The connections that endpoints have: one that is heard for each, one more that has not said Hello yet, and one that
//! is being told why it is not heard.
//!
//! A newcomer takes the place of the older connection with its Hello and not before, so that somebody who is refused
//! harms nobody. Of two that have not said Hello the older goes, and so it does of two that are refused, apart from the
//! others: an endpoint holds three connections at most, and who is refused puts out nobody who may be heard.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use quinn::{Connection, VarInt};
use roomtone_protocol::enroll::BootId;
use roomtone_protocol::id::EndpointId;

use crate::identity::pace::Pace;
use crate::identity::standing::Live;
use crate::ingest::exchange::CloseReason;

/// All of them; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Links {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    heard: HashMap<EndpointId, Entry>,
    waiting: HashMap<EndpointId, Entry>,
    refused: HashMap<EndpointId, Entry>,
    /// The endpoints whose older connection is being looked at.
    probed: HashSet<EndpointId>,
    made: u64,
    lines: Pace<EndpointId>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            heard: HashMap::new(),
            waiting: HashMap::new(),
            refused: HashMap::new(),
            probed: HashSet::new(),
            made: 0,
            lines: Pace::of_lines(),
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    number: u64,
    connection: Connection,
    boot: Option<BootId>,
    ended: Ended,
}

/// Why this side closed a connection, for the task that serves it.
#[derive(Debug, Clone, Default)]
pub(super) struct Ended(Arc<OnceLock<CloseReason>>);

/// One connection's place.
#[derive(Debug)]
pub(super) struct Place {
    links: Links,
    endpoint: EndpointId,
    number: u64,
    ended: Ended,
}

/// A connection that is looked at, to find out whether somebody lives behind it.
#[derive(Debug)]
pub(super) struct Probed {
    links: Links,
    endpoint: EndpointId,
    entry: Entry,
    /// Acknowledgements that had come before.
    acks: u64,
}

impl Links {
    /// Ends every connection of an endpoint that is heard or may be; whether there was one.
    pub fn cut(&self, endpoint: EndpointId, reason: CloseReason) -> bool {
        let shared = self.lock();
        let entries = [shared.heard.get(&endpoint), shared.waiting.get(&endpoint)];
        entries.into_iter().flatten().map(|entry| entry.close(reason)).count() > 0
    }

    /// How many endpoints are connected.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().heard.len()
    }

    /// Whether the log may have one more line about an endpoint's connections.
    pub(super) fn may_tell(&self, endpoint: EndpointId, now: Instant) -> bool {
        self.lock().lines.admits(endpoint, now)
    }

    /// Takes in a connection that has not said Hello.
    pub(super) fn wait(&self, endpoint: EndpointId, connection: &Connection) -> Place {
        self.take_in(endpoint, connection, |shared| &mut shared.waiting)
    }

    /// Takes in a connection that will be told why it is not heard.
    pub(super) fn turn_away(&self, endpoint: EndpointId, connection: &Connection) -> Place {
        self.take_in(endpoint, connection, |shared| &mut shared.refused)
    }

    fn take_in(
        &self,
        endpoint: EndpointId,
        connection: &Connection,
        among: impl FnOnce(&mut Shared) -> &mut HashMap<EndpointId, Entry>,
    ) -> Place {
        let mut shared = self.lock();
        shared.made += 1;
        let (number, ended) = (shared.made, Ended::default());
        let connection = connection.clone();
        let entry = Entry { number, connection, boot: None, ended: ended.clone() };
        if let Some(older) = among(&mut shared).insert(endpoint, entry) {
            older.close(CloseReason::Replaced);
        }
        Place { links: self.clone(), endpoint, number, ended }
    }

    /// The boot id of the connection that an endpoint has.
    pub(super) fn live(&self, endpoint: EndpointId) -> Live {
        self.lock().heard.get(&endpoint).map(|entry| entry.boot)
    }

    /// Begins to look at the connection that an endpoint has; `None` where somebody does already, or there is none.
    pub(super) fn probe(&self, endpoint: EndpointId) -> Option<Probed> {
        let mut shared = self.lock();
        let entry = shared.heard.get(&endpoint)?.clone();
        if !shared.probed.insert(endpoint) {
            return None;
        }
        let acks = entry.acks();
        Some(Probed { links: self.clone(), endpoint, entry, acks })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Makes the connection the one that is heard, in place of an older one.
    pub(super) fn promote(&self, boot: Option<BootId>) {
        let mut shared = self.links.lock();
        let is_ours = shared.waiting.get(&self.endpoint).is_some_and(|it| it.number == self.number);
        // Where it is not, a newer connection has closed this one meanwhile.
        if is_ours && let Some(mut entry) = shared.waiting.remove(&self.endpoint) {
            entry.boot = boot;
            if let Some(older) = shared.heard.insert(self.endpoint, entry) {
                let endpoint = self.endpoint;
                if shared.lines.admits(endpoint, Instant::now()) {
                    tracing::info!(%endpoint, "a newer connection replaces the older");
                } else {
                    tracing::debug!(%endpoint, "a newer connection replaces the older");
                }
                older.close(CloseReason::Replaced);
            }
        }
    }

    /// Why this side closed the connection beside its own task.
    pub(super) fn ended(&self) -> Option<CloseReason> {
        self.ended.0.get().copied()
    }

    /// Gives the place up; whether the connection was heard until now.
    pub(super) fn leave(self) -> bool {
        self.remove()
    }

    fn remove(&self) -> bool {
        let mut shared = self.links.lock();
        let is_ours = |entry: Option<&Entry>| entry.is_some_and(|it| it.number == self.number);
        let Shared { waiting, refused, .. } = &mut *shared;
        for map in [waiting, refused] {
            if is_ours(map.get(&self.endpoint)) {
                map.remove(&self.endpoint);
            }
        }
        let was_heard = is_ours(shared.heard.get(&self.endpoint));
        if was_heard {
            shared.heard.remove(&self.endpoint);
        }
        was_heard
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Probed {
    /// Whether the peer has acknowledged anything since.
    pub(super) fn has_answered(&self) -> bool {
        self.entry.connection.close_reason().is_none() && self.entry.acks() > self.acks
    }

    /// Whether the connection is gone anyway.
    pub(super) fn is_gone(&self) -> bool {
        self.entry.connection.close_reason().is_some()
    }

    /// Ends the connection.
    pub(super) fn close(&self) {
        self.entry.close(CloseReason::NoAnswer);
    }
}

impl Drop for Probed {
    fn drop(&mut self) {
        self.links.lock().probed.remove(&self.endpoint);
    }
}

impl Entry {
    fn close(&self, reason: CloseReason) {
        let _ = self.ended.0.set(reason);
        let code = VarInt::from_u32(reason as u32);
        self.connection.close(code, reason.to_string().as_bytes());
    }

    fn acks(&self) -> u64 {
        self.connection.stats().frame_rx.acks
    }
}
