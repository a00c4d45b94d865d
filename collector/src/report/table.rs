//! The tables of the reading commands, at most [`COLUMNS`] wide whatever peers call themselves.
//!
//! Cells from outside are escaped and cut to a fixed room, so that no table ever wraps.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use roomtone_protocol::media::Direction;

use super::{Names, cause, direction, episode_state, media, ms, side, state, transport};
use crate::call::view::{CallView, DirectionView, LegView, RttView, Source, StreamView};
use crate::store::EndpointFacts;
use crate::text::{fit, rfc3339, short_time};

/// The widest line of any table.
pub const COLUMNS: usize = 100;

/// The room of an endpoint's name.
const NAME_COLUMNS: usize = 20;
/// The room of a device's name.
const DEVICE_COLUMNS: usize = 34;
/// The most intervals of a leg that a table shows; JSON has them all.
const INTERVALS_MAX: usize = 60;

/// `calls`.
#[must_use]
pub fn calls(views: &[CallView], names: &Names) -> String {
    if views.is_empty() {
        return "no calls\n".to_owned();
    }
    let mut table = plain(&[
        "CALL",
        "ENDPOINT",
        "STARTED (UTC)",
        "LASTED",
        "STATE",
        "LOSS IN",
        "OUT",
        "JITTER IN",
        "RTT",
    ]);
    right(&mut table, &[3, 5, 6, 7, 8]);
    for view in views {
        let (expected_in, lost_in, jitter_in) = view.audio(Direction::Ingress);
        let (expected_out, lost_out, _) = view.audio(Direction::Egress);
        table.add_row([
            view.call.to_string(),
            fit(&names.of(view.endpoint), NAME_COLUMNS),
            short_time(view.start_us),
            lasted(view.start_us, latest_us(view)),
            label(view),
            percent(lost_in, expected_in),
            percent(lost_out, expected_out),
            jitter_in.map_or("-".to_owned(), millis),
            view.rtt_mean_dms().map_or("-".to_owned(), millis),
        ]);
    }
    text(&table) + "loss of audio packets; jitter and mean round trip in ms; * = rehearsal\n"
}

/// `call ID`.
#[must_use]
pub fn call(view: &CallView, names: &Names) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<10} {}", fit(&value, COLUMNS - 11));
    };
    line("call", format!("{}{}", view.call, rehearsal(view)));
    line("endpoint", format!("{} ({})", names.of(view.endpoint), view.endpoint));
    line("state", state(view.state).to_owned());
    line("started", rfc3339(view.start_us).unwrap_or_else(|| "-".to_owned()));
    if let Some(end_us) = view.end_us {
        line("ended", rfc3339(end_us).unwrap_or_else(|| "-".to_owned()));
    }
    line("lasted", lasted(view.start_us, latest_us(view)));
    for leg in &view.legs {
        out.push('\n');
        out += &leg_text(leg);
    }
    if !view.devices.is_empty() {
        out.push('\n');
        let mut table =
            plain(&["DEVICE", "SIDE", "NOT FUNCTIONING", "OF CALL", "MUTED", "EPISODES"]);
        right(&mut table, &[2, 3, 4, 5]);
        for device in &view.devices {
            let bad = device.not_functioning;
            table.add_row([
                fit(&device.device, DEVICE_COLUMNS),
                side(device.side).to_owned(),
                percent(bad.part_us(), bad.whole_us()),
                seconds(bad.whole_us()),
                percent(device.muted.part_us(), device.muted.whole_us()),
                device.episodes.to_string(),
            ]);
        }
        out += &text(&table);
    }
    if !view.episodes.is_empty() {
        out.push('\n');
        let mut table = plain(&["EPISODE", "SIDE", "CAUSE", "SINCE (UTC)", "BAD TIME", "STATE"]);
        right(&mut table, &[4]);
        for episode in &view.episodes {
            table.add_row([
                fit(&episode.device, DEVICE_COLUMNS - 6),
                side(episode.side).to_owned(),
                cause(episode.cause).to_owned(),
                short_time(episode.onset.wall_us),
                seconds(episode.bad_us),
                episode_state(episode.state).to_owned(),
            ]);
        }
        out += &text(&table);
    }
    out
}

/// `endpoints`.
#[must_use]
pub fn endpoints(endpoints: &[EndpointFacts]) -> String {
    if endpoints.is_empty() {
        return "no endpoints\n".to_owned();
    }
    let mut table =
        plain(&["ENDPOINT", "NAME", "AGENT", "LAST SEEN", "", "CALLS", "RECORDS", "LOST"]);
    right(&mut table, &[5, 6, 7]);
    for it in endpoints {
        table.add_row([
            it.endpoint.to_string(),
            fit(&it.name, NAME_COLUMNS - 7),
            fit(&it.agent_version, 8),
            short_time(it.last_seen_us),
            if it.connected { "up" } else { "-" }.to_owned(),
            compact(it.calls),
            compact(it.counts.stored),
            format!("{}+{}", compact(it.counts.reported_lost), compact(it.counts.missing)),
        ]);
    }
    text(&table) + "lost = reported by the endpoint + unexplained; details with --json\n"
}

