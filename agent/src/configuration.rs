//! What the collector sets this endpoint to, and what became of it: which text is in force, on trial, taken back.
//!
//! A core; [`file`] keeps it on disk, `config::layers` says whether a text is valid, `daemon` applies it. `config` is
//! the machine's own file, which goes before it key by key.
//!
//! ```text
//!                      QUIET without a call                      welcomed with it
//!  arrival ──┬──► WaitsForCall ──────────────────► OnTrial ─────────────────────────────► InForce
//!            │                                       │ not welcomed for TRIAL, or LIVES_MAX lives
//!            └──► Refused: not valid                 └──────────────────────────────────► RolledBack
//! ```
//! Rules, each of them tested below or in `tests/agent/configuration.rs`:
//! - What runs is the latest arrival where it is in force or on trial, else the one that was confirmed last, else the
//!   machine's own file alone. Nothing runs that was not valid when it came.
//! - Nothing changes in the middle of a call: neither to a new text nor back to the old one. The end of a call is not
//!   enough, for the next one may begin with it; so changes wait until none has been on for [`QUIET`].
//! - A trial is on disk before it is applied, and so is the count of lives that began with it. Where the disk does not
//!   take that, it is not applied: a crash would forget why the agent crashes.
//! - A text that was refused or taken back is not tried again until another one came in between.
//! - A trial that meets an outage of the collector is taken back as well: the two cannot be told apart from here. The
//!   operator makes a new revision.

pub mod file;

use std::time::Duration;

use heapless::String as Bounded;
use roomtone_protocol::configuration::{
    Arrival, Configuration, ConfigurationHash, ConfigurationState, Outcome, Text,
};
use roomtone_protocol::limits::REASON_BYTES_MAX;
use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::identity::digest::sha256;

/// Why something is not in force: one line that fits the wire and names no file of this machine.
pub type Reason = Box<Bounded<REASON_BYTES_MAX>>;

/// How long a trial waits for a Welcome, in time awake. The slowest honest way to one is a pause at the ceiling of the
/// back-off (60 s), a name to resolve (5 s), eight addresses at 5 s, and a Hello's answer (10 s): 115 s. This is two
/// of them, and 70 s for a collector that is being restarted.
pub const TRIAL: Duration = Duration::from_secs(300);

/// How long no call must have been on before anything changes. A meeting that follows at once opens its call in the
/// same round as the one before is closed, and word of a call is behind its packets by `tap.block_timeout`, 1 s at
/// most, and 50 ms. This is twice as much.
pub const QUIET: Duration = Duration::from_secs(2);

/// The life of the process that gives a trial up, counted from the first that began with it: one crash may be chance.
pub const LIVES_MAX: u8 = 3;

/// The longest file that is read: two texts of 2 KiB, each byte of them escaped by six, and a line.
pub const KEPT_BYTES_MAX: usize = 32 * 1024;

/// The form of what is kept; another one is not read.
const VERSION: u16 = 1;

/// The hash of a configuration's text.
#[must_use]
pub fn hash(text: &str) -> ConfigurationHash {
    let digest = sha256(text.as_bytes());
    ConfigurationHash(*digest.first_chunk().expect("32 bytes begin with 8"))
}

/// Cuts a line to what the wire takes, at a character's end.
#[must_use]
pub fn reason(line: &str) -> Reason {
    let mut reason = Reason::default();
    // What is beyond is left out.
    let _ = line.chars().filter(|c| !c.is_control()).try_for_each(|c| reason.push(c));
    reason
}

/// What the rules of the machine's config say of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is not valid.
    Refused(Reason),
    /// It sets this endpoint to what it is set to already.
    Same,
    /// It changes something.
    Differs,
}

/// What must outlive the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// The last text that the collector was reached with.
    confirmed: Option<Box<Text>>,
    /// The latest that came.
    latest: Option<Latest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Latest {
    text: Box<Text>,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Stage {
    InForce,
    OnTrial {
        /// Lives of the process that began with it.
        lives: u8,
    },
    WaitsForCall,
    Refused(Reason),
    RolledBack(Reason),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u16,
    confirmed: Option<Box<Text>>,
    latest: Option<Latest>,
}

/// Why what lies on disk is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeptError {
    /// Longer than any of ours.
    #[error("longer than {KEPT_BYTES_MAX} bytes")]
    TooLong,
    /// Not what was written.
    #[error("damaged")]
    Damaged,
    /// Of another version of the agent.
    #[error("of version {found}, not {VERSION}")]
    Version {
        /// Which.
        found: u16,
    },
}

