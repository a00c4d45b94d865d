//! The collector's log: lines on stderr, as systemd's journal takes them.
//!
//! ERROR: records are not stored. WARN: somebody should look. INFO: starts, stops, days. DEBUG: per connection, with
//! names and addresses. Nothing is logged per record.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts the log at a level of [`crate::config::REFERENCE`]; other crates are silent unless debugging, because they
/// print addresses at any level.
pub fn start(level: &str) {
    let is_debugging = matches!(level, "debug" | "trace");
    let others = if is_debugging { LevelFilter::INFO } else { LevelFilter::OFF };
    // The config has checked the word.
    let own = level.parse().unwrap_or(LevelFilter::INFO);
    let filter = Targets::new().with_default(others).with_target("roomtone_collector", own);
    // Colours need a feature that is not built in, and asking for them without it panics.
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(false).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    // The journal stamps lines itself. A second start, as in tests, changes nothing.
    let _ = if io::stderr().is_terminal() {
        registry.with(lines).try_init()
    } else {
        registry.with(lines.without_time()).try_init()
    };
}
