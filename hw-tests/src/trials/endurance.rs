//! Half an hour in which nothing is wrong.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, setpriority_process};

use super::scene::Scene;
use super::{Group, Need, Trial};
use crate::process::Ended;
use crate::stage::sound::{Card, Side};

/// How long.
const LASTS: Duration = Duration::from_secs(1_800);
/// One round of what users do.
const ROUND: Duration = Duration::from_secs(30);

pub(super) const HEALTHY: Trial = Trial {
    name: "half_an_hour_of_three_healthy_devices_under_load_has_no_episode",
    group: Group::Long,
    need: Need::Guest,
    limit: Duration::from_secs(2_400),
    run: |stage| {
        let _load = busy_processor()?;
        let others = [Card::of_mainboard(), Card::of_loopback()];
        others[0].mixer(&["sset", "Capture", "cap", "100%"])?;
        let _others = [others[0].hold(Side::Capture)?, others[1].hold(Side::Render)?];
        let seconds = u32::try_from(LASTS.as_secs())?;
        let scene = Scene::begin(stage, Some(Side::Render), seconds)?;
        let card = scene.stage.card.clone();
        let until = Instant::now() + LASTS - ROUND * 2;
        let mut muted = false;
        while Instant::now() < until {
            let next = Instant::now() + ROUND;
            let holder = card.hold(Side::Capture)?;
            scene.wait_moving(Side::Capture)?;
            muted = !muted;
            if muted {
                card.mixer(&["sset", "Mic", "nocap"])?;
                std::thread::sleep(Duration::from_secs(5));
                card.mixer(&["sset", "Mic", "cap"])?;
            } else {
                scene.stage.hands.tell("button")?;
                std::thread::sleep(Duration::from_secs(5));
                scene.stage.hands.tell("button")?;
            }
            std::thread::sleep(Duration::from_secs(10));
            // An application that lets go of an idle microphone.
            drop(holder);
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        scene.without_episode(Side::Capture)
    },
};

/// One program that takes what a processor has, and gives way to all others.
fn busy_processor() -> Result<Ended> {
    let spin = Command::new("sh")
        .args(["-c", "while :; do :; done"])
        .stdin(Stdio::null())
        .spawn()
        .context("cannot make load")?;
    let pid = i32::try_from(spin.id()).ok().and_then(Pid::from_raw);
    let load = Ended(spin);
    setpriority_process(pid, 10).context("cannot make the load give way")?;
    Ok(load)
}
