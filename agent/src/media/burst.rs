//! Bursts and gaps of missing frames, RFC 3611 section 4.7.2, and how long the runs of them are.
//!
//! A frame is missing where it was not there when it should have been heard: lost, or discarded because it came too
//! late. Both count alike, as the RFC says.

/// Frames in a row that must arrive to end a burst (RFC 3611 section 4.7.2 recommends 16).
pub const GMIN: u32 = 16;
/// Runs of 1 to 7 missing frames, and of 8 and more: the classes that MS-QoE names `BurstLossLength1` to `8OrHigher`.
pub const RUNS: usize = 8;

/// The state of one stream, fed with its frames in the order of playing.
#[derive(Debug, Clone, Default)]
pub struct Burst {
    received: u64,
    missing: u64,
    runs: [u32; RUNS],
    runs_total: u64,
    bursts: Span,
    /// Gaps that a burst ended.
    gaps: u64,
    /// What began with a missing frame and is a burst as soon as another one follows soon enough.
    open: Span,
    /// Frames received in a row.
    good: u32,
    /// Frames missing in a row.
    bad: u64,
}

/// Frames, and how many of them were missing, in some number of stretches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// How many stretches.
    pub count: u64,
    /// Their frames.
    pub frames: u64,
    /// Those of them that were missing.
    pub missing: u64,
}

impl Span {
    /// Missing over all frames, 0..=1; `None` where there are none.
    #[must_use]
    pub fn density(&self) -> Option<f64> {
        (self.frames > 0).then(|| self.missing as f64 / self.frames as f64)
    }

    /// The mean length of one, in frames; `None` where there are none.
    #[must_use]
    pub fn mean_frames(&self) -> Option<f64> {
        (self.count > 0).then(|| self.frames as f64 / self.count as f64)
    }
}

/// What the frames so far add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BurstReport {
    /// Frames that were there.
    pub received: u64,
    /// Frames that were not.
    pub missing: u64,
    /// Bursts: two missing frames or more, with fewer than [`GMIN`] received in a row between.
    pub bursts: Span,
    /// Everything else.
    pub gaps: Span,
    /// How many runs had 1, 2, … 7, and 8 or more missing frames.
    pub runs: [u32; RUNS],
    /// How many runs there were.
    pub runs_total: u64,
}

impl BurstReport {
    /// Missing over all frames, 0..=1; `None` before the first frame.
    #[must_use]
    pub fn missing_ratio(&self) -> Option<f64> {
        let frames = self.received + self.missing;
        (frames > 0).then(|| self.missing as f64 / frames as f64)
    }

    /// `BurstR` of ITU-T G.107: the mean run of missing frames over the mean run that as many missing frames have by
    /// chance, `1 / (1 - ratio)`. 1 is chance; `None` where nothing is missing, or everything.
    #[must_use]
    pub fn burst_ratio(&self) -> Option<f64> {
        let ratio = self.missing_ratio()?;
        if self.runs_total == 0 || self.received == 0 {
            return None;
        }
        Some(self.missing as f64 / self.runs_total as f64 * (1.0 - ratio))
    }
}

impl Burst {
    /// Takes a frame that was there.
    pub fn handle_received(&mut self) {
        self.received += 1;
        if self.bad > 0 {
            self.end_run();
        }
        self.good = self.good.saturating_add(1);
        if self.good == GMIN {
            self.close();
        }
    }

    /// Takes frames that were not there, in a row.
    pub fn handle_missing(&mut self, frames: u64) {
        if frames == 0 {
            return;
        }
        self.missing = self.missing.saturating_add(frames);
        if self.open.count == 0 {
            self.open.count = 1;
        } else {
            self.open.frames += u64::from(self.good);
        }
        self.open.frames = self.open.frames.saturating_add(frames);
        self.open.missing = self.open.missing.saturating_add(frames);
        self.good = 0;
        self.bad = self.bad.saturating_add(frames);
    }

    fn end_run(&mut self) {
        let class = usize::try_from(self.bad - 1).unwrap_or(RUNS).min(RUNS - 1);
        self.runs[class] = self.runs[class].saturating_add(1);
        self.runs_total += 1;
        self.bad = 0;
    }

