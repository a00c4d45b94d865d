//! Trials of `roomtone-agent devices`: what it shows against what was done to the device. No call is on.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Group, Need, Trial, Verdict};
use crate::bench::report::Finding;
use crate::stage::Stage;
use crate::stage::sound::Side;

pub(super) const SHOWS_TRUTH: Trial = Trial {
    name: "devices_shows_state_holder_format_mute_and_volume",
    group: Group::Short,
    need: Need::Faults,
    limit: Duration::from_secs(90),
    run: |stage| {
        let mut checks = Vec::new();
        stage.card.mixer(&["sset", "Mic", "50%", "cap"])?;
        let idle = shown(stage)?;
        checks.push(differs(
            "at rest",
            &idle,
            &json!({ "state": "idle", "cause": null, "holder": null, "format": null }),
        ));
        // The headset's range is -32 dB to 0 dB by 1 dB, so that its middle is 16 steps above the lowest.
        let middle = json!({ "muted": false, "volume": { "steps": 16, "of": 32 } });
        checks.push(differs("at half volume", &idle, &middle));

        let holder = stage.card.hold(Side::Capture)?;
        let (rate, channels) = stage.card.shape(Side::Capture);
        let pid = stage.card.status(Side::Capture)?.owner.context("nobody holds the device")?;
        // Periods of 50 ms, eight in the ring: as the holder asks.
        let held = json!({
            "state": "busy", "cause": null, "holder": { "pid": pid, "name": "arecord" },
            "format": {
                "sample": "S16_LE", "rateHz": rate, "channels": channels,
                "periodFrames": rate / 20, "bufferFrames": rate / 20 * 8,
            },
        });
        checks.push(differs("held", &shown(stage)?, &held));
        stage.card.mixer(&["sset", "Mic", "nocap"])?;
        let muted =
            json!({ "state": "muted", "muted": true, "holder": { "pid": pid, "name": "arecord" } });
        checks.push(differs("muted", &shown(stage)?, &muted));
        stage.card.mixer(&["sset", "Mic", "cap", "100%"])?;
        stage.hands.tell("stall in")?;
        // With or without a call: another process uses it.
        checks.push(differs(
            "stalled",
            &shown(stage)?,
            &json!({ "state": "not functioning", "cause": "stalled", "muted": false }),
        ));
        stage.hands.tell("resume")?;
        drop(holder);
        let finding = Finding {
            seen: Some("idle, busy, muted, not functioning".to_owned()),
            ..Finding::default()
        };
        Ok(Verdict::judge(finding, checks))
    },
};

/// The row of the microphone.
fn shown(stage: &Stage) -> Result<Value> {
    let rows = stage.devices()?;
    let id = stage.card.id();
    let of_card = |row: &&Value| {
        row["side"] == "capture" && row["device"].as_str().is_some_and(|device| device.contains(id))
    };
    rows.iter().find(of_card).cloned().with_context(|| format!("no microphone of {id} is shown"))
}

/// What of `expected` is shown otherwise, in words.
fn differs(when: &str, shown: &Value, expected: &Value) -> Option<String> {
    let expected = expected.as_object()?;
    let wrong: Vec<String> = expected
        .iter()
        .filter(|(key, value)| shown[key.as_str()] != **value)
        .map(|(key, value)| format!("{key} {} instead of {value}", shown[key.as_str()]))
        .collect();
    (!wrong.is_empty()).then(|| format!("{when}: {}", wrong.join(", ")))
}
