//! Starts a play, or measures.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use roomtone_hw_tests::{figures, play};

/// Drives roomtone's agent and collector on this machine.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start collector and agent, rehearse a call, show what was measured, then show live legs until Ctrl-C
    Play {
        /// Where everything is kept: certificates, configs, spool, store, logs
        #[arg(long, value_name = "DIR", default_value = ".state")]
        state: PathBuf,
        /// How long the rehearsal talks, in seconds
        #[arg(long, default_value_t = 15)]
        seconds: u32,
        /// End after the call was shown
        #[arg(long)]
        once: bool,
    },
    /// Measure the running agent beside a call of two legs; add the figures to those that lie in DIR, and sum them up
    Figures {
        /// The folder of the report
        #[arg(long, value_name = "DIR", default_value = "target/bench")]
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Play { state, seconds, once } => play::run(&state, seconds, once),
        Command::Figures { folder } => figures::run(&folder),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roomtone-hw-tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}
