//! The command line: what is asked, and how it ends.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage: the command line or the config file, which no restart will mend.
//! Errors are one line on stderr that says what was wrong and what to do.

mod call;
mod devices;
mod doctor;
mod enroll;
mod rehearse;
mod selftest;
mod settings;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::config::layers::Local;
use crate::config::{self, ConfigError};
use crate::enroll::EnrollError;
use crate::rehearse::RehearseError;
use crate::tap::opener;
use crate::telemetry::TelemetryError;
use crate::{analyze, daemon, telemetry};

/// Measures call legs on this endpoint from their own packets and ships the figures to a collector.
///
/// Reads packet heads only; no audio is decoded, kept or sent.
#[derive(Debug, Parser)]
#[command(
    name = "roomtone-agent",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = EXAMPLES
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  roomtone-agent analyze call.pcapng --local 192.0.2.20
  roomtone-agent call begin --service teams
  roomtone-agent config --json
  roomtone-agent doctor
  roomtone-agent enroll --token rt1-aeaacaqdaq...
  roomtone-agent rehearse --seconds 30 --delay 40ms --jitter 12ms --loss 2%
  roomtone-agent run --config /etc/roomtone/agent.toml";

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the calls in a capture file; needs neither root nor a collector
    Analyze(analyze::Options),
    /// Say that a call begins or ends, or ask whether one is on, as a room application does
    #[command(subcommand)]
    Call(call::Command),
    /// Show what this endpoint is set to, key by key, and who set it: nobody, the collector or the file
    Config(settings::Options),
    /// Show every microphone and loudspeaker: whether it functions, since when, who holds it
    Devices(devices::Options),
    /// Check everything that can be wrong on this machine, and say what to do
    Doctor(doctor::Options),
    /// Turn a token into this endpoint's own certificate, once per machine
    Enroll(enroll::Options),
    /// Hand the tap to an agent that may not open it; roomtone-tap.socket starts this with the connection as stdin
    #[command(hide = true)]
    OpenTap,
    /// Observe this endpoint's calls and ship what is measured, until SIGTERM
    #[command(after_long_help = config::help())]
    Run(RunOptions),
    /// Play a short quiet chirp through the loudspeaker and look for it in the microphone, unless a call is on
    Selftest(selftest::Options),
    /// Place a real call through an impaired path, and show injected against measured
    Rehearse(crate::rehearse::Options),
}

#[derive(Debug, clap::Args)]
struct RunOptions {
    /// The TOML file that `--help` describes key by key
    #[arg(long, value_name = "FILE", default_value = "/etc/roomtone/agent.toml")]
    config: PathBuf,
}

/// Does what the command line asks.
#[must_use]
pub fn main() -> ExitCode {
    end_on_panic();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are results, not errors.
        Err(answer) if !answer.use_stderr() => answer.exit(),
        Err(error) => return fail(&format!("{}; try --help", one_line(&error)), WRONG_USAGE),
    };
    let done = match cli.command {
        Command::Analyze(options) => analyze(&options),
        Command::Call(command) => call::run(command),
        Command::Config(options) => settings::run(&options),
        Command::Devices(options) => devices::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Enroll(options) => enroll::run(&options),
        Command::OpenTap => opener::serve(std::io::stdin()).map_err(Into::into),
        Command::Run(options) => run(&options),
        Command::Rehearse(options) => rehearse::run(options),
        Command::Selftest(options) => selftest::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough (`| head`) is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if is_wrong_usage(&error) => fail(&format!("{error:#}"), WRONG_USAGE),
        Err(error) => fail(&format!("{error:#}"), FAILED),
    }
}

/// What the parser says above its usage text, with what is missing and what was probably meant.
fn one_line(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "no command given".to_owned();
    }
    let text = error.render().to_string();
    let said = text.lines().take_while(|line| !line.starts_with("Usage:")).map(str::trim);
    let mut line = String::new();
    for part in said.filter(|part| !part.is_empty() && !part.starts_with("For more")) {
        line += match (line.is_empty(), part.strip_prefix("tip: ")) {
            (true, _) => part.strip_prefix("error: ").unwrap_or(part).to_owned(),
            (false, Some(tip)) => format!("; {tip}"),
            (false, None) => format!(" {part}"),
        }
        .as_str();
    }
    line
}

/// Nobody gave a token.
#[derive(Debug, thiserror::Error)]
#[error("no token given: give --token TOKEN, --token - for stdin, or the variable ROOMTONE_TOKEN")]
struct NoToken;

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

