//! What trials of the agent share: a call beside a device that is in use, a fault in the middle of it, and the checks
//! of what the collector shows against the script.
//!
//! Truth is scripted: the headset tells the wall time at which a fault took effect and ended, and both programs read
//! the same clock. Limits are those that the product promises.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::Value;

use super::Verdict;
use crate::bench::report::{Finding, PartOfWhole};
use crate::stage::call::{self, Call, Episode};
use crate::stage::sound::{Holder, Side};
use crate::stage::{CARD_WITHIN, Stage, wait_for, wall_ms};

/// A fault that is one word of the headset, in the middle of a call.
pub(super) struct Fault {
    pub(super) side: Side,
    pub(super) breaks: &'static str,
    pub(super) mends: &'static str,
    pub(super) lasts: Duration,
    pub(super) cause: &'static str,
    pub(super) onset_error_max_ms: f64,
}

/// A fault is visible at the collector this soon after it happened, in ms.
pub(super) const VISIBLE_WITHIN_MS: f64 = 5_000.0;
/// A ratio may be wrong by 1 % of the truth or by this, whichever is more.
pub(super) const PART_ERROR_MAX_US: u64 = 300_000;
/// Observed time begins with the proof of the first stream, some packets after it, and by the clock of a busy machine.
pub(super) const WHOLE_ERROR_MAX_US: u64 = 1_000_000;
/// Time that a call goes on healthy before and after a fault; an episode closes after 10 s of it.
pub(super) const HEALTHY: Duration = Duration::from_secs(12);

impl Fault {
    /// Breaks the device in the middle of a call, mends it, and judges what was seen.
    pub(super) fn run(&self, stage: &mut Stage) -> Result<Verdict> {
        // 3 s healthy, the fault, and healthy long enough that the episode is closed.
        let seconds = 3 + self.lasts.as_secs() + HEALTHY.as_secs() + 5;
        let mut scene = Scene::begin(stage, Some(self.side), u32::try_from(seconds)?)?;
        std::thread::sleep(Duration::from_secs(3));
        let broken_ms = scene.stage.hands.tell(self.breaks)?;
        let sighted = scene.sight(self.side, broken_ms, VISIBLE_WITHIN_MS)?;
        let left = self.lasts.as_secs_f64() - (wall_ms() - broken_ms) / 1e3;
        std::thread::sleep(Duration::from_secs_f64(left.max(0.0)));
        let mut mended_ms = scene.stage.hands.tell(self.mends)?;
        if !scene.stage.card.is_present() {
            // What is plugged is a device only when the kernel has one.
            scene.stage.card.wait_present(CARD_WITHIN)?;
            mended_ms = wall_ms();
        }
        // The application has to have it back, or the trial would go on with a device at rest.
        scene.wait_moving(self.side)?;
        let truth = Truth {
            side: self.side,
            cause: self.cause,
            onset_ms: broken_ms,
            ended_ms: mended_ms,
            onset_error_max_ms: self.onset_error_max_ms,
            visible_within_ms: VISIBLE_WITHIN_MS,
        };
        scene.judge(&truth, &sighted)
    }
}

/// What the script says of one fault.
pub(super) struct Truth {
    pub(super) side: Side,
    pub(super) cause: &'static str,
    pub(super) onset_ms: f64,
    pub(super) ended_ms: f64,
    pub(super) onset_error_max_ms: f64,
    /// What the rule waits for before it speaks, and what is promised for the way to the collector.
    pub(super) visible_within_ms: f64,
}

/// The first that the collector showed of an episode.
pub(super) struct Sighted {
    pub(super) episode: Episode,
    /// From the fault on.
    pub(super) detection_ms: f64,
}

impl Truth {
    fn part_us(&self) -> u64 {
        ((self.ended_ms - self.onset_ms) * 1e3) as u64
    }

    /// Bad time may be wrong by what its onset may, as both ends of it are seen by the same means.
    fn wrong_part(&self, part_us: u64) -> Option<String> {
        let onset_us = (self.onset_error_max_ms * 1e3) as u64;
        wrong_time("bad", part_us, self.part_us(), onset_us.max(PART_ERROR_MAX_US))
    }

    /// One episode, of the right cause, in time, over, and with the right ratio.
    pub(super) fn judge(&self, shown: &Shown, sighted: &Sighted) -> Verdict {
        let episodes = call::episodes(&shown.call, &shown.card, self.side);
        let truth = PartOfWhole { part_us: self.part_us(), whole_us: shown.whole_us };
        let ratio = call::not_functioning(&shown.call, &shown.card, self.side);
        let &Sighted { ref episode, detection_ms } = sighted;
        let onset_error_ms = episode.onset_ms - self.onset_ms;
        let finding = Finding {
            cause: Some(episode.cause.clone()),
            onset_error_ms: Some(onset_error_ms),
            detection_ms: Some(detection_ms),
            ratio,
            truth: Some(truth),
            seen: None,
        };
        let onset_wrong = onset_error_ms.abs() > self.onset_error_max_ms;
        let open = episodes.iter().find(|episode| episode.state != "recovered");
        let causes: Vec<&str> = episodes.iter().map(|it| it.cause.as_str()).collect();
        let checks = [
            wrong_cause(&episode.cause, self.cause),
            onset_wrong.then(|| format!("onset {onset_error_ms:+.0} ms off")),
            (detection_ms > self.visible_within_ms)
                .then(|| format!("visible only after {detection_ms:.0} ms")),
            (episodes.len() != 1).then(|| format!("episodes {causes:?} instead of one")),
            open.map(|episode| format!("the episode ended as {}", episode.state)),
            match ratio {
                None => Some("the collector shows no ratio of the device".to_owned()),
                Some(ratio) => self.wrong_part(ratio.part_us),
            },
            ratio.and_then(|ratio| wrong_whole(ratio.whole_us, truth.whole_us)),
        ];
        Verdict::judge(finding, checks)
    }
}

