//! What a rule set says: which amounts are bounded by how much, and who published the bound.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::rule_file;

/// The rule sets that come with the collector.
const BUILT_IN: [(&str, &str); 3] = [
    (DEFAULT, include_str!("rule_sets/seed-1.toml")),
    ("cqd-classic-1", include_str!("rule_sets/cqd-classic-1.toml")),
    ("cqd-current-1", include_str!("rule_sets/cqd-current-1.toml")),
];

/// The rule set where nobody chose one.
pub const DEFAULT: &str = "seed-1";

/// The ids of the rule sets that come with the collector.
pub fn built_in_ids() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(id, _)| *id)
}

/// The text of a rule set that comes with the collector.
#[must_use]
pub fn built_in_text(id: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(it, _)| *it == id).map(|(_, text)| *text)
}

/// A rule set that comes with the collector.
#[must_use]
pub fn built_in(id: &str) -> Option<RuleSet> {
    let text = built_in_text(id)?;
    Some(rule_file::read_built_in(text).expect("`every_built_in_reads` reads each of them"))
}

/// What is bounded. Legs have network metrics per direction and a round trip; calls have devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Metric {
    /// Mean RFC 3550 A.8 jitter over a direction's audio packets.
    Jitter,
    /// Lost over expected audio packets of a direction.
    Loss,
    /// Mean round trip of a leg.
    RoundTrip,
    /// Mean degradation of the network MOS, by what was heard.
    Degradation,
    /// Concealed over heard time.
    Concealed,
    /// Loss of the interval with the highest.
    WorstLoss,
    /// Reordered over received audio packets.
    Reordered,
    /// `DeviceCaptureNotFunctioningEventRatio`.
    CaptureNotFunctioning,
    /// `DeviceRenderNotFunctioningEventRatio`.
    RenderNotFunctioning,
    /// Glitches of a microphone.
    CaptureGlitches,
    /// Glitches of a loudspeaker.
    RenderGlitches,
}

/// How an amount is counted. Bounds are whole numbers of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Steps of 0.1 ms.
    Milliseconds,
    /// Steps of a millionth.
    Ratio,
    /// Steps of a thousandth.
    Mos,
    /// Steps of a tenth in five minutes.
    PerFiveMinutes,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Jitter,
        Self::Loss,
        Self::RoundTrip,
        Self::Degradation,
        Self::Concealed,
        Self::WorstLoss,
        Self::Reordered,
        Self::CaptureNotFunctioning,
        Self::RenderNotFunctioning,
        Self::CaptureGlitches,
        Self::RenderGlitches,
    ];

    /// Its name in a rule file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Jitter => "jitter",
            Self::Loss => "loss",
            Self::RoundTrip => "round_trip",
            Self::Degradation => "degradation",
            Self::Concealed => "concealed",
            Self::WorstLoss => "worst_loss",
            Self::Reordered => "reordered",
            Self::CaptureNotFunctioning => "capture_not_functioning",
            Self::RenderNotFunctioning => "render_not_functioning",
            Self::CaptureGlitches => "capture_glitches",
            Self::RenderGlitches => "render_glitches",
        }
    }

    /// How it is counted.
    #[must_use]
    pub fn unit(self) -> Unit {
        match self {
            Self::Jitter | Self::RoundTrip => Unit::Milliseconds,
            Self::Loss
            | Self::Concealed
            | Self::WorstLoss
            | Self::Reordered
            | Self::CaptureNotFunctioning
            | Self::RenderNotFunctioning => Unit::Ratio,
            Self::Degradation => Unit::Mos,
            Self::CaptureGlitches | Self::RenderGlitches => Unit::PerFiveMinutes,
        }
    }

    /// Whether it is a device's, and so the call's and no leg's.
    #[must_use]
    pub fn is_of_device(self) -> bool {
        match self {
            Self::CaptureNotFunctioning
            | Self::RenderNotFunctioning
            | Self::CaptureGlitches
            | Self::RenderGlitches => true,
            Self::Jitter
            | Self::Loss
            | Self::RoundTrip
            | Self::Degradation
            | Self::Concealed
            | Self::WorstLoss
            | Self::Reordered => false,
        }
    }
}

impl Unit {
    /// Digits behind the point of the value that people read.
    #[must_use]
    pub fn digits(self) -> u32 {
        match self {
            Self::Milliseconds | Self::PerFiveMinutes => 1,
            Self::Mos => 3,
            Self::Ratio => 6,
        }
    }

