//! How values look to people and in JSON: the same everywhere.

use std::time::{Duration, SystemTime};

use comfy_table::{ContentArrangement, Table, presets};
use roomtone_protocol::configuration::Outcome;
use roomtone_protocol::media::{ClockRateSource, Direction, Media, Transport};

/// The width that every table keeps to, in columns.
pub const COLUMNS: u16 = 100;

/// Milliseconds with three decimals.
#[must_use]
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// RFC 3339 in UTC with microseconds.
#[must_use]
pub fn rfc3339(wall_us: u64) -> String {
    // humantime refuses years beyond 9999.
    let latest = 253_402_300_799_000_000;
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(wall_us.min(latest));
    humantime::format_rfc3339_micros(at).to_string()
}

/// Bytes in hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What became of a collector's configuration, as one word.
#[must_use]
pub fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::InForce => "inForce",
        Outcome::OnTrial => "onTrial",
        Outcome::WaitsForCall => "waitsForCall",
        Outcome::Refused => "refused",
        Outcome::RolledBack => "rolledBack",
    }
}

/// The name of a transport.
#[must_use]
pub fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Turn => "turn",
    }
}

/// The name of a direction.
#[must_use]
pub fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// The name of a kind of media.
#[must_use]
pub fn media(media: Media) -> &'static str {
    match media {
        Media::Unknown => "unknown",
        Media::Audio => "audio",
        Media::Video => "video",
        Media::Rtx => "rtx",
    }
}

/// The name of a clock rate's source.
#[must_use]
pub fn clock_rate_source(source: ClockRateSource) -> &'static str {
    match source {
        ClockRateSource::Static => "static",
        ClockRateSource::Slope => "slope",
        ClockRateSource::Unknown => "unknown",
    }
}

/// An empty table in the house's style.
#[must_use]
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_width(COLUMNS).set_header(header);
    table
}

/// As [`table`], for cells of any length: they wrap where a row would be wider than [`COLUMNS`].
#[must_use]
pub fn wrapping_table(header: &[&str]) -> Table {
    let mut table = table(header);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table
}
