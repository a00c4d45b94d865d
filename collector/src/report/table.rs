//! The tables of the reading commands, at most [`COLUMNS`] wide whatever peers call themselves.
//!
//! Cells from outside are escaped and cut to a fixed room, so that no table ever wraps.

mod heard;
pub(super) mod surroundings;

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use roomtone_protocol::call::CallCloseReason;
use roomtone_protocol::media::Direction;

use super::verdict::Ratings;
use super::{Names, cause, devices, direction, episode_state, media, ms, side, state, transport};
use crate::call::view::{CallState, CallView, DirectionView, LegView, RttView, Source, StreamView};
use crate::store::EndpointFacts;
use crate::text::{fit, rfc3339, short_time};

/// The widest line of any table.
pub const COLUMNS: usize = 100;

/// The room of an endpoint's name.
pub(super) const NAME_COLUMNS: usize = 17;
/// The room of a device's name.
pub(super) const DEVICE_COLUMNS: usize = 34;
/// The most intervals of a leg that a table shows; JSON has them all.
const INTERVALS_MAX: usize = 60;

/// `calls`.
#[must_use]
pub fn calls(views: &[CallView], names: &Names, ratings: &Ratings) -> String {
    if views.is_empty() {
        return "no calls\n".to_owned();
    }
    let mut table = plain(
        &[
            "CALL",
            "ENDPOINT",
            "STARTED (UTC)",
            "LASTED",
            "STATE",
            "LOSS IN",
            "OUT",
            "JITTER",
            "RTT",
        ],
        NARROW,
    );
    right(&mut table, &[3, 5, 6, 7, 8]);
    for view in views {
        let (expected_in, lost_in, jitter_in) = view.audio(Direction::Ingress);
        let (expected_out, lost_out, _) = view.audio(Direction::Egress);
        table.add_row([
            view.call.to_string(),
            fit(&names.of(view.endpoint), NAME_COLUMNS),
            short_time(view.start_us),
            lasted(view),
            label(view, ratings),
            percent(lost_in, expected_in),
            percent(lost_out, expected_out),
            jitter_in.map_or("-".to_owned(), millis),
            view.rtt_mean_dms().map_or("-".to_owned(), millis),
        ]);
    }
    text(&table)
        + "loss of audio in and out; mean jitter in, mean round trip in ms; * = rehearsal\n"
}

