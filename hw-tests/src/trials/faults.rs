//! Trials of the agent: a fault in a call, and what the collector shows of it.

use std::time::{Duration, Instant};

use super::scene::{Fault, Scene};
use super::{Group, Need, Trial, Verdict};
use crate::bench::report::Finding;
use crate::stage::CARD_WITHIN;
use crate::stage::call;
use crate::stage::sound::Side;

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
