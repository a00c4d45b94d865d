//! Trials of a machine that sleeps in a call.

use std::time::Duration;

use anyhow::Result;

use super::scene::{HEALTHY, Scene, Truth, VISIBLE_WITHIN_MS};
use super::{Group, Need, Trial, Verdict};
use crate::stage::sound::Side;
use crate::stage::{Stage, power, wait_for, wall_ms};

/// Held without running for so long after a sleep is the rule.
const RULE_WAITS_MS: f64 = 3_000.0;

pub(super) const SUSPENDED: Trial = Trial {
    name: "stream_left_prepared_by_a_sleep_is_suspended",
    group: Group::All,
    need: Need::Guest,
    limit: Duration::from_secs(180),
    run,
};

fn run(stage: &mut Stage) -> Result<Verdict> {
    let bad = Duration::from_secs(20);
    let mut scene = Scene::begin(stage, None, 50)?;
    let _trace = scene.stage.trace(Side::Capture, "suspended")?;
    let mut holder = scene.stage.card.hold_stubbornly()?;
    scene.wait_moving(Side::Capture)?;
    std::thread::sleep(Duration::from_secs(3));
    // Streams stop within the first milliseconds of it.
    let slept_ms = wall_ms();
    power::sleep_devices()?;
    let woken_ms = wall_ms();
    let card = scene.stage.card.clone();
    wait_for("a prepared stream", Duration::from_secs(10), || {
        Ok((card.status(Side::Capture)?.state == "PREPARED").then_some(()))
    })?;
    // Nobody is told anything by a machine that sleeps.
    let visible_within_ms = (woken_ms - slept_ms) + RULE_WAITS_MS + VISIBLE_WITHIN_MS;
    let sighted = scene.sight(Side::Capture, slept_ms, visible_within_ms);
    let left = bad.as_secs_f64() - (wall_ms() - slept_ms) / 1e3;
    std::thread::sleep(Duration::from_secs_f64(left.max(0.0)));
    holder.start_again()?;
    let ended_ms = scene.wait_moving(Side::Capture)?;
    std::thread::sleep(HEALTHY);
    let truth = Truth {
        side: Side::Capture,
        cause: "suspended",
        onset_ms: slept_ms,
        ended_ms,
        onset_error_max_ms: 500.0,
        visible_within_ms,
    };
    scene.judge(&truth, &sighted?)
}
