//! Trials of a sound server that owns the microphone, as on most desktops.

use std::time::Duration;

use super::scene::{Scene, Truth, VISIBLE_WITHIN_MS, wrong_time};
use super::{Group, Need, Trial, Verdict};
use crate::bench::report::{Finding, PartOfWhole};
use crate::stage::call;
use crate::stage::server::Server;
use crate::stage::sound::Side;
use crate::stage::{wait_for, wall_ms};

const LIMIT: Duration = Duration::from_secs(180);
/// Longer than any trial: the server keeps the microphone.
const NEVER_IDLE_S: u32 = 3_600;

pub(super) const KILLED: Trial = Trial {
    name: "sound_server_killed_in_a_call_is_server_lost",
    group: Group::All,
    need: Need::Guest,
    limit: LIMIT,
    run: |stage| {
        let mut scene = Scene::begin(stage, None, 45)?;
        let _trace = scene.stage.trace(Side::Capture, "server-killed")?;
        let (card, state) = (scene.stage.card.clone(), scene.stage.state().to_owned());
        let server = Server::start(&card, &state, NEVER_IDLE_S)?;
        let _recorder = server.record()?;
        scene.wait_moving(Side::Capture)?;
        std::thread::sleep(Duration::from_secs(3));
        let killed_ms = wall_ms();
        server.kill()?;
        let sighted = scene.sight(Side::Capture, killed_ms, VISIBLE_WITHIN_MS);
        let left = 8.0 - (wall_ms() - killed_ms) / 1e3;
        std::thread::sleep(Duration::from_secs_f64(left.max(0.0)));
        // Killing it again with the trial would end nothing: dropped when all is judged.
        let _server = Server::start(&card, &state, NEVER_IDLE_S)?;
        let ended_ms = scene.wait_moving(Side::Capture)?;
        let truth = Truth {
            side: Side::Capture,
            cause: "serverLost",
            onset_ms: killed_ms,
            ended_ms,
            onset_error_max_ms: 500.0,
            visible_within_ms: VISIBLE_WITHIN_MS,
        };
        scene.judge(&truth, &sighted?)
    },
};

pub(super) const SUSPENDS_IDLE: Trial = Trial {
    name: "microphone_that_its_server_suspends_as_idle_is_no_fault",
    group: Group::All,
    need: Need::Guest,
    limit: LIMIT,
    run: |stage| {
        let scene = Scene::begin(stage, None, 35)?;
        let (card, state) = (scene.stage.card.clone(), scene.stage.state().to_owned());
        let server = Server::start(&card, &state, 2)?;
        for _ in 0..2 {
            let recorder = server.record()?;
            scene.wait_moving(Side::Capture)?;
            std::thread::sleep(Duration::from_secs(4));
            drop(recorder);
            wait_for("a microphone that its server let go of", Duration::from_secs(10), || {
                Ok((card.status(Side::Capture)?.state == "closed").then_some(()))
            })?;
        }
        scene.without_episode(Side::Capture)
    },
};

pub(super) const MUTES: Trial = Trial {
    name: "microphone_muted_at_its_server_is_muted_and_no_fault",
    group: Group::All,
    need: Need::Guest,
    limit: LIMIT,
    run: |stage| {
        let scene = Scene::begin(stage, None, 30)?;
        let (card, state) = (scene.stage.card.clone(), scene.stage.state().to_owned());
        let server = Server::start(&card, &state, NEVER_IDLE_S)?;
        let _recorder = server.record()?;
        scene.wait_moving(Side::Capture)?;
        server.mute("1")?;
        let muted_ms = wall_ms();
        std::thread::sleep(Duration::from_secs(8));
        server.mute("0")?;
        let truth_us = ((wall_ms() - muted_ms) * 1e3) as u64;
        scene.muted(Side::Capture, truth_us)
    },
};

impl Scene<'_> {
    /// Waits for the call's end; the device must have been muted for `truth_us`, and nothing may have failed.
    pub(super) fn muted(self, side: Side, truth_us: u64) -> anyhow::Result<Verdict> {
        let shown = self.finish()?;
        let muted = call::muted(&shown.call, &shown.card, side);
        let part_us = muted.map_or(0, |muted| muted.part_us);
        let finding = Finding {
            ratio: muted,
            truth: Some(PartOfWhole { part_us: truth_us, whole_us: shown.whole_us }),
            seen: Some("of muted time".to_owned()),
            ..Finding::default()
        };
        let checks = [
            shown.false_episode(),
            muted.is_none().then(|| "the device was not observed".to_owned()),
            wrong_time("muted", part_us, truth_us, MUTED_ERROR_MAX_US),
        ];
        Ok(Verdict::judge(finding, checks))
    }
}

/// A mixer tells a mute at once; the rest is for the tool that mutes, in an emulated machine.
const MUTED_ERROR_MAX_US: u64 = 500_000;
