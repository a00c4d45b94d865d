//! `network`: checks a building or an endpoint file, and shows which row of it an address belongs to.
//!
//! Nothing is kept: the commands read a file, beside a collector or on any other machine.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{CommandError, print, print_json};
use crate::networks::buildings::Buildings;
use crate::networks::endpoints::Endpoints;
use crate::networks::{FILE_BYTES_MAX, FileError};
use crate::report::networks as report;

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
    }
}

fn check(arguments: &CheckArguments) -> Result<(), CommandError> {
    let path = &arguments.file;
    let bytes = read(path)?;
    let failed = |source| NetworkError::File { path: path.clone(), source };
    let (account, size) = if arguments.endpoints {
        let reading = Endpoints::read(&bytes).map_err(failed)?;
        (reading.account, report::Size::of_endpoints(&reading.table))
    } else {
        let reading = Buildings::read(&bytes).map_err(failed)?;
        (reading.account, report::Size::of_buildings(&reading.table))
    };
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
