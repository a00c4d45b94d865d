//! What can end a tap, or keep it from opening.

use std::io;
use std::path::PathBuf;

/// Why a tap cannot be opened or cannot go on.
///
/// Neither the file's name nor the daemon's plans are in the texts: the caller knows both.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The file cannot be opened. Name it and give up.
    #[error("cannot be opened")]
    Open(#[source] io::Error),
    /// What was opened is no capture. Name it and give up.
    #[error("not a capture file: {0}")]
    NotACapture(String),
    /// The file breaks its own format in its middle. What was read before `offset` is sound.
    #[error("corrupt capture file at byte {offset}: {detail}")]
    Corrupt {
        /// Where the bad record begins, in bytes from the start of the file.
        offset: u64,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// The file cannot be read on. What was read before is sound.
    #[error("cannot be read on")]
    Read(#[source] io::Error),
    /// This process may not capture, and nobody does it for it. Trying again is no use before somebody changes that.
    #[error(
        "no permission to capture: CAP_NET_RAW is missing, and nobody opens the tap at {} ({reason}): start \
         roomtone-tap.socket as root, or grant the capability with `setcap cap_net_raw+ep <binary>`",
        opener.display()
    )]
    Permission {
        /// Where an opener was looked for.
        opener: PathBuf,
        /// Why there was none.
        reason: io::Error,
    },
    /// The opener answers, and not with a tap. Opening again may help.
    #[error("the tap's opener says: {0}")]
    Opener(String),
    /// No interface has this name now. It may appear later, as a dock's does.
    #[error("no interface `{name}`: this machine has {existing}")]
    UnknownInterface {
        /// The name that was asked for.
        name: String,
        /// The names that exist, separated by commas.
        existing: String,
    },
    /// The interface was there and is gone. Open again when it is back.
    #[error("interface `{0}` vanished")]
    Vanished(String),
    /// An option is outside of its range. Correct the configuration.
    #[error("{name} is {found}, allowed are {least} to {most}")]
    OutOfRange {
        /// Which option.
        name: &'static str,
        /// What was asked for.
        found: u64,
        /// The least that is allowed.
        least: u64,
        /// The most that is allowed.
        most: u64,
    },
    /// The kernel refused. Opening again may help.
    #[error("cannot capture on interface `{interface}`: cannot {step}: {reason}")]
    Capture {
        /// The interface that was asked for.
        interface: String,
        /// What was tried.
        step: &'static str,
        /// Why it did not work.
        reason: io::Error,
    },
    /// Waiting for packets went wrong, which only a lack of kernel memory or a closed descriptor explains.
    #[error("cannot wait for packets")]
    Wait(#[source] io::Error),
}
