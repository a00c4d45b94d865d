//! Numbers from samples: what leaves an audio callback instead of audio.
//!
//! [`BufferLevel::of`] runs in the callback: one pass over the buffer, no allocation, no lock, no clock. [`Meter`]
//! runs where its results are read and joins them to reports; runs of zeros reach across buffers to the frame, runs
//! of one value to the buffer.

use std::time::Duration;

/// Channels whose values are compared from frame to frame; a microphone array's further channels go by their zeros
/// only.
pub const CHANNELS_MAX: usize = 8;
/// The longest run told: a day, far beyond every threshold, so that sums never overflow.
const RUN_FRAMES_MAX: u64 = 384_000 * 86_400;

/// A sample as a device delivers it.
pub trait Sample: Copy {
    /// Its value, -1..=1 for full scale.
    fn full_scale(self) -> f32;
}

impl Sample for f32 {
    fn full_scale(self) -> f32 {
        self
    }
}

impl Sample for i16 {
    fn full_scale(self) -> f32 {
        f32::from(self) / 32_768.0
    }
}

impl Sample for i32 {
    fn full_scale(self) -> f32 {
        (f64::from(self) / 2_147_483_648.0) as f32
    }
}

/// One callback's buffer in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BufferLevel {
    /// Whole frames.
    pub frames: u32,
    /// Exact zeros on all channels at its beginning, in frames.
    pub zero_head: u32,
    /// The same at its end; both are `frames` where all is zero.
    pub zero_tail: u32,
    /// The longest run of zeros that neither begins nor ends the buffer, in frames.
    pub zero_inner: u32,
    /// All frames equal the first one.
    pub is_constant: bool,
    /// The first frame.
    pub first: [f32; CHANNELS_MAX],
    /// The largest magnitude, 0..=1.
    pub peak: f32,
    /// The sum of all squares.
    pub square_sum: f64,
    /// Samples that are numbers, which `square_sum` is over.
    pub samples: u32,
    /// Samples at full scale.
    pub clipped: u32,
}

/// The smallest magnitude that counts as full scale: the largest positive value of 16 bits.
const CLIPPED: f32 = 32_767.0 / 32_768.0;

impl BufferLevel {
    /// Measures an interleaved buffer of `channels` channels. A frame cut short at the end is left out, as are values
    /// that are no numbers.
    #[must_use]
    pub fn of<S: Sample>(buffer: &[S], channels: u16) -> Self {
        let mut level = Self { is_constant: true, ..Self::default() };
        let mut run = 0u32;
        let mut is_head = true;
        for frame in buffer.chunks_exact(usize::from(channels.max(1))) {
            let is_zero = level.add_frame(frame);
            if is_zero {
                run = run.saturating_add(1);
                continue;
            }
            if is_head {
                level.zero_head = run;
                is_head = false;
            } else {
                level.zero_inner = level.zero_inner.max(run);
            }
            run = 0;
        }
        level.zero_tail = run;
        if is_head {
            level.zero_head = run;
        }
        level.is_constant &= level.frames > 0;
        level
    }

    fn add_frame<S: Sample>(&mut self, frame: &[S]) -> bool {
        let mut is_zero = true;
        for (channel, sample) in frame.iter().enumerate() {
            let value = sample.full_scale();
            is_zero &= value == 0.0;
            if let Some(first) = self.first.get_mut(channel) {
                if self.frames == 0 {
                    *first = value;
                }
                self.is_constant &= *first == value;
            }
            if value.is_finite() {
                self.peak = self.peak.max(value.abs());
                self.square_sum += f64::from(value) * f64::from(value);
                self.samples = self.samples.saturating_add(1);
                self.clipped = self.clipped.saturating_add(u32::from(value.abs() >= CLIPPED));
            }
        }
        self.frames = self.frames.saturating_add(1);
        is_zero
    }

    /// Every sample is exactly zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.frames > 0 && self.zero_head == self.frames
    }
}

