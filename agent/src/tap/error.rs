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
    /// The opener cannot give what was asked for. Correct the configuration.
    #[error("the tap's opener says: {0}")]
    Unfit(String),
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

impl TapError {
    /// Whether the options are to blame: others may do, and opening again with the same ones is of no use.
    #[must_use]
    pub fn is_of_options(&self) -> bool {
        match self {
            Self::OutOfRange { .. } | Self::Unfit(_) => true,
            Self::Capture { step, .. } => STEPS_OF_OPTIONS.contains(step),
            Self::Open(_)
            | Self::NotACapture(_)
            | Self::Corrupt { .. }
            | Self::Read(_)
            | Self::Permission { .. }
            | Self::Opener(_)
            | Self::UnknownInterface { .. }
            | Self::Vanished(_)
            | Self::Wait(_) => false,
        }
    }
}

/// The filter is made from the options.
pub(super) const ATTACH_FILTER: &str = "attach the filter";
/// The ring has the size that the options say, which the kernel may not have in one piece.
pub(super) const MAKE_RING: &str = "make the ring";
/// See [`MAKE_RING`].
pub(super) const MAP_RING: &str = "map the ring";

const STEPS_OF_OPTIONS: [&str; 3] = [ATTACH_FILTER, MAKE_RING, MAP_RING];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_would_mend_is_blamed_on_the_options() {
        let reason = || io::Error::from_raw_os_error(12);
        let capture =
            |step| TapError::Capture { interface: "any".to_owned(), step, reason: reason() };
        for step in STEPS_OF_OPTIONS {
            assert!(capture(step).is_of_options(), "{step}");
        }
        assert!(TapError::Unfit("too much".to_owned()).is_of_options());
        let name = || "dock0".to_owned();
        for error in [
            capture("bind to it"),
            capture("make a packet socket"),
            TapError::Permission { opener: "/run/tap.sock".into(), reason: reason() },
            TapError::Opener(name()),
            TapError::UnknownInterface { name: name(), existing: name() },
            TapError::Vanished(name()),
            TapError::Wait(reason()),
        ] {
            assert!(!error.is_of_options(), "{error}");
        }
    }
}
