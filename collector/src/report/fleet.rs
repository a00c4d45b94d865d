//! The endpoints of a fleet: the list that is worst first, one endpoint whole, the line that sums up.
//!
//! Names, sites, versions and details come from outside and are escaped; numbers may be any and never widen a table.

use std::collections::BTreeMap;

use roomtone_protocol::configuration::{Arrival, ConfigurationHash, Outcome};
use roomtone_protocol::health::{ClockState, Health, LinkTransport};
use serde::Serialize;

use super::json;
use super::table::{COLUMNS, NAME_COLUMNS, NARROW, percent, plain, right, text};
use crate::fleet::condition::{State, complaints};
use crate::fleet::heartbeat::{CpuShare, Heartbeat};
use crate::fleet::rollout::Progress;
use crate::fleet::roster::{Entry, counts};
use crate::text::{escape, fit, rfc3339, short_time};

/// The room of a site's name and of a version.
const SITE_COLUMNS: usize = 8;
/// The most endpoints whose complaints a list tells; JSON has them all.
const COMPLAINTS_MAX: usize = 50;

/// `endpoints`.
#[must_use]
pub fn endpoints(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "no endpoints\n".to_owned();
    }
    let mut table = plain(
        &[
            "NAME",
            "SITE",
            "STATE",
            "SINCE (UTC)",
            "VERSION",
            "VIA",
            "RSS",
            "CPU",
            "SPOOL",
            "CONFIG",
        ],
        NARROW,
    );
    right(&mut table, &[6, 7, 8]);
    for it in entries {
        let heartbeat = it.heard.as_ref().and_then(|heard| heard.heartbeat.as_ref());
        let health = heartbeat.map(|it| &it.health);
        let none = || "-".to_owned();
        table.add_row([
            fit(&shown_name(it), NAME_COLUMNS),
            fit(&it.site, SITE_COLUMNS),
            it.condition.state.name().to_owned(),
            it.condition.since_us.map_or_else(none, minute),
            fit(version(it), SITE_COLUMNS),
            health.map_or_else(none, |it| via(it.transport).to_owned()),
            health.map_or_else(none, |it| size(u64::from(it.resident_kib) * 1_024)),
            heartbeat.and_then(|it| it.cpu).map_or_else(none, share),
            health.map_or_else(none, |it| size(it.spool_bytes)),
            progress(it.progress).to_owned(),
        ]);
    }
    let mut out = text(&table);
    let complaining = entries.iter().filter(|it| {
        matches!(it.condition.state, State::Cloned | State::Degraded)
            && !it.condition.why.is_empty()
    });
    let lines: Vec<String> = complaining
        .map(|it| {
            let line = format!("{}: {}", shown_name(it), it.condition.why.join(", "));
            fit(&line, COLUMNS) + "\n"
        })
        .collect();
    let hidden = lines.len().saturating_sub(COMPLAINTS_MAX);
    if !lines.is_empty() {
        out.push('\n');
    }
    out.extend(lines.into_iter().take(COMPLAINTS_MAX));
    if hidden > 0 {
        out += &format!("({hidden} more, see --json)\n");
    }
    out + "\n" + &summary(entries) + "\n"
}

/// `2000 endpoints: 1990 up, 4 degraded, 5 silent, 1 never seen`.
#[must_use]
pub fn summary(entries: &[Entry]) -> String {
    let counts = counts(entries);
    let parts = [
        (State::Up, "up"),
        (State::Degraded, "degraded"),
        (State::Silent, "silent"),
        (State::NeverSeen, "never seen"),
        (State::Cloned, "cloned"),
        (State::Revoked, "revoked"),
    ];
    let parts = parts
        .into_iter()
        .filter_map(|(state, words)| counts.get(&state).map(|count| format!("{count} {words}")));
    let parts: Vec<String> = parts.collect();
    let count = entries.len();
    let noun = if count == 1 { "endpoint" } else { "endpoints" };
    if count == 0 { format!("no {noun}") } else { format!("{count} {noun}: {}", parts.join(", ")) }
}

