//! Coverage-guided search with the body of `agent/tests/agent/fuzz_bodies` for `rtcp`.

#![no_main]

#[path = "../../tests/agent/fuzz_bodies/rtcp.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|input: &[u8]| body::body(input));
