//! `endpoints`, `endpoint show` and the figures of `status`: how the endpoints are, from all that is on disk.
//!
//! They read the registry, the store and the fleet's book beside a running `serve` or without one, and make no files.

use clap::Args;

use super::identity::Which;
use super::{CommandError, Place, Reading, print, print_json};
use crate::clock;
use crate::fleet::book::{Book, Use};
use crate::fleet::condition::State;
use crate::fleet::plan::Plan;
use crate::fleet::roster::{self, Entry, Sources};
use crate::identity::registry::Registry;
use crate::naming;
use crate::report::{fleet as report, identity, table};
use crate::store::{EndpointFacts, StoreReader};
use crate::telemetry;

/// Which endpoints are listed, and what of them.
#[derive(Debug, Args)]
pub(super) struct EndpointsArguments {
    /// Only those that are in this state: cloned, silent, degraded, neverSeen, up or revoked.
    #[arg(long, value_name = "STATE", value_parser = parse_state)]
    state: Option<State>,
    /// Only those of this site.
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// What became of their records instead of how they are; JSON always has both.
    #[arg(long)]
    records: bool,
    #[command(flatten)]
    reading: Reading,
}

fn parse_state(text: &str) -> Result<State, String> {
    State::ALL.into_iter().find(|it| it.name() == text).ok_or_else(|| {
        let names: Vec<_> = State::ALL.iter().map(|it| it.name()).collect();
        format!("use one of {}", names.join(", "))
    })
}

/// `endpoints`.
pub(super) fn endpoints(arguments: &EndpointsArguments) -> Result<(), CommandError> {
    let EndpointsArguments { state, site, records, reading } = arguments;
    let (mut entries, _) = gather_readable(&reading.place)?;
    entries.retain(|it| {
        state.is_none_or(|state| it.condition.state == state)
            && site.as_ref().is_none_or(|site| it.site == *site)
    });
    if reading.json {
        return print_json(&report::Endpoints::new(&entries));
    }
    if *records {
        let stored: Vec<EndpointFacts> = entries.into_iter().filter_map(|it| it.stored).collect();
        return print(&table::endpoints(&stored));
    }
    roster::worst_first(&mut entries);
    print(&report::endpoints(&entries))
}

/// `endpoint show`.
pub(super) fn show(which: &Which, reading: &Reading) -> Result<(), CommandError> {
    let now_us = clock::wall_us();
    let (entries, _) = gather_readable(&reading.place)?;
    let it = naming::resolve(&which.endpoint, &entries)?;
    let machines = match (&it.standing, registry(&reading.place)?) {
        (Some(_), Some(registry)) => registry.machines(it.endpoint)?,
        (Some(_) | None, _) => Vec::new(),
    };
    let standing = it.standing.as_ref();
    if reading.json {
        return print_json(&identity::ShownEndpoint::new(it, &machines, now_us));
    }
    let head = match standing {
        Some(standing) => identity::endpoint(standing, &machines, now_us),
        None => identity::not_enrolled(it),
    };
    print(&format!("{head}\n{}", report::endpoint(it)))
}

/// Everything that is known of all endpoints, by id; a book that cannot be used is told of and left out.
pub(super) fn gather_readable(place: &Place) -> Result<(Vec<Entry>, Plan), CommandError> {
    let mut sources = sources(place)?;
    match book(place).and_then(|book| book.map_or(Ok(()), |it| add(&mut sources, &it))) {
        // A damaged page may have let a part through.
        Err(CommandError::Book(error)) => {
            telemetry::start("warn");
            tracing::warn!(%error, "left out");
        }
        other => other?,
    }
    Ok(roster::join(sources, clock::wall_us()))
}

/// Everything that is known of all endpoints, by id.
pub(super) fn gather(place: &Place) -> Result<(Vec<Entry>, Plan), CommandError> {
    let mut sources = sources(place)?;
    if let Some(book) = book(place)? {
        add(&mut sources, &book)?;
    }
    Ok(roster::join(sources, clock::wall_us()))
}

fn add(sources: &mut Sources, book: &Book) -> Result<(), CommandError> {
    sources.heard = book.heard()?;
    sources.effective = book.effective()?;
    sources.plan = book.plan()?;
    Ok(())
}

fn sources(place: &Place) -> Result<Sources, CommandError> {
    let mut sources = Sources::default();
    if let Some(registry) = registry(place)? {
        sources.standings = registry.endpoints()?;
    }
    if place.store()?.exists() {
        sources.stored = place.open()?.endpoints()?;
    }
    Ok(sources)
}

/// The registry of a place; `None` where nothing was ever enrolled, since reading makes no files.
pub(super) fn registry(place: &Place) -> Result<Option<Registry>, CommandError> {
    let path = place.registry()?;
    Ok(if path.exists() { Some(Registry::open(&path)?) } else { None })
}

/// The fleet's book of a place; `None` where there is none.
pub(super) fn book(place: &Place) -> Result<Option<Book>, CommandError> {
    let path = place.book()?;
    Ok(if path.exists() { Some(Book::open(&path, Use::Command)?) } else { None })
}