fn leg_text(leg: &LegView) -> String {
    let mut out = String::new();
    let via = leg.opened.map_or("unknown transport", |it| transport(it.transport));
    let kind = match leg.source {
        Source::Summary => "",
        Source::Intervals => ", so far",
    };
    let _ = writeln!(out, "leg {} ({via}{kind})", leg.leg);
    if let Some(opened) = leg.opened {
        let _ = writeln!(out, "  local    {}", opened.local);
        let _ = writeln!(out, "  remote   {}", opened.remote);
    }
    let _ = writeln!(out, "  rtt      {}", rtt(&leg.rtt));
    if leg.tap_dropped > 0 {
        let dropped = compact(leg.tap_dropped);
        let _ = writeln!(out, "  tap      lost {dropped} packets itself: loss below may be ours");
    }
    let mut table = plain(&[
        "  SSRC",
        "DIRECTION",
        "MEDIA",
        "RECEIVED",
        "EXPECTED",
        "LOST",
        "LOSS",
        "JITTER",
        "MAX",
    ]);
    right(&mut table, &[3, 4, 5, 6, 7, 8]);
    for stream in &leg.streams {
        table.add_row(stream_row(stream));
    }
    out += &text(&table);
    if leg.intervals.is_empty() {
        return out;
    }
    let mut table = plain(&[
        "  FROM", "FOR", "IN", "LOST", "JITTER", "MAX", "OUT", "LOST", "JITTER", "RTT", "MARKS",
    ]);
    right(&mut table, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let hidden = leg.intervals.len().saturating_sub(INTERVALS_MAX);
    for interval in leg.intervals.iter().skip(hidden) {
        let clock = short_time(interval.started_ms.saturating_mul(1_000));
        let [received_in, lost_in, jitter_in, max_in] = direction_cells(&interval.ingress);
        let [received_out, lost_out, jitter_out, _] = direction_cells(&interval.egress);
        let has_rtt = interval.rtt.count > 0;
        table.add_row([
            format!("  {}", clock.rsplit(' ').next().unwrap_or("-")),
            seconds(u64::from(interval.duration_ms) * 1_000),
            received_in,
            lost_in,
            jitter_in,
            max_in,
            received_out,
            lost_out,
            jitter_out,
            if has_rtt { millis(interval.rtt.mean_dms) } else { "-".to_owned() },
            interval.marks(),
        ]);
    }
    if hidden > 0 {
        let _ = writeln!(out, "  ({hidden} earlier intervals, see --json)");
    }
    out + &text(&table)
}

fn stream_row(stream: &StreamView) -> [String; 9] {
    let jitter = |dms: Option<u32>| dms.map_or("-".to_owned(), millis);
    [
        format!("  {:08x}", u32::from_le_bytes(stream.key.ssrc)),
        direction(stream.key.direction).to_owned(),
        media(stream.key.media).to_owned(),
        compact(stream.received),
        compact(stream.expected),
        compact(stream.lost),
        percent(stream.lost, stream.expected),
        jitter(stream.jitter_mean_dms),
        jitter(stream.jitter_max_dms),
    ]
}

fn direction_cells(view: &DirectionView) -> [String; 4] {
    let jitter = |dms| if view.received > 0 { millis(dms) } else { "-".to_owned() };
    let sign = if view.lost < 0 { "-" } else { "" };
    [
        compact(view.received),
        format!("{sign}{}", compact(view.lost.unsigned_abs())),
        jitter(view.jitter_mean_dms),
        jitter(view.jitter_max_dms),
    ]
}

fn rtt(view: &RttView) -> String {
    if view.count == 0 {
        return "not measured".to_owned();
    }
    format!(
        "{} ms mean, {} to {} ms, {} round trips",
        millis(view.mean_dms),
        millis(view.min_dms),
        millis(view.max_dms),
        compact(view.count)
    )
}

/// The last moment of a call that is known, by the endpoint's clock.
fn latest_us(view: &CallView) -> u64 {
    let legs = view.legs.iter().filter_map(|leg| leg.end_us).max();
    view.end_us.or(legs).unwrap_or(view.start_us)
}

fn label(view: &CallView) -> String {
    let mark = if view.is_rehearsal() { "*" } else { "" };
    format!("{}{mark}", state(view.state))
}

fn rehearsal(view: &CallView) -> &'static str {
    if view.is_rehearsal() { " (rehearsal, not a meeting)" } else { "" }
}

fn lasted(start_us: u64, end_us: u64) -> String {
    let seconds = end_us.saturating_sub(start_us) / 1_000_000;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours @ 1..=99, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => "> 99 h".to_owned(),
    }
}

fn seconds(us: u64) -> String {
    if us < 1_000_000_000_000 { format!("{:.1} s", us as f64 / 1e6) } else { "> 11 d".to_owned() }
}

fn millis(dms: u32) -> String {
    if dms < 1_000_000 { format!("{:.1}", ms(dms)) } else { format!("{}s", dms / 10_000) }
}

fn percent(part: u64, whole: u64) -> String {
    super::ratio(part, whole).map_or("-".to_owned(), |ratio| {
        if ratio < 10.0 { format!("{:.2} %", ratio * 100.0) } else { "> 999 %".to_owned() }
    })
}

/// A count in at most seven columns.
fn compact(count: u64) -> String {
    match count {
        0..10_000_000 => count.to_string(),
        10_000_000..10_000_000_000 => format!("{}M", count / 1_000_000),
        10_000_000_000..10_000_000_000_000 => format!("{}G", count / 1_000_000_000),
        _ => "> 10T".to_owned(),
    }
}

fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

fn right(table: &mut Table, columns: &[usize]) {
    for &column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn text(table: &Table) -> String {
    let mut out = String::new();
    for line in table.lines() {
        out += line.trim_end();
        out.push('\n');
    }
    out
}
