//! The connections of peers that are nobody yet and have not asked for anything: some, of which the oldest goes.
//!
//! Who enrols sends its request with its first packets, so it is through while the lobby turns over; who sits and waits
//! is put out by those who come. Turned around, with the newcomer refused, a few connections a second would keep
//! everybody from enrolling.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::Connection;

use crate::ingest::exchange::CloseReason;

/// The most connections in it, of a few KiB each; a tenth of all that there may be, where that is less.
pub(super) const LOBBY_MAX: usize = 256;

/// All of them; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Lobby {
    seats: usize,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The oldest first.
    waiting: VecDeque<(u64, Connection)>,
    made: u64,
}

/// A seat; given up when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    lobby: Lobby,
    number: u64,
}

impl Lobby {
    /// One of a collector with so many connections.
    pub(super) fn new(connections_max: usize) -> Self {
        let seats = (connections_max / 10).clamp(1, LOBBY_MAX);
        Self { seats, shared: Arc::default() }
    }

    /// Takes in a connection; where there is no seat, the oldest is closed.
    pub(super) fn enter(&self, connection: &Connection) -> Seat {
        let mut shared = self.lock();
        shared.made += 1;
        let number = shared.made;
        if shared.waiting.len() >= self.seats
            && let Some((_, oldest)) = shared.waiting.pop_front()
        {
            super::close(&oldest, CloseReason::HelloTimeout);
        }
        shared.waiting.push_back((number, connection.clone()));
        Seat { lobby: self.clone(), number }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut shared = self.lobby.lock();
        // Numbers count up, so they are in order.
        if let Ok(at) = shared.waiting.binary_search_by_key(&self.number, |(number, _)| *number) {
            shared.waiting.remove(at);
        }
    }
}
