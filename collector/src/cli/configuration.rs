//! `config`: what the endpoints of a fleet are to be set to.
//!
//! The commands work on the fleet's book, beside a running `serve` or without one; a running one is told, so that it
//! sends at once, and notices within a second where it is not.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use roomtone_protocol::configuration::KEYS;

use super::fleet::{book, gather};
use super::{CommandError, Reading, print, print_json};
use crate::admin::client;
use crate::admin::dialogue::{Answer, Request};
use crate::clock;
use crate::fleet::book::{Book, BookError, Deed, RevisionFacts, Use};
use crate::fleet::rollout::Figures;
use crate::fleet::roster::{self, Entry};
use crate::fleet::scope::Scope;
use crate::fleet::settings::{FILE_BYTES_MAX, Settings, SettingsError};
use crate::identity::token::SITE_CHARACTERS_MAX;
use crate::naming;
use crate::private_file;
use crate::report::configuration::{self as report, Change, Changed, ScopeView};
use crate::text;

/// What is done with the fleet's configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Set keys, as the scope's next revision.
    ///
    /// KEY=VALUE changes these keys and leaves the scope's others; --file replaces all of them. Values are checked by
    /// the agents, `config show` tells what they say.
    #[command(after_long_help = keys_help())]
    Set {
        /// Like audio.levels=true or log.level=debug.
        #[arg(value_name = "KEY=VALUE", required_unless_present = "file", conflicts_with = "file")]
        settings: Vec<String>,
        /// A TOML file with sections as in an agent's config, `-` for standard input.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        how: How,
    },
    /// Set keys no more, as the scope's next revision; without any named, all of the scope's.
    Unset {
        /// Like audio.levels.
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
        #[command(flatten)]
        how: How,
    },
    /// List what is set, for whom, and what became of it.
    List {
        #[command(flatten)]
        reading: Reading,
    },
    /// Show what is set, or all that is to be known of one endpoint's configuration.
    Show {
        /// The endpoint: its id, its name, or a beginning of either that only it has.
        endpoint: Option<String>,
        #[command(flatten)]
        reading: Reading,
    },
    /// List the revisions, newest first: when, by whom, how far.
    History {
        #[command(flatten)]
        whom: MaybeWhom,
        /// The most revisions to list.
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        #[command(flatten)]
        reading: Reading,
    },
    /// Take the current revision of a scope back: its endpoints get the one before.
    Rollback {
        #[command(flatten)]
        whom: Whom,
        #[command(flatten)]
        reading: Reading,
    },
    /// Widen the current revision of a scope to more of its endpoints.
    ///
    /// Refuses where an endpoint has refused it or taken it back, unless forced.
    Promote {
        #[command(flatten)]
        whom: Whom,
        /// How many of a hundred it shall reach.
        #[arg(long, value_name = "P", default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
        percent: u8,
        /// Do it although it did not work everywhere.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        reading: Reading,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Whom {
    /// For every endpoint.
    #[arg(long)]
    fleet: bool,
    /// For the endpoints of a site.
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// For one endpoint: its id, its name, or a beginning of either that only it has.
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct MaybeWhom {
    /// Only those for every endpoint.
    #[arg(long)]
    fleet: bool,
    /// Only those for a site.
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Only those for one endpoint.
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct How {
    #[command(flatten)]
    whom: Whom,
    /// How many of a hundred endpoints of the scope get it; the others keep what they have until `config promote`.
    #[arg(long, value_name = "P", default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
    percent: u8,
    /// What `config history` shall say about it.
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = parse_note)]
    note: String,
    #[command(flatten)]
    reading: Reading,
}

fn keys_help() -> String {
    let keys: Vec<String> = KEYS.iter().map(|key| format!("  {key}\n")).collect();
    format!("Keys, as in an agent's config:\n{}", keys.concat())
}

/// `config`.
pub(super) fn configure(command: ConfigCommand) -> Result<(), CommandError> {
    match command {
        ConfigCommand::Set { settings, file, how } => {
            let new = match &file {
                Some(file) => Settings::parse(&read(file)?)?,
                None => Settings::from_arguments(settings.iter().map(String::as_str))?,
            };
            revise(&how, |now| Ok(if file.is_some() { new } else { now.merged(&new) }))
        }
        ConfigCommand::Unset { keys, how } => revise(&how, |now| now.without(&keys)),
        ConfigCommand::List { reading } => show_all(&reading, report::list),
        ConfigCommand::Show { endpoint: None, reading } => show_all(&reading, report::show),
        ConfigCommand::Show { endpoint: Some(given), reading } => show_one(&given, &reading),
        ConfigCommand::History { whom, limit, reading } => history(whom, limit, &reading),
        ConfigCommand::Rollback { whom, reading } => {
            change_share(&whom, &reading, |_, _| Ok(0), Needed::Nothing)
        }
        ConfigCommand::Promote { whom, percent, force, reading } => {
            let needed = if force { Needed::Nothing } else { Needed::NoFailure };
            let widen = |label: &str, current: &RevisionFacts| {
                let (revision, reached) = (current.revision.number, current.revision.percent);
                if percent > reached {
                    return Ok(percent);
                }
                Err(CommandError::NotWider { scope: label.to_owned(), revision, percent: reached })
            };
            change_share(&whom, &reading, widen, needed)
        }
    }
}