/// What the samples since the last report were like. Runs reach back across reports.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LevelReport {
    /// Audio that this report covers.
    pub span: Duration,
    /// At least one buffer was neither all zeros nor one value.
    pub is_real: bool,
    /// Exact zeros on all channels up to the report's end; zero where the last frame is none.
    pub zero_run: Duration,
    /// The longest run of exact zeros that ended within this report.
    pub zero_longest: Duration,
    /// Frames of one value that is not zero, up to the report's end.
    pub constant_run: Duration,
    /// The largest magnitude, 0..=1 of full scale.
    pub peak: f32,
    /// Root mean square over all channels, 0..=1 of full scale.
    pub rms: f32,
    /// Samples at full scale.
    pub clipped: u32,
}

/// Joins the buffers of one stream to reports.
#[derive(Debug, Clone)]
pub struct Meter {
    rate_hz: u32,
    zero_run: u64,
    zero_longest: u64,
    constant_run: u64,
    constant: [f32; CHANNELS_MAX],
    frames: u64,
    is_real: bool,
    peak: f32,
    square_sum: f64,
    samples: u64,
    clipped: u32,
}

impl Meter {
    /// Begins with a stream of `rate_hz` frames per second.
    #[must_use]
    pub fn new(rate_hz: u32) -> Self {
        Self {
            rate_hz: rate_hz.max(1),
            zero_run: 0,
            zero_longest: 0,
            constant_run: 0,
            constant: [0.0; CHANNELS_MAX],
            frames: 0,
            is_real: false,
            peak: 0.0,
            square_sum: 0.0,
            samples: 0,
            clipped: 0,
        }
    }

    /// Takes one buffer, in order.
    pub fn handle_buffer(&mut self, level: &BufferLevel) {
        if level.frames == 0 {
            return;
        }
        if level.is_zero() {
            self.zero_run = (self.zero_run + u64::from(level.frames)).min(RUN_FRAMES_MAX);
        } else {
            let ended = self.zero_run + u64::from(level.zero_head);
            self.zero_longest = self.zero_longest.max(ended).max(u64::from(level.zero_inner));
            self.zero_run = u64::from(level.zero_tail);
        }
        let is_constant = level.is_constant && !level.is_zero();
        if is_constant {
            let goes_on = self.constant_run > 0 && self.constant == level.first;
            let before = if goes_on { self.constant_run } else { 0 };
            self.constant_run = (before + u64::from(level.frames)).min(RUN_FRAMES_MAX);
            self.constant = level.first;
        } else {
            self.constant_run = 0;
        }
        self.is_real |= !is_constant && !level.is_zero();
        self.frames += u64::from(level.frames);
        self.peak = self.peak.max(level.peak);
        self.square_sum += level.square_sum;
        self.samples += u64::from(level.samples);
        self.clipped = self.clipped.saturating_add(level.clipped);
    }

    /// Returns what was measured since the last report; `None` where nothing came.
    pub fn take_report(&mut self) -> Option<LevelReport> {
        if self.frames == 0 {
            return None;
        }
        let mean_square = self.square_sum / self.samples.max(1) as f64;
        let report = LevelReport {
            span: self.duration(self.frames),
            is_real: self.is_real,
            zero_run: self.duration(self.zero_run),
            zero_longest: self.duration(self.zero_longest),
            constant_run: self.duration(self.constant_run),
            peak: self.peak,
            rms: mean_square.sqrt() as f32,
            clipped: self.clipped,
        };
        *self = Self {
            zero_run: self.zero_run,
            constant_run: self.constant_run,
            constant: self.constant,
            ..Self::new(self.rate_hz)
        };
        Some(report)
    }

