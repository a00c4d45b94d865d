//! `network`: checks a building or an endpoint file, shows which row of it an address belongs to, and keeps it.
//!
//! `check` and `find` read a file, beside a collector or on any other machine; the others need a store.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{CommandError, Place, Reading, print, print_json};
use crate::clock;
use crate::judge::shelf::{self, FileKind, Shelf, Version, valid_at};
use crate::networks::buildings::Buildings;
use crate::networks::endpoints::Endpoints;
use crate::networks::finding::Account;
use crate::networks::{FILE_BYTES_MAX, FileError};
use crate::report::networks as report;
use crate::text;

/// What is done with a file of networks.
#[derive(Debug, Subcommand)]
pub(super) enum NetworkCommand {
    /// Tell what is wrong with a building file or an endpoint file, line by line.
    ///
    /// Both are as Call Quality Dashboard takes them: a row a line, columns between commas or TABs, quoted where they
    /// hold one, UTF-8, no header. A building file has NetworkIP, NetworkName, NetworkRange, BuildingName,
    /// OwnershipType, BuildingType, BuildingOfficeType, City, ZipCode, Country, State, Region, InsideCorp,
    /// ExpressRoute and VPN; an endpoint file EndpointName, EndpointMake, EndpointModel, EndpointType and
    /// EndpointLabel1 to 3. A row that cannot be used is dropped, the others are taken; exit code 0: none was dropped.
    Check(CheckArguments),
    /// Show which row of a building file an address belongs to, and which wider ones it wins over.
    ///
    /// The longest range wins; of two rows with one network the first. Exit code 0: there is one.
    Find(FindArguments),
    /// Keep a building file or an endpoint file, for calls to be joined with.
    ///
    /// A file that `network check` finds rows to drop in is refused. A running `serve` uses it within a second, for
    /// the calls that it judges from then on; `reclassify` joins those of the past.
    Import(ImportArguments),
    /// List the files that were kept, and which one counts now.
    List(ListArguments),
    /// Print a file that was kept, as it came.
    Export(ExportArguments),
}

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// The file, `-` for standard input.
    file: PathBuf,
    /// It is an endpoint file, not a building file.
    #[arg(long)]
    endpoints: bool,
    /// From which day on it is valid, like 2026-11-22 (UTC). Of a day the file that was imported last counts.
    #[arg(long, value_name = "DATE", default_value = "1970-01-01", value_parser = parse_day)]
    start: u64,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    reading: Reading,
}

#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// Which, as `network list` numbers them [default: the one that counts now].
    #[arg(long, value_name = "NUMBER")]
    version: Option<u32>,
    /// An endpoint file, not a building file.
    #[arg(long)]
    endpoints: bool,
    #[command(flatten)]
    place: Place,
}

fn parse_day(given: &str) -> Result<u64, String> {
    text::parse_day(given).ok_or_else(|| "use a day like 2026-11-22".to_owned())
}

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// The file, `-` for standard input.
    file: PathBuf,
    /// It is an endpoint file, not a building file.
    #[arg(long)]
    endpoints: bool,
    /// Print JSON instead of lines.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct FindArguments {
    /// An IPv4 or IPv6 address, like 10.1.2.3.
    address: IpAddr,
    /// The building file, `-` for standard input.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Print JSON instead of lines.
    #[arg(long)]
    json: bool,
}

/// Why a file of networks gave no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is none of this kind.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: FileError,
    },
    /// Rows of it cannot be used.
    #[error("{dropped} of {rows} rows cannot be used: correct them as told, by line")]
    Dropped {
        /// How many.
        dropped: u64,
        /// Of how many.
        rows: u64,
    },
    /// It is not UTF-8 as a whole.
    #[error("{} is not UTF-8", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// The folder of kept files cannot be used.
    #[error("cannot use {}: {source}", folder.display())]
    Shelf {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such file.
    #[error("no such {kind} file is kept: `network list` lists what there is")]
    NotKept {
        /// Of which kind.
        kind: &'static str,
    },
    /// No network has the address.
    #[error(
        "no row has {address}: {kept} networks were looked at, {dropped} rows could not be used"
    )]
    NoRow {
        /// What was looked for.
        address: IpAddr,
        /// Rows that were looked at.
        kept: usize,
        /// Rows that could not be.
        dropped: u64,
    },
}

/// `network`.
pub(super) fn run(command: &NetworkCommand) -> Result<(), CommandError> {
    match command {
        NetworkCommand::Check(arguments) => check(arguments),
        NetworkCommand::Find(arguments) => find(arguments),
        NetworkCommand::Import(arguments) => import(arguments),
        NetworkCommand::List(arguments) => list(arguments),
        NetworkCommand::Export(arguments) => export(arguments),
    }
}

