//! How verdicts look: a word in the list of calls, a block in the page of one, JSON in both.
//!
//! Steps become numbers with a point only here. Names of devices and buildings, and sources of own rules, come from
//! outside and are escaped.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use roomtone_protocol::id::{CallId, EndpointId};
use roomtone_protocol::media::Direction;
use serde::Serialize;

use super::table::{COLUMNS, percent};
use super::{direction, media};
use crate::call::ends::Crossing;
use crate::classify::inputs::{Seen, Standing};
use crate::classify::place::Place;
use crate::classify::rules::{Colour, Metric, Relation, RulesName, Unit};
use crate::classify::verdict::{Finding, Judgement, Rating, Reason, Subject, Why};
use crate::judge::Judged;
use crate::judge::again::Tally;
use crate::judge::touched::CallKey;
use crate::networks::endpoints::Endpoint;
use crate::text::{escape, fit};

/// A verdict as a command has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The verdict.
    pub judged: Judged,
    /// Whether it is the one of the book; else it was made now.
    pub is_stored: bool,
    /// What the endpoint file says of the endpoint; `None` without a row.
    pub machine: Option<Machine>,
    /// The far ends of its legs, by number.
    pub far_ends: BTreeMap<u16, FarLeg>,
}

/// The other side of a leg, and what became of the streams between the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarLeg {
    /// Whose; the display name from outside.
    pub endpoint: (EndpointId, String),
    /// Of which call of it.
    pub call: CallId,
    /// Which leg of that.
    pub leg: u16,
    /// The streams.
    pub crossings: Vec<Crossing>,
}

/// A row of the endpoint file without its name; from an operator: escape before printing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    make: String,
    model: String,
    #[serde(rename = "type")]
    kind: String,
    labels: [String; 3],
}

impl Machine {
    /// Of a row.
    #[must_use]
    pub fn new(row: &Endpoint<'_>) -> Self {
        let own = str::to_owned;
        let (make, model, kind) = (own(row.make), own(row.model), own(row.kind));
        Self { make, model, kind, labels: row.labels.map(own) }
    }

    fn text(&self) -> String {
        let words = [&self.make, &self.model, &self.kind].into_iter().chain(&self.labels);
        words.filter(|it| !it.is_empty()).cloned().collect::<Vec<_>>().join(", ")
    }
}

impl Shown {
    /// Whether it may change: the call goes on, or its end was not told.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.judged.verdict.standing != Standing::Closed
    }
}

/// The ratings of calls that are over, for the list of calls.
#[derive(Debug, Clone, Default)]
pub struct Ratings(BTreeMap<CallKey, Rating>);

impl Ratings {
    /// Those of some verdicts.
    pub fn new<'a>(shown: impl IntoIterator<Item = &'a Shown>) -> Self {
        let over = shown.into_iter().filter(|it| !it.is_provisional());
        let entry =
            |it: &Shown| ((it.judged.endpoint, it.judged.call), it.judged.verdict.call.rating);
        Self(over.map(entry).collect())
    }

    /// The word for a call in at most seven columns; `None` where it has no rating.
    #[must_use]
    pub fn word(&self, key: CallKey) -> Option<&'static str> {
        self.0.get(&key).map(|rating| match rating {
            Rating::Good => "good",
            Rating::Poor => "poor",
            Rating::Unavailable => "unrated",
        })
    }
}

fn rating_word(rating: Rating) -> &'static str {
    match rating {
        Rating::Good => "good",
        Rating::Poor => "poor",
        Rating::Unavailable => "unavailable",
    }
}

fn why_text(why: Why) -> &'static str {
    match why {
        Why::StillOpen => "it goes on and nothing to judge was told yet",
        Why::EndpointGone => "its end was never told: the endpoint went away",
        Why::NoLegs => "no leg of it was told",
        Why::NothingTold => "neither totals nor intervals came",
        Why::NoAudio => "no audio was received, and nobody reported what was sent",
        Why::TooFewPackets => "too few audio packets for these rules",
        Why::TapDrops => "the tap lost packets itself, so loss may be our own",
        Why::NotMeasured => "nothing that these rules bound was measured",
    }
}

