//! Starts a play, measures, or runs trials.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use roomtone_hw_tests::bench::{self, Choice};
use roomtone_hw_tests::stage::stubborn;
use roomtone_hw_tests::trials::Group;
use roomtone_hw_tests::{figures, play, stage};

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
    /// Run trials of sound devices on a bench
    Trials {
        /// The bench's file
        #[arg(long, value_name = "FILE", default_value = "hw-tests/benches/virtual.toml")]
        bench: PathBuf,
        /// The short ones or all
        #[arg(long, value_enum, default_value = "all")]
        group: Group,
        /// Where cache, logs and report.json are kept
        #[arg(long, value_name = "DIR", default_value = "target/hw-tests")]
        folder: PathBuf,
        /// Where `make deb` put our packages; in `next` there, the revision after them. For the group fleet
        #[arg(long, value_name = "DIR", default_value = "target/deb")]
        packages: PathBuf,
        /// Run only trials whose name contains one of these
        #[arg(value_name = "PART")]
        filters: Vec<String>,
    },
    /// Hold a microphone as an application that does not start again after a sleep, until a line on stdin
    #[command(hide = true)]
    Hold(stubborn::Options),
    /// Run trials inside a guest; the host laid them into DIR
    #[command(hide = true)]
    Stage {
        /// The folder that host and guest share
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Play { state, seconds, once } => play::run(&state, seconds, once),
        Command::Figures { folder } => figures::run(&folder),
        Command::Trials { bench, group, folder, packages, filters } => {
            return answer(bench::run(&Choice { bench, group, filters, folder, packages }));
        }
        Command::Hold(options) => stubborn::hold(&options),
        Command::Stage { folder } => return answer(stage::run_in_guest(&folder)),
    };
    answer(done.map(|()| true))
}

/// The exit code; a trial that failed has been printed already.
fn answer(done: anyhow::Result<bool>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("roomtone-hw-tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}
