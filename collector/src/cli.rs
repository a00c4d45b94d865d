//! What a person types, and what comes back: results on stdout, one line per error on stderr.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage (the command line or the config file).

mod calls;
mod configuration;
mod fleet;
mod identity;
mod networks;
mod series;
mod verdicts;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use roomtone_protocol::device::SelfTestOutcome;
use roomtone_protocol::enroll::TokenId;
use roomtone_protocol::id::CallId;
use serde::Serialize;

use crate::admin::client::{self, AskError};
use crate::admin::dialogue::{Answer, Request, WAIT_MAX};
use crate::call::CallFacts;
use crate::call::device::{Choice, EndpointEpisode};
use crate::call::view::{CallState, CallView, SILENT_AFTER};
use crate::clock;
use crate::config::{self, Config, ConfigError};
use crate::dev_certificates::{self, DevCertificatesError};
use crate::fleet::book::{self, BookError};
use crate::fleet::settings::SettingsError;
use crate::identity::authority::AuthorityError;
use crate::identity::init::{InitError, SYSTEM_CONFIG};
use crate::identity::registry::RegistryError;
use crate::judge::ChoiceError;
use crate::judge::again::AgainError;
use crate::naming::{self, NameError};
use crate::report::json;
use crate::report::verdict::Ratings;
use crate::report::{Names, devices, table, watch::Watch};
use crate::server::{self, ServeError};
use crate::store::sqlite::SqliteReader;
use crate::store::{EndpointFacts, StoreError, StoreReader};
use crate::{telemetry, text};

