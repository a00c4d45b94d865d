//! Starts the agent.

use std::process::ExitCode;

fn main() -> ExitCode {
    roomtone_agent::cli::main()
}
