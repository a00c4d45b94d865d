//! The tables of devices and self-tests: totals of a call's devices, self-tests, and what one of these found.
//!
//! What is held against a limit is shown with all its digits or rounded down, so that nothing looks like a limit that
//! it missed.

use roomtone_protocol::device::{DeviceSummary, SelfTest, SelfTestOutcome};
use roomtone_protocol::ratio::Ratio;

use super::table::{DEVICE_COLUMNS, NAME_COLUMNS, NARROW, compact, plain, right, seconds, text};
use super::{Names, cause, episode_state, outcome, side};
use crate::call::device::{EndpointEpisode, glitches_per_5_minutes_tenths, is_poor};
use crate::store::SelfTestFacts;
use crate::text::{fit, short_time};

/// The room of a device's name beside nine other columns.
const SUMMARY_COLUMNS: usize = 18;
/// Its room where two devices stand side by side.
const TESTED_COLUMNS: usize = 13;
/// Marks a device that made the call poor.
const POOR: &str = "!";

/// The device totals of a call.
#[must_use]
pub fn totals(summaries: &[DeviceSummary]) -> String {
    let mut table = plain(
        &[
            "DEVICE", "SIDE", "BAD", "OBSERVED", "RATIO", "", "MUTED", "VOLUME 0", "GLITCHES",
            "EPISODES",
        ],
        NARROW,
    );
    right(&mut table, &[2, 3, 4, 6, 7, 8, 9]);
    for device in summaries {
        let bad = device.not_functioning;
        let share = |ratio: Ratio| share(ratio.part_us(), ratio.whole_us());
        let glitches = glitches_per_5_minutes_tenths(device);
        table.add_row([
            fit(&device.device, SUMMARY_COLUMNS),
            side(device.side).to_owned(),
            precise(bad.part_us()),
            precise(bad.whole_us()),
            share(bad),
            if is_poor(bad) { POOR } else { "" }.to_owned(),
            share(device.muted),
            device.zero_volume.map_or("-".to_owned(), share),
            glitches.map_or("-".to_owned(), tenths),
            compact(u64::from(device.episodes)),
        ]);
    }
    text(&table)
        + "bad = seconds not functioning, of the seconds observed; ! = 0.5 % or more; glitches in 5 minutes\n"
}

/// `episodes`.
#[must_use]
pub fn episodes(episodes: &[EndpointEpisode], names: &Names) -> String {
    if episodes.is_empty() {
        return "no episodes: every device functioned, as far as was told\n".to_owned();
    }
    let header =
        ["SINCE (UTC)", "ENDPOINT", "DEVICE", "SIDE", "CAUSE", "BAD TIME", "STATE", "CALL"];
    let mut table = plain(&header, NARROW);
    right(&mut table, &[5]);
    for EndpointEpisode { endpoint, told } in episodes {
        table.add_row([
            short_time(told.onset.wall_us),
            fit(&names.of(*endpoint), NAME_COLUMNS),
            fit(&told.device, SUMMARY_COLUMNS),
            side(told.side).to_owned(),
            cause(told.cause).to_owned(),
            seconds(told.bad_us),
            episode_state(told.state).to_owned(),
            told.call.map_or("-".to_owned(), |call| call.to_string()),
        ]);
    }
    text(&table)
}

/// `selftests`.
#[must_use]
pub fn self_tests(tests: &[SelfTestFacts], names: &Names) -> String {
    if tests.is_empty() {
        return "no self-tests\n".to_owned();
    }
    let mut table = plain(
        &["RECEIVED (UTC)", "ENDPOINT", "BY", "OUTCOME", "LEVEL", "DELAY", "CAPTURE", "RENDER"],
        NARROW,
    );
    right(&mut table, &[4, 5]);
    for facts in tests {
        let test = &facts.test;
        table.add_row([
            short_time(facts.received_us),
            fit(&names.of(facts.endpoint), NAME_COLUMNS),
            if test.requested { "request" } else { "hand" }.to_owned(),
            outcome(test.outcome).to_owned(),
            test.level_db_tenths.map_or("-".to_owned(), level),
            test.delay_us.map_or("-".to_owned(), delay),
            fit(&test.capture, TESTED_COLUMNS),
            fit(&test.render, TESTED_COLUMNS),
        ]);
    }
    text(&table)
        + "level in dB of full scale, delay in ms; by = begun on request of a collector or by hand\n"
}