fn fail(message: &str, code: u8) -> ExitCode {
    say(message);
    ExitCode::from(code)
}

fn say(message: &str) {
    // Where nobody reads stderr, the exit code is all that can be said.
    let _ = writeln!(std::io::stderr(), "roomtone-agent: {}", message.replace('\n', " "));
}

/// Makes a panic of any thread or task the end of the process, with one line and exit code 1.
///
/// A panic is a defect after which the rest would go on without one of its parts, silently. The spool survives the
/// end as it survives a power cut, and the service manager starts anew. The line names the place only: a message may
/// hold an address.
fn end_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            default(panic);
        }
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("without a name");
        let place = panic.location().map_or_else(|| "?".to_owned(), ToString::to_string);
        say(&format!(
            "defect at {place} in thread {thread}: report this line, with version {VERSION}"
        ));
        std::process::exit(i32::from(FAILED));
    }));
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn is_wrong_usage(error: &anyhow::Error) -> bool {
    error.is::<ConfigError>()
        || error.is::<TelemetryError>()
        || error.is::<NoToken>()
        || matches!(error.downcast_ref(), Some(EnrollError::Token(_)))
        || matches!(error.downcast_ref(), Some(RehearseError::Options(_)))
}

fn analyze(options: &analyze::Options) -> anyhow::Result<()> {
    let analysis = analyze::run(options).with_context(|| options.file.display().to_string())?;
    print(&analysis, options.json)
}

/// Prints a value as text or as one JSON document.
fn print(value: &(impl serde::Serialize + std::fmt::Display), json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, value).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        write!(out, "{value}")?;
    }
    out.flush()?;
    Ok(())
}

fn run(options: &RunOptions) -> anyhow::Result<()> {
    let local = Local::load(&options.config)?;
    let log = telemetry::init(local.config().log.level)?;
    daemon::run(&local, &log).context("cannot run")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_sound_and_its_examples_are_accepted() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        let examples = EXAMPLES.lines().skip(1);
        for example in examples {
            let parsed = Cli::try_parse_from(example.split_whitespace());
            assert!(parsed.is_ok(), "{example}: {parsed:?}");
        }
        assert_eq!(EXAMPLES.lines().count(), 8);
    }

    #[test]
    fn wrong_command_lines_are_told_in_one_line_with_what_is_missing_or_meant() {
        let told = |line: &str| {
            one_line(&Cli::try_parse_from(line.split_whitespace()).expect_err("a wrong line"))
        };
        assert_eq!(told("roomtone-agent"), "no command given");
        assert_eq!(
            told("roomtone-agent analyze"),
            "the following required arguments were not provided: <FILE>"
        );
        assert_eq!(
            told("roomtone-agent analyze --locl ::1 file"),
            "unexpected argument '--locl' found; a similar argument exists: '--local'"
        );
        assert_eq!(
            told("roomtone-agent reherse"),
            "unrecognized subcommand 'reherse'; a similar subcommand exists: 'rehearse'"
        );
    }

    #[test]
    fn help_keeps_to_100_columns() {
        for line in config::help().lines().chain(EXAMPLES.lines()) {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }

    /// Runs this test in a process of its own, since the end of a process is what it is about.
    #[test]
    fn panic_of_any_thread_ends_the_process_with_one_line_and_code_1() {
        const IN_CHILD: &str = "ROOMTONE_TEST_PANIC";
        if std::env::var_os(IN_CHILD).is_some() {
            end_on_panic();
            let tap = std::thread::Builder::new().name("tap".to_owned());
            let joined = tap.spawn(|| panic!("packet of 192.0.2.7")).unwrap().join();
            unreachable!("the process goes on: {joined:?}");
        }
        let own = std::env::current_exe().unwrap();
        let name = "cli::tests::panic_of_any_thread_ends_the_process_with_one_line_and_code_1";
        let child = std::process::Command::new(own)
            .args(["--exact", name, "--nocapture"])
            .env(IN_CHILD, "1")
            .env_remove("RUST_BACKTRACE")
            .output()
            .unwrap();
        let said = String::from_utf8(child.stderr).unwrap();
        // The test runner's own code for a failed test is 101.
        assert_eq!(child.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("cli.rs:") && said.contains("thread tap"), "{said}");
        assert!(!said.contains("192.0.2.7"), "{said}");
    }
}
