//! Why a captured packet did not become a datagram, counted by reason.
//!
//! A packet that is no UDP datagram is an observation and never an error. Packets seen = datagrams handed over + the
//! total here, always.

/// Why one captured packet was not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SkipReason {
    /// Its link type is none that `link` can read.
    UnsupportedLink,
    /// The link header itself is shorter than its type demands.
    MalformedLink,
    /// It carries something else than IPv4 or IPv6, as ARP does.
    NotIp,
    /// Its IP header contradicts itself or its frame.
    MalformedIp,
    /// It carries another protocol than UDP.
    NotUdp,
    /// It is a later fragment: the ports went with the first one, which was used.
    Fragment,
    /// Its UDP length contradicts its IP length.
    MalformedUdp,
    /// The capture cut it before the end of its UDP header: the snap length was too short.
    TruncatedHead,
    /// The file, or the block of the ring, ends inside it.
    TruncatedRecord,
    /// Its record has no time (pcapng simple packet block), so that nothing can be measured by it.
    NoTimestamp,
    /// Its record names an interface that the file did not describe.
    UnknownInterface,
}

impl SkipReason {
    /// All reasons, in the order in which they are listed.
    pub const ALL: [Self; 11] = [
        Self::UnsupportedLink,
        Self::MalformedLink,
        Self::NotIp,
        Self::MalformedIp,
        Self::NotUdp,
        Self::Fragment,
        Self::MalformedUdp,
        Self::TruncatedHead,
        Self::TruncatedRecord,
        Self::NoTimestamp,
        Self::UnknownInterface,
    ];

    /// Its name in JSON; stable, since others parse it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnsupportedLink => "unsupportedLink",
            Self::MalformedLink => "malformedLink",
            Self::NotIp => "notIp",
            Self::MalformedIp => "malformedIp",
            Self::NotUdp => "notUdp",
            Self::Fragment => "fragment",
            Self::MalformedUdp => "malformedUdp",
            Self::TruncatedHead => "truncatedHead",
            Self::TruncatedRecord => "truncatedRecord",
            Self::NoTimestamp => "noTimestamp",
            Self::UnknownInterface => "unknownInterface",
        }
    }
}

/// How many packets were skipped, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Skips {
    counts: [u64; SkipReason::ALL.len()],
}

impl Skips {
    /// Counts one more packet.
    pub const fn count(&mut self, reason: SkipReason) {
        self.counts[reason as usize] += 1;
    }

    /// How many packets were skipped for this reason.
    #[must_use]
    pub const fn of(&self, reason: SkipReason) -> u64 {
        self.counts[reason as usize]
    }

    /// How many packets were skipped for any reason.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The reasons that occurred, by their names in JSON, with their counts; in the order of [`SkipReason::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        SkipReason::ALL
            .iter()
            .map(|&reason| (reason.name(), self.of(reason)))
            .filter(|&(_, count)| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_slot_and_a_name_of_its_own() {
        let mut skips = Skips::default();
        for (index, &reason) in SkipReason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, index);
            skips.count(reason);
            assert_eq!(skips.of(reason), 1);
        }
        let mut names: Vec<_> = skips.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SkipReason::ALL.len());
        assert_eq!(skips.total(), 11);
    }

    #[test]
    fn reasons_that_did_not_occur_are_not_listed() {
        let mut skips = Skips::default();
        skips.count(SkipReason::NotUdp);
        skips.count(SkipReason::NotUdp);
        assert_eq!(skips.iter().collect::<Vec<_>>(), [("notUdp", 2)]);
    }
}
