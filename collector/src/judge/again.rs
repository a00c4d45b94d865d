//! Judging history anew, beside a running `serve` or without one.

use std::collections::BTreeMap;

use roomtone_protocol::call::CallPurpose;

use super::book::{Book, BookError, Change};
use super::shelf::Shelf;
use super::touched::CallKey;
use super::{judged, started_us};
use crate::call::CallFacts;
use crate::classify::inputs::Standing;
use crate::classify::rules::RuleSet;
use crate::classify::verdict::Rating;
use crate::store::StoreError;
use crate::store::sqlite::{CallPlace, SqliteReader};

/// How many calls are looked up at once.
const PAGE: usize = 500;

/// Why history was not judged to its end. What was written stays.
#[derive(Debug, thiserror::Error)]
pub enum AgainError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The book of verdicts cannot be written.
    #[error(transparent)]
    Book(#[from] BookError),
}

/// What came of it, in calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Judged, and written down.
    pub judged: u64,
    /// Of these, the ones that had no verdict by this rule set.
    pub first: u64,
    /// Of these, the ones whose verdict is as it was.
    pub same: u64,
    /// Of these, the ones with the same rating for other reasons, legs, items or buildings.
    pub findings: u64,
    /// Of these, the ones with another rating, by what it was and is.
    pub ratings: BTreeMap<(Rating, Rating), u64>,
    /// Calls that go on: they are judged when they are over.
    pub open: u64,
    /// Rehearsals among the judged calls.
    pub rehearsals: u64,
}

impl Tally {
    fn count(&mut self, change: Change) {
        self.judged += 1;
        match change {
            Change::First => self.first += 1,
            Change::Same => self.same += 1,
            Change::Findings => self.findings += 1,
            Change::Rating { from, to } => *self.ratings.entry((from, to)).or_default() += 1,
        }
    }
}

/// What judging takes.
#[derive(Debug)]
pub struct Bench {
    /// The store.
    pub reader: SqliteReader,
    /// Where verdicts go.
    pub book: Book,
    /// By what is judged.
    pub rules: RuleSet,
    /// The building files.
    pub shelf: Shelf,
    /// The collector's clock.
    pub wall_us: fn() -> u64,
}

/// Which calls are to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Those whose end was told.
    Closed,
    /// Those, and those of which nothing more comes.
    Over,
}

impl Bench {
    /// Judges a call as it stands now and writes the verdict; `None` where it is not due, or gone from the store.
    ///
    /// # Errors
    /// [`AgainError`].
    pub fn judge(&mut self, key: CallKey, due: Due) -> Result<Option<Change>, AgainError> {
        match self.reader.call_of(key.0, key.1)? {
            Some(facts) => self.judge_facts(&facts, due),
            None => Ok(None),
        }
    }

    fn judge_facts(&mut self, facts: &CallFacts, due: Due) -> Result<Option<Change>, AgainError> {
        let now_us = (self.wall_us)();
        let buildings = self.shelf.buildings_at(started_us(facts));
        let judged = judged(&self.rules, facts, buildings, now_us);
        let is_due = match judged.verdict.standing {
            Standing::Closed => true,
            Standing::Silent => due == Due::Over,
            Standing::Open => false,
        };
        if !is_due {
            return Ok(None);
        }
        Ok(Some(self.book.write(&judged, now_us)?))
    }

    /// Judges every call that was heard of at or after `since_us`; `progress` is told how many were.
    ///
    /// # Errors
    /// [`AgainError`].
    pub fn judge_since(
        &mut self,
        since_us: u64,
        mut progress: impl FnMut(u64),
    ) -> Result<Tally, AgainError> {
        let mut tally = Tally::default();
        let mut at = CallPlace::before(since_us);
        self.shelf.refresh();
        // Calls that begin meanwhile are not history.
        let until_us = (self.wall_us)();
        loop {
            let page = self.reader.calls_after(&at, PAGE)?;
            self.judge_page(&page, until_us, &mut tally)?;
            match page.last() {
                Some(last) if last.received_us <= until_us => at = *last,
                Some(_) | None => return Ok(tally),
            }
            progress(tally.judged);
        }
    }

    fn judge_page(
        &mut self,
        page: &[CallPlace],
        until_us: u64,
        tally: &mut Tally,
    ) -> Result<(), AgainError> {
        for place in page.iter().filter(|place| place.received_us <= until_us) {
            let Some(facts) = self.reader.call_of(place.endpoint, place.call)? else { continue };
            // A call of several days is judged where it was heard of last, once.
            if facts.last_received_us != place.received_us {
                continue;
            }
            match self.judge_facts(&facts, Due::Over)? {
                Some(change) => {
                    tally.count(change);
                    let purpose = facts.opened.map(|told| told.value.1);
                    tally.rehearsals += u64::from(purpose == Some(CallPurpose::Rehearsal));
                }
                None => tally.open += 1,
            }
        }
        Ok(())
    }
}
