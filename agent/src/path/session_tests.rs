//! A session against a simulated path whose every loss is known, and against targets that lie.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn at(us: u64) -> Moment {
    Moment::from_nanos(us * 1_000)
}

const CALL: Option<CallId> = Some(CallId(7));
/// Between two probes.
const SPACING_US: u64 = 200_000;

/// What the path does to one probe.
#[derive(Debug, Clone, Copy)]
enum Path {
    Returns { up_us: u64, down_us: u64 },
    LosesProbe,
    LosesAnswer { up_us: u64 },
}

/// A target with a clock of its own that accounts for what it receives, as the collector does.
#[derive(Default)]
struct Target {
    arrived: BTreeSet<u32>,
    answers: u32,
}

/// What travels back: the answer, the account beside it.
struct Reply {
    answer: Answer,
    latest: u32,
    bits: [u64; 1],
}

/// The origin of the target's clock is any.
const TARGET_CLOCK_US: u64 = 5_000_000_000_000;
const HELD_US: u32 = 300;

impl Target {
    fn receive(&mut self, sequence: u32, at_us: u64) -> Reply {
        let is_behind = self.arrived.last().is_some_and(|latest| *latest > sequence);
        self.arrived.insert(sequence);
        let latest = *self.arrived.last().unwrap();
        let arrived = |back: &u32| latest >= *back && self.arrived.contains(&(latest - back));
        let bits = [(0..64).filter(arrived).fold(0u64, |bits, back| bits | 1 << back)];
        let number = self.answers;
        self.answers += 1;
        let received_us = TARGET_CLOCK_US + at_us;
        let answer = Answer { sequence, number, received_us, held_us: HELD_US, is_behind };
        Reply { answer, latest, bits }
    }
}

enum Happening {
    Leaves,
    ArrivesThere { sequence: u32, down_us: Option<u64> },
    ArrivesHere(Reply),
}

/// Sends one probe per entry, in intervals of `per_interval`, and returns the reports.
fn simulate(path: &[Path], per_interval: usize) -> Vec<Report> {
    let mut session = Session::new(CALL, at(0));
    let mut target = Target::default();
    let mut agenda: BTreeMap<(u64, u32), Happening> = BTreeMap::new();
    for n in 0..path.len() as u32 {
        agenda.insert((u64::from(n) * SPACING_US, n), Happening::Leaves);
    }
    let mut ties = path.len() as u32;
    let mut now = 0;
    while let Some(((us, n), happening)) = agenda.pop_first() {
        now = us;
        ties += 1;
        match happening {
            Happening::Leaves => {
                if n > 0 && (n as usize).is_multiple_of(per_interval) {
                    session.close(None, CALL, at(us));
                }
                assert_eq!(session.next(), n);
                session.handle_sent(at(us));
                let (up_us, down_us) = match path[n as usize] {
                    Path::LosesProbe => continue,
                    Path::LosesAnswer { up_us } => (up_us, None),
                    Path::Returns { up_us, down_us } => (up_us, Some(down_us)),
                };
                let there = Happening::ArrivesThere { sequence: n, down_us };
                agenda.insert((us + up_us, ties), there);
            }
            Happening::ArrivesThere { sequence, down_us } => {
                let reply = target.receive(sequence, us);
                if let Some(down_us) = down_us {
                    let here = us + u64::from(HELD_US) + down_us;
                    agenda.insert((here, ties), Happening::ArrivesHere(reply));
                }
            }
            Happening::ArrivesHere(Reply { answer, latest, bits }) => {
                session.handle_answer(answer, at(us));
                session.handle_account(latest, &bits);
            }
        }
        session.handle_timeout(at(us));
    }
    session.close(None, None, at(now));
    session.handle_timeout(at(now + 80_000_000));
    assert_eq!(session.strange(), 0);
    std::iter::from_fn(|| session.poll_report()).collect()
}

fn holds(report: &Report) -> bool {
    report.sent == report.returned + report.unplaced + report.lost_up + report.lost_down
}

const GOOD: Path = Path::Returns { up_us: 20_000, down_us: 10_000 };

#[test]
fn round_trip_is_by_our_clock_and_without_the_time_at_the_target() {
    let reports = simulate(&[GOOD; 10], 5);
    assert_eq!(reports.len(), 2);
    for report in &reports {
        assert_eq!((report.sent, report.returned, report.call), (5, 5, CALL));
        // 20 ms there, 10 ms back; the 0.3 ms at the target are not the path's.
        assert_eq!(report.rtt_us, [30_000; 3]);
        assert_eq!((report.jitter_up_us, report.jitter_down_us), (0, 0));
    }
    assert_eq!(reports[1].started, at(5 * SPACING_US));
}

