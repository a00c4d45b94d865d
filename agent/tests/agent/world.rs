//! Packets as a tap would see them, made by hand.

use std::net::SocketAddr;
use std::time::Duration;

use roomtone_agent::clock::Moment;
use roomtone_agent::media::leg::{IntervalReport, LegReport};
use roomtone_agent::media::stream::StreamReport;
use roomtone_agent::media::{CALL_IDLE, Event, Options, Watch};
use roomtone_agent::tap::Datagram;

pub(crate) const LOCAL: &str = "192.0.2.10:50000";
pub(crate) const REMOTE: &str = "198.51.100.7:3478";

/// A watch, and all that it said.
pub(crate) struct World {
    pub(crate) watch: Watch,
    pub(crate) events: Vec<Event>,
    /// How what is sent from now on is marked.
    pub(crate) dscp: u8,
}

/// One RTP packet, with what tests vary.
#[derive(Clone, Copy)]
pub(crate) struct Rtp {
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) payload_bytes: usize,
}

impl Rtp {
    /// The `n`th packet of an Opus-like stream: 20 ms, 48 kHz.
    pub(crate) fn opus(n: u64) -> Self {
        Self {
            payload_type: 111,
            sequence: (n as u16).wrapping_add(65_000),
            timestamp: (n as u32).wrapping_mul(960).wrapping_add(4_000_000_000),
            ssrc: 0x1234_5678,
            payload_bytes: 60,
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0x80, self.payload_type];
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.ssrc.to_be_bytes());
        bytes.resize(12 + self.payload_bytes, 0x55);
        bytes
    }
}

/// A STUN message without attributes.
pub(crate) fn stun(kind: u16, transaction: u64) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend([0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0]);
    bytes.extend(transaction.to_be_bytes());
    bytes
}

/// A moment `ms` milliseconds into the test.
pub(crate) fn ms(ms: u64) -> Moment {
    Moment::from_nanos(ms * 1_000_000)
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("tests write valid addresses")
}

impl World {
    pub(crate) fn new() -> Self {
        let local = vec![address(LOCAL).ip()];
        let watch = Watch::new(Options { local, call_idle: CALL_IDLE, seed: 1 });
        Self { watch, events: Vec::new(), dscp: 0 }
    }

    /// From the far end to the endpoint.
    pub(crate) fn ingress(&mut self, at: Moment, payload: &[u8]) {
        self.send(at, REMOTE, LOCAL, payload);
    }

    /// From the endpoint to the far end.
    pub(crate) fn egress(&mut self, at: Moment, payload: &[u8]) {
        self.send(at, LOCAL, REMOTE, payload);
    }

    pub(crate) fn send(&mut self, at: Moment, source: &str, destination: &str, payload: &[u8]) {
        self.watch.handle_datagram(&Datagram {
            at,
            source: address(source),
            destination: address(destination),
            dscp: self.dscp,
            payload,
            wire_bytes: payload.len() as u16,
        });
        self.events.extend(std::iter::from_fn(|| self.watch.poll_event()));
    }

    pub(crate) fn timeout(&mut self, now: Moment) {
        self.watch.handle_timeout(now);
        self.events.extend(std::iter::from_fn(|| self.watch.poll_event()));
    }

    pub(crate) fn finish(mut self) -> Vec<Event> {
        self.watch.finish();
        self.events.extend(std::iter::from_fn(|| self.watch.poll_event()));
        self.events
    }
}

/// The last report of each leg.
pub(crate) fn legs(events: &[Event]) -> Vec<&LegReport> {
    let mut legs = std::collections::BTreeMap::new();
    for event in events {
        if let Event::LegSummary { report, .. } = event {
            legs.insert(report.number, report);
        }
    }
    legs.into_values().collect()
}

/// The one stream of the one leg.
pub(crate) fn only_stream(events: &[Event]) -> &StreamReport {
    let legs = legs(events);
    assert_eq!(legs.len(), 1, "one leg");
    assert_eq!(legs[0].streams.len(), 1, "one stream");
    &legs[0].streams[0]
}

pub(crate) fn intervals(events: &[Event]) -> Vec<&IntervalReport> {
    let mut intervals = Vec::new();
    for event in events {
        if let Event::Interval { report, .. } = event {
            intervals.push(report);
        }
    }
    intervals
}

/// Milliseconds, for comparing.
pub(crate) fn as_ms(duration: Option<Duration>) -> f64 {
    duration.expect("measured").as_secs_f64() * 1e3
}
