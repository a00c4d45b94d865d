//! What the microphone hears, and how loud the loudspeaker was.

use std::collections::VecDeque;
use std::f64::consts::TAU;

/// What the microphone delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A sine of 1 kHz at a quarter of full scale: RMS 0.25 / sqrt 2 = 0.1768.
    Tone,
    /// Exact zeros.
    Zero,
    /// One value that is not zero.
    Constant,
    /// White noise of at most 1 % of full scale: a quiet room.
    Noise,
    /// Noise, and exact zeros between, as a microphone's noise gate makes them.
    Gate {
        /// How long noise lasts, in milliseconds of samples.
        open_ms: u32,
        /// How long zeros last.
        shut_ms: u32,
    },
    /// What the loudspeaker played, a quarter as loud, above the noise: ears and microphone share a room.
    Echo {
        /// How much later the microphone hears it.
        delay_ms: u32,
    },
}

/// Frequency of the tone, in Hz.
const TONE_HZ: f64 = 1_000.0;
/// Its peak, of full scale 32,768.
const TONE_PEAK: f64 = 8_192.0;
/// The value of [`Signal::Constant`].
const CONSTANT: i16 = 1_234;
/// Peak of the noise: 1 % of full scale.
const NOISE_PEAK: i16 = 327;
/// How much quieter an echo is: 12 dB.
const ECHO_DIVISOR: i16 = 4;
/// How many played samples may wait to be heard: a second at 48 kHz; what is older is lost.
const ECHO_SAMPLES_MAX: usize = 48_000;

/// Yields samples one after the other; what it yields depends on their number only.
#[derive(Debug)]
pub struct Source {
    signal: Signal,
    /// Samples since the signal was chosen.
    count: u64,
    noise: u32,
    /// Played and not heard yet; `None` before the first.
    echo: Option<VecDeque<i16>>,
}

impl Source {
    /// A source of `signal`.
    #[must_use]
    pub fn new(signal: Signal) -> Self {
        Self { signal, count: 0, noise: 1, echo: None }
    }

    /// Takes a sample that the loudspeaker played at `rate_hz`.
    pub fn handle_played(&mut self, sample: i16, rate_hz: u32) {
        let Signal::Echo { delay_ms } = self.signal else { return };
        let delay = u64::from(delay_ms) * u64::from(rate_hz) / 1_000;
        let delay = usize::try_from(delay).unwrap_or(ECHO_SAMPLES_MAX).min(ECHO_SAMPLES_MAX);
        let echo = self.echo.get_or_insert_with(|| VecDeque::from(vec![0; delay]));
        if echo.len() == ECHO_SAMPLES_MAX {
            echo.pop_front();
        }
        echo.push_back(sample / ECHO_DIVISOR);
    }

    /// The next sample at `rate_hz`.
    pub fn next_sample(&mut self, rate_hz: u32) -> i16 {
        let count = self.count;
        self.count += 1;
        match self.signal {
            Signal::Tone => {
                // One second of samples holds whole periods, so the phase may begin anew with each.
                let phase = (count % u64::from(rate_hz.max(1))) as f64 / f64::from(rate_hz.max(1));
                ((TAU * TONE_HZ * phase).sin() * TONE_PEAK).round() as i16
            }
            Signal::Zero => 0,
            Signal::Constant => CONSTANT,
            Signal::Noise => self.next_noise(),
            Signal::Echo { .. } => {
                let heard = self.echo.as_mut().and_then(VecDeque::pop_front);
                if heard.is_none() {
                    // The next sound is heard with its delay again.
                    self.echo = None;
                }
                heard.unwrap_or(0).saturating_add(self.next_noise())
            }
            Signal::Gate { open_ms, shut_ms } => {
                let period = u64::from(open_ms) + u64::from(shut_ms);
                let at_ms = count * 1_000 / u64::from(rate_hz.max(1)) % period.max(1);
                if at_ms < u64::from(open_ms) { self.next_noise() } else { 0 }
            }
        }
    }

    /// Never 0: real converters rest on a floor, and a run of zeros means something here.
    fn next_noise(&mut self) -> i16 {
        // Xorshift of Marsaglia, "Xorshift RNGs" (2003), triple 13, 17, 5.
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 17;
        self.noise ^= self.noise << 5;
        let span = 2 * NOISE_PEAK.unsigned_abs();
        let value = (self.noise % u32::from(span)) as i16 - NOISE_PEAK;
        if value == 0 { 1 } else { value }
    }
}

/// Sums up what arrived at the loudspeaker.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Meter {
    /// Samples of all channels.
    pub samples: u64,
    squares: f64,
}

impl Meter {
    /// Takes little-endian samples of 16 bit; `gain` is linear.
    pub fn handle_samples(&mut self, bytes: &[u8], gain: f64) {
        for sample in bytes.chunks_exact(2) {
            let value = f64::from(i16::from_le_bytes([sample[0], sample[1]])) / 32_768.0 * gain;
            self.squares += value * value;
            self.samples += 1;
        }
    }

    /// Root mean square of full scale; `None` before the first sample.
    #[must_use]
    pub fn rms(&self) -> Option<f64> {
        (self.samples > 0).then(|| (self.squares / self.samples as f64).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(signal: Signal, samples: usize) -> Vec<u8> {
        let mut source = Source::new(signal);
        (0..samples).flat_map(|_| source.next_sample(48_000).to_le_bytes()).collect()
    }

    #[test]
    fn tone_has_the_level_that_it_names() {
        let mut meter = Meter::default();
        assert_eq!(meter.rms(), None);
        meter.handle_samples(&bytes(Signal::Tone, 48_000), 1.0);
        // 0.25 / sqrt 2 = 0.17678; rounding to 16 bit moves it by less than 1e-5.
        assert!((meter.rms().unwrap() - 0.176_78).abs() < 1e-4);
        let mut quieter = Meter::default();
        quieter.handle_samples(&bytes(Signal::Tone, 48_000), 0.5);
        assert!((quieter.rms().unwrap() - 0.088_39).abs() < 1e-4);
    }

    #[test]
    fn gate_is_noise_without_zeros_and_then_zeros_without_noise() {
        let bytes = bytes(Signal::Gate { open_ms: 100, shut_ms: 200 }, 48_000 * 6 / 10);
        let samples: Vec<i16> =
            bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
        // 100 ms are 4,800 samples; the second round begins at 300 ms.
        for (range, zero) in [(0..4_800, false), (4_800..14_400, true), (14_400..19_200, false)] {
            assert!(samples[range].iter().all(|&sample| (sample == 0) == zero));
        }
    }

    #[test]
    fn echo_is_heard_after_its_delay_and_a_quarter_as_loud() {
        let mut source = Source::new(Signal::Echo { delay_ms: 10 });
        // 10 ms at 48 kHz are 480 samples.
        source.handle_played(20_000, 48_000);
        for at in 0..=480 {
            let heard = i32::from(source.next_sample(48_000));
            let expected = if at == 480 { 5_000 } else { 0 };
            assert!((heard - expected).abs() <= i32::from(NOISE_PEAK), "{heard} at {at}");
        }
    }

    #[test]
    fn constant_and_zero_never_change() {
        assert!(bytes(Signal::Zero, 100).iter().all(|&byte| byte == 0));
        let mut source = Source::new(Signal::Constant);
        assert!((0..100).all(|_| source.next_sample(16_000) == CONSTANT));
    }
}
