//! The command line: what is asked, and how it ends.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage: the command line or the config file, which no restart will mend.
//! Errors are one line on stderr that says what was wrong and what to do.

mod rehearse;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::config::{self, Config, ConfigError};
use crate::rehearse::RehearseError;
use crate::telemetry::TelemetryError;
use crate::{analyze, daemon, telemetry};

/// Measures call legs on this endpoint from their own packets and ships the figures to a collector.
///
/// Reads packet heads only; no audio is decoded, kept or sent.
#[derive(Debug, Parser)]
#[command(name = "roomtone-agent", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the calls in a capture file; needs neither root nor a collector
    Analyze(analyze::Options),
    /// Observe this endpoint's calls and ship what is measured, until SIGTERM
    #[command(after_long_help = config::help())]
    Run(RunOptions),
    /// Place a real call through an impaired path, and show injected against measured
    Rehearse(crate::rehearse::Options),
}

#[derive(Debug, clap::Args)]
struct RunOptions {
    /// The TOML file that `--help` describes key by key
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Does what the command line asks.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are results, not errors.
        Err(answer) if !answer.use_stderr() => answer.exit(),
        Err(error) => {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            let line = line.strip_prefix("error: ").unwrap_or(line).trim_end_matches(':');
            return fail(&format!("{line}; try --help"), WRONG_USAGE);
        }
    };
    let done = match cli.command {
        Command::Analyze(options) => analyze(&options),
        Command::Run(options) => run(&options),
        Command::Rehearse(options) => rehearse::run(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough (`| head`) is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if is_wrong_usage(&error) => fail(&format!("{error:#}"), WRONG_USAGE),
        Err(error) => fail(&format!("{error:#}"), FAILED),
    }
}

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;

fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("roomtone-agent: {}", message.replace('\n', " "));
    ExitCode::from(code)
}

fn is_wrong_usage(error: &anyhow::Error) -> bool {
    error.is::<ConfigError>()
        || error.is::<TelemetryError>()
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
    let config = Config::load(&options.config)?;
    telemetry::init(config.log.level)?;
    daemon::run(&config).context("cannot run")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
