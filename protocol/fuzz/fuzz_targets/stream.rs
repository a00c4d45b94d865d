//! See the body; `tests/corpora.rs` replays the corpus.
#![no_main]

#[path = "../../tests/sealing/mod.rs"]
mod sealing;
#[path = "../../tests/fuzz_bodies/stream.rs"]
mod stream;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stream::run(bytes));