    fn duration(&self, frames: u64) -> Duration {
        let nanos = u128::from(frames) * 1_000_000_000 / u128::from(self.rate_hz);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Frames 0 0 | 1 | 0 0 0 | 1 | 0: head 2, inner 3, tail 1.
    #[test]
    fn runs_of_zeros_are_told_by_where_they_lie() {
        let level = BufferLevel::of(&[0i16, 0, 9, 0, 0, 0, -9, 0], 1);
        assert_eq!((level.zero_head, level.zero_inner, level.zero_tail), (2, 3, 1));
        assert!(!level.is_constant);
    }

    #[test]
    fn frame_is_zero_only_where_all_channels_are() {
        let level = BufferLevel::of(&[0.0f32, 0.0, 0.0, 0.5, 0.0, 0.0], 2);
        assert_eq!((level.frames, level.zero_head, level.zero_tail), (3, 1, 1));
        assert!(BufferLevel::of(&[0.0f32, -0.0, 0.0, 0.0], 2).is_zero());
    }

    /// A sine of amplitude 0.25 has an RMS of 0.25 / sqrt 2 = 0.1768; 48 samples are one period.
    #[test]
    fn level_of_a_sine_is_its_amplitude_over_root_two() {
        let sine: Vec<f32> =
            (0..480).map(|n| (n as f32 * std::f32::consts::TAU / 48.0).sin() * 0.25).collect();
        let mut meter = Meter::new(48_000);
        meter.handle_buffer(&BufferLevel::of(&sine, 1));
        let report = meter.take_report().unwrap();
        assert!((report.rms - 0.1768).abs() < 0.0001, "{}", report.rms);
        assert!((report.peak - 0.25).abs() < 0.0001, "{}", report.peak);
        assert_eq!(report.span, ms(10));
        assert!(report.is_real);
    }

    #[test]
    fn zero_run_reaches_across_buffers_and_reports() {
        let mut meter = Meter::new(1_000);
        let mut tail = vec![100i16; 50];
        tail.extend([0; 50]);
        meter.handle_buffer(&BufferLevel::of(&tail, 1));
        assert_eq!(meter.take_report().unwrap().zero_run, ms(50));
        meter.handle_buffer(&BufferLevel::of(&[0i16; 200], 1));
        let report = meter.take_report().unwrap();
        assert_eq!((report.zero_run, report.zero_longest), (ms(250), ms(0)));
        assert!(!report.is_real);
        let mut head = vec![0i16; 30];
        head.extend([7, 8, 7]);
        meter.handle_buffer(&BufferLevel::of(&head, 1));
        let report = meter.take_report().unwrap();
        assert_eq!((report.zero_run, report.zero_longest), (ms(0), ms(280)));
    }

    #[test]
    fn one_value_is_constant_until_it_changes_even_between_buffers() {
        let mut meter = Meter::new(1_000);
        for value in [5i16, 5, 6] {
            meter.handle_buffer(&BufferLevel::of(&[value; 100], 1));
        }
        let report = meter.take_report().unwrap();
        assert_eq!(report.constant_run, ms(100));
        assert!(!report.is_real);
        meter.handle_buffer(&BufferLevel::of(&[0i16; 100], 1));
        assert_eq!(meter.take_report().unwrap().constant_run, ms(0));
    }

    #[test]
    fn values_that_are_no_numbers_spoil_no_level() {
        let level = BufferLevel::of(&[f32::NAN, 0.5, f32::INFINITY, -0.5], 1);
        assert_eq!((level.samples, level.peak), (2, 0.5));
        assert_eq!((level.zero_head, level.is_constant), (0, false));
    }

    #[test]
    fn empty_buffers_and_no_channels_are_nothing() {
        let mut meter = Meter::new(0);
        meter.handle_buffer(&BufferLevel::of::<f32>(&[], 2));
        meter.handle_buffer(&BufferLevel::of(&[1.0f32], 2));
        assert_eq!(meter.take_report(), None);
        assert_eq!(BufferLevel::of(&[1.0f32, 1.0], 0).frames, 2);
    }

    #[test]
    fn full_scale_of_each_format_is_clipped() {
        assert_eq!(BufferLevel::of(&[i16::MAX, i16::MIN, 32_000], 1).clipped, 2);
        assert_eq!(BufferLevel::of(&[i32::MAX, i32::MIN, 0], 1).clipped, 2);
        assert_eq!(BufferLevel::of(&[1.0f32, -1.5, 0.9], 1).clipped, 2);
    }
}
