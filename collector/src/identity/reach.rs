//! Where agents reach a collector: a host name or an IP address, and a UDP port.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use roomtone_protocol::limits::SERVER_NAME_BYTES_MAX;

/// A host and a port, as a token carries them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// A host name or an address; an IPv6 address without brackets.
    pub host: String,
    /// The UDP port, not 0.
    pub port: u16,
}

/// The text is no host and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use a host name or address and a port, like rooms.example.com:4433 or [2001:db8::7]:4433")]
pub struct ParseReachError;

impl FromStr for Reach {
    type Err = ParseReachError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or(ParseReachError)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(ParseReachError)?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => {
                address.parse::<Ipv6Addr>().map_err(|_| ParseReachError)?;
                address
            }
            None => host,
        };
        let is_label = |label: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            !label.is_empty() && label.bytes().all(plain)
        };
        let is_host = host.split('.').all(is_label) || host.parse::<Ipv6Addr>().is_ok();
        let is_bare_v6 = host.contains(':') && !text.starts_with('[');
        if !is_host || is_bare_v6 || host.len() > SERVER_NAME_BYTES_MAX {
            return Err(ParseReachError);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_they_are_shown() {
        for text in
            ["rooms.example.com:4433", "192.0.2.7:443", "[2001:db8::7]:1", "localhost:65535"]
        {
            assert_eq!(text.parse::<Reach>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_no_agent_could_reach_is_refused() {
        let long = format!("{}:1", "h".repeat(254));
        for text in [
            "",
            "rooms",
            "rooms:",
            "rooms:0",
            "rooms:65536",
            ":1",
            "a..b:1",
            "a b:1",
            "2001:db8::7:1",
            "[rooms]:1",
            "[::1]",
            &long,
        ] {
            assert_eq!(text.parse::<Reach>(), Err(ParseReachError), "{text}");
        }
    }
}
