//! The configuration file: TOML, every option in one table ([`REFERENCE`]), nothing known only to the code.
//!
//! Unknown keys are errors that name the nearest known one. Relative paths count from the file's own folder.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};

use crate::classify::{rule_file, rules};
use crate::fleet::settings;
use crate::identity::reach::Reach;
use crate::identity::standing::Required;
use crate::ingest::allowance::Allowance;
use crate::ingest::quic::Limits;
use crate::judge::Choice;
use crate::{likeness, text};

/// One option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionReference {
    /// `section.key`.
    pub key: &'static str,
    /// What it takes and its default.
    pub kind: Kind,
    /// The unit, empty where there is none.
    pub unit: &'static str,
    /// One line for a person.
    pub help: &'static str,
}

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An IP address and port.
    Address(&'static str),
    /// A path.
    Path(&'static str),
    /// A path that counts from `store.directory`.
    StorePath(&'static str),
    /// A whole number within bounds.
    Number {
        /// The default.
        default: i64,
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// A number of bytes within bounds, written as `"100MiB"`.
    Bytes {
        /// The default.
        default: &'static str,
        /// The smallest.
        min: &'static str,
        /// The largest.
        max: &'static str,
    },
    /// One word of some.
    Word {
        /// The default.
        default: &'static str,
        /// What it may be.
        words: &'static [&'static str],
    },
    /// A path that may be empty, which is its default.
    OptionalPath,
    /// An IP address and port, which may be empty, which is its default.
    OptionalAddress,
    /// A host name or address with a port, which may be empty, which is its default.
    OptionalReach,
    /// True or false.
    Flag(bool),
    /// The id of a rule set or a path.
    Rules(&'static str),
}

/// Every option, in the order of the README.
pub const REFERENCE: &[OptionReference] = &[
    OptionReference {
        key: "listen.address",
        kind: Kind::Address("[::]:4433"),
        unit: "",
        help: "UDP address for agents (QUIC); port 0 lets the system choose",
    },
    OptionReference {
        key: "tls.certificate",
        kind: Kind::Path("certificates/collector.pem"),
        unit: "PEM file",
        help: "the collector's certificate chain, leaf first",
    },
    OptionReference {
        key: "tls.key",
        kind: Kind::Path("certificates/collector.key"),
        unit: "PEM file",
        help: "its private key",
    },
    OptionReference {
        key: "tls.client_ca",
        kind: Kind::Path("certificates/ca.pem"),
        unit: "PEM file",
        help: "the authorities whose client certificates are agents",
    },
    OptionReference {
        key: "store.directory",
        kind: Kind::Path("store"),
        unit: "folder",
        help: "where the day files are",
    },
    OptionReference {
        key: "store.retention_days",
        kind: Kind::Number { default: 30, min: 1, max: 3_650 },
        unit: "days",
        help: "day files older than this are unlinked",
    },
    OptionReference {
        key: "store.headroom",
        kind: Kind::Bytes { default: "1GiB", min: "1MiB", max: "1024GiB" },
        unit: "bytes",
        help: "free space below which records are not stored, agents keep them; at most a tenth of the file system",
    },
    OptionReference {
        key: "judge.rules",
        kind: Kind::Rules(rules::DEFAULT),
        unit: "rule set",
        help: "by what calls are judged: seed-1, cqd-classic-1, cqd-current-1, or a file of an operator's own rules",
    },
    OptionReference {
        key: "admin.socket",
        kind: Kind::StorePath(ADMIN_SOCKET),
        unit: "unix socket",
        help: "where an operator's requests are taken, from root and the collector's own user; at most 107 bytes in all",
    },
    OptionReference {
        key: "identity.address",
        kind: Kind::OptionalReach,
        unit: "host:port",
        help: "where agents reach this collector, for the tokens that it makes; a host name or an address (IPv6 in brackets)",
    },
    OptionReference {
        key: "identity.authority_key",
        kind: Kind::OptionalPath,
        unit: "PEM file",
        help: "the private key of the first authority in tls.client_ca; without it nobody is enrolled and nothing renewed",
    },
    OptionReference {
        key: "identity.registry",
        kind: Kind::StorePath(REGISTRY),
        unit: "file",
        help: "the registry of tokens and endpoints",
    },
    OptionReference {
        key: "identity.required",
        kind: Kind::Flag(false),
        unit: "boolean",
        help: "whether only endpoints of the registry are heard; false lets in any certificate of tls.client_ca, as development ones",
    },
    OptionReference {
        key: "stamp.listen",
        kind: Kind::OptionalAddress,
        unit: "address:port",
        help: "UDP address where requests of STAMP (RFC 8762) are answered; routers use port 862",
    },
    OptionReference {
        key: "limits.connections_max",
        kind: Kind::Number { default: 10_000, min: 1, max: 1_000_000 },
        unit: "connections",
        help: "agents at once; more are told to come back later",
    },
    OptionReference {
        key: "limits.handshakes_max",
        kind: Kind::Number { default: 256, min: 2, max: 65_536 },
        unit: "handshakes",
        help: "TLS handshakes at once; from half of it (at most 64) on, addresses must prove themselves",
    },
    OptionReference {
        key: "limits.hello_seconds",
        kind: Kind::Number { default: 10, min: 1, max: 300 },
        unit: "s",
        help: "how long an agent may take from the handshake to its hello",
    },
    OptionReference {
        key: "limits.endpoint_burst",
        kind: Kind::Bytes { default: "128MiB", min: "1MiB", max: "1024GiB" },
        unit: "bytes",
        help: "records that one endpoint may bring at once; not less than spool.bytes_max of its agent",
    },
    OptionReference {
        key: "limits.endpoint_pace",
        kind: Kind::Bytes { default: "1MiB", min: "64KiB", max: "1024GiB" },
        unit: "bytes a minute",
        help: "records that it may bring after that; a room in use needs some 256 KiB a day",
    },
    OptionReference {
        key: "log.level",
        kind: Kind::Word { default: "info", words: &["error", "warn", "info", "debug", "trace"] },
        unit: "",
        help: "what goes to stderr; names and addresses only from debug on",
    },
];

/// Where `serve` listens for an operator where no config says otherwise, from the store's directory.
pub const ADMIN_SOCKET: &str = "collector.sock";

/// The registry where no config says otherwise, from the store's directory.
pub const REGISTRY: &str = "identity.sqlite";

/// What `serve` needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `listen.address`.
    pub address: SocketAddr,
    /// `tls.certificate`.
    pub certificate: PathBuf,
    /// `tls.key`.
    pub key: PathBuf,
    /// `tls.client_ca`.
    pub client_ca: PathBuf,
    /// `store.directory`.
    pub store: PathBuf,
    /// `store.retention_days`.
    pub retention_days: u32,
    /// `store.headroom`, in bytes.
    pub headroom_bytes: u64,
    /// `judge.rules`.
    pub rules: Choice,
    /// `admin.socket`.
    pub admin_socket: PathBuf,
    /// `identity.address`, if it is set.
    pub reach: Option<Reach>,
    /// `identity.authority_key`, if it is set.
    pub authority_key: Option<PathBuf>,
    /// `identity.registry`.
    pub registry: PathBuf,
    /// `identity.required`.
    pub required: Required,
    /// `stamp.listen`, if it is set.
    pub stamp: Option<SocketAddr>,
    /// `limits.*`.
    pub limits: Limits,
    /// `limits.endpoint_burst` and `limits.endpoint_pace`.
    pub allowance: Allowance,
    /// `log.level`.
    pub log_level: String,
}

/// What is wrong with a configuration. Each says what to change.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read. Check its path and rights.
    #[error("cannot read the config {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is larger than any config.
    #[error("{} has {found} bytes, a config has at most {max}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The largest.
        max: u64,
    },
    /// It is not TOML.
    #[error("{} is not TOML: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What and where.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{}: unknown key `{key}`{}", path.display(), hint(nearest))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key found.
        key: String,
        /// The known key most like it.
        nearest: Option<&'static str>,
    },
    /// A value that the key does not take.
    #[error("{}: `{key}` must be {expected}, found {found}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it takes.
        expected: String,
        /// What was there.
        found: String,
    },
}

