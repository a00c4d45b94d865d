//! Trials of machines that are not as they should be: no crash, no false fault, one line that says what is missing.

use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::scene::Scene;
use super::{Group, Need, Trial, Verdict};
use crate::bench::report::Finding;
use crate::pair::Place;
use crate::stage::hands::Hands;
use crate::stage::sound::Side;
use crate::stage::{CARD_WITHIN, Stage, modules, wait_for};

const LIMIT: Duration = Duration::from_secs(120);

pub(super) const ODD_NAME: Trial = Trial {
    name: "name_with_odd_characters_is_one_line_of_a_table",
    group: Group::All,
    need: Need::Guest,
    limit: LIMIT,
    run: |stage| {
        // A bell, an escape sequence that clears terminals, quotes, a right-to-left override, beyond ASCII.
        let product = "Odd\u{7}\u{1b}[2J \"Mic\"\u{202e}\u{e9}\u{1f399}";
        let _odd = Hands::second(stage.state(), product)?;
        let row = wait_for("a card with an odd name", CARD_WITHIN, || {
            Ok(stage.devices()?.into_iter().find(|row| has_name(row, "Odd")))
        })?;
        let table = devices(stage, &[], None)?;
        let forbidden =
            |text: &str| text.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}');
        let name = row["device"].as_str().unwrap_or_default().to_owned();
        let checks = [
            forbidden(&table.stdout).then(|| "the table has control characters".to_owned()),
            (!table.stderr.is_empty()).then(|| format!("it complains: {}", table.stderr)),
        ];
        Ok(Verdict::judge(seen(format!("shown as {name:?}")), checks))
    },
};

pub(super) const VANISHING: Trial = Trial {
    name: "card_that_comes_and_goes_while_it_is_read_is_no_error",
    group: Group::All,
    need: Need::Guest,
    limit: Duration::from_secs(180),
    run: |stage| {
        const READINGS: u32 = 20;
        let scene = Scene::begin(stage, None, 60)?;
        let state = scene.stage.state().to_owned();
        let done = std::sync::atomic::AtomicBool::new(false);
        let read = std::thread::scope(|threads| {
            let flapping = threads.spawn(|| -> Result<u32> {
                let mut second = Hands::second(&state, "Flapping")?;
                let mut flaps = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    second.tell("unplug")?;
                    second.tell("plug")?;
                    flaps += 1;
                }
                Ok(flaps)
            });
            let mut wrong = Vec::new();
            for _ in 0..READINGS {
                let said = devices(scene.stage, &["--json"], None);
                match said {
                    Err(error) => wrong.push(format!("{error:#}")),
                    Ok(said) if !said.stderr.is_empty() => wrong.push(said.stderr),
                    Ok(said) => {
                        if serde_json::from_str::<Vec<Value>>(&said.stdout).is_err() {
                            wrong.push("no list".to_owned());
                        }
                    }
                }
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            let flaps =
                flapping.join().map_err(|_| anyhow::anyhow!("the flapping card is lost"))??;
            Ok::<_, anyhow::Error>((flaps, wrong))
        });
        let (flaps, wrong) = read?;
        scene.stage.watched()?.check_agent()?;
        let shown = scene.finish()?;
        let checks = [
            shown.false_episode(),
            wrong
                .first()
                .map(|first| format!("{} of {READINGS} readings went wrong: {first}", wrong.len())),
        ];
        Ok(Verdict::judge(seen(format!("{READINGS} readings beside {flaps} flaps")), checks))
    },
};

pub(super) const NO_PERMISSION: Trial = Trial {
    name: "user_without_rights_sees_devices_and_one_line_of_advice",
    group: Group::All,
    need: Need::Guest,
    limit: LIMIT,
    run: |stage| {
        /// `nobody` of Debian.
        const NOBODY: u32 = 65_534;
        let _holder = stage.card.hold(Side::Capture)?;
        let said = devices(stage, &["--json"], Some(NOBODY))?;
        let rows: Vec<Value> = serde_json::from_str(&said.stdout).context("no list")?;
        let row =
            rows.iter().find(|row| has_name(row, stage.card.id()) && row["side"] == "capture");
        let row = row.context("the microphone is not shown")?;
        let advice = said.stderr.lines().count();
        let checks = [
            (row["state"] != "busy").then(|| format!("state {} instead of busy", row["state"])),
            (!row["muted"].is_null())
                .then(|| format!("muted {} although the mixer is closed", row["muted"])),
            (advice != 1).then(|| format!("{advice} lines of advice: {}", said.stderr)),
        ];
        Ok(Verdict::judge(seen(said.stderr.trim().to_owned()), checks))
    },
};

