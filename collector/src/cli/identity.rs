//! `init`, `token`, `endpoint` and `status`: the commands about who may speak as whom.
//!
//! They work on the registry itself, beside a running `serve` or without one; a running one is told of a revocation,
//! so that it ends the connection at once.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use roomtone_protocol::enroll::{TokenId, TokenSecret};
use roomtone_protocol::id::EndpointId;
use roomtone_protocol::token::Token;

use super::fleet::{self, registry};
use super::{CommandError, Place, Reading, micros, print, print_json, series};
use crate::admin::client::{self, AskError};
use crate::admin::dialogue::{Answer, Request};
use crate::clock;
use crate::config::Config;
use crate::identity::authority::Authority;
use crate::identity::digest::sha256;
use crate::identity::init::{self, Layout, Plan};
use crate::identity::reach::Reach;
use crate::identity::registry::Registry;
use crate::identity::standing::EndpointStanding;
use crate::identity::token::{LIFE_DAYS_MAX, SITE_CHARACTERS_MAX, TokenFacts, USES_MAX};
use crate::ingest::certificate::NAME_CHARACTERS_MAX;
use crate::naming;
use crate::report::identity as report;

/// What a new collector is.
#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// Where to put everything; without it, where the package has it: the config in /etc/roomtone, the rest in
    /// /var/lib/roomtone-collector.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Where agents reach this collector, like rooms.example.com:4433.
    #[arg(long, value_name = "HOST:PORT")]
    address: Reach,
    /// A further name or address of this collector; may be given more than once.
    #[arg(long = "name", value_name = "HOST", value_parser = parse_host)]
    names: Vec<String>,
    /// Where the store goes, from that folder.
    #[arg(long, value_name = "DIR", default_value = "store")]
    store: String,
}

/// What is done with tokens.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it, once: only its hash is kept.
    Create {
        /// The site of the endpoints that it enrols.
        #[arg(long, value_name = "SITE", default_value = "", value_parser = parse_site)]
        site: String,
        /// How many endpoints it enrols.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(USES_MAX)))]
        uses: u32,
        /// How long it is good for, like 90m, 24h or 7d; at most 366d.
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_life)]
        expires: Duration,
        /// Where agents reach this collector, in place of the config's identity.address.
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<Reach>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// The collector's configuration file.
        #[arg(long, value_name = "FILE", default_value = init::SYSTEM_CONFIG)]
        config: PathBuf,
    },
    /// List the tokens, newest first.
    List {
        #[command(flatten)]
        reading: Reading,
    },
    /// Take a token back. Endpoints that it enrolled stay.
    Revoke {
        /// The token's id, as `token list` shows it: 16 hexadecimal digits.
        #[arg(value_parser = parse_token_id)]
        id: TokenId,
        #[command(flatten)]
        place: Place,
    },
}

