//! What watching costs: the agent's thread of devices with devices in use and without, and the agent's memory.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Group, Need, Trial, Verdict};
use crate::bench::report::Finding;
use crate::stage::Stage;
use crate::stage::load::{Gauge, Usage, resident_kib, usage};
use crate::stage::sound::{Card, Side};

/// Of one core of a real processor, while devices are in use.
const CORE_SHARE_MAX: f64 = 0.003;
/// Of one core of a real processor, of the whole agent with everything on.
const WHOLE_SHARE_MAX: f64 = 0.008;
/// Of its memory then, in KiB.
const RESIDENT_KIB_MAX: u64 = 12 * 1024;
/// How long each state is measured.
const MEASURED: Duration = Duration::from_secs(30);
/// The agent's thread of devices, as the kernel names it.
const THREAD: &str = "devices";

pub(super) const WATCHING: Trial = Trial {
    name: "watching_is_cheap_in_use_and_sleeps_otherwise",
    group: Group::All,
    need: Need::Guest,
    limit: Duration::from_secs(240),
    run: |stage| {
        let (text, reading) = Gauge::take()?.slower_than(stage.host_gauge()?);
        let factor = text.min(reading);
        // An episode of an earlier trial, without a call, ends 10 s after its device was healthy again.
        std::thread::sleep(Duration::from_secs(12));
        let idle = spent(stage)?;
        let (resident, own) = resident_kib(stage.watched()?.agent_id()?)?;

        let seconds = u32::try_from(MEASURED.as_secs() + 12)?;
        let _holders = [
            stage.card.hold(Side::Capture)?,
            stage.card.hold(Side::Render)?,
            Card::of_loopback().hold(Side::Render)?,
        ];
        let call = stage.watched()?.place_call(seconds)?;
        let used = spent(stage)?;
        stage.watched()?.finish(call)?;

        let share = |ns: u64| ns as f64 / MEASURED.as_nanos() as f64;
        let scaled = share(used.devices.cpu_ns) / factor;
        let percent = |share: f64| share * 100.0;
        let seen = format!(
            "no device in use: {} wake-ups of the thread; three in use, in a call: {:.2} % of an emulated core \
             ({} wake-ups), {:.3} % of a core of the host (emulation is slower {text:.1} x in texts, \
             {reading:.1} x in reading /proc); whole agent {:.2} % emulated; {resident} KiB resident with 3 cards, {own} KiB of it no file's",
            idle.devices.sleeps,
            percent(share(used.devices.cpu_ns)),
            used.devices.sleeps,
            percent(scaled),
            percent(share(used.all_ns)),
        );
        let finding = Finding { seen: Some(seen), ..Finding::default() };
        let checks = [
            (idle.devices.sleeps > 0)
                .then(|| "the thread woke while no device was in use".to_owned()),
            (idle.devices.cpu_ns > 0 && idle.devices.sleeps == 0)
                .then(|| "the thread ran without having slept".to_owned()),
            (scaled > CORE_SHARE_MAX)
                .then(|| format!("more than {} % of a core", percent(CORE_SHARE_MAX))),
        ];
        Ok(Verdict::judge(finding, checks))
    },
};

pub(super) const EVERYTHING: Trial = Trial {
    name: "everything_on_is_small_and_cheap",
    group: Group::All,
    need: Need::Guest,
    limit: Duration::from_secs(240),
    run: |stage| {
        stage.watched()?.restart_agent(true)?;
        let (text, reading) = Gauge::take()?.slower_than(stage.host_gauge()?);
        let factor = text.min(reading);
        let seconds = u32::try_from(MEASURED.as_secs() + 15)?;
        // A microphone is shared as a calling program shares it; the others are watched from outside.
        let _holders = [
            stage.card.hold_shared(Side::Capture)?,
            stage.card.hold(Side::Render)?,
            Card::of_loopback().hold(Side::Render)?,
        ];
        let call = stage.watched()?.place_call(seconds)?;
        let used = spent(stage)?;
        let (resident, own) = resident_kib(stage.watched()?.agent_id()?)?;
        let shown = stage.watched()?.finish(call)?;
        stage.watched()?.restart_agent(false)?;

        let share = used.all_ns as f64 / MEASURED.as_nanos() as f64;
        let scaled = share / factor;
        let legs = shown["legs"].as_array().map_or(0, Vec::len);
        let seen = format!(
            "a call of {legs} legs, three devices in use, listened along, host and path watched: \
             {resident} KiB resident, {own} KiB of it no file's; {:.2} % of an emulated core, {:.2} % of a core of \
             the host (emulation is slower {text:.1} x in texts, {reading:.1} x in reading /proc)",
            share * 100.0,
            scaled * 100.0,
        );
        let finding = Finding { seen: Some(seen), ..Finding::default() };
        let checks = [
            (resident > RESIDENT_KIB_MAX).then(|| format!("more than {RESIDENT_KIB_MAX} KiB")),
            (scaled > WHOLE_SHARE_MAX)
                .then(|| format!("more than {} % of a core", WHOLE_SHARE_MAX * 100.0)),
            (legs < 2).then(|| format!("{legs} legs, not two")),
        ];
        Ok(Verdict::judge(finding, checks))
    },
};

/// What the agent used while it was measured.
struct Spent {
    devices: Usage,
    all_ns: u64,
}

fn spent(stage: &mut Stage) -> Result<Spent> {
    let agent = stage.watched()?.agent_id()?;
    // What just was opened or closed is still being looked at.
    std::thread::sleep(Duration::from_secs(3));
    let before = usage(agent)?;
    std::thread::sleep(MEASURED);
    let after = usage(agent)?;
    let of = |all: &[(String, Usage)]| all.iter().find(|(name, _)| name == THREAD).map(|it| it.1);
    let (from, to) = (of(&before), of(&after));
    let (from, to) = from.zip(to).context("the agent has no thread of devices")?;
    let total = |all: &[(String, Usage)]| all.iter().map(|(_, used)| used.cpu_ns).sum::<u64>();
    Ok(Spent {
        devices: Usage { cpu_ns: to.cpu_ns - from.cpu_ns, sleeps: to.sleeps - from.sleeps },
        all_ns: total(&after).saturating_sub(total(&before)),
    })
}
