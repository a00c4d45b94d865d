//! `roomtone-agent analyze FILE`: a capture file through the same cores that a live agent uses.
//!
//! Needs no root and no collector, so that every number can be checked by anyone. Reads the file twice where the
//! local side has to be inferred.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::clock::{Moment, WallOffset};
use crate::media::leg::LegReport;
use crate::media::local::{LocalInference, LocalSource};
use crate::media::rtt::RttTally;
use crate::media::stream::StreamReport;
use crate::media::{self, Counters, Event, Watch};
use crate::show::{self, millis};
use crate::tap::file::FileTap;
use crate::tap::{Skips, TapError};

mod heard;
mod reported;

pub use heard::Heard;
pub use reported::{Marking, Reported};

/// The local side shows early: half an hour of a call at 100 packets/s. A larger capture is not read twice.
const INFERRED_FROM_MAX: u32 = 200_000;

/// The options of `roomtone-agent analyze`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// A pcap or pcapng file: Ethernet, Linux cooked, raw IP or loopback
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// An address of the endpoint that the capture was taken at; inferred, and said so, where not given
    #[arg(long, value_name = "ADDR")]
    pub local: Vec<IpAddr>,
    /// Ignore packets after this time, in milliseconds since 1970
    #[arg(long, value_name = "UNIX_MS")]
    pub until: Option<u64>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// What a capture shows.
#[derive(Debug, Serialize)]
pub struct Analysis {
    /// The file as a whole.
    pub capture: Capture,
    /// Which side counts as the endpoint.
    pub local: Local,
    /// Its calls, in order.
    pub calls: Vec<Call>,
}

/// Totals of the file.
#[derive(Debug, Serialize)]
pub struct Capture {
    /// Packets of any kind, up to the given end.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Packets that were not measured, by reason.
    pub skipped: BTreeMap<&'static str, u64>,
}

/// The endpoint's side of the capture.
#[derive(Debug, Serialize)]
pub struct Local {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// `given`, or how they were inferred.
    pub source: &'static str,
}

/// One call.
#[derive(Debug, Serialize)]
pub struct Call {
    /// Drawn from the capture's first moment: the same file gives the same id.
    pub id: String,
    /// Placed by a rehearsal.
    pub rehearsal: bool,
    /// RFC 3339, UTC.
    pub start: String,
    /// RFC 3339, UTC.
    pub end: String,
    /// Its legs, in order of opening.
    pub legs: Vec<Leg>,
}

/// One leg.
#[derive(Debug, Serialize)]
pub struct Leg {
    /// The endpoint's own UDP address.
    pub local: String,
    /// The other one.
    pub remote: String,
    /// `udp` or `turn`.
    pub transport: &'static str,
    /// Round trips of STUN transactions that the endpoint began.
    pub rtt: Rtt,
    /// The endpoint's address as the far end or a relay sees it; `null` where no answer to a check of ours named it.
    pub reflexive: Option<String>,
    /// Its streams, in order of appearance.
    pub streams: Vec<Stream>,
}

/// Round-trip times in milliseconds; `null` where `count` is 0.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rtt {
    /// Answered transactions.
    pub count: u32,
    /// Transactions given up.
    pub unanswered: u32,
    /// Smallest.
    pub min_ms: Option<f64>,
    /// Mean.
    pub mean_ms: Option<f64>,
    /// Largest.
    pub max_ms: Option<f64>,
    /// Latest.
    pub last_ms: Option<f64>,
}

/// One stream.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stream {
    /// The synchronisation source.
    pub ssrc: u32,
    /// `ingress` or `egress`, seen from the endpoint.
    pub direction: &'static str,
    /// `audio`, `video`, `rtx` or `unknown`.
    pub media: &'static str,
    /// Most frequent first.
    pub payload_types: Vec<u8>,
    /// `null` where unknown; then jitter is `null` too.
    pub clock_rate_hz: Option<u32>,
    /// `static`, `slope` or `unknown`.
    pub clock_rate_source: &'static str,
    /// Duplicates excluded.
    pub packets_received: u64,
    /// RFC 3550 A.3.
    pub packets_expected: u64,
    /// `packetsExpected - packetsReceived`.
    pub packets_lost: u64,
    /// Seen before.
    pub packets_duplicate: u64,
    /// Behind a later one.
    pub packets_reordered: u64,
    /// The sender began new sequences.
    pub sequence_restarts: u32,
    /// RFC 3550 A.8.
    pub jitter_ms: JitterMs,
    /// Lost over expected, 0..=1.
    pub loss_ratio: f64,
    /// What its listener heard; `null` for what is not received audio of a known clock.
    pub heard: Option<Heard>,
    /// How its packets were marked: as sent on egress, as received on ingress.
    pub marking: Marking,
    /// What its receiver told of it; `null` without RTCP in the clear.
    pub reported: Option<Reported>,
    /// RFC 3339, UTC.
    pub start: String,
    /// RFC 3339, UTC.
    pub end: String,
}

