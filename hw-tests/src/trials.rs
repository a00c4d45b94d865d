//! The trials: what is done to a device, and what must be seen. The same on all benches.

mod cost;
mod crash;
mod device;
mod endurance;
mod faults;
mod fleet;
mod harmless;
mod hostile;
mod inventory;
mod levels;
mod opening;
mod path;
mod scene;
mod selftest;
mod server;
mod sleep;

use std::time::Duration;

use anyhow::Result;

use crate::bench::report::Finding;
use crate::stage::Stage;

/// A trial.
#[derive(Debug)]
pub struct Trial {
    /// Its name: a claim.
    pub name: &'static str,
    /// Whether it belongs to the short run.
    pub group: Group,
    /// What the bench must have.
    pub need: Need,
    /// The longest that it may take on an emulated machine.
    pub limit: Duration,
    /// Does it.
    pub run: fn(&mut Stage) -> Result<Verdict>,
}

/// Which run a trial belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Group {
    /// With each `make test`: all of them in less than 5 minutes.
    Short,
    /// With `make hw-test`.
    All,
    /// With `make hw-test-long`: half an hour and more each.
    Long,
    /// With `make hw-test-fleet`: on a Debian with systemd, with our packages.
    Fleet,
}

impl Group {
    /// Whether a run of this group takes up a trial of `other`, be it to say that it is not run.
    #[must_use]
    pub fn includes(self, other: Self) -> bool {
        match self {
            Self::Short => other == Self::Short,
            Self::All => true,
            Self::Long => other == Self::Long,
            Self::Fleet => other == Self::Fleet,
        }
    }
}

/// What a bench must have for a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A device that works.
    Device,
    /// Somebody who unplugs it or presses its button.
    Hands,
    /// Faults that only a headset made of software has.
    Faults,
    /// A machine that may be put to sleep, and whose modules and sound servers may come and go.
    Guest,
}

/// What a trial found, and what is wrong with that.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What was measured.
    pub finding: Finding,
    /// Why it failed; `None` where it passed.
    pub wrong: Option<String>,
}

impl Verdict {
    /// Passed where no check says what is wrong.
    fn judge(finding: Finding, checks: impl IntoIterator<Item = Option<String>>) -> Self {
        let wrong: Vec<String> = checks.into_iter().flatten().collect();
        Self { finding, wrong: (!wrong.is_empty()).then(|| wrong.join("; ")) }
    }

    /// Passed, with words.
    fn seen(words: String) -> Self {
        Self { finding: Finding { seen: Some(words), ..Finding::default() }, wrong: None }
    }
}

/// All trials, in the order in which they run.
pub const ALL: &[Trial] = &[
    device::APPEARS,
    device::RECORDS,
    device::PLAYS,
    device::STALLS,
    device::COMES_BACK,
    device::BUTTON,
    device::CALL_IS_STORED,
    device::PATH_IS_MEASURED,
    faults::UNPLUG,
    faults::STALL_CAPTURE,
    faults::STALL_RENDER,
    faults::NO_DATA,
    faults::PACKET_ERRORS,
    opening::NEVER_STARTED,
    opening::NEVER_STARTED_BLOCKED,
    opening::STALL_BLOCKED,
    opening::CONTROL_HANG,
    opening::CONTROL_STALL,
    sleep::SUSPENDED,
    faults::RENDER_ERRORS,
    harmless::BUSY,
    harmless::BUTTON,
    harmless::MIXER,
    harmless::CLOSED,
    server::KILLED,
    server::SUSPENDS_IDLE,
    server::MUTES,
    inventory::SHOWS_TRUTH,
    cost::WATCHING,
    hostile::ODD_NAME,
    hostile::VANISHING,
    hostile::NO_PERMISSION,
    hostile::MANY_CARDS,
    hostile::NO_SOUND,
    endurance::HEALTHY,
    path::BESIDE_IRTT,
    faults::FLAPS_ARE_ONE_EPISODE,
    crash::COUNTS_ONCE,
    selftest::HEARS,
    selftest::RENDER_ERRORS,
    selftest::ZEROS,
    selftest::HANGING,
    selftest::BUSY,
    selftest::REQUEST,
    levels::ALONE,
    levels::ZEROS,
    levels::CONSTANT,
    levels::MUTES,
    levels::GATE,
    cost::EVERYTHING,
    fleet::WAITS,
    fleet::STARTS,
    fleet::CLOSED,
    fleet::UNPLUG,
    fleet::SELF_TEST,
    fleet::UPGRADE,
    fleet::PURGE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_into_a_list_of_lines() {
        let mut names: Vec<_> = ALL.iter().map(|trial| trial.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(names.iter().all(|name| !name.contains(char::is_whitespace)));
    }

    #[test]
    fn verdict_passes_only_without_objections() {
        assert_eq!(Verdict::judge(Finding::default(), [None, None]).wrong, None);
        let both = Verdict::judge(Finding::default(), [Some("a".into()), None, Some("b".into())]);
        assert_eq!(both.wrong.as_deref(), Some("a; b"));
    }
}
