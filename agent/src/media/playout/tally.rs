//! What a playout model adds up, over a stream or an interval.

use std::time::Duration;

/// What was played, in microseconds and frames. Differences of two are those of the time between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlayoutTally {
    /// All that was heard: played, concealed, and silence of the sender's.
    pub total_us: u64,
    /// Made up, because no frame was there.
    pub concealed_us: u64,
    /// Added by stretching.
    pub stretched_us: u64,
    /// Taken away by compressing.
    pub compressed_us: u64,
    /// Frames that were played.
    pub played: u64,
    /// Frames that came after a later one had been played.
    pub discarded: u64,
    /// The waiting times of the frames that were played, summed up.
    pub delay_sum_us: u64,
    /// The longest of them.
    pub delay_max_us: u64,
    /// Concealed in the second with most of it; never more than 1,000,000.
    pub worst_second_us: u64,
    /// New time lines: restarts of the sender, and jumps of its clock.
    pub resets: u32,
}

impl PlayoutTally {
    /// The sum of this one and a later one.
    #[must_use]
    pub fn with(&self, later: &Self) -> Self {
        Self {
            total_us: self.total_us.saturating_add(later.total_us),
            concealed_us: self.concealed_us.saturating_add(later.concealed_us),
            stretched_us: self.stretched_us + later.stretched_us,
            compressed_us: self.compressed_us + later.compressed_us,
            played: self.played + later.played,
            discarded: self.discarded + later.discarded,
            delay_sum_us: self.delay_sum_us.saturating_add(later.delay_sum_us),
            delay_max_us: self.delay_max_us.max(later.delay_max_us),
            worst_second_us: self.worst_second_us.max(later.worst_second_us),
            resets: self.resets.saturating_add(later.resets),
        }
    }

    /// Concealed over all that was heard, 0..=1; `None` where nothing was.
    #[must_use]
    pub fn concealed_ratio(&self) -> Option<f64> {
        (self.total_us > 0).then(|| self.concealed_us as f64 / self.total_us as f64)
    }

    /// The mean waiting time of the frames that were played.
    #[must_use]
    pub fn delay_mean(&self) -> Option<Duration> {
        self.delay_sum_us.checked_div(self.played).map(Duration::from_micros)
    }

    /// The longest waiting time of a frame that was played.
    #[must_use]
    pub fn delay_max(&self) -> Option<Duration> {
        (self.played > 0).then_some(Duration::from_micros(self.delay_max_us))
    }
}
