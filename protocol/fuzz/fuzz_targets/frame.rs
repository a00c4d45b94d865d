//! See the body; `tests/corpora.rs` replays the corpus.
#![no_main]

#[path = "../../tests/fuzz_bodies/frame.rs"]
mod frame;
#[path = "../../tests/sealing/mod.rs"]
mod sealing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| frame::run(bytes));
