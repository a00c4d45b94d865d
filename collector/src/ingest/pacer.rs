//! The allowances of all endpoints, shared by their connections, and the log lines about them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use roomtone_protocol::id::EndpointId;

use super::allowance::{Allowance, Allowances, Turn};

/// All of them; cheap to clone.
#[derive(Debug, Clone)]
pub struct Pacer {
    shared: Arc<Mutex<Allowances>>,
}

impl Pacer {
    /// Each endpoint has `allowance`.
    #[must_use]
    pub fn new(allowance: Allowance) -> Self {
        Self { shared: Arc::new(Mutex::new(Allowances::new(allowance))) }
    }

    /// Notes `bytes` of an endpoint's records, and says until when nothing more of it is to be taken.
    pub(super) fn take(&self, endpoint: EndpointId, bytes: u64) -> Option<Instant> {
        let now = Instant::now();
        let mut shared = self.lock();
        let turn = shared.handle_taken(endpoint, bytes, now);
        let until = shared.held_until(endpoint, now);
        drop(shared);
        turn.into_iter().for_each(tell);
        until
    }

    /// Lets go of whom nothing is held against any more.
    pub fn come_round(&self) {
        let turns = self.lock().handle_round(Instant::now());
        turns.into_iter().for_each(tell);
    }

    /// How many endpoints are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.lock().held()
    }

    fn lock(&self) -> MutexGuard<'_, Allowances> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(turn: Turn) {
    match turn {
        Turn::Held(endpoint) => tracing::warn!(
            %endpoint,
            "it sends more than limits.endpoint_burst: its records are taken at limits.endpoint_pace"
        ),
        Turn::Released(endpoint) => {
            tracing::info!(%endpoint, "it sends no more than it may: its records are taken as they come");
        }
    }
}
