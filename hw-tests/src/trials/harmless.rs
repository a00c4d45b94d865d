//! Trials of what is no fault: nothing may be told of it but its time.

use std::time::{Duration, Instant};

use super::scene::Scene;
use super::{Group, Need, Trial};
use crate::stage::sound::Side;
use crate::stage::wall_ms;

const LIMIT: Duration = Duration::from_secs(180);

pub(super) const BUSY: Trial = Trial {
    name: "device_held_by_a_healthy_application_is_no_fault",
    group: Group::Short,
    need: Need::Device,
    limit: LIMIT,
    run: |stage| {
        let scene = Scene::begin(stage, Some(Side::Capture), 20)?;
        scene.without_episode(Side::Capture)
    },
};

pub(super) const BUTTON: Trial = Trial {
    name: "muted_by_its_button_is_no_fault",
    group: Group::All,
    need: Need::Hands,
    limit: LIMIT,
    run: |stage| {
        let scene = Scene::begin(stage, Some(Side::Capture), 30)?;
        let muted_ms = scene.stage.hands.tell("button")?;
        std::thread::sleep(Duration::from_secs(10));
        let truth_us = ((scene.stage.hands.tell("button")? - muted_ms) * 1e3) as u64;
        scene.muted(Side::Capture, truth_us)
    },
};

pub(super) const MIXER: Trial = Trial {
    name: "muted_by_the_mixer_is_no_fault",
    group: Group::Short,
    need: Need::Faults,
    limit: LIMIT,
    run: |stage| {
        let scene = Scene::begin(stage, Some(Side::Capture), 22)?;
        std::thread::sleep(Duration::from_secs(3));
        let switch = |position| scene.stage.card.mixer(&["sset", "Mic", position]);
        switch("nocap")?;
        let muted_ms = wall_ms();
        std::thread::sleep(Duration::from_secs(8));
        switch("cap")?;
        let truth_us = ((wall_ms() - muted_ms) * 1e3) as u64;
        scene.muted(Side::Capture, truth_us)
    },
};

pub(super) const CLOSED: Trial = Trial {
    name: "device_closed_and_opened_in_a_call_is_no_fault",
    group: Group::All,
    need: Need::Device,
    limit: LIMIT,
    run: |stage| {
        let scene = Scene::begin(stage, None, 40)?;
        let until = Instant::now() + Duration::from_secs(25);
        while Instant::now() < until {
            let holder = scene.stage.card.hold(Side::Capture)?;
            scene.wait_moving(Side::Capture)?;
            std::thread::sleep(Duration::from_secs(3));
            drop(holder);
            // An application that a user paused for longer than any limit of the rules.
            std::thread::sleep(Duration::from_secs(6));
        }
        scene.without_episode(Side::Capture)
    },
};
