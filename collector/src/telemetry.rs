//! The collector's log: lines on stderr, as systemd's journal takes them.
//!
//! ERROR: records are not stored. WARN: somebody should look. INFO: starts, stops, days. DEBUG: per connection, with
//! names and addresses. Nothing is logged per record.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// Starts the log at a level of [`crate::config::REFERENCE`]; other crates stay at WARN unless debugging.
pub fn start(level: &str) {
    let others = if matches!(level, "debug" | "trace") { "info" } else { "warn" };
    let filter = EnvFilter::new(format!("{others},roomtone_collector={level}"));
    let is_terminal = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // Colours need a feature that is not built in, and asking for them without it panics.
        .with_ansi(false)
        .with_target(false);
    // The journal stamps lines itself. A second start, as in tests, changes nothing.
    let _ = if is_terminal { lines.try_init() } else { lines.without_time().try_init() };
}
