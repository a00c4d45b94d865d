//! The RTP clock rate of a stream, by its payload type or by the slope of RTP time over arrival time.
//!
//! All browsers and Teams use dynamic payload types, and a passive observer sees no SDP.

use std::time::Duration;

use roomtone_protocol::media::ClockRateSource;

use crate::clock::Moment;

/// The rates that audio and video codecs use in practice (RFC 3551, 7587, 3389; Teams: SILK 8..24 kHz, Opus 48 kHz,
/// Satin 32 kHz).
const RATES_HZ: [u32; 6] = [8_000, 16_000, 24_000, 32_000, 48_000, 90_000];
/// One look at the slope takes this long; two looks in a row must agree.
const LOOK: Duration = Duration::from_secs(1);
/// Fewest packets in one look.
const LOOK_PACKETS: u32 = 8;
/// The rate is looked at once more over this long, where a step in delay cannot bend the slope by 10 %.
const CONFIRM: Duration = Duration::from_secs(10);
/// The longest look: RTP time of 90 kHz comes round in 13 hours, and beyond half of that a slope may be any.
const LOOK_MAX: Duration = Duration::from_secs(6 * 3_600);
/// The shortest stream whose slope says anything: ten frames of 20 ms.
const SHORT: Duration = Duration::from_millis(200);
/// How far the slope may lie from a rate, in percent: half the way between 24 and 32 kHz is 15 %.
const TOLERANCE_PERCENT: u64 = 14;

/// Returns the clock rate that RFC 3551 assigns to a payload type, in Hz.
///
/// G.722 (9) samples at 16 kHz but its RTP clock runs at 8 kHz (RFC 3551 section 4.5.2).
#[must_use]
pub fn static_rate_hz(payload_type: u8) -> Option<u32> {
    match payload_type {
        0 | 3..=5 | 7..=9 | 12 | 13 | 15 | 18 => Some(8_000),
        6 => Some(16_000),
        10 | 11 => Some(44_100),
        16 => Some(11_025),
        17 => Some(22_050),
        14 | 25 | 26 | 28 | 31..=34 => Some(90_000),
        _ => None,
    }
}

/// What is known of one stream's clock.
#[derive(Debug, Clone)]
pub struct ClockRate {
    rate_hz: Option<u32>,
    source: ClockRateSource,
    /// The first packet, for the confirming look; `None` once confirmed.
    start: Option<Look>,
    look: Look,
    guess: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Moment,
    timestamp: u32,
    packets: u32,
}

impl ClockRate {
    /// Begins with a stream's first packet.
    #[must_use]
    pub fn new(payload_type: u8, timestamp: u32, now: Moment) -> Self {
        let rate_hz = static_rate_hz(payload_type);
        let look = Look { at: now, timestamp, packets: 0 };
        Self {
            rate_hz,
            source: if rate_hz.is_some() {
                ClockRateSource::Static
            } else {
                ClockRateSource::Unknown
            },
            start: rate_hz.is_none().then_some(look),
            look,
            guess: None,
        }
    }

    /// The rate in Hz, where it is known.
    #[must_use]
    pub fn rate_hz(&self) -> Option<u32> {
        self.rate_hz
    }

    /// Where it comes from.
    #[must_use]
    pub fn source(&self) -> ClockRateSource {
        self.source
    }

    /// Takes a packet that advanced its sequence; returns whether the rate changed.
    pub fn handle(&mut self, timestamp: u32, now: Moment) -> bool {
        let Some(start) = self.start else {
            return false;
        };
        self.look.packets += 1;
        if self.look.packets >= LOOK_PACKETS && now.since(self.look.at) >= LOOK {
            let seen = nearest(self.look, timestamp, now);
            let agreed = seen.is_some() && seen == self.guess;
            self.guess = seen;
            self.look = Look { at: now, timestamp, packets: 0 };
            if agreed && self.rate_hz.is_none() {
                return self.learn(seen);
            }
        }
        if now.since(start.at) >= CONFIRM {
            let confirmed = nearest(start, timestamp, now);
            // A restart or a paused sender bends the long slope: then look at the next ten seconds.
            self.start = match confirmed {
                Some(_) => None,
                None => Some(Look { at: now, timestamp, packets: 0 }),
            };
            if confirmed.is_some() && confirmed != self.rate_hz {
                return self.learn(confirmed);
            }
        }
        false
    }

    fn learn(&mut self, rate_hz: Option<u32>) -> bool {
        self.rate_hz = rate_hz;
        self.source = ClockRateSource::Slope;
        true
    }
}

