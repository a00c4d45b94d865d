//! `endpoint path`, `endpoint host` and `endpoint networks`: what an endpoint told of its surroundings over time.

use std::time::Duration;

use clap::Args;
use roomtone_protocol::id::EndpointId;
use roomtone_protocol::time::Stamp;

use super::identity::Which;
use super::{CommandError, Reading, micros, parse_since, print, print_json};
use crate::clock;
use crate::naming;
use crate::report::json::Network;
use crate::report::series as report;
use crate::store::StoreReader;
use crate::store::sqlite::SqliteReader;

/// Whose series, and since when.
#[derive(Debug, Args)]
pub(super) struct SeriesArguments {
    #[command(flatten)]
    which: Which,
    /// How far back to look by the endpoint's clock, like 90m, 24h or 7d.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_since)]
    since: Duration,
    #[command(flatten)]
    reading: Reading,
}

impl SeriesArguments {
    fn open(&self) -> Result<(SqliteReader, EndpointId), CommandError> {
        let reader = self.reading.place.open()?;
        let endpoints = reader.endpoints()?;
        let endpoint = naming::resolve(&self.which.endpoint, &endpoints)?.endpoint;
        Ok((reader, endpoint))
    }

    /// What began within the time that was asked for, oldest first.
    fn latest<T>(&self, told: impl IntoIterator<Item = T>, at: impl Fn(&T) -> Stamp) -> Vec<T> {
        let since_us = clock::wall_us().saturating_sub(micros(self.since));
        let mut latest: Vec<T> = told.into_iter().filter(|it| at(it).wall_us >= since_us).collect();
        latest.sort_by_key(|it| at(it).wall_us);
        latest
    }
}

/// `endpoint path`.
pub(super) fn path(asked: &SeriesArguments) -> Result<(), CommandError> {
    let (reader, endpoint) = asked.open()?;
    let told = asked.latest(reader.path_intervals(endpoint)?.into_values(), |it| it.started);
    if asked.reading.json {
        return print_json(&report::Paths { path: told.iter().map(report::Path::new).collect() });
    }
    print(&report::paths(&told))
}

/// `endpoint host`.
pub(super) fn host(asked: &SeriesArguments) -> Result<(), CommandError> {
    let (reader, endpoint) = asked.open()?;
    let told = asked.latest(reader.host_intervals(endpoint)?.into_values(), |it| it.started);
    if asked.reading.json {
        return print_json(&report::Hosts { host: told.iter().map(report::Host::new).collect() });
    }
    print(&report::hosts(&told))
}

/// `endpoint networks`.
pub(super) fn networks(asked: &SeriesArguments) -> Result<(), CommandError> {
    let (reader, endpoint) = asked.open()?;
    let told = asked.latest(reader.networks(endpoint)?.into_values(), |it| it.at);
    if asked.reading.json {
        let networks = told.iter().map(Network::new).collect();
        return print_json(&report::Networks { networks });
    }
    print(&report::networks(&told))
}
