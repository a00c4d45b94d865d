//! Trials of the packages: a room that is installed, enrolled, measured, upgraded and given up.
//!
//! They run in this order on one machine. One that is run alone does first what it stands on.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;

use super::{Group, Need, Trial, Verdict};
use super::{faults, selftest};
use crate::bench::report::Finding;
use crate::guest::system::PACKAGES_FOLDERS;
use crate::pair::Place;
use crate::stage::{Stage, installed, wait_for};

const LIMIT: Duration = Duration::from_secs(300);
/// What `systemd-analyze security` may say of a unit at most.
const EXPOSURE_MAX: f64 = 1.6;
/// The agent's resident memory between calls, in KiB.
const RESIDENT_KIB_MAX: u64 = 10 * 1024;
/// From a connection until `endpoints` says so.
const CONNECTED_WITHIN: Duration = Duration::from_secs(60);

/// What an operator put into the config; calls close soon after their last packet, so that trials do not wait.
const OWN_LINES: &str = "\n[media]\ncall_idle = \"5s\"\n";
const AGENT_CONFIG: &str = "/etc/roomtone/agent.toml";

pub(super) const WAITS: Trial = Trial {
    name: "fleet_packages_wait_for_an_identity",
    group: Group::Fleet,
    need: Need::Guest,
    limit: LIMIT,
    run: |_| {
        let said = installed::install(PACKAGES_FOLDERS[0])?;
        let mut wrong = Vec::new();
        for service in installed::SERVICES {
            for (unit, name, expected) in [
                (format!("{service}.service"), "UnitFileState", "enabled"),
                (format!("{service}.service"), "ActiveState", "inactive"),
                (format!("{service}.service"), "Result", "success"),
                (format!("{service}.path"), "ActiveState", "active"),
                ("roomtone-tap.socket".to_owned(), "ActiveState", "active"),
            ] {
                let found = installed::property(&unit, name)?;
                if found != expected {
                    wrong.push(Some(format!("{name} of {unit} is {found:?}, not {expected:?}")));
                }
            }
        }
        for told in ["roomtone-collector init --address", "roomtone-agent enroll --token"] {
            wrong.push(
                (!said.contains(told))
                    .then(|| format!("the installation told nothing of {told:?}")),
            );
        }
        Ok(Verdict::judge(Finding::default(), wrong))
    },
};

pub(super) const STARTS: Trial = Trial {
    name: "fleet_token_starts_the_services",
    group: Group::Fleet,
    need: Need::Guest,
    limit: LIMIT,
    run: |stage| {
        if !installed::is_installed() {
            installed::install(PACKAGES_FOLDERS[0])?;
        }
        std::fs::OpenOptions::new()
            .append(true)
            .open(AGENT_CONFIG)
            .and_then(|mut file| std::io::Write::write_all(&mut file, OWN_LINES.as_bytes()))?;
        let said = installed::enroll()?;
        stage.watch_installed();
        let endpoint = connected(stage)?;
        // Whatever root made belongs to the service, or it could not renew it.
        let mut foreign = Vec::new();
        for (state, user) in installed::STATES.iter().zip(["roomtone-collector", "roomtone"]) {
            foreign.push(installed::run("find", &[state, "!", "-user", user])?);
        }
        let foreign = foreign.concat().trim().replace('\n', " ");
        let doctor: Value =
            serde_json::from_str(&installed::run("roomtone-agent", &["doctor", "--json"])?)?;
        let words = format!("{} as {}", said.lines().next().unwrap_or_default(), endpoint["name"]);
        let mut verdict = Verdict::seen(words);
        let checks = [
            (!foreign.is_empty()).then(|| format!("not the services' own: {foreign}")),
            (doctor["failed"] != 0).then(|| format!("doctor finds {}", doctor["findings"])),
        ];
        verdict.wrong = Verdict::judge(Finding::default(), checks).wrong;
        Ok(verdict)
    },
};

pub(super) const CLOSED: Trial = Trial {
    name: "fleet_services_are_as_closed_and_as_small_as_promised",
    group: Group::Fleet,
    need: Need::Guest,
    limit: LIMIT,
    run: |stage| {
        make_ready(stage)?;
        let agent = installed::property("roomtone-agent", "MainPID")?;
        let [of_collector, of_agent] = installed::SERVICES.map(installed::exposure);
        let (of_collector, of_agent) = (of_collector?, of_agent?);
        let resident_kib = installed::status(&agent, "VmRSS")?;
        let capabilities = installed::status(&agent, "CapEff")?;
        let words = format!(
            "exposure of the agent {of_agent}, of the collector {of_collector}; the agent idle {resident_kib} KiB, \
             capabilities {capabilities:#x}"
        );
        let mut verdict = Verdict::seen(words);
        let checks = [
            (of_agent.max(of_collector) > EXPOSURE_MAX)
                .then(|| format!("an exposure is above {EXPOSURE_MAX}")),
            (resident_kib > RESIDENT_KIB_MAX).then(|| format!("more than {RESIDENT_KIB_MAX} KiB")),
            (capabilities != 0).then(|| "the agent has a capability".to_owned()),
        ];
        verdict.wrong = Verdict::judge(Finding::default(), checks).wrong;
        Ok(verdict)
    },
};

