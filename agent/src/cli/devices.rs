//! `roomtone-agent devices`: every capture and render device, how it is, and since when.
//!
//! Looks on for a moment before it answers, because whether a device moves takes two looks. It opens no device, needs
//! no collector and disturbs no agent that runs beside it.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use roomtone_protocol::device::{DeviceCause, DeviceSide};
use serde::Serialize;

use crate::audio::bell::Bell;
use crate::audio::board::{Board, View};
use crate::audio::constants::Thresholds;
use crate::audio::function::State;
use crate::audio::sensor::Sensor;
use crate::audio::watch::NO_PERMISSION;
use crate::clock::WallOffset;
use crate::clock::system;
use crate::show;

/// Open devices are looked at for this long before the answer: longer than it takes to tell a stall.
const LOOK_ON: Duration = Duration::from_millis(1_600);
/// Where none is open, only the mixers are waited for.
const LOOK_ON_CLOSED: Duration = Duration::from_millis(300);

/// What `devices` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Print one JSON array; with --watch one array per line and change
    #[arg(long)]
    json: bool,
    /// Go on and print again whenever something changes, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Where proc, dev and sys lie; for tests
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

/// One device, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    device: String,
    side: &'static str,
    state: &'static str,
    cause: Option<&'static str>,
    since: String,
    holder: Option<Holder>,
    format: Option<Format>,
    muted: Option<bool>,
    volume: Option<Volume>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Holder {
    pid: u32,
    name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Format {
    sample: String,
    rate_hz: u32,
    channels: u32,
    period_frames: u32,
    buffer_frames: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Volume {
    steps: u32,
    of: u32,
}

/// All rows; as text a table.
struct Rows(Vec<Row>);

/// Looks and prints.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let never = Bell::new().context("cannot watch devices")?;
    let seed = getrandom::u64().context("cannot draw random numbers")?;
    let mut sensor = Sensor::new(&options.root, true);
    let mut board = Board::new(std::process::id(), seed, Thresholds::default());
    for sighting in sensor.look() {
        board.handle_sighting(sighting);
    }
    let is_open = board.views().iter().any(|view| view.format.is_some() || view.holder.is_some());
    let until = system::now() + if is_open { LOOK_ON } else { LOOK_ON_CLOSED };
    while !board.views().is_empty() && system::now() < until {
        for sighting in sensor.wait(never.as_fd(), Some(until)) {
            board.handle_sighting(sighting);
        }
        board.handle_timeout(system::now());
    }
    hint(&sensor);
    // Read once: an offset read anew moves by microseconds, and with it every row.
    let wall = system::now_and_wall().1;
    let mut shown = rows(&board, wall);
    show(&shown, &sensor, options)?;
    if !options.watch {
        return Ok(());
    }
    loop {
        let due = board.poll_timeout().map(|(at, _)| at);
        for sighting in sensor.wait(never.as_fd(), due) {
            board.handle_sighting(sighting);
        }
        board.handle_timeout(system::now());
        while board.poll_told().is_some() {}
        let now = rows(&board, wall);
        if now != shown {
            shown = now;
            show(&shown, &sensor, options)?;
        }
    }
}

/// What an operator can mend goes to stderr, so that it never mixes with the answer.
fn hint(sensor: &Sensor) {
    if sensor.forbidden().next().is_some() {
        eprintln!("roomtone-agent: no permission for /dev/snd/controlC*: {}", NO_PERMISSION);
    }
    if sensor.beyond() > 0 {
        eprintln!("roomtone-agent: {} more cards or devices are not watched", sensor.beyond());
    }
}

fn show(rows: &[Row], sensor: &Sensor, options: &Options) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match (sensor.absent(), options.json) {
        (absent, true) => {
            if let Some(absent) = absent {
                eprintln!("roomtone-agent: {absent}");
            }
            if options.watch {
                serde_json::to_writer(&mut out, rows).map_err(io::Error::from)?;
            } else {
                serde_json::to_writer_pretty(&mut out, rows).map_err(io::Error::from)?;
            }
            writeln!(out)?;
        }
        (Some(absent), false) => writeln!(out, "{absent}")?,
        (None, false) if rows.is_empty() => {
            writeln!(out, "no capture or render device is plugged in")?;
        }
        (None, false) => {
            if options.watch && out.is_terminal() {
                // Home and clear: a live view stays in one place.
                write!(out, "\x1b[H\x1b[2J")?;
            }
            write!(out, "{}", Rows(rows.to_vec()))?;
        }
    }
    out.flush()?;
    Ok(())
}

