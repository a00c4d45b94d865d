//! Rules at, just below and just above their bounds; what is missing; what is in doubt.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::classify::inputs::DeviceInputs;
use crate::classify::rules::{built_in, built_in_ids};

fn exact(part: u128, whole: u128) -> Amount {
    Amount { least: part, most: part, whole }
}

fn direction(seen: Seen, packets: u64, amounts: &[(Metric, Amount)]) -> DirectionInputs {
    DirectionInputs { seen, packets, amounts: amounts.iter().copied().collect() }
}

fn leg(directions: Vec<DirectionInputs>, round_trip: Option<Amount>) -> LegInputs {
    LegInputs { leg: 0, source: LegSource::Summary, directions, round_trip }
}

fn call(legs: Vec<LegInputs>) -> CallInputs {
    CallInputs {
        standing: Standing::Closed,
        is_rehearsal: false,
        setup_failure: None,
        legs,
        devices: Vec::new(),
    }
}

fn device(metric: Metric, amount: Amount) -> DeviceInputs {
    DeviceInputs { name: "USB Room Mic".to_owned(), amounts: BTreeMap::from([(metric, amount)]) }
}

/// A call of which one amount is known, and a good leg beside a device.
fn one(metric: Metric, amount: Amount) -> CallInputs {
    let good = || direction(Seen::Received, 600, &[(Metric::Jitter, exact(0, 1))]);
    if metric.is_of_device() {
        return CallInputs {
            devices: vec![device(metric, amount)],
            ..call(vec![leg(vec![good()], None)])
        };
    }
    if metric == Metric::RoundTrip {
        return call(vec![leg(vec![direction(Seen::Received, 600, &[])], Some(amount))]);
    }
    call(vec![leg(vec![direction(Seen::Received, 600, &[(metric, amount)])], None)])
}

