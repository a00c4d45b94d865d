//! A rule set put to a call: rating, what it is poor due to, and the yellow and red items.
//!
//! - A leg is poor if one bounded amount of it breaks its bound, good if at least one was known and none breaks,
//!   else unavailable. The round trip of a leg without audio is nobody's.
//! - A call is poor if its set-up failed, a device did not function or one of its legs is poor; good if one of its legs
//!   is good and none of these holds; else unavailable. Devices alone make no call good.
//! - A rehearsal is rated like a meeting, and never counted with meetings.

use serde::{Deserialize, Serialize};

use super::inputs::{Amount, CallInputs, DirectionInputs, LegInputs, LegSource, Seen, Standing};
use super::rules::{Bound, Colour, Metric, Rule, RuleSet, RulesName};

/// How a call or a leg was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rating {
    /// Nothing that was known breaks a bound.
    Good,
    /// Something does.
    Poor,
    /// Nothing was known.
    Unavailable,
}

/// Why there is no rating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// It goes on, and nothing was told yet.
    StillOpen,
    /// Its end was never told: the endpoint went away and did not come back.
    EndpointGone,
    /// No leg of it was told.
    NoLegs,
    /// Neither totals nor intervals of it came.
    NothingTold,
    /// No audio of it was received, and nobody reported what it sent.
    NoAudio,
    /// Fewer audio packets than the rule set asks for.
    TooFewPackets,
    /// The tap itself lost packets, and whether the bounds are broken depends on whose they were.
    TapDrops,
    /// What the rule set bounds was not measured.
    NotMeasured,
}

/// Where something was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Subject {
    /// The whole leg.
    Leg,
    /// A direction of it, by whose view.
    Direction(Seen),
    /// A device, by name; from outside.
    Device(String),
}

/// An amount that breaks a bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Of what.
    pub metric: Metric,
    /// Where.
    pub subject: Subject,
    /// How much, in steps of the metric's unit; on the same side of the bound as the exact fraction.
    pub steps: u64,
    /// The bound.
    pub bound: Bound,
    /// Who published it; from outside in a custom rule set.
    pub source: String,
}

/// What makes poor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// The call's set-up failed.
    Setup {
        /// With this Ms-diag code.
        code: u16,
        /// Who says that it makes poor.
        source: String,
    },
    /// A bound is broken.
    Bound(Finding),
}

/// What stands out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// How much.
    pub colour: Colour,
    /// What.
    #[serde(flatten)]
    pub finding: Finding,
}

/// A judgement of a call or of a leg.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Judgement {
    /// How it was.
    pub rating: Rating,
    /// Why there is no rating; `None` where there is one.
    pub why: Option<Why>,
    /// What it is poor due to; empty where it is not.
    pub reasons: Vec<Reason>,
    /// What stands out, red first.
    pub items: Vec<Item>,
}

/// A call judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallVerdict {
    /// By what.
    pub rules: RulesName,
    /// Whether it is over; what is not may be judged otherwise later.
    pub standing: Standing,
    /// Whether it was a rehearsal.
    pub is_rehearsal: bool,
    /// The call; its reasons include those of its legs.
    pub call: Judgement,
    /// Its legs by number.
    pub legs: Vec<(u16, Judgement)>,
}

/// Puts a rule set to a call.
#[must_use]
pub fn judge(rules: &RuleSet, inputs: &CallInputs) -> CallVerdict {
    let legs: Vec<(u16, Judgement)> =
        inputs.legs.iter().map(|leg| (leg.leg, judge_leg(rules, leg, inputs.standing))).collect();
    let mut reasons = Vec::new();
    if let Some((rule, code)) = rules.setup.as_ref().zip(inputs.setup_failure)
        && (rule.first..=rule.last).contains(&code)
    {
        reasons.push(Reason::Setup { code, source: rule.source.clone() });
    }
    let mut items = Vec::new();
    for device in &inputs.devices {
        let known = |metric: Metric| device.amounts.get(&metric).filter(|_| metric.is_of_device());
        let subject = || Subject::Device(device.name.clone());
        for rule in &rules.poor {
            let amount = known(rule.metric);
            if let Some(finding) = amount.and_then(|it| broken(rule, *it, subject())) {
                reasons.push(Reason::Bound(finding));
            }
        }
        items.extend(items_of(rules, subject, known));
    }
    for (_, leg) in &legs {
        for reason in &leg.reasons {
            if !reasons.contains(reason) && reasons.len() < REASONS_MAX {
                reasons.push(reason.clone());
            }
        }
    }
    let is_good = legs.iter().any(|(_, leg)| leg.rating == Rating::Good);
    let (rating, why) = match (reasons.is_empty(), is_good) {
        (false, _) => (Rating::Poor, None),
        (true, true) => (Rating::Good, None),
        (true, false) => {
            let first = legs.iter().find_map(|(_, leg)| leg.why);
            (Rating::Unavailable, Some(first.unwrap_or(untold(inputs.standing, Why::NoLegs))))
        }
    };
    sort_items(&mut items);
    CallVerdict {
        rules: rules.name.clone(),
        standing: inputs.standing,
        is_rehearsal: inputs.is_rehearsal,
        call: Judgement { rating, why, reasons, items },
        legs,
    }
}

