//! See the body; `tests/corpora.rs` replays the corpus.
#![no_main]

#[path = "../../tests/fuzz_bodies/probe.rs"]
mod probe;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| probe::run(bytes));