fn rows(board: &Board, wall: WallOffset) -> Vec<Row> {
    board.views().iter().map(|view| row(view, wall)).collect()
}

fn row(view: &View<'_>, wall: WallOffset) -> Row {
    let (state, cause) = state(view.state);
    Row {
        device: view.device.to_owned(),
        side: side(view.side),
        state,
        cause,
        since: seconds(&show::rfc3339(wall.stamp(view.since).wall_us)),
        holder: view.holder.map(|holder| Holder { pid: holder.pid, name: holder.name.clone() }),
        format: view.format.map(|format| Format {
            sample: format.sample.clone(),
            rate_hz: format.rate_hz,
            channels: format.channels,
            period_frames: format.period_frames,
            buffer_frames: format.buffer_frames,
        }),
        muted: view.setting.muted,
        volume: view.setting.volume.map(|volume| Volume { steps: volume.steps, of: volume.of }),
    }
}

fn seconds(rfc3339: &str) -> String {
    rfc3339.split('.').next().map_or_else(String::new, |whole| format!("{whole}Z"))
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header =
            ["DEVICE", "SIDE", "STATE", "SINCE (UTC)", "HOLDER", "FORMAT", "MUTED", "VOLUME"];
        // Names of devices and processes are as long as others made them.
        let mut table = show::wrapping_table(&header);
        for row in &self.0 {
            let state = match row.cause {
                Some(cause) => format!("{}: {cause}", row.state),
                None => row.state.to_owned(),
            };
            let holder = row.holder.as_ref().map(|holder| match &holder.name {
                Some(name) => format!("{name} ({})", holder.pid),
                None => format!("({})", holder.pid),
            });
            let format = row.format.as_ref().map(|format| {
                format!("{} {} Hz {} ch", format.sample, format.rate_hz, format.channels)
            });
            let muted = row.muted.map(|muted| if muted { "yes" } else { "no" });
            // Rounded down: 100 % is the top and 0 % may be one step above the bottom, which `muted` tells apart.
            let volume = row.volume.as_ref().map(|volume| {
                let percent = u64::from(volume.steps) * 100 / u64::from(volume.of.max(1));
                format!("{percent} %")
            });
            let time = row.since.split('T').nth(1).unwrap_or_default().trim_end_matches('Z');
            table.add_row([
                row.device.as_str(),
                row.side,
                &state,
                time,
                holder.as_deref().unwrap_or("-"),
                format.as_deref().unwrap_or("-"),
                muted.unwrap_or("-"),
                volume.as_deref().unwrap_or("-"),
            ]);
        }
        writeln!(f, "{table}")
    }
}

fn side(side: DeviceSide) -> &'static str {
    match side {
        DeviceSide::Capture => "capture",
        DeviceSide::Render => "render",
    }
}

fn state(state: State) -> (&'static str, Option<&'static str>) {
    use crate::audio::function::Blindness;
    match state {
        State::Absent => ("absent", None),
        State::Idle => ("idle", None),
        State::Starting => ("starting", None),
        State::Functioning => ("functioning", None),
        State::Suspect => ("suspect", None),
        State::Muted => ("muted", None),
        State::Busy => ("busy", None),
        State::NotFunctioning(cause) => ("not functioning", Some(self::cause(cause))),
        State::Unobservable(Blindness::NoPermission) => ("unobservable", Some("no permission")),
        State::Unobservable(Blindness::NoSubsystem) => ("unobservable", Some("no sound subsystem")),
        State::Unobservable(Blindness::Unreadable) => ("unobservable", Some("unreadable")),
        State::Unobservable(Blindness::NotPolled) => ("unobservable", Some("not polled")),
    }
}

fn cause(cause: DeviceCause) -> &'static str {
    match cause {
        DeviceCause::Removed => "removed",
        DeviceCause::NeverStarted => "never started",
        DeviceCause::Stalled => "stalled",
        DeviceCause::ZeroSignal => "zero signal",
        DeviceCause::ConstantSignal => "constant signal",
        DeviceCause::OpenFailed => "open failed",
        DeviceCause::StreamError => "stream error",
        DeviceCause::Suspended => "suspended",
        DeviceCause::WrongRoute => "wrong route",
        DeviceCause::ServerLost => "server lost",
        DeviceCause::SelfTestFailed => "self-test failed",
    }
}
