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
mod enrolled;
mod identity;
mod live;
mod outage;
mod quiet;
mod refusals;
mod supervised;

use std::time::{Duration, Instant};

use roomtone_hw_tests::pair::Place;
use serde_json::Value;

/// Nothing that a trial waits for takes nearly as long.
const GUARD: Duration = Duration::from_secs(60);

/// Waits until the collector's list satisfies `done`.
fn wait(place: &Place, what: &str, done: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let started = Instant::now();
    loop {
        let calls = place.calls().unwrap();
        if done(&calls) {
            return calls;
        }
        assert!(started.elapsed() < GUARD, "{what} did not happen: {calls:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
