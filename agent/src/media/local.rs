//! Which side of a datagram is the endpoint: given, or inferred from a capture.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::clock::Moment;
use crate::tap::Datagram;

use super::demux::{Class, classify};
use super::stun::{self, MessageClass, TransactionId};

/// Addresses looked at for the inference, at most; a capture with more is no endpoint's.
const ADDRESSES_MAX: usize = 4_096;
/// Open transactions remembered for the inference.
const OPEN_MAX: usize = 4_096;

/// How the local side became known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalSource {
    /// Told by the caller.
    Given,
    /// It answers STUN requests at once, the other side a round trip later.
    StunTurnaround,
    /// One side has private addresses, the other has not.
    PrivateAddress,
    /// The address with the most datagrams.
    Busiest,
}

impl LocalSource {
    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::StunTurnaround => "stunTurnaround",
            Self::PrivateAddress => "privateAddress",
            Self::Busiest => "busiest",
        }
    }
}

/// What one address did in a capture.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    datagrams: u64,
    media: u64,
    answers: u32,
    answer_time: Duration,
}

/// Watches a whole capture once and names the side it was taken at.
#[derive(Debug, Default)]
pub struct LocalInference {
    seen: HashMap<IpAddr, Seen, foldhash::fast::RandomState>,
    open: HashMap<TransactionId, (IpAddr, Moment), foldhash::fast::RandomState>,
}

impl LocalInference {
    /// Takes one datagram.
    pub fn handle(&mut self, datagram: &Datagram<'_>) {
        let class = classify(datagram.payload);
        let media = u64::from(matches!(class, Class::Rtp | Class::ChannelData));
        for address in [datagram.source.ip(), datagram.destination.ip()] {
            if self.seen.len() >= ADDRESSES_MAX && !self.seen.contains_key(&address) {
                continue;
            }
            let seen = self.seen.entry(address).or_default();
            seen.datagrams += 1;
            seen.media += media;
        }
        if class != Class::Stun {
            return;
        }
        let Some(header) = stun::parse(datagram.payload, datagram.wire_bytes) else {
            return;
        };
        match header.class {
            MessageClass::Request => {
                if self.open.len() < OPEN_MAX {
                    let asked = (datagram.destination.ip(), datagram.at);
                    self.open.entry(header.transaction).or_insert(asked);
                }
            }
            MessageClass::Success | MessageClass::Error => {
                if let Some((asked, at)) = self.open.remove(&header.transaction)
                    && let Some(seen) = self.seen.get_mut(&asked)
                {
                    seen.answers += 1;
                    seen.answer_time += datagram.at.since(at);
                }
            }
            MessageClass::Indication => {}
        }
    }

    /// Names the local addresses, at best guess; empty where nothing was seen.
    #[must_use]
    pub fn conclude(&self) -> (Vec<IpAddr>, LocalSource) {
        if let Some(fastest) = self.fastest_answerer() {
            return (vec![fastest], LocalSource::StunTurnaround);
        }
        let talkers = || self.seen.iter().filter(|(address, _)| !is_group(**address));
        let relevant = |seen: &Seen| (seen.media, seen.datagrams);
        let busiest = |private: bool| {
            talkers()
                .filter(|(address, _)| is_private(**address) == private)
                .max_by_key(|(address, seen)| (relevant(seen), **address))
        };
        match (busiest(true), busiest(false)) {
            (Some((private, seen)), Some((_, other))) if seen.media > 0 || other.media == 0 => {
                (vec![*private], LocalSource::PrivateAddress)
            }
            _ => talkers()
                .max_by_key(|(address, seen)| (relevant(seen), **address))
                .map_or((Vec::new(), LocalSource::Busiest), |(address, _)| {
                    (vec![*address], LocalSource::Busiest)
                }),
        }
    }

    /// The address that answers at least four times faster than the slowest: a round trip lies between a tap and the
    /// far side only.
    fn fastest_answerer(&self) -> Option<IpAddr> {
        let mut means: Vec<_> = self
            .seen
            .iter()
            .filter_map(|(address, seen)| {
                seen.answer_time.checked_div(seen.answers).map(|mean| (mean, *address))
            })
            .collect();
        means.sort_unstable();
        let (fastest, slowest) = (means.first()?, means.last()?);
        (fastest.0 * 4 < slowest.0).then_some(fastest.1)
    }
}

fn is_group(address: IpAddr) -> bool {
    address.is_multicast() || address == IpAddr::V4(std::net::Ipv4Addr::BROADCAST)
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        // RFC 4193 unique local, RFC 4291 link local.
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.segments()[0] & 0xfe00 == 0xfc00
                || v6.segments()[0] & 0xffc0 == 0xfe80
        }
    }
}