impl Kept {
    /// What lies on disk.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { confirmed, latest } = self.clone();
        serde_json::to_vec(&Stored { version: VERSION, confirmed, latest })
            .expect("an object of texts and a number is JSON")
    }

    /// Reads what lies on disk.
    ///
    /// # Errors
    /// [`KeptError`]: the machine's own file holds alone until the collector sends its text again.
    pub fn decode(bytes: &[u8]) -> Result<Self, KeptError> {
        if bytes.len() > KEPT_BYTES_MAX {
            return Err(KeptError::TooLong);
        }
        /// What every version has.
        #[derive(Deserialize)]
        struct AnyVersion {
            version: u16,
        }
        let AnyVersion { version } =
            serde_json::from_slice(bytes).map_err(|_| KeptError::Damaged)?;
        if version != VERSION {
            return Err(KeptError::Version { found: version });
        }
        let Stored { confirmed, latest, .. } =
            serde_json::from_slice(bytes).map_err(|_| KeptError::Damaged)?;
        Ok(Self { confirmed, latest })
    }

    /// The collector's text that is in force, on trial or for good.
    #[must_use]
    pub fn text(&self) -> Option<&Text> {
        let latest = self.latest.as_ref().filter(|latest| match latest.stage {
            Stage::InForce | Stage::OnTrial { .. } => true,
            Stage::WaitsForCall | Stage::Refused(_) | Stage::RolledBack(_) => false,
        });
        latest.map(|latest| &*latest.text).or(self.confirmed.as_deref())
    }

    /// The latest that came, as the collector is told.
    #[must_use]
    pub fn latest(&self) -> Option<Arrival> {
        self.latest.as_ref().map(|Latest { text, stage }| {
            let (outcome, detail) = match stage {
                Stage::InForce => (Outcome::InForce, Bounded::new()),
                Stage::OnTrial { .. } => (Outcome::OnTrial, Bounded::new()),
                Stage::WaitsForCall => (Outcome::WaitsForCall, Bounded::new()),
                Stage::Refused(reason) => (Outcome::Refused, Bounded::clone(reason)),
                Stage::RolledBack(reason) => (Outcome::RolledBack, Bounded::clone(reason)),
            };
            Arrival { hash: hash(text), outcome, detail }
        })
    }
}

/// What the shell must do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Keep [`Keeper::kept`] on disk; where that fails, say so by [`Keeper::handle_unkept`].
    Keep,
    /// Wind the parts down and start them again with [`Keeper::text`]. No call is on.
    Restart,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Keeper {
    kept: Kept,
    in_call: bool,
    /// Since when the parts run with what is in force, later by what the machine slept since; `None` while they are
    /// being started.
    applied: Option<Moment>,
    /// How long the machine had slept when that was heard last.
    slept: Duration,
    /// The trial's time is over, and it is taken back once no call is on.
    is_overdue: bool,
    /// When what waits is done if no call opens before; of use where [`Self::waits`] alone.
    quiet_at: Option<Moment>,
    owes_keep: bool,
    is_restarting: bool,
}

impl Keeper {
    /// A life of the process begins, with what the one before kept.
    #[must_use]
    pub fn begin(kept: Kept) -> Self {
        let mut keeper = Self {
            kept,
            in_call: false,
            applied: None,
            slept: Duration::ZERO,
            is_overdue: false,
            quiet_at: None,
            owes_keep: false,
            is_restarting: false,
        };
        match keeper.stage() {
            Some(Stage::OnTrial { lives }) if lives + 1 < LIVES_MAX => {
                let lives = lives + 1;
                keeper.turn(Stage::OnTrial { lives });
            }
            Some(Stage::OnTrial { .. }) => {
                keeper.turn(Stage::RolledBack(reason("the agent did not stay up with it")));
            }
            // The call that it waited for ended with the process.
            Some(Stage::WaitsForCall) => keeper.turn(Stage::OnTrial { lives: 1 }),
            Some(Stage::InForce | Stage::Refused(_) | Stage::RolledBack(_)) | None => {}
        }
        keeper
    }

