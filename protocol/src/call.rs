//! A call as one endpoint saw it.

use serde::{Deserialize, Serialize};

use crate::id::CallId;
use crate::time::Stamp;

/// The first proven stream of a call was seen, or the room application said that it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallOpened {
    /// The call.
    pub call: CallId,
    /// When its first packet was seen, or the room application said so.
    pub opened: Stamp,
    /// Whether people spoke or a rehearsal was placed.
    pub purpose: CallPurpose,
}

/// Why a call took place. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallPurpose {
    /// A meeting, as far as packets tell.
    Meeting,
    /// Placed by `roomtone-agent rehearse` to check an installation; never judged together with meetings.
    Rehearsal,
}

/// The call is over: no media packet for the idle time, or the agent stopped watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallClosed {
    /// The call.
    pub call: CallId,
    /// When its last packet was seen, or the room application ended it where that is later; the last moment that is
    /// known where the agent was killed.
    pub closed: Stamp,
    /// Why it counts as over.
    pub reason: CallCloseReason,
    /// How many legs it had.
    pub legs: u16,
}

/// Why a call was closed. Appended, never reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallCloseReason {
    /// No media packet for the idle time (15 s by default), or the room application ended it.
    Idle,
    /// The agent stopped, or was killed, while it was open.
    AgentStopped,
}
