//! Trials of listening along: what the samples say that no counter does, and what they must not be taken for.
//!
//! The application shares its device, as ALSA's `sysdefault` does. Each trial starts the agent anew, because what one
//! learned of a microphone's silence holds for the next.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Group, Need, Trial, Verdict};
use crate::bench::report::{Finding, PartOfWhole};
use crate::stage::call::{self, Call};
use crate::stage::sound::{Holder, Side};
use crate::stage::{Stage, wait_for, wall_ms};

/// How long the agent must hear a microphone before it knows that its silence is not zero: 30 s of audio, and what an
/// emulated machine loses of it, whose shared streams overrun three times a second.
const LEARNS: Duration = Duration::from_secs(50);
/// How long a fault lasts.
const LASTS: Duration = Duration::from_secs(12);
/// An episode closes after 10 s of health.
const HEALTHY: Duration = Duration::from_secs(13);
/// An onset may be wrong by this much, in ms.
const ONSET_ERROR_MAX_MS: f64 = 500.0;

pub(super) const ZEROS: Trial = Trial {
    name: "zeros_after_real_audio_are_zero_signal",
    group: Group::All,
    need: Need::Faults,
    limit: Duration::from_secs(200),
    run: |stage| silent(stage, "zero", "zeroSignal", LEARNS, 8_000.0),
};

pub(super) const CONSTANT: Trial = Trial {
    name: "one_value_after_real_audio_is_constant_signal",
    group: Group::All,
    need: Need::Faults,
    limit: Duration::from_secs(160),
    run: |stage| silent(stage, "constant", "constantSignal", Duration::from_secs(10), 5_000.0),
};

pub(super) const MUTES: Trial = Trial {
    name: "microphone_that_is_muted_on_purpose_is_no_zero_signal",
    group: Group::All,
    need: Need::Faults,
    limit: Duration::from_secs(200),
    run: |stage| {
        let scene = Scene::begin(stage, true, LEARNS + Duration::from_secs(34))?;
        std::thread::sleep(LEARNS);
        scene.stage.hands.tell("button")?;
        std::thread::sleep(Duration::from_secs(10));
        scene.stage.hands.tell("button")?;
        std::thread::sleep(Duration::from_secs(3));
        scene.stage.card.mixer(&["sset", "Mic", "nocap"])?;
        std::thread::sleep(Duration::from_secs(10));
        scene.stage.card.mixer(&["sset", "Mic", "cap"])?;
        std::thread::sleep(Duration::from_secs(3));
        scene.without_episode(true)
    },
};

pub(super) const GATE: Trial = Trial {
    name: "microphone_that_gates_to_zeros_is_no_fault",
    group: Group::All,
    need: Need::Faults,
    limit: Duration::from_secs(200),
    run: |stage| {
        stage.hands.tell("gate 500 20000")?;
        let scene = Scene::begin(stage, true, Duration::from_secs(70))?;
        std::thread::sleep(Duration::from_secs(68));
        scene.without_episode(true)
    },
};

/// Comes before the others: where a program that shared its microphone was killed, alsa-lib's dsnoop lets us join
/// whoever opens it next, alone or not.
pub(super) const ALONE: Trial = Trial {
    name: "microphone_that_its_program_has_alone_is_busy_and_no_fault",
    group: Group::All,
    need: Need::Device,
    limit: Duration::from_secs(120),
    run: |stage| {
        let scene = Scene::begin(stage, false, Duration::from_secs(20))?;
        scene.without_episode(false)
    },
};

