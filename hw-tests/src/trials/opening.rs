//! Trials of devices that fail where a program opens them: it opens and nothing comes, or the open itself fails.
//!
//! The onset is the moment of the first attempt. Nothing can be told of a device before the rule has waited for it, so
//! what is promised for the way to the collector counts from there.

use std::time::Duration;

use super::scene::{HEALTHY, Scene, Truth, VISIBLE_WITHIN_MS};
use super::{Group, Need, Trial, Verdict};
use crate::stage::sound::{Side, Waits};
use crate::stage::{Stage, wall_ms};

/// No first progress for so long after the start is the rule of `neverStarted` and of `openFailed`.
const RULE_WAITS_MS: f64 = 3_000.0;
const LIMIT: Duration = Duration::from_secs(180);

/// A device that is broken before anybody opens it.
struct Opening {
    breaks: &'static str,
    waits: Waits,
    cause: &'static str,
    /// The name of the kernel's trace.
    trace: &'static str,
}

pub(super) const NEVER_STARTED: Trial = Trial {
    name: "device_that_opens_and_never_delivers_is_never_started",
    group: Group::All,
    need: Need::Faults,
    limit: LIMIT,
    run: |stage| {
        Opening {
            breaks: "stall in",
            waits: Waits::ByPoll,
            cause: "neverStarted",
            trace: "never-started",
        }
        .run(stage)
    },
};

pub(super) const NEVER_STARTED_BLOCKED: Trial = Trial {
    name: "silent_device_behind_a_blocking_reader_is_never_started_once",
    group: Group::All,
    need: Need::Faults,
    limit: LIMIT,
    run: |stage| {
        // The blocking read ends with an error after 0.4 s and the program opens again: the device flaps.
        Opening {
            breaks: "stall in",
            waits: Waits::Blocked,
            cause: "neverStarted",
            trace: "never-started-blocked",
        }
        .run(stage)
    },
};

pub(super) const CONTROL_HANG: Trial = Trial {
    name: "device_whose_control_hangs_at_open_is_open_failed",
    group: Group::All,
    need: Need::Faults,
    limit: LIMIT,
    run: |stage| {
        // The application waits 5 s for each request that the driver makes, and then gets an error.
        Opening {
            breaks: "control hang",
            waits: Waits::ByPoll,
            cause: "openFailed",
            trace: "control-hang",
        }
        .run(stage)
    },
};

pub(super) const CONTROL_STALL: Trial = Trial {
    name: "device_that_refuses_control_at_open_is_open_failed",
    group: Group::All,
    need: Need::Faults,
    limit: LIMIT,
    run: |stage| {
        // Each attempt fails at once, and the application tries again after 0.2 s.
        Opening {
            breaks: "control stall",
            waits: Waits::ByPoll,
            cause: "openFailed",
            trace: "control-stall",
        }
        .run(stage)
    },
};

pub(super) const STALL_BLOCKED: Trial = Trial {
    name: "stall_behind_a_blocking_reader_is_one_episode",
    group: Group::All,
    need: Need::Faults,
    limit: LIMIT,
    run: |stage| {
        let mut scene = Scene::begin(stage, None, 40)?;
        let _trace = scene.stage.trace(Side::Capture, "stall-blocked")?;
        let _holder = scene.stage.card.try_hold(Side::Capture, Waits::Blocked)?;
        scene.wait_moving(Side::Capture)?;
        std::thread::sleep(Duration::from_secs(3));
        let broken_ms = scene.stage.hands.tell("stall in")?;
        let sighted = scene.sight(Side::Capture, broken_ms, VISIBLE_WITHIN_MS);
        std::thread::sleep(Duration::from_secs(6));
        scene.stage.hands.tell("resume")?;
        let ended_ms = scene.wait_moving(Side::Capture)?;
        let truth = Truth {
            side: Side::Capture,
            cause: "stalled",
            onset_ms: broken_ms,
            ended_ms,
            onset_error_max_ms: 500.0,
            visible_within_ms: VISIBLE_WITHIN_MS,
        };
        scene.judge(&truth, &sighted?)
    },
};

impl Opening {
    fn run(&self, stage: &mut Stage) -> anyhow::Result<Verdict> {
        let visible_within_ms = RULE_WAITS_MS + VISIBLE_WITHIN_MS;
        let bad = Duration::from_secs(20);
        let seconds = bad.as_secs() + HEALTHY.as_secs() + 5;
        let mut scene = Scene::begin(stage, None, u32::try_from(seconds)?)?;
        let _trace = scene.stage.trace(Side::Capture, self.trace)?;
        scene.stage.hands.tell(self.breaks)?;
        let opened_ms = wall_ms();
        let _holder = scene.stage.card.try_hold(Side::Capture, self.waits)?;
        let sighted = scene.sight(Side::Capture, opened_ms, visible_within_ms);
        let left = bad.as_secs_f64() - (wall_ms() - opened_ms) / 1e3;
        std::thread::sleep(Duration::from_secs_f64(left.max(0.0)));
        scene.stage.hands.tell("resume")?;
        // What the application can use again is what works again, and it tries every 0.2 s.
        let ended_ms = scene.wait_moving(Side::Capture)?;
        let truth = Truth {
            side: Side::Capture,
            cause: self.cause,
            onset_ms: opened_ms,
            ended_ms,
            onset_error_max_ms: 500.0,
            visible_within_ms,
        };
        scene.judge(&truth, &sighted?)
    }
}
