//! What was measured and will never arrive: accepted = stored once + reported lost.

use serde::{Deserialize, Serialize};

use crate::id::{Epoch, Sequence};
use crate::time::Stamp;

/// Why records were lost. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LossCause {
    /// The spool reached its cap or the disk its floor, and shed by rule.
    Shed,
    /// Bytes changed on disk; the segment was set aside.
    Corrupt,
    /// A write ended in the middle, as in a power cut.
    Torn,
    /// The disk refused a write.
    WriteFailed,
}

/// A range of records that the endpoint accepted and cannot deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossReceipt {
    /// The epoch of the lost records; not always the receipt's own.
    pub epoch: Epoch,
    /// The first lost record.
    pub first: Sequence,
    /// The last lost record, `first` included in the count.
    pub last: Sequence,
    /// Why.
    pub cause: LossCause,
    /// When the loss was noticed.
    pub noticed: Stamp,
}
