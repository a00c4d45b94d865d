//! Trials of the self-test: what it hears, and what nothing else would have found.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Group, Need, Trial, Verdict};
use crate::pair::Place;
use crate::stage::Stage;
use crate::stage::sound::Side;

/// How much later the headset's microphone hears its loudspeaker.
const ECHO_MS: f64 = 100.0;
/// What the buffers of both sides may add: 100 ms of the loudspeaker's, as much of the microphone's, and an emulated
/// machine's lateness.
const BUFFERS_MS_MAX: f64 = 400.0;
/// Played at -30 dBFS, and an echo is a quarter as loud: 12.04 dB less.
const HEARD_DBFS: f64 = -42.0;

pub(super) const HEARS: Trial = Trial {
    name: "selftest_hears_the_loudspeaker_in_the_microphone",
    group: Group::Short,
    need: Need::Faults,
    limit: Duration::from_secs(60),
    run: |stage| {
        stage.hands.tell("echo 100")?;
        let (report, succeeded) = selftest(stage)?;
        let number = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
        let (delay, level, score) = (number("delayMs"), number("levelDbfs"), number("score"));
        let seen = format!("{delay:.0} ms, {level:.1} dBFS, score {score:.2}");
        let delays = ECHO_MS..ECHO_MS + BUFFERS_MS_MAX;
        Ok(Verdict {
            wrong: wrong_outcome(&report, "heard", succeeded)
                .or_else(|| {
                    // Buffers of an emulated machine overrun at times, and then there is no delay.
                    let is_told =
                        report["detail"].as_str().is_some_and(|it| it.contains("overran"));
                    let is_right = delays.contains(&delay) || (is_told && delay.is_nan());
                    (!is_right).then(|| format!("delay {delay:.0} ms"))
                })
                .or_else(|| {
                    let is_near = (level - HEARD_DBFS).abs() <= 2.0;
                    (!is_near).then(|| format!("level {level:.1} dBFS"))
                }),
            ..Verdict::seen(seen)
        })
    },
};

pub(super) const RENDER_ERRORS: Trial = Trial {
    name: "selftest_finds_broken_packets_to_the_loudspeaker",
    group: Group::All,
    need: Need::Faults,
    limit: Duration::from_secs(60),
    run: |stage| {
        stage.hands.tell("echo 100")?;
        stage.hands.tell("error out 71")?;
        found(stage, "notHeard")
    },
};

pub(super) const ZEROS: Trial = Trial {
    name: "selftest_finds_a_microphone_of_zeros",
    group: Group::All,
    need: Need::Faults,
    limit: Duration::from_secs(60),
    run: |stage| {
        stage.hands.tell("zero")?;
        found(stage, "noSignal")
    },
};

pub(super) const HANGING: Trial = Trial {
    name: "selftest_finds_a_microphone_that_delivers_nothing",
    group: Group::All,
    need: Need::Faults,
    limit: Duration::from_secs(60),
    run: |stage| {
        stage.hands.tell("stall in")?;
        found(stage, "noSignal")
    },
};

pub(super) const BUSY: Trial = Trial {
    name: "selftest_leaves_a_device_in_use_alone",
    group: Group::All,
    need: Need::Device,
    limit: Duration::from_secs(60),
    run: |stage| {
        let _holder = stage.card.hold(Side::Capture)?;
        let verdict = found(stage, "busy")?;
        let moved = stage.card.status(Side::Capture)?.state == "RUNNING";
        Ok(if moved { verdict } else { bail!("the application lost the device") })
    },
};

pub(super) const REQUEST: Trial = Trial {
    name: "operators_request_is_served_between_calls_and_refused_in_one",
    group: Group::All,
    need: Need::Device,
    limit: Duration::from_secs(180),
    run: |stage| requested(stage, &Place::new(stage.state())?),
};

/// What an operator's request brings is what somebody at the device would get, as the programs of `place` say it.
pub(super) fn requested(stage: &mut Stage, place: &Place) -> Result<Verdict> {
    stage.hands.tell("echo 100")?;
    // Nobody names a device: what is chosen here by hand is what the agent chooses.
    let by_hand = spoken(place, &[])?.0;
    let between = stage.watched()?.request_self_test()?;
    let call = stage.watched()?.place_call(20)?;
    let within = stage.watched()?.request_self_test()?;
    stage.watched()?.finish(call)?;
    let outcome = |it: &Value| it["outcome"].as_str().unwrap_or("-").to_owned();
    let (by_hand, between, within) = (outcome(&by_hand), outcome(&between), outcome(&within));
    Ok(Verdict {
        wrong: (between != by_hand)
            .then(|| format!("{between} on request, {by_hand} by hand"))
            .or_else(|| (within != "inCall").then(|| format!("{within} in a call"))),
        ..Verdict::seen(format!("{between} between calls, {within} in one"))
    })
}

fn found(stage: &mut Stage, outcome: &str) -> Result<Verdict> {
    let (report, succeeded) = selftest(stage)?;
    let seen = report["detail"].as_str().unwrap_or_default().to_owned();
    let wrong = wrong_outcome(&report, outcome, succeeded);
    Ok(Verdict { wrong, ..Verdict::seen(seen) })
}

fn wrong_outcome(report: &Value, expected: &str, succeeded: bool) -> Option<String> {
    let outcome = report["outcome"].as_str().unwrap_or_default();
    let is_told = succeeded == (outcome == "heard");
    if outcome != expected {
        return Some(format!("{outcome} instead of {expected}: {}", report["detail"]));
    }
    (!is_told).then(|| format!("{outcome}, and the exit status says otherwise"))
}

fn selftest(stage: &Stage) -> Result<(Value, bool)> {
    let card = stage.card.id();
    spoken(&Place::new(stage.state())?, &["--capture", card, "--render", card])
}

/// What somebody at the device types; its answer, and whether it ended with 0.
fn spoken(place: &Place, devices: &[&str]) -> Result<(Value, bool)> {
    let mut command = place.program("roomtone-agent");
    command.args(["selftest", "--json"]).args(devices);
    let output = command.stderr(Stdio::null()).output().context("cannot run the self-test")?;
    let report = serde_json::from_slice(&output.stdout).context("the self-test printed no JSON")?;
    Ok((report, output.status.success()))
}