#[test]
fn losses_are_told_by_direction_and_the_last_ones_as_unplaced() {
    let mut path = [GOOD; 20];
    for n in [1, 4, 5] {
        path[n] = Path::LosesProbe;
    }
    path[7] = Path::LosesAnswer { up_us: 20_000 };
    (path[18], path[19]) = (Path::LosesProbe, Path::LosesAnswer { up_us: 1 });
    let [first, second] = simulate(&path, 10)[..] else { panic!("two intervals") };
    assert_eq!((first.lost_up, first.lost_down, first.unplaced, first.returned), (3, 1, 0, 6));
    assert_eq!((second.lost_up, second.lost_down, second.unplaced), (0, 0, 2));
    assert!(holds(&first) && holds(&second));
}

#[test]
fn interval_of_a_cut_path_waits_for_word_of_its_probes() {
    // 12 s of nothing, six of its probes arrived all the same: the first answer behind it tells which.
    let mut path = vec![GOOD; 120];
    path[30..36].fill(Path::LosesAnswer { up_us: 1_000 });
    path[36..90].fill(Path::LosesProbe);
    let reports = simulate(&path, 30);
    let lost: Vec<_> = reports.iter().map(|it| (it.lost_up, it.lost_down, it.unplaced)).collect();
    assert_eq!(lost, [(0, 0, 0), (24, 6, 0), (30, 0, 0), (0, 0, 0)]);
}

#[test]
fn jitter_of_each_direction_is_its_own() {
    // 4 ms more on every other probe, on the way there only.
    let path: Vec<_> = (0..200u64)
        .map(|n| Path::Returns { up_us: 20_000 + n % 2 * 4_000, down_us: 10_000 })
        .collect();
    let last = *simulate(&path, 50).last().unwrap();
    // |D| is 4 ms between any two: J has come within (15/16)^150 of it.
    assert!((3_990..=4_000).contains(&last.jitter_up_us), "{}", last.jitter_up_us);
    assert_eq!(last.jitter_down_us, 0);
}

#[test]
fn reordering_is_told_by_direction() {
    let mut path = [GOOD; 10];
    // Probe 2 arrives behind 3, the answer to 6 behind that to 7.
    path[2] = Path::Returns { up_us: 20_000 + SPACING_US + 1_000, down_us: 10_000 };
    path[6] = Path::Returns { up_us: 20_000, down_us: 10_000 + SPACING_US + 1_000 };
    let [report] = simulate(&path, 10)[..] else { panic!("one interval") };
    assert_eq!((report.reordered_up, report.reordered_down, report.returned), (1, 1, 10));
}

#[test]
fn answer_that_comes_again_is_a_duplicate_and_changes_nothing_else() {
    let mut session = Session::new(None, at(0));
    session.handle_sent(at(0));
    let Reply { answer, .. } = Target::default().receive(0, 5_000);
    session.handle_answer(answer, at(10_300));
    session.handle_answer(answer, at(90_000));
    session.end(None, at(4_000_000));
    let report = session.poll_report().unwrap();
    assert_eq!((report.returned, report.duplicate, report.rtt_us[2]), (1, 1, 10_000));
}

#[test]
fn probes_cut_off_by_the_end_of_the_session_are_no_loss() {
    let mut session = Session::new(None, at(0));
    let mut target = Target::default();
    for n in 0..40u32 {
        let us = u64::from(n) * SPACING_US;
        session.handle_sent(at(us));
        // From 3 s on nothing comes back; after 8 s we leave.
        if n < 15 {
            session.handle_answer(target.receive(n, us + 1).answer, at(us + 302));
        }
    }
    session.end(None, at(8_000_000));
    let report = session.poll_report().unwrap();
    // Those of the last 3 s, from 5 s on, were cut: 25 probes left before and 15 of them came back.
    assert_eq!((report.sent, report.returned, report.unplaced), (26, 15, 11));
    assert_eq!(session.poll_report(), None);
}

#[test]
fn session_that_ends_at_once_has_nothing_to_tell() {
    let mut session = Session::new(CALL, at(0));
    session.handle_sent(at(1_000));
    session.end(None, at(2_000));
    assert_eq!(session.poll_report(), None);
}

