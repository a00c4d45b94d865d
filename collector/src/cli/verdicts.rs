//! `rules` and `reclassify`, and what judges the calls of the reading commands.
//!
//! A reading command shows the verdict of the book where it is there, of the same rules and not behind the records;
//! otherwise it judges for itself and keeps nothing.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use super::{CommandError, Place, micros, parse_since, print, print_json};
use crate::call::CallFacts;
use crate::call::ends::{FarEnd, LegEnd};
use crate::classify::inputs::LEGS_MAX;
use crate::classify::rules::{self, RuleSet};
use crate::clock;
use crate::judge::again::Bench;
use crate::judge::book::{self, Book};
use crate::judge::shelf::Shelf;
use crate::judge::{self, Choice, started_us};
use crate::networks::endpoints::Endpoints;
use crate::report::Names;
use crate::report::verdict::{self as report, FarLeg, Machine, Shown};
use crate::store::sqlite::SqliteReader;

/// What is done with rule sets.
#[derive(Debug, Subcommand)]
pub(super) enum RulesCommand {
    /// List the rule sets that come with the collector, and by which one calls are judged.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Print the file of a rule set that comes with the collector: a copy of it is where own rules begin.
    Show {
        /// Its id.
        id: String,
    },
    /// Check a file of own rules and tell what it says; what is wrong is told with its line.
    Check {
        /// The file.
        file: PathBuf,
    },
}