    /// The parts run with [`Self::text`].
    pub fn handle_applied(&mut self, now: Moment) {
        self.applied = Some(now);
        self.is_restarting = false;
        self.is_overdue = false;
        self.in_call = false;
        self.await_quiet(now);
    }

    /// The parts cannot run: true where that was with a text on trial, which is taken back; then they may run without.
    pub fn handle_failed(&mut self, why: &str) -> bool {
        let was_on_trial = matches!(self.stage(), Some(Stage::OnTrial { .. }));
        if was_on_trial {
            self.turn(Stage::RolledBack(reason(why)));
        }
        was_on_trial
    }

    /// The text in force is not valid any more, as after a change of the machine's own file or of the agent's version.
    /// Another one is in force now, or none.
    pub fn handle_invalid(&mut self, why: Reason) {
        match self.stage() {
            Some(Stage::OnTrial { .. }) => self.turn(Stage::Refused(why)),
            Some(Stage::InForce) => {
                self.kept.confirmed = None;
                self.turn(Stage::Refused(why));
            }
            Some(Stage::WaitsForCall | Stage::Refused(_) | Stage::RolledBack(_)) | None => {
                self.kept.confirmed = None;
                self.owes_keep = true;
            }
        }
    }

    /// This machine has slept so long since it booted: a trial's time is time awake, for nobody is reached in a sleep.
    pub fn handle_slept(&mut self, slept: Duration) {
        let more = slept.saturating_sub(self.slept);
        self.slept += more;
        self.applied = self.applied.map(|since| since + more);
    }

    /// The collector takes records, over a link that the parts made as they are.
    pub fn handle_welcomed(&mut self) {
        if self.applied.is_none() || self.is_restarting {
            return;
        }
        if let Some(Latest { text, stage: Stage::OnTrial { .. } }) = &self.kept.latest {
            self.kept.confirmed = Some(text.clone());
            self.turn(Stage::InForce);
        }
    }

    /// A text came from the collector, its hash proven; `verdict` holds it against the config as it is in force.
    pub fn handle_arrival(&mut self, configuration: Configuration, verdict: Verdict, now: Moment) {
        // While the parts wind down the link is that of before; the next one brings it again.
        if self.is_restarting {
            return;
        }
        // Only over a link that was welcomed.
        self.handle_welcomed();
        let text = Box::new(configuration.text);
        if self.kept.latest.as_ref().is_some_and(|latest| latest.text == text) {
            return;
        }
        let is_confirmed = self.kept.confirmed.as_ref() == Some(&text);
        let stage = match verdict {
            Verdict::Refused(reason) => Stage::Refused(reason),
            Verdict::Same | Verdict::Differs if is_confirmed => Stage::InForce,
            Verdict::Same => {
                self.kept.confirmed = Some(text.clone());
                Stage::InForce
            }
            Verdict::Differs => Stage::WaitsForCall,
        };
        self.kept.latest = Some(Latest { text, stage });
        self.owes_keep = true;
        self.await_quiet(now);
    }

    /// A call is on.
    pub fn handle_call_opened(&mut self) {
        self.in_call = true;
        self.quiet_at = None;
    }

    /// No call is on any more.
    pub fn handle_call_closed(&mut self, now: Moment) {
        self.in_call = false;
        self.await_quiet(now);
    }

