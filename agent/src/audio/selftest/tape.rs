//! What the callbacks of the self-test do: one plays the chirp, one keeps what the microphone delivers.
//!
//! They allocate nothing and wait for nobody: all memory is there from the start, and goes back to the test when the
//! stream closes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use super::RATE_HZ;
use crate::audio::chirp;
use crate::audio::cpal_host::Samples;
use crate::audio::level::Sample;
use crate::clock::system;

/// Silence before the chirp: amplifiers sleep, and need this long to wake.
const LEAD: Duration = Duration::from_millis(300);
/// Buffers whose arrival is kept: those of 5 s at the shortest periods of drivers, 5 ms, four times.
const ARRIVALS_MAX: usize = 4_096;

/// What the two callbacks and the test tell each other.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Frames that the microphone has delivered.
    pub(super) frames: AtomicU64,
    /// From now on they are kept.
    pub(super) is_armed: AtomicBool,
    /// When the chirp's first sample was handed to the loudspeaker, nanoseconds since boot.
    pub(super) played_ns: AtomicU64,
    /// Its last sample was.
    pub(super) is_played: AtomicBool,
}

/// What was kept.
#[derive(Debug, Default)]
pub(super) struct Recording {
    pub(super) samples: Vec<f32>,
    /// For each buffer how many samples there were behind it, and when it arrived, nanoseconds since boot.
    pub(super) arrivals: Vec<(usize, u64)>,
}

impl Recording {
    /// When a sample was taken, nanoseconds since boot. A buffer arrives when its last sample was taken, or later, so
    /// the earliest answer is the nearest; buffers before it do not count, since an overrun may lie between.
    pub(super) fn taken_ns(&self, sample: usize) -> Option<u64> {
        let behind = self.arrivals.iter().filter(|(samples, _)| *samples > sample);
        let taken = behind.map(|(samples, at_ns)| {
            let later_ns = (samples - sample) as u64 * 1_000_000_000 / u64::from(RATE_HZ);
            at_ns.saturating_sub(later_ns)
        });
        taken.min()
    }
}

/// The microphone's callback. All its memory is there from the start; when its stream closes it hands it back.
pub(super) struct Recorder {
    progress: Arc<Progress>,
    recording: Recording,
    home: SyncSender<Recording>,
}

impl Recorder {
    pub(super) fn new(progress: Arc<Progress>, home: SyncSender<Recording>) -> Self {
        let most = chirp::RECORDING_MAX.as_secs() * u64::from(RATE_HZ);
        let samples = Vec::with_capacity(usize::try_from(most).unwrap_or(0));
        let arrivals = Vec::with_capacity(ARRIVALS_MAX);
        Self { progress, recording: Recording { samples, arrivals }, home }
    }

    pub(super) fn handle(&mut self, samples: Samples<'_>, channels: u16) {
        match samples {
            Samples::Bits16(buffer) => self.keep(buffer, channels),
            Samples::Bits32(buffer) => self.keep(buffer, channels),
            Samples::Float(buffer) => self.keep(buffer, channels),
        }
    }

    fn keep<S: Sample>(&mut self, buffer: &[S], channels: u16) {
        let frames = buffer.len() as u64 / u64::from(channels.max(1));
        self.progress.frames.fetch_add(frames, Ordering::Relaxed);
        if !self.progress.is_armed.load(Ordering::Acquire) {
            return;
        }
        let Recording { samples, arrivals } = &mut self.recording;
        for frame in buffer.chunks_exact(usize::from(channels.max(1))) {
            if samples.len() == samples.capacity() {
                return;
            }
            let sum: f32 = frame.iter().map(|sample| sample.full_scale()).sum();
            samples.push(sum / frame.len() as f32);
        }
        if arrivals.len() < arrivals.capacity() {
            arrivals.push((samples.len(), system::now().as_nanos()));
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Nobody waits for it where the test has ended already.
        let _ = self.home.try_send(std::mem::take(&mut self.recording));
    }
}

/// The loudspeaker's callback: silence, the chirp, silence.
pub(super) struct Player {
    sound: Arc<[i16]>,
    progress: Arc<Progress>,
    /// Frames of silence still to come before the chirp.
    lead: usize,
    at: usize,
}

impl Player {
    pub(super) fn new(sound: Arc<[i16]>, progress: Arc<Progress>) -> Self {
        let lead = LEAD.as_millis() as usize * RATE_HZ as usize / 1_000;
        Self { sound, progress, lead, at: 0 }
    }

    pub(super) fn fill(&mut self, buffer: &mut [i16], channels: u16) {
        for frame in buffer.chunks_exact_mut(usize::from(channels.max(1))) {
            if self.lead > 0 {
                self.lead -= 1;
                continue;
            }
            let Some(sample) = self.sound.get(self.at) else {
                self.progress.is_played.store(true, Ordering::Release);
                return;
            };
            if self.at == 0 {
                self.progress.played_ns.store(system::now().as_nanos(), Ordering::Relaxed);
            }
            self.at += 1;
            frame.fill(*sample);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 50 ms are 2,400 frames. After the second buffer 300 ms were lost; the third came 10 ms late.
    #[test]
    fn sample_is_dated_by_the_buffers_behind_it() {
        let ms = 1_000_000;
        let arrivals = vec![
            (2_400, 1_050 * ms),
            (4_800, 1_100 * ms),
            (7_200, 1_460 * ms),
            (9_600, 1_500 * ms),
        ];
        let recording = Recording { samples: vec![0.1; 9_600], arrivals };
        assert_eq!(recording.taken_ns(0), Some(1_000 * ms));
        // Sample 4,800 was taken 100 ms before the last buffer arrived.
        assert_eq!(recording.taken_ns(4_800), Some(1_400 * ms));
        assert_eq!(recording.taken_ns(9_600), None);
    }
}