/// Takes in what roomtone agents measured, stores it per leg and shows it.
#[derive(Debug, Parser)]
#[command(name = "roomtone-collector", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take in records until SIGTERM or Ctrl-C.
    #[command(after_long_help = config_help())]
    Serve {
        /// The configuration file (TOML); see the end of `serve --help` for its options.
        #[arg(long, value_name = "FILE", default_value = SYSTEM_CONFIG)]
        config: PathBuf,
    },
    /// List the latest calls, newest first.
    Calls {
        /// How far back to look, like 90m, 24h or 7d.
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_since)]
        since: Duration,
        /// The most calls to list.
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// Only poor meetings; rehearsals are none.
        #[arg(long)]
        poor: bool,
        #[command(flatten)]
        judging: verdicts::Judging,
        #[command(flatten)]
        reading: Reading,
    },
    /// Show one call leg by leg, and how it was.
    Call {
        /// The call's id, as `calls` lists it: 16 hexadecimal digits.
        id: CallId,
        #[command(flatten)]
        judging: verdicts::Judging,
        #[command(flatten)]
        reading: Reading,
    },
    /// List the endpoints and how they are, the worst first; or what became of their records.
    ///
    /// up: heard, with nothing to complain of. degraded: heard, and something does not work as it should. silent: not
    /// heard for two and a half of its heartbeats, or its connection ended. neverSeen: enrolled, and never came.
    /// cloned: two machines use its identity. revoked: an operator took its identity back.
    Endpoints(fleet::EndpointsArguments),
    /// List the latest episodes of microphones and loudspeakers that did not function, newest first.
    ///
    /// In calls and outside.
    Episodes {
        /// Only those of this endpoint: its id, its name, or a beginning of either that only it has.
        #[arg(long, value_name = "ENDPOINT")]
        endpoint: Option<String>,
        /// Only those that go on.
        #[arg(long)]
        open: bool,
        /// How far back to look, like 90m, 24h or 7d.
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_since)]
        since: Duration,
        /// The most episodes to list.
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        #[command(flatten)]
        reading: Reading,
    },
    /// Ask an endpoint for a self-test of its microphone and loudspeaker, and wait for the result.
    ///
    /// A short quiet chirp goes through the loudspeaker and is looked for in the microphone, unless a call is on.
    /// Exit code 0: it was heard. It takes a running `serve`, and its user or root.
    Selftest {
        /// The endpoint: its id, its name, or a beginning of either that only it has.
        endpoint: String,
        /// How long to wait for the result, from 1s to 2m.
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_wait)]
        wait: Duration,
        #[command(flatten)]
        reading: Reading,
    },
    /// List the latest self-tests of microphones and loudspeakers, newest first.
    Selftests {
        /// Only those of this endpoint: its id, its name, or a beginning of either that only it has.
        #[arg(long, value_name = "ENDPOINT")]
        endpoint: Option<String>,
        /// How far back to look, like 90m, 24h or 7d.
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_since)]
        since: Duration,
        /// The most self-tests to list.
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        #[command(flatten)]
        reading: Reading,
    },
    /// Follow live calls until Ctrl-C: a table on a terminal, a line per interval elsewhere.
    Watch {
        #[command(flatten)]
        place: Place,
    },
    /// Make a new collector's authority, certificates and configuration file.
    Init(identity::InitArguments),
    /// Make, list and revoke tokens, by which machines are enrolled.
    #[command(subcommand)]
    Token(identity::TokenCommand),
    /// List, show, revoke and rename the endpoints that were enrolled.
    #[command(subcommand)]
    Endpoint(identity::EndpointCommand),
    /// Set, show and take back what the endpoints of a fleet are set to.
    ///
    /// Settings lie in three layers: the fleet's, a site's, an endpoint's; the narrower wins, key by key. An endpoint's
    /// own config file wins over all of them. The collector knows the keys; whether a value is good, each agent says
    /// itself, and keeps none that is not or that costs it its collector. Try it on a few first: `--percent 5`.
    #[command(subcommand)]
    Config(configuration::ConfigCommand),
    /// Check and keep files of buildings and networks, and look an address up in one.
    ///
    /// The files are those of Call Quality Dashboard. Legs are joined with the one that is kept when they are judged.
    #[command(subcommand)]
    Network(networks::NetworkCommand),
    /// Judge the calls of the past anew, by the config's rule set or another one.
    ///
    /// Verdicts of each rule set are kept beside those of others. `serve` may run meanwhile.
    Reclassify(verdicts::ReclassifyArguments),
    /// List and print the rule sets that calls are judged by, and check own ones.
    #[command(subcommand)]
    Rules(verdicts::RulesCommand),
    /// Tell how a running `serve` stands, whom it turned away, and how the endpoints are.
    Status {
        #[command(flatten)]
        reading: Reading,
    },
    /// Make certificates for development on this machine.
    DevCertificates {
        /// Where to put them.
        #[arg(long, value_name = "DIR")]
        directory: PathBuf,
        /// An endpoint to make a client certificate for; may be given more than once.
        #[arg(long = "endpoint-name", value_name = "NAME")]
        endpoint_names: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Reading {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Place {
    /// The collector's configuration file, to find its store [default: /etc/roomtone/collector.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The store's directory, where no configuration file is to be read.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

/// Why a command failed. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The config file is wrong: usage.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nobody said where, and nothing is installed.
    #[error("no {SYSTEM_CONFIG} here: name a config with --config or a store with --store")]
    NoPlace,
    /// `serve` failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Certificates were not made.
    #[error(transparent)]
    DevCertificates(#[from] DevCertificatesError),
    /// No such call.
    #[error("no call {id} in the store: `roomtone-collector calls` lists what there is")]
    NoCall {
        /// What was asked for.
        id: CallId,
    },
    /// The endpoint that was named is none, or more than one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The running `serve` gave no answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The endpoint was not asked, or gave no answer.
    #[error("endpoint {name}: {detail}")]
    Refused {
        /// Its name.
        name: String,
        /// Why.
        detail: String,
    },
    /// The self-test did not pass.
    #[error("endpoint {name}: {verdict}")]
    NotHeard {
        /// Its name.
        name: String,
        /// What was found.
        verdict: String,
    },
    /// The result was stored and cannot be found there any more.
    #[error("endpoint {name}: the self-test ended, but the store no longer has its result")]
    ResultGone {
        /// Its name.
        name: String,
    },
    /// `init` failed.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The authority cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The registry cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The config lacks what making a token takes.
    #[error("{key} is not set in the config: `init` makes a collector that can enrol")]
    NotEnrolling {
        /// The key.
        key: &'static str,
    },
    /// No such token.
    #[error("no token {id}: `roomtone-collector token list` lists what there is")]
    NoToken {
        /// What was asked for.
        id: TokenId,
    },
    /// The registry is changed, and the running `serve` does not know yet.
    #[error(
        "it is revoked, but the running `serve` was not told: {detail}; restart it to end the connection"
    )]
    NotTold {
        /// Why.
        detail: String,
    },
    /// The running `serve` did not say.
    #[error("no status: {detail}")]
    NoStatus {
        /// Why.
        detail: String,
    },
    /// The fleet's book cannot be used, or what was asked for is no setting.
    #[error(transparent)]
    Book(#[from] BookError),
    /// What was asked for is no setting: usage.
    #[error(transparent)]
    NoSetting(#[from] SettingsError),
    /// A file of settings cannot be read.
    #[error("cannot read the settings {}: {source}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No name of a site: usage.
    #[error("`{given}` is no site: use 1 to 64 characters and no control characters")]
    NoSite {
        /// What was given.
        given: String,
    },
    /// There is no revision to widen or to take back.
    #[error("{scope}: nothing is set")]
    NothingSet {
        /// For whom.
        scope: String,
    },
    /// The revision reaches as many already.
    #[error(
        "{scope}: revision {revision} reaches {percent} % already: `config rollback` takes it back"
    )]
    NotWider {
        /// For whom.
        scope: String,
        /// Which.
        revision: u32,
        /// How many of a hundred.
        percent: u8,
    },
    /// It did not work everywhere.
    #[error(
        "{scope}: revision {revision} was refused by {refused} and taken back by {rolled_back}: `config list` says why; \
         `config rollback`, or promote with --force"
    )]
    Failing {
        /// For whom.
        scope: String,
        /// Which.
        revision: u32,
        /// Endpoints that refused it.
        refused: u64,
        /// Endpoints that took it back.
        rolled_back: u64,
    },
    /// Somebody else made a newer revision meanwhile.
    #[error("{scope}: revision {revision} is not the current one any more: look again")]
    Superseded {
        /// For whom.
        scope: String,
        /// Which.
        revision: u32,
    },
    /// There is no such rule set.
    #[error(transparent)]
    Rules(#[from] ChoiceError),
    /// The book of verdicts cannot be used.
    #[error(transparent)]
    Verdicts(#[from] crate::judge::book::BookError),
    /// History was not judged to its end.
    #[error(transparent)]
    Again(#[from] AgainError),
    /// A file of networks gave no answer, or not the one that was hoped for.
    #[error(transparent)]
    Network(#[from] networks::NetworkError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomness,
    /// Nobody takes the output.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl CommandError {
    /// 2 for wrong usage, 1 for the rest.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::NoPlace
            | Self::NoSetting(_)
            | Self::NoSite { .. }
            | Self::Rules(ChoiceError::Unknown { .. })
            | Self::Book(BookError::Settings(_)) => 2,
            Self::Serve(_)
            | Self::Store(_)
            | Self::DevCertificates(_)
            | Self::NoCall { .. }
            | Self::Name(_)
            | Self::Ask(_)
            | Self::Refused { .. }
            | Self::NotHeard { .. }
            | Self::ResultGone { .. }
            | Self::Init(_)
            | Self::Authority(_)
            | Self::Registry(_)
            | Self::NotEnrolling { .. }
            | Self::NoToken { .. }
            | Self::NotTold { .. }
            | Self::NoStatus { .. }
            | Self::Book(
                BookError::Open { .. }
                | BookError::Damaged { .. }
                | BookError::Step(_)
                | BookError::Row { .. },
            )
            | Self::Settings { .. }
            | Self::NothingSet { .. }
            | Self::NotWider { .. }
            | Self::Failing { .. }
            | Self::Superseded { .. }
            | Self::Network(_)
            | Self::Rules(ChoiceError::Read { .. } | ChoiceError::File { .. })
            | Self::Verdicts(_)
            | Self::Again(_)
            | Self::NoRandomness
            | Self::Output(_) => 1,
        }
    }

    /// Whether the reader of our output went away, which is no failure of ours (`calls | head`).
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl Cli {
    /// Does what was typed.
    ///
    /// # Errors
    /// [`CommandError`], to be printed as one line.
    pub fn run(self) -> Result<(), CommandError> {
        match self.command {
            Command::Serve { config } => {
                let config = Config::load(&config)?;
                telemetry::start(&config.log_level);
                Ok(server::serve(&config)?)
            }
            Command::Calls { since, limit, poor, judging, reading } => {
                let chosen = if poor { calls::Chosen::Poor } else { calls::Chosen::All };
                calls::calls(since, limit as usize, chosen, &judging, &reading)
            }
            Command::Call { id, judging, reading } => calls::call(id, &judging, &reading),
            Command::Endpoints(arguments) => fleet::endpoints(&arguments),
            Command::Episodes { endpoint, open, since, limit, reading } => {
                let choice = Choice {
                    since_us: clock::wall_us().saturating_sub(micros(since)),
                    only_open: open,
                    limit: limit as usize,
                };
                episodes(endpoint.as_deref(), &choice, &reading)
            }
            Command::Selftest { endpoint, wait, reading } => self_test(&endpoint, wait, &reading),
            Command::Selftests { endpoint, since, limit, reading } => {
                self_tests(endpoint.as_deref(), since, limit as usize, &reading)
            }
            Command::Watch { place } => watch(&place),
            Command::Init(arguments) => identity::init(arguments),
            Command::Token(command) => identity::token(command),
            Command::Endpoint(command) => identity::endpoint(command),
            Command::Config(command) => configuration::configure(command),
            Command::Network(command) => networks::run(&command),
            Command::Reclassify(arguments) => verdicts::reclassify(&arguments),
            Command::Rules(command) => verdicts::rules(&command),
            Command::Status { reading } => identity::status(&reading),
            Command::DevCertificates { directory, endpoint_names } => {
                make_certificates(&directory, &endpoint_names)
            }
        }
    }
}

fn views(calls: &[CallFacts], endpoints: &[EndpointFacts], now_us: u64) -> Vec<CallView> {
    let endpoint = |id| endpoints.iter().find(|it| it.endpoint == id);
    calls.iter().map(|facts| CallView::new(facts, endpoint(facts.endpoint), now_us)).collect()
}

fn episodes(
    endpoint: Option<&str>,
    choice: &Choice,
    reading: &Reading,
) -> Result<(), CommandError> {
    let reader = reading.place.open()?;
    let endpoints = reader.endpoints()?;
    let chosen =
        endpoint.map(|given| naming::resolve(given, &endpoints)).transpose()?.map(|it| it.endpoint);
    let told = reader.episodes(chosen)?.into_iter();
    let told = told.map(|((endpoint, _), told)| EndpointEpisode { endpoint, told: told.value });
    let latest = choice.latest(told.collect());
    let names = Names::new(&endpoints);
    if reading.json {
        let episodes = latest.iter().map(|it| json::EndpointEpisode::new(it, &names)).collect();
        return print_json(&json::Episodes { episodes });
    }
    print(&devices::episodes(&latest, &names))
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn self_test(given: &str, wait: Duration, reading: &Reading) -> Result<(), CommandError> {
    let reader = reading.place.open()?;
    let endpoints = reader.endpoints()?;
    let endpoint = naming::resolve(given, &endpoints)?.endpoint;
    let names = Names::new(&endpoints);
    let name = names.of(endpoint);
    let request = Request::SelfTest { endpoint, wait };
    let by = match client::ask(&reading.place.admin_socket()?, &request, wait)? {
        Answer::SelfTest(by) => by.into(),
        Answer::Refused { detail, .. } => return Err(CommandError::Refused { name, detail }),
        Answer::Rechecked(_) | Answer::Reconfigured(_) | Answer::Status(_) => {
            let detail = "`serve` gave the answer to another question".to_owned();
            return Err(CommandError::Refused { name, detail });
        }
    };
    let tests = reader.self_tests(Some(endpoint), 0, SELF_TESTS_LOOKED_AT)?;
    let Some(facts) = tests.into_iter().find(|it| it.by == by) else {
        return Err(CommandError::ResultGone { name });
    };
    if reading.json {
        print_json(&json::SelfTest::new(&facts, &names))?;
    }
    let verdict = devices::verdict(&facts.test);
    match facts.test.outcome {
        SelfTestOutcome::Heard if reading.json => Ok(()),
        SelfTestOutcome::Heard => print(&format!("{verdict}\n")),
        SelfTestOutcome::NotHeard
        | SelfTestOutcome::NoSignal
        | SelfTestOutcome::CaptureFailed
        | SelfTestOutcome::RenderFailed
        | SelfTestOutcome::Busy
        | SelfTestOutcome::InCall
        | SelfTestOutcome::NoDevice => Err(CommandError::NotHeard { name, verdict }),
    }
}

/// The result was committed a moment ago: more self-tests of one endpoint do not fit into that.
const SELF_TESTS_LOOKED_AT: usize = 100;

fn self_tests(
    endpoint: Option<&str>,
    since: Duration,
    limit: usize,
    reading: &Reading,
) -> Result<(), CommandError> {
    let reader = reading.place.open()?;
    let endpoints = reader.endpoints()?;
    let endpoint =
        endpoint.map(|given| naming::resolve(given, &endpoints)).transpose()?.map(|it| it.endpoint);
    let since_us = clock::wall_us().saturating_sub(micros(since));
    let tests = reader.self_tests(endpoint, since_us, limit)?;
    let names = Names::new(&endpoints);
    if reading.json {
        let self_tests = tests.iter().map(|test| json::SelfTest::new(test, &names)).collect();
        return print_json(&json::SelfTests { self_tests });
    }
    print(&devices::self_tests(&tests, &names))
}

/// How often live calls are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// The most live calls that are followed at once; the newest ones.
const WATCH_CALLS_MAX: usize = 100;

fn watch(place: &Place) -> Result<(), CommandError> {
    let reader = place.open()?;
    let is_terminal = io::stdout().is_terminal();
    let mut watch = Watch::default();
    loop {
        let now_us = clock::wall_us();
        let silent_us = micros(SILENT_AFTER);
        let endpoints = reader.endpoints()?;
        let facts = reader.recent_calls(now_us.saturating_sub(silent_us), WATCH_CALLS_MAX)?;
        let mut views = views(&facts, &endpoints, now_us);
        // A call that has just closed is told to its last interval where lines are told.
        views.retain(|view| !is_terminal || view.state == CallState::Live);
        let names = Names::new(&endpoints);
        if is_terminal {
            let time = text::short_time(now_us);
            // Home and clear to the end (ECMA-48 CUP, ED): no flicker and no scrollback.
            print(&format!(
                "\x1b[H\x1b[Jlive calls at {time} UTC, Ctrl-C ends\n\n{}",
                table::calls(&views, &names, &Ratings::default())
            ))?;
        } else {
            for line in watch.handle_calls(&views, &names) {
                print(&format!("{line}\n"))?;
            }
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

fn make_certificates(directory: &Path, names: &[String]) -> Result<(), CommandError> {
    let made = dev_certificates::make(directory, names)?;
    let mut out = String::new();
    for it in made {
        let verb = if it.existed { "kept" } else { "made" };
        let endpoint = it.endpoint.map(|id| format!("  endpoint {id}")).unwrap_or_default();
        out += &format!("{verb} {}{endpoint}\n", it.path.display());
    }
    out += "for development only: anyone with ca.key can pose as an endpoint\n";
    print(&out)
}

impl Place {
    fn open(&self) -> Result<SqliteReader, CommandError> {
        // Reading commands tell on stderr which files they leave out, and nothing else.
        telemetry::start("warn");
        Ok(SqliteReader::open(&self.store()?)?)
    }

    /// Where the day files are.
    fn store(&self) -> Result<PathBuf, CommandError> {
        self.find(|config| config.store, Path::to_owned)
    }

    /// Where the fleet's book is.
    fn book(&self) -> Result<PathBuf, CommandError> {
        Ok(self.store()?.join(book::FILE))
    }

    /// Where the `serve` of this store listens.
    fn admin_socket(&self) -> Result<PathBuf, CommandError> {
        self.find(|config| config.admin_socket, |store| store.join(config::ADMIN_SOCKET))
    }

    /// Where the registry of tokens and endpoints is.
    fn registry(&self) -> Result<PathBuf, CommandError> {
        self.find(|config| config.registry, |store| store.join(config::REGISTRY))
    }

    /// What the config file names, or what it is by default for a store's directory.
    fn find<T>(
        &self,
        configured: impl FnOnce(Config) -> T,
        in_store: impl FnOnce(&Path) -> T,
    ) -> Result<T, CommandError> {
        let file = match (&self.config, &self.store) {
            (None, Some(directory)) => return Ok(in_store(directory)),
            (Some(file), _) => file,
            (None, None) if Path::new(SYSTEM_CONFIG).exists() => Path::new(SYSTEM_CONFIG),
            (None, None) => return Err(CommandError::NoPlace),
        };
        Ok(configured(Config::load(file)?))
    }
}

fn parse_wait(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|wait| (WAIT_MIN..=WAIT_MAX).contains(wait))
        .ok_or_else(|| "use a time from 1s to 2m".to_owned())
}

/// Less is over before any chirp is.
const WAIT_MIN: Duration = Duration::from_secs(1);

fn parse_since(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; use a time like 90m, 24h or 7d"))
}

fn config_help() -> String {
    format!(
        "Options of the configuration file (section.key = default):\n{}",
        config::reference_text()
    )
}

fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn print_json(value: &impl Serialize) -> Result<(), CommandError> {
    let mut text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    text.push('\n');
    print(&text)
}
