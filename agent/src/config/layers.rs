//! Which of three says what holds: the machine's own file, the collector's text, the defaults, in this order.
//!
//! A text of the collector is held against the rules of the file: the same parser, the same ranges. It may set the keys
//! of [`KEYS`] only, none of which names a file, an address or an identity. Bounds: the wire's
//! [`CONFIGURATION_BYTES_MAX`] for a text; the parser nests 80 tables deep at most.

use std::path::{Path, PathBuf};

use roomtone_protocol::configuration::{KEYS, Text};
#[allow(unused_imports, reason = "the head of this file links to it")]
use roomtone_protocol::limits::CONFIGURATION_BYTES_MAX;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::Table;
use toml::de::DeTable;

use super::{Config, ConfigError, REFERENCE, format_size, line_of, parse_raw, raw, shorten};
use crate::configuration::{Reason, reason};

/// The machine's own file as it was read, with what it says alone.
#[derive(Debug, Clone)]
pub struct Local {
    path: PathBuf,
    keys: Table,
    config: Config,
}

/// Who set a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nobody.
    Default,
    /// The collector that enrolled this endpoint, as long as nobody names another.
    Enrolment,
    /// The collector.
    Collector,
    /// The machine's own file.
    File,
}

/// One key, as it is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Section and key, as `section.key`.
    pub key: &'static str,
    /// Its value as it was written, in TOML, cut where it is long.
    pub value: String,
    /// Who set it.
    pub source: Source,
}

impl Local {
    /// Reads and checks the machine's own file.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&super::read(path)?, path)
    }

    /// Checks its text; see [`Config::parse`].
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config = Config::parse(text, path)?;
        let keys = table(text, path)?;
        Ok(Self { path: path.to_owned(), keys, config })
    }

    /// What holds without a collector's text.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What holds with it.
    ///
    /// # Errors
    /// The reason why it is refused as a whole; also where a key that the file overrides is wrong in it.
    pub fn with(&self, collector: &str) -> Result<Config, Reason> {
        self.overlaid(collector).map_err(|error| reason(&error.problem()))
    }

    fn overlaid(&self, collector: &str) -> Result<Config, ConfigError> {
        let nowhere = Path::new("");
        check_settable(collector, nowhere)?;
        parse_raw(collector, nowhere)?.check_part(nowhere)?;
        let mut keys = table(collector, nowhere)?;
        for (section, own) in &self.keys {
            let Some(own) = own.as_table() else { continue };
            match keys.get_mut(section).and_then(toml::Value::as_table_mut) {
                Some(section) => section.extend(own.clone()),
                None => {
                    keys.insert(section.clone(), own.clone().into());
                }
            }
        }
        let raw = raw::Raw::deserialize(keys.into_deserializer());
        raw.map_err(|error| syntax(&error, nowhere))?.check(&self.path)
    }

    /// What enrolment said of a key that the file leaves open.
    fn enrolled(&self, key: &str) -> Option<String> {
        let collector = self.keys.get("collector").and_then(toml::Value::as_table);
        let address = collector.and_then(|own| own.get("address")?.as_str()).unwrap_or_default();
        match key {
            "collector.address" if address.is_empty() => Some(self.config().collector.target()),
            "collector.server_name" if address.is_empty() => {
                Some(self.config().collector.server_name.clone())
            }
            _ => None,
        }
    }

    /// Every key with its value and who set it, in the order of [`REFERENCE`]; `collector` is a text that
    /// [`Self::with`] takes, or none.
    #[must_use]
    pub fn settings(&self, collector: Option<&str>) -> Vec<Setting> {
        let theirs = collector.and_then(|text| table(text, Path::new("")).ok()).unwrap_or_default();
        let find = |keys: &Table, key: &str| {
            let (section, key) = key.split_once('.')?;
            Some(shorten(&keys.get(section)?.get(key)?.to_string()))
        };
        let setting = |option: &super::OptionDoc| {
            let key = option.key;
            let (value, source) = match (find(&self.keys, key), find(&theirs, key)) {
                (Some(value), _) => (value, Source::File),
                (None, Some(value)) => (value, Source::Collector),
                (None, None) => match self.enrolled(key) {
                    Some(value) => (toml::Value::from(value).to_string(), Source::Enrolment),
                    None => (option.default.to_owned(), Source::Default),
                },
            };
            Setting { key, value, source }
        };
        REFERENCE.iter().map(setting).collect()
    }
}

