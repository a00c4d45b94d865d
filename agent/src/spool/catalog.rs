//! Which segments there are, oldest first, as their names tell.
//!
//! A core, and all that the spool keeps in memory of its backlog: about 50 bytes for each segment, at most
//! [`SEGMENTS_MAX`] of them.

use roomtone_protocol::id::Epoch;

use super::segment::Name;

/// The most segments: ten times what the default cap holds in full ones, for an agent that restarts all the time.
pub(super) const SEGMENTS_MAX: usize = 4096;

/// One segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its name; the end in it is the one that counts on disk.
    pub name: Name,
    /// One past its last record.
    pub end: u32,
    /// Its length, in bytes.
    pub bytes: u64,
    /// Whether damage was found in it: it goes to quarantine when it is done with.
    pub damaged: bool,
}

/// All segments, in the order of their counters.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    segments: Vec<Segment>,
    bytes: u64,
}

impl Catalog {
    /// Appends the newest segment.
    pub(super) fn push(&mut self, segment: Segment) {
        assert!(
            self.segments.last().is_none_or(|last| last.name.counter < segment.name.counter),
            "segments are made in the order of their counters"
        );
        self.bytes += segment.bytes;
        self.segments.push(segment);
    }

    /// All of them, oldest first.
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Their bytes in all.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where the segment of that counter is.
    pub(super) fn find(&self, counter: u64) -> Option<usize> {
        self.segments.binary_search_by_key(&counter, |segment| segment.name.counter).ok()
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, at: usize) -> Segment {
        let segment = self.segments.remove(at);
        self.bytes -= segment.bytes;
        segment
    }

    /// Replaces what is known of one; its counter stays.
    pub(super) fn update(&mut self, segment: Segment) {
        if let Some(at) = self.find(segment.name.counter) {
            self.bytes = self.bytes - self.segments[at].bytes + segment.bytes;
            self.segments[at] = segment;
        }
    }

    /// Whether any segment is of that epoch.
    pub(super) fn holds(&self, epoch: Epoch) -> bool {
        self.segments.iter().any(|segment| segment.name.epoch == epoch)
    }

    /// The next segment of the same epoch, at whose first record this one must end.
    pub(super) fn later(&self, at: usize) -> Option<Segment> {
        let epoch = self.segments[at].name.epoch;
        self.segments[at + 1..].iter().copied().find(|later| later.name.epoch == epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(counter: u64, epoch: u32, first: u32, end: u32) -> Segment {
        let name = Name { counter, epoch: Epoch(epoch), first, end: Some(end) };
        Segment { name, end, bytes: 100, damaged: false }
    }

    #[test]
    fn segment_ends_where_a_later_one_of_its_epoch_begins() {
        let mut catalog = Catalog::default();
        for segment in [segment(1, 7, 0, 9), segment(2, 8, 0, 3), segment(5, 7, 4, 9)] {
            catalog.push(segment);
        }
        let firsts = [0, 1, 2].map(|at| catalog.later(at).map(|later| later.name.first));
        assert_eq!(firsts, [Some(4), None, None]);
    }

    #[test]
    fn bytes_follow_every_change() {
        let mut catalog = Catalog::default();
        catalog.push(segment(1, 7, 0, 9));
        catalog.push(segment(2, 7, 9, 12));
        catalog.update(Segment { bytes: 250, ..segment(2, 7, 9, 12) });
        assert_eq!(catalog.bytes(), 350);
        catalog.remove(0);
        assert_eq!(catalog.bytes(), 250);
        assert_eq!(catalog.find(2), Some(0));
        assert!(catalog.holds(Epoch(7)) && !catalog.holds(Epoch(8)));
    }
}
