//! Settings of agents: known keys with values in TOML, merged key by key, and the text that travels.
//!
//! The text of the same settings is always the same, so that its hash names them: sections and keys in the order of
//! [`KEYS`], one key a line. Comments of a file are not kept. A value has at most [`VALUE_BYTES_MAX`] bytes, so that
//! all keys together fit into one frame whatever is merged.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use roomtone_protocol::configuration::{ConfigurationHash, KEYS, Text};
use toml::{Table, Value};

use crate::identity::digest::sha256;
use crate::likeness;

/// The longest value, in bytes of TOML: words, sizes and durations have some ten.
pub const VALUE_BYTES_MAX: usize = 80;
/// The longest file that is read as settings, in bytes: room for comments around every key.
pub const FILE_BYTES_MAX: usize = 16 * 1024;

/// Some keys and their values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// By place in [`KEYS`]; the values in TOML.
    values: BTreeMap<usize, String>,
    /// What a later version wrote and this one cannot read, as it is; there are no values beside it.
    later: Option<String>,
}

/// Why something is no setting. Each says what to change; texts are not escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// It is not TOML.
    #[error("the settings are not TOML: {reason}")]
    Syntax {
        /// What and where.
        reason: String,
    },
    /// No such key, or none that a collector may set.
    #[error("unknown key `{key}`{}", hint(nearest))]
    UnknownKey {
        /// The key found.
        key: String,
        /// The known key most like it.
        nearest: Option<&'static str>,
    },
    /// A value that no key takes.
    #[error("`{key}`: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
    /// An argument without a value.
    #[error("`{argument}` is no setting: use key=value, like log.level=info")]
    NoValue {
        /// The argument.
        argument: String,
    },
    /// Larger than any settings.
    #[error("{found} bytes are no settings, they have at most {FILE_BYTES_MAX}")]
    TooLarge {
        /// The size found.
        found: usize,
    },
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map(|key| format!(", did you mean `{key}`?")).unwrap_or_default()
}

impl Settings {
    /// Reads TOML, as in an agent's config file.
    ///
    /// # Errors
    /// [`SettingsError`] where it is not TOML, or has a key or a value that is none.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        if text.len() > FILE_BYTES_MAX {
            return Err(SettingsError::TooLarge { found: text.len() });
        }
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map(|at| text[..at.start].lines().count().max(1));
            let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            SettingsError::Syntax { reason: format!("{place}{}", first_line(error.message())) }
        })?;
        let mut settings = Self::default();
        for (section, values) in &table {
            let Some(values) = values.as_table() else {
                return Err(unknown(section));
            };
            for (name, value) in values {
                let key = format!("{section}.{name}");
                let place = place_of(&key)?;
                if let Value::Table(inner) = value {
                    let inner = inner.keys().next().map_or("", String::as_str);
                    return Err(unknown(&format!("{key}.{inner}")));
                }
                settings.values.insert(place, value_text(place, value)?);
            }
        }
        Ok(settings)
    }

    /// Settings that this version cannot read. What is merged with them cannot be read either.
    #[must_use]
    pub fn of_later_version(text: &str) -> Self {
        Self { values: BTreeMap::new(), later: Some(text.to_owned()) }
    }

    /// Whether a later version wrote them: what they set is not known here, so nobody is to be set by them.
    #[must_use]
    pub fn is_of_later_version(&self) -> bool {
        self.later.is_some()
    }

    /// Reads `key=value` arguments. A value that is no TOML, like `info` or `250ms`, is a word.
    ///
    /// # Errors
    /// [`SettingsError`] for the first that is none.
    pub fn from_arguments<'a>(
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        for argument in arguments {
            let (key, value) = argument
                .split_once('=')
                .ok_or_else(|| SettingsError::NoValue { argument: cut(argument) })?;
            let place = place_of(key.trim())?;
            let value = value.trim();
            let written: Option<Value> =
                format!("v = {value}").parse().ok().and_then(|mut it: Table| it.remove("v"));
            let value = match written {
                Some(value) if !matches!(value, Value::Datetime(_) | Value::Table(_)) => value,
                Some(_) | None => Value::String(value.to_owned()),
            };
            settings.values.insert(place, value_text(place, &value)?);
        }
        Ok(settings)
    }

    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.later.is_none()
    }

    /// How many keys are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Keys and values in the order of [`KEYS`].
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().map(|(&place, value)| (KEYS[place], value.as_str()))
    }

    /// The value of a key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.iter().find(|(it, _)| *it == key).map(|(_, value)| value)
    }

    /// These settings with `narrower` before them.
    #[must_use]
    pub fn merged(&self, narrower: &Self) -> Self {
        if let Some(later) = narrower.later.as_ref().or(self.later.as_ref()) {
            return Self::of_later_version(later);
        }
        let mut values = self.values.clone();
        values.extend(narrower.values.iter().map(|(&place, value)| (place, value.clone())));
        Self { values, later: None }
    }

    /// These settings without some keys; without any named, none is left.
    ///
    /// # Errors
    /// [`SettingsError::UnknownKey`].
    pub fn without(&self, keys: &[String]) -> Result<Self, SettingsError> {
        if keys.is_empty() {
            return Ok(Self::default());
        }
        let mut left = self.clone();
        for key in keys {
            left.values.remove(&place_of(key)?);
        }
        Ok(left)
    }

    /// The text that travels: at most [`CONFIGURATION_BYTES_MAX`](roomtone_protocol::limits::CONFIGURATION_BYTES_MAX)
    /// bytes, empty where nothing is set.
    #[must_use]
    pub fn text(&self) -> String {
        if let Some(later) = &self.later {
            return later.clone();
        }
        let (mut text, mut open) = (String::new(), "");
        for (key, value) in self.iter() {
            let (section, name) = key.split_once('.').unwrap_or((key, ""));
            if section != open {
                let _ = writeln!(text, "[{section}]");
                open = section;
            }
            let _ = writeln!(text, "{name} = {value}");
        }
        text
    }

    /// The text as the wire has it.
    #[must_use]
    pub fn wire_text(&self) -> Text {
        self.text().as_str().try_into().expect("`longest_settings_fit_into_a_frame` adds it up")
    }
}