/// What a config amounts to, as a text with all of [`KEYS`] in one form of each value, so that two endpoints that are
/// set alike have one hash.
#[must_use]
pub fn effective(config: &Config) -> Text {
    let mut text = String::new();
    let mut last = "";
    for key in KEYS {
        let (section, name) = key.split_once('.').unwrap_or_default();
        if section != last {
            text += &format!("[{section}]\n");
        }
        last = section;
        // The test below holds this against KEYS.
        text += &format!("{name} = {}\n", value(config, key).unwrap_or_default());
    }
    let mut bounded = Text::new();
    // 18 keys with values of their longest form take some 900 bytes.
    let _ = bounded.push_str(&text);
    bounded
}

/// A key's value in force, in TOML; `None` for a key that is not the collector's to set.
fn value(config: &Config, key: &str) -> Option<String> {
    let Config { spool, tap, media, audio, path, health, log, .. } = config;
    let thresholds = &audio.thresholds;
    let duration = |duration| format!("\"{}\"", humantime::format_duration(duration));
    let size = |bytes| format!("\"{}\"", format_size(bytes));
    Some(match key {
        "spool.bytes_max" => size(spool.bytes_max),
        "spool.headroom" => size(spool.headroom_bytes),
        "spool.inodes_min" => spool.inodes_min.to_string(),
        "tap.snap_bytes" => size(u64::from(tap.snap_bytes)),
        "tap.ring_bytes" => size(u64::from(tap.ring_bytes)),
        "tap.block_timeout" => duration(tap.block_timeout),
        "media.call_idle" => duration(media.call_idle),
        "audio.watch" => audio.watch.to_string(),
        "audio.levels" => audio.levels.to_string(),
        "audio.stall" => duration(thresholds.stall),
        "audio.never_started" => duration(thresholds.never_started),
        "audio.suspended" => duration(thresholds.suspended),
        "audio.zero_signal" => duration(thresholds.zero_signal),
        "audio.constant_signal" => duration(thresholds.constant_signal),
        "audio.episode_healthy" => duration(thresholds.episode_healthy),
        "health.interval" => duration(health.interval),
        "path.probe" => path.probe.to_string(),
        "log.level" => format!("\"{}\"", log.level.word()),
        _ => return None,
    })
}

/// Refuses keys that exist and are the machine's own.
fn check_settable(text: &str, path: &Path) -> Result<(), ConfigError> {
    let document = DeTable::parse(text).map_err(|error| syntax(&error, path))?;
    for (section, keys) in document.get_ref().iter() {
        let Some(keys) = keys.get_ref().as_table() else { continue };
        for (key, _) in keys.iter() {
            let full = format!("{}.{}", section.get_ref(), key.get_ref());
            let is_known = REFERENCE.iter().any(|option| option.key == full);
            if is_known && !KEYS.contains(&full.as_str()) {
                return Err(ConfigError::UnknownKey {
                    path: path.to_owned(),
                    line: line_of(text, key.span().start),
                    key: full,
                    hint: "only the machine's own file sets it".to_owned(),
                });
            }
        }
    }
    Ok(())
}

fn table(text: &str, path: &Path) -> Result<Table, ConfigError> {
    text.parse().map_err(|error| syntax(&error, path))
}

