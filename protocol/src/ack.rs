//! The only promise that a collector gives: it is on disk.

use serde::{Deserialize, Serialize};

use crate::id::{Epoch, Sequence};

/// Every record of `epoch` below `next` is on disk at the collector, or was reported lost. Cumulative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The epoch that it speaks of.
    pub epoch: Epoch,
    /// The first record that is not yet on disk.
    pub next: Sequence,
}