/// The running estimate J in milliseconds; `null` before the second packet of known clock.
#[derive(Debug, Serialize)]
pub struct JitterMs {
    /// Mean over the packets.
    pub mean: Option<f64>,
    /// Largest.
    pub max: Option<f64>,
    /// After the last packet.
    pub last: Option<f64>,
}

/// Measures a capture file.
///
/// # Errors Where the file cannot be read or is no capture; a capture that ends in the middle of a record is measured
/// up to there.
pub fn run(options: &Options) -> Result<Analysis, TapError> {
    let until = options.until.map(|ms| Moment::from_nanos(ms.saturating_mul(1_000_000)));
    let (addresses, source) = if options.local.is_empty() {
        infer_local(&options.file, until)?
    } else {
        (options.local.clone(), LocalSource::Given)
    };
    let mut tap = FileTap::open(&options.file)?;
    let mut watch: Option<Watch> = None;
    let mut calls = Calls::default();
    // What was read up to the last datagram before the given end.
    let (mut totals, mut cut) = (Totals::default(), false);
    while let Some(datagram) = tap.next()? {
        if until.is_some_and(|until| datagram.at > until) {
            cut = true;
            break;
        }
        let watch = watch.get_or_insert_with(|| {
            let (local, seed) = (addresses.clone(), datagram.at.as_nanos());
            Watch::new(media::Options { local, call_idle: media::CALL_IDLE, seed })
        });
        watch.handle_datagram(&datagram);
        calls.take(watch);
        if until.is_some() {
            totals = Totals::of(&tap);
        }
    }
    if !cut {
        totals = Totals::of(&tap);
    }
    let counters = watch.as_mut().map(|watch| {
        watch.finish();
        calls.take(watch);
        watch.counters()
    });
    Ok(Analysis {
        capture: Capture {
            packets: totals.packets,
            bytes: totals.bytes,
            skipped: skipped(&totals.skips, counters.unwrap_or_default()),
        },
        local: Local { addresses, source: source.name() },
        calls: calls.done,
    })
}

fn infer_local(file: &Path, until: Option<Moment>) -> Result<(Vec<IpAddr>, LocalSource), TapError> {
    let mut tap = FileTap::open(file)?;
    let mut inference = LocalInference::default();
    for _ in 0..INFERRED_FROM_MAX {
        let Some(datagram) = tap.next()? else { break };
        if until.is_some_and(|until| datagram.at > until) {
            break;
        }
        inference.handle(&datagram);
    }
    Ok(inference.conclude())
}

/// What a tap has read.
#[derive(Default)]
struct Totals {
    packets: u64,
    bytes: u64,
    skips: Skips,
}

impl Totals {
    fn of(tap: &FileTap) -> Self {
        Self { packets: tap.packets(), bytes: tap.bytes(), skips: *tap.skips() }
    }
}

fn skipped(skips: &Skips, counters: Counters) -> BTreeMap<&'static str, u64> {
    let media = [
        ("foreign", counters.foreign),
        ("malformedRtp", counters.rtp_malformed),
        ("malformedStun", counters.stun_malformed),
        ("malformedTurn", counters.turn_malformed),
    ];
    skips.iter().chain(media).filter(|(_, count)| *count > 0).collect()
}

/// Collects a watch's events into calls.
#[derive(Default)]
struct Calls {
    done: Vec<Call>,
    legs: BTreeMap<u16, LegReport>,
    opened: Option<(Moment, bool)>,
}

impl Calls {
    fn take(&mut self, watch: &mut Watch) {
        while let Some(event) = watch.poll_event() {
            match event {
                Event::CallOpened { at, purpose, .. } => {
                    let rehearsal = purpose == roomtone_protocol::call::CallPurpose::Rehearsal;
                    self.opened = Some((at, rehearsal));
                }
                Event::LegSummary { report, .. } => {
                    self.legs.insert(report.number.0, report);
                }
                Event::CallClosed { call, at, .. } => {
                    let (start, rehearsal) = self.opened.take().unwrap_or((at, false));
                    self.done.push(Call {
                        id: call.to_string(),
                        rehearsal,
                        start: time(start),
                        end: time(at),
                        legs: std::mem::take(&mut self.legs).into_values().map(Leg::from).collect(),
                    });
                }
                Event::LegOpened { .. } | Event::Interval { .. } | Event::ContextTaken(_) => {}
            }
        }
    }
}

fn time(at: Moment) -> String {
    show::rfc3339(WallOffset::NONE.stamp(at).wall_us)
}

