//! Starts the collector: parses the command line and hands over.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use roomtone_collector::cli::Cli;
use roomtone_collector::text;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are results, not errors.
        Err(answer) if !answer.use_stderr() => answer.exit(),
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return fail("no command given; try --help", 2);
        }
        Err(error) => {
            let text = error.render().to_string();
            let said: Vec<&str> =
                text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
            let said = said.join(" ");
            let line = said.strip_prefix("error: ").unwrap_or(&said);
            return fail(&format!("{line}; try --help"), 2);
        }
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), error.exit_code()),
    }
}

/// One line on stderr, whatever the sources of an error bring along.
fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("roomtone-collector: {}", text::escape(&message.replace('\n', " ")));
    ExitCode::from(code)
}
