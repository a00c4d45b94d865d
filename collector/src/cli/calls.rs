//! `calls` and `call`: what the store has of calls, and how they were.

use std::time::Duration;

use roomtone_protocol::id::CallId;

use super::verdicts::Judging;
use super::{CommandError, Reading, micros, print, print_json, views};
use crate::classify::verdict::Rating;
use crate::clock;
use crate::report::json::{self, Detail};
use crate::report::verdict::{self, Ratings, Shown};
use crate::report::{Names, table};
use crate::store::StoreReader;

/// Which calls are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chosen {
    /// All of them.
    All,
    /// Poor meetings.
    Poor,
}

/// `calls`.
pub(super) fn calls(
    since: Duration,
    limit: usize,
    chosen: Chosen,
    judging: &Judging,
    reading: &Reading,
) -> Result<(), CommandError> {
    let reader = reading.place.open()?;
    let mut judge = judging.judge(&reading.place)?;
    let now_us = clock::wall_us();
    let endpoints = reader.endpoints()?;
    let names = Names::new(&endpoints);
    let since_us = now_us.saturating_sub(micros(since));
    let stored = match chosen {
        Chosen::Poor => judge.poor_calls(&reader, since_us, limit)?,
        Chosen::All => None,
    };
    let mut facts = match stored {
        Some(stored) => stored,
        None => reader.recent_calls(since_us, limit)?,
    };
    let mut shown =
        facts.iter().map(|it| judge.shown(it, &names, now_us)).collect::<Result<Vec<_>, _>>()?;
    if chosen == Chosen::Poor {
        // Where there is no book, of the latest calls; records that came late may have changed the others.
        let is_poor = |it: &Shown| {
            let verdict = &it.judged.verdict;
            verdict.call.rating == Rating::Poor && !verdict.is_rehearsal
        };
        let kept: Vec<bool> = shown.iter().map(is_poor).collect();
        let mut keep = kept.iter().copied();
        facts.retain(|_| keep.next() == Some(true));
        shown.retain(is_poor);
    }
    let views = views(&facts, &endpoints, now_us);
    if reading.json {
        let call = |(view, shown)| json::Call::new(view, &names, Detail::Totals).judged(shown);
        let calls = views.iter().zip(&shown).map(call).collect();
        return print_json(&json::Calls { calls });
    }
    print(&table::calls(&views, &names, &Ratings::new(&shown)))?;
    print(&verdict::due_to(&shown))
}

/// `call ID`.
pub(super) fn call(id: CallId, judging: &Judging, reading: &Reading) -> Result<(), CommandError> {
    let reader = reading.place.open()?;
    let mut judge = judging.judge(&reading.place)?;
    let now_us = clock::wall_us();
    let endpoints = reader.endpoints()?;
    let names = Names::new(&endpoints);
    let facts = reader.call(id)?;
    let views = views(&facts, &endpoints, now_us);
    if views.is_empty() {
        return Err(CommandError::NoCall { id });
    }
    let mut shown =
        facts.iter().map(|it| judge.shown(it, &names, now_us)).collect::<Result<Vec<_>, _>>()?;
    for (shown, facts) in shown.iter_mut().zip(&facts) {
        shown.far_ends = judge.far_ends(&reader, facts, &names)?;
    }
    if reading.json {
        let call = |(view, shown)| json::Call::new(view, &names, Detail::Intervals).judged(shown);
        let calls = views.iter().zip(&shown).map(call).collect();
        return print_json(&json::Calls { calls });
    }
    let text = |(view, shown)| table::call(view, &names, &verdict::block(shown));
    let texts: Vec<String> = views.iter().zip(&shown).map(text).collect();
    print(&texts.join("\n"))
}