fn metric_text(metric: Metric) -> &'static str {
    match metric {
        Metric::Jitter => "jitter",
        Metric::Loss => "loss",
        Metric::RoundTrip => "round trip",
        Metric::Degradation => "degradation",
        Metric::Concealed => "concealed ratio",
        Metric::WorstLoss => "loss of the worst interval",
        Metric::Reordered => "reordered",
        Metric::CaptureNotFunctioning => "microphone not functioning",
        Metric::RenderNotFunctioning => "loudspeaker not functioning",
        Metric::CaptureGlitches => "microphone glitches",
        Metric::RenderGlitches => "loudspeaker glitches",
    }
}

fn seen_text(seen: Seen) -> &'static str {
    match seen {
        Seen::Received => "received",
        Seen::SentAsReported => "sent, as its receiver reported",
        Seen::SentAsReceived => "sent, as the other end received it",
    }
}

/// One line, without the source.
fn finding_text(it: &Finding) -> String {
    let unit = it.metric.unit();
    let (value, bound) = (unit.text(it.steps), unit.text(it.bound.steps));
    let relation = match it.bound.relation {
        Relation::Above => "above",
        Relation::AtLeast => "at least",
    };
    let place = match &it.subject {
        Subject::Leg => String::new(),
        Subject::Direction(seen) => format!(" ({})", seen_text(*seen)),
        Subject::Device(name) => format!(" ({})", fit(name, 40)),
    };
    format!("{} {value}, {relation} {bound}{place}", metric_text(it.metric))
}

fn reason_text(reason: &Reason) -> String {
    match reason {
        Reason::Setup { code, .. } => format!("call set-up failed, Ms-diag {code}"),
        Reason::Bound(finding) => finding_text(finding),
    }
}

fn colour_word(colour: Colour) -> &'static str {
    match colour {
        Colour::Yellow => "yellow",
        Colour::Red => "red",
    }
}

/// The judgement of a call for its page: rating, what it is poor due to, red, yellow, and each leg.
#[must_use]
pub fn block(shown: &Shown) -> String {
    let verdict = &shown.judged.verdict;
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String does not fail.
        let _ = writeln!(out, "{name:<10} {}", fit(value, COLUMNS - 11));
    };
    if let Some(machine) = &shown.machine {
        line("machine", &machine.text());
    }
    let provisional = if shown.is_provisional() { ", provisional" } else { "" };
    let rating = rating_text(&verdict.call);
    line("rating", &format!("{rating}; by {}{provisional}", verdict.rules));
    for reason in &verdict.call.reasons {
        line("due to", &reason_text(reason));
    }
    let of_legs = verdict
        .legs
        .iter()
        .flat_map(|(leg, judgement)| judgement.items.iter().map(move |item| (Some(*leg), item)));
    let items = verdict.call.items.iter().map(|item| (None, item)).chain(of_legs);
    let mut items: Vec<_> = items.collect();
    items.sort_by_key(|(leg, item)| (std::cmp::Reverse(item.colour), *leg));
    for (leg, item) in items {
        let leg = leg.map(|leg| format!("leg {leg}: ")).unwrap_or_default();
        let finding = finding_text(&item.finding);
        line(colour_word(item.colour), &format!("{leg}{finding}; {}", item.finding.source));
    }
    for (leg, judgement) in &verdict.legs {
        let place = shown.judged.places.get(leg).map(place_text).unwrap_or_default();
        line(&format!("leg {leg}"), &format!("{}{place}", rating_text(judgement)));
        let Some(far) = shown.far_ends.get(leg) else { continue };
        let (_, name) = &far.endpoint;
        line("far end", &format!("{}, call {}, leg {}", fit(name, 40), far.call, far.leg));
        for crossing in &far.crossings {
            line("", &crossing_text(crossing));
        }
    }
    out
}

fn crossing_text(it: &Crossing) -> String {
    let way = match it.direction {
        Direction::Egress => "to it",
        Direction::Ingress => "from it",
    };
    let doubt = if it.is_in_doubt { ", some perhaps by the receiver's tap" } else { "" };
    let (lost, share) = (it.lost(), percent(it.lost(), it.sent));
    let kind = media(it.media);
    format!("{kind} {way}: {} sent, {} arrived, {lost} lost ({share}){doubt}", it.sent, it.arrived)
}

fn rating_text(judgement: &Judgement) -> String {
    let why = judgement.why.map(|why| format!(", {}", why_text(why))).unwrap_or_default();
    format!("{}{why}", rating_word(judgement.rating))
}

