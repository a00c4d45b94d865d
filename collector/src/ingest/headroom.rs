//! How much of the disk records leave free: below it they are not stored, and what else lies there goes on.
//!
//! The day files share their disk with the registry, the fleet's book and often the system. Full, it would stop
//! enrolment, renewal and every reboot of an endpoint with the records. So records stop first: nothing of them is
//! lost, agents keep what is not acked. They are taken again where an eighth more than the headroom is free, so that a
//! disk at the edge does not turn this on and off with every file that comes and goes.

/// How full a file system is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// What this process may still write.
    pub free_bytes: u64,
    /// The whole of it; 0 where it tells no size, as of one in memory without a limit.
    pub total_bytes: u64,
}

/// A change of what is done with records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// They are not stored from now on.
    Low,
    /// They are stored again.
    Enough,
}

/// Whether records are stored.
#[derive(Debug, Clone)]
pub struct Headroom {
    bytes: u64,
    space: Space,
    is_low: bool,
}

impl Headroom {
    /// One of `bytes`, and of at most a tenth of the file system, so that a small disk can be used at all.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self { bytes, space: Space::default(), is_low: false }
    }

    /// Takes a measurement.
    pub fn handle_space(&mut self, space: Space) -> Option<Turn> {
        self.space = space;
        let (needed, was_low) = (self.needed_bytes(), self.is_low);
        let enough = if was_low { needed.saturating_add(needed / 8) } else { needed };
        self.is_low = space.total_bytes > 0 && space.free_bytes < enough;
        match (was_low, self.is_low) {
            (false, true) => Some(Turn::Low),
            (true, false) => Some(Turn::Enough),
            (false, false) | (true, true) => None,
        }
    }

    /// Whether there is too little space to store records.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.is_low
    }

    /// The last measurement.
    #[must_use]
    pub fn space(&self) -> Space {
        self.space
    }

    /// What must be free on the file system as it was last measured, in bytes.
    #[must_use]
    pub fn needed_bytes(&self) -> u64 {
        self.bytes.min(self.space.total_bytes / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn of(total_bytes: u64) -> impl Fn(u64) -> Space {
        move |free_bytes| Space { free_bytes, total_bytes }
    }

    #[test]
    fn records_stop_below_the_headroom_and_go_on_an_eighth_above_it() {
        let (mut headroom, free) = (Headroom::new(GIB), of(100 * GIB));
        // 9/8 GiB are needed to go on.
        for (bytes, turn, is_low) in [
            (GIB, None, false),
            (GIB - 1, Some(Turn::Low), true),
            (0, None, true),
            (GIB, None, true),
            (GIB + GIB / 8 - 1, None, true),
            (GIB + GIB / 8, Some(Turn::Enough), false),
            (GIB, None, false),
        ] {
            assert_eq!((headroom.handle_space(free(bytes)), headroom.is_low()), (turn, is_low));
        }
    }

    #[test]
    fn small_disk_needs_a_tenth_of_itself() {
        let (mut headroom, free) = (Headroom::new(GIB), of(4 * GIB));
        assert_eq!(headroom.handle_space(free(GIB / 2)), None);
        assert_eq!(headroom.needed_bytes(), 4 * GIB / 10);
        assert_eq!(headroom.handle_space(free(GIB / 4)), Some(Turn::Low));
    }

    #[test]
    fn file_system_without_a_size_is_never_low() {
        let mut headroom = Headroom::new(GIB);
        assert_eq!(headroom.handle_space(Space::default()), None);
        assert!(!headroom.is_low());
    }

    #[test]
    fn absurd_figures_do_not_overflow() {
        let mut headroom = Headroom::new(u64::MAX);
        assert_eq!(headroom.handle_space(of(u64::MAX)(0)), Some(Turn::Low));
        assert_eq!(headroom.handle_space(of(u64::MAX)(u64::MAX)), Some(Turn::Enough));
    }
}