/// The name of a text.
#[must_use]
pub fn hash(text: &str) -> ConfigurationHash {
    let mut hash = [0; 8];
    hash.copy_from_slice(&sha256(text.as_bytes())[..8]);
    ConfigurationHash(hash)
}

/// Reads a size as agents write it, like `"100MiB"`, in bytes; `None` for anything else.
#[must_use]
pub fn bytes(value: &str) -> Option<u64> {
    let value = value.trim_matches('"');
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u64 = match &value[digits.len()..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(factor)
}

fn place_of(key: &str) -> Result<usize, SettingsError> {
    KEYS.iter().position(|it| *it == key).ok_or_else(|| unknown(key))
}

fn unknown(key: &str) -> SettingsError {
    SettingsError::UnknownKey { key: cut(key), nearest: likeness::nearest(key, KEYS) }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn value_text(place: usize, value: &Value) -> Result<String, SettingsError> {
    let wrong = |reason| Err(SettingsError::Value { key: KEYS[place], reason });
    match value {
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => {}
        Value::Array(_) | Value::Datetime(_) | Value::Table(_) => {
            return wrong("use a word, a number, true or false");
        }
    }
    if value.as_str().is_some_and(|it| it.chars().any(char::is_control)) {
        return wrong("a value has no control characters");
    }
    let text = value.to_string();
    if text.len() > VALUE_BYTES_MAX {
        return wrong("a value has at most 80 bytes");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use roomtone_protocol::limits::CONFIGURATION_BYTES_MAX;

    use super::*;

    fn arguments(given: &[&str]) -> Result<Settings, SettingsError> {
        Settings::from_arguments(given.iter().copied())
    }

    #[test]
    fn file_and_arguments_give_one_text() {
        let file =
            "# levels for Oslo\n[log]\nlevel = 'info'\n[audio]\nlevels = true\nstall = \"2s\"\n";
        let expected = "[audio]\nlevels = true\nstall = \"2s\"\n[log]\nlevel = \"info\"\n";
        assert_eq!(Settings::parse(file).unwrap().text(), expected);
        assert_eq!(Settings::parse(expected).unwrap().text(), expected);
        let given = arguments(&["log.level=info", "audio.stall=2s", "audio.levels=true"]);
        assert_eq!(given.unwrap().text(), expected);
        assert_eq!(Settings::default().text(), "");
    }

    #[test]
    fn arguments_that_are_no_toml_are_words() {
        for (argument, value) in [
            ("spool.inodes_min=100", "100"),
            ("media.call_idle=15s", "\"15s\""),
            ("media.call_idle=\"15s\"", "\"15s\""),
            ("log.level=2026-11-22", "\"2026-11-22\""),
            ("log.level=", "\"\""),
            ("log.level=a = b", "\"a = b\""),
            ("log.level={ a = 1 }", "\"{ a = 1 }\""),
        ] {
            let settings = arguments(&[argument]).unwrap();
            assert_eq!(settings.iter().next().unwrap().1, value, "{argument}");
        }
    }

    #[test]
    fn wrong_settings_say_what_is_wrong() {
        for (text, said) in [
            ("[audio]\nlevel = true", "unknown key `audio.level`, did you mean `audio.levels`?"),
            ("[collector]\naddress = \"evil:1\"", "unknown key `collector.address`"),
            ("levels = true", "unknown key `levels`, did you mean `audio.levels`?"),
            ("[audio.levels]\nx = 1", "unknown key `audio.levels.x`, did you mean `audio.levels`?"),
            ("[audio]\nlevels = 1979-05-27", "`audio.levels`: use a word, a number, true or false"),
            ("[audio]\nlevels = [true]", "`audio.levels`: use a word, a number, true or false"),
            ("[log]\nlevel = \"a\\u001b[2J\"", "`log.level`: a value has no control characters"),
            ("\n[audio", "the settings are not TOML: line 2: "),
        ] {
            let error = Settings::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
        let long = format!("log.level={}", "x".repeat(VALUE_BYTES_MAX));
        assert!(matches!(arguments(&[&long]), Err(SettingsError::Value { .. })));
        assert!(matches!(arguments(&["audio.levels"]), Err(SettingsError::NoValue { .. })));
        let large = "#".repeat(FILE_BYTES_MAX + 1);
        assert!(matches!(Settings::parse(&large), Err(SettingsError::TooLarge { .. })));
    }

    /// Every key with the longest value. Sections are told once each because [`KEYS`] has them together.
    #[test]
    fn longest_settings_fit_into_a_frame() {
        let longest = format!("\"{}\"", "x".repeat(VALUE_BYTES_MAX - 2));
        let values = (0..KEYS.len()).map(|place| (place, longest.clone())).collect();
        let text = Settings { values, later: None }.text();
        assert_eq!(text.matches('[').count(), 7);
        assert!(text.len() <= CONFIGURATION_BYTES_MAX, "{} bytes", text.len());
    }

    #[test]
    fn hash_is_the_head_of_the_sha_256() {
        // `printf %s abc | sha256sum` begins with it, FIPS 180-4's example.
        assert_eq!(
            hash("abc"),
            ConfigurationHash([0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea])
        );
    }

    #[test]
    fn sizes_are_read_as_agents_write_them() {
        for (text, size) in [
            ("\"100MiB\"", Some(104_857_600)),
            ("144B", Some(144)),
            ("7", Some(7)),
            ("\"99999999999999GiB\"", None),
            ("\"lots\"", None),
            ("\"1 MiB\"", Some(1_048_576)),
        ] {
            assert_eq!(bytes(text), size, "{text}");
        }
    }

    fn any_settings() -> impl Strategy<Value = Settings> {
        proptest::collection::btree_map(0..KEYS.len(), "[a-z0-9]{1,4}", 0..KEYS.len()).prop_map(
            |values| Settings {
                values: values.into_iter().map(|(k, v)| (k, format!("\"{v}\""))).collect(),
                later: None,
            },
        )
    }

    proptest! {
        /// Key by key: the narrowest layer that has it.
        #[test]
        fn merge_is_the_narrowest_value_of_each_key(
            layers in proptest::collection::vec(any_settings(), 0..5),
        ) {
            let merged =
                layers.iter().fold(Settings::default(), |wide, narrow| wide.merged(narrow));
            for key in KEYS {
                let expected = layers.iter().rev().find_map(|layer| layer.value(key));
                prop_assert_eq!(merged.value(key), expected);
            }
            prop_assert_eq!(&Settings::parse(&merged.text()).unwrap(), &merged);
        }

        #[test]
        fn any_text_is_settings_or_one_line(text in "(\\[[a-z]{0,5}\\]\n)?.{0,60}") {
            match Settings::parse(&text) {
                Ok(settings) => prop_assert!(settings.text().len() <= CONFIGURATION_BYTES_MAX),
                Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
            }
        }
    }
}