fn place_text(place: &Place) -> String {
    let side = if place.is_inside { "inside" } else { "outside" };
    let building = place.building.as_deref().map(|name| format!(", {}", fit(name, 30)));
    let subnet = place.subnet.as_deref().map(|it| format!(", {it}"));
    let (building, subnet) = (building.unwrap_or_default(), subnet.unwrap_or_default());
    format!("; {side}{building}{subnet} (buildings {})", place.file)
}

/// What the poor calls of a list are poor due to, a line each.
#[must_use]
pub fn due_to(shown: &[Shown]) -> String {
    let poor = shown.iter().filter(|it| it.judged.verdict.call.rating == Rating::Poor);
    let lines = poor.map(|it| {
        let reasons: Vec<_> = it.judged.verdict.call.reasons.iter().map(reason_text).collect();
        let line = format!("{} poor due to {}", it.judged.call, reasons.join("; "));
        fit(&line, COLUMNS) + "\n"
    });
    lines.collect()
}

/// `reclassify`.
#[must_use]
pub fn tally(tally: &Tally, rules: &RulesName) -> String {
    let mut out = format!("{} calls judged by {rules}\n", tally.judged);
    let mut line = |count: u64, what: &str| {
        if count > 0 {
            let _ = writeln!(out, "{count:>10} {what}");
        }
    };
    line(tally.first, "for the first time");
    line(tally.same, "as before");
    line(tally.findings, "rated as before, with other findings");
    for ((from, to), count) in &tally.ratings {
        line(*count, &format!("{}, before {}", rating_word(*to), rating_word(*from)));
    }
    line(tally.rehearsals, "of them rehearsals");
    line(tally.open, "not judged: they go on");
    out
}

/// `reclassify --json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TallyJson<'a> {
    rules: &'a RulesName,
    judged: u64,
    first: u64,
    same: u64,
    other_findings: u64,
    other_rating: Vec<RatingChange>,
    rehearsals: u64,
    open: u64,
}

#[derive(Debug, Serialize)]
struct RatingChange {
    from: Rating,
    to: Rating,
    calls: u64,
}

impl<'a> TallyJson<'a> {
    /// The JSON of a tally.
    #[must_use]
    pub fn new(tally: &Tally, rules: &'a RulesName) -> Self {
        let change = |(&(from, to), &calls)| RatingChange { from, to, calls };
        Self {
            rules,
            judged: tally.judged,
            first: tally.first,
            same: tally.same,
            other_findings: tally.findings,
            other_rating: tally.ratings.iter().map(change).collect(),
            rehearsals: tally.rehearsals,
            open: tally.open,
        }
    }
}