/// `call ID`; `judgement` stands behind its head.
#[must_use]
pub fn call(view: &CallView, names: &Names, judgement: &str) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<10} {}", fit(&value, COLUMNS - 11));
    };
    line("call", format!("{}{}", view.call, rehearsal(view)));
    line("endpoint", format!("{} ({})", names.of(view.endpoint), view.endpoint));
    line("state", since(view));
    line("started", rfc3339(view.start_us).unwrap_or_else(|| "-".to_owned()));
    if let Some(end_us) = view.end_us {
        line("ended", rfc3339(end_us).unwrap_or_else(|| "-".to_owned()));
    }
    line("lasted", lasted(view));
    for it in &view.networks {
        line("network", surroundings::network(it));
        surroundings::wifi(it).into_iter().for_each(|wifi| line("wi-fi", wifi));
    }
    out += judgement;
    for leg in &view.legs {
        out.push('\n');
        out += &leg_text(leg);
    }
    if !view.devices.is_empty() {
        out.push('\n');
        out += &devices::totals(&view.devices);
    }
    if !view.events.is_empty() {
        out.push('\n');
        out += &surroundings::events(&view.events);
    }
    if !view.episodes.is_empty() {
        out.push('\n');
        let mut table =
            plain(&["EPISODE", "SIDE", "CAUSE", "SINCE (UTC)", "BAD TIME", "STATE"], WIDE);
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
        plain(&["ENDPOINT", "NAME", "LAST SEEN", "", "CALLS", "RECORDS", "LOST"], NARROW);
    right(&mut table, &[4, 5, 6]);
    for it in endpoints {
        table.add_row([
            it.endpoint.to_string(),
            fit(&it.name, NAME_COLUMNS),
            short_time(it.last_seen_us),
            if it.connected { "up" } else { "-" }.to_owned(),
            compact(it.calls),
            compact(it.counts.stored),
            format!("{}+{}", short(it.counts.reported_lost), short(it.counts.missing)),
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
    if let Some(reflexive) = leg.reflexive {
        let _ = writeln!(out, "  seen as  {reflexive}");
    }
    let _ = writeln!(out, "  rtt      {}", rtt(&leg.rtt));
    if leg.tap_dropped > 0 {
        let dropped = compact(leg.tap_dropped);
        let _ = writeln!(out, "  tap      lost {dropped} packets itself: loss below may be ours");
    }
    let mut table = plain(
        &["  SSRC", "DIRECTION", "MEDIA", "RECEIVED", "EXPECTED", "LOST", "LOSS", "JITTER", "MAX"],
        WIDE,
    );
    right(&mut table, &[3, 4, 5, 6, 7, 8]);
    for stream in &leg.streams {
        table.add_row(stream_row(stream));
    }
    out += &text(&table);
    out += &heard::heard(leg);
    out += &heard::remarks(leg);
    if leg.intervals.is_empty() {
        return out;
    }
    let mut table = plain(
        &[
            "  FROM", "FOR", "IN", "LOST", "JITTER", "MAX", "CONC", "OUT", "LOST", "JITTER", "RTT",
            "MARKS",
        ],
        NARROW,
    );
    right(&mut table, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
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
            interval.ingress.heard_us.map_or("-".to_owned(), |(part, whole)| percent(part, whole)),
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
    let jitter = |dms: Option<u32>| dms.map_or("-".to_owned(), millis);
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

fn label(view: &CallView, ratings: &Ratings) -> String {
    let mark = if view.is_rehearsal() { "*" } else { "" };
    let rating = ratings.word((view.endpoint, view.call));
    format!("{}{mark}", rating.unwrap_or_else(|| state(view.state)))
}

fn rehearsal(view: &CallView) -> &'static str {
    if view.is_rehearsal() { " (rehearsal, not a meeting)" } else { "" }
}

/// The state and, where nobody tells any more, since when.
fn since(view: &CallView) -> String {
    let heard = || rfc3339(view.last_heard_us).unwrap_or_else(|| "-".to_owned());
    match view.state {
        CallState::Live | CallState::Closed(CallCloseReason::Idle) => state(view.state).to_owned(),
        CallState::Closed(CallCloseReason::AgentStopped) => "closed, its agent stopped".to_owned(),
        CallState::Silent => format!("silent since {}, its endpoint is connected", heard()),
        CallState::Unknown => format!("unknown since {}, its endpoint is not connected", heard()),
    }
}

fn lasted(view: &CallView) -> String {
    let by_wall = || latest_us(view).saturating_sub(view.start_us);
    clock(view.lasted_us.unwrap_or_else(by_wall))
}

fn clock(us: u64) -> String {
    let seconds = us / 1_000_000;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours @ 1..=99, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => "> 99 h".to_owned(),
    }
}

pub(super) fn seconds(us: u64) -> String {
    if us < 1_000_000_000_000 { format!("{:.1} s", us as f64 / 1e6) } else { "> 11 d".to_owned() }
}

pub(super) fn millis(dms: u32) -> String {
    if dms < 1_000_000 { format!("{:.1}", ms(dms)) } else { format!("{}s", dms / 10_000) }
}

pub(super) fn percent(part: u64, whole: u64) -> String {
    super::ratio(part, whole).map_or("-".to_owned(), |ratio| {
        if ratio <= 9.99 { format!("{:.2}%", ratio * 100.0) } else { "> 999%".to_owned() }
    })
}

/// A count in at most seven columns.
pub(super) fn compact(count: u64) -> String {
    match count {
        0..10_000_000 => count.to_string(),
        10_000_000..10_000_000_000 => format!("{}M", count / 1_000_000),
        10_000_000_000..10_000_000_000_000 => format!("{}G", count / 1_000_000_000),
        _ => "> 10T".to_owned(),
    }
}

/// A count in at most four columns.
fn short(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{}k", count / 1_000),
        1_000_000..1_000_000_000 => format!("{}M", count / 1_000_000),
        _ => ">1G".to_owned(),
    }
}

/// Spaces between the columns of a table that needs the room, and of one that does not.
pub(super) const NARROW: u16 = 1;
const WIDE: u16 = 2;

pub(super) fn plain(header: &[&str], gap: u16) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, gap));
    }
    table
}

