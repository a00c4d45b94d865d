//! What a rehearsal is asked to do, and the one line that answers a request that makes no sense.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use super::impair::{Probability, Profile};

/// The longest delay: a second beyond what makes any call unusable, times several.
const DELAY_MAX: Duration = Duration::from_secs(5);
/// The jitter where none was asked for; less where the delay is less.
const JITTER_DEFAULT: Duration = Duration::from_millis(12);
/// Beyond a half, a burst of a given mean length cannot be kept.
const LOSS_MAX: Probability = ppm(500_000);
/// Beyond a half, the exception is the rule and the figures explain nothing.
const ODDITY_MAX: Probability = ppm(500_000);
const BURST_MAX: u32 = 100;
const SECONDS_MAX: u32 = 3_600;

const fn ppm(ppm: u32) -> Probability {
    Probability::from_ppm(ppm).expect("the constants above are below a million")
}

/// Place a test call through an impaired path, to check what the agent measures.
///
/// Without an address both ends run here, on 127.0.0.1, joined by a relay on 127.0.77.2 that impairs
/// both directions. With one, this end alone runs here and impairs what it sends.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Options {
    /// How long to talk, 1 to 3600 seconds.
    #[arg(long, default_value_t = 30, value_name = "N")]
    pub seconds: u32,

    /// How long the path delays a packet, in each direction, up to 5s.
    #[arg(long, default_value = "40ms", value_name = "TIME", value_parser = duration)]
    pub delay: Duration,

    /// By how much a delay is drawn shorter or longer (uniform); not more than the delay [default: 12ms].
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub jitter: Option<Duration>,

    /// Share of packets lost, up to 50%.
    #[arg(long, default_value = "2%", value_name = "PERCENT")]
    pub loss: Probability,

    /// Lose packets in bursts with this mean length, 1 to 100, keeping the overall loss.
    #[arg(long, value_name = "N")]
    pub burst: Option<u32>,

    /// Share of packets that arrive twice, up to 50%.
    #[arg(long, default_value = "0%", value_name = "PERCENT")]
    pub duplicate: Probability,

    /// Share of packets that later ones overtake, up to 50%.
    #[arg(long, default_value = "0%", value_name = "PERCENT")]
    pub reorder: Probability,

    /// Repeat the decisions of an earlier run, whose seed it printed.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Wait at this address for one call from `--call` on another machine.
    #[arg(long, value_name = "ADDR:PORT", conflicts_with = "call")]
    pub answer: Option<SocketAddr>,

    /// Call the rehearsal that waits at this address.
    #[arg(long, value_name = "ADDR:PORT")]
    pub call: Option<SocketAddr>,

    /// Print the figures as JSON.
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// Checks what no single option can tell.
    ///
    /// # Errors
    /// The first one that is out of its range or at odds with another.
    pub fn check(&self) -> Result<Profile, OptionsError> {
        if !(1..=SECONDS_MAX).contains(&self.seconds) {
            return Err(OptionsError::Seconds { found: self.seconds });
        }
        if self.delay > DELAY_MAX {
            return Err(OptionsError::Delay { found: self.delay });
        }
        let jitter = self.jitter.unwrap_or(JITTER_DEFAULT.min(self.delay));
        if jitter > self.delay {
            return Err(OptionsError::Jitter { jitter, delay: self.delay });
        }
        for (option, found, max) in [
            ("loss", self.loss, LOSS_MAX),
            ("duplicate", self.duplicate, ODDITY_MAX),
            ("reorder", self.reorder, ODDITY_MAX),
        ] {
            if found > max {
                return Err(OptionsError::Share { option, found, max });
            }
        }
        if let Some(burst) = self.burst {
            if !(1..=BURST_MAX).contains(&burst) {
                return Err(OptionsError::Burst { found: burst });
            }
            if self.loss == Probability::NEVER {
                return Err(OptionsError::BurstOfNothing);
            }
        }
        if self.answer.is_some() && self.call.is_some() {
            return Err(OptionsError::BothEnds);
        }
        if let Some(call) = self.call.filter(|call| call.port() == 0 || call.ip().is_unspecified())
        {
            return Err(OptionsError::Unreachable { found: call });
        }
        Ok(Profile {
            delay: self.delay,
            jitter,
            loss: self.loss,
            burst: self.burst,
            duplicate: self.duplicate,
            reorder: self.reorder,
        })
    }
}

/// A request that makes no sense; the operator corrects the command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// `--seconds` out of range.
    #[error("--seconds {found} is out of range; give 1 to {SECONDS_MAX}")]
    Seconds {
        /// What was given.
        found: u32,
    },
    /// `--delay` out of range.
    #[error("--delay {found:?} is too long; give at most {DELAY_MAX:?}")]
    Delay {
        /// What was given.
        found: Duration,
    },
    /// A packet would have to leave before it came.
    #[error("--jitter {jitter:?} exceeds --delay {delay:?}; raise the delay or lower the jitter")]
    Jitter {
        /// What was given.
        jitter: Duration,
        /// The delay that it is drawn around.
        delay: Duration,
    },
    /// A share out of range.
    #[error("--{option} {found} is out of range; give 0% to {max}")]
    Share {
        /// The option's name.
        option: &'static str,
        /// What was given.
        found: Probability,
        /// The most that is allowed.
        max: Probability,
    },
    /// `--burst` out of range.
    #[error("--burst {found} is out of range; give 1 to {BURST_MAX}")]
    Burst {
        /// What was given.
        found: u32,
    },
    /// Bursts of no loss at all.
    #[error("--burst needs packets to lose; give --loss above 0%")]
    BurstOfNothing,
    /// Both ends asked of one process.
    #[error("--answer and --call exclude each other; run each end in a process of its own")]
    BothEnds,
    /// An address that nobody can be called at.
    #[error("{found} cannot be called; give the address and port that --answer waits at")]
    Unreachable {
        /// What was given.
        found: SocketAddr,
    },
}

