//! What the room application says of calls, as the media watch takes it.
//!
//! A context is one call as the room application knows it. At most one is open: the next one that begins ends the one
//! before. The rules, for a context that begins at a moment:
//! - where no call is open it opens one, with or without packets;
//! - a call that no context had before, and that took place for the same reason, becomes its call;
//! - any other call ends there, and the context opens the next one.
//!
//! While a context is open its call stays open, however silent, and every leg belongs to it. When it has ended, the
//! call closes as soon as its packets stop for the idle time, and at once where it had none; it lasted until its last
//! packet or the context's end, whichever is later. A leg that begins after the context's end belongs to the next call.

use roomtone_protocol::call::CallPurpose;
use roomtone_protocol::id::CallId;

use crate::clock::Moment;

/// Which context, in the order in which they began; never used twice in the life of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContextNumber(pub u64);

/// What the room application said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextChange {
    /// A context began, and with it the one before ended.
    Began {
        /// The new one.
        context: ContextNumber,
        /// What the room application says that the call is for.
        purpose: CallPurpose,
    },
    /// A context ended.
    Ended {
        /// Which.
        context: ContextNumber,
    },
}

/// A change that has taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContextTaken {
    /// Which.
    pub change: ContextChange,
    /// The moment of it.
    pub at: Moment,
    /// The call that is open now.
    pub call: Option<CallId>,
}