/// The microphone falls silent in its own way, and comes back.
fn silent(
    stage: &mut Stage,
    breaks: &str,
    cause: &str,
    after: Duration,
    visible_within_ms: f64,
) -> Result<Verdict> {
    let mut scene = Scene::begin(stage, true, after + LASTS + HEALTHY)?;
    std::thread::sleep(after);
    let broken_ms = scene.stage.hands.tell(breaks)?;
    let episode = scene.episode(LASTS)?;
    let detection_ms = wall_ms() - broken_ms;
    let left = LASTS.as_secs_f64() - (wall_ms() - broken_ms) / 1e3;
    std::thread::sleep(Duration::from_secs_f64(left.max(0.0)));
    let mended_ms = scene.stage.hands.tell("tone")?;
    let (shown, card, whole_us) = scene.finish()?;
    let episodes = call::episodes(&shown, &card, Side::Capture);
    let ratio = call::not_functioning(&shown, &card, Side::Capture);
    let truth_us = ((mended_ms - broken_ms) * 1e3) as u64;
    let onset_error_ms = episode.onset_ms - broken_ms;
    let finding = Finding {
        cause: Some(episode.cause.clone()),
        onset_error_ms: Some(onset_error_ms),
        detection_ms: Some(detection_ms),
        ratio,
        truth: Some(PartOfWhole { part_us: truth_us, whole_us }),
        seen: None,
    };
    let part_error_us = ratio.map(|ratio| ratio.part_us.abs_diff(truth_us));
    Ok(Verdict::judge(
        finding,
        [
            (episode.cause != cause).then(|| format!("cause {} instead of {cause}", episode.cause)),
            (onset_error_ms.abs() > ONSET_ERROR_MAX_MS)
                .then(|| format!("onset {onset_error_ms:+.0} ms off")),
            (detection_ms > visible_within_ms)
                .then(|| format!("visible only after {detection_ms:.0} ms")),
            (episodes.len() != 1).then(|| format!("{} episodes instead of 1", episodes.len())),
            match part_error_us {
                None => Some("the collector shows no ratio of the device".to_owned()),
                Some(error_us) => (error_us as f64 > ONSET_ERROR_MAX_MS * 1e3)
                    .then(|| format!("bad time {} us off", error_us)),
            },
        ],
    ))
}

/// A call whose application shares the microphone, watched by an agent that listens along.
struct Scene<'a> {
    stage: &'a mut Stage,
    call: Call,
    _holder: Holder,
    seconds: u32,
}

impl<'a> Scene<'a> {
    fn begin(stage: &'a mut Stage, shared: bool, lasts: Duration) -> Result<Self> {
        stage.watched()?.restart_agent(true)?;
        let holder = if shared {
            stage.card.hold_shared(Side::Capture)?
        } else {
            stage.card.hold(Side::Capture)?
        };
        let seconds = u32::try_from(lasts.as_secs())?;
        let call = stage.watched()?.place_call(seconds)?;
        Ok(Self { stage, call, _holder: holder, seconds })
    }

    fn episode(&mut self, within: Duration) -> Result<call::Episode> {
        let card = self.stage.card.id().to_owned();
        let watched = self.stage.watched()?;
        wait_for("an episode at the collector", within, || {
            Ok(watched.episodes(&self.call, &card, Side::Capture)?.into_iter().next())
        })
    }

    /// The call as the collector shows it at its end, the card, and how long the call was by the script.
    fn finish(self) -> Result<(serde_json::Value, String, u64)> {
        let card = self.stage.card.id().to_owned();
        let shown = self.stage.watched()?.finish(self.call)?;
        self.stage.keep(&shown)?;
        Ok((shown, card, u64::from(self.seconds) * 1_000_000))
    }

    /// No device may have had an episode; where the device is shared, the agent must have listened.
    fn without_episode(self, shared: bool) -> Result<Verdict> {
        let log = self.stage.state().join("agent.log");
        let (shown, card, whole_us) = self.finish()?;
        let log = std::fs::read_to_string(log)?;
        let listened = log.contains("listening along");
        if listened != shared {
            bail!("the agent listened along: {listened}");
        }
        let episodes = shown["episodes"].as_array().context("the call has no episodes")?;
        if let Some(episode) = episodes.first() {
            bail!("a false episode: {} {}", episode["device"], episode["cause"]);
        }
        let ratio = call::not_functioning(&shown, &card, Side::Capture);
        let truth = PartOfWhole { part_us: 0, whole_us };
        let finding = Finding { ratio, truth: Some(truth), ..Finding::default() };
        let blind = ratio.is_none().then(|| "the device was not observed".to_owned());
        Ok(Verdict::judge(finding, [blind]))
    }
}
