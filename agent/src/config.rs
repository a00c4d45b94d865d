//! The config file of `roomtone-agent run --config FILE`: TOML, checked whole before anything starts.
//!
//! A raw twin (`raw`) mirrors the text; [`Config`] is what the agent works with and holds only values within their
//! ranges. [`REFERENCE`] lists every key once. Relative paths count from the config file's own directory.
//!
//! Bounds: 1 MiB of text. An unknown key is an error that names the nearest known one: a misspelt limit that is
//! silently ignored would be found out on the day it matters.

pub mod layers;

mod raw;
mod reference;
mod size;

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use roomtone_protocol::id::EndpointId;
use toml::de::DeTable;

use crate::audio::constants::Thresholds;

pub use reference::{OptionDoc, REFERENCE, help, markdown};
pub use size::{format_size, parse_size};

/// What the agent works with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the figures go.
    pub collector: Collector,
    /// Who this endpoint is.
    pub identity: Identity,
    /// Where records wait.
    pub spool: Spool,
    /// Which packets are read.
    pub tap: Tap,
    /// How calls are told apart.
    pub media: Media,
    /// How devices are watched.
    pub audio: Audio,
    /// How the path to the collector is watched.
    pub path: PathWatch,
    /// Whether the machine is watched.
    pub host: Host,
    /// Where the room application speaks.
    pub context: Context,
    /// How often the agent says how it is.
    pub health: Health,
    /// What is logged.
    pub log: Log,
}

/// Where the figures go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// Host name or address, without brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// The name that the collector's certificate must carry.
    pub server_name: String,
}

/// Who this endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its id; `None` for the one in the certificate.
    pub endpoint: Option<EndpointId>,
    /// Its certificate with the chain, PEM.
    pub certificate: PathBuf,
    /// The certificate's private key, PEM; may be the same file.
    pub key: PathBuf,
    /// The authority of the collector's certificate, PEM.
    pub ca: PathBuf,
}

/// Where records wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool {
    /// The spool's own directory.
    pub directory: PathBuf,
    /// The most bytes on disk.
    pub bytes_max: u64,
    /// The free bytes left to others.
    pub headroom_bytes: u64,
    /// The free inodes left to others.
    pub inodes_min: u64,
}

/// Which packets are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tap {
    /// Interface name, `any` for all.
    pub interface: String,
    /// How much of each packet is read.
    pub snap_bytes: u32,
    /// The kernel ring's size.
    pub ring_bytes: u32,
    /// How long packets may wait in the ring.
    pub block_timeout: Duration,
    /// Own addresses; empty for those of the interfaces.
    pub local: Vec<IpAddr>,
}

/// How calls are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// How long after its last media packet a call is over.
    pub call_idle: Duration,
}

/// How devices are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audio {
    /// Whether they are watched at all.
    pub watch: bool,
    /// Whether microphones that a call uses are listened to along with it.
    pub levels: bool,
    /// When a device counts as not functioning.
    pub thresholds: Thresholds,
}

/// How the path to the collector is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathWatch {
    /// Whether it is probed.
    pub probe: bool,
    /// A second target of the same probes; `None` for none.
    pub reflector: Option<Reflector>,
}

/// A reflector of RFC 8762.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reflector {
    /// Host name or address, without brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
}

/// Whether the machine is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its load, and the interfaces of calls.
    pub watch: bool,
}

/// Where the room application speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The socket; `None` for none.
    pub socket: Option<PathBuf>,
}

/// How often the agent says how it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The time between two heartbeats.
    pub interval: Duration,
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is logged.
    pub level: Level,
}

/// A log level, from nothing to everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Off,
    /// What stops the agent from doing its work.
    Error,
    /// What an operator should look at.
    Warn,
    /// What changes.
    Info,
    /// With names and addresses.
    Debug,
    /// Per packet.
    Trace,
}

impl Level {
    /// The word that stands in a config.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl std::str::FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(word: &str) -> Result<Self, UnknownLevel> {
        match word {
            "off" => Ok(Self::Off),
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err(UnknownLevel),
        }
    }
}

/// The word is none of the levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a log level; give off, error, warn, info, debug or trace")]
pub struct UnknownLevel;

/// Why a config is not usable; each message is one line that names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config {path:?} cannot be read: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The path names a directory.
    #[error("config {path:?} is a directory, name the file in it", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// The file is too large to be a config.
    #[error("config {path:?} is larger than 1 MiB, is it the right file?", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not text.
    #[error("config {path:?} is not UTF-8 text (byte {offset}), is it the right file?", path = path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The first byte that is not UTF-8.
        offset: usize,
    },
    /// The text is not TOML.
    #[error("config {path:?}, line {line}: {problem}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        problem: String,
    },
    /// A key that does not exist.
    #[error("config {path:?}: unknown key {key:?} at line {line}; {hint}", path = path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key, with its section.
        key: String,
        /// The line, from 1.
        line: usize,
        /// The nearest key, or where to find all of them.
        hint: String,
    },
    /// Nobody said where the collector is.
    #[error(
        "config {path:?}: collector.address is empty, and {file:?}, which enrolment writes, cannot be read: {source}; \
         run `roomtone-agent enroll --token TOKEN`, or give the address",
        path = path.display(), file = file.display()
    )]
    NotEnrolled {
        /// The config file.
        path: PathBuf,
        /// What enrolment writes.
        file: PathBuf,
        /// Why it is of no use.
        source: io::Error,
    },
    /// A value that is not allowed.
    #[error("config {path:?}: {key} = {value} is not allowed; give {range}", path = path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, with its section.
        key: &'static str,
        /// The value as it stands in the file.
        value: String,
        /// What it takes.
        range: &'static str,
    },
}

