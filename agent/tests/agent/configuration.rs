//! What a collector sets, over any sequence of arrivals, calls, links, failures and lives of the process.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use roomtone_agent::clock::Moment;
use roomtone_agent::configuration::{
    Act, Keeper, Kept, LIVES_MAX, QUIET, TRIAL, Verdict, hash, reason,
};
use roomtone_protocol::configuration::{Configuration, Outcome};

#[derive(Debug, Clone, Copy)]
enum Step {
    /// A text by its number; every third is not valid, every fourth changes nothing.
    Arrives(u8),
    Welcomed,
    CallOpens,
    CallCloses,
    /// One call closes and the next one opens, told together.
    CallFollows,
    Waits(u16),
    /// The process is killed and begins anew.
    Dies,
    /// The disk does not take what is to be kept next.
    DiskFails,
    /// The parts do not start with what is in force.
    PartsFail,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..6).prop_map(Step::Arrives),
        3 => Just(Step::Welcomed),
        2 => Just(Step::CallOpens),
        2 => Just(Step::CallCloses),
        1 => Just(Step::CallFollows),
        2 => (0u16..400).prop_map(Step::Waits),
        2 => Just(Step::Dies),
        1 => Just(Step::DiskFails),
        1 => Just(Step::PartsFail),
    ]
}

/// [`QUIET`] in whole seconds.
const QUIET_S: u16 = QUIET.as_secs() as u16;

fn is_valid(number: u8) -> bool {
    number % 3 != 2
}

fn verdict(number: u8) -> Verdict {
    match number {
        number if !is_valid(number) => Verdict::Refused(reason("not valid")),
        3 => Verdict::Same,
        _ => Verdict::Differs,
    }
}