/// What `endpoint show` adds: how it stands, its last heartbeat, and what it is set to.
#[must_use]
pub fn endpoint(it: &Entry) -> String {
    let mut out = String::new();
    let mut line = |label: &str, value: String| out += &format!("{label:<11}{value}\n");
    let since = match it.condition.state {
        // Since when it is heard stands below; since when it complains nobody keeps.
        State::Up | State::Degraded => None,
        State::Cloned | State::Silent | State::NeverSeen | State::Revoked => it.condition.since_us,
    };
    let since = since.map(|us| format!(" since {}", short_time(us))).unwrap_or_default();
    line("condition", format!("{}{since}", it.condition.state.name()));
    for why in &it.condition.why {
        line("", escape(why));
    }
    if !version(it).is_empty() {
        line("agent", escape(version(it)));
    }
    let Some(heard) = &it.heard else { return out };
    line("connected", short_time(heard.connected_us));
    if let Some(ended_us) = heard.ended_us {
        line("ended", short_time(ended_us));
    }
    let Some(Heartbeat { heard_us, health, cpu }) = &heard.heartbeat else {
        line("heartbeat", "none came, or none that this version reads".to_owned());
        return out;
    };
    let interval = health.interval_s;
    line("heartbeat", format!("{}, due every {interval} s", short_time(*heard_us)));
    line("running", format!("{} s", health.running_s));
    line("memory", size(u64::from(health.resident_kib) * 1_024));
    let of_late = cpu.map(|it| format!(", of late {} of a core", share(it))).unwrap_or_default();
    line("CPU", format!("{} ms{of_late}", health.cpu_ms));
    line("spool", format!("{} bytes", health.spool_bytes));
    line("tap", format!("{} packet heads, {} lost", health.tap_received, health.tap_dropped));
    line("clock", clock(health.clock).to_owned());
    line("transport", via(health.transport).to_owned());
    let state = &health.configuration;
    line("set to", hash(state.effective));
    line("in force", state.in_force.map_or_else(|| "nothing of the collector's".to_owned(), hash));
    if let Some(Arrival { hash: latest, outcome: came, detail }) = &state.latest {
        let detail =
            if detail.is_empty() { String::new() } else { format!(": {}", escape(detail)) };
        line("latest", format!("{} {}{detail}", hash(*latest), outcome(*came)));
    }
    if let Some(effective) = &it.effective {
        out += "\n";
        for line in effective.text.lines() {
            out += &format!("  {}\n", escape(line));
        }
    }
    out
}

/// `endpoints --json`.
#[derive(Debug, Serialize)]
pub struct Endpoints<'a> {
    endpoints: Vec<Endpoint<'a>>,
    counts: BTreeMap<&'static str, u64>,
}

impl<'a> Endpoints<'a> {
    /// The view of endpoints.
    #[must_use]
    pub fn new(entries: &'a [Entry]) -> Self {
        Self { endpoints: entries.iter().map(Endpoint::new).collect(), counts: named(entries) }
    }
}

/// Endpoints by state, as `status --json` has them.
#[must_use]
pub fn named(entries: &[Entry]) -> BTreeMap<&'static str, u64> {
    counts(entries).into_iter().map(|(state, count)| (state.name(), count)).collect()
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint<'a> {
    #[serde(flatten)]
    records: json::Endpoint,
    site: &'a str,
    state: &'static str,
    since: Option<String>,
    why: &'a [String],
    progress: &'static str,
    health: Option<HealthView<'a>>,
}

impl<'a> Endpoint<'a> {
    fn new(it: &'a Entry) -> Self {
        let records = it.stored.as_ref();
        let records =
            records.map_or_else(|| json::Endpoint::unheard(it.endpoint), json::Endpoint::new);
        Self {
            records: records.named(&it.name),
            site: &it.site,
            state: it.condition.state.name(),
            since: it.condition.since_us.and_then(rfc3339),
            why: &it.condition.why,
            progress: progress_name(it.progress),
            health: HealthView::of(it),
        }
    }
}

/// What `endpoint show --json` adds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown<'a> {
    condition: ConditionView<'a>,
    agent_version: &'a str,
    health: Option<HealthView<'a>>,
    effective: Option<EffectiveView<'a>>,
}

impl<'a> Shown<'a> {
    /// The view of one endpoint.
    #[must_use]
    pub fn new(it: &'a Entry) -> Self {
        Self {
            condition: ConditionView {
                state: it.condition.state.name(),
                since: it.condition.since_us.and_then(rfc3339),
                why: &it.condition.why,
            },
            agent_version: version(it),
            health: HealthView::of(it),
            effective: it
                .effective
                .as_ref()
                .map(|it| EffectiveView { hash: hash(it.hash), text: &it.text }),
        }
    }
}

#[derive(Debug, Serialize)]
struct ConditionView<'a> {
    state: &'static str,
    since: Option<String>,
    why: &'a [String],
}

