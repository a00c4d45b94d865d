//! The judge beside a running `serve`: a thread that judges calls a moment after their end is on disk, and again when
//! records of them come late.
//!
//! Touched calls are gathered for [`ROUND`] and then judged, so that what follows a call's end at once is judged with
//! it. A call that goes on costs one look into the book. Whatever was not told (too much at once, a crash, a start
//! after the fact, other rules) is found by going through the store from a mark that is kept in the book; pages of it
//! are judged between touched calls. Calls whose end is never told are judged once nothing came for
//! [`SILENT_AFTER`].

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::again::{AgainError, Bench, Due};
use super::book::Mark;
use super::touched::{CallKey, Touches};
use crate::store::sqlite::CallPlace;

/// How long touched calls are gathered.
pub const ROUND: Duration = Duration::from_secs(1);
/// How long nothing came of a call that its endpoint is taken for gone: a verdict that is stored is no passing state.
pub const SILENT_AFTER: Duration = Duration::from_secs(3_600);
/// How often such calls are looked for, how often old verdicts go.
const TENDING: Duration = Duration::from_secs(60);
/// The most calls that are gathered: as many as the way of the touches holds.
const PENDING_MAX: usize = super::touched::QUEUE_MAX;
/// How many calls are judged in a round, and of the past looked at: the end of `serve` waits for a round.
const PAGE: usize = 200;
/// How far behind now the mark stays: a group that is being written now was stamped before.
const MARK_BEHIND: Duration = Duration::from_secs(60);
/// A store that cannot be read must not fill the log as well: the first failure and every thousandth are told.
const FAILURES_PER_LINE: u64 = 1_000;

const DAY_US: u64 = 86_400_000_000;

/// Starts the judge; it ends when the store that tells is gone.
///
/// # Errors
/// [`io::Error`] where no thread can be started.
pub fn start(bench: Bench, touches: Touches, retention_days: u32) -> io::Result<JoinHandle<()>> {
    let judge = Judge {
        bench,
        touches,
        retention_days,
        pending: BTreeMap::new(),
        past: None,
        silent: None,
        is_lost: true,
        tended: None,
        failures: 0,
    };
    thread::Builder::new().name("judge".to_owned()).spawn(move || judge.run())
}

struct Judge {
    bench: Bench,
    touches: Touches,
    retention_days: u32,
    /// Touched calls, and whether their end was told.
    pending: BTreeMap<CallKey, bool>,
    /// Where going through the store stands; `None` where it came to the end.
    past: Option<CallPlace>,
    /// How far calls whose end was never told were judged; `None` before the mark was read.
    silent: Option<CallPlace>,
    /// Whether touches were lost, so that the store must be gone through from the mark.
    is_lost: bool,
    tended: Option<Instant>,
    failures: u64,
}

impl Judge {
    fn run(mut self) {
        while self.gather() {
            match self.round() {
                Ok(()) if self.failures > 0 => {
                    tracing::info!(rounds_failed = self.failures, "calls are judged again");
                    self.failures = 0;
                }
                Ok(()) => {}
                Err(error) => {
                    if self.failures.is_multiple_of(FAILURES_PER_LINE) {
                        tracing::error!(%error, "calls are not judged; records are taken as ever");
                    }
                    self.failures += 1;
                    self.is_lost = true;
                }
            }
        }
    }