impl From<LegReport> for Leg {
    fn from(report: LegReport) -> Self {
        Self {
            local: report.local.to_string(),
            remote: report.remote.to_string(),
            transport: show::transport(report.transport),
            rtt: Rtt::from(report.rtt),
            reflexive: report.reflexive.map(|address| address.to_string()),
            streams: report.streams.into_iter().map(Stream::from).collect(),
        }
    }
}

impl From<RttTally> for Rtt {
    fn from(tally: RttTally) -> Self {
        let known = |rtt| (tally.count > 0).then(|| millis(rtt));
        Self {
            count: tally.count,
            unanswered: tally.unanswered,
            min_ms: known(tally.min),
            mean_ms: tally.mean().map(millis),
            max_ms: known(tally.max),
            last_ms: known(tally.last),
        }
    }
}

impl From<StreamReport> for Stream {
    fn from(report: StreamReport) -> Self {
        Self {
            ssrc: report.ssrc,
            direction: show::direction(report.direction),
            media: show::media(report.media),
            clock_rate_hz: report.clock_rate_hz,
            clock_rate_source: show::clock_rate_source(report.clock_rate_source),
            packets_received: report.received,
            packets_expected: report.expected,
            packets_lost: report.lost(),
            packets_duplicate: report.duplicate,
            packets_reordered: report.reordered,
            sequence_restarts: report.restarts,
            jitter_ms: JitterMs {
                mean: report.jitter.mean().map(millis),
                max: report.jitter.max().map(millis),
                last: report.jitter_last.map(millis),
            },
            loss_ratio: report.lost() as f64 / report.expected.max(1) as f64,
            heard: Heard::of(&report),
            marking: Marking::from(&report),
            reported: Reported::of(&report),
            start: time(report.first_at),
            end: time(report.last_at),
            payload_types: report.payload_types,
        }
    }
}

impl std::fmt::Display for Analysis {
    /// At most 100 columns wide.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addresses: Vec<_> = self.local.addresses.iter().map(ToString::to_string).collect();
        writeln!(
            f,
            "{} packets, {} bytes; local side {} ({})",
            self.capture.packets,
            self.capture.bytes,
            if addresses.is_empty() { "unknown".to_owned() } else { addresses.join(", ") },
            self.local.source,
        )?;
        for (reason, count) in &self.capture.skipped {
            writeln!(f, "not measured: {count} {reason}")?;
        }
        if self.calls.is_empty() {
            writeln!(f, "no call: no stream proved itself")?;
        }
        for call in &self.calls {
            let label = if call.rehearsal { " (rehearsal)" } else { "" };
            writeln!(f, "\ncall {}{label}  {} to {}", call.id, call.start, call.end)?;
            for leg in &call.legs {
                writeln!(
                    f,
                    "  leg {} -> {} ({})  {}",
                    leg.local, leg.remote, leg.transport, leg.rtt
                )?;
                if let Some(reflexive) = &leg.reflexive
                    && *reflexive != leg.local
                {
                    writeln!(f, "  seen from there as {reflexive}")?;
                }
                if !leg.streams.is_empty() {
                    writeln!(f, "{}", stream_table(&leg.streams))?;
                }
                let tables = [heard::table(&leg.streams), reported::table(&leg.streams)];
                for table in tables.into_iter().flatten() {
                    writeln!(f, "{table}")?;
                }
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for Rtt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.min_ms, self.mean_ms, self.max_ms) {
            (Some(min), Some(mean), Some(max)) => {
                write!(f, "rtt {mean:.1} ms ({min:.1}..{max:.1}) x {}", self.count)
            }
            _ => write!(f, "rtt not measured"),
        }
    }
}

fn stream_table(streams: &[Stream]) -> comfy_table::Table {
    let mut table = show::table(&[
        "ssrc", "way", "media", "pt", "clock", "received", "lost", "loss", "dup", "reord",
        "jitter", "max", "dscp",
    ]);
    let ms = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.1}"));
    for stream in streams {
        table.add_row([
            format!("{:08x}", stream.ssrc),
            stream.direction.to_owned(),
            stream.media.to_owned(),
            stream.payload_types.first().map_or("-".to_owned(), u8::to_string),
            stream.clock_rate_hz.map_or("-".to_owned(), |hz| hz.to_string()),
            stream.packets_received.to_string(),
            stream.packets_lost.to_string(),
            format!("{:.2}%", stream.loss_ratio * 100.0),
            stream.packets_duplicate.to_string(),
            stream.packets_reordered.to_string(),
            ms(stream.jitter_ms.mean),
            ms(stream.jitter_ms.max),
            stream.marking.to_string(),
        ]);
    }
    table
}
