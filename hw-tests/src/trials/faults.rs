//! Trials of the agent: a fault in a call, and what the collector shows of it.

use std::time::{Duration, Instant};

use super::scene::{Fault, PART_ERROR_MAX_US, Scene, wrong_time};
use super::{Group, Need, Trial, Verdict};
use crate::bench::report::{Finding, PartOfWhole};
use crate::stage::call;
use crate::stage::sound::Side;
use crate::stage::{CARD_WITHIN, wall_ms};

const LIMIT: Duration = Duration::from_secs(180);

pub(super) const UNPLUG: Trial = Trial {
    name: "unplug_in_a_call_is_removed",
    group: Group::Short,
    need: Need::Hands,
    limit: LIMIT,
    run: |stage| {
        Fault {
            side: Side::Capture,
            breaks: "unplug",
            mends: "plug",
            lasts: Duration::from_secs(10),
            cause: "removed",
            onset_error_max_ms: 300.0,
        }
        .run(stage)
    },
};

pub(super) const STALL_CAPTURE: Trial = Trial {
    name: "hanging_microphone_is_stalled",
    group: Group::Short,
    need: Need::Faults,
    limit: LIMIT,
    run: |stage| stalled(Side::Capture, "stall in").run(stage),
};

pub(super) const STALL_RENDER: Trial = Trial {
    name: "hanging_loudspeaker_is_stalled",
    group: Group::All,
    need: Need::Faults,
    limit: LIMIT,
    run: |stage| stalled(Side::Render, "stall out").run(stage),
};

pub(super) const NO_DATA: Trial = Trial {
    name: "empty_packets_are_stalled",
    group: Group::All,
    need: Need::Faults,
    limit: LIMIT,
    run: |stage| stalled(Side::Capture, "nodata").run(stage),
};

pub(super) const PACKET_ERRORS: Trial = Trial {
    name: "broken_packets_from_the_microphone_are_stalled",
    group: Group::All,
    need: Need::Faults,
    limit: LIMIT,
    run: |stage| stalled(Side::Capture, "error in 71").run(stage),
};

pub(super) const RENDER_ERRORS: Trial = Trial {
    name: "broken_packets_to_the_loudspeaker_are_no_false_cause",
    group: Group::All,
    need: Need::Faults,
    limit: LIMIT,
    run: |stage| {
        // The kernel's counters stay healthy: only a self-test can find this, and nothing else may claim to have.
        let scene = Scene::begin(stage, Some(Side::Render), 25)?;
        scene.stage.hands.tell("error out 71")?;
        std::thread::sleep(Duration::from_secs(8));
        scene.stage.hands.tell("resume")?;
        scene.without_episode(Side::Render)
    },
};

pub(super) const BUSY_IS_NO_FAULT: Trial = Trial {
    name: "device_held_by_a_healthy_application_is_no_fault",
    group: Group::Short,
    need: Need::Device,
    limit: LIMIT,
    run: |stage| {
        let scene = Scene::begin(stage, Some(Side::Capture), 20)?;
        scene.without_episode(Side::Capture)
    },
};

pub(super) const BUTTON_IS_NO_FAULT: Trial = Trial {
    name: "muted_by_its_button_is_no_fault",
    group: Group::All,
    need: Need::Hands,
    limit: LIMIT,
    run: |stage| {
        let scene = Scene::begin(stage, Some(Side::Capture), 30)?;
        scene.stage.hands.tell("button")?;
        std::thread::sleep(Duration::from_secs(10));
        scene.stage.hands.tell("button")?;
        scene.without_episode(Side::Capture)
    },
};

pub(super) const FLAPS_ARE_ONE_EPISODE: Trial = Trial {
    name: "twenty_flaps_in_a_minute_are_one_episode",
    group: Group::All,
    need: Need::Faults,
    limit: Duration::from_secs(240),
    run: |stage| {
        const FLAPS: u32 = 20;
        let scene = Scene::begin(stage, Some(Side::Capture), 90)?;
        let started = Instant::now();
        for flap in 1..=FLAPS {
            scene.stage.hands.tell("unplug")?;
            scene.stage.card.wait_absent(CARD_WITHIN)?;
            scene.stage.hands.tell("plug")?;
            scene.stage.card.wait_present(CARD_WITHIN)?;
            // Three seconds a flap; one that took longer is not made up for.
            let next = started + Duration::from_secs(3) * flap;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        let shown = scene.finish()?;
        let episodes = call::episodes(&shown.call, &shown.card, Side::Capture);
        let causes: Vec<&str> = episodes.iter().map(|it| it.cause.as_str()).collect();
        let finding = Finding {
            cause: episodes.first().map(|episode| episode.cause.clone()),
            seen: Some(format!("{} episodes", episodes.len())),
            ..Finding::default()
        };
        let many = (episodes.len() != 1).then(|| format!("episodes {causes:?}"));
        Ok(Verdict::judge(finding, [many]))
    },
};

pub(super) const CRASH_COUNTS_ONCE: Trial = Trial {
    name: "agent_killed_in_a_fault_counts_bad_time_once",
    group: Group::All,
    need: Need::Faults,
    limit: Duration::from_secs(240),
    run: |stage| {
        let scene = Scene::begin(stage, Some(Side::Capture), 60)?;
        std::thread::sleep(Duration::from_secs(3));
        let began_ms = scene.stage.hands.tell("stall in")?;
        std::thread::sleep(Duration::from_secs(10));
        scene.stage.watched()?.crash_agent()?;
        let left = 20_000.0 - (wall_ms() - began_ms);
        std::thread::sleep(Duration::from_secs_f64(left.max(0.0) / 1e3));
        let ended_ms = scene.stage.hands.tell("resume")?;
        let shown = scene.finish()?;
        let episodes = call::episodes(&shown.call, &shown.card, Side::Capture);
        let bad_us: u64 = episodes.iter().map(|episode| episode.bad_us).sum();
        let truth_us = ((ended_ms - began_ms) * 1e3) as u64;
        let finding = Finding {
            cause: episodes.first().map(|episode| episode.cause.clone()),
            ratio: call::not_functioning(&shown.call, &shown.card, Side::Capture),
            truth: Some(PartOfWhole { part_us: truth_us, whole_us: shown.whole_us }),
            seen: Some(format!("{} episodes", episodes.len())),
            ..Finding::default()
        };
        Ok(Verdict::judge(finding, [wrong_time("bad", bad_us, truth_us, PART_ERROR_MAX_US)]))
    },
};

fn stalled(side: Side, breaks: &'static str) -> Fault {
    Fault {
        side,
        breaks,
        mends: "resume",
        lasts: Duration::from_secs(8),
        cause: "stalled",
        onset_error_max_ms: 500.0,
    }
}