impl Config {
    /// Reads and checks a config file.
    ///
    /// # Errors
    /// See [`ConfigError`]; the first problem found, in the order of the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read(path)?, path)
    }

    /// Checks a config's text; `path` is named in errors, and its directory is where relative paths start. Where the
    /// text names no collector, the file is read that enrolment left beside the certificate.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        parse_raw(text, path)?.check(path)
    }
}

/// Reads a config file's text.
fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(ConfigError::Directory { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|error| ConfigError::NotText {
        path: path.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })
}

/// Reads a config's text as it stands, with known keys only.
fn parse_raw(text: &str, path: &Path) -> Result<raw::Raw, ConfigError> {
    let syntax = |error: toml::de::Error| ConfigError::Syntax {
        path: path.to_owned(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        problem: error.message().lines().next().unwrap_or("not valid TOML").to_owned(),
    };
    let document = DeTable::parse(text).map_err(syntax)?;
    check_keys(document.get_ref(), text, path)?;
    toml::from_str(text).map_err(|error| {
        let found = error.span().and_then(|span| key_at(document.get_ref(), span.start));
        match found.and_then(|(key, span)| Some((reference::find(&key)?, span))) {
            Some((option, span)) => ConfigError::Value {
                path: path.to_owned(),
                key: option.key,
                value: shorten(text.get(span).unwrap_or_default()),
                range: option.range,
            },
            None => syntax(error),
        }
    })
}

impl Spool {
    /// Where a file lies that outlives the process and is no record: beside the spool's own directory.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.parent().unwrap_or(&self.directory).join(name)
    }
}

impl ConfigError {
    /// What is wrong, without the name of the file: for whoever has another one, or none.
    #[must_use]
    pub fn problem(&self) -> String {
        match self {
            Self::Unreadable { source, .. } => format!("cannot be read: {source}"),
            Self::Directory { .. } => "is a directory".to_owned(),
            Self::TooLarge { .. } => "is larger than 1 MiB".to_owned(),
            Self::NotText { offset, .. } => format!("is not UTF-8 text (byte {offset})"),
            Self::Syntax { line, problem, .. } => format!("line {line}: {problem}"),
            Self::UnknownKey { key, line, hint, .. } => {
                format!("unknown key {key:?} at line {line}; {hint}")
            }
            Self::NotEnrolled { source, .. } => {
                format!(
                    "collector.address is empty, and nothing of an enrolment can be read: {source}"
                )
            }
            Self::Value { key, value, range, .. } => {
                format!("{key} = {value} is not allowed; give {range}")
            }
        }
    }
}

impl Collector {
    /// `HOST:PORT`, as an operator would write it.
    #[must_use]
    pub fn target(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// Refuses every section and key that [`REFERENCE`] does not list.
fn check_keys(document: &DeTable<'_>, text: &str, path: &Path) -> Result<(), ConfigError> {
    let unknown = |key: String, offset: usize, hint: String| ConfigError::UnknownKey {
        path: path.to_owned(),
        line: line_of(text, offset),
        key: shorten(&key),
        hint,
    };
    for (section, value) in document.iter() {
        let name: &str = section.get_ref();
        let offset = section.span().start;
        if !reference::sections().any(|known| known == name) {
            return Err(unknown(name.to_owned(), offset, nearest(name, reference::sections())));
        }
        let Some(table) = value.get_ref().as_table() else {
            let hint = format!("{name} is a section, write [{name}] on a line of its own");
            return Err(unknown(name.to_owned(), offset, hint));
        };
        for (key, _) in table.iter() {
            let full = format!("{name}.{}", key.get_ref());
            if reference::find(&full).is_none() {
                let hint = nearest(&full, REFERENCE.iter().map(|option| option.key));
                return Err(unknown(full, key.span().start, hint));
            }
        }
    }
    Ok(())
}

/// Names the key that was probably meant.
fn nearest(found: &str, known: impl Iterator<Item = &'static str>) -> String {
    let best = known
        .map(|key| (strsim::jaro_winkler(found, key), key))
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    match best {
        Some((likeness, key)) if likeness >= LIKENESS_MIN => format!("did you mean {key:?}?"),
        Some(_) | None => "roomtone-agent run --help lists all keys".to_owned(),
    }
}

/// Finds the key whose value holds the byte at `offset`, with the span of the value.
fn key_at(document: &DeTable<'_>, offset: usize) -> Option<(String, std::ops::Range<usize>)> {
    document.iter().find_map(|(section, table)| {
        table.get_ref().as_table()?.iter().find_map(|(key, value)| {
            let span = value.span();
            let full = || format!("{}.{}", section.get_ref(), key.get_ref());
            span.contains(&offset).then(|| (full(), span.clone()))
        })
    })
}

/// The line of a byte, from 1.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// Keeps an error on one line, whatever stands in the file.
fn shorten(value: &str) -> String {
    let mut short: String =
        value.chars().take(VALUE_CHARS_MAX).flat_map(char::escape_debug).collect();
    short = short.replace("\\\"", "\"");
    if value.chars().nth(VALUE_CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

/// A full config with comments is 4 KiB.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// The most characters of a bad value that an error repeats.
const VALUE_CHARS_MAX: usize = 60;
/// Jaro-Winkler likeness from which a guess helps: one wrong letter in six is 0.85 and more, unrelated words are below.
const LIKENESS_MIN: f64 = 0.75;
