//! A short quiet chirp, and where a recording has it.
//!
//! The chirp sweeps the voice band in 300 ms, so that its energy is spread over 900 independent pieces of time and
//! band, and a matched filter gathers what no ear would hear. [`find`] brings a recording to 8 kHz and to that band
//! (hum, rumble and a constant offset go), and compares each of its stretches with the chirp by normalised
//! cross-correlation: the score is the share of a stretch that is the chirp, 0..=1, whatever its loudness or
//! polarity. Alone it scores 1, beside as much noise in the band 0.71, at a signal-to-noise ratio of s
//! sqrt(s / (1 + s)).
//!
//! [`SCORE_MIN`] lies between what the tests at the foot of this file measure: at most 0.18 in noise, tones, zeros and
//! sounds that move like speech; at least 0.28 for a chirp 8 dB below the noise of its band. What it leaves out: a
//! device that cancels its own echo is heard by nobody, least of all by itself.

use std::f64::consts::{PI, TAU};
use std::time::Duration;

/// How long it sounds.
pub const CHIRP: Duration = Duration::from_millis(300);
/// The score from which a chirp counts as heard.
pub const SCORE_MIN: f32 = 0.25;
/// How loud a chirp is unless somebody asks otherwise, in dB of full scale, of a sine's peak.
pub const LEVEL_DB: f32 = -30.0;
/// The loudest that may be asked for: somebody may wear the headset.
pub const LEVEL_DB_MAX: f32 = -12.0;
/// The quietest that makes sense: 36 steps of 16 bits.
pub const LEVEL_DB_MIN: f32 = -60.0;
/// The longest recording that is looked at; what is beyond is left out.
pub const RECORDING_MAX: Duration = Duration::from_secs(5);

/// Where the sweep begins and ends: telephones carry 300 to 3,400 Hz, and small loudspeakers not much more.
const FROM_HZ: f64 = 500.0;
const TO_HZ: f64 = 3_300.0;
/// Fades that keep it from clicking, in seconds.
const FADE_S: f64 = 0.02;
/// The rate at which recordings are compared.
const REDUCED_HZ: u32 = 8_000;
/// Where the band ends below: above hum and the rumble of desks.
const HIGH_PASS_HZ: f64 = 300.0;
/// Where it ends above, below half of [`REDUCED_HZ`].
const LOW_PASS_HZ: f64 = 3_600.0;
/// Half the length of the low-pass filter, in seconds: its edge is some 250 Hz wide.
const LOW_PASS_HALF_S: f64 = 0.004;
/// Places between two samples for which the filter is kept.
const PHASES: usize = 32;
/// What is quieter than this, of full scale, is silence: 10 dB below the smallest step of 16 bits.
const SILENCE: f64 = 1e-5;
/// Rates that sound cards have.
const RATES_HZ: std::ops::RangeInclusive<u32> = 8_000..=384_000;

/// Where a recording is most like the chirp.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// How much of the stretch is the chirp, 0..=1.
    pub score: f32,
    /// When it begins, from the beginning of the recording; to 0.125 ms.
    pub at: Duration,
    /// How loud the chirp in it is, in dB of full scale, of a sine's peak.
    pub level_db: f32,
}

impl Match {
    /// Whether it is the chirp.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.score >= SCORE_MIN
    }
}

/// The chirp as samples at `rate_hz`, its sine's peak at `level_db` of full scale, but not beyond [`LEVEL_DB_MAX`].
#[must_use]
pub fn chirp(rate_hz: u32, level_db: f32) -> Vec<f32> {
    let peak = 10f64.powf(f64::from(level_db.min(LEVEL_DB_MAX)) / 20.0);
    sweep(rate_hz).map(|value| (value * peak) as f32).collect()
}

