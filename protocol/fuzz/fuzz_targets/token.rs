//! See the body; `tests/corpora.rs` replays the corpus.
#![no_main]

#[path = "../../tests/fuzz_bodies/token.rs"]
mod token;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| token::run(bytes));
