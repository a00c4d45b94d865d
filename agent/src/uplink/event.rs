//! What the link tells its shell, wants from it, and counts.

use roomtone_protocol::ack::Ack;
use roomtone_protocol::configuration::Configuration;
use roomtone_protocol::control::Control;
use roomtone_protocol::enroll::RenewReply;
use roomtone_protocol::id::Sequence;
use roomtone_protocol::limits::VERSION_BYTES_MAX;

use super::cause::Cause;
use crate::spool::Position;

/// What the spool holds: all records from `oldest` up to, not including, `newest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The oldest record not yet acknowledged, or the next that will be written.
    pub oldest: Position,
    /// The next record that will be written.
    pub newest: Position,
}

/// What the shell must do, or may tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Begin to connect; answer with `handle_connected` or `handle_disconnected`.
    Connect,
    /// The collector takes records.
    Welcomed {
        /// The collector's own version, as it says.
        collector_version: heapless::String<VERSION_BYTES_MAX>,
        /// Where the link goes on.
        from: Position,
        /// The collector's clock, in microseconds since 1970.
        wall_us: u64,
    },
    /// The certificate has expired and may be renewed: answer with `handle_renewal` or `handle_no_renewal`.
    RenewFirst {
        /// The collector's clock, in microseconds since 1970.
        wall_us: u64,
    },
    /// The answer to a request for a certificate; `None` for a refusal that this version does not know. Once the
    /// certificate is in force say so with `handle_identity`, else with `handle_no_renewal`.
    Renewed(Option<Box<RenewReply>>),
    /// The collector lacks records that it once acknowledged, or that were shed: `next` up to the oldest held.
    CollectorBehind {
        /// The first record that the collector lacks.
        next: Sequence,
        /// The oldest record held.
        oldest: Position,
    },
    /// Hand this to the spool.
    Acknowledged(Ack),
    /// The collector asks for something. Repetitions that were not picked up yet are one.
    Requested(Control),
    /// The collector sets the endpoint to this, its hash proven. One that was not picked up yet is replaced.
    Configured(Box<Configuration>),
    /// Close the connection, then call `handle_disconnected`.
    Close(Cause),
}

/// Why no certificate came of RenewFirst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRenewal {
    /// Another try may bring one.
    Later,
    /// Only a person can help.
    Unable,
}

/// A wish for records from the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The first record wanted.
    pub from: Position,
    /// The most bytes of whole frames; never less than `FRAME_BYTES_MAX`, so that any record fits.
    pub bytes_max: usize,
}

/// What was noticed and needed no action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Acks that settled nothing.
    pub acks_stale: u64,
    /// Frames of kinds that this version does not know or need not read, and configurations that are not what their
    /// hash says.
    pub frames_skipped: u64,
    /// Runs from the spool that held something else than record frames; cut there.
    pub reads_damaged: u64,
}
