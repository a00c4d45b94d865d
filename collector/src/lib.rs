//! The roomtone collector: takes in what agents measured, stores it per leg and shows it.
//!
//! The way of a record: [`ingest`] takes frames off a connection, the store's writer thread commits them in groups,
//! and only then the ack goes back. Reading goes the other way, from [`store`] through [`call`].
#![forbid(unsafe_code)]

pub mod call;
pub mod clock;
pub mod ingest;
pub mod store;
