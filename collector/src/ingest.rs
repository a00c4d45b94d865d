//! Taking in what agents send: connections, the protocol on them, and the way to the store.
//!
//! [`exchange`] decides what a connection may do and says what to do next; [`quic`] carries its bytes; [`writer`]
//! owns the store and answers when a group is on disk; [`downlink`] is the way from an operator to a connected
//! endpoint, and [`request`] knows which record answers what was asked; [`receipt`] accounts for path probes. Nothing
//! here is unbounded: a connection holds at most one partial frame, [`exchange::SUBMITTED_MAX`] batches and 2 KiB of
//! datagrams each way, the writer's queue is fixed, and a batch is decoded only after its place in that queue is
//! certain.

pub mod allowance;
pub mod certificate;
pub mod downlink;
pub mod exchange;
pub mod headroom;
pub mod pacer;
pub mod quic;
pub mod receipt;
pub mod request;
pub mod tls;
pub mod writer;
