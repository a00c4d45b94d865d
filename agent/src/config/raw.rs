//! The config as it stands in the file: one field per key, nothing checked yet.

use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use super::reference::{self, OptionDoc};
use super::{
    Audio, Collector, Config, ConfigError, Context, Health, Host, Identity, Log, Media, PathWatch,
    Reflector, Spool, Tap, parse_size, shorten,
};
use crate::audio::constants::Thresholds;
use crate::identity::issuer::Issuer;

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    collector: RawCollector,
    identity: RawIdentity,
    spool: RawSpool,
    tap: RawTap,
    media: RawMedia,
    audio: RawAudio,
    path: RawPath,
    host: RawHost,
    context: RawContext,
    health: RawHealth,
    log: RawLog,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
struct RawCollector {
    address: Option<String>,
    server_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
struct RawIdentity {
    endpoint: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    ca: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
struct RawSpool {
    directory: Option<String>,
    bytes_max: Option<String>,
    headroom: Option<String>,
    inodes_min: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
struct RawTap {
    interface: Option<String>,
    snap_bytes: Option<String>,
    ring_bytes: Option<String>,
    block_timeout: Option<String>,
    local: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
struct RawMedia {
    call_idle: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
struct RawAudio {
    watch: Option<bool>,
    levels: Option<bool>,
    stall: Option<String>,
    never_started: Option<String>,
    suspended: Option<String>,
    zero_signal: Option<String>,
    constant_signal: Option<String>,
    episode_healthy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
struct RawPath {
    probe: Option<bool>,
    reflector: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
struct RawHost {
    watch: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
struct RawContext {
    socket: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
struct RawHealth {
    interval: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
struct RawLog {
    level: Option<String>,
}

impl Raw {
    /// Checks keys that are no whole config: what must be given in one need not be given here.
    pub(super) fn check_part(mut self, path: &Path) -> Result<(), ConfigError> {
        self.collector.address.get_or_insert_with(|| "localhost:1".to_owned());
        self.check(path).map(|_| ())
    }