/// What a wider share takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needed {
    Nothing,
    NoFailure,
}

fn revise(
    how: &How,
    edit: impl FnOnce(&Settings) -> Result<Settings, SettingsError>,
) -> Result<(), CommandError> {
    let place = &how.reading.place;
    let (entries, _) = gather(place)?;
    let (scope, label) = how.whom.resolve(&entries)?;
    let path = place.book()?;
    if let Some(folder) = path.parent() {
        private_file::make_folder(folder)
            .map_err(|error| BookError::Open { path: path.clone(), reason: error.to_string() })?;
    }
    let mut book = Book::open(&path, Use::Command)?;
    let deed = deed(how.percent, &how.note);
    let made = book.revise(&scope, &deed, edit)?;
    let changed = if made.is_some() { Changed::Yes } else { Changed::No };
    tell(&how.reading, &book, &entries, (&scope, &label, changed))
}

fn change_share(
    whom: &Whom,
    reading: &Reading,
    choose: impl FnOnce(&str, &RevisionFacts) -> Result<u8, CommandError>,
    needed: Needed,
) -> Result<(), CommandError> {
    let (entries, plan) = gather(&reading.place)?;
    let (scope, label) = whom.resolve(&entries)?;
    let nothing = || CommandError::NothingSet { scope: label.clone() };
    let mut book = book(&reading.place)?.ok_or_else(nothing)?;
    let history = book.history(Some(&scope))?;
    let current = history.iter().find(|it| it.revision.percent > 0).ok_or_else(nothing)?;
    let percent = choose(&label, current)?;
    let number = current.revision.number;
    let figures = Figures::count(&plan, &scope, roster::members(&entries));
    if needed == Needed::NoFailure && figures.failed() > 0 {
        let (refused, rolled_back) = (figures.refused, figures.rolled_back);
        return Err(CommandError::Failing { scope: label, revision: number, refused, rolled_back });
    }
    if !book.set_share(&scope, number, &deed(percent, ""))? {
        return Err(CommandError::Superseded { scope: label, revision: number });
    }
    tell(reading, &book, &entries, (&scope, &label, Changed::Yes))
}

/// Has a running `serve` send what changed, and says what came of it.
fn tell(
    reading: &Reading,
    book: &Book,
    entries: &[Entry],
    (scope, label, changed): (&Scope, &str, Changed),
) -> Result<(), CommandError> {
    let sent = match changed {
        Changed::No => None,
        // Whoever cannot be told notices by itself.
        Changed::Yes => {
            let socket = reading.place.admin_socket()?;
            match client::ask(&socket, &Request::Reconfigure, Duration::ZERO) {
                Ok(Answer::Reconfigured(it)) => Some(it.sent),
                Ok(
                    Answer::SelfTest(_)
                    | Answer::Rechecked(_)
                    | Answer::Status(_)
                    | Answer::Refused { .. },
                )
                | Err(_) => None,
            }
        }
    };
    let plan = book.plan()?;
    let figures = Figures::count(&plan, scope, roster::members(entries));
    let change = Change::new(scope, &plan, &figures, (changed, sent));
    if reading.json {
        return print_json(&change);
    }
    print(&change.text(label))
}

