//! Trials of the bench itself: the device works, breaks and comes back as the trials of the agent need it, and both
//! programs run where it is. No agent judges a device here.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Group, Need, Trial, Verdict};
use crate::netns::TwoHosts;
use crate::pair::Place;
use crate::stage::sound::{Card, Side, write_tone};
use crate::stage::{CARD_WITHIN, Stage, wait_for};

pub(super) const APPEARS: Trial = Trial {
    name: "device_is_a_sound_card",
    group: Group::Short,
    need: Need::Device,
    limit: Duration::from_secs(20),
    run: |stage| {
        for side in [Side::Capture, Side::Render] {
            let status = stage.card.status(side)?;
            if status.state != "closed" {
                bail!("it is {} at rest: another program holds it", status.state);
            }
        }
        Ok(Verdict::seen(format!("card {} in both directions", stage.card.id())))
    },
};

pub(super) const RECORDS: Trial = Trial {
    name: "recording_has_the_level_that_was_played_into_it",
    group: Group::Short,
    need: Need::Faults,
    limit: Duration::from_secs(30),
    run: |stage| {
        let heard = stage.card.record(2, stage.state())?;
        let rms = heard.rms().context("nothing was recorded")?;
        // A sine of a quarter of full scale: 0.25 / sqrt 2.
        let expected = 0.25 / std::f64::consts::SQRT_2;
        if (rms - expected).abs() > expected * 0.01 {
            bail!("level {rms:.4}, and {expected:.4} was played");
        }
        Ok(Verdict::seen(format!("level {rms:.4} for {expected:.4}")))
    },
};

pub(super) const PLAYS: Trial = Trial {
    name: "playback_reaches_the_device",
    group: Group::Short,
    need: Need::Faults,
    limit: Duration::from_secs(30),
    run: |stage| {
        let file = stage.state().join("tone.raw");
        write_tone(&file, stage.card.shape(Side::Render), 2, stage.render_level)?;
        stage.hands.stat()?;
        stage.card.play(&file)?;
        let stat = stage.hands.stat()?;
        let rms = stat["renderRms"].as_f64().context("nothing arrived")?;
        let frames = stat["renderFrames"].as_u64().unwrap_or(0);
        // The driver sends silence before and after: the energy of the tone is spread over more frames than its own.
        let (rate, _) = stage.card.shape(Side::Render);
        let sent = f64::from(rate * 2);
        let expected =
            stage.render_level / std::f64::consts::SQRT_2 * (sent / frames.max(1) as f64).sqrt();
        if (rms - expected).abs() > expected * 0.02 {
            bail!("level {rms:.4} over {frames} frames, and {expected:.4} was sent");
        }
        Ok(Verdict::seen(format!("level {rms:.4} for {expected:.4}")))
    },
};

pub(super) const STALLS: Trial = Trial {
    name: "stalled_device_freezes_the_kernels_pointer",
    group: Group::Short,
    need: Need::Faults,
    limit: Duration::from_secs(60),
    run: |stage| {
        for (side, word) in [(Side::Capture, "in"), (Side::Render, "out")] {
            let _holder = stage.card.hold(side)?;
            moves(&stage.card, side)?;
            stage.hands.tell(&format!("stall {word}"))?;
            // What was under way arrives within one buffer of 400 ms.
            wait_for("a frozen pointer", Duration::from_secs(5), || {
                let before = stage.card.status(side)?;
                std::thread::sleep(Duration::from_millis(500));
                Ok((before == stage.card.status(side)?).then_some(()))
            })?;
            let frozen = stage.card.status(side)?;
            if frozen.state != "RUNNING" {
                bail!("the kernel says {} of a stalled device", frozen.state);
            }
            stage.hands.tell("resume")?;
            moves(&stage.card, side)?;
        }
        Ok(Verdict::seen("frozen in state RUNNING, moving after it".to_owned()))
    },
};

