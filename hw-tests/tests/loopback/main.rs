//! Trials of the two programs together, on this machine's loopback and on two hosts made of network namespaces.
//!
//! The programs are those of the build that this test belongs to: `cargo build --workspace` comes first, as in `make
//! test`.

#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a trial fails; the lint knows test functions only"
)]

mod balance;
mod context;
mod live;
mod outage;
mod quiet;
mod refusals;
mod supervised;