fn path() -> impl Strategy<Value = Path> {
    // Probes arrive in order, answers need not: of a probe that arrives behind the last word of it nobody knows.
    let up = || 1_000..SPACING_US;
    prop_oneof![
        6 => (up(), 1_000..400_000u64)
            .prop_map(|(up_us, down_us)| Path::Returns { up_us, down_us }),
        1 => Just(Path::LosesProbe),
        1 => up().prop_map(|up_us| Path::LosesAnswer { up_us }),
    ]
}

/// What somebody who answers in our collector's place may say.
#[derive(Debug, Clone)]
enum Word {
    Sent,
    Answer(u32, u32, u64, u32, bool),
    Account(u32, Vec<u64>),
    Close,
    Wait(u64),
    End,
}

fn word() -> impl Strategy<Value = Word> {
    // Near what left, and anything.
    let number = || prop_oneof![4 => 0..2_000u32, 1 => any::<u32>()];
    prop_oneof![
        6 => Just(Word::Sent),
        6 => (number(), number(), any::<u64>(), any::<u32>(), any::<bool>())
            .prop_map(|(a, b, c, d, e)| Word::Answer(a, b, c, d, e)),
        3 => (number(), prop::collection::vec(any::<u64>(), 0..20))
            .prop_map(|(latest, bits)| Word::Account(latest, bits)),
        1 => Just(Word::Close),
        2 => (0..100_000_000u64).prop_map(Word::Wait),
        1 => Just(Word::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn simulated_losses_are_told_right(
        path in prop::collection::vec(path(), 1..300),
        per_interval in 5..60usize,
    ) {
        // Word of a probe comes with any answer to a later one, or to itself, within the window.
        let reports = simulate(&path, per_interval);
        prop_assert!(reports.iter().all(holds));
        let sum = |of: fn(&Report) -> u32| reports.iter().map(of).sum::<u32>();
        prop_assert_eq!(sum(|it| it.sent) as usize, path.len());
        let returns = path.iter().filter(|it| matches!(it, Path::Returns { .. })).count();
        prop_assert_eq!(sum(|it| it.returned) as usize, returns);
        let lost_up = path.iter().filter(|it| matches!(it, Path::LosesProbe)).count() as u32;
        let lost_down = path.len() as u32 - returns as u32 - lost_up;
        prop_assert!(sum(|it| it.lost_up) <= lost_up);
        prop_assert!(sum(|it| it.lost_down) <= lost_down);
        // Only those behind the last answer are told by nothing.
        let last = path.iter().rposition(|it| matches!(it, Path::Returns { .. }));
        let behind = last.map_or(path.len(), |last| path.len() - 1 - last);
        prop_assert!(sum(|it| it.unplaced) as usize <= behind);
    }

    #[test]
    fn nothing_that_a_target_says_breaks_the_sum_or_grows(
        words in prop::collection::vec(word(), 0..400),
    ) {
        let mut session = Session::new(None, at(0));
        let (mut now, mut sent, mut told) = (1u64, 0u64, 0u64);
        for word in words {
            match word {
                Word::Sent => {
                    for _ in 0..40 {
                        session.handle_sent(at(now));
                        sent += 1;
                    }
                }
                Word::Answer(sequence, number, received_us, held_us, is_behind) => {
                    let answer = Answer { sequence, number, received_us, held_us, is_behind };
                    session.handle_answer(answer, at(now));
                }
                Word::Account(latest, bits) => session.handle_account(latest, &bits),
                Word::Close => session.close(None, CALL, at(now)),
                Word::Wait(us) => now += us,
                Word::End => session.end(None, at(now)),
            }
            session.handle_timeout(at(now));
            prop_assert!(session.probes.len() <= PROBES_MAX);
            prop_assert!(session.closed.len() <= session.probes.len());
            let held: usize = session.closed.iter().map(|it| it.sent).sum();
            prop_assert_eq!(held + session.open.sent, session.probes.len());
            while let Some(report) = session.poll_report() {
                prop_assert!(holds(&report));
                prop_assert!(report.sent > 0 && report.returned >= report.reordered_up);
                let [least, mean, most] = report.rtt_us;
                prop_assert!(least <= mean && mean <= most);
                told += u64::from(report.sent);
            }
        }
        prop_assert!(told <= sent);
    }
}