/// What is done with endpoints.
#[derive(Debug, Subcommand)]
pub(super) enum EndpointCommand {
    /// List the endpoints that were enrolled.
    List {
        #[command(flatten)]
        reading: Reading,
    },
    /// Show one endpoint: the machines that spoke as it, its last heartbeat, and what it is set to.
    Show {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        reading: Reading,
    },
    /// Show what its probes told of its path, oldest first.
    Path(series::SeriesArguments),
    /// Show the load of its host, oldest first.
    Host(series::SeriesArguments),
    /// Show the networks that it was on, oldest first.
    Networks(series::SeriesArguments),
    /// Take an identity back: its connection ends within a second, and it is not heard again.
    Revoke {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        place: Place,
    },
    /// Give an endpoint another name.
    Rename {
        #[command(flatten)]
        which: Which,
        /// Its new name.
        #[arg(value_parser = parse_name)]
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Forget that an endpoint was cloned: the machine that connects next keeps the identity.
    ///
    /// Enrol the other machine anew first, or both will be told apart again.
    Clear {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub(super) struct Which {
    /// The endpoint: its id, its name, or a beginning of either that only it has.
    pub(super) endpoint: String,
}

/// `init`.
pub(super) fn init(arguments: InitArguments) -> Result<(), CommandError> {
    let InitArguments { directory, address, names, store } = arguments;
    let layout = match &directory {
        Some(folder) => Layout::in_folder(folder),
        None => Layout::system(),
    };
    let made = init::init(&layout, &Plan { reach: address, names, store }, clock::wall_us())?;
    let mut out: String = made.iter().map(|it| format!("made {}\n", it.display())).collect();
    let config = layout.config.display();
    out += &match directory {
        Some(_) => format!(
            "next, start it and make a token for a room:\n  roomtone-collector serve --config {config}\n  \
             roomtone-collector token create --config {config}\n"
        ),
        None => "the installed service starts now; make a token for a room:\n  roomtone-collector token create\n"
            .to_owned(),
    };
    print(&out)
}

/// `token`.
pub(super) fn token(command: TokenCommand) -> Result<(), CommandError> {
    let now_us = clock::wall_us();
    match command {
        TokenCommand::Create { site, uses, expires, address, json, config } => {
            let config = Config::load(&config)?;
            let expires_us = now_us.saturating_add(micros(expires));
            let (token, facts) = make(&config, address, (site, uses), (now_us, expires_us))?;
            Registry::open(&config.registry)?.add_token(&facts)?;
            let text = token.to_text();
            if json {
                return print_json(&report::NewToken::new(&facts, &text, now_us));
            }
            print(&format!("{text}\n"))
        }
        TokenCommand::List { reading } => {
            let tokens = registry(&reading.place)?.map_or(Ok(Vec::new()), |it| it.tokens())?;
            if reading.json {
                return print_json(&report::Tokens::new(&tokens, now_us));
            }
            print(&report::tokens(&tokens, now_us))
        }
        TokenCommand::Revoke { id, place } => {
            let is_there = match registry(&place)? {
                Some(mut registry) => registry.revoke_token(id, now_us)?,
                None => false,
            };
            if is_there { Ok(()) } else { Err(CommandError::NoToken { id }) }
        }
    }
}

fn make(
    config: &Config,
    address: Option<Reach>,
    (site, uses_max): (String, u32),
    (created_us, expires_us): (u64, u64),
) -> Result<(Token, TokenFacts), CommandError> {
    let missing = |key| CommandError::NotEnrolling { key };
    let reach = address.or_else(|| config.reach.clone());
    let reach = reach.ok_or(missing("identity.address"))?;
    let key = config.authority_key.as_ref().ok_or(missing("identity.authority_key"))?;
    let authority = Authority::load(&config.client_ca, key)?;
    let (mut id, mut secret) = ([0; 8], [0; 32]);
    getrandom::fill(&mut id).map_err(|_| CommandError::NoRandomness)?;
    getrandom::fill(&mut secret).map_err(|_| CommandError::NoRandomness)?;
    let (id, secret_hash) = (TokenId(id), sha256(&secret));
    let (fingerprint, secret) = (authority.fingerprint(), TokenSecret(secret));
    let token = Token::new(fingerprint, id, secret, &reach.host, reach.port)
        .map_err(|_| missing("identity.address"))?;
    let facts = TokenFacts {
        id,
        secret_hash,
        site,
        uses_max,
        uses: 0,
        created_us,
        expires_us,
        revoked_us: None,
    };
    Ok((token, facts))
}

/// `endpoint`.
pub(super) fn endpoint(command: EndpointCommand) -> Result<(), CommandError> {
    let now_us = clock::wall_us();
    match command {
        EndpointCommand::List { reading } => {
            let endpoints =
                registry(&reading.place)?.map_or(Ok(Vec::new()), |it| it.endpoints())?;
            if reading.json {
                return print_json(&report::Endpoints::new(&endpoints, now_us));
            }
            print(&report::endpoints(&endpoints, now_us))
        }
        EndpointCommand::Show { which, reading } => fleet::show(&which, &reading),
        EndpointCommand::Path(asked) => series::path(&asked),
        EndpointCommand::Host(asked) => series::host(&asked),
        EndpointCommand::Networks(asked) => series::networks(&asked),
        EndpointCommand::Revoke { which, place } => {
            let (mut registry, known) = find(&which, &place)?;
            registry.revoke_endpoint(known.endpoint, now_us)?;
            tell(&place, known.endpoint)
        }
        EndpointCommand::Rename { which, name, place } => {
            let (mut registry, known) = find(&which, &place)?;
            registry.rename_endpoint(known.endpoint, &name)?;
            Ok(())
        }
        EndpointCommand::Clear { which, place } => {
            let (mut registry, known) = find(&which, &place)?;
            registry.clear_endpoint(known.endpoint)?;
            Ok(())
        }
    }
}

/// Tells a running `serve` to look an endpoint up again; where none runs, the next one will.
fn tell(place: &Place, endpoint: EndpointId) -> Result<(), CommandError> {
    let request = Request::Recheck { endpoint };
    match client::ask(&place.admin_socket()?, &request, Duration::ZERO) {
        Ok(Answer::Rechecked(_)) | Err(AskError::NotRunning { .. }) => Ok(()),
        Ok(Answer::SelfTest(_) | Answer::Reconfigured(_) | Answer::Status(_)) => {
            Err(CommandError::NotTold { detail: "it gave another answer".to_owned() })
        }
        Ok(Answer::Refused { detail, .. }) => Err(CommandError::NotTold { detail }),
        Err(error) => Err(CommandError::NotTold { detail: error.to_string() }),
    }
}

/// `status`.
pub(super) fn status(reading: &Reading) -> Result<(), CommandError> {
    let socket = reading.place.admin_socket()?;
    match client::ask(&socket, &Request::Status, Duration::ZERO)? {
        Answer::Status(status) => {
            let (entries, _) = fleet::gather_readable(&reading.place)?;
            if reading.json {
                return print_json(&report::StatusView::new(&status, &entries));
            }
            print(&report::status(&status, &entries))
        }
        Answer::Refused { detail, .. } => Err(CommandError::NoStatus { detail }),
        Answer::SelfTest(_) | Answer::Rechecked(_) | Answer::Reconfigured(_) => {
            Err(CommandError::NoStatus { detail: "it gave another answer".to_owned() })
        }
    }
}

fn find(which: &Which, place: &Place) -> Result<(Registry, EndpointStanding), CommandError> {
    let unknown = || naming::NameError::Unknown { given: which.endpoint.clone() };
    let registry = registry(place)?.ok_or_else(unknown)?;
    let endpoints = registry.endpoints()?;
    let known = naming::resolve(&which.endpoint, &endpoints)?.clone();
    Ok((registry, known))
}

fn parse_token_id(text: &str) -> Result<TokenId, String> {
    let wrong = || "use the 16 hexadecimal digits that `token list` shows".to_owned();
    let is_plain = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = u64::from_str_radix(text, 16).ok().filter(|_| is_plain).ok_or_else(wrong)?;
    Ok(TokenId(number.to_be_bytes()))
}

fn parse_life(text: &str) -> Result<Duration, String> {
    let most = Duration::from_secs(LIFE_DAYS_MAX * 86_400);
    humantime::parse_duration(text)
        .ok()
        .filter(|life| !life.is_zero() && *life <= most)
        .ok_or_else(|| format!("use a time like 90m, 24h or 7d, at most {LIFE_DAYS_MAX}d"))
}

fn parse_site(text: &str) -> Result<String, String> {
    plain(text, SITE_CHARACTERS_MAX)
}

fn parse_name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("a name has at least one character".to_owned());
    }
    plain(text, NAME_CHARACTERS_MAX)
}

fn plain(text: &str, most: usize) -> Result<String, String> {
    let text = text.trim();
    if text.chars().count() > most || text.chars().any(char::is_control) {
        return Err(format!("use at most {most} characters and no control characters"));
    }
    Ok(text.to_owned())
}

fn parse_host(text: &str) -> Result<String, String> {
    let bracketed = if text.contains(':') { format!("[{text}]:1") } else { format!("{text}:1") };
    let reach: Reach = bracketed.parse().map_err(|_| "use a host name or an address".to_owned())?;
    Ok(reach.host)
}