pub(super) const MANY_CARDS: Trial = Trial {
    name: "as_many_cards_as_the_kernel_takes_are_all_watched",
    group: Group::All,
    need: Need::Guest,
    limit: Duration::from_secs(180),
    run: |stage| {
        // 32 is what the kernel takes; the headset and the mainboard have one each.
        const MORE: usize = 30;
        let ones = |count: usize| vec!["1"; count].join(",");
        let parameters =
            [format!("enable={}", ones(MORE)), format!("pcm_substreams={}", ones(MORE))];
        // An agent that runs holds every mixer.
        stage.watched()?.stop_agent()?;
        modules::reload("snd_aloop", &parameters.each_ref().map(String::as_str))?;
        let many = (|| {
            stage.watched()?.start_agent()?;
            let scene = Scene::begin(stage, Some(Side::Capture), 20)?;
            let rows = scene.stage.devices()?;
            let verdict = scene.without_episode(Side::Capture)?;
            Ok::<_, anyhow::Error>((rows.len(), verdict))
        })();
        // The card comes back as it was, whatever was found.
        stage.watched()?.stop_agent()?;
        modules::reload("snd_aloop", &[])?;
        stage.watched()?.start_agent()?;
        let (rows, mut verdict) = many?;
        // A loopback card has two PCMs with both directions, the other two cards have one PCM each.
        let expected = MORE * 4 + 2 + 2;
        if rows != expected {
            bail!("{rows} devices are shown of {expected}");
        }
        verdict.finding.seen = Some(format!("{rows} devices of 32 cards"));
        Ok(verdict)
    },
};

pub(super) const NO_SOUND: Trial = Trial {
    name: "machine_without_sound_is_one_line_and_watched_from_its_first_card_on",
    group: Group::All,
    need: Need::Guest,
    limit: Duration::from_secs(180),
    run: |stage| {
        stage.watched()?.stop_agent()?;
        modules::unload_sound()?;
        let without = (|| {
            let table = devices(stage, &[], None)?;
            stage.watched()?.start_agent()?;
            Ok::<_, anyhow::Error>(table)
        })();
        modules::load_sound()?;
        stage.card.wait_present(CARD_WITHIN)?;
        let table = without?;
        let checks = [
            (table.stdout.lines().count() != 1)
                .then(|| format!("not one line: {:?}", table.stdout)),
            (!table.stdout.contains("no sound subsystem"))
                .then(|| format!("it says {:?}", table.stdout)),
        ];
        // The agent that began without any device sees the first that comes.
        let scene = Scene::begin(stage, Some(Side::Capture), 15)?;
        let mut verdict = scene.without_episode(Side::Capture)?;
        let wrong: Vec<String> = checks.into_iter().flatten().chain(verdict.wrong.take()).collect();
        verdict.wrong = (!wrong.is_empty()).then(|| wrong.join("; "));
        verdict.finding.seen = Some(table.stdout.trim().to_owned());
        Ok(verdict)
    },
};

/// What a program said.
struct Said {
    stdout: String,
    stderr: String,
}

/// Asks `roomtone-agent devices`, as another user where one is named.
fn devices(stage: &Stage, arguments: &[&str], user: Option<u32>) -> Result<Said> {
    let mut command = Place::new(stage.state())?.program("roomtone-agent");
    command.arg("devices").args(arguments);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let started = Instant::now();
    let done = command.output().context("cannot ask for devices")?;
    if !done.status.success() {
        bail!(
            "devices ended ({}) after {:?}: {}",
            done.status,
            started.elapsed(),
            String::from_utf8_lossy(&done.stderr)
        );
    }
    Ok(Said {
        stdout: String::from_utf8(done.stdout).context("the answer is no text")?,
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    })
}

fn has_name(row: &Value, part: &str) -> bool {
    row["device"].as_str().is_some_and(|device| device.contains(part))
}

fn seen(words: String) -> Finding {
    Finding { seen: Some(words), ..Finding::default() }
}
