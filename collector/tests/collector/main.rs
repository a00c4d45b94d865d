//! The collector's tests from outside the crate, in one binary to save link time.
// Tests may unwrap: a panic is how a test fails. Its items are documented by the tests that use them.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod admin;
mod agent;
mod attack;
mod client;
mod configuration;
mod conformance;
mod day_files;
mod fixture;
mod fleet;
mod headroom;
mod hostile;
mod identity;
mod ingest;
mod networks;
mod probes;
mod process;
mod readme;
mod reflector;
mod verdicts;