    /// Gathers touches for a round; whether the store still is there.
    fn gather(&mut self) -> bool {
        let began = Instant::now();
        loop {
            let left = ROUND.saturating_sub(began.elapsed());
            match self.touches.wait(left) {
                Ok(touch) => {
                    if let Some(is_closing) = self.pending.get_mut(&touch.key) {
                        *is_closing |= touch.is_closing;
                    } else if self.pending.len() < PENDING_MAX {
                        self.pending.insert(touch.key, touch.is_closing);
                    } else {
                        self.is_lost = true;
                    }
                }
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
            if left.is_zero() {
                return true;
            }
        }
    }

    fn round(&mut self) -> Result<(), AgainError> {
        let now_us = (self.bench.wall_us)();
        self.bench.shelf.refresh();
        if self.touches.were_missed() || self.is_lost {
            let mark_us = self.bench.book.mark(Mark::Closed, &self.bench.rules.name)?;
            self.past = Some(CallPlace::before(mark_us));
            self.is_lost = false;
        }
        for _ in 0..PAGE {
            let Some(((endpoint, call), is_closing)) = self.pending.pop_first() else { break };
            let known = self.bench.book.facts_us((endpoint, call), &self.bench.rules.name)?;
            if is_closing || known.is_some() {
                self.bench.judge((endpoint, call), Due::Closed)?;
            }
        }
        if let Some(at) = self.past
            && self.pending.is_empty()
        {
            self.past = self.go_through(at)?;
        }
        if self.tended.is_none_or(|it| it.elapsed() >= TENDING) {
            self.tended = Some(Instant::now());
            self.tend(now_us)?;
        }
        Ok(())
    }

    /// Judges a page of calls that are over; where to go on.
    fn go_through(&mut self, at: CallPlace) -> Result<Option<CallPlace>, AgainError> {
        let page = self.bench.reader.calls_after(&at, PAGE)?;
        for place in &page {
            if !self.is_judged(place)? {
                self.bench.judge((place.endpoint, place.call), Due::Closed)?;
            }
        }
        let Some(last) = page.last() else { return Ok(None) };
        self.bench.book.set_mark(Mark::Closed, &self.bench.rules.name, last.received_us)?;
        Ok((page.len() == PAGE).then_some(*last))
    }

    fn is_judged(&self, place: &CallPlace) -> Result<bool, AgainError> {
        let key = (place.endpoint, place.call);
        let facts_us = self.bench.book.facts_us(key, &self.bench.rules.name)?;
        Ok(facts_us.is_some_and(|it| it >= place.received_us))
    }

    /// Moves the marks on, judges calls whose end was never told, forgets what is too old.
    fn tend(&mut self, now_us: u64) -> Result<(), AgainError> {
        let rules = self.bench.rules.name.clone();
        let micros = |it: Duration| u64::try_from(it.as_micros()).unwrap_or(u64::MAX);
        if self.past.is_none() && self.pending.is_empty() {
            let mark_us = now_us.saturating_sub(micros(MARK_BEHIND));
            self.bench.book.set_mark(Mark::Closed, &rules, mark_us)?;
        }
        let silent_us = now_us.saturating_sub(micros(SILENT_AFTER));
        let mut at = match self.silent {
            Some(at) => at,
            None => CallPlace::before(self.bench.book.mark(Mark::Silent, &rules)?),
        };
        let page = self.bench.reader.calls_after(&at, PAGE)?;
        for place in page.iter().take_while(|place| place.received_us <= silent_us) {
            if !self.is_judged(place)? {
                self.bench.judge((place.endpoint, place.call), Due::Over)?;
            }
            at = *place;
        }
        self.silent = Some(at);
        self.bench.book.set_mark(Mark::Silent, &rules, at.received_us)?;
        let horizon_us = now_us.saturating_sub(u64::from(self.retention_days) * DAY_US);
        self.bench.book.expire(horizon_us - horizon_us % DAY_US)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::call::{CallCloseReason, CallClosed, CallOpened, CallPurpose};
    use roomtone_protocol::id::{CallId, EndpointId, Epoch, RecordId, Sequence};
    use roomtone_protocol::record::Record;
    use roomtone_protocol::time::Stamp;

    use super::*;
    use crate::classify::rules::{DEFAULT, built_in};
    use crate::classify::verdict::{Rating, Why};
    use crate::judge::book::{self, Book};
    use crate::judge::shelf::Shelf;
    use crate::judge::touched::{TellingStore, telling};
    use crate::store::sqlite::{SqliteReader, SqliteStore};
    use crate::store::{Attach, Content, Incoming, LinkTransport, Operation, Store};

    /// 2026-11-22T12:00:00Z.
    const NOW_US: u64 = 1_795_348_800_000_000;
    const ENDPOINT: EndpointId = EndpointId([1; 16]);
    const RETENTION_DAYS: u32 = 30;

    /// A judge at noon and the store that it listens to.
    fn judge(folder: &tempfile::TempDir) -> (Judge, TellingStore) {
        let store = SqliteStore::open(folder.path(), RETENTION_DAYS, NOW_US - DAY_US).unwrap();
        let (mut store, touches) = telling(Box::new(store));
        let attach = Attach {
            endpoint: ENDPOINT,
            name: "oslo-4".to_owned(),
            agent_version: "0.1.0".to_owned(),
            transport: LinkTransport::Quic,
            remote: "[2001:db8::7]:50000".parse().unwrap(),
            epoch: Epoch(1),
        };
        store.commit(&[Operation::Attach(attach)], NOW_US - DAY_US).unwrap();
        let bench = Bench {
            reader: SqliteReader::open(folder.path()).unwrap(),
            book: Book::open(&folder.path().join(book::FILE)).unwrap(),
            rules: built_in(DEFAULT).unwrap(),
            shelf: Shelf::new(folder.path()),
            wall_us: || NOW_US,
        };
        let judge = Judge {
            bench,
            touches,
            retention_days: RETENTION_DAYS,
            pending: BTreeMap::new(),
            past: None,
            silent: None,
            is_lost: true,
            tended: None,
            failures: 0,
        };
        (judge, store)
    }

    fn record(sequence: u32, record: Record) -> Operation {
        let id = RecordId { epoch: Epoch(1), sequence: Sequence(sequence) };
        let content = Content::Known(Box::new(record));
        Operation::Record(Incoming { endpoint: ENDPOINT, id, content })
    }

    fn opened(call: u64) -> Record {
        let opened = Stamp { wall_us: NOW_US - DAY_US, uptime_us: 5 };
        Record::CallOpened(CallOpened { call: CallId(call), opened, purpose: CallPurpose::Meeting })
    }

    fn closed(call: u64) -> Record {
        let closed = Stamp { wall_us: NOW_US - DAY_US + 9, uptime_us: 14 };
        let reason = CallCloseReason::Idle;
        Record::CallClosed(CallClosed { call: CallId(call), closed, reason, legs: 0 })
    }

    fn why(judge: &Judge, call: u64) -> Option<Why> {
        let found = judge.bench.book.verdict((ENDPOINT, CallId(call)), DEFAULT).unwrap()?;
        assert_eq!(found.verdict.call.rating, Rating::Unavailable, "no leg was told");
        found.verdict.call.why
    }

    /// An hour: [`SILENT_AFTER`]. Call 1 was heard of two hours ago, call 2 half an hour ago.
    #[test]
    fn call_whose_end_is_never_told_is_judged_after_an_hour() {
        let folder = tempfile::tempdir().unwrap();
        let (mut judge, mut store) = judge(&folder);
        let hour_us = 3_600_000_000;
        store.commit(&[record(0, opened(1))], NOW_US - 2 * hour_us).unwrap();
        store.commit(&[record(1, opened(2))], NOW_US - hour_us / 2).unwrap();
        judge.round().unwrap();
        assert_eq!((why(&judge, 1), why(&judge, 2)), (Some(Why::EndpointGone), None));
        // Its end comes after all.
        store.commit(&[record(2, closed(1))], NOW_US - 1).unwrap();
        assert!(judge.gather());
        judge.round().unwrap();
        assert_eq!(why(&judge, 1), Some(Why::NoLegs));
    }

    /// 450 calls in one group, with one moment of receipt: three pages of 200 at most.
    #[test]
    fn calls_that_were_not_told_are_found_page_by_page() {
        let folder = tempfile::tempdir().unwrap();
        let (mut judge, mut store) = judge(&folder);
        let group: Vec<_> = (0..450).map(|it| record(it, closed(it.into()))).collect();
        store.commit(&group, NOW_US - 10).unwrap();
        // Nobody listened.
        while judge.touches.wait(Duration::ZERO).is_ok() {}
        let judged = |judge: &Judge| (0..450).filter(|it| why(judge, *it).is_some()).count();
        let mut counts = Vec::new();
        for _ in 0..3 {
            judge.round().unwrap();
            counts.push(judged(&judge));
        }
        assert_eq!(counts, [200, 400, 450]);
        assert_eq!(judge.past, None);
    }

    #[test]
    fn judge_ends_with_the_store_that_tells() {
        let folder = tempfile::tempdir().unwrap();
        let (mut judge, store) = judge(&folder);
        drop(store);
        assert!(!judge.gather());
    }
}
