//! `roomtone-agent call`: what a room application says on the context socket, for scripts and for people.
//!
//! Each command is a connection of its own, so a call that begins here goes on without it, for the time that
//! [`register`](crate::context::register) grants to a client that has gone.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::json;

use crate::config::REFERENCE;
use crate::context::line::{ContextId, Service};
use crate::context::reply::{REPLY_BYTES_MAX, Reply, Status};

/// How long the agent may take: it answers within three seconds where its tap hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What `call` takes.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// A call begins: it is on, however silent, until it ends or the next one begins
    Begin {
        /// The room application's own name of the call, 1 to 128 visible characters; drawn and printed if left out
        #[arg(long)]
        id: Option<ContextId>,
        /// What carries it, such as teams; rehearsal for a call that only tries out an installation
        #[arg(long)]
        service: Option<Service>,
        #[command(flatten)]
        at: At,
    },
    /// A call ends: it closes when its packets stop
    End {
        /// Which; whichever was begun if left out
        #[arg(long)]
        id: Option<ContextId>,
        #[command(flatten)]
        at: At,
    },
    /// Show whether a call is on, since when, and who says so
    Status {
        /// Print the agent's answer as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: At,
    },
}

/// Where the agent listens.
#[derive(Debug, clap::Args)]
pub(super) struct At {
    /// The socket of the agent, as in its config under context.socket
    #[arg(long, value_name = "PATH", default_value = default_socket())]
    socket: PathBuf,
}

/// The config's own default.
fn default_socket() -> &'static str {
    let option = REFERENCE.iter().find(|option| option.key == "context.socket");
    option.map(|option| option.default).unwrap_or_default().trim_matches('"')
}

/// Asks, and prints what comes of it.
pub(super) fn run(command: Command) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match command {
        Command::Begin { id, service, at } => {
            let id = match id {
                Some(id) => id.to_string(),
                None => {
                    format!("{:016x}", getrandom::u64().context("cannot draw an id; give --id")?)
                }
            };
            let service = service.as_ref().map(Service::as_str);
            let status =
                ask(&at.socket, &json!({ "call": "begin", "id": id, "service": service }))?;
            writeln!(out, "begun: {id}")?;
            write!(out, "{}", Shown(&status))?;
        }
        Command::End { id, at } => {
            let id = id.as_ref().map(ContextId::as_str);
            let status = ask(&at.socket, &json!({ "call": "end", "id": id }))?;
            write!(out, "ended\n{}", Shown(&status))?;
        }
        Command::Status { json, at } => {
            let status = ask(&at.socket, &json!({ "status": true }))?;
            if json {
                serde_json::to_writer_pretty(&mut out, &status).map_err(io::Error::from)?;
                writeln!(out)?;
            } else {
                write!(out, "{}", Shown(&status))?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

/// Whether the agent that listens there knows of a call; no where none listens.
pub(super) fn is_on(at: &At) -> bool {
    ask(&at.socket, &json!({ "status": true })).is_ok_and(|status| status.in_call)
}

/// Says one line and reads the answer.
fn ask(socket: &Path, line: &serde_json::Value) -> anyhow::Result<Status> {
    let shown = socket.display();
    let mut stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    let mut answer = Vec::new();
    let mut exchange = || -> io::Result<()> {
        stream.write_all(format!("{line}\n").as_bytes())?;
        let mut piece = [0; 512];
        while !answer.contains(&b'\n') && answer.len() < REPLY_BYTES_MAX {
            match stream.read(&mut piece)? {
                0 => break,
                count => answer.extend_from_slice(&piece[..count]),
            }
        }
        Ok(())
    };
    exchange().with_context(|| format!("the agent at {shown} does not answer"))?;
    let line = answer.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match serde_json::from_slice(line) {
        Ok(Reply::Done(status)) => Ok(status),
        Ok(Reply::Refused { error, .. }) => bail!("{}", printable(&error)),
        Err(_) => bail!("what listens at {shown} is no roomtone-agent of this version"),
    }
}

/// Why no agent was reached, and what to do.
fn unreachable(socket: &Path, error: &io::Error) -> anyhow::Error {
    let (shown, kind) = (socket.display(), error.kind());
    if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&kind) {
        anyhow!("no agent listens at {shown}: start it, or name its context.socket by --socket")
    } else if kind == io::ErrorKind::PermissionDenied {
        anyhow!("no permission for {shown}: add this user to the agent's group, or use sudo")
    } else {
        anyhow!("cannot reach an agent at {shown}: {error}")
    }
}

/// What another process chose, safe for a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// How things stand, for people.
struct Shown<'a>(&'a Status);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Status { source, call, since, rehearsal, legs, context, .. } = self.0;
        match (call, since) {
            (Some(call), Some(since)) => {
                let legs = legs.unwrap_or(0);
                let legs = format!("{legs} leg{}", if legs == 1 { "" } else { "s" });
                let kind = if *rehearsal == Some(true) { "rehearsal" } else { "call" };
                let source = source.as_deref().unwrap_or("unknown");
                let line = format!("{kind} {call} on since {since}, by {source}, {legs} so far");
                writeln!(f, "{}", printable(&line))?;
            }
            (Some(_), None) | (None, Some(_)) | (None, None) => writeln!(f, "no call is on")?,
        }
        if let Some(context) = context {
            let service = context.service.as_deref().map(|name| format!(" ({name})"));
            let line = format!(
                "context {}{} open since {}",
                context.id,
                service.unwrap_or_default(),
                context.since
            );
            writeln!(f, "{}", printable(&line))?;
        }
        Ok(())
    }
}
