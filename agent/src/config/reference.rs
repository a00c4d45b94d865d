//! Every key of the config file: the single source for `--help`, for the README's table and for unknown keys.

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionDoc {
    /// Section and key, as `section.key`.
    pub key: &'static str,
    /// What its value is made of.
    pub unit: &'static str,
    /// The value that holds where the key is absent, in TOML.
    pub default: &'static str,
    /// Which values are allowed.
    pub range: &'static str,
    /// What it does, one sentence.
    pub what: &'static str,
}

/// All keys, in the order of the file.
pub const REFERENCE: &[OptionDoc] = &[
    OptionDoc {
        key: "collector.address",
        unit: "host:port",
        default: "\"\"",
        range: "a host, IPv6 in brackets, and a port of 1 to 65535; empty for who enrolled it",
        what: "where the collector listens, over UDP",
    },
    OptionDoc {
        key: "collector.server_name",
        unit: "host name",
        default: "\"\"",
        range: "at most 253 characters; empty for what enrolment said, or the address's host",
        what: "the name that the collector's certificate must carry",
    },
    OptionDoc {
        key: "identity.endpoint",
        unit: "id",
        default: "\"\"",
        range: "32 hexadecimal digits, hyphens allowed; empty for the id in the certificate",
        what: "the id of this endpoint, which must be the one in its certificate",
    },
    OptionDoc {
        key: "identity.certificate",
        unit: "path",
        default: "\"/var/lib/roomtone/identity/endpoint.pem\"",
        range: "a PEM file of at most 64 KiB",
        what: "this endpoint's certificate, with its chain",
    },
    OptionDoc {
        key: "identity.key",
        unit: "path",
        default: "\"/var/lib/roomtone/identity/endpoint.pem\"",
        range: "a PEM file of at most 64 KiB",
        what: "the private key of that certificate; may be the same file",
    },
    OptionDoc {
        key: "identity.ca",
        unit: "path",
        default: "\"/var/lib/roomtone/identity/ca.pem\"",
        range: "a PEM file of at most 64 KiB",
        what: "the authority that issued the collector's certificate",
    },
    OptionDoc {
        key: "spool.directory",
        unit: "path",
        default: "\"/var/lib/roomtone/spool\"",
        range: "a directory that this agent alone writes to",
        what: "where records wait until the collector has them on disk",
    },
    OptionDoc {
        key: "spool.bytes_max",
        unit: "bytes",
        default: "\"100MiB\"",
        range: "1MiB to 64GiB",
        what: "the most disk space that the spool takes; beyond it sheds by rule and reports it",
    },
    OptionDoc {
        key: "spool.headroom",
        unit: "bytes",
        default: "\"10MiB\"",
        range: "0 to 64GiB",
        what: "the free disk space that the spool leaves to others",
    },
    OptionDoc {
        key: "spool.inodes_min",
        unit: "count",
        default: "100",
        range: "0 to 1000000",
        what: "the free inodes that the spool leaves to others",
    },
    OptionDoc {
        key: "tap.interface",
        unit: "name",
        default: "\"any\"",
        range: "an interface name of 1 to 15 characters, or any",
        what: "the network interface whose packet heads are read",
    },
    OptionDoc {
        key: "tap.snap_bytes",
        unit: "bytes",
        default: "\"128B\"",
        range: "112B to 1KiB",
        what: "how much of each packet is read from its IP header on: headers, a head of the payload",
    },
    OptionDoc {
        key: "tap.ring_bytes",
        unit: "bytes",
        default: "\"1MiB\"",
        range: "512KiB to 64MiB",
        what: "the kernel's ring for packet heads: memory beside what the service's unit limits",
    },
    OptionDoc {
        key: "tap.block_timeout",
        unit: "duration",
        default: "\"250ms\"",
        range: "10ms to 1s",
        what: "how long packet heads may wait in the ring before the agent wakes",
    },
    OptionDoc {
        key: "tap.local",
        unit: "addresses",
        default: "[]",
        range: "up to 64 addresses; empty for those of the interfaces",
        what: "the addresses that count as this endpoint's own",
    },
    OptionDoc {
        key: "media.call_idle",
        unit: "duration",
        default: "\"15s\"",
        range: "5s to 5m",
        what: "how long after its last media packet a call is over",
    },
    OptionDoc {
        key: "audio.watch",
        unit: "boolean",
        default: "true",
        range: "true or false",
        what: "whether microphones and loudspeakers are watched, without opening them",
    },
    OptionDoc {
        key: "audio.levels",
        unit: "boolean",
        default: "false",
        range: "true or false",
        what: "whether microphones that a call uses are listened to; numbers only, no audio is kept",
    },
    OptionDoc {
        key: "audio.stall",
        unit: "duration",
        default: "\"1s\"",
        range: "500ms to 1m",
        what: "how long a running device may stand still, or four of its periods if longer",
    },
    OptionDoc {
        key: "audio.never_started",
        unit: "duration",
        default: "\"3s\"",
        range: "1s to 1m",
        what: "how long a start may take to the first frame, and a program to a working open",
    },
    OptionDoc {
        key: "audio.suspended",
        unit: "duration",
        default: "\"3s\"",
        range: "1s to 1m",
        what: "how long a device may be left standing after a sleep",
    },
    OptionDoc {
        key: "audio.zero_signal",
        unit: "duration",
        default: "\"4s\"",
        range: "1s to 1m",
        what: "how long a microphone may deliver exact zeros, where its silence is not zero",
    },
    OptionDoc {
        key: "audio.constant_signal",
        unit: "duration",
        default: "\"4s\"",
        range: "1s to 1m",
        what: "how long a microphone may deliver one value that is not zero",
    },
    OptionDoc {
        key: "audio.episode_healthy",
        unit: "duration",
        default: "\"10s\"",
        range: "1s to 5m",
        what: "how long a device must be healthy again before its episode is over",
    },
    OptionDoc {
        key: "path.probe",
        unit: "boolean",
        default: "true",
        range: "true or false",
        what: "whether the path to the collector is probed, with at most 8 kbit/s in both directions",
    },
    OptionDoc {
        key: "path.reflector",
        unit: "host:port",
        default: "\"\"",
        range: "a host name or address (IPv6 in brackets) and a port of 1 to 65535; empty for none",
        what: "a STAMP reflector (RFC 8762) that is probed too, within the same 8 kbit/s",
    },
    OptionDoc {
        key: "host.watch",
        unit: "boolean",
        default: "true",
        range: "true or false",
        what: "whether the machine's load and the network interfaces of calls are looked at",
    },
    OptionDoc {
        key: "context.socket",
        unit: "path",
        default: "\"/run/roomtone/agent.sock\"",
        range: "at most 107 bytes with the config file's folder; empty for none",
        what: "where the room application says that a call begins and ends",
    },
    OptionDoc {
        key: "health.interval",
        unit: "duration",
        default: "\"60s\"",
        range: "10s to 15m",
        what: "how often the agent tells the collector how it is",
    },
    OptionDoc {
        key: "log.level",
        unit: "word",
        default: "\"info\"",
        range: "off, error, warn, info, debug or trace",
        what: "how much is logged; names and addresses only from debug on; ROOMTONE_LOG overrides it",
    },
];

