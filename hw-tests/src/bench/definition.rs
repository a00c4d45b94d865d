//! Bench files: read as they are, then checked.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::guest::machine::Size;
use crate::trials::{Need, Trial};

/// A file as somebody wrote it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBench {
    kind: RawKind,
    card: String,
    rate_hz: u32,
    capture_channels: u8,
    render_channels: u8,
    processors: Option<u8>,
    memory_mib: Option<u32>,
    attended: Option<bool>,
    render_level_max: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawKind {
    Virtual,
    Physical,
}

/// A bench that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub struct Bench {
    /// The file's name without its ending.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// The id of the sound card under test.
    pub card: String,
    /// The rate at which trials open it, in Hz.
    pub rate_hz: u32,
    /// Channels of its microphone.
    pub capture_channels: u8,
    /// Channels of its loudspeaker.
    pub render_channels: u8,
    /// What it is made of.
    pub kind: Kind,
}

/// What a bench is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A guest with a headset made of software.
    Virtual(Size),
    /// Devices of this machine.
    Physical {
        /// Whether somebody does by hand what trials ask for.
        attended: bool,
        /// The loudest that trials may play, of full scale.
        render_level_max: f64,
    },
}

/// Loudest level that a bench file may allow: -20 dB, what somebody who wears the headset can bear.
const LEVEL_MAX: f64 = 0.1;

impl Bench {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Where it cannot be read or does not make sense; the error names the key.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("cannot read the bench {}", file.display()))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self::parse(&text, name, file.to_owned())
            .with_context(|| format!("wrong bench {}", file.display()))
    }

    fn parse(text: &str, name: String, file: PathBuf) -> Result<Self> {
        let raw: RawBench = toml::from_str(text)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        // The kernel's own rule for ids (`snd_card_set_id`): at most 15 letters, digits and underscores.
        if raw.card.is_empty() || raw.card.len() > 15 || !raw.card.chars().all(plain) {
            bail!("card is the word in brackets in /proc/asound/cards, not {:?}", raw.card);
        }
        within("rate_hz", raw.rate_hz, 8_000, 192_000)?;
        within("capture_channels", u32::from(raw.capture_channels), 1, 8)?;
        within("render_channels", u32::from(raw.render_channels), 1, 8)?;
        let kind = match raw.kind {
            RawKind::Virtual => {
                if raw.attended.is_some() || raw.render_level_max.is_some() {
                    bail!("attended and render_level_max belong to physical benches");
                }
                let processors = raw.processors.context("processors is missing")?;
                let memory_mib = raw.memory_mib.context("memory_mib is missing")?;
                within("processors", u32::from(processors), 1, 8)?;
                within("memory_mib", memory_mib, 512, 8_192)?;
                Kind::Virtual(Size { processors, memory_mib })
            }
            RawKind::Physical => {
                if raw.processors.is_some() || raw.memory_mib.is_some() {
                    bail!("processors and memory_mib belong to virtual benches");
                }
                let attended = raw.attended.context("attended is missing")?;
                let level = raw.render_level_max.context("render_level_max is missing")?;
                if !(0.001..=LEVEL_MAX).contains(&level) {
                    bail!("render_level_max is {level}, and must be 0.001 to {LEVEL_MAX}");
                }
                Kind::Physical { attended, render_level_max: level }
            }
        };
        Ok(Self {
            name,
            file,
            card: raw.card,
            rate_hz: raw.rate_hz,
            capture_channels: raw.capture_channels,
            render_channels: raw.render_channels,
            kind,
        })
    }

    /// Why this bench cannot run a trial; `None` where it can.
    #[must_use]
    pub fn unable(&self, trial: &Trial) -> Option<&'static str> {
        match (self.kind, trial.need) {
            (Kind::Virtual(_), _)
            | (Kind::Physical { .. }, Need::Device)
            | (Kind::Physical { attended: true, .. }, Need::Hands) => None,
            (Kind::Physical { attended: false, .. }, Need::Hands) => {
                Some("somebody must do something by hand, and the bench is not attended")
            }
            (Kind::Physical { .. }, Need::Faults) => {
                Some("only a headset made of software breaks on command")
            }
            (Kind::Physical { .. }, Need::Guest) => {
                Some("only a guest may be put to sleep, or lose its modules and servers")
            }
        }
    }

    /// The loudest that trials may play, of full scale.
    #[must_use]
    pub fn render_level(&self) -> f64 {
        match self.kind {
            Kind::Virtual(_) => 0.25,
            Kind::Physical { render_level_max, .. } => render_level_max,
        }
    }
}

fn within(key: &str, value: u32, min: u32, max: u32) -> Result<()> {
    if !(min..=max).contains(&value) {
        bail!("{key} is {value}, and must be {min} to {max}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIRTUAL: &str = include_str!("../../benches/virtual.toml");
    const PHYSICAL: &str = include_str!("../../benches/physical.example.toml");

    fn parse(text: &str) -> Result<Bench> {
        Bench::parse(text, "b".into(), PathBuf::new())
    }

    #[test]
    fn committed_benches_make_sense() {
        let size = Size { processors: 2, memory_mib: 768 };
        assert_eq!(parse(VIRTUAL).unwrap().kind, Kind::Virtual(size));
        let physical = parse(PHYSICAL).unwrap();
        assert_eq!(physical.kind, Kind::Physical { attended: true, render_level_max: 0.02 });
    }

    #[test]
    fn wrong_benches_are_told_by_key() {
        let cases = [
            (VIRTUAL.replace("\"SimHeadset\"", "\"../../etc\""), "card is the word in brackets"),
            (VIRTUAL.replace("memory_mib = 768", "memory_mib = 64"), "memory_mib is 64"),
            (VIRTUAL.replace("processors = 2", ""), "processors is missing"),
            (format!("{VIRTUAL}\nattended = true"), "attended and render_level_max belong"),
            (format!("{VIRTUAL}\ncolour = 1"), "colour"),
            (PHYSICAL.replace("= 0.02", "= 0.9"), "render_level_max is 0.9"),
            (PHYSICAL.replace("= 0.02", "= nan"), "render_level_max is NaN"),
        ];
        for (text, said) in cases {
            let error = format!("{:#}", parse(&text).unwrap_err());
            assert!(error.contains(said), "{error}");
        }
    }
}