/// The chirp with a peak of 1.
fn sweep(rate_hz: u32) -> impl Iterator<Item = f64> {
    let rate = f64::from(rate_hz.clamp(*RATES_HZ.start(), *RATES_HZ.end()));
    let length = CHIRP.as_secs_f64();
    (0..(length * rate) as u32).map(move |n| {
        let t = f64::from(n) / rate;
        let phase = TAU * (FROM_HZ * t + (TO_HZ - FROM_HZ) * t * t / (2.0 * length));
        let edge = (t.min(length - t) / FADE_S).min(1.0);
        phase.sin() * (0.5 - 0.5 * (PI * edge).cos())
    })
}

/// Finds the stretch of a recording of one channel that is most like the chirp; `None` where the recording is shorter
/// than the chirp or has no sensible rate. Work and memory are bounded by [`RECORDING_MAX`].
#[must_use]
pub fn find(recording: &[f32], rate_hz: u32) -> Option<Match> {
    if !RATES_HZ.contains(&rate_hz) {
        return None;
    }
    let samples_max = usize::try_from(RECORDING_MAX.as_secs() * u64::from(rate_hz)).ok()?;
    let recording = recording.get(..samples_max).unwrap_or(recording);
    // The same way for both: what the filters do to one they do to the other.
    let wanted: Vec<f32> = sweep(rate_hz).map(|value| value as f32).collect();
    let wanted = reduce(&wanted, rate_hz);
    let heard = reduce(recording, rate_hz);
    let last = heard.len().checked_sub(wanted.len())?;
    let wanted_energy = energy(&wanted);
    let silence = SILENCE * SILENCE * wanted.len() as f64;
    let mut stretch_energy = energy(&heard[..wanted.len()]);
    let mut best = (0.0f64, 0usize, 0.0f64);
    for at in 0..=last {
        let stretch = &heard[at..at + wanted.len()];
        let product = dot(stretch, &wanted);
        if stretch_energy > silence {
            let score = product.abs() / (stretch_energy * wanted_energy).sqrt();
            if score > best.0 {
                best = (score, at, product.abs() / wanted_energy);
            }
        }
        let (leaves, comes) = (heard[at], heard.get(at + wanted.len()).copied().unwrap_or(0.0));
        // Rounding leaves a remainder of either sign.
        stretch_energy = (stretch_energy - square(leaves) + square(comes)).max(0.0);
    }
    let (score, at, amplitude) = best;
    Some(Match {
        score: score.min(1.0) as f32,
        at: Duration::from_micros(at as u64 * 1_000_000 / u64::from(REDUCED_HZ)),
        level_db: 20.0 * amplitude.max(SILENCE).log10() as f32,
    })
}

fn square(value: f32) -> f64 {
    f64::from(value) * f64::from(value)
}

fn energy(samples: &[f32]) -> f64 {
    samples.iter().copied().map(square).sum()
}

/// In eight sums side by side, which a processor adds at once.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0f32; LANES];
    let (a_lanes, b_lanes) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_lanes.remainder().iter().zip(b_lanes.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_lanes.zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().copied().map(f64::from).sum::<f64>() + f64::from(rest)
}

/// Brings samples to [`REDUCED_HZ`] and to the chirp's band. What is no number is silence.
fn reduce(samples: &[f32], rate_hz: u32) -> Vec<f32> {
    let rate = f64::from(rate_hz);
    let samples = high_pass(samples, rate);
    let half = (LOW_PASS_HALF_S * rate).ceil() as usize;
    let kernels: Vec<Vec<f32>> =
        (0..PHASES).map(|phase| low_pass(phase as f64 / PHASES as f64, half, rate)).collect();
    // Zeros at both ends, so that each output has all its samples.
    let mut padded = vec![0.0; half];
    padded.extend(samples.iter());
    padded.resize(padded.len() + half + 1, 0.0);
    let outputs = samples.len() as u64 * u64::from(REDUCED_HZ) / u64::from(rate_hz);
    let output = |n: u64| {
        // In PHASES-ths of a sample, so that no rounding adds up.
        let place = n * u64::from(rate_hz) * PHASES as u64 / u64::from(REDUCED_HZ);
        let whole = (place / PHASES as u64) as usize;
        let kernel = &kernels[(place % PHASES as u64) as usize];
        dot(&padded[whole..whole + kernel.len()], kernel) as f32
    };
    (0..outputs).map(output).collect()
}