    /// What stands behind a value, with a space before it.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Milliseconds => " ms",
            Self::PerFiveMinutes => " per 5 min",
            Self::Ratio | Self::Mos => "",
        }
    }

    /// The largest bound, in steps: 100 s, a whole, the best MOS, 10,000 in five minutes.
    #[must_use]
    pub fn steps_max(self) -> u64 {
        match self {
            Self::Milliseconds => 1_000_000,
            Self::Ratio => 1_000_000,
            Self::Mos => 5_000,
            Self::PerFiveMinutes => 100_000,
        }
    }

    /// Steps as people read them, without needless zeros behind the point.
    #[must_use]
    pub fn text(self, steps: u64) -> String {
        let scale = 10u64.pow(self.digits());
        let (whole, part) = (steps / scale, steps % scale);
        let width = self.digits() as usize;
        let part = format!("{part:0width$}");
        let part = part.trim_end_matches('0');
        let point = if part.is_empty() { "" } else { "." };
        format!("{whole}{point}{part}{}", self.suffix())
    }
}

/// On which side of a bound it is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Relation {
    /// Beyond it; the bound itself is fine.
    Above,
    /// On it and beyond.
    AtLeast,
}

/// A bound, in steps of its metric's unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Where it is broken.
    pub relation: Relation,
    /// How many steps.
    pub steps: u64,
}

impl Bound {
    /// Whether `part / whole` steps break it; `whole` is not 0.
    #[must_use]
    pub fn is_broken(self, part: u128, whole: u128) -> bool {
        let bound = whole.saturating_mul(u128::from(self.steps));
        match self.relation {
            Relation::Above => part > bound,
            Relation::AtLeast => part >= bound,
        }
    }

    /// `part / whole` in whole steps that stand on the same side of the bound as the fraction does.
    #[must_use]
    pub fn shown(self, part: u128, whole: u128) -> u64 {
        let steps = match self.relation {
            Relation::Above => part.div_ceil(whole.max(1)),
            Relation::AtLeast => part / whole.max(1),
        };
        u64::try_from(steps).unwrap_or(u64::MAX)
    }
}

/// A bounded metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which.
    pub metric: Metric,
    /// How much of it.
    pub bound: Bound,
    /// Who published the bound; from outside in a custom set, without control characters.
    pub source: String,
}

/// How much an item stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Colour {
    /// Outside of the normal range; unlikely the main cause.
    Yellow,
    /// Significant; likely the main cause.
    Red,
}

/// What stands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemRule {
    /// How much.
    pub colour: Colour,
    /// From where on.
    pub rule: Rule,
}

/// The codes by which a call's set-up failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupRule {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
    /// Who says so.
    pub source: String,
}

/// Which directions of a leg are judged at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// Those with more audio packets than this.
    pub packets_above: u64,
    /// Who says so.
    pub source: String,
}

/// A rule set by name; its content by hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RulesName {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: u32,
    /// The head of the SHA-256 of its file, as 16 hexadecimal digits.
    pub hash: String,
}

impl fmt::Display for RulesName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {} ({})", self.id, self.version, self.hash)
    }
}

/// A whole rule set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSet {
    /// What it is called.
    pub name: RulesName,
    /// One line for people.
    pub title: String,
    /// Which directions count.
    pub precondition: Option<Precondition>,
    /// Which set-up failures make a call poor.
    pub setup: Option<SetupRule>,
    /// What makes a leg or a call poor; each metric at most once.
    pub poor: Vec<Rule>,
    /// What stands out; of one metric the last that holds counts.
    pub items: Vec<ItemRule>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_read_as_people_write_them() {
        assert_eq!(Unit::Milliseconds.text(300), "30 ms");
        assert_eq!(Unit::Milliseconds.text(301), "30.1 ms");
        assert_eq!(Unit::Ratio.text(5_000), "0.005");
        assert_eq!(Unit::Ratio.text(1_000_000), "1");
        assert_eq!(Unit::Mos.text(1_050), "1.05");
        assert_eq!(Unit::PerFiveMinutes.text(10), "1 per 5 min");
    }

    /// 90,001 / 300 = 300.003: above 300, and shown as 301 and not as the bound itself.
    #[test]
    fn shown_value_stands_on_the_same_side_of_the_bound() {
        let above = Bound { relation: Relation::Above, steps: 300 };
        assert!(above.is_broken(90_001, 300) && !above.is_broken(90_000, 300));
        assert_eq!((above.shown(90_001, 300), above.shown(90_000, 300)), (301, 300));
        let at_least = Bound { relation: Relation::AtLeast, steps: 300 };
        assert!(at_least.is_broken(90_000, 300) && !at_least.is_broken(89_999, 300));
        assert_eq!((at_least.shown(90_000, 300), at_least.shown(89_999, 300)), (300, 299));
    }
}