    /// Ends what is open: a burst, or a lone frame that belongs to the gap around it.
    fn close(&mut self) {
        let open = std::mem::take(&mut self.open);
        if open.missing < 2 {
            return;
        }
        // Nothing before it: then no gap ended.
        let before = self.received + self.missing - u64::from(self.good) - open.frames;
        self.gaps += u64::from(before > self.bursts.frames);
        self.bursts.count += 1;
        self.bursts.frames += open.frames;
        self.bursts.missing += open.missing;
    }

    /// The sums so far; what is open counts as if the stream ended here.
    #[must_use]
    pub fn report(&self) -> BurstReport {
        let mut ended = self.clone();
        if ended.bad > 0 {
            ended.end_run();
        }
        ended.close();
        let frames = ended.received.saturating_add(ended.missing);
        // The last frames, behind the last burst.
        let trailing = ended.good > 0 || ended.bursts.count == 0 && frames > 0;
        BurstReport {
            received: ended.received,
            missing: ended.missing,
            bursts: ended.bursts,
            gaps: Span {
                count: ended.gaps + u64::from(trailing),
                frames: frames - ended.bursts.frames,
                missing: ended.missing - ended.bursts.missing,
            },
            runs: ended.runs,
            runs_total: ended.runs_total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Burst, BurstReport, Span};

    /// `r` received, `l` missing.
    fn run(frames: impl IntoIterator<Item = (char, u64)>) -> BurstReport {
        let mut burst = Burst::default();
        for (kind, count) in frames {
            match kind {
                'r' => (0..count).for_each(|_| burst.handle_received()),
                _ => burst.handle_missing(count),
            }
        }
        burst.report()
    }

    #[test]
    fn rfc_3611_vector_is_reproduced() {
        // 30r l 20r l 5r ll 10r l 40r: the loss at 30 has 20 and more around it and lies in a gap. The burst reaches
        // from 51 to 69: 1 + 5 + 2 + 10 + 1 = 19 frames, 4 of them missing. 110 - 19 = 91 in two gaps, 1 missing.
        let report = run([
            ('r', 30),
            ('l', 1),
            ('r', 20),
            ('l', 1),
            ('r', 5),
            ('l', 2),
            ('r', 10),
            ('l', 1),
            ('r', 40),
        ]);
        assert_eq!(report.bursts, Span { count: 1, frames: 19, missing: 4 });
        assert_eq!(report.gaps, Span { count: 2, frames: 91, missing: 1 });
        assert_eq!((report.runs[0], report.runs[1], report.runs_total), (3, 1, 4));
    }

    #[test]
    fn sixteen_good_frames_part_two_bursts_and_fifteen_do_not() {
        let with = |between| run([('l', 2), ('r', between), ('l', 2), ('r', 5)]);
        assert_eq!(with(15).bursts, Span { count: 1, frames: 19, missing: 4 });
        assert_eq!(with(16).bursts, Span { count: 2, frames: 4, missing: 4 });
        // A stream that begins with a burst has no gap before it.
        assert_eq!(with(16).gaps, Span { count: 2, frames: 21, missing: 0 });
        assert_eq!(with(15).gaps, Span { count: 1, frames: 5, missing: 0 });
    }

    #[test]
    fn lone_missing_frames_are_chance_and_runs_are_not() {
        // 5 of 100 alone: mean run 1, by chance 1 / 0.95. One run of 5: five times that.
        let alone = run((0..5).flat_map(|_| [('r', 19), ('l', 1)]));
        assert!((alone.burst_ratio().unwrap() - 0.95).abs() < 1e-9);
        let together = run([('r', 50), ('l', 5), ('r', 45)]);
        assert!((together.burst_ratio().unwrap() - 4.75).abs() < 1e-9);
        assert_eq!(run([('r', 100)]).burst_ratio(), None);
        assert_eq!(run([]).missing_ratio(), None);
    }

    #[test]
    fn run_at_the_very_end_counts_and_eight_is_the_last_class() {
        let report = run([('r', 20), ('l', 1000)]);
        assert_eq!((report.runs[7], report.runs_total), (1, 1));
        assert_eq!(report.bursts, Span { count: 1, frames: 1000, missing: 1000 });
        assert_eq!(report.gaps, Span { count: 1, frames: 20, missing: 0 });
    }
}