/// A call that goes on while an application holds the device.
pub(super) struct Scene<'a> {
    pub(super) stage: &'a mut Stage,
    call: Call,
    _holder: Option<Holder>,
    started: Instant,
    seconds: u32,
}

/// A call that is over.
pub(super) struct Shown {
    pub(super) call: Value,
    pub(super) card: String,
    /// How long the call was, by the script.
    pub(super) whole_us: u64,
}

impl Shown {
    /// The first episode of any device, in words; `None` where there is none.
    pub(super) fn false_episode(&self) -> Option<String> {
        let Some(episodes) = self.call["episodes"].as_array() else {
            return Some("the call has no list of episodes".to_owned());
        };
        let episode = episodes.first()?;
        Some(format!("a false episode: {} {}", episode["device"], episode["cause"]))
    }
}

impl<'a> Scene<'a> {
    pub(super) fn begin(stage: &'a mut Stage, held: Option<Side>, seconds: u32) -> Result<Self> {
        // Both programs are up before the device is opened: their start is the busiest time of an emulated machine.
        stage.watched()?;
        let holder = held.map(|side| stage.card.hold(side)).transpose()?;
        let started = Instant::now();
        let call = stage.watched()?.place_call(seconds)?;
        Ok(Self { stage, call, _holder: holder, started, seconds })
    }

    /// Waits until the collector shows an episode of a fault that began at `onset_ms`.
    pub(super) fn sight(
        &mut self,
        side: Side,
        onset_ms: f64,
        visible_within_ms: f64,
    ) -> Result<Sighted> {
        // Twice what is promised, so that a late episode is told as late and not as missing.
        let within = Duration::from_secs_f64(visible_within_ms * 2.0 / 1e3);
        let left =
            Duration::from_secs(u64::from(self.seconds)).saturating_sub(self.started.elapsed());
        let card = self.stage.card.id().to_owned();
        let watched = self.stage.watched()?;
        let episode = wait_for("an episode at the collector", left.min(within), || {
            let episodes = watched.episodes(&self.call, &card, side)?;
            // An earlier one would be of an earlier fault, and found by the counts at the end.
            Ok(episodes.into_iter().find(|it| it.onset_ms > onset_ms - ONSET_BEFORE_MAX_MS))
        })?;
        Ok(Sighted { episode, detection_ms: wall_ms() - onset_ms })
    }

    /// Waits until an application has the device and frames move; returns the wall time at which that was seen, in ms.
    pub(super) fn wait_moving(&self, side: Side) -> Result<f64> {
        let card = &self.stage.card;
        let before = card.status(side).map_or(0, |status| status.pointer);
        wait_for("a moving pointer", CARD_WITHIN, || {
            let status = card.status(side).ok();
            Ok(status.filter(|it| it.state == "RUNNING" && it.pointer != before))
        })?;
        Ok(wall_ms())
    }

    /// Waits until the call is over and judges what the collector shows of it.
    pub(super) fn judge(self, truth: &Truth, sighted: &Sighted) -> Result<Verdict> {
        Ok(truth.judge(&self.finish()?, sighted))
    }

    /// Waits for the call's end.
    pub(super) fn finish(self) -> Result<Shown> {
        let card = self.stage.card.id().to_owned();
        let whole_us = u64::from(self.seconds) * 1_000_000;
        let call = self.stage.watched()?.finish(self.call)?;
        self.stage.keep(&call)?;
        Ok(Shown { call, card, whole_us })
    }

    /// Waits for the end of the call and of those that continue it; returns all, the oldest first.
    pub(super) fn finish_all(self) -> Result<(Vec<Value>, Shown)> {
        let card = self.stage.card.id().to_owned();
        let whole_us = u64::from(self.seconds) * 1_000_000;
        let calls = self.stage.watched()?.finish_all(self.call)?;
        for call in &calls {
            self.stage.keep(call)?;
        }
        let call = calls.last().cloned().unwrap_or_default();
        Ok((calls, Shown { call, card, whole_us }))
    }

    /// Waits for the call's end; no device may have had an episode, and the one that was used must have been observed.
    pub(super) fn without_episode(self, side: Side) -> Result<Verdict> {
        let shown = self.finish()?;
        let ratio = call::not_functioning(&shown.call, &shown.card, side);
        let truth = PartOfWhole { part_us: 0, whole_us: shown.whole_us };
        let finding = Finding { ratio, truth: Some(truth), ..Finding::default() };
        let blind = ratio.is_none().then(|| "the device was not observed".to_owned());
        Ok(Verdict::judge(finding, [shown.false_episode(), blind]))
    }
}

/// How far before the fault an onset may lie and still be taken for it.
const ONSET_BEFORE_MAX_MS: f64 = 2_000.0;

pub(super) fn wrong_cause(found: &str, expected: &str) -> Option<String> {
    (found != expected).then(|| format!("cause {found} instead of {expected}"))
}

/// Observed time is call time: from the first packet to the last.
pub(super) fn wrong_whole(whole_us: u64, truth_us: u64) -> Option<String> {
    wrong_time("call", whole_us, truth_us, WHOLE_ERROR_MAX_US)
}

pub(super) fn wrong_time(
    name: &str,
    found_us: u64,
    truth_us: u64,
    least_max_us: u64,
) -> Option<String> {
    let seconds = |us: u64| us as f64 / 1e6;
    let (found, truth) = (seconds(found_us), seconds(truth_us));
    (found_us.abs_diff(truth_us) > least_max_us.max(truth_us / 100))
        .then(|| format!("{name} time {found:.2} s for {truth:.2} s"))
}