/// A Butterworth filter of second order (Bristow-Johnson, "Audio EQ Cookbook", HPF with Q = 1 / sqrt 2). It starts at
/// rest at the first sample's value, so that a constant offset makes no click.
fn high_pass(samples: &[f32], rate: f64) -> Vec<f32> {
    let omega = TAU * HIGH_PASS_HZ / rate;
    let alpha = omega.sin() / std::f64::consts::SQRT_2;
    let cos = omega.cos();
    let (b0, b1) = ((1.0 + cos) / 2.0, -(1.0 + cos));
    let (a0, a1, a2) = (1.0 + alpha, -2.0 * cos, 1.0 - alpha);
    let finite =
        |value: f32| if value.is_finite() { f64::from(value.clamp(-8.0, 8.0)) } else { 0.0 };
    let first = samples.first().copied().map_or(0.0, finite);
    let (mut x1, mut x2, mut y1, mut y2) = (first, first, 0.0, 0.0);
    let step = |sample: &f32| {
        let x = finite(*sample);
        let y = (b0 * x + b1 * x1 + b0 * x2 - a1 * y1 - a2 * y2) / a0;
        (x2, x1, y2, y1) = (x1, x, y1, y);
        y as f32
    };
    samples.iter().map(step).collect()
}

/// Weights of the samples around a place `fraction` behind the middle one: a sinc within a Hann window.
fn low_pass(fraction: f64, half: usize, rate: f64) -> Vec<f32> {
    let weight = |n: usize| {
        let offset = n as f64 - half as f64 - fraction;
        let x = 2.0 * LOW_PASS_HZ * offset / rate;
        let sinc = if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) };
        let inside = (offset / (half as f64 + 1.0)).clamp(-1.0, 1.0);
        sinc * (0.5 + 0.5 * (PI * inside).cos()) * 2.0 * LOW_PASS_HZ / rate
    };
    (0..=2 * half + 1).map(|n| weight(n) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64 as noise of a normal distribution (twelve uniform numbers have a variance of 1).
    struct Noise(u64);

    impl Noise {
        fn bits(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        fn normal(&mut self) -> f64 {
            (0..12).map(|_| (self.bits() >> 11) as f64 / (1u64 << 53) as f64).sum::<f64>() - 6.0
        }

        fn white(&mut self, samples: usize, rms: f64) -> Vec<f32> {
            (0..samples).map(|_| (self.normal() * rms) as f32).collect()
        }

        /// A voice that speaks: a pitch that glides, its harmonics, syllables of 80 to 300 ms, some of them hissed.
        fn speech(&mut self, seconds: f64, rate_hz: u32) -> Vec<f32> {
            let rate = f64::from(rate_hz);
            let mut out = Vec::new();
            let mut phase = 0.0f64;
            while out.len() < (seconds * rate) as usize {
                let uniform = |noise: &mut Self| (noise.bits() >> 40) as f64 / (1u64 << 24) as f64;
                let length = ((0.08 + 0.22 * uniform(self)) * rate) as usize;
                let (from, to) = (90.0 + 150.0 * uniform(self), 90.0 + 150.0 * uniform(self));
                let hissed = uniform(self) < 0.2;
                let formant = 400.0 + 2_200.0 * uniform(self);
                for n in 0..length {
                    let part = n as f64 / length as f64;
                    let pitch = from + (to - from) * part;
                    phase += pitch / rate;
                    let voice: f64 = (1..20)
                        .map(|k| {
                            let away = (f64::from(k) * pitch - formant) / 500.0;
                            (TAU * phase * f64::from(k)).sin() * (-away * away).exp()
                        })
                        .sum();
                    let value = if hissed { self.normal() } else { voice };
                    out.push((value * 0.1 * (PI * part).sin()) as f32);
                }
            }
            out
        }
    }

    /// The chirp at a place of a recording of 2 s, on top of what is there.
    fn mix(mut recording: Vec<f32>, rate_hz: u32, at: Duration, level_db: f32) -> Vec<f32> {
        let from = (at.as_secs_f64() * f64::from(rate_hz)) as usize;
        for (have, new) in recording[from..].iter_mut().zip(chirp(rate_hz, level_db)) {
            *have += new;
        }
        recording
    }

    fn near(found: Duration, truth: Duration) -> bool {
        found.abs_diff(truth) <= Duration::from_micros(250)
    }

    const RATE: u32 = 48_000;
    const TWO_SECONDS: usize = 2 * RATE as usize;

    #[test]
    fn chirp_is_as_loud_as_asked_and_never_too_loud() {
        let peak = |level| chirp(RATE, level).iter().fold(0f32, |peak, v| peak.max(v.abs()));
        // -30 dB are 0.0316, and -12 dB are 0.251.
        assert!((peak(-30.0) - 0.031_6).abs() < 0.000_1, "{}", peak(-30.0));
        assert!((peak(0.0) - 0.251).abs() < 0.001, "{}", peak(0.0));
        assert_eq!(chirp(RATE, -30.0).len(), 14_400);
        assert_eq!(chirp(RATE, -30.0)[0], 0.0);
    }

    #[test]
    fn chirp_is_found_at_each_delay_with_its_level_whatever_its_polarity() {
        for ms in [0, 1, 37, 250, 803, 1_500, 1_690] {
            let truth = Duration::from_millis(ms);
            let mut noise = Noise(ms);
            let mut recording = mix(noise.white(TWO_SECONDS, 1e-5), RATE, truth, -42.0);
            if ms % 2 == 1 {
                recording.iter_mut().for_each(|value| *value = -*value);
            }
            let found = find(&recording, RATE).unwrap();
            assert!(found.score > 0.98 && near(found.at, truth), "{ms} ms: {found:?}");
            assert!((found.level_db + 42.0).abs() < 0.2, "{ms} ms: {found:?}");
        }
    }

    #[test]
    fn chirp_is_found_at_each_rate_of_recording() {
        for rate in [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000] {
            let truth = Duration::from_millis(321);
            let silence = vec![0.0; 2 * rate as usize];
            let found = find(&mix(silence, rate, truth, -42.0), rate).unwrap();
            assert!(found.score > 0.98 && near(found.at, truth), "{rate} Hz: {found:?}");
            assert!((found.level_db + 42.0).abs() < 0.2, "{rate} Hz: {found:?}");
        }
    }

    /// A sine of peak A has A^2 / 2. Of white noise 2,800 of 24,000 Hz lie within the sweep, so a chirp of -42 dB
    /// (A^2 / 2 = 3.15e-5) is 8 dB below the noise of its band where that is 1.99e-4, and the whole noise has 8.6 times
    /// as much: an RMS of 0.0413. The filters leave 3,300 Hz of it, so the score is sqrt(0.134 / 1.134) = 0.34, give or
    /// take what 0.3 s of noise are like.
    #[test]
    fn chirp_is_found_down_to_8_db_below_the_noise_of_its_band() {
        let mut lowest = 1.0f32;
        for seed in 0..4 {
            let truth = Duration::from_millis(100 + 390 * seed);
            let recording = mix(Noise(seed).white(TWO_SECONDS, 0.041_3), RATE, truth, -42.0);
            let found = find(&recording, RATE).unwrap();
            lowest = lowest.min(found.score);
            assert!(near(found.at, truth), "seed {seed}: {found:?}");
        }
        assert!(lowest >= 0.28, "{lowest}");
    }

    #[test]
    fn chirp_is_not_found_where_there_is_none() {
        let look = |name: &str, recording: &[f32]| {
            let score = find(recording, RATE).unwrap().score;
            assert!(score <= 0.18, "{name}: {score}");
        };
        for seed in 0..3 {
            look("noise", &Noise(seed).white(TWO_SECONDS, 0.05));
            look("speech", &Noise(seed).speech(2.0, RATE));
        }
        let tone = |hz: f64| -> Vec<f32> {
            (0..TWO_SECONDS)
                .map(|n| ((TAU * hz * n as f64 / f64::from(RATE)).sin() * 0.25) as f32)
                .collect()
        };
        for hz in [50.0, 1_000.0, 1_900.0] {
            look("tone", &tone(hz));
        }
        let click: Vec<f32> = (0..TWO_SECONDS).map(|n| f32::from(u8::from(n == 40_000))).collect();
        look("click", &click);
        look("zeros", &vec![0.0; TWO_SECONDS]);
        look("offset", &vec![0.3; TWO_SECONDS]);
    }

    /// A sweep that goes down, or takes another time, is another sound.
    #[test]
    fn other_sweeps_are_not_the_chirp() {
        let backwards: Vec<f32> = chirp(RATE, -20.0).into_iter().rev().collect();
        let mut recording = vec![0.0; TWO_SECONDS];
        recording[10_000..10_000 + backwards.len()].copy_from_slice(&backwards);
        let found = find(&recording, RATE).unwrap();
        assert!(!found.is_heard(), "{found:?}");
    }

    #[test]
    fn hum_and_an_offset_hide_nothing() {
        let truth = Duration::from_millis(600);
        let hum = |n: usize| (TAU * 50.0 * n as f64 / f64::from(RATE)).sin() as f32 * 0.1 + 0.3;
        let recording = mix((0..TWO_SECONDS).map(hum).collect(), RATE, truth, -42.0);
        let found = find(&recording, RATE).unwrap();
        assert!(found.score > 0.9 && near(found.at, truth), "{found:?}");
    }

    /// A room that rings for half a second (60 dB down) with as much energy as comes directly.
    #[test]
    fn chirp_is_found_in_a_room_that_rings() {
        let rate = 16_000;
        let mut noise = Noise(7);
        let decay = |n: usize| 10f64.powf(-3.0 * n as f64 / (0.5 * f64::from(rate)));
        let mut tail: Vec<f64> = (0..8_000).map(|n| noise.normal() * decay(n)).collect();
        let energy: f64 = tail.iter().map(|value| value * value).sum();
        tail.iter_mut().for_each(|value| *value /= energy.sqrt());
        let sound = chirp(rate, -30.0);
        let mut recording = vec![0.0f32; 2 * rate as usize];
        for (n, value) in sound.iter().enumerate() {
            recording[4_800 + n] += value;
            for (m, weight) in tail.iter().enumerate() {
                recording[4_800 + n + m] += (f64::from(*value) * weight) as f32;
            }
        }
        let found = find(&recording, rate).unwrap();
        assert!(found.score > 0.5 && near(found.at, Duration::from_millis(300)), "{found:?}");
    }

    #[test]
    fn what_is_no_recording_has_no_match() {
        assert_eq!(find(&[], RATE), None);
        assert_eq!(find(&vec![0.1; 14_000], RATE), None);
        assert_eq!(find(&vec![0.1; 100_000], 0), None);
        assert_eq!(find(&vec![0.1; 100_000], u32::MAX), None);
        let broken = find(&vec![f32::NAN; TWO_SECONDS], RATE).unwrap();
        assert!(!broken.is_heard(), "{broken:?}");
        let loud = find(&vec![f32::MAX; TWO_SECONDS], RATE).unwrap();
        assert!(loud.score.is_finite() && !loud.is_heard(), "{loud:?}");
    }

    /// 60 s are looked at like 5: what is beyond the limit is not searched.
    #[test]
    fn long_recordings_are_cut() {
        let silence = vec![0.0; 60 * 8_000];
        let late = mix(silence, 8_000, Duration::from_secs(30), -20.0);
        assert!(!find(&late, 8_000).unwrap().is_heard());
    }
}