    pub(super) fn check(self, path: &Path) -> Result<Config, ConfigError> {
        let key = |key: &'static str| Key::new(key, path);
        let directory = path.parent().unwrap_or(Path::new(""));

        let file = |text: &str| (!text.is_empty()).then(|| directory.join(text));
        let own = self.identity;
        let identity = Identity {
            endpoint: key("identity.endpoint").text(own.endpoint, |id| {
                if id.is_empty() { Some(None) } else { id.parse().ok().map(Some) }
            })?,
            certificate: key("identity.certificate").text(own.certificate, file)?,
            key: key("identity.key").text(own.key, file)?,
            ca: key("identity.ca").text(own.ca, file)?,
        };

        let collector = self.collector.check(path, &identity.certificate)?;

        let spool = Spool {
            directory: key("spool.directory").text(self.spool.directory, file)?,
            bytes_max: key("spool.bytes_max").size(self.spool.bytes_max, MIB..=64 * GIB)?,
            headroom_bytes: key("spool.headroom").size(self.spool.headroom, 0..=64 * GIB)?,
            inodes_min: key("spool.inodes_min").count(self.spool.inodes_min, 0..=1_000_000)?,
        };

        let raw = self.tap;
        let tap = Tap {
            interface: key("tap.interface").text(raw.interface, interface)?,
            snap_bytes: key("tap.snap_bytes").size_u32(raw.snap_bytes, 112..=1024)?,
            ring_bytes: key("tap.ring_bytes").size_u32(raw.ring_bytes, 512 * 1024..=64 << 20)?,
            block_timeout: key("tap.block_timeout")
                .duration(raw.block_timeout, Duration::from_millis(10)..=Duration::from_secs(1))?,
            local: key("tap.local").addresses(raw.local)?,
        };

        let media = Media {
            call_idle: key("media.call_idle").duration(
                self.media.call_idle,
                Duration::from_secs(5)..=Duration::from_secs(300),
            )?,
        };
        let minute = Duration::from_secs(1)..=Duration::from_secs(60);
        let raw = self.audio;
        let audio = Audio {
            watch: key("audio.watch").choice(raw.watch)?,
            levels: key("audio.levels").choice(raw.levels)?,
            thresholds: Thresholds {
                stall: key("audio.stall")
                    .duration(raw.stall, Duration::from_millis(500)..=Duration::from_secs(60))?,
                never_started: key("audio.never_started")
                    .duration(raw.never_started, minute.clone())?,
                suspended: key("audio.suspended").duration(raw.suspended, minute.clone())?,
                zero_signal: key("audio.zero_signal").duration(raw.zero_signal, minute.clone())?,
                constant_signal: key("audio.constant_signal")
                    .duration(raw.constant_signal, minute)?,
                episode_healthy: key("audio.episode_healthy").duration(
                    raw.episode_healthy,
                    Duration::from_secs(1)..=Duration::from_secs(300),
                )?,
                ..Thresholds::default()
            },
        };
        let host = Host { watch: key("host.watch").choice(self.host.watch)? };
        let context = Context {
            socket: key("context.socket").text(self.context.socket, |text| {
                let path = (!text.is_empty()).then(|| directory.join(text));
                let length = path.as_ref().map_or(0, |path| path.as_os_str().len());
                (length <= SOCKET_BYTES_MAX).then_some(path)
            })?,
        };
        let path_watch = PathWatch {
            probe: key("path.probe").choice(self.path.probe)?,
            reflector: key("path.reflector").text(self.path.reflector, |text| {
                let reflector = |(host, port)| Some(Reflector { host, port });
                if text.is_empty() { Some(None) } else { address(text).map(reflector) }
            })?,
        };
        let health = Health {
            interval: key("health.interval").duration(
                self.health.interval,
                Duration::from_secs(10)..=Duration::from_secs(900),
            )?,
        };
        let log = Log { level: key("log.level").text(self.log.level, |word| word.parse().ok())? };
        Ok(Config {
            collector,
            identity,
            spool,
            tap,
            media,
            audio,
            path: path_watch,
            host,
            context,
            health,
            log,
        })
    }
}

impl RawCollector {
    fn check(self, path: &Path, certificate: &Path) -> Result<Collector, ConfigError> {
        let address_key = Key::new("collector.address", path);
        let name_key = Key::new("collector.server_name", path);
        let given = address_key.text(self.address, |text| {
            if text.is_empty() { Some(None) } else { address(text).map(Some) }
        })?;
        let name = name_key.text(self.server_name, server_name)?;
        let ((host, port), enrolled_as) = match given {
            Some(found) => (found, String::new()),
            None => {
                let file = Issuer::beside(certificate);
                let issuer = Issuer::read(&file).map_err(|source| ConfigError::NotEnrolled {
                    path: path.to_owned(),
                    file: file.clone(),
                    source,
                })?;
                // Its values are held against the same rules; what is wrong there is named by the key.
                let found = address(&issuer.address)
                    .ok_or_else(|| address_key.refused(&format!("\"{}\"", issuer.address)))?;
                let known_as = server_name(&issuer.server_name)
                    .ok_or_else(|| name_key.refused(&format!("\"{}\"", issuer.server_name)))?;
                (found, known_as)
            }
        };
        let server_name = [name, enrolled_as].into_iter().find(|name| !name.is_empty());
        Ok(Collector { server_name: server_name.unwrap_or_else(|| host.clone()), host, port })
    }
}

/// One key while its value is checked.
struct Key<'a> {
    option: &'static OptionDoc,
    path: &'a Path,
}

impl<'a> Key<'a> {
    fn new(key: &'static str, path: &'a Path) -> Self {
        let option = reference::find(key).expect("the test below checks every key of the twin");
        Self { option, path }
    }

    /// Turns the text, or the documented default, into a value.
    fn text<T>(
        &self,
        given: Option<String>,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let text = match given {
            Some(text) => text,
            None => self.option.default.trim_matches('"').to_owned(),
        };
        parse(&text).ok_or_else(|| self.refused(&format!("\"{text}\"")))
    }

    fn size(
        &self,
        given: Option<String>,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        self.text(given, |text| parse_size(text).filter(|bytes| range.contains(bytes)))
    }