pub(super) const COMES_BACK: Trial = Trial {
    name: "unplugged_card_vanishes_and_comes_back",
    group: Group::Short,
    need: Need::Hands,
    limit: Duration::from_secs(60),
    run: |stage| {
        let _holder = stage.card.hold(Side::Capture)?;
        // A control request that the unplugging overtakes keeps the card for its time-out of 5 s.
        moves(&stage.card, Side::Capture)?;
        stage.hands.tell("unplug")?;
        let unplugged = Instant::now();
        stage.card.wait_absent(CARD_WITHIN)?;
        let gone = unplugged.elapsed();
        stage.hands.tell("plug")?;
        let plugged = Instant::now();
        stage.card.wait_present(CARD_WITHIN)?;
        let back = plugged.elapsed();
        wait_for("the application's second opening", CARD_WITHIN, || {
            Ok(stage.card.status(Side::Capture).ok().filter(|status| status.state == "RUNNING"))
        })?;
        moves(&stage.card, Side::Capture)?;
        Ok(Verdict::seen(format!("gone after {gone:.0?}, back after {back:.0?}")))
    },
};

pub(super) const BUTTON: Trial = Trial {
    name: "mute_button_reaches_the_mixer",
    group: Group::Short,
    need: Need::Hands,
    limit: Duration::from_secs(30),
    run: |stage| {
        let muted = |card: &Card| card.mixer(&["contents"]);
        let before = muted(&stage.card)?;
        stage.hands.tell("button")?;
        wait_for("a changed mixer", Duration::from_secs(5), || {
            Ok((muted(&stage.card)? != before).then_some(()))
        })?;
        stage.hands.tell("button")?;
        wait_for("the mixer as it was", Duration::from_secs(5), || {
            Ok((muted(&stage.card)? == before).then_some(()))
        })?;
        Ok(Verdict::seen("off and on".to_owned()))
    },
};

pub(super) const CALL_IS_STORED: Trial = Trial {
    name: "call_beside_the_device_is_stored",
    group: Group::Short,
    need: Need::Device,
    limit: Duration::from_secs(120),
    run: |stage: &mut Stage| {
        let watched = stage.watched()?;
        let call = watched.place_call(8)?;
        let shown = watched.finish(call)?;
        let legs = shown["legs"].as_array().map_or(0, Vec::len);
        if legs == 0 {
            bail!("the collector shows a call without legs");
        }
        Ok(Verdict::seen(format!("{legs} legs")))
    },
};

pub(super) const PATH_IS_MEASURED: Trial = Trial {
    name: "path_between_two_hosts_has_the_delay_that_it_was_given",
    group: Group::Short,
    need: Need::Faults,
    limit: Duration::from_secs(120),
    run: |stage| {
        /// Given in each direction.
        const DELAY_MS: f64 = 40.0;
        let Some(hosts) = TwoHosts::make("stage")? else { bail!("this needs root") };
        for host in [0, 1] {
            hosts.impair(host, &["delay", "40ms"])?;
        }
        let target = format!("{}:40000", TwoHosts::ADDRESSES[1]);
        let place = Place::new(stage.state())?;
        let rehearse = |host: usize, role: &str| {
            let mut command = place.clone().behind(&hosts.prefix(host)).program("roomtone-agent");
            command.args(["rehearse", role, &target, "--seconds", "6", "--json"]);
            command.args(["--delay", "0ms", "--jitter", "0ms", "--loss", "0%"]);
            command.stdout(Stdio::piped()).spawn().context("cannot rehearse")
        };
        let answer = rehearse(1, "--answer")?;
        let call = rehearse(0, "--call")?.wait_with_output()?;
        answer.wait_with_output()?;
        let report: Value = serde_json::from_slice(&call.stdout)
            .context("the rehearsal between two hosts printed no JSON")?;
        let rtt = &report["injected"]["parties"][0]["checks"]["rtt"];
        let min_ms = rtt["minMs"].as_f64().context("no check was answered")?;
        let mean_ms = rtt["meanMs"].as_f64().context("no check was answered")?;
        // An emulated machine adds what it likes to some packets, and takes nothing from any.
        if !(2.0 * DELAY_MS..2.0 * DELAY_MS + 20.0).contains(&min_ms) {
            bail!("round trip {min_ms:.1} ms at least, over a path of {} ms", 2.0 * DELAY_MS);
        }
        Ok(Verdict::seen(format!("round trip {min_ms:.1} ms, mean {mean_ms:.1} ms")))
    },
};

/// Waits until frames move.
fn moves(card: &Card, side: Side) -> Result<()> {
    let before = card.status(side)?.pointer;
    wait_for("a moving pointer", Duration::from_secs(5), || {
        Ok((card.status(side)?.pointer > before).then_some(()))
    })
}