/// A share that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a share of 0% to 100% with at most four decimals; write 2% or 0.5%")]
pub struct ParseShareError;

impl FromStr for Probability {
    type Err = ParseShareError;

    /// Reads a percentage, with or without its sign: `2%`, `2`, `0.5%`.
    fn from_str(text: &str) -> Result<Self, ParseShareError> {
        let number = text.strip_suffix('%').unwrap_or(text);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |digits: &str, most: usize| {
            (1..=most).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_number(whole, 3) || !is_number(fraction, 4) {
            return Err(ParseShareError);
        }
        // 1 % is 10,000 ppm: the fraction, filled up to four digits, is ppm already.
        let ppm = format!("{whole}{fraction:0<4}").parse().map_err(|_| ParseShareError)?;
        Self::from_ppm(ppm).ok_or(ParseShareError)
    }
}

impl std::fmt::Display for Probability {
    /// Writes a percentage without needless zeros: `2%`, `0.5%`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, fraction) = (self.ppm() / 10_000, self.ppm() % 10_000);
        if fraction == 0 {
            return write!(f, "{whole}%");
        }
        let digits = format!("{fraction:04}");
        write!(f, "{whole}.{}%", digits.trim_end_matches('0'))
    }
}

/// Reads `40ms`, `1s 500ms`; the parser of clap wants the error's text.
fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &str) -> Options {
        let words = std::iter::once("rehearse").chain(line.split_whitespace());
        Command::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).options
    }

    #[test]
    fn shares_are_read_and_written_as_percentages() {
        for (text, ppm, written) in [
            ("2%", 20_000, "2%"),
            ("2", 20_000, "2%"),
            ("0.5%", 5_000, "0.5%"),
            ("0.0001", 1, "0.0001%"),
            ("12.34%", 123_400, "12.34%"),
            ("100%", 1_000_000, "100%"),
            ("0", 0, "0%"),
        ] {
            let share: Probability = text.parse().unwrap();
            assert_eq!((share.ppm(), share.to_string().as_str()), (ppm, written), "{text}");
        }
        for text in
            ["", "%", "-1", "+1", "100.0001%", "101", "2%%", "1e1", ".5", "5.", "0.00001", "٣"]
        {
            assert_eq!(text.parse::<Probability>(), Err(ParseShareError), "{text}");
        }
    }

    #[test]
    fn defaults_are_a_fair_path() {
        let options = options("");
        assert_eq!(options.seconds, 30);
        assert_eq!(
            options.check(),
            Ok(Profile {
                delay: Duration::from_millis(40),
                jitter: Duration::from_millis(12),
                loss: ppm(20_000),
                burst: None,
                duplicate: Probability::NEVER,
                reorder: Probability::NEVER,
            })
        );
    }

    #[test]
    fn default_jitter_gives_way_to_a_short_delay() {
        let profile = options("--delay 5ms").check().unwrap();
        assert_eq!(profile.jitter, Duration::from_millis(5));
    }

    #[test]
    fn ends_of_each_range_are_allowed() {
        for line in [
            "--seconds 1 --delay 0s --loss 0",
            "--seconds 3600 --delay 5s --jitter 5s --loss 50% --burst 100 --duplicate 50 --reorder 50",
        ] {
            assert!(options(line).check().is_ok(), "{line}");
        }
    }

    #[test]
    fn each_wrong_request_has_its_one_line() {
        for (line, message) in [
            ("--seconds 0", "--seconds 0 is out of range; give 1 to 3600"),
            ("--seconds 3601", "--seconds 3601 is out of range; give 1 to 3600"),
            ("--delay 5001ms", "--delay 5.001s is too long; give at most 5s"),
            (
                "--delay 5ms --jitter 6ms",
                "--jitter 6ms exceeds --delay 5ms; raise the delay or lower the jitter",
            ),
            ("--loss 50.1%", "--loss 50.1% is out of range; give 0% to 50%"),
            ("--reorder 51", "--reorder 51% is out of range; give 0% to 50%"),
            ("--duplicate 99%", "--duplicate 99% is out of range; give 0% to 50%"),
            ("--burst 0", "--burst 0 is out of range; give 1 to 100"),
            ("--loss 0 --burst 3", "--burst needs packets to lose; give --loss above 0%"),
            (
                "--call 0.0.0.0:5000",
                "0.0.0.0:5000 cannot be called; give the address and port that --answer waits at",
            ),
        ] {
            let error = options(line).check().unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn both_ends_at_once_are_refused() {
        let words = ["rehearse", "--answer", "127.0.0.1:1", "--call", "127.0.0.1:2"];
        assert!(Command::try_parse_from(words).is_err());
        let both = Options { answer: "127.0.0.1:1".parse().ok(), ..options("--call 127.0.0.1:2") };
        assert_eq!(both.check(), Err(OptionsError::BothEnds));
    }
}
