//! Replays the committed corpora of the fuzz targets, so that no found input is forgotten.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::path::PathBuf;

#[path = "fuzz_bodies/frame.rs"]
mod frame;
#[path = "fuzz_bodies/interval_pack.rs"]
mod interval_pack;
#[path = "fuzz_bodies/probe.rs"]
mod probe;
mod sealing;
#[path = "fuzz_bodies/stream.rs"]
mod stream;
#[path = "fuzz_bodies/token.rs"]
mod token;

/// Runs the body on each file of the corpus, in the order of names.
fn replay(target: &str, body: fn(&[u8])) {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "fuzz", "corpus", target].iter().collect();
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        // Shown only where the body panics: then the last one is the culprit.
        println!("{}", file.display());
        body(&fs::read(&file).unwrap());
    }
}

#[test]
fn corpus_of_frame_holds() {
    replay("frame", frame::run);
}

#[test]
fn corpus_of_interval_pack_holds() {
    replay("interval_pack", interval_pack::run);
}

#[test]
fn corpus_of_probe_holds() {
    replay("probe", probe::run);
}

#[test]
fn corpus_of_stream_holds() {
    replay("stream", stream::run);
}

#[test]
fn corpus_of_token_holds() {
    replay("token", token::run);
}