#[derive(Debug, Serialize)]
struct EffectiveView<'a> {
    hash: String,
    text: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HealthView<'a> {
    connected: Option<String>,
    ended: Option<String>,
    heard: Option<String>,
    interval_s: u16,
    running_s: u32,
    resident_kib: u32,
    cpu_ms: u64,
    cpu: Option<CpuView>,
    spool_bytes: u64,
    tap_received: u64,
    tap_dropped: u64,
    clock: &'static str,
    transport: &'static str,
    troubles: u32,
    complaints: Vec<String>,
    effective: String,
    in_force: Option<String>,
    latest: Option<ArrivalView<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CpuView {
    part_us: u64,
    whole_us: u64,
}

#[derive(Debug, Serialize)]
struct ArrivalView<'a> {
    hash: String,
    outcome: &'static str,
    detail: &'a str,
}

impl<'a> HealthView<'a> {
    fn of(it: &'a Entry) -> Option<Self> {
        let heard = it.heard.as_ref()?;
        let Heartbeat { heard_us, health, cpu } = heard.heartbeat.as_ref()?;
        let Health { interval_s, running_s, resident_kib, cpu_ms, spool_bytes, .. } = *health;
        let state = &health.configuration;
        Some(Self {
            connected: rfc3339(heard.connected_us),
            ended: heard.ended_us.and_then(rfc3339),
            heard: rfc3339(*heard_us),
            interval_s,
            running_s,
            resident_kib,
            cpu_ms,
            cpu: cpu.map(|it| CpuView { part_us: it.part_us, whole_us: it.whole_us }),
            spool_bytes,
            tap_received: health.tap_received,
            tap_dropped: health.tap_dropped,
            clock: clock(health.clock),
            transport: via(health.transport),
            troubles: health.troubles.0,
            complaints: complaints(health, None),
            effective: hash(state.effective),
            in_force: state.in_force.map(hash),
            latest: state.latest.as_ref().map(|it| ArrivalView {
                hash: hash(it.hash),
                outcome: outcome(it.outcome),
                detail: &it.detail,
            }),
        })
    }
}

/// A configuration's name as people see it.
#[must_use]
pub fn hash(hash: ConfigurationHash) -> String {
    super::identity::hex(&hash.0)
}

fn shown_name(it: &Entry) -> String {
    if it.name.is_empty() { it.endpoint.to_string() } else { it.name.clone() }
}

/// The agent's version, empty where it never came.
fn version(it: &Entry) -> &str {
    let heard = it.heard.as_ref().map(|it| it.agent_version.as_str());
    let stored = it.stored.as_ref().map(|it| it.agent_version.as_str());
    heard.or(stored).unwrap_or_default()
}

/// A moment to the minute: `11-22 23:59`.
fn minute(us: u64) -> String {
    short_time(us).chars().take(11).collect()
}

fn via(transport: LinkTransport) -> &'static str {
    match transport {
        LinkTransport::Quic => "quic",
        LinkTransport::Tcp => "tcp",
    }
}

fn clock(state: ClockState) -> &'static str {
    match state {
        ClockState::Synchronised => "synchronised",
        ClockState::Unsynchronised => "notSynchronised",
        ClockState::Unknown => "unknown",
    }
}

pub(super) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::InForce => "inForce",
        Outcome::OnTrial => "onTrial",
        Outcome::WaitsForCall => "waitsForCall",
        Outcome::Refused => "refused",
        Outcome::RolledBack => "rolledBack",
    }
}

fn progress(progress: Progress) -> &'static str {
    match progress {
        Progress::NothingWanted => "-",
        Progress::NotHeard => "notHeard",
        Progress::Told(told) => outcome(told),
    }
}

/// As in JSON, where nothing is told by a dash.
pub(super) fn progress_name(it: Progress) -> &'static str {
    match it {
        Progress::NothingWanted => "nothingWanted",
        Progress::NotHeard | Progress::Told(_) => progress(it),
    }
}

fn share(CpuShare { part_us, whole_us }: CpuShare) -> String {
    percent(part_us, whole_us)
}

/// Bytes in at most seven columns, in binary units.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    let Some((unit, letter)) = UNITS.into_iter().find(|(unit, _)| bytes >= *unit) else {
        return format!("{bytes}");
    };
    let tenths = bytes / (unit / 10);
    if tenths < 100_000 {
        format!("{}.{}{letter}", tenths / 10, tenths % 10)
    } else {
        "> 9T".into()
    }
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
