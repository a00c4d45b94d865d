//! The roomtone collector: takes in what agents measured, stores it per leg and shows it.
//!
//! The way of a record: [`ingest`] takes frames off a connection, the store's writer thread commits them in groups,
//! and only then the ack goes back. Reading goes the other way, from [`store`] through [`call`] and [`classify`], which
//! judges, to [`report`]; [`judge`] keeps verdicts beside a running `serve`. [`fleet`] sets endpoints to what an
//! operator wants and keeps how they are, [`admin`] takes an operator's requests. `server.rs` connects the
//! parts, `cli.rs` is what a person types.
#![forbid(unsafe_code)]

pub mod admin;
pub mod call;
pub mod classify;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dev_certificates;
pub mod fleet;
pub mod identity;
pub mod ingest;
pub mod judge;
pub mod likeness;
pub mod naming;
pub mod networks;
pub mod private_file;
pub mod reflector;
pub mod report;
pub mod server;
pub mod store;
pub mod systemd;
pub mod telemetry;
pub mod text;