fn check(arguments: &CheckArguments) -> Result<(), CommandError> {
    let path = &arguments.file;
    let bytes = read(path)?;
    let failed = |source| NetworkError::File { path: path.clone(), source };
    let (account, size) = account(kind(arguments.endpoints), &bytes).map_err(failed)?;
    if arguments.json {
        print_json(&report::Check::new(&account, size))?;
    } else {
        print(&report::check(&account, size))?;
    }
    match account.dropped {
        0 => Ok(()),
        dropped => Err(NetworkError::Dropped { dropped, rows: account.rows }.into()),
    }
}

fn find(arguments: &FindArguments) -> Result<(), CommandError> {
    let (path, address) = (&arguments.file, arguments.address);
    let bytes = read(path)?;
    let reading = Buildings::read(&bytes)
        .map_err(|source| NetworkError::File { path: path.clone(), source })?;
    let dropped = reading.account.dropped;
    let Some(row) = reading.table.lookup(address) else {
        let kept = reading.table.networks();
        return Err(NetworkError::NoRow { address, kept, dropped }.into());
    };
    if arguments.json {
        return print_json(&report::Found::new(address, row, dropped));
    }
    print(&report::found(address, row, dropped))
}

fn kind(is_endpoints: bool) -> FileKind {
    if is_endpoints { FileKind::Endpoints } else { FileKind::Buildings }
}

fn import(arguments: &ImportArguments) -> Result<(), CommandError> {
    let path = &arguments.file;
    let bytes = read(path)?;
    let kind = kind(arguments.endpoints);
    let failed = |source| NetworkError::File { path: path.clone(), source };
    let (account, size) = account(kind, &bytes).map_err(failed)?;
    if account.dropped > 0 {
        print(&report::check(&account, size))?;
        let (dropped, rows) = (account.dropped, account.rows);
        return Err(NetworkError::Dropped { dropped, rows }.into());
    }
    let text = str::from_utf8(&bytes).map_err(|_| NetworkError::NotUtf8 { path: path.clone() })?;
    let store = arguments.place.store()?;
    let kept = Shelf::new(&store).import(kind, text, arguments.start);
    let kept = kept.map_err(|source| shelf_error(&store, source))?;
    print(&(report::check(&account, size) + &report::kept(kind, &kept)))
}

fn list(arguments: &ListArguments) -> Result<(), CommandError> {
    let store = arguments.reading.place.store()?;
    let shelf = Shelf::new(&store);
    let now_us = clock::wall_us();
    let mut kept = Vec::new();
    for kind in [FileKind::Buildings, FileKind::Endpoints] {
        let versions = shelf.list(kind).map_err(|source| shelf_error(&store, source))?;
        let active = valid_at(&versions, now_us).map(|it| it.number);
        let entry = |it: Version| report::Kept::new(kind, active == Some(it.number), &it);
        kept.extend(versions.into_iter().map(entry));
    }
    if arguments.reading.json {
        return print_json(&report::KeptFiles { files: kept });
    }
    print(&report::kept_files(&kept))
}

fn export(arguments: &ExportArguments) -> Result<(), CommandError> {
    let store = arguments.place.store()?;
    let kind = kind(arguments.endpoints);
    let versions = Shelf::new(&store).list(kind).map_err(|source| shelf_error(&store, source))?;
    let chosen = match arguments.version {
        Some(number) => versions.iter().find(|it| it.number == number),
        None => valid_at(&versions, clock::wall_us()),
    };
    let kept = chosen.ok_or(NetworkError::NotKept { kind: kind.word() })?;
    let bytes = read(&kept.path)?;
    let text =
        str::from_utf8(&bytes).map_err(|_| NetworkError::NotUtf8 { path: kept.path.clone() })?;
    print(text)
}

fn shelf_error(store: &Path, source: io::Error) -> NetworkError {
    NetworkError::Shelf { folder: store.join(shelf::FOLDER), source }
}

/// What is to be said of a file, and its size.
fn account(kind: FileKind, bytes: &[u8]) -> Result<(Account, report::Size), FileError> {
    Ok(match kind {
        FileKind::Endpoints => {
            let reading = Endpoints::read(bytes)?;
            (reading.account, report::Size::of_endpoints(&reading.table))
        }
        FileKind::Buildings => {
            let reading = Buildings::read(bytes)?;
            (reading.account, report::Size::of_buildings(&reading.table))
        }
    })
}

/// A file, as much of it as a file may have and a byte more.
fn read(path: &Path) -> Result<Vec<u8>, NetworkError> {
    let failed = |source| NetworkError::Read { path: path.to_owned(), source };
    let limit = FILE_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        File::open(path).map_err(failed)?.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    }
    Ok(bytes)
}
