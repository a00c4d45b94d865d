//! What was heard of a received stream, from the summary or, while there is none, summed over intervals.

use roomtone_protocol::heard::{HeardInterval, NetworkRating, StreamHeard};

/// What was heard of one stream. Times in microseconds, delay in 0.1 ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeardView {
    /// All that was heard: played, concealed, and silence of the sender's.
    pub total_us: u64,
    /// What of it was made up.
    pub concealed_us: u64,
    /// Frames that were played.
    pub played: u64,
    /// Frames that came too late.
    pub discarded: u64,
    /// Concealed in the second with most of it.
    pub worst_second_us: u32,
    /// Concealed and heard in the interval with the highest ratio; `None` where none was long enough.
    pub worst_interval_us: Option<(u32, u32)>,
    /// Mean waiting time of the frames that were played; `None` where none was.
    pub delay_mean_dms: Option<u32>,
    /// All that only the totals of an ended leg tell; `None` in sums.
    pub totals: Option<StreamHeard>,
}

impl HeardView {
    pub(super) fn of_stream(it: &StreamHeard) -> Self {
        let worst = (it.worst_interval_concealed_us, it.worst_interval_total_us);
        Self {
            total_us: it.total_us,
            concealed_us: it.concealed_us,
            played: it.played,
            discarded: it.discarded,
            worst_second_us: it.worst_second_us,
            worst_interval_us: (it.worst_interval_total_us > 0).then_some(worst),
            delay_mean_dms: (it.played > 0).then_some(it.delay_mean_dms),
            totals: Some(*it),
        }
    }

    /// The score of the network and the best one of its codec, in thousandths; `None` where there is none.
    #[must_use]
    pub fn mos_milli(&self) -> Option<(u16, u16)> {
        match self.totals?.rating {
            NetworkRating::Mos(mos) => Some((mos.mos_milli, mos.best_milli)),
            NetworkRating::CodecUnknown
            | NetworkRating::NoFactors
            | NetworkRating::NothingHeard => None,
        }
    }
}

/// The shortest interval that may be the worst one, in microseconds (WIRE.md section 5.8): of less, one frame is much.
const WORST_INTERVAL_MIN_US: u32 = 1_000_000;

/// What was heard, summed over intervals.
#[derive(Debug, Clone, Default)]
pub(super) struct HeardSum {
    total_us: u64,
    concealed_us: u64,
    played: u64,
    discarded: u64,
    worst_second_us: u32,
    worst_interval_us: Option<(u32, u32)>,
    delay_weighted: u128,
}

impl HeardSum {
    pub(super) fn handle_interval(&mut self, row: &HeardInterval) {
        self.total_us += u64::from(row.total_us);
        self.concealed_us += u64::from(row.concealed_us);
        self.played += u64::from(row.played);
        self.discarded += u64::from(row.discarded);
        self.worst_second_us = self.worst_second_us.max(row.worst_second_us);
        self.delay_weighted += u128::from(row.delay_mean_dms) * u128::from(row.played);
        // a / b > c / d without a division.
        let is_worse = self.worst_interval_us.is_none_or(|(concealed_us, total_us)| {
            u64::from(row.concealed_us) * u64::from(total_us)
                > u64::from(concealed_us) * u64::from(row.total_us)
        });
        if row.total_us >= WORST_INTERVAL_MIN_US && is_worse {
            self.worst_interval_us = Some((row.concealed_us, row.total_us));
        }
    }

    pub(super) fn view(self) -> HeardView {
        let delay = self.delay_weighted.checked_div(u128::from(self.played));
        HeardView {
            total_us: self.total_us,
            concealed_us: self.concealed_us,
            played: self.played,
            discarded: self.discarded,
            worst_second_us: self.worst_second_us,
            worst_interval_us: self.worst_interval_us,
            delay_mean_dms: delay.and_then(|it| u32::try_from(it).ok()),
            totals: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(concealed_us: u32, total_us: u32, played: u32, delay_mean_dms: u32) -> HeardInterval {
        HeardInterval {
            total_us,
            concealed_us,
            worst_second_us: concealed_us / 2,
            played,
            delay_mean_dms,
            ..HeardInterval::default()
        }
    }

    #[test]
    fn intervals_sum_and_the_worst_is_by_ratio_and_not_by_time() {
        let mut sum = HeardSum::default();
        // 3 % of 10 s, 4 % of 5 s, and one of 0.9 s that is too short to be the worst.
        sum.handle_interval(&row(300_000, 10_000_000, 400, 100));
        sum.handle_interval(&row(200_000, 5_000_000, 100, 600));
        sum.handle_interval(&row(800_000, 900_000, 0, 0));
        let view = sum.view();
        assert_eq!((view.concealed_us, view.total_us), (1_300_000, 15_900_000));
        assert_eq!(view.worst_interval_us, Some((200_000, 5_000_000)));
        assert_eq!(view.worst_second_us, 400_000);
        // (400 x 10 ms + 100 x 60 ms) / 500 = 20 ms.
        assert_eq!(view.delay_mean_dms, Some(200));
        assert_eq!(view.mos_milli(), None);
    }

    #[test]
    fn stream_of_which_nothing_was_played_has_no_delay() {
        let mut sum = HeardSum::default();
        sum.handle_interval(&row(10_000_000, 10_000_000, 0, 0));
        assert_eq!(sum.view().delay_mean_dms, None);
    }
}