fn show_all(
    reading: &Reading,
    table: impl FnOnce(&[ScopeView<'_>]) -> String,
) -> Result<(), CommandError> {
    let (entries, plan) = gather(&reading.place)?;
    let revisions = match book(&reading.place)? {
        Some(book) => book.history(None)?,
        None => Vec::new(),
    };
    let mut views = Vec::new();
    for scope in plan.scopes() {
        let current = plan.current(scope).map(|it| it.number);
        let facts =
            revisions.iter().find(|it| it.scope == *scope && Some(it.revision.number) == current);
        if let Some(current) = facts {
            let figures = Figures::count(&plan, scope, roster::members(&entries));
            views.push(ScopeView { label: label(scope, &entries), current, figures });
        }
    }
    if reading.json {
        return print_json(&report::Scopes::new(&views));
    }
    print(&table(&views))
}

fn show_one(given: &str, reading: &Reading) -> Result<(), CommandError> {
    let (entries, plan) = gather(&reading.place)?;
    let it = naming::resolve(given, &entries)?;
    if reading.json {
        return print_json(&report::Endpoint::new(it, &plan));
    }
    print(&report::endpoint(it, &plan))
}

fn history(whom: MaybeWhom, limit: u32, reading: &Reading) -> Result<(), CommandError> {
    let (entries, _) = gather(&reading.place)?;
    let MaybeWhom { fleet, site, endpoint } = whom;
    let is_one = fleet || site.is_some() || endpoint.is_some();
    let whom = Whom { fleet, site, endpoint };
    let scope = if is_one { Some(whom.resolve(&entries)?.0) } else { None };
    let revisions = match book(&reading.place)? {
        Some(book) => book.history(scope.as_ref())?,
        None => Vec::new(),
    };
    let newest = revisions.into_iter().take(limit as usize);
    let labelled: Vec<_> = newest.map(|it| (label(&it.scope, &entries), it)).collect();
    if reading.json {
        return print_json(&report::History::new(&labelled));
    }
    print(&report::history(&labelled))
}

impl Whom {
    /// The scope that is meant, and what people call it.
    fn resolve(&self, entries: &[Entry]) -> Result<(Scope, String), CommandError> {
        let scope = match (&self.site, &self.endpoint) {
            (Some(site), _) => Scope::Site(checked_site(site)?),
            (None, Some(given)) => Scope::Endpoint(naming::resolve(given, entries)?.endpoint),
            (None, None) => Scope::Fleet,
        };
        let label = label(&scope, entries);
        Ok((scope, label))
    }
}

fn checked_site(site: &str) -> Result<String, CommandError> {
    let site = site.trim();
    let is_one = !site.is_empty()
        && site.chars().count() <= SITE_CHARACTERS_MAX
        && !site.chars().any(char::is_control);
    if is_one { Ok(site.to_owned()) } else { Err(CommandError::NoSite { given: site.to_owned() }) }
}

fn label(scope: &Scope, entries: &[Entry]) -> String {
    match scope {
        Scope::Fleet | Scope::Site(_) => scope.to_string(),
        Scope::Endpoint(endpoint) => {
            let known = entries.iter().find(|it| it.endpoint == *endpoint);
            let name = known.map(|it| it.name.as_str()).filter(|name| !name.is_empty());
            format!("endpoint {}", name.map_or_else(|| endpoint.to_string(), str::to_owned))
        }
    }
}

/// A file of settings, as much of it as settings may have and a byte more.
fn read(path: &Path) -> Result<String, CommandError> {
    let failed = |source| CommandError::Settings { path: path.to_owned(), source };
    let limit = FILE_BYTES_MAX as u64 + 1;
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_string(&mut text).map_err(failed)?;
    } else {
        let file = File::open(path).map_err(failed)?;
        file.take(limit).read_to_string(&mut text).map_err(failed)?;
    }
    Ok(text)
}

fn deed(percent: u8, note: &str) -> Deed {
    Deed { percent, who: who(), note: note.to_owned(), now_us: clock::wall_us() }
}

/// The longest note, in characters.
const NOTE_CHARACTERS_MAX: usize = 200;
/// The longest name of a user, in characters (Linux LOGIN_NAME_MAX is 256, useradd takes 32).
const USER_CHARACTERS_MAX: usize = 32;

/// The caller: name and number of the user, and who became root by sudo.
fn who() -> String {
    let uid = rustix::process::getuid();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(uid.as_raw())).then(|| cut(name))
    });
    let who = format!("{} ({})", name.unwrap_or_else(|| "?".to_owned()), uid.as_raw());
    match std::env::var("SUDO_USER") {
        Ok(user) if uid.is_root() && !user.is_empty() => format!("{} as {who}", cut(&user)),
        Ok(_) | Err(_) => who,
    }
}

fn cut(name: &str) -> String {
    text::escape(name).chars().take(USER_CHARACTERS_MAX).collect()
}

fn parse_note(given: &str) -> Result<String, String> {
    let is_one =
        given.chars().count() <= NOTE_CHARACTERS_MAX && !given.chars().any(char::is_control);
    if is_one {
        Ok(given.trim().to_owned())
    } else {
        Err(format!("use at most {NOTE_CHARACTERS_MAX} characters and no control characters"))
    }
}