    /// Acts on the deadline that has passed. Every call that is known of by `now` must have been told before.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.poll_timeout().is_none_or(|(due, _)| due > now) {
            return;
        }
        match self.stage() {
            Some(Stage::WaitsForCall) => {
                self.is_restarting = true;
                self.turn(Stage::OnTrial { lives: 0 });
            }
            Some(Stage::OnTrial { .. }) if self.is_overdue => {
                self.is_restarting = true;
                self.turn(Stage::RolledBack(reason(NOT_REACHED)));
            }
            Some(Stage::OnTrial { .. }) => {
                self.is_overdue = true;
                self.await_quiet(now);
            }
            Some(Stage::InForce | Stage::Refused(_) | Stage::RolledBack(_)) | None => {}
        }
    }

    /// The disk did not keep what it was given.
    pub fn handle_unkept(&mut self) {
        let is_new = self.applied.is_none() || self.is_restarting;
        if is_new && let Some(Stage::OnTrial { lives }) = self.stage() {
            let why = reason("the disk does not keep it, so that a crash could not be told");
            self.is_restarting = false;
            self.turn(if lives == 0 { Stage::Refused(why) } else { Stage::RolledBack(why) });
            // Once more would be refused as well; the next change tries again.
            self.owes_keep = false;
        }
    }

    /// What the shell must do next; `None` once there is nothing left.
    pub fn poll_act(&mut self) -> Option<Act> {
        if std::mem::take(&mut self.owes_keep) {
            return Some(Act::Keep);
        }
        let restarts = self.is_restarting && self.applied.take().is_some();
        debug_assert!(!(restarts && self.in_call), "nothing changes in a call");
        restarts.then_some(Act::Restart)
    }

    /// When [`Self::handle_timeout`] must be called next, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        let since = self.applied.filter(|_| !self.is_restarting)?;
        if self.waits() {
            return self.quiet_at.map(|due| (due, "no call"));
        }
        matches!(self.stage(), Some(Stage::OnTrial { .. })).then_some((since + TRIAL, "trial"))
    }

    /// What must be on disk.
    #[must_use]
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The collector's text that is in force, or is to be with the next start of the parts.
    #[must_use]
    pub fn text(&self) -> Option<&Text> {
        self.kept.text()
    }

    /// What the collector is told; `effective` is the hash of what the endpoint is set to.
    #[must_use]
    pub fn state(&self, effective: ConfigurationHash) -> ConfigurationState {
        let in_force = self.text().map(|text| hash(text));
        ConfigurationState { effective, in_force, latest: self.kept.latest() }
    }

    fn stage(&self) -> Option<Stage> {
        self.kept.latest.as_ref().map(|latest| latest.stage.clone())
    }

    fn turn(&mut self, stage: Stage) {
        if let Some(latest) = &mut self.kept.latest {
            latest.stage = stage;
            self.owes_keep = true;
        }
    }

    /// Something is to change as soon as no call is on.
    fn waits(&self) -> bool {
        match self.stage() {
            Some(Stage::WaitsForCall) => true,
            Some(Stage::OnTrial { .. }) => self.is_overdue,
            Some(Stage::InForce | Stage::Refused(_) | Stage::RolledBack(_)) | None => false,
        }
    }

    fn await_quiet(&mut self, now: Moment) {
        self.quiet_at = (!self.in_call).then_some(now + QUIET);
    }
}