/// The most reasons of a call: those of its devices and of the first legs.
const REASONS_MAX: usize = 64;

fn judge_leg(rules: &RuleSet, leg: &LegInputs, standing: Standing) -> Judgement {
    let counts = |it: &&DirectionInputs| {
        let minimum = rules.precondition.as_ref();
        it.packets > 0 && minimum.is_none_or(|minimum| it.packets > minimum.packets_above)
    };
    let directions: Vec<&DirectionInputs> = leg.directions.iter().filter(counts).collect();
    let round_trip = leg.round_trip.filter(|_| !directions.is_empty());
    let (mut reasons, mut known, mut in_doubt) = (Vec::new(), 0u32, 0u32);
    let mut put = |rule: &Rule, amount: Amount, subject: Subject| match test(rule.bound, amount) {
        Outcome::Broken => {
            known += 1;
            reasons.extend(broken(rule, amount, subject).map(Reason::Bound));
        }
        Outcome::Kept => known += 1,
        Outcome::InDoubt => in_doubt += 1,
    };
    for rule in rules.poor.iter().filter(|rule| !rule.metric.is_of_device()) {
        if rule.metric == Metric::RoundTrip {
            if let Some(amount) = round_trip {
                put(rule, amount, Subject::Leg);
            }
            continue;
        }
        for direction in &directions {
            if let Some(amount) = direction.amounts.get(&rule.metric) {
                put(rule, *amount, Subject::Direction(direction.seen));
            }
        }
    }
    let mut items: Vec<Item> = Vec::new();
    for direction in &directions {
        let subject = || Subject::Direction(direction.seen);
        items.extend(items_of(rules, subject, |metric| direction.amounts.get(&metric)));
    }
    let of_leg = |metric| round_trip.as_ref().filter(|_| metric == Metric::RoundTrip);
    items.extend(items_of(rules, || Subject::Leg, of_leg));
    sort_items(&mut items);
    let (rating, why) = match (reasons.is_empty(), known) {
        (false, _) => (Rating::Poor, None),
        (true, 1..) => (Rating::Good, None),
        (true, 0) => {
            let why = match leg.source {
                LegSource::Nothing => untold(standing, Why::NothingTold),
                LegSource::Summary | LegSource::Intervals if leg.directions.is_empty() => {
                    Why::NoAudio
                }
                LegSource::Summary | LegSource::Intervals if directions.is_empty() => {
                    Why::TooFewPackets
                }
                LegSource::Summary | LegSource::Intervals if in_doubt > 0 => Why::TapDrops,
                LegSource::Summary | LegSource::Intervals => Why::NotMeasured,
            };
            (Rating::Unavailable, Some(why))
        }
    };
    Judgement { rating, why, reasons, items }
}

/// Why nothing was told of a call or leg.
fn untold(standing: Standing, otherwise: Why) -> Why {
    match standing {
        Standing::Closed => otherwise,
        Standing::Open => Why::StillOpen,
        Standing::Silent => Why::EndpointGone,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Broken,
    Kept,
    InDoubt,
}

fn test(bound: Bound, amount: Amount) -> Outcome {
    let is_broken = |part| bound.is_broken(part, amount.whole);
    match (is_broken(amount.least), is_broken(amount.most)) {
        (true, _) => Outcome::Broken,
        (false, true) => Outcome::InDoubt,
        (false, false) => Outcome::Kept,
    }
}

fn broken(rule: &Rule, amount: Amount, subject: Subject) -> Option<Finding> {
    (test(rule.bound, amount) == Outcome::Broken).then(|| Finding {
        metric: rule.metric,
        subject,
        // What is certain; shown values of two rules may differ where the tap dropped.
        steps: rule.bound.shown(amount.least, amount.whole),
        bound: rule.bound,
        source: rule.source.clone(),
    })
}

/// Of each metric the last item that holds.
fn items_of<'a>(
    rules: &RuleSet,
    subject: impl Fn() -> Subject,
    known: impl Fn(Metric) -> Option<&'a Amount>,
) -> Vec<Item> {
    let holding = |metric: Metric| {
        let amount = *known(metric)?;
        let mut rules = rules.items.iter().rev().filter(|it| it.rule.metric == metric);
        rules.find_map(|it| {
            let finding = broken(&it.rule, amount, subject())?;
            Some(Item { colour: it.colour, finding })
        })
    };
    Metric::ALL.into_iter().filter_map(holding).collect()
}

fn sort_items(items: &mut [Item]) {
    items.sort_by_key(|it| (std::cmp::Reverse(it.colour), it.finding.metric));
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
