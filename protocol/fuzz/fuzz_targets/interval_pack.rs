//! See the body; `tests/corpora.rs` replays the corpus.
#![no_main]

#[path = "../../tests/fuzz_bodies/interval_pack.rs"]
mod interval_pack;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| interval_pack::run(bytes));