const NOT_REACHED: &str = "the collector was not reached with it within 5 minutes";

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment::from_nanos(1_000_000_000_000);

    fn configuration(text: &str) -> Configuration {
        Configuration { hash: hash(text), text: text.try_into().unwrap() }
    }

    /// A life that runs, with what is kept.
    fn running(kept: Kept) -> Keeper {
        let mut keeper = Keeper::begin(kept);
        while let Some(act) = keeper.poll_act() {
            assert_eq!(act, Act::Keep, "what is not running needs no restart");
        }
        keeper.handle_applied(START);
        keeper
    }

    fn acts(keeper: &mut Keeper) -> Vec<Act> {
        std::iter::from_fn(|| keeper.poll_act()).collect()
    }

    fn outcome(keeper: &Keeper) -> Option<(Outcome, String)> {
        let latest = keeper.kept().latest()?;
        Some((latest.outcome, latest.detail.as_str().to_owned()))
    }

    /// With `text` on trial, applied at `START`.
    fn on_trial(mut keeper: Keeper, text: &str) -> Keeper {
        keeper.handle_arrival(configuration(text), Verdict::Differs, START);
        assert_eq!(acts(&mut keeper), [Act::Keep]);
        keeper.handle_timeout(START + QUIET);
        assert_eq!(acts(&mut keeper), [Act::Keep, Act::Restart]);
        keeper.handle_applied(START);
        keeper
    }

    fn confirmed(text: &str) -> Keeper {
        let mut keeper = on_trial(running(Kept::default()), text);
        keeper.handle_welcomed();
        assert_eq!(acts(&mut keeper), [Act::Keep]);
        keeper
    }

    /// SHA-256 of nothing is e3b0c442 98fc1c14 ... (FIPS 180-4).
    #[test]
    fn hash_is_the_head_of_sha_256() {
        assert_eq!(hash("").0, [0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14]);
    }

    #[test]
    fn valid_text_is_kept_applied_and_confirmed_by_the_welcome() {
        let keeper = confirmed("a");
        assert_eq!(outcome(&keeper), Some((Outcome::InForce, String::new())));
        assert_eq!(keeper.text().map(Text::as_str), Some("a"));
        assert_eq!(keeper.poll_timeout(), None, "an agent at rest has no timer");
        let state = keeper.state(hash("effective"));
        assert_eq!((state.effective, state.in_force), (hash("effective"), Some(hash("a"))));
    }

    #[test]
    fn trial_without_a_welcome_is_taken_back_after_its_time() {
        let mut keeper = on_trial(confirmed("a"), "b");
        assert_eq!(keeper.poll_timeout(), Some((START + TRIAL, "trial")));
        keeper.handle_timeout(START + TRIAL - Duration::from_nanos(1));
        assert_eq!((acts(&mut keeper), keeper.text().map(Text::as_str)), (vec![], Some("b")));
        keeper.handle_timeout(START + TRIAL);
        assert_eq!((acts(&mut keeper), keeper.text().map(Text::as_str)), (vec![], Some("b")));
        keeper.handle_timeout(START + TRIAL + QUIET);
        assert_eq!(acts(&mut keeper), [Act::Keep, Act::Restart]);
        assert_eq!(keeper.text().map(Text::as_str), Some("a"));
        assert_eq!(outcome(&keeper), Some((Outcome::RolledBack, NOT_REACHED.to_owned())));
    }

    #[test]
    fn sleep_is_no_part_of_a_trial() {
        let (minute, night) = (Duration::from_secs(60), Duration::from_secs(8 * 3_600));
        let mut keeper = running(Kept::default());
        keeper.handle_slept(night);
        let mut keeper = on_trial(keeper, "b");
        // Four minutes awake, a night, and the fifth minute: woken within the trial's last minute or after it.
        keeper.handle_slept(night * 2);
        keeper.handle_timeout(START + minute * 4 + night);
        assert_eq!((acts(&mut keeper), outcome(&keeper).unwrap().0), (vec![], Outcome::OnTrial));
        assert_eq!(keeper.poll_timeout(), Some((START + TRIAL + night, "trial")));
        keeper.handle_timeout(START + TRIAL + night);
        keeper.handle_timeout(START + TRIAL + night + QUIET);
        assert_eq!(acts(&mut keeper), [Act::Keep, Act::Restart]);
    }

    #[test]
    fn third_life_that_begins_on_trial_gives_it_up() {
        let mut kept = on_trial(confirmed("a"), "b").kept().clone();
        for life in 1..LIVES_MAX {
            let keeper = running(kept);
            assert_eq!(outcome(&keeper).unwrap().0, Outcome::OnTrial, "life {life}");
            kept = keeper.kept().clone();
        }
        let keeper = running(kept);
        assert_eq!(keeper.text().map(Text::as_str), Some("a"));
        let why = "the agent did not stay up with it".to_owned();
        assert_eq!(outcome(&keeper), Some((Outcome::RolledBack, why)));
    }

    #[test]
    fn life_counts_before_it_is_applied() {
        let kept = on_trial(confirmed("a"), "b").kept().clone();
        let mut keeper = Keeper::begin(kept.clone());
        assert_eq!(keeper.poll_act(), Some(Act::Keep));
        assert_ne!(keeper.kept(), &kept, "the count is in it");
        keeper.handle_unkept();
        assert_eq!(keeper.text().map(Text::as_str), Some("a"), "uncounted is not applied");
    }

    #[test]
    fn nothing_changes_in_the_middle_of_a_call() {
        let mut keeper = confirmed("a");
        keeper.handle_call_opened();
        keeper.handle_arrival(configuration("b"), Verdict::Differs, START);
        assert_eq!(acts(&mut keeper), [Act::Keep]);
        assert_eq!(outcome(&keeper).unwrap().0, Outcome::WaitsForCall);
        assert_eq!(keeper.text().map(Text::as_str), Some("a"));
        assert_eq!(keeper.poll_timeout(), None, "it waits for the call's end");
        keeper.handle_call_closed(START);
        assert_eq!(keeper.poll_timeout(), Some((START + QUIET, "no call")));
        keeper.handle_timeout(START + QUIET - Duration::from_nanos(1));
        assert_eq!(acts(&mut keeper), []);
        keeper.handle_timeout(START + QUIET);
        assert_eq!(acts(&mut keeper), [Act::Keep, Act::Restart]);
        keeper.handle_applied(START);
        assert_eq!(keeper.text().map(Text::as_str), Some("b"));

        keeper.handle_call_opened();
        keeper.handle_timeout(START + TRIAL);
        assert_eq!((acts(&mut keeper), keeper.poll_timeout()), (vec![], None));
        keeper.handle_call_closed(START + TRIAL);
        keeper.handle_timeout(START + TRIAL + QUIET);
        assert_eq!(acts(&mut keeper), [Act::Keep, Act::Restart]);
        assert_eq!(keeper.text().map(Text::as_str), Some("a"));
    }

    #[test]
    fn meeting_that_follows_at_once_is_not_cut_in_two() {
        let mut keeper = confirmed("a");
        keeper.handle_call_opened();
        keeper.handle_arrival(configuration("b"), Verdict::Differs, START);
        // One call is closed and the next one opened by the same event.
        keeper.handle_call_closed(START);
        keeper.handle_call_opened();
        keeper.handle_timeout(START + TRIAL);
        assert_eq!((acts(&mut keeper), keeper.poll_timeout()), (vec![Act::Keep], None));
        assert_eq!(outcome(&keeper).unwrap().0, Outcome::WaitsForCall);
        assert_eq!(keeper.text().map(Text::as_str), Some("a"));
    }

    #[test]
    fn overdue_trial_is_not_taken_back_in_the_meeting_that_follows_at_once() {
        let mut keeper = on_trial(confirmed("a"), "b");
        keeper.handle_call_opened();
        keeper.handle_timeout(START + TRIAL);
        keeper.handle_call_closed(START + TRIAL);
        keeper.handle_call_opened();
        keeper.handle_timeout(START + TRIAL * 2);
        assert_eq!((acts(&mut keeper), keeper.poll_timeout()), (vec![], None));
        assert_eq!(outcome(&keeper).unwrap().0, Outcome::OnTrial);
        // A collector that comes back in that meeting confirms it after all.
        keeper.handle_welcomed();
        keeper.handle_call_closed(START + TRIAL * 2);
        assert_eq!((acts(&mut keeper), keeper.poll_timeout()), (vec![Act::Keep], None));
        assert_eq!(outcome(&keeper).unwrap().0, Outcome::InForce);
    }

    #[test]
    fn call_whose_word_comes_after_a_text_is_not_cut_in_two() {
        let mut keeper = confirmed("a");
        keeper.handle_arrival(configuration("b"), Verdict::Differs, START);
        assert_eq!(
            (acts(&mut keeper), outcome(&keeper).unwrap().0),
            (vec![Act::Keep], Outcome::WaitsForCall)
        );
        keeper.handle_call_opened();
        keeper.handle_timeout(START + QUIET);
        assert_eq!((acts(&mut keeper), keeper.poll_timeout()), (vec![], None));
    }

    #[test]
    fn what_waited_for_a_call_is_on_trial_in_the_next_life() {
        let mut keeper = confirmed("a");
        keeper.handle_call_opened();
        keeper.handle_arrival(configuration("b"), Verdict::Differs, START);
        let keeper = running(keeper.kept().clone());
        assert_eq!(outcome(&keeper).unwrap().0, Outcome::OnTrial);
        assert_eq!(keeper.text().map(Text::as_str), Some("b"));
    }

    #[test]
    fn refused_text_changes_nothing_and_is_told_once() {
        let mut keeper = confirmed("a");
        keeper.handle_arrival(configuration("b"), Verdict::Refused(reason("no\nsuch key")), START);
        assert_eq!(acts(&mut keeper), [Act::Keep]);
        assert_eq!(outcome(&keeper), Some((Outcome::Refused, "nosuch key".to_owned())));
        assert_eq!(keeper.text().map(Text::as_str), Some("a"));
        keeper.handle_arrival(configuration("b"), Verdict::Differs, START);
        assert_eq!(acts(&mut keeper), [], "the same again is not tried");
    }

    #[test]
    fn what_was_taken_back_may_come_again_after_another() {
        let mut keeper = on_trial(confirmed("a"), "b");
        keeper.handle_timeout(START + TRIAL);
        keeper.handle_timeout(START + TRIAL + QUIET);
        acts(&mut keeper);
        keeper.handle_applied(START);
        keeper.handle_arrival(configuration("b"), Verdict::Differs, START);
        assert_eq!(acts(&mut keeper), []);
        keeper.handle_arrival(configuration("a"), Verdict::Same, START);
        assert_eq!(outcome(&keeper).unwrap().0, Outcome::InForce);
        keeper.handle_arrival(configuration("b"), Verdict::Differs, START);
        keeper.handle_timeout(START + QUIET);
        assert_eq!(acts(&mut keeper), [Act::Keep, Act::Restart]);
    }

    #[test]
    fn text_that_changes_nothing_is_in_force_without_a_restart() {
        let mut keeper = running(Kept::default());
        keeper.handle_arrival(configuration(""), Verdict::Same, START);
        assert_eq!(acts(&mut keeper), [Act::Keep]);
        assert_eq!(keeper.state(hash("")).in_force, Some(hash("")));
    }

    #[test]
    fn word_of_the_old_link_neither_confirms_nor_replaces_what_is_about_to_be_tried() {
        let mut keeper = confirmed("a");
        keeper.handle_arrival(configuration("b"), Verdict::Differs, START);
        keeper.handle_timeout(START + QUIET);
        keeper.handle_welcomed();
        keeper.handle_arrival(configuration("c"), Verdict::Differs, START);
        assert_eq!(acts(&mut keeper), [Act::Keep, Act::Restart]);
        keeper.handle_welcomed();
        assert_eq!(outcome(&keeper).unwrap().0, Outcome::OnTrial);
        assert_eq!(keeper.kept().latest().unwrap().hash, hash("b"));
    }

    #[test]
    fn parts_that_do_not_start_give_the_trial_up_at_once_and_nothing_else() {
        let mut keeper = confirmed("a");
        assert!(!keeper.handle_failed("no tap"));
        keeper.handle_arrival(configuration("b"), Verdict::Differs, START);
        keeper.handle_timeout(START + QUIET);
        acts(&mut keeper);
        assert!(keeper.handle_failed("no tap"));
        assert_eq!(keeper.text().map(Text::as_str), Some("a"));
        assert_eq!(outcome(&keeper), Some((Outcome::RolledBack, "no tap".to_owned())));
    }

    #[test]
    fn text_that_became_invalid_leaves_the_machines_own_file() {
        let mut keeper = Keeper::begin(confirmed("a").kept().clone());
        keeper.handle_invalid(reason("unknown key"));
        assert_eq!((keeper.text(), outcome(&keeper).unwrap().0), (None, Outcome::Refused));
    }

    #[test]
    fn disk_that_keeps_nothing_lets_nothing_be_tried() {
        let mut keeper = confirmed("a");
        keeper.handle_arrival(configuration("b"), Verdict::Differs, START);
        assert_eq!(keeper.poll_act(), Some(Act::Keep));
        keeper.handle_unkept();
        assert_eq!(
            (acts(&mut keeper), outcome(&keeper).unwrap().0),
            (vec![], Outcome::WaitsForCall)
        );
        keeper.handle_timeout(START + QUIET);
        assert_eq!(keeper.poll_act(), Some(Act::Keep));
        keeper.handle_unkept();
        assert_eq!(acts(&mut keeper), []);
        assert_eq!((outcome(&keeper).unwrap().0), Outcome::Refused);
        assert_eq!(keeper.text().map(Text::as_str), Some("a"));
    }

    #[test]
    fn what_is_kept_is_read_again_and_every_cut_of_it_is_refused() {
        let mut keeper = confirmed("log.level = \"info\"\n");
        keeper.handle_arrival(configuration("é\u{1}"), Verdict::Refused(reason("why")), START);
        let bytes = keeper.kept().encode();
        assert_eq!(Kept::decode(&bytes).as_ref(), Ok(keeper.kept()));
        for length in 0..bytes.len() {
            assert_eq!(Kept::decode(&bytes[..length]), Err(KeptError::Damaged), "{length}");
        }
        let later = br#"{"version":2,"more":[]}"#;
        assert_eq!(Kept::decode(later), Err(KeptError::Version { found: 2 }));
        assert_eq!(Kept::decode(&vec![b' '; KEPT_BYTES_MAX + 1]), Err(KeptError::TooLong));
        // The worst text: each byte is escaped by six.
        let worst = "\u{1}".repeat(2048);
        let mut keeper = confirmed(&worst);
        keeper.handle_arrival(
            configuration(&worst.replacen('\u{1}', "\u{2}", 1)),
            Verdict::Differs,
            START,
        );
        assert!(keeper.kept().encode().len() <= KEPT_BYTES_MAX);
    }
}
