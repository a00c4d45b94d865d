//! A trial of an agent that is killed in the middle of a fault.
//!
//! The killed agent's call and the call of the agent after it are two at the collector. What holds for the meeting is
//! their sum: bad time is in it once. Between the kill and the second call's first proof nobody watches; that gap may
//! be told as bad, because the episode was open before and after, or be left out, but never be told twice.

use std::time::Duration;

use anyhow::Context;

use super::scene::{PART_ERROR_MAX_US, Scene, wrong_cause};
use super::{Group, Need, Trial, Verdict};
use crate::bench::report::{Finding, PartOfWhole};
use crate::stage::call;
use crate::stage::sound::Side;
use crate::stage::wall_ms;

/// The whole fault.
const LASTS_MS: f64 = 20_000.0;
/// From the kill until the second agent has proven the call again; beyond it, restarting loses too much.
const GAP_MAX_US: u64 = 5_000_000;

pub(super) const COUNTS_ONCE: Trial = Trial {
    name: "agent_killed_in_a_fault_counts_bad_time_once",
    group: Group::All,
    need: Need::Faults,
    limit: Duration::from_secs(240),
    run: |stage| {
        let mut scene = Scene::begin(stage, Some(Side::Capture), 60)?;
        std::thread::sleep(Duration::from_secs(3));
        let began_ms = scene.stage.hands.tell("stall in")?;
        let sighted = scene.sight(Side::Capture, began_ms, 5_000.0)?;
        std::thread::sleep(Duration::from_secs(6));
        scene.stage.watched()?.crash_agent()?;
        let left = LASTS_MS - (wall_ms() - began_ms);
        std::thread::sleep(Duration::from_secs_f64(left.max(0.0) / 1e3));
        let ended_ms = scene.stage.hands.tell("resume")?;
        let truth_us = ((ended_ms - began_ms) * 1e3) as u64;
        let (calls, shown) = scene.finish_all()?;

        let side = Side::Capture;
        let ratios: Option<Vec<PartOfWhole>> =
            calls.iter().map(|it| call::not_functioning(it, &shown.card, side)).collect();
        // A call without an end has no ratio; its episodes tell what was bad in it so far.
        let episodes: Vec<_> =
            calls.iter().flat_map(|it| call::episodes(it, &shown.card, side)).collect();
        let bad_us: u64 = episodes.iter().map(|episode| episode.bad_us).sum();
        let sum = ratios.as_deref().map(|all| PartOfWhole {
            part_us: all.iter().map(|it| it.part_us).sum(),
            whole_us: all.iter().map(|it| it.whole_us).sum(),
        });
        let gap_us = sum.map(|sum| shown.whole_us.saturating_sub(sum.whole_us));
        let ends: Vec<String> = calls
            .iter()
            .map(|it| {
                let word = |key: &str| it[key].as_str().unwrap_or("-").to_owned();
                format!("{} {}", word("state"), word("closeReason"))
            })
            .collect();
        let last = episodes.last().context("the second call has no episode")?;
        let causes = episodes.iter().map(|it| wrong_cause(&it.cause, "stalled"));
        let checks = [
            (calls.len() != 2).then(|| format!("{} calls instead of two", calls.len())),
            calls
                .first()
                .filter(|first| first["closeReason"] != "agentStopped")
                .map(|first| format!("the killed agent's call ended by {}", first["closeReason"])),
            (last.state != "recovered")
                .then(|| format!("the last episode ended as {}", last.state)),
            sum.filter(|sum| sum.part_us.abs_diff(bad_us) > 1_000)
                .map(|sum| format!("episodes tell {bad_us} us, ratios {} us", sum.part_us)),
            (bad_us > truth_us + PART_ERROR_MAX_US)
                .then(|| format!("bad time {bad_us} us for {truth_us} us: told twice")),
            (bad_us + GAP_MAX_US + PART_ERROR_MAX_US < truth_us)
                .then(|| format!("bad time {bad_us} us for {truth_us} us: lost")),
            gap_us.filter(|gap| *gap > GAP_MAX_US).map(|gap| format!("{gap} us were not observed")),
        ];
        let checks: Vec<_> = checks.into_iter().chain(causes).collect();
        let seen = format!(
            "calls ended: {}; {} episodes, bad {:.2} s; observed by nobody: {}",
            ends.join(", "),
            episodes.len(),
            bad_us as f64 / 1e6,
            gap_us.map_or("unknown, as a call has no end".to_owned(), |gap| format!(
                "{:.2} s",
                gap as f64 / 1e6
            )),
        );
        let finding = Finding {
            cause: Some(last.cause.clone()),
            onset_error_ms: Some(sighted.episode.onset_ms - began_ms),
            detection_ms: Some(sighted.detection_ms),
            ratio: sum,
            truth: Some(PartOfWhole { part_us: truth_us, whole_us: shown.whole_us }),
            seen: Some(seen),
        };
        Ok(Verdict::judge(finding, checks))
    },
};