/// Returns the key's entry.
#[must_use]
pub(super) fn find(key: &str) -> Option<&'static OptionDoc> {
    REFERENCE.iter().find(|option| option.key == key)
}

/// Returns the sections, in the order of the file.
pub(super) fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    REFERENCE.iter().filter_map(move |option| {
        let section = option.key.split('.').next().unwrap_or_default();
        (section != std::mem::replace(&mut last, section)).then_some(section)
    })
}

/// Writes the table as plain text for `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from("Keys of the config file (TOML), each as section.key:\n");
    for OptionDoc { key, unit, default, range, what } in REFERENCE {
        text.push_str(&format!(
            "\n  {key} ({unit}, default {default})\n      {what}\n      {range}\n"
        ));
    }
    text
}

/// Writes the table as Markdown for the README.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from("| key | unit | default | range | what |\n|---|---|---|---|---|\n");
    for OptionDoc { key, unit, default, range, what } in REFERENCE {
        text.push_str(&format!("| `{key}` | {unit} | `{default}` | {range} | {what} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The README's table is this file's; `ROOMTONE_GOLDEN=write` puts it there.
    #[test]
    fn readme_tells_of_every_key() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
        let readme = std::fs::read_to_string(file).unwrap();
        let (begin, end) = ("<!-- agent keys -->\n", "<!-- end of agent keys -->");
        let (head, rest) = readme.split_once(begin).expect("the README has the first marker");
        let (table, tail) = rest.split_once(end).expect("the README has the second marker");
        if std::env::var_os("ROOMTONE_GOLDEN").is_some_and(|value| value == "write") {
            let text = [head, begin, &markdown(), end, tail].concat();
            return std::fs::write(file, text).unwrap();
        }
        assert_eq!(table, markdown(), "write the table anew with ROOMTONE_GOLDEN=write");
    }
}
