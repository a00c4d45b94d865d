//! The path watch: the path to the collector, probed by ourselves, because what a call's packets tell of a path they
//! tell of another one, and only while they flow.
//!
//! Probes ride as QUIC datagrams on the uplink's connection (WIRE.md section 8.1). [`schedule`] says when one leaves,
//! [`session`] what became of those that left, [`prober`] joins them for one target; [`watch`] is the shell. Any
//! reflector of STAMP (RFC 8762) can be a second target, on a socket of its own ([`reflected`]). In a call probes are
//! spaced evenly, out of it they come in short bursts. An interval of probes becomes one record, once it is known of
//! each probe where it ended, as far as that can be known.
//!
//! What counts: round trips by the agent's own clock, less the time that the collector held the probe; differences of
//! transit by both clocks for jitter, so that no clock need be right and none is compared with another. A probe that
//! could not be sent for a want of our own was not sent, and is no loss.
//!
//! Limits: [`session::PROBES_MAX`] probes are remembered per target. What is left out: one-way delay, which would need
//! clocks that agree.

pub mod jitter;
pub mod prober;
pub mod reflected;
pub mod schedule;
pub mod session;
pub mod watch;
