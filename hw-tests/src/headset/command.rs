//! What a script tells the headset, one command a line.

use thiserror::Error;

use super::signal::Signal;

/// A command. [`Command::HELP`] lists the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// A direction's transfers are never answered.
    Stall(Side),
    /// All faults end, both directions run.
    Resume,
    /// What the microphone hears from now on.
    Hear(Signal),
    /// The microphone's packets are empty.
    NoData,
    /// A direction's packets fail with this Linux error number.
    PacketError(Side, u8),
    /// The button on the headset: mutes the microphone, or ends that, and tells the host.
    Button,
    /// Control requests of the audio class are refused.
    ControlStall,
    /// Control requests of the audio class are never answered.
    ControlHang,
    /// Leave the bus.
    Unplug,
    /// Come back to the bus.
    Plug,
    /// Answer with counters; they begin anew.
    Stat,
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The microphone.
    Capture,
    /// The loudspeaker.
    Render,
}

/// A line that is no command.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommandError {
    /// No such words.
    #[error("unknown command {0:?}; known are: {help}", help = Command::HELP)]
    Unknown(String),
    /// A number that cannot be.
    #[error("{0:?} is not a number from 1 to {1}")]
    Number(String, u32),
}

/// Longest part of a gate: an hour.
const GATE_MS_MAX: u32 = 3_600_000;
/// Longest way from the loudspeaker to the microphone.
const ECHO_MS_MAX: u32 = 500;
/// Linux error numbers of transfers end below this.
const ERROR_MAX: u32 = 133;

impl Command {
    /// The words.
    pub const HELP: &str = "stall in|out, resume, tone, zero, constant, noise, gate OPEN_MS SHUT_MS, echo DELAY_MS, nodata, \
        error in|out ERRNO, button, control stall|hang, unplug, plug, stat";

    /// Reads a line.
    ///
    /// # Errors
    /// Where it is no command; the error says what would be.
    pub fn parse(line: &str) -> Result<Self, CommandError> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let unknown = || CommandError::Unknown(line.chars().take(80).collect());
        Ok(match words.as_slice() {
            ["stall", side] => Self::Stall(Side::parse(side).ok_or_else(unknown)?),
            ["resume"] => Self::Resume,
            ["tone"] => Self::Hear(Signal::Tone),
            ["zero"] => Self::Hear(Signal::Zero),
            ["constant"] => Self::Hear(Signal::Constant),
            ["noise"] => Self::Hear(Signal::Noise),
            ["gate", open, shut] => Self::Hear(Signal::Gate {
                open_ms: number(open, GATE_MS_MAX)?,
                shut_ms: number(shut, GATE_MS_MAX)?,
            }),
            ["echo", delay] => Self::Hear(Signal::Echo { delay_ms: number(delay, ECHO_MS_MAX)? }),
            ["nodata"] => Self::NoData,
            ["error", side, error] => {
                let error = u8::try_from(number(error, ERROR_MAX)?).map_err(|_| unknown())?;
                Self::PacketError(Side::parse(side).ok_or_else(unknown)?, error)
            }
            ["button"] => Self::Button,
            ["control", "stall"] => Self::ControlStall,
            ["control", "hang"] => Self::ControlHang,
            ["unplug"] => Self::Unplug,
            ["plug"] => Self::Plug,
            ["stat"] => Self::Stat,
            _ => return Err(unknown()),
        })
    }
}

impl Side {
    /// USB's words, from the host's view.
    fn parse(word: &str) -> Option<Self> {
        match word {
            "in" => Some(Self::Capture),
            "out" => Some(Self::Render),
            _ => None,
        }
    }
}

fn number(word: &str, max: u32) -> Result<u32, CommandError> {
    let wrong = || CommandError::Number(word.chars().take(20).collect(), max);
    word.parse().ok().filter(|value| (1..=max).contains(value)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_of_the_help_is_read() {
        let lines = [
            ("stall in", Command::Stall(Side::Capture)),
            ("stall out", Command::Stall(Side::Render)),
            (" resume\n", Command::Resume),
            ("gate 500 20000", Command::Hear(Signal::Gate { open_ms: 500, shut_ms: 20_000 })),
            ("error out 71", Command::PacketError(Side::Render, 71)),
            ("control hang", Command::ControlHang),
        ];
        for (line, command) in lines {
            assert_eq!(Command::parse(line), Ok(command));
        }
        for words in Command::HELP.split(", ") {
            let line = words
                .replace("in|out", "in")
                .replace("stall|hang", "stall")
                .replace("_MS", "")
                .replace("OPEN", "1")
                .replace("SHUT", "1")
                .replace("DELAY", "1")
                .replace("ERRNO", "71");
            assert!(Command::parse(&line).is_ok(), "{line}");
        }
    }

    #[test]
    fn wrong_lines_are_told_what_would_be_right() {
        for line in ["", "stall", "stall up", "tone 3", "error in"] {
            let said = Command::parse(line).unwrap_err().to_string();
            assert!(said.contains("stall in|out"), "{said}");
        }
        let said = Command::parse("gate 0 5").unwrap_err().to_string();
        assert_eq!(said, "\"0\" is not a number from 1 to 3600000");
        assert!(Command::parse("error in 4294967296").is_err());
    }
}