/// An amount in front of, on and behind a bound by the smallest part that the measurement has, and the ratings.
type Edge = (&'static str, Metric, [Amount; 3], [Rating; 3]);

fn edges() -> Vec<Edge> {
    let strictly = [Rating::Good, Rating::Good, Rating::Poor];
    let from = [Rating::Good, Rating::Poor, Rating::Poor];
    let ratio = |part: u64, whole| Amount::ratio(part, whole).unwrap();
    // 30 ms are 300 steps: 300,000 over 1,000 packets.
    let jitter = [299_999, 300_000, 300_001].map(|part| exact(part, 1_000));
    // One packet more or less in a million.
    let loss = [99_999, 100_000, 100_001].map(|lost| ratio(lost, 1_000_000));
    // 500 ms are 5,000 steps: 60,000 over 12 round trips.
    let round_trip = [59_999, 60_000, 60_001].map(|part| exact(part, 12));
    // A degradation of 1.000 over 60 s, and a thousandth for one microsecond less or more.
    let degradation =
        [59_999_999_999, 60_000_000_000, 60_000_000_001].map(|part| exact(part, 60_000_000));
    // 7 % of 60 s are 4.2 s.
    let concealed = [4_199_999, 4_200_000, 4_200_001].map(|us| ratio(us, 60_000_000));
    // 0.005 of 600 s are 3 s.
    let device = [2_999_999, 3_000_000, 3_000_001].map(|us| ratio(us, 600_000_000));
    vec![
        ("seed-1", Metric::Jitter, jitter, strictly),
        ("seed-1", Metric::Loss, loss, strictly),
        ("seed-1", Metric::RoundTrip, round_trip, strictly),
        ("seed-1", Metric::Degradation, degradation, strictly),
        ("seed-1", Metric::Concealed, concealed, strictly),
        ("seed-1", Metric::CaptureNotFunctioning, device, from),
        ("seed-1", Metric::RenderNotFunctioning, device, from),
        ("cqd-classic-1", Metric::Jitter, jitter, strictly),
        ("cqd-classic-1", Metric::Loss, loss, strictly),
        ("cqd-classic-1", Metric::RoundTrip, round_trip, strictly),
        ("cqd-classic-1", Metric::Degradation, degradation, strictly),
        ("cqd-classic-1", Metric::Concealed, concealed, strictly),
        ("cqd-current-1", Metric::Jitter, jitter, strictly),
        ("cqd-current-1", Metric::Loss, loss, strictly),
        ("cqd-current-1", Metric::RoundTrip, round_trip, strictly),
    ]
}

#[test]
fn every_rule_breaks_where_its_publisher_says_and_nowhere_else() {
    let mut seen: Vec<(&str, Metric)> = Vec::new();
    for (set, metric, amounts, ratings) in edges() {
        let rules = built_in(set).unwrap();
        for (amount, rating) in amounts.into_iter().zip(ratings) {
            let verdict = judge(&rules, &one(metric, amount));
            assert_eq!(verdict.call.rating, rating, "{set} {metric:?} {amount:?}");
            let broken: Vec<Metric> = verdict
                .call
                .reasons
                .iter()
                .map(|it| match it {
                    Reason::Bound(finding) => finding.metric,
                    Reason::Setup { .. } => panic!("nothing of the set-up was said"),
                })
                .collect();
            let expected = if rating == Rating::Poor { vec![metric] } else { Vec::new() };
            assert_eq!(broken, expected, "{set} {metric:?} {amount:?}");
        }
        seen.push((set, metric));
    }
    for set in built_in_ids() {
        for rule in built_in(set).unwrap().poor {
            assert!(seen.contains(&(set, rule.metric)), "no edge of {set} {:?}", rule.metric);
        }
    }
}

#[test]
fn every_item_holds_from_its_bound_on() {
    for set in built_in_ids() {
        let rules = built_in(set).unwrap();
        for (metric, steps, below, at, above) in [
            // In steps: 15 ms, 30 ms strictly.
            (Metric::Jitter, 150, None, Some(Colour::Yellow), Some(Colour::Yellow)),
            (Metric::Jitter, 300, Some(Colour::Yellow), Some(Colour::Yellow), Some(Colour::Red)),
            (Metric::Loss, 10_000, None, Some(Colour::Yellow), Some(Colour::Yellow)),
            (
                Metric::Loss,
                50_000,
                Some(Colour::Yellow),
                Some(Colour::Yellow),
                Some(Colour::Yellow),
            ),
            (Metric::Loss, 100_000, Some(Colour::Yellow), Some(Colour::Yellow), Some(Colour::Red)),
            (Metric::WorstLoss, 10_000, None, Some(Colour::Yellow), Some(Colour::Yellow)),
            (Metric::RoundTrip, 1_000, None, Some(Colour::Yellow), Some(Colour::Yellow)),
            (
                Metric::RoundTrip,
                5_000,
                Some(Colour::Yellow),
                Some(Colour::Yellow),
                Some(Colour::Red),
            ),
            (Metric::Reordered, 500, None, Some(Colour::Yellow), Some(Colour::Yellow)),
            (Metric::Degradation, 500, None, Some(Colour::Yellow), Some(Colour::Yellow)),
            (
                Metric::Degradation,
                1_000,
                Some(Colour::Yellow),
                Some(Colour::Yellow),
                Some(Colour::Red),
            ),
            (Metric::Concealed, 30_000, None, None, Some(Colour::Yellow)),
            (
                Metric::Concealed,
                70_000,
                Some(Colour::Yellow),
                Some(Colour::Yellow),
                Some(Colour::Red),
            ),
            (Metric::CaptureNotFunctioning, 5_000, None, Some(Colour::Red), Some(Colour::Red)),
            (Metric::RenderNotFunctioning, 5_000, None, Some(Colour::Red), Some(Colour::Red)),
            (Metric::CaptureGlitches, 10, None, Some(Colour::Yellow), Some(Colour::Yellow)),
            (Metric::RenderGlitches, 10, None, Some(Colour::Yellow), Some(Colour::Yellow)),
        ] {
            for (part, expected) in
                [(steps * 100 - 1, below), (steps * 100, at), (steps * 100 + 1, above)]
            {
                let verdict = judge(&rules, &one(metric, exact(part, 100)));
                let items = verdict.call.items.iter().chain(&verdict.legs[0].1.items);
                let colour = items.filter(|it| it.finding.metric == metric).map(|it| it.colour);
                let found: Vec<Colour> = colour.collect();
                assert_eq!(found, Vec::from_iter(expected), "{set} {metric:?} {part}/100");
            }
        }
    }
}

#[test]
fn setup_failures_of_20_to_29_are_poor_and_their_neighbours_are_not() {
    let rules = built_in("seed-1").unwrap();
    for (code, rating) in [
        (19, Rating::Unavailable),
        (20, Rating::Poor),
        (29, Rating::Poor),
        (30, Rating::Unavailable),
    ] {
        let inputs = CallInputs { setup_failure: Some(code), ..call(Vec::new()) };
        let verdict = judge(&rules, &inputs);
        assert_eq!(verdict.call.rating, rating, "{code}");
        let is_named = matches!(verdict.call.reasons[..], [Reason::Setup { code: found, .. }] if found == code);
        assert_eq!(is_named, rating == Rating::Poor, "{code}");
    }
    let verdict = judge(
        &built_in("cqd-current-1").unwrap(),
        &CallInputs { setup_failure: Some(20), ..call(Vec::new()) },
    );
    assert_eq!(verdict.call.rating, Rating::Unavailable, "CQD's stream classifier has no set-up");
}

/// More than 500 packets, so 501.
#[test]
fn current_cqd_leaves_out_directions_with_500_packets() {
    let awful = |packets| {
        let amounts = [(Metric::Loss, Amount::ratio(1, 2).unwrap())];
        call(vec![leg(vec![direction(Seen::Received, packets, &amounts)], Some(exact(9_999, 1)))])
    };
    let rules = built_in("cqd-current-1").unwrap();
    let verdict = judge(&rules, &awful(500)).call;
    assert_eq!((verdict.rating, verdict.why), (Rating::Unavailable, Some(Why::TooFewPackets)));
    assert!(verdict.items.is_empty());
    assert_eq!(judge(&rules, &awful(501)).call.rating, Rating::Poor);
    assert_eq!(judge(&built_in("cqd-classic-1").unwrap(), &awful(1)).call.rating, Rating::Poor);
}

#[test]
fn why_says_what_is_missing() {
    let rules = built_in("seed-1").unwrap();
    let nothing = LegInputs { source: LegSource::Nothing, ..leg(Vec::new(), None) };
    for (standing, legs, why) in [
        (Standing::Closed, vec![], Why::NoLegs),
        (Standing::Open, vec![], Why::StillOpen),
        (Standing::Silent, vec![], Why::EndpointGone),
        (Standing::Closed, vec![nothing.clone()], Why::NothingTold),
        (Standing::Open, vec![nothing.clone()], Why::StillOpen),
        (Standing::Silent, vec![nothing], Why::EndpointGone),
        (Standing::Closed, vec![leg(Vec::new(), Some(exact(9_999, 1)))], Why::NoAudio),
        (
            Standing::Closed,
            vec![leg(vec![direction(Seen::Received, 9, &[])], None)],
            Why::NotMeasured,
        ),
    ] {
        let inputs = CallInputs { standing, ..call(legs) };
        let verdict = judge(&rules, &inputs);
        assert_eq!((verdict.call.rating, verdict.call.why), (Rating::Unavailable, Some(why)));
        assert!(verdict.call.reasons.is_empty());
    }
}

/// Lost 120 of 1,000, of which the tap may have lost some: with 20 of them 100 of 1,000 are left, which is not above
/// 0.1; with 19 the network lost 101.
#[test]
fn loss_that_may_be_our_own_makes_neither_poor_nor_good() {
    let rules = built_in("seed-1").unwrap();
    let lost = |least: u128| Amount { least: least * 1_000_000, most: 120_000_000, whole: 1_000 };
    let of = |amount| judge(&rules, &one(Metric::Loss, amount)).call;
    let doubtful = of(lost(100));
    assert_eq!((doubtful.rating, doubtful.why), (Rating::Unavailable, Some(Why::TapDrops)));
    assert_eq!(of(lost(101)).rating, Rating::Poor);
    // All 90 of 1,000 are below the bound whoever lost them.
    let low = Amount { least: 0, most: 90_000_000, whole: 1_000 };
    assert_eq!(of(low).rating, Rating::Good);
}

#[test]
fn device_alone_makes_poor_and_never_good() {
    let rules = built_in("seed-1").unwrap();
    let with = |part| {
        let amount = Amount::ratio(part, 600).unwrap();
        let devices = vec![device(Metric::RenderNotFunctioning, amount)];
        judge(&rules, &CallInputs { devices, ..call(Vec::new()) }).call.rating
    };
    assert_eq!(with(0), Rating::Unavailable);
    // 3 of 600 are 0.005.
    assert_eq!(with(3), Rating::Poor);
}

#[test]
fn one_poor_leg_makes_the_call_poor_and_one_good_leg_is_enough_for_good() {
    let rules = built_in("seed-1").unwrap();
    let of =
        |dms| leg(vec![direction(Seen::Received, 9, &[(Metric::Jitter, exact(dms, 1))])], None);
    let silent = LegInputs { source: LegSource::Nothing, ..leg(Vec::new(), None) };
    let rate = |legs| judge(&rules, &call(legs)).call.rating;
    assert_eq!(rate(vec![of(1), of(301)]), Rating::Poor);
    assert_eq!(rate(vec![silent.clone(), of(1)]), Rating::Good);
    assert_eq!(rate(vec![silent]), Rating::Unavailable);
}

fn amount() -> impl Strategy<Value = Amount> {
    (0u128..2_000_000, 0u128..2_000_000, 1u128..1_000).prop_map(|(a, b, whole)| Amount {
        least: a.min(b),
        most: a.max(b),
        whole,
    })
}

proptest! {
    /// Each amount has its say alone: what is missing changes nothing, and good takes nothing but one that is kept.
    #[test]
    fn rating_is_made_of_the_amounts_that_are_there(
        amounts in prop::collection::btree_map(prop::sample::select(Metric::ALL.to_vec()), amount(), 0..8),
        set in prop::sample::select(vec!["seed-1", "cqd-classic-1", "cqd-current-1"]),
    ) {
        let rules = built_in(set).unwrap();
        let network: BTreeMap<_, _> =
            amounts.into_iter().filter(|(metric, _)| !metric.is_of_device()).collect();
        let make = |amounts: &BTreeMap<Metric, Amount>| {
            let round_trip = amounts.get(&Metric::RoundTrip).copied();
            let amounts: Vec<_> = amounts.iter().map(|(metric, it)| (*metric, *it)).collect();
            call(vec![leg(vec![direction(Seen::Received, 600, &amounts)], round_trip)])
        };
        let alone = |metric: &Metric, amount: &Amount| {
            judge(&rules, &make(&BTreeMap::from([(*metric, *amount)]))).call.rating
        };
        let ratings: Vec<Rating> = network.iter().map(|(m, a)| alone(m, a)).collect();
        let expected = if ratings.contains(&Rating::Poor) {
            Rating::Poor
        } else if ratings.contains(&Rating::Good) {
            Rating::Good
        } else {
            Rating::Unavailable
        };
        let inputs = make(&network);
        let verdict = judge(&rules, &inputs);
        prop_assert_eq!(verdict.call.rating, expected);
        // A device that could not be observed and a direction that nobody received say nothing.
        let mut more = inputs;
        more.devices.push(DeviceInputs { name: String::new(), amounts: BTreeMap::new() });
        more.legs[0].directions.push(direction(Seen::SentAsReported, 600, &[]));
        prop_assert_eq!(judge(&rules, &more).call, verdict.call);
    }

    /// What the tap dropped can take a verdict away and never turn poor into good or good into poor.
    #[test]
    fn doubt_only_takes_verdicts_away(metric in prop::sample::select(Metric::ALL.to_vec()), amount in amount()) {
        let rules = built_in("seed-1").unwrap();
        let rate = |amount| judge(&rules, &one(metric, amount)).legs[0].1.rating;
        let (least, most) = (exact(amount.least, amount.whole), exact(amount.most, amount.whole));
        let found = rate(amount);
        if found != Rating::Unavailable {
            prop_assert_eq!((rate(least), rate(most)), (found, found));
        }
    }
}
