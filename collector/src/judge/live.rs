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