    fn size_u32(
        &self,
        given: Option<String>,
        range: std::ops::RangeInclusive<u32>,
    ) -> Result<u32, ConfigError> {
        self.text(given, |text| {
            parse_size(text)
                .and_then(|bytes| u32::try_from(bytes).ok())
                .filter(|bytes| range.contains(bytes))
        })
    }

    fn duration(
        &self,
        given: Option<String>,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Result<Duration, ConfigError> {
        self.text(given, |text| {
            humantime::parse_duration(text).ok().filter(|duration| range.contains(duration))
        })
    }

    fn count(
        &self,
        given: Option<i64>,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let text = given.map(|count| count.to_string());
        let count = match &text {
            Some(text) => text.as_str(),
            None => self.option.default,
        };
        u64::from_str(count)
            .ok()
            .filter(|count| range.contains(count))
            .ok_or_else(|| self.refused(count))
    }

    fn choice(&self, given: Option<bool>) -> Result<bool, ConfigError> {
        self.text(given.map(|choice| choice.to_string()), |text| text.parse().ok())
    }

    fn addresses(&self, given: Option<Vec<String>>) -> Result<Vec<IpAddr>, ConfigError> {
        let given = given.unwrap_or_default();
        if given.len() > ADDRESSES_MAX {
            return Err(self.refused(&format!("{} addresses", given.len())));
        }
        given
            .iter()
            .map(|text| text.parse().map_err(|_| self.refused(&format!("\"{text}\""))))
            .collect()
    }

    fn refused(&self, value: &str) -> ConfigError {
        let OptionDoc { key, range, .. } = *self.option;
        ConfigError::Value { path: self.path.to_owned(), key, value: shorten(value), range }
    }
}

fn address(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.strip_prefix('[') {
        Some(bracketed) => {
            let inner = bracketed.strip_suffix(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            inner
        }
        None => host,
    };
    let plain = host.len() <= 253 && !host.contains(|c: char| c.is_whitespace() || c.is_control());
    // Without brackets, a colon in the host is an IPv6 address whose last group was taken for the port.
    let ambiguous = host.contains(':') && !text.starts_with('[');
    (!host.is_empty() && plain && !ambiguous).then(|| (host.to_owned(), port))
}

fn server_name(text: &str) -> Option<String> {
    (text.len() <= 253 && !text.contains(char::is_whitespace)).then(|| text.to_owned())
}

fn interface(text: &str) -> Option<String> {
    // IFNAMSIZ is 16 with the closing zero; the kernel refuses slashes, colons and blanks.
    let fits = (1..=15).contains(&text.len());
    let plain = !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    (fits && plain && text != "." && text != "..").then(|| text.to_owned())
}

/// sockaddr_un has 108 bytes for a path and its closing zero (unix(7)).
const SOCKET_BYTES_MAX: usize = 107;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// An endpoint has a handful of interfaces with a few addresses each.
const ADDRESSES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::REFERENCE;
    use super::*;

    #[test]
    fn reference_and_twin_have_the_same_keys() {
        // A field that is `None` still shows in JSON, as null.
        let twin = serde_json::to_value(Raw::default()).unwrap();
        let twin: BTreeSet<String> = twin
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(section, keys)| {
                keys.as_object().unwrap().keys().map(move |key| format!("{section}.{key}"))
            })
            .collect();
        let reference: BTreeSet<String> = REFERENCE.iter().map(|o| o.key.to_owned()).collect();
        assert_eq!(twin, reference);
        assert_eq!(reference.len(), REFERENCE.len(), "a key is listed twice");
    }

    #[test]
    fn addresses_are_taken_apart() {
        let table = [
            ("collector.example:4433", Some(("collector.example", 4433))),
            ("192.0.2.1:443", Some(("192.0.2.1", 443))),
            ("[2001:db8::1]:443", Some(("2001:db8::1", 443))),
            ("2001:db8::1:443", None),
            ("[collector]:443", None),
            ("collector", None),
            ("collector:0", None),
            ("collector:65536", None),
            (":443", None),
            ("a b:443", None),
        ];
        for (text, parts) in table {
            let parts = parts.map(|(host, port): (&str, u16)| (host.to_owned(), port));
            assert_eq!(address(text), parts, "{text:?}");
        }
    }
}
