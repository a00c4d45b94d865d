//! `roomtone-agent selftest`: a short quiet chirp through the loudspeaker, looked for in the microphone.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::call::{self, At};
use crate::audio::chirp;
use crate::audio::selftest::{self, Outcome, Report};

/// What `selftest` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The microphone: its card's id, its name in `devices`, or an ALSA name; by default the first one, of a card
    /// that has both
    #[arg(long, value_name = "DEVICE")]
    capture: Option<String>,
    /// The loudspeaker, named likewise; by default that of the same card
    #[arg(long, value_name = "DEVICE")]
    render: Option<String>,
    /// How loud, in dB of full scale, -60 to -12: somebody may wear it
    #[arg(
        long, value_name = "DBFS", default_value_t = chirp::LEVEL_DB, allow_negative_numbers = true,
        value_parser = volume
    )]
    volume: f32,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: At,
    /// Where proc and dev lie; for tests
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

/// The report as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    outcome: &'static str,
    capture: &'a str,
    render: &'a str,
    played_dbfs: f32,
    level_dbfs: Option<f32>,
    delay_ms: Option<f64>,
    score: Option<f32>,
    score_min: f32,
    microphone_dbfs: Option<f32>,
    holder: Option<ShownHolder<'a>>,
    detail: &'a str,
}

#[derive(Debug, Serialize)]
struct ShownHolder<'a> {
    pid: u32,
    name: Option<&'a str>,
}

/// Tests and prints; an error where the chirp was not heard.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let report = selftest::run(&selftest::Options {
        root: options.root.clone(),
        capture: options.capture.clone(),
        render: options.render.clone(),
        level_db: options.volume,
        // A call on hold has no device open, and may go on at any moment.
        in_call: Arc::new(AtomicBool::new(call::is_on(&options.agent))),
    });
    let is_heard = report.outcome == Outcome::Heard;
    if options.json {
        super::print(&Text(&report), true)?;
    } else if is_heard {
        super::print(&Text(&report), false)?;
    }
    if is_heard { Ok(()) } else { anyhow::bail!("self-test: {}", report.words) }
}

/// A report as text or JSON.
struct Text<'a>(&'a Report);

impl std::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Report { capture, render, played_db, words, .. } = self.0;
        writeln!(f, "loudspeaker  {render}, played at {played_db:.0} dBFS")?;
        writeln!(f, "microphone   {capture}")?;
        writeln!(f, "{words}")
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let report = self.0;
        // The level of what was not heard is that of something else.
        let heard = report.found.filter(|found| found.is_heard());
        let shown = Shown {
            outcome: outcome(report.outcome),
            capture: &report.capture,
            render: &report.render,
            played_dbfs: report.played_db,
            level_dbfs: heard.map(|found| found.level_db),
            delay_ms: report.delay.map(|delay| delay.as_micros() as f64 / 1e3),
            score: report.found.map(|found| found.score),
            score_min: chirp::SCORE_MIN,
            microphone_dbfs: report.microphone_db,
            holder: report
                .holder
                .as_ref()
                .map(|holder| ShownHolder { pid: holder.pid, name: holder.name.as_deref() }),
            detail: &report.words,
        };
        shown.serialize(serializer)
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Heard => "heard",
        Outcome::NotHeard => "notHeard",
        Outcome::NoSignal => "noSignal",
        Outcome::CaptureFailed => "captureFailed",
        Outcome::RenderFailed => "renderFailed",
        Outcome::Busy => "busy",
        Outcome::InCall => "inCall",
        Outcome::NoDevice => "noDevice",
    }
}

fn volume(word: &str) -> Result<f32, String> {
    let range = chirp::LEVEL_DB_MIN..=chirp::LEVEL_DB_MAX;
    let value = word.parse().ok().filter(|value| range.contains(value));
    value.ok_or_else(|| format!("give {} to {} dB of full scale", range.start(), range.end()))
}