/// A config is a page of text; anything larger is another file.
const CONFIG_BYTES_MAX: u64 = 64 * 1024;

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map(|key| format!(", did you mean `{key}`?")).unwrap_or_default()
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`], one line.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let found = fs::metadata(path).map_err(read)?.len();
        if found > CONFIG_BYTES_MAX {
            return Err(ConfigError::TooLarge {
                path: path.to_owned(),
                found,
                max: CONFIG_BYTES_MAX,
            });
        }
        Self::parse(&fs::read_to_string(path).map_err(read)?, path)
    }

    /// Reads the text of a file; `path` is where it came from.
    ///
    /// # Errors
    /// [`ConfigError`], one line.
    pub fn parse(toml: &str, path: &Path) -> Result<Self, ConfigError> {
        let table: Table = toml.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(0, |span| toml[..span.start].matches('\n').count() + 1);
            let reason = error.message().lines().next().unwrap_or_default();
            ConfigError::Syntax { path: path.to_owned(), reason: format!("line {line}: {reason}") }
        })?;
        check_keys(&table, path)?;
        let values = Values { table: &table, path };
        Ok(Self {
            address: values.address("listen.address")?,
            certificate: values.path("tls.certificate")?,
            key: values.path("tls.key")?,
            client_ca: values.path("tls.client_ca")?,
            store: values.path("store.directory")?,
            retention_days: values.number("store.retention_days")?,
            headroom_bytes: values.bytes("store.headroom")?,
            rules: values.rules("judge.rules")?,
            admin_socket: values.store_path("admin.socket")?,
            reach: values.reach("identity.address")?,
            authority_key: values.optional_path("identity.authority_key")?,
            registry: values.store_path("identity.registry")?,
            required: values.flag("identity.required")?,
            stamp: values.optional_address("stamp.listen")?,
            limits: Limits {
                connections_max: values.number("limits.connections_max")? as usize,
                handshakes_max: values.number("limits.handshakes_max")? as usize,
                hello_wait: Duration::from_secs(values.number("limits.hello_seconds")?.into()),
            },
            allowance: Allowance {
                burst_bytes: values.bytes("limits.endpoint_burst")?,
                minute_bytes: values.bytes("limits.endpoint_pace")?,
            },
            log_level: values.word("log.level")?,
        })
    }
}

/// The reference as the README and `serve --help` show it, one option per line.
#[must_use]
pub fn reference_text() -> String {
    let mut text = String::new();
    for option in REFERENCE {
        let (default, range) = match option.kind {
            Kind::Address(default) => (default.to_owned(), "address:port".to_owned()),
            Kind::Path(default) => (default.to_owned(), option.unit.to_owned()),
            Kind::StorePath(default) => {
                (default.to_owned(), format!("{}, from store.directory", option.unit))
            }
            Kind::Number { default, min, max } => {
                (default.to_string(), format!("{min}..={max} {}", option.unit))
            }
            Kind::Bytes { default, min, max } => {
                (format!("\"{default}\""), format!("{min}..={max}"))
            }
            Kind::Word { default, words } => (default.to_owned(), words.join("|")),
            Kind::OptionalPath | Kind::OptionalReach | Kind::OptionalAddress => {
                ("\"\"".to_owned(), format!("{}, or empty", option.unit))
            }
            Kind::Flag(default) => (default.to_string(), "true|false".to_owned()),
            Kind::Rules(default) => {
                (default.to_owned(), format!("{}, or a TOML file", rule_file::built_in_words()))
            }
        };
        let _ = writeln!(text, "  {} = {default}  ({range})", option.key);
        let _ = writeln!(text, "      {}", option.help);
    }
    text
}

fn check_keys(table: &Table, path: &Path) -> Result<(), ConfigError> {
    for (section, value) in table {
        let Some(keys) = value.as_table() else {
            return Err(unknown(section.clone(), path));
        };
        if !REFERENCE.iter().any(|option| option.key.split('.').next() == Some(section)) {
            return Err(unknown(section.clone(), path));
        }
        for key in keys.keys() {
            let full = format!("{section}.{key}");
            if !REFERENCE.iter().any(|option| option.key == full) {
                return Err(unknown(full, path));
            }
        }
    }
    Ok(())
}

fn unknown(key: String, path: &Path) -> ConfigError {
    let nearest = likeness::nearest(&key, REFERENCE.iter().map(|option| option.key));
    // Keys come from a file that may hold anything.
    let key = text::escape(&key).chars().take(80).collect();
    ConfigError::UnknownKey { path: path.to_owned(), key, nearest }
}

struct Values<'a> {
    table: &'a Table,
    path: &'a Path,
}

impl Values<'_> {
    fn option(&self, key: &'static str) -> (Kind, Option<&Value>) {
        let kind = REFERENCE
            .iter()
            .find(|option| option.key == key)
            .map(|option| option.kind)
            .expect("`every_option_has_its_place` reads each key of the table");
        let value = key
            .split_once('.')
            .and_then(|(section, name)| self.table.get(section)?.as_table()?.get(name));
        (kind, value)
    }

    fn wrong(&self, key: &'static str, expected: String, found: &Value) -> ConfigError {
        let found = text::escape(&found.to_string()).chars().take(80).collect();
        ConfigError::Value { path: self.path.to_owned(), key, expected, found }
    }

    fn address(&self, key: &'static str) -> Result<SocketAddr, ConfigError> {
        let (Kind::Address(default), value) = self.option(key) else { unreachable!("{key}") };
        let default = Value::from(default);
        let value = value.unwrap_or(&default);
        value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
            let expected = "an address and port like \"[::]:4433\" or \"0.0.0.0:4433\"";
            self.wrong(key, expected.to_owned(), value)
        })
    }

    fn optional_address(&self, key: &'static str) -> Result<Option<SocketAddr>, ConfigError> {
        let (Kind::OptionalAddress, value) = self.option(key) else { unreachable!("{key}") };
        let Some(value) = value.filter(|value| value.as_str() != Some("")) else { return Ok(None) };
        let expected = "an address and port like \"[::]:862\"";
        let found = value.as_str().and_then(|text| text.parse().ok());
        found.map(Some).ok_or_else(|| self.wrong(key, expected.to_owned(), value))
    }

    fn path(&self, key: &'static str) -> Result<PathBuf, ConfigError> {
        let (Kind::Path(default), value) = self.option(key) else { unreachable!("{key}") };
        self.path_in(self.path.parent().unwrap_or(Path::new("")), key, default, value)
    }

    fn store_path(&self, key: &'static str) -> Result<PathBuf, ConfigError> {
        let (Kind::StorePath(default), value) = self.option(key) else { unreachable!("{key}") };
        self.path_in(&self.path("store.directory")?, key, default, value)
    }

    fn optional_path(&self, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        let (Kind::OptionalPath, value) = self.option(key) else { unreachable!("{key}") };
        match value {
            None => Ok(None),
            Some(value) if value.as_str() == Some("") => Ok(None),
            Some(_) => {
                let folder = self.path.parent().unwrap_or(Path::new(""));
                self.path_in(folder, key, "", value).map(Some)
            }
        }
    }

    fn reach(&self, key: &'static str) -> Result<Option<Reach>, ConfigError> {
        let (Kind::OptionalReach, value) = self.option(key) else { unreachable!("{key}") };
        let Some(value) = value.filter(|value| value.as_str() != Some("")) else { return Ok(None) };
        let expected = "a host and port like \"rooms.example.com:4433\"";
        let found = value.as_str().and_then(|text| text.parse().ok());
        found.map(Some).ok_or_else(|| self.wrong(key, expected.to_owned(), value))
    }

    fn flag(&self, key: &'static str) -> Result<Required, ConfigError> {
        let (Kind::Flag(default), value) = self.option(key) else { unreachable!("{key}") };
        let default = Value::from(default);
        let value = value.unwrap_or(&default);
        let is_set = value.as_bool();
        let required = is_set.map(|is_set| if is_set { Required::Yes } else { Required::No });
        required.ok_or_else(|| self.wrong(key, "true or false".to_owned(), value))
    }

    fn rules(&self, key: &'static str) -> Result<Choice, ConfigError> {
        let (Kind::Rules(default), value) = self.option(key) else { unreachable!("{key}") };
        let default = Value::from(default);
        let value = value.unwrap_or(&default);
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let chosen = value.as_str().and_then(|given| Choice::parse(given, folder).ok());
        chosen.ok_or_else(|| {
            let words = rule_file::built_in_words();
            self.wrong(key, format!("one of {words}, or a path with a `/` or a `.`"), value)
        })
    }

    fn path_in(
        &self,
        folder: &Path,
        key: &'static str,
        default: &str,
        value: Option<&Value>,
    ) -> Result<PathBuf, ConfigError> {
        let default = Value::from(default);
        let value = value.unwrap_or(&default);
        match value.as_str() {
            Some(text) if !text.is_empty() => Ok(folder.join(text)),
            Some(_) | None => Err(self.wrong(key, "a path".to_owned(), value)),
        }
    }

    fn number(&self, key: &'static str) -> Result<u32, ConfigError> {
        let (Kind::Number { default, min, max }, value) = self.option(key) else {
            unreachable!("{key}")
        };
        let default = Value::from(default);
        let value = value.unwrap_or(&default);
        value
            .as_integer()
            .filter(|number| (min..=max).contains(number))
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| self.wrong(key, format!("a whole number in {min}..={max}"), value))
    }

    fn bytes(&self, key: &'static str) -> Result<u64, ConfigError> {
        let (Kind::Bytes { default, min, max }, value) = self.option(key) else {
            unreachable!("{key}")
        };
        let default = Value::from(default);
        let value = value.unwrap_or(&default);
        let bounds = settings::bytes(min)..=settings::bytes(max);
        let found = value.as_str().and_then(settings::bytes);
        found.filter(|it| bounds.contains(&Some(*it))).ok_or_else(|| {
            self.wrong(key, format!("a size like \"1GiB\" from {min} to {max}"), value)
        })
    }

    fn word(&self, key: &'static str) -> Result<String, ConfigError> {
        let (Kind::Word { default, words }, value) = self.option(key) else {
            unreachable!("{key}")
        };
        let default = Value::from(default);
        let value = value.unwrap_or(&default);
        value
            .as_str()
            .filter(|word| words.contains(word))
            .map(str::to_owned)
            .ok_or_else(|| self.wrong(key, format!("one of {}", words.join(", ")), value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/roomtone/collector.toml"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_option_has_its_place_and_a_default() {
        let config = parse("").unwrap();
        assert_eq!(config.address, "[::]:4433".parse().unwrap());
        assert_eq!(config.store, Path::new("/etc/roomtone/store"));
        assert_eq!((config.retention_days, config.log_level.as_str()), (30, "info"));
        assert_eq!(config.headroom_bytes, 1 << 30);
        for option in REFERENCE {
            assert!(reference_text().contains(option.key), "{}", option.key);
        }
    }

    #[test]
    fn paths_count_from_the_configs_folder() {
        let config = parse("[store]\ndirectory = \"../var\"\n[tls]\nkey = \"/run/key\"").unwrap();
        assert_eq!(config.store, Path::new("/etc/roomtone/../var"));
        assert_eq!(config.key, Path::new("/run/key"));
        assert_eq!(config.admin_socket, Path::new("/etc/roomtone/../var/collector.sock"));
        let config = parse("[judge]\nrules = \"ours.toml\"").unwrap();
        assert_eq!(config.rules, Choice::File("/etc/roomtone/ours.toml".into()));
        let config = parse("[admin]\nsocket = \"/run/roomtone/admin\"").unwrap();
        assert_eq!(config.admin_socket, Path::new("/run/roomtone/admin"));
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        for (text, key, nearest) in [
            ("[store]\nretention = 3", "store.retention", "store.retention_days"),
            ("[listen]\nadress = \"x\"", "listen.adress", "listen.address"),
            ("[stores]\ndirectory = \"x\"", "stores", "store"),
            ("retention_days = 3", "retention_days", "store.retention_days"),
        ] {
            let error = parse(text).unwrap_err();
            let expected = format!("unknown key `{key}`, did you mean `{nearest}`?");
            assert!(error.ends_with(&expected), "{error}");
        }
        let error = parse("[store]\n\"\\u001b[31m\" = 1").unwrap_err();
        assert!(!error.contains('\u{1b}'), "{error:?}");
    }

    #[test]
    fn wrong_values_say_what_is_expected() {
        for (text, expected) in [
            ("[store]\nretention_days = 0", "must be a whole number in 1..=3650, found 0"),
            (
                "[store]\nretention_days = \"30\"",
                "must be a whole number in 1..=3650, found \"30\"",
            ),
            (
                "[store]\nheadroom = \"1KiB\"",
                "must be a size like \"1GiB\" from 1MiB to 1024GiB, found \"1KiB\"",
            ),
            ("[store]\nheadroom = 4096", "must be a size like \"1GiB\" from 1MiB to 1024GiB"),
            ("[store]\nheadroom = \"2TiB\"", "must be a size like \"1GiB\" from 1MiB"),
            ("[listen]\naddress = 4433", "like \"[::]:4433\" or \"0.0.0.0:4433\", found 4433"),
            ("[log]\nlevel = \"loud\"", "must be one of error, warn, info, debug, trace"),
            ("[tls]\nkey = \"\"", "`tls.key` must be a path"),
            (
                "[judge]\nrules = \"seed\"",
                "must be one of seed-1, cqd-classic-1, cqd-current-1, or a path",
            ),
            ("[identity]\nrequired = 1", "must be true or false, found 1"),
            ("[identity]\naddress = \"rooms\"", "must be a host and port like"),
            ("[identity]\nauthority_key = 3", "must be a path, found 3"),
            ("[stamp]\nlisten = \"862\"", "must be an address and port like \"[::]:862\", found"),
            ("\n[store", "is not TOML: line 2: "),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