fn syntax(error: &toml::de::Error, path: &Path) -> ConfigError {
    let problem = error.message().lines().next().unwrap_or("not valid TOML").to_owned();
    ConfigError::Syntax { path: path.to_owned(), line: 1, problem }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Level;

    fn local(lines: &str) -> Local {
        let text = format!("[collector]\naddress = \"collector.example:4433\"\n{lines}");
        Local::parse(&text, Path::new("/etc/roomtone/agent.toml")).unwrap()
    }

    #[test]
    fn own_file_goes_before_the_collector_and_the_collector_before_the_default() {
        let local = local("[log]\nlevel = \"warn\"\n[audio]\nstall = \"2s\"\n");
        let text = "log.level = 'debug'\naudio.levels = true\n[media]\ncall_idle = \"30s\"\n";
        let config = local.with(text).unwrap();
        assert_eq!(config.log.level, Level::Warn);
        assert_eq!(config.audio.thresholds.stall, Duration::from_secs(2));
        assert!(config.audio.levels && config.audio.watch);
        assert_eq!(config.media.call_idle, Duration::from_secs(30));
        let source = |key: &str| {
            let settings = local.settings(Some(text));
            let found = settings.into_iter().find(|setting| setting.key == key).unwrap();
            (found.value, found.source)
        };
        assert_eq!(source("log.level"), ("\"warn\"".to_owned(), Source::File));
        assert_eq!(source("media.call_idle"), ("\"30s\"".to_owned(), Source::Collector));
        assert_eq!(source("spool.inodes_min"), ("100".to_owned(), Source::Default));
        assert_eq!(local.settings(None).len(), REFERENCE.len());
    }

    #[test]
    fn collector_that_enrolled_this_endpoint_is_shown_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.toml");
        let issuer = "address = \"rooms.test:1\"\nserver_name = \"rooms\"\n";
        std::fs::write(folder.path().join("collector.toml"), issuer).unwrap();
        let local = Local::parse("[identity]\ncertificate = \"endpoint.pem\"\n", &file).unwrap();
        let shown = local.settings(None);
        let shown: Vec<_> = shown.iter().take(2).map(|it| (it.value.as_str(), it.source)).collect();
        let of_enrolment =
            [("\"rooms.test:1\"", Source::Enrolment), ("\"rooms\"", Source::Enrolment)];
        assert_eq!(shown, of_enrolment);
    }

    #[test]
    fn text_of_nothing_changes_nothing() {
        let local = local("[log]\nlevel = \"warn\"\n");
        assert_eq!(local.with("").unwrap(), *local.config());
    }

    #[test]
    fn only_keys_of_the_list_are_the_collectors_to_set() {
        let local = local("");
        for option in REFERENCE {
            let text = format!("{} = {}\n", option.key, option.default);
            let taken = local.with(&text);
            assert_eq!(taken.is_ok(), KEYS.contains(&option.key), "{}: {taken:?}", option.key);
        }
    }

    #[test]
    fn key_that_the_file_overrides_is_checked_all_the_same() {
        let refused = local("[log]\nlevel = \"warn\"\n").with("log.level = 'loud'").unwrap_err();
        assert!(refused.starts_with("log.level = \"loud\" is not allowed; give"), "{refused}");
    }

    #[test]
    fn effective_text_has_every_key_and_amounts_to_the_same_config() {
        let own = local("[tap]\nblock_timeout = \"1000ms\"\n");
        let config = own.with("[spool]\nbytes_max = \"  2 GiB \"\n[log]\nlevel = 'off'").unwrap();
        let text = effective(&config);
        assert!(
            text.contains("bytes_max = \"2GiB\"\n") && text.contains("block_timeout = \"1s\"\n")
        );
        let lines = text.lines().filter_map(|line| Some(line.split_once(" = ")?.0));
        let expected = KEYS.iter().filter_map(|key| Some(key.split_once('.')?.1));
        assert!(lines.eq(expected), "{text}");
        let config_of_text = local("").with(&text).unwrap();
        assert_eq!(config_of_text, config);
        assert_eq!(effective(&config_of_text), text);
    }

    #[test]
    fn hostile_texts_are_refused_in_one_line_that_fits_the_wire() {
        let local = local("");
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        let texts = [
            format!("log.level = {deep}"),
            "a.".repeat(1000) + "b = 1",
            format!("[log.level{}]\nx = 1", ".a".repeat(900)),
            "[log]\nlevel = 'info'\nlevel = 'info'".to_owned(),
            "[log]\n[log]".to_owned(),
            "[collector]\naddress = \"evil.example:1\"".to_owned(),
            "identity.key = '/etc/shadow'".to_owned(),
            format!("spool.inodes_min = {}", "9".repeat(1900)),
            format!("spool.bytes_max = '{}'", "9".repeat(1900)),
            format!("media.call_idle = '{}s'", "9".repeat(1900)),
            "media.call_idle = '1e99s'".to_owned(),
            "log.level = \"\\u001b[2J\\nx\"".to_owned(),
            "\u{1b}[2J = 1\r\n".to_owned(),
            "\"\\n\\u0000\" = 1".to_owned(),
            "[log]\nlevel = { a = { b = 1 } }".to_owned(),
            "log = [[1], [2]]".to_owned(),
            "[[log]]\nlevel = 'info'".to_owned(),
            "audio.levels = 'true'".to_owned(),
            "log.level = 1979-05-27".to_owned(),
            "\u{feff}log".to_owned(),
            "é".repeat(1000),
        ];
        for text in texts {
            let Err(reason) = local.with(&text) else { panic!("{text:?} was taken") };
            assert!(!reason.is_empty() && !reason.contains(char::is_control), "{reason:?}");
            assert!(
                !reason.contains("agent.toml") && !reason.contains("/etc/roomtone"),
                "{reason}"
            );
        }
    }
}