/// The rate of a stream that ended too early for two looks, from the packets that waited: at least eight over at
/// least 200 ms.
#[must_use]
pub fn of_short_stream(packets: &[(Moment, u32)]) -> Option<u32> {
    let (&(began, first), &(ended, last)) = (packets.first()?, packets.last()?);
    if packets.len() < LOOK_PACKETS as usize || ended.since(began) < SHORT {
        return None;
    }
    nearest(Look { at: began, timestamp: first, packets: 0 }, last, ended)
}

/// The known rate nearest to the slope between two packets.
fn nearest(from: Look, timestamp: u32, now: Moment) -> Option<u32> {
    let elapsed = now.since(from.at);
    if elapsed > LOOK_MAX {
        return None;
    }
    let ticks = u64::from(timestamp.wrapping_sub(from.timestamp));
    let micros = u64::try_from(elapsed.as_micros()).ok()?.max(1);
    let slope = ticks.checked_mul(1_000_000)? / micros;
    RATES_HZ
        .into_iter()
        .find(|&rate| u64::from(rate).abs_diff(slope) * 100 <= u64::from(rate) * TOLERANCE_PERCENT)
}

/// Whether RTP time and arrival time of a few packets can belong to any clock at all: 4 to 200 kHz.
///
/// Wide, because four packets may come in one burst; narrow enough for counters and noise. `elapsed` of zero says
/// nothing.
#[must_use]
pub fn is_plausible(ticks: u32, elapsed: Duration) -> bool {
    let micros = elapsed.as_micros();
    let scaled = u128::from(ticks) * 1_000_000;
    (4_000 * micros..=200_000 * micros).contains(&scaled)
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::media::ClockRateSource;

    use super::{ClockRate, is_plausible, static_rate_hz};
    use crate::clock::Moment;
    use std::time::Duration;

    /// Feeds 20 ms packets whose arrival is shifted by `delay_ms(n)`.
    fn learn(rate: u32, packets: u64, delay_ms: impl Fn(u64) -> u64) -> ClockRate {
        let at = |n: u64| Moment::from_nanos((n * 20 + delay_ms(n)) * 1_000_000);
        let ticks = |n: u64| (4_000_000_000u64 + n * u64::from(rate) / 50) as u32;
        let mut clock = ClockRate::new(111, ticks(0), at(0));
        for n in 1..packets {
            clock.handle(ticks(n), at(n));
        }
        clock
    }

    #[test]
    fn every_rate_is_found_by_its_slope_in_two_seconds_and_a_bit() {
        for rate in [8_000, 16_000, 24_000, 32_000, 48_000, 90_000] {
            let clock = learn(rate, 103, |n| n * 7919 % 25);
            assert_eq!((clock.rate_hz(), clock.source()), (Some(rate), ClockRateSource::Slope));
        }
    }

    #[test]
    fn step_in_delay_during_the_first_look_is_put_right() {
        // 300 ms more from the 30th packet on: the first look sees 48 kHz as 37 kHz.
        let clock = learn(48_000, 600, |n| if n < 30 { 0 } else { 300 });
        assert_eq!(clock.rate_hz(), Some(48_000));
    }

    #[test]
    fn silence_in_which_rtp_time_comes_round_changes_no_rate() {
        // 3 s of 48 kHz, then 30 h of silence: the wrapped time over it looks like 8,233 Hz.
        let mut clock = learn(48_000, 150, |_| 0);
        let later = 30 * 3_600 * 50;
        let at = |n: u64| Moment::from_nanos(n * 20_000_000);
        for n in later..later + 1_000 {
            clock.handle((4_000_000_000 + n * 960) as u32, at(n));
        }
        assert_eq!(clock.rate_hz(), Some(48_000));
    }

    #[test]
    fn static_types_need_no_slope() {
        assert_eq!(ClockRate::new(9, 0, Moment::ORIGIN).rate_hz(), Some(8_000), "the G.722 trap");
        assert_eq!(static_rate_hz(96), None);
    }

    #[test]
    fn constant_or_wild_time_has_no_rate() {
        assert_eq!(learn(0, 600, |_| 0).rate_hz(), None);
        assert_eq!(learn(3_000_000, 600, |_| 0).rate_hz(), None);
    }

    #[test]
    fn plausibility_is_a_wide_gate() {
        assert!(is_plausible(2_880, Duration::from_millis(60)));
        assert!(is_plausible(2_880, Duration::from_millis(15)), "in a burst");
        assert!(!is_plausible(3, Duration::from_millis(60)), "a counter");
        assert!(!is_plausible(2_000_000_000, Duration::from_millis(60)), "noise");
    }
}
