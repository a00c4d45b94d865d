//! What a collector asks of an agent, beyond acks.

use serde::{Deserialize, Serialize};

/// A request on the way down. Appended, never reordered; an agent skips what it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// The collector goes away in an orderly manner; come back after a back-off.
    GoingAway,
    /// Run a device self-test and report it, unless a call is on.
    SelfTest,
    /// Nothing is asked: the transport of a living agent acknowledges the packet, and that is all that is looked for.
    Probe,
}