/// The endpoint around the keeper.
struct World {
    keeper: Keeper,
    disk: Vec<u8>,
    now: Moment,
    in_call: bool,
    disk_fails: bool,
    /// The disk forgot something, so that a later life may know less than this one.
    disk_failed: bool,
    parts_fail: bool,
    /// What the parts run with.
    runs: Option<String>,
    /// What a Welcome was seen with, or what changed nothing.
    proven: BTreeSet<String>,
    /// What was given up and must not run until another text came.
    barred: Option<String>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            keeper: Keeper::begin(Kept::default()),
            disk: Kept::default().encode(),
            now: Moment::from_nanos(1_000_000_000_000),
            in_call: false,
            disk_fails: false,
            disk_failed: false,
            parts_fail: false,
            runs: None,
            proven: BTreeSet::new(),
            barred: None,
        };
        world.start();
        world
    }

    fn latest(&self) -> Option<(Outcome, [u8; 8])> {
        self.keeper.kept().latest().map(|latest| (latest.outcome, latest.hash.0))
    }

    /// Does what the keeper asks for; true where the parts are to be started again.
    fn act(&mut self) -> bool {
        let mut is_over = false;
        let mut acts = 0;
        while let Some(act) = self.keeper.poll_act() {
            acts += 1;
            assert!(acts < 5, "it comes to rest");
            match act {
                Act::Keep if std::mem::take(&mut self.disk_fails) => {
                    self.disk_failed = true;
                    self.keeper.handle_unkept();
                }
                Act::Keep => self.disk = self.keeper.kept().encode(),
                Act::Restart => {
                    assert!(!self.in_call, "nothing changes in a call");
                    let kept = Kept::decode(&self.disk).unwrap();
                    if self.latest().is_some_and(|(outcome, _)| outcome == Outcome::OnTrial) {
                        assert_eq!(
                            &kept,
                            self.keeper.kept(),
                            "a trial is on disk before it begins"
                        );
                    }
                    is_over = true;
                }
            }
        }
        is_over
    }

    /// Starts the parts, once more where they cannot run with a trial.
    fn start(&mut self) {
        self.act();
        if std::mem::take(&mut self.parts_fail) && self.keeper.handle_failed("no ring") {
            self.act();
            assert_eq!(self.latest().unwrap().0, Outcome::RolledBack);
        }
        self.keeper.handle_applied(self.now);
        self.runs = self.keeper.text().map(|text| text.as_str().to_owned());
        if let Some(text) = &self.runs {
            assert!(is_valid(text.parse().unwrap()), "what runs was valid when it came");
            assert_ne!(self.barred.as_ref(), Some(text), "what was given up is not tried again");
            let is_trial = self.latest() == Some((Outcome::OnTrial, hash(text).0));
            assert!(is_trial || self.proven.contains(text), "{text} runs and was never proven");
        } else {
            // Only the beginning has none: once proven, something runs for ever.
            assert!(self.proven.is_empty() || self.disk_failed);
        }
    }

    fn step(&mut self, step: Step) {
        let before = self.latest();
        match step {
            Step::Arrives(number) => {
                // It comes over a link that was welcomed.
                self.welcome();
                let text = number.to_string();
                let configuration =
                    Configuration { hash: hash(&text), text: text.as_str().try_into().unwrap() };
                self.keeper.handle_arrival(configuration, verdict(number), self.now);
                if self.barred.as_ref().is_some_and(|barred| *barred != text) {
                    self.barred = None;
                }
                if verdict(number) == Verdict::Same && self.barred.is_none() {
                    self.proven.insert(text);
                }
            }
            Step::Welcomed => self.welcome(),
            Step::CallOpens => {
                self.in_call = true;
                self.keeper.handle_call_opened();
            }
            Step::CallCloses => {
                self.in_call = false;
                self.keeper.handle_call_closed(self.now);
            }
            Step::CallFollows => {
                self.in_call = true;
                self.keeper.handle_call_closed(self.now);
                self.keeper.handle_call_opened();
            }
            Step::Waits(seconds) => {
                self.now = self.now + Duration::from_secs(u64::from(seconds));
                self.keeper.handle_timeout(self.now);
            }
            Step::Dies => {
                self.in_call = false;
                self.keeper = Keeper::begin(Kept::decode(&self.disk).unwrap());
                if self.disk_failed {
                    self.barred = None;
                }
                self.start();
            }
            Step::DiskFails => self.disk_fails = true,
            Step::PartsFail => self.parts_fail = true,
        }
        if self.act() {
            self.note(before);
            self.in_call = false;
            self.start();
        }
        self.note(before);
        if let Some((due, _)) = self.keeper.poll_timeout() {
            assert!(due.since(self.now) <= TRIAL);
        }
    }

    fn welcome(&mut self) {
        self.keeper.handle_welcomed();
        self.proven.extend(self.runs.clone());
    }

    /// Remembers what was given up just now.
    fn note(&mut self, before: Option<(Outcome, [u8; 8])>) {
        let latest = self.latest().filter(|latest| Some(*latest) != before);
        if let Some((Outcome::Refused | Outcome::RolledBack, given_up)) = latest {
            self.barred = (0..6).map(|n| n.to_string()).find(|text| hash(text).0 == given_up);
        }
    }
}

proptest! {
    #[test]
    fn endpoint_always_runs_with_what_was_valid_and_never_changes_in_a_call(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
    }

    #[test]
    fn crash_loop_ends_with_what_was_before(crashes in 0u8..6) {
        let mut world = World::new();
        world.step(Step::Arrives(0));
        world.step(Step::Waits(QUIET_S));
        world.step(Step::Welcomed);
        world.step(Step::Arrives(1));
        world.step(Step::Waits(QUIET_S));
        prop_assert_eq!(world.runs.as_deref(), Some("1"));
        for _ in 0..crashes {
            world.step(Step::Dies);
        }
        let expected = if crashes < LIVES_MAX { "1" } else { "0" };
        prop_assert_eq!(world.runs.as_deref(), Some(expected));
    }
}
