//! The agent's promised figures, measured on this machine: `cargo bench -p roomtone-agent`.
//!
//! Not a timed test: it prints what it finds and writes `target/bench/agent.json`, one object per figure. Ratios are
//! taken within one run, in turns with the peer.

mod bytes;
mod capture;
mod figure;
mod speed;

use std::path::{Path, PathBuf};

fn main() {
    // `cargo test --benches` runs every bench target once; figures are not tests.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let target = target_folder();
    let mut figures = Vec::new();
    figures.extend(speed::media_watch());
    figures.extend(speed::analyze_against_tshark(&target.join("bench")));
    figures.extend(bytes::per_leg_interval());
    figure::write(&target.join("bench/agent.json"), &figures);
}

/// The cargo target folder that this program was built in: `target/release/deps/figures-…`.
fn target_folder() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    program.ancestors().nth(3).map_or_else(|| PathBuf::from("target"), Path::to_path_buf)
}
