//! Serves the virtual headset, or tells a serving one what to do.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use roomtone_hw_tests::headset::command::Command;
use roomtone_hw_tests::headset::device::Names;
use roomtone_hw_tests::headset::serve::{self, Options};

/// A USB headset made of software, on the kernel's virtual bus; needs root and the module vhci-hcd.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Plug it and keep it working until the process is ended
    Serve {
        /// Where commands are taken
        #[arg(long, value_name = "PATH", default_value = "/run/roomtone-headset.sock")]
        socket: PathBuf,
        /// The port of the virtual bus
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..8))]
        port: u8,
        /// What it calls itself
        #[arg(long, default_value = "SimHeadset")]
        product: String,
        /// Its serial number
        #[arg(long, default_value = "SN0001")]
        serial: String,
        /// Wait for the command `plug`
        #[arg(long)]
        unplugged: bool,
    },
    /// Tell it a command and print its answer
    #[command(after_help = format!("Commands: {}", Command::HELP))]
    Tell {
        /// Where it takes commands
        #[arg(long, value_name = "PATH", default_value = "/run/roomtone-headset.sock")]
        socket: PathBuf,
        /// The command's words
        #[arg(required = true)]
        words: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Action::Serve { socket, port, product, serial, unplugged } => {
            let names = Names { product, serial };
            serve::serve(&Options { port, socket, names, unplugged })
        }
        Action::Tell { socket, words } => {
            serve::tell(&socket, &words.join(" ")).map(|said| println!("{said}"))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("roomtone-headset: {error:#}");
            ExitCode::FAILURE
        }
    }
}
