//! How the packets of a stream are marked: the differentiated-services code point (DSCP, RFC 2474) of their IP headers.
//!
//! On egress it is what the endpoint asked for, as its operating system let it; on ingress, what the network left of
//! the far end's. A sender uses one code point per kind of media and a router on the way changes all packets alike, so
//! few are seen in one stream: the first [`CODE_POINTS`] have a count of their own, the rest are counted as one. A
//! sender that uses more hides its own marking and costs nothing.

/// Code points of one stream that are told apart.
const CODE_POINTS: usize = 4;

/// The code points of one stream's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marking {
    /// Code point and packets, in order of appearance; those without packets come last.
    counts: [(u8, u32); CODE_POINTS],
    beyond: u64,
}

impl Marking {
    /// Counts a packet.
    #[inline]
    pub fn note(&mut self, dscp: u8) {
        for (known, count) in &mut self.counts {
            if *known == dscp || *count == 0 {
                *known = dscp;
                *count = count.saturating_add(1);
                return;
            }
        }
        self.beyond += 1;
    }

    /// The most frequent code point, 0..=63; of equally frequent ones the earliest.
    #[must_use]
    pub fn code_point(&self) -> u8 {
        self.most_frequent().0
    }

    /// Packets with another one.
    #[must_use]
    pub fn others(&self) -> u64 {
        let counted: u64 = self.counts.iter().map(|(_, count)| u64::from(*count)).sum();
        counted - u64::from(self.most_frequent().1) + self.beyond
    }

    fn most_frequent(&self) -> (u8, u32) {
        // `max_by_key` takes the last of equals.
        self.counts.into_iter().rev().max_by_key(|(_, count)| *count).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Marking;

    fn marked(packets: &[u8]) -> (u8, u64) {
        let mut marking = Marking::default();
        packets.iter().for_each(|&dscp| marking.note(dscp));
        (marking.code_point(), marking.others())
    }

    #[test]
    fn most_frequent_code_point_wins_and_the_others_are_counted() {
        assert_eq!(marked(&[]), (0, 0));
        assert_eq!(marked(&[46; 5]), (46, 0));
        assert_eq!(marked(&[0, 46, 46, 0, 46]), (46, 2), "marked anew in mid-stream");
        assert_eq!(marked(&[46, 0, 0, 46]), (46, 2), "the earlier of two");
        assert_eq!(marked(&[0, 0, 0]), (0, 0), "best effort is a marking too");
    }

    #[test]
    fn fifth_code_point_counts_among_the_others() {
        // 1, 2, 3 and 4 have a count each; 5 and 6 have none, however often they come.
        assert_eq!(marked(&[1, 2, 3, 4, 4, 5, 5, 5, 6]), (4, 7));
    }
}
