//! Coverage-guided search with the body of `agent/tests/agent/fuzz_bodies` for `watch`.

#![no_main]

#[path = "../../tests/agent/fuzz_bodies/watch.rs"]
mod body;
#[path = "../../tests/agent/fuzz_bodies/ledger.rs"]
mod ledger;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::body(input));