/// By what calls are judged.
#[derive(Debug, Args)]
pub(super) struct Judging {
    /// Judge by this rule set instead of the config's: an id, or a file by a path with a `/` or a `.` in it.
    #[arg(long, value_name = "RULES")]
    rules: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ReclassifyArguments {
    /// By which rule set: an id, or a file by a path with a `/` or a `.` in it [default: the config's].
    #[arg(long, value_name = "RULES")]
    rules: Option<String>,
    /// How far back, like 90m, 24h or 7d, by when calls were last heard of.
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Duration,
    /// Print JSON instead of lines.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Judges the calls of a reading command.
pub(super) struct Judge {
    rules: RuleSet,
    book: Option<Book>,
    shelf: Shelf,
    machines: Option<Endpoints>,
}

impl Judging {
    /// Gets ready to judge.
    pub(super) fn judge(&self, place: &Place) -> Result<Judge, CommandError> {
        let rules = rule_set(self.rules.as_deref(), place)?;
        let store = place.store()?;
        let path = store.join(book::FILE);
        // Somebody may read the store who may not read the book: they judge for themselves.
        let book = path.exists().then(|| Book::open(&path).ok()).flatten();
        let mut shelf = Shelf::new(&store);
        shelf.refresh();
        let machines = shelf.endpoints_at(clock::wall_us());
        Ok(Judge { rules, book, shelf, machines })
    }
}

impl Judge {
    /// The verdict of a call: the book's, or one that is made now.
    pub(super) fn shown(
        &mut self,
        facts: &CallFacts,
        names: &Names,
        now_us: u64,
    ) -> Result<Shown, CommandError> {
        let name = names.of(facts.endpoint);
        let row = self.machines.as_ref().and_then(|it| it.lookup(&name));
        let machine = row.as_ref().map(Machine::new);
        let key = (facts.endpoint, facts.call);
        let stored = match &self.book {
            Some(book) => book.verdict(key, &self.rules.name.id)?,
            None => None,
        };
        let fresh = stored.filter(|it| {
            it.verdict.rules == self.rules.name && it.facts_us >= facts.last_received_us
        });
        Ok(match fresh {
            Some(judged) => Shown { judged, is_stored: true, machine, far_ends: BTreeMap::new() },
            None => {
                let buildings = self.shelf.buildings_at(started_us(facts));
                let judged = judge::judged(&self.rules, facts, buildings, now_us);
                Shown { judged, is_stored: false, machine, far_ends: BTreeMap::new() }
            }
        })
    }

    /// The far ends of a call's legs. They are looked for in the book, and only there.
    pub(super) fn far_ends(
        &self,
        reader: &SqliteReader,
        facts: &CallFacts,
        names: &Names,
    ) -> Result<BTreeMap<u16, FarLeg>, CommandError> {
        let mut far_ends = BTreeMap::new();
        let Some(book) = &self.book else { return Ok(far_ends) };
        let ends_of = |facts: &CallFacts| -> Vec<LegEnd> {
            facts.legs.keys().take(LEGS_MAX).filter_map(|leg| LegEnd::new(facts, *leg)).collect()
        };
        let around = |end: &LegEnd| -> Result<Option<Vec<LegEnd>>, CommandError> {
            let calls = book.calls_towards(end, ENDS_MAX + 1)?;
            if calls.len() > ENDS_MAX {
                return Ok(None);
            }
            let mut ends = Vec::new();
            for (endpoint, call) in calls {
                ends.extend(reader.call_of(endpoint, call)?.iter().flat_map(&ends_of));
            }
            Ok(Some(ends))
        };
        for own in ends_of(facts) {
            let Some(mut others) = around(&own)? else { continue };
            let FarEnd::Found(far) = own.far_end(&others) else { continue };
            // The far end must have no other choice either.
            let Some(more) = around(&far.clone())? else { continue };
            others.extend(more);
            if let FarEnd::Found(far) = own.far_end(&others) {
                let endpoint = (far.endpoint, names.of(far.endpoint));
                let crossings = own.crossings(far).collect();
                let far = FarLeg { endpoint, call: far.call, leg: far.leg, crossings };
                far_ends.insert(own.leg, far);
            }
        }
        Ok(far_ends)
    }

    /// The latest poor meetings of the book that began at or after a moment, newest first; `None` without a book.
    pub(super) fn poor_calls(
        &self,
        reader: &SqliteReader,
        since_us: u64,
        limit: usize,
    ) -> Result<Option<Vec<CallFacts>>, CommandError> {
        let Some(book) = &self.book else { return Ok(None) };
        let mut calls = Vec::new();
        for (endpoint, call) in book.poor_calls(&self.rules.name, since_us, limit)? {
            calls.extend(reader.call_of(endpoint, call)?);
        }
        Ok(Some(calls))
    }
}

/// The most calls that are looked at for the far end of a leg: more than a few towards one address at one time are a
/// server's.
const ENDS_MAX: usize = 16;

/// `rules`.
pub(super) fn rules(command: &RulesCommand) -> Result<(), CommandError> {
    match command {
        RulesCommand::List { place } => {
            let sets: Vec<RuleSet> = rules::built_in_ids().filter_map(rules::built_in).collect();
            // Without a collector here the default is what would be used.
            let used = match rule_set(None, place) {
                Err(CommandError::NoPlace) => Choice::BuiltIn(rules::DEFAULT).load()?,
                used => used?,
            };
            let own = (!sets.contains(&used)).then_some(&used);
            print(&report::rule_sets(sets.iter().chain(own), &used.name))
        }
        RulesCommand::Show { id } => match rules::built_in_text(id) {
            Some(text) => print(text),
            None => Err(judge::ChoiceError::Unknown { given: id.clone() }.into()),
        },
        RulesCommand::Check { file } => print(&report::rule_set(&judge::read(file)?)),
    }
}

/// `reclassify`.
pub(super) fn reclassify(arguments: &ReclassifyArguments) -> Result<(), CommandError> {
    let rules = rule_set(arguments.rules.as_deref(), &arguments.place)?;
    let reader = arguments.place.open()?;
    let store = arguments.place.store()?;
    let book = Book::open(&store.join(book::FILE))?;
    let shelf = Shelf::new(&store);
    let mut bench = Bench { reader, book, rules, shelf, wall_us: clock::wall_us };
    let since_us = clock::wall_us().saturating_sub(micros(arguments.since));
    let is_terminal = io::stderr().is_terminal();
    let mut told = Instant::now();
    let tally = bench.judge_since(since_us, |judged| {
        if is_terminal && told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            eprintln!("{judged} calls judged so far");
        }
    })?;
    if arguments.json {
        return print_json(&report::TallyJson::new(&tally, &bench.rules.name));
    }
    print(&report::tally(&tally, &bench.rules.name))
}

const PROGRESS_EVERY: Duration = Duration::from_secs(2);

fn rule_set(given: Option<&str>, place: &Place) -> Result<RuleSet, CommandError> {
    let choice = match given {
        Some(given) => Choice::parse(given, Path::new(""))?,
        None => place.find(|config| config.rules, |_| Choice::BuiltIn(rules::DEFAULT))?,
    };
    Ok(choice.load()?)
}