/// What a self-test found, as one line for a person.
#[must_use]
pub fn verdict(test: &SelfTest) -> String {
    let capture = device_or(&test.capture, "no microphone");
    let render = device_or(&test.render, "no loudspeaker");
    let between = format!("microphone {capture}, loudspeaker {render}");
    let level = test.level_db_tenths.map(|it| format!(", level {} dB", level(it)));
    let delay = test.delay_us.map(|it| format!(", delay {} ms", delay(it)));
    let said = match test.outcome {
        SelfTestOutcome::Heard => "heard: the microphone hears the loudspeaker",
        SelfTestOutcome::NotHeard => {
            "not heard: the microphone lives and does not hear the loudspeaker"
        }
        SelfTestOutcome::NoSignal => "no signal: the microphone delivers nothing but one value",
        SelfTestOutcome::CaptureFailed => "the microphone cannot be opened or stopped early",
        SelfTestOutcome::RenderFailed => "the loudspeaker cannot be opened or stopped early",
        SelfTestOutcome::Busy => "not tested: another process holds a device",
        SelfTestOutcome::InCall => "refused: a call is on at the endpoint",
        SelfTestOutcome::NoDevice => "not tested: a device is missing",
    };
    format!("{said} ({between}{}{})", level.unwrap_or_default(), delay.unwrap_or_default())
}

fn device_or(name: &str, none: &str) -> String {
    if name.is_empty() { none.to_owned() } else { fit(name, DEVICE_COLUMNS) }
}

/// Microseconds as seconds with all their digits, in at most 13 columns.
fn precise(us: u64) -> String {
    if us < 1_000_000_000_000 {
        format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
    } else {
        "> 11 d".to_owned()
    }
}

/// A part of a whole in hundredths of a percent, rounded down, so that no share looks like a limit that it missed.
fn share(part: u64, whole: u64) -> String {
    match (u128::from(part) * 10_000).checked_div(u128::from(whole)) {
        Some(share) => format!("{}.{:02}%", share / 100, share % 100),
        None => "-".to_owned(),
    }
}

/// Tenths in at most eight columns.
fn tenths(tenths: u64) -> String {
    if tenths < 1_000_000 {
        format!("{}.{}", tenths / 10, tenths % 10)
    } else {
        compact(tenths / 10)
    }
}

fn level(db_tenths: i16) -> String {
    format!("{:.1}", f64::from(db_tenths) / 10.0)
}

/// Microseconds as milliseconds in at most seven columns.
fn delay(us: u32) -> String {
    if us < 100_000_000 { format!("{:.1}", f64::from(us) / 1e3) } else { "> 100 s".to_owned() }
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::device::DeviceSide;
    use roomtone_protocol::id::CallId;

    use super::*;

    /// 0.005 of 600 s are 3 s. One microsecond less is 0.49999983 %, which must not read as the limit.
    #[test]
    fn device_is_marked_from_the_limit_on_and_shows_part_and_whole_exactly() {
        let device = |part_us| DeviceSummary {
            not_functioning: Ratio::new(part_us, 600_000_000).unwrap(),
            zero_volume: None,
            glitches: Some(15),
            call: CallId(1),
            device: "headset".try_into().unwrap(),
            side: DeviceSide::Capture,
            muted: Ratio::UNOBSERVED,
            episodes: 1,
            detector: 1,
        };
        let row = |part_us| totals(&[device(part_us)]).lines().nth(1).unwrap().to_owned();
        let (at, below) = (row(3_000_000), row(2_999_999));
        assert!(at.contains("3.000000 600.000000 0.50% ! "), "{at}");
        assert!(below.contains("2.999999 600.000000 0.49%   "), "{below}");
        // 15 glitches in 600 s are 7.5 in 300 s.
        assert!(at.contains(" - ") && at.contains(" 7.5 "), "{at}");
    }
}
