//! The agent's own log: lines on stderr, for journald or a terminal.
//!
//! Names of people and addresses of calls appear from DEBUG on only. Foreign crates cannot know that rule (quinn warns
//! with the peer's address in the line), so below DEBUG only this crate's own lines pass.

use std::ffi::OsStr;
use std::io;

use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::{Level, UnknownLevel};

/// The variable that overrides `log.level`: a level, or `target=level` directives, comma-separated.
pub const LOG_VARIABLE: &str = "ROOMTONE_LOG";

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The variable's value is neither a level nor directives.
    #[error(
        "{LOG_VARIABLE}={value:?} is not a log level; give off, error, warn, info, debug or trace"
    )]
    Filter {
        /// The value.
        value: String,
        /// What the parser says.
        source: ParseError,
    },
    /// A log was set up before in this process.
    #[error("the log is set up already")]
    Twice,
}

/// The log of this process.
#[derive(Debug)]
pub struct Log(reload::Handle<Targets, Registry>);

impl Log {
    /// Sets another level, where [`LOG_VARIABLE`] does not say otherwise.
    pub fn set(&self, level: Level) {
        let variable = std::env::var(LOG_VARIABLE).ok();
        // The variable parsed once, and the log lives as long as the process.
        if let Ok(filter) = filter(level, variable.as_deref()) {
            let _ = self.0.reload(filter);
        }
    }
}

/// Sets the log up for the whole process: stderr, no colours, no time where journald adds its own.
///
/// # Errors
/// Where [`LOG_VARIABLE`] does not parse, or on the second call.
pub fn init(level: Level) -> Result<Log, TelemetryError> {
    let variable = std::env::var(LOG_VARIABLE).ok();
    let (filter, handle) = reload::Layer::new(filter(level, variable.as_deref())?);
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(false).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    let done = if journald_reads(std::env::var_os("JOURNAL_STREAM").as_deref()) {
        registry.with(lines.without_time()).try_init()
    } else {
        registry.with(lines).try_init()
    };
    done.map(|()| Log(handle)).map_err(|_| TelemetryError::Twice)
}

/// systemd sets the variable where it connects stdout or stderr to the journal, systemd.exec(5).
fn journald_reads(journal_stream: Option<&OsStr>) -> bool {
    journal_stream.is_some_and(|value| !value.is_empty())
}

fn filter(level: Level, variable: Option<&str>) -> Result<Targets, TelemetryError> {
    let directives = match variable.map(str::trim).filter(|value| !value.is_empty()) {
        None => directives(level).to_owned(),
        Some(value) => match value.to_ascii_lowercase().parse() {
            Ok(level) => directives(level).to_owned(),
            Err(UnknownLevel) => value.to_owned(),
        },
    };
    directives.parse().map_err(|source| TelemetryError::Filter { value: directives, source })
}

fn directives(level: Level) -> &'static str {
    match level {
        Level::Off => "off",
        Level::Error => "off,roomtone_agent=error",
        Level::Warn => "off,roomtone_agent=warn",
        Level::Info => "off,roomtone_agent=info",
        Level::Debug => "warn,roomtone_agent=debug",
        Level::Trace => "debug,roomtone_agent=trace",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: Level, variable: Option<&str>) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let subscriber =
            tracing_subscriber::registry().with(filter(level, variable).unwrap()).with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "quinn_udp", "sendmsg error to 192.0.2.7:443");
            tracing::info!(target: "roomtone_agent::uplink", "own line");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn foreign_crates_are_silent_below_debug_because_they_print_addresses() {
        let text = logged(Level::Info, None);
        assert!(text.contains("own line") && !text.contains("192.0.2.7"), "{text}");
        assert!(logged(Level::Debug, None).contains("192.0.2.7"));
    }

    #[test]
    fn variable_overrides_the_config() {
        assert_eq!(logged(Level::Info, Some("off")), "");
        assert!(logged(Level::Off, Some("INFO")).contains("own line"));
        assert!(logged(Level::Off, Some("roomtone_agent::uplink=info")).contains("own line"));
    }

    #[test]
    fn senseless_variable_is_one_clear_line() {
        let error = filter(Level::Info, Some("roomtone_agent=loud")).unwrap_err().to_string();
        assert!(error.starts_with("ROOMTONE_LOG=\"roomtone_agent=loud\" is not"), "{error}");
    }

    #[test]
    fn journald_is_recognised_by_its_variable() {
        assert!(journald_reads(Some(OsStr::new("9:12345"))));
        assert!(!journald_reads(Some(OsStr::new(""))) && !journald_reads(None));
    }
}