/// A call's verdict in `calls --json` and `call ID --json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    rules: RulesName,
    stored: bool,
    provisional: bool,
    machine: Option<Machine>,
    #[serde(flatten)]
    call: Rated,
    legs: Vec<LegVerdict>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LegVerdict {
    leg: u16,
    #[serde(flatten)]
    rated: Rated,
    place: Option<PlaceJson>,
    far_end: Option<FarEndJson>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FarEndJson {
    endpoint: String,
    endpoint_name: String,
    call: String,
    leg: u16,
    streams: Vec<CrossingJson>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CrossingJson {
    ssrc: u32,
    media: &'static str,
    direction: &'static str,
    packets_sent: u64,
    packets_arrived: u64,
    packets_lost: u64,
    in_doubt: bool,
}

impl FarEndJson {
    fn new(far: &FarLeg) -> Self {
        let stream = |it: &Crossing| CrossingJson {
            ssrc: u32::from_le_bytes(it.ssrc),
            media: media(it.media),
            direction: direction(it.direction),
            packets_sent: it.sent,
            packets_arrived: it.arrived,
            packets_lost: it.lost(),
            in_doubt: it.is_in_doubt,
        };
        let (endpoint, name) = &far.endpoint;
        Self {
            endpoint: endpoint.to_string(),
            endpoint_name: name.clone(),
            call: far.call.to_string(),
            leg: far.leg,
            streams: far.crossings.iter().map(stream).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rated {
    rating: Rating,
    unavailable_because: Option<Why>,
    poor_due_to: Vec<ReasonJson>,
    items: Vec<ItemJson>,
}

#[derive(Debug, Serialize)]
#[serde(untagged, rename_all = "camelCase")]
enum ReasonJson {
    #[serde(rename_all = "camelCase")]
    Setup {
        ms_diag: u16,
        source: String,
    },
    Bound(FindingJson),
}

#[derive(Debug, Serialize)]
struct ItemJson {
    colour: Colour,
    #[serde(flatten)]
    finding: FindingJson,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FindingJson {
    metric: Metric,
    direction: Option<Seen>,
    device: Option<String>,
    value: f64,
    relation: Relation,
    bound: f64,
    unit: &'static str,
    source: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PlaceJson {
    building: Option<String>,
    subnet: Option<String>,
    inside_corp: bool,
    buildings_version: u32,
}

impl Verdict {
    /// The JSON of a verdict.
    #[must_use]
    pub fn new(shown: &Shown) -> Self {
        let verdict = &shown.judged.verdict;
        let leg = |(leg, judgement): &(u16, Judgement)| LegVerdict {
            leg: *leg,
            rated: Rated::new(judgement),
            place: shown.judged.places.get(leg).map(|place| PlaceJson {
                building: place.building.clone(),
                subnet: place.subnet.clone(),
                inside_corp: place.is_inside,
                buildings_version: place.file,
            }),
            far_end: shown.far_ends.get(leg).map(FarEndJson::new),
        };
        Self {
            rules: verdict.rules.clone(),
            stored: shown.is_stored,
            provisional: shown.is_provisional(),
            machine: shown.machine.clone(),
            call: Rated::new(&verdict.call),
            legs: verdict.legs.iter().map(leg).collect(),
        }
    }
}

impl Rated {
    fn new(judgement: &Judgement) -> Self {
        let reason = |reason: &Reason| match reason {
            Reason::Setup { code, source } => {
                ReasonJson::Setup { ms_diag: *code, source: source.clone() }
            }
            Reason::Bound(finding) => ReasonJson::Bound(FindingJson::new(finding)),
        };
        Self {
            rating: judgement.rating,
            unavailable_because: judgement.why,
            poor_due_to: judgement.reasons.iter().map(reason).collect(),
            items: judgement
                .items
                .iter()
                .map(|it| ItemJson { colour: it.colour, finding: FindingJson::new(&it.finding) })
                .collect(),
        }
    }
}

impl FindingJson {
    fn new(it: &Finding) -> Self {
        let unit = it.metric.unit();
        let number = |steps: u64| steps as f64 / 10f64.powi(unit.digits().cast_signed());
        let (direction, device) = match &it.subject {
            Subject::Leg => (None, None),
            Subject::Direction(seen) => (Some(*seen), None),
            Subject::Device(name) => (None, Some(name.clone())),
        };
        Self {
            metric: it.metric,
            direction,
            device,
            value: number(it.steps),
            relation: it.bound.relation,
            bound: number(it.bound.steps),
            unit: match unit {
                Unit::Milliseconds => "ms",
                Unit::Ratio => "ratio",
                Unit::Mos => "mos",
                Unit::PerFiveMinutes => "per5Minutes",
            },
            source: it.source.clone(),
        }
    }
}

/// `rules list`.
#[must_use]
pub fn rule_sets<'a>(
    sets: impl IntoIterator<Item = &'a crate::classify::rules::RuleSet>,
    used: &RulesName,
) -> String {
    let line = |set: &crate::classify::rules::RuleSet| {
        let mark = if set.name == *used { "*" } else { " " };
        format!("{mark} {:<16} {}  {}\n", set.name.id, set.name.hash, escape(&set.title))
    };
    let lines: String = sets.into_iter().map(line).collect();
    lines + "* = by which calls are judged\n"
}

/// `rules check`.
#[must_use]
pub fn rule_set(set: &crate::classify::rules::RuleSet) -> String {
    let mut out = format!("{}: {}\n", set.name, escape(&set.title));
    if let Some(precondition) = &set.precondition {
        let _ = writeln!(out, "  only audio of more than {} packets", precondition.packets_above);
    }
    if let Some(setup) = &set.setup {
        let _ =
            writeln!(out, "  poor    call set-up failed, Ms-diag {}-{}", setup.first, setup.last);
    }
    let items = set.items.iter().map(|it| (colour_word(it.colour), &it.rule));
    for (word, rule) in set.poor.iter().map(|rule| ("poor", rule)).chain(items) {
        let relation = match rule.bound.relation {
            Relation::Above => "above",
            Relation::AtLeast => "at least",
        };
        let bound = rule.metric.unit().text(rule.bound.steps);
        let _ = writeln!(out, "  {word:<7} {} {relation} {bound}", metric_text(rule.metric));
    }
    out
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::classify::rules::Bound;
    use crate::classify::verdict::{CallVerdict, Item};

    fn shown(standing: Standing) -> Shown {
        let finding = |metric, subject, steps, relation, bound| Finding {
            metric,
            subject,
            steps,
            bound: Bound { relation, steps: bound },
            source: "who said so".to_owned(),
        };
        let seen = Subject::Direction(Seen::Received);
        let loss = finding(Metric::Loss, seen.clone(), 120_000, Relation::Above, 100_000);
        let jitter = finding(Metric::Jitter, seen, 150, Relation::AtLeast, 150);
        let name = Subject::Device("mic\u{1b}[2J".to_owned());
        let device = finding(Metric::CaptureNotFunctioning, name, 5_000, Relation::AtLeast, 5_000);
        let red = |finding: &Finding| Item { colour: Colour::Red, finding: finding.clone() };
        let leg = Judgement {
            rating: Rating::Poor,
            why: None,
            reasons: vec![Reason::Bound(loss.clone())],
            items: vec![red(&loss), Item { colour: Colour::Yellow, finding: jitter }],
        };
        let call = Judgement {
            rating: Rating::Poor,
            why: None,
            reasons: vec![Reason::Bound(device.clone()), Reason::Bound(loss)],
            items: vec![red(&device)],
        };
        let rules = RulesName { id: "seed-1".to_owned(), version: 1, hash: "0".repeat(16) };
        let place = Place {
            file: 7,
            subnet: Some("10.1.2.0/24".to_owned()),
            building: Some("Fjord \u{202e}".to_owned()),
            is_inside: true,
        };
        let judged = Judged {
            endpoint: EndpointId([1; 16]),
            call: CallId(0xf00d),
            started_us: 0,
            facts_us: 0,
            verdict: CallVerdict {
                rules,
                standing,
                is_rehearsal: false,
                call,
                legs: vec![(0, leg)],
            },
            places: BTreeMap::from([(0, place)]),
            ends: Vec::new(),
        };
        Shown { judged, is_stored: true, machine: None, far_ends: BTreeMap::new() }
    }

    #[test]
    fn page_of_a_call_tells_the_worst_first_and_steers_no_terminal() {
        let text = block(&shown(Standing::Open));
        assert_eq!(
            text,
            "rating     poor; by seed-1 version 1 (0000000000000000), provisional\n\
             due to     microphone not functioning 0.005, at least 0.005 (mic\\u{1b}[2J)\n\
             due to     loss 0.12, above 0.1 (received)\n\
             red        microphone not functioning 0.005, at least 0.005 (mic\\u{1b}[2J); who said so\n\
             red        leg 0: loss 0.12, above 0.1 (received); who said so\n\
             yellow     leg 0: jitter 15 ms, at least 15 ms (received); who said so\n\
             leg 0      poor; inside, Fjord \\u{202e}, 10.1.2.0/24 (buildings 7)\n"
        );
        assert!(text.lines().all(|line| line.width() <= COLUMNS));
    }

    #[test]
    fn list_has_a_word_for_calls_that_are_over_only() {
        let key = (EndpointId([1; 16]), CallId(0xf00d));
        assert_eq!(Ratings::new([&shown(Standing::Closed)]).word(key), Some("poor"));
        assert_eq!(Ratings::new([&shown(Standing::Open)]).word(key), None);
        let lines = due_to(&[shown(Standing::Closed)]);
        assert!(lines.starts_with("000000000000f00d poor due to microphone not"), "{lines}");
        assert!(lines.width() <= COLUMNS + 1, "{lines}");
    }

    #[test]
    fn json_has_numbers_units_and_sources() {
        let json = serde_json::to_value(Verdict::new(&shown(Standing::Closed))).unwrap();
        assert_eq!((&json["rating"], &json["provisional"]), (&"poor".into(), &false.into()));
        let loss = &json["legs"][0]["poorDueTo"][0];
        let expected = serde_json::json!({
            "metric": "loss", "direction": "received", "device": null, "value": 0.12,
            "relation": "above", "bound": 0.1, "unit": "ratio", "source": "who said so",
        });
        assert_eq!(*loss, expected);
        assert_eq!(json["legs"][0]["items"][1]["colour"], "yellow");
        assert_eq!(json["legs"][0]["place"]["building"], "Fjord \u{202e}");
    }
}