pub(super) const UNPLUG: Trial = Trial {
    name: "fleet_unplug_in_a_call_is_removed",
    group: Group::Fleet,
    need: Need::Guest,
    limit: LIMIT,
    run: |stage| {
        make_ready(stage)?;
        (faults::UNPLUG.run)(stage)
    },
};

pub(super) const SELF_TEST: Trial = Trial {
    name: "fleet_self_test_on_request_is_as_good_as_by_hand",
    group: Group::Fleet,
    need: Need::Guest,
    limit: LIMIT,
    run: |stage| {
        make_ready(stage)?;
        // Outside of the service's sandbox.
        let place = Place::installed(stage.state());
        selftest::requested(stage, &place)
    },
};

pub(super) const UPGRADE: Trial = Trial {
    name: "fleet_upgrade_in_a_call_loses_no_record",
    group: Group::Fleet,
    need: Need::Guest,
    limit: LIMIT,
    run: |stage| {
        make_ready(stage)?;
        let before = connected(stage)?;
        let [version, ..] = installed::SERVICES.map(installed::version);
        let watched = stage.watched()?;
        let call = watched.place_call(75)?;
        // Some intervals of the call are told before.
        std::thread::sleep(Duration::from_secs(25));
        installed::install(PACKAGES_FOLDERS[1])?;
        for service in installed::SERVICES {
            installed::wait_active(service)?;
        }
        let calls = stage.watched()?.finish_all(call)?;
        for call in &calls {
            stage.keep(call)?;
        }
        let after = connected(stage)?;
        let config = std::fs::read_to_string(AGENT_CONFIG)?;
        let number = |of: &Value, name: &str| of[name].as_u64().unwrap_or(u64::MAX);
        let records = number(&after, "records").wrapping_sub(number(&before, "records"));
        let states: Vec<&str> = calls.iter().filter_map(|call| call["state"].as_str()).collect();
        let mut verdict = Verdict::seen(format!(
            "{} to {}: {records} records, {} reported lost, {} missing; the call's parts {states:?}",
            version?,
            installed::version("roomtone-agent")?,
            number(&after, "recordsReportedLost"),
            number(&after, "recordsMissing"),
        ));
        let checks = [
            (installed::version("roomtone-agent")?.ends_with("-1"))
                .then(|| "no upgrade".to_owned()),
            (number(&after, "recordsReportedLost") != 0).then(|| "records were lost".to_owned()),
            (number(&after, "recordsMissing") != 0).then(|| "records are missing".to_owned()),
            (calls.len() != 2).then(|| "the upgrade was not in the middle of the call".to_owned()),
            (states.iter().any(|state| *state != "closed")).then(|| "a call has no end".to_owned()),
            (!config.ends_with(OWN_LINES)).then(|| "the operator's config was changed".to_owned()),
        ];
        verdict.wrong = Verdict::judge(Finding::default(), checks).wrong;
        Ok(verdict)
    },
};

pub(super) const PURGE: Trial = Trial {
    name: "fleet_purge_leaves_nothing",
    group: Group::Fleet,
    need: Need::Guest,
    limit: LIMIT,
    run: |stage| {
        make_ready(stage)?;
        installed::take_off("--remove")?;
        let kept = installed::is_enrolled()
            && [AGENT_CONFIG, "/etc/roomtone/collector.toml", "/var/lib/roomtone-collector/store"]
                .iter()
                .all(|path| std::path::Path::new(path).exists());
        let running = installed::run("pgrep", &["-c", "roomtone-agent|roomtone-colle"]).is_ok();
        installed::take_off("--purge")?;
        let left = installed::left_behind()?;
        let checks = [
            (!kept).then(|| "removing took state or config with it".to_owned()),
            running.then(|| "a program went on running".to_owned()),
            (!left.is_empty()).then(|| format!("left behind: {}", left.join(" "))),
        ];
        Ok(Verdict::judge(Finding::default(), checks))
    },
};

/// Does what the trials before would have done.
fn make_ready(stage: &mut Stage) -> Result<()> {
    if !installed::is_enrolled() {
        let Verdict { wrong, .. } = (STARTS.run)(stage)?;
        if let Some(wrong) = wrong {
            bail!("not installed as it should be: {wrong}");
        }
    }
    connected(stage).map(drop)
}

/// The one endpoint, once the collector says that it is connected.
fn connected(stage: &mut Stage) -> Result<Value> {
    let watched = stage.watched()?;
    wait_for("the agent's connection", CONNECTED_WITHIN, || {
        let mut shown = watched.ask(&["endpoints"])?;
        let first = shown["endpoints"].get_mut(0).map(Value::take);
        Ok(first.filter(|endpoint| endpoint["connected"] == true))
    })
}