pub(super) fn right(table: &mut Table, columns: &[usize]) {
    for &column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

pub(super) fn text(table: &Table) -> String {
    let mut out = String::new();
    for line in table.lines() {
        out += line.trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::call::CallPurpose;
    use roomtone_protocol::client_event::{
        ClientEvent, ClientEventKind, ClientEventValue, ClientEvents, UnknownBecause,
    };
    use roomtone_protocol::device::{
        DeviceCause, DeviceEpisode, DeviceSide, DeviceSummary, EpisodeState, SelfTest,
        SelfTestOutcome,
    };
    use roomtone_protocol::heard::{NetworkRating, StreamHeard, Stretches};
    use roomtone_protocol::id::{CallId, EndpointId, Epoch, LegNumber, RecordId, Sequence};
    use roomtone_protocol::media::{
        LegOpened, Media, RttSummary, StreamKey, StreamMarking, StreamReported, Transport,
    };
    use roomtone_protocol::network::{ConnectionType, NetworkAttachment, Wifi, WifiRadio};
    use roomtone_protocol::ratio::Ratio;
    use roomtone_protocol::time::Stamp;
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::call::view::{HeardView, IntervalView};
    use crate::store::{LinkTransport, RecordCounts, SelfTestFacts};

    const NAME: &str = "東京\u{1b}[31m\u{202e}会議室会議室会議室会議室会議室会議室会議室会議室";

    fn widest() -> CallView {
        let address = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535".parse().unwrap();
        let last = Stamp { wall_us: 253_402_300_799_999_999, uptime_us: u64::MAX };
        let direction = DirectionView {
            received: u64::MAX,
            lost: i64::MIN,
            jitter_mean_dms: Some(u32::MAX),
            jitter_max_dms: Some(u32::MAX),
            heard_us: Some((u64::MAX, u64::MAX)),
        };
        let rtt = RttView {
            count: u64::MAX,
            min_dms: u32::MAX,
            mean_dms: u32::MAX,
            max_dms: u32::MAX,
            last_dms: Some(u32::MAX),
        };
        let most = Stretches { count: u32::MAX, frames: u32::MAX, missing: u32::MAX };
        let totals = StreamHeard {
            stream: 0,
            model: u16::MAX,
            total_us: u64::MAX,
            concealed_us: u64::MAX,
            stretched_us: u64::MAX,
            compressed_us: u64::MAX,
            played: u64::MAX,
            discarded: u64::MAX,
            delay_mean_dms: u32::MAX,
            delay_max_dms: u32::MAX,
            worst_second_us: u32::MAX,
            worst_interval_total_us: u32::MAX,
            worst_interval_concealed_us: u32::MAX,
            resets: u32::MAX,
            frame_us: u32::MAX,
            bursts: most,
            gaps: most,
            runs: [u32::MAX; 8],
            rating: NetworkRating::NothingHeard,
        };
        let stream = |direction| StreamView {
            key: StreamKey { ssrc: [255; 4], direction, media: Media::Audio },
            payload_types: vec![127; 4],
            clock_rate_hz: Some(u32::MAX),
            clock_rate_source: None,
            span_us: Some((0, u64::MAX)),
            received: u64::MAX,
            expected: 1,
            lost: u64::MAX,
            duplicate: u64::MAX,
            reordered: u64::MAX,
            sequence_restarts: u64::MAX,
            jitter_mean_dms: Some(999_999),
            jitter_max_dms: Some(u32::MAX),
            jitter_last_dms: Some(u32::MAX),
            heard: Some(HeardView {
                total_us: 999_999_900_000,
                concealed_us: 999_999_900_000,
                played: u64::MAX,
                discarded: u64::MAX,
                worst_second_us: u32::MAX,
                worst_interval_us: Some((u32::MAX, 1)),
                delay_mean_dms: Some(u32::MAX),
                totals: Some(totals),
            }),
            marking: Some(StreamMarking { stream: 0, dscp: u8::MAX, others: u32::MAX }),
            reported: Some(StreamReported {
                stream: 0,
                reports: u32::MAX,
                lost: i32::MIN,
                fraction_lost_max: u8::MAX,
                jitter_mean_dms: Some(u32::MAX),
                jitter_max_dms: Some(u32::MAX),
                rtt: RttSummary { count: 1, mean_dms: u32::MAX, ..RttSummary::default() },
            }),
        };
        let device = "東".repeat(26).as_str().try_into().unwrap();
        CallView {
            endpoint: EndpointId([255; 16]),
            call: CallId(u64::MAX),
            purpose: Some(CallPurpose::Rehearsal),
            state: CallState::Unknown,
            start_us: 0,
            end_us: Some(359_999_000_000),
            last_heard_us: 253_402_300_799_999_999,
            lasted_us: Some(359_999_000_000),
            legs: vec![LegView {
                leg: u16::MAX,
                opened: Some(LegOpened {
                    call: CallId(u64::MAX),
                    leg: LegNumber(u16::MAX),
                    opened: last,
                    local: address,
                    remote: address,
                    transport: Transport::Turn,
                }),
                source: Source::Intervals,
                start_us: Some(0),
                end_us: Some(u64::MAX),
                rtt,
                tap_dropped: u64::MAX,
                reflexive: Some(address),
                streams: vec![stream(Direction::Ingress), stream(Direction::Egress)],
                intervals: vec![
                    IntervalView {
                        number: u32::MAX,
                        started_ms: last.wall_us / 1_000,
                        duration_ms: 999_999_900,
                        ingress: direction,
                        egress: direction,
                        rtt,
                        rtt_unanswered: 1,
                        tap_dropped: 1,
                    };
                    INTERVALS_MAX + 1
                ],
            }],
            episodes: vec![DeviceEpisode {
                episode: u64::MAX,
                call: None,
                device,
                side: DeviceSide::Capture,
                cause: DeviceCause::ConstantSignal,
                onset: last,
                bad_us: 999_999_900_000,
                state: EpisodeState::Unrecovered,
            }],
            devices: vec![DeviceSummary {
                call: CallId(u64::MAX),
                device: "東".repeat(26).as_str().try_into().unwrap(),
                side: DeviceSide::Capture,
                not_functioning: Ratio::new(999_999_900_000, 999_999_900_000).unwrap(),
                muted: Ratio::new(1, 1).unwrap(),
                episodes: u32::MAX,
                detector: u16::MAX,
                zero_volume: Ratio::new(1, 1),
                glitches: Some(u32::MAX),
            }],
            networks: vec![NetworkAttachment {
                at: last,
                call: None,
                interface: "\u{1b}[31m\u{202e}".try_into().unwrap(),
                connection: ConnectionType::Unknown,
                is_vpn: true,
                is_default_route: true,
                address: "2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap(),
                prefix: u8::MAX,
                mtu: Some(u32::MAX),
                speed_mbps: Some(u32::MAX),
                wifi: Some(Wifi {
                    ssid: NAME.chars().take(30).collect::<String>().as_str().try_into().unwrap(),
                    bssid: [255; 6],
                    frequency_mhz: u16::MAX,
                    signal_dbm: Some(i16::MIN),
                    radio: WifiRadio::Ac,
                }),
            }],
            events: vec![ClientEvents {
                call: CallId(u64::MAX),
                leg: Some(LegNumber(u16::MAX)),
                rules: u16::MAX,
                events: [
                    ClientEventValue::Ratio(Ratio::new(1, 999_999_900_000).unwrap()),
                    ClientEventValue::Count(u32::MAX),
                    ClientEventValue::Unknown(UnknownBecause::NothingObserved),
                ]
                .map(|value| ClientEvent {
                    kind: ClientEventKind::DeviceCaptureNotFunctioning,
                    value,
                })
                .into_iter()
                .collect(),
            }],
        }
    }

    #[test]
    fn no_line_is_wider_than_a_hundred_columns_and_none_steers_the_terminal() {
        let facts = EndpointFacts {
            endpoint: EndpointId([255; 16]),
            name: NAME.to_owned(),
            agent_version: NAME.to_owned(),
            link: Some((LinkTransport::Quic, "[::1]:1".parse().unwrap())),
            first_seen_us: 0,
            last_seen_us: 253_402_300_799_999_999,
            connected: true,
            calls: u64::MAX,
            counts: RecordCounts {
                stored: u64::MAX,
                unknown: 0,
                refused: 0,
                duplicate: 0,
                reported_lost: 9_999,
                missing: 999_999,
            },
        };
        let names = Names::new(std::slice::from_ref(&facts));
        let outcomes = [SelfTestOutcome::CaptureFailed, SelfTestOutcome::NotHeard];
        let tests = outcomes.map(|outcome| SelfTestFacts {
            endpoint: EndpointId([255; 16]),
            by: RecordId { epoch: Epoch(1), sequence: Sequence(1) },
            received_us: 253_402_300_799_999_999,
            test: SelfTest {
                ended: Stamp { wall_us: u64::MAX, uptime_us: u64::MAX },
                requested: true,
                capture: "東".repeat(26).as_str().try_into().unwrap(),
                render: NAME.chars().take(20).collect::<String>().as_str().try_into().unwrap(),
                outcome,
                level_db_tenths: Some(i16::MIN),
                delay_us: Some(u32::MAX),
            },
        });
        assert!(!devices::verdict(&tests[1].test).contains(['\u{1b}', '\u{202e}']));
        let texts = [
            calls(&[widest()], &names, &Ratings::default()),
            call(&widest(), &names, ""),
            devices::self_tests(&tests, &names),
            endpoints(&[facts]),
        ];
        for line in texts.iter().flat_map(|text| text.lines()) {
            assert!(line.width() <= COLUMNS, "{} columns: {line}", line.width());
            assert!(!line.contains(['\u{1b}', '\u{202e}']), "{line:?}");
        }
    }

    #[test]
    fn counts_and_shares_stay_readable() {
        assert_eq!(percent(1, 8), "12.50%");
        assert_eq!(percent(0, 0), "-");
        assert_eq!((compact(9_999_999), compact(10_000_000)), ("9999999".into(), "10M".into()));
        assert_eq!(clock(3_725_000_000), "1:02:05");
    }
}
