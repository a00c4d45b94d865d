//! Judging what was stored: calls out of the store, verdicts into a book of their own.
//!
//! [`touched`] tells which calls the store's writer has just changed, [`live`] judges them beside a running `serve`,
//! [`book`] keeps the verdicts, [`again`] judges history anew, [`shelf`] has the building files. What a verdict is
//! stands in [`classify`](crate::classify).

pub mod again;
pub mod book;
pub mod live;
pub mod shelf;
pub mod touched;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use roomtone_protocol::id::{CallId, EndpointId};

use crate::call::CallFacts;
use crate::call::ends::LegEnd;
use crate::classify::inputs::CallInputs;
use crate::classify::place::{BuildingFile, Place};
use crate::classify::rule_file::{self, FILE_BYTES_MAX, RuleFileError};
use crate::classify::rules::{self, RuleSet};
use crate::classify::verdict::{CallVerdict, judge};

/// A call judged, stored or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Whose call.
    pub endpoint: EndpointId,
    /// Which.
    pub call: CallId,
    /// When it began, microseconds since 1970 by the endpoint's clock; the collector's where its beginning was lost.
    pub started_us: u64,
    /// When the latest record that was judged came, collector's clock.
    pub facts_us: u64,
    /// The verdict.
    pub verdict: CallVerdict,
    /// Where its legs were, by number; none without a building file.
    pub places: BTreeMap<u16, Place>,
    /// Its sides of its legs, of which totals came; none in a verdict that was read from the book.
    pub ends: Vec<LegEnd>,
}

/// Judges a call as of `now_us` (collector's clock).
#[must_use]
pub fn judged(
    rules: &RuleSet,
    facts: &CallFacts,
    buildings: Option<BuildingFile<'_>>,
    now_us: u64,
) -> Judged {
    let verdict = judge(rules, &CallInputs::new(facts, now_us));
    let legs = buildings.into_iter().flat_map(|file| {
        facts
            .legs
            .iter()
            .filter_map(move |(&leg, told)| Some((leg, Place::new(facts, told, file)?)))
    });
    let known = |leg: u16| verdict.legs.iter().any(|(it, _)| *it == leg);
    let places = legs.filter(|(leg, _)| known(*leg)).collect();
    let ends = verdict.legs.iter().filter_map(|(leg, _)| LegEnd::new(facts, *leg)).collect();
    Judged {
        endpoint: facts.endpoint,
        call: facts.call,
        started_us: started_us(facts),
        facts_us: facts.last_received_us,
        verdict,
        places,
        ends,
    }
}

/// When a call began, microseconds since 1970 by the endpoint's clock; the collector's where its beginning was lost.
#[must_use]
pub fn started_us(facts: &CallFacts) -> u64 {
    facts.opened.map_or(facts.first_received_us, |told| told.value.0.wall_us)
}

/// Which rule set is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// One that comes with the collector.
    BuiltIn(&'static str),
    /// A file.
    File(PathBuf),
}

/// Why there is no such rule set.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// Neither a known id nor a path.
    #[error(
        "no rule set `{given}`: use {}, or a file by a path with a `/` or a `.` in it",
        rule_file::built_in_words()
    )]
    Unknown {
        /// What was given.
        given: String,
    },
    /// The file cannot be read.
    #[error("cannot read the rules {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no rule set.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: RuleFileError,
    },
}

impl Choice {
    /// An id, or a path, which counts from `folder`.
    ///
    /// # Errors
    /// [`ChoiceError::Unknown`].
    pub fn parse(given: &str, folder: &Path) -> Result<Self, ChoiceError> {
        match rules::built_in_ids().find(|id| *id == given) {
            Some(id) => Ok(Self::BuiltIn(id)),
            None if given.contains(['/', '.']) => Ok(Self::File(folder.join(given))),
            None => Err(ChoiceError::Unknown { given: given.to_owned() }),
        }
    }

    /// The rule set.
    ///
    /// # Errors
    /// [`ChoiceError::Read`] and [`ChoiceError::File`] of a file.
    pub fn load(&self) -> Result<RuleSet, ChoiceError> {
        match self {
            Self::BuiltIn(id) => {
                Ok(rules::built_in(id).expect("the id is of the list of built-in ones"))
            }
            Self::File(path) => read(path),
        }
    }
}

/// Reads an operator's rule set.
///
/// # Errors
/// [`ChoiceError::Read`], [`ChoiceError::File`].
pub fn read(path: &Path) -> Result<RuleSet, ChoiceError> {
    let failed = |source| ChoiceError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    rule_file::read(&bytes).map_err(|source| ChoiceError::File { path: path.to_owned(), source })
}
