//! The kernel's side of the device: what `/proc/asound` tells, and programs that hold it as a call application would.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::trace::Trace;
use super::wait_for;
use crate::bench::definition::Bench;
use crate::headset::signal::Meter;
use crate::process::output;

/// A sound card.
#[derive(Debug, Clone)]
pub struct Card {
    id: String,
    rate_hz: u32,
    capture_channels: u8,
    render_channels: u8,
}

/// A direction, and the tool that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The microphone.
    Capture,
    /// The loudspeaker.
    Render,
}

/// How a program waits for a device that it reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// By poll, as call applications do.
    ByPoll,
    /// In a blocking read or write, which ends with EIO once the kernel has waited for the length of the buffer.
    Blocked,
}

/// What `status` of a PCM tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// `RUNNING`, `closed` and so on.
    pub state: String,
    /// Frames that the hardware has moved.
    pub pointer: u64,
    /// The process that opened it.
    pub owner: Option<u32>,
}

/// A program that holds a direction open; ended when dropped.
#[derive(Debug)]
pub struct Holder {
    child: Child,
}

/// How long a program may take to open a device: a hung control request blocks 5 s.
const OPENS_WITHIN: Duration = Duration::from_secs(10);

impl Card {
    /// The card of a bench.
    #[must_use]
    pub fn of(bench: &Bench) -> Self {
        Self {
            id: bench.card.clone(),
            rate_hz: bench.rate_hz,
            capture_channels: bench.capture_channels,
            render_channels: bench.render_channels,
        }
    }

    /// The card on the guest's mainboard, with a microphone that hears nothing and is off until its mixer says else.
    #[must_use]
    pub fn of_mainboard() -> Self {
        Self { id: "Intel".to_owned(), rate_hz: 48_000, capture_channels: 2, render_channels: 2 }
    }

    /// The guest's card that is a wire between its own ends.
    #[must_use]
    pub fn of_loopback() -> Self {
        Self { id: "Loopback".to_owned(), rate_hz: 48_000, capture_channels: 2, render_channels: 2 }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it is there, with both directions.
    #[must_use]
    pub fn is_present(&self) -> bool {
        [Side::Capture, Side::Render].iter().all(|&side| self.folder(side).join("status").exists())
            && self.control_device().is_some_and(|device| device.exists())
    }

    /// Waits until it is there.
    ///
    /// # Errors
    /// Where it does not come.
    pub fn wait_present(&self, within: Duration) -> Result<()> {
        wait_for(&format!("card {}", self.id), within, || Ok(self.is_present().then_some(())))
    }

    /// Waits until it is gone.
    ///
    /// # Errors
    /// Where it stays.
    pub fn wait_absent(&self, within: Duration) -> Result<()> {
        let gone = || !Path::new("/proc/asound").join(&self.id).exists();
        wait_for(&format!("leave of card {}", self.id), within, || Ok(gone().then_some(())))
    }

    /// A direction's status now.
    ///
    /// # Errors
    /// Where the card is not there.
    pub fn status(&self, side: Side) -> Result<Status> {
        let file = self.folder(side).join("status");
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Status::parse(&text))
    }

    /// Opens a direction as a call application does and keeps it open; opens it again whenever that ends.
    ///
    /// # Errors
    /// Where the tool cannot be started or the device does not open.
    pub fn hold(&self, side: Side) -> Result<Holder> {
        let holder = self.try_hold(side, Waits::ByPoll)?;
        self.wait_open(side)?;
        Ok(holder)
    }

    /// As [`hold`](Self::hold), through ALSA's plugins that let others join.
    ///
    /// # Errors
    /// As there.
    pub fn hold_shared(&self, side: Side) -> Result<Holder> {
        let (rate, channels) = self.shape(side);
        let device = format!("sysdefault:CARD={}", self.id);
        // Its buffers are those of whoever came first.
        let format = format!("-M -D {device} -f S16_LE -r {rate} -c {channels}");
        let holder = start_holder(side, &format)?;
        self.wait_open(side)?;
        Ok(holder)
    }

    fn wait_open(&self, side: Side) -> Result<()> {
        wait_for("an open device", OPENS_WITHIN, || {
            Ok((self.status(side)?.state != "closed").then_some(()))
        })
    }

    /// As [`hold`](Self::hold), without waiting for it.
    ///
    /// # Errors
    /// Where the tool cannot be started.
    pub fn try_hold(&self, side: Side, waits: Waits) -> Result<Holder> {
        start_holder(side, &self.format(side, waits).join(" "))
    }

    /// Holds the microphone by a program that does not start again after a sleep until it is told to.
    ///
    /// # Errors
    /// Where it does not open.
    pub fn hold_stubbornly(&self) -> Result<Holder> {
        let (rate, channels) = self.shape(Side::Capture);
        let own = std::env::current_exe().context("a running program has a path")?;
        let child = Command::new(own)
            .args(["hold", "--device", &format!("hw:CARD={},DEV=0", self.id)])
            .args(["--rate-hz", &rate.to_string(), "--channels", &channels.to_string()])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("cannot start a program that holds the device")?;
        let holder = Holder { child };
        wait_for("an open device", OPENS_WITHIN, || {
            Ok((self.status(Side::Capture)?.state != "closed").then_some(()))
        })?;
        Ok(holder)
    }

    /// Records for whole seconds; returns the level of all channels, of full scale.
    ///
    /// # Errors
    /// Where the device cannot be opened.
    pub fn record(&self, seconds: u32, state: &Path) -> Result<Meter> {
        let file = state.join("recorded.raw");
        let mut arecord = Command::new("arecord");
        arecord.args(["-q", "-t", "raw", "-d", &seconds.to_string()]);
        arecord.args(self.format(Side::Capture, Waits::ByPoll)).arg(&file);
        output(&mut arecord, [""; 0])?;
        let mut meter = Meter::default();
        meter.handle_samples(&fs::read(&file)?, 1.0);
        fs::remove_file(&file)?;
        Ok(meter)
    }

    /// Plays a file of raw samples.
    ///
    /// # Errors
    /// Where the device cannot be opened.
    pub fn play(&self, file: &Path) -> Result<()> {
        let mut aplay = Command::new("aplay");
        aplay.args(["-q", "-t", "raw"]).args(self.format(Side::Render, Waits::ByPoll)).arg(file);
        output(&mut aplay, [""; 0]).map(drop)
    }

    /// The rate and the number of channels that a direction is opened with.
    #[must_use]
    pub fn shape(&self, side: Side) -> (u32, u8) {
        match side {
            Side::Capture => (self.rate_hz, self.capture_channels),
            Side::Render => (self.rate_hz, self.render_channels),
        }
    }

    /// The mixer's view of a control, as `amixer` prints it.
    ///
    /// # Errors
    /// Where there is no such control.
    pub fn mixer(&self, arguments: &[&str]) -> Result<String> {
        let mut amixer = Command::new("amixer");
        amixer.args(["-c", &self.id]);
        output(&mut amixer, arguments)
    }

    /// Traces a direction into `file` until the trace is dropped.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn trace(&self, side: Side, file: &Path) -> Result<Trace> {
        Trace::start(self.folder(side), file)
    }

    fn folder(&self, side: Side) -> PathBuf {
        let pcm = match side {
            Side::Capture => "pcm0c/sub0",
            Side::Render => "pcm0p/sub0",
        };
        Path::new("/proc/asound").join(&self.id).join(pcm)
    }

    /// `/proc/asound/ID` is a link to `cardN`.
    fn control_device(&self) -> Option<PathBuf> {
        let link = fs::read_link(Path::new("/proc/asound").join(&self.id)).ok()?;
        let number = link.to_str()?.strip_prefix("card")?.to_owned();
        Some(PathBuf::from(format!("/dev/snd/controlC{number}")))
    }

    /// Periods of 50 ms: with shorter ones an emulated machine overruns. With `-M` the tools wait by poll.
    fn format(&self, side: Side, waits: Waits) -> Vec<String> {
        let (rate, channels) = self.shape(side);
        let device = format!("hw:CARD={},DEV=0", self.id);
        let words = ["-D", &device, "-f", "S16_LE", "-r", &rate.to_string(), "-c"];
        let mut words = words.map(str::to_owned).to_vec();
        words.extend([channels.to_string(), "--period-time=50000".into()]);
        words.push("--buffer-time=400000".into());
        words.extend((waits == Waits::ByPoll).then(|| "-M".to_owned()));
        words
    }
}

/// Starts a program that holds a direction, and starts it again whenever it ends.
fn start_holder(side: Side, format: &str) -> Result<Holder> {
    let (tool, end) = match side {
        Side::Capture => ("arecord", "/dev/null"),
        Side::Render => ("aplay", "/dev/zero"),
    };
    // An application that lost its device looks for it again.
    let script =
        format!("while :; do {tool} -q -t raw {format} {end} 2>/dev/null; sleep 0.2; done");
    Holder::of_script(&script)
}

impl Status {
    /// Reads what the kernel wrote.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let value = |key: &str| {
            text.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                (name.trim() == key).then(|| value.trim())
            })
        };
        Self {
            state: value("state").unwrap_or("closed").to_owned(),
            pointer: value("hw_ptr").and_then(|text| text.parse().ok()).unwrap_or(0),
            owner: value("owner_pid").and_then(|text| text.parse().ok()),
        }
    }
}

impl Holder {
    /// A shell's script and all that it starts.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn of_script(script: &str) -> Result<Self> {
        let child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start a program that holds the device")?;
        Ok(Self { child })
    }

    /// Tells a program that holds stubbornly to start again.
    ///
    /// # Errors
    /// Where it ended, or is another program.
    pub fn start_again(&mut self) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("this program listens to nobody")?;
        writeln!(stdin, "start").context("the program that held the device has ended")
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process_group};
        // The shell heads a group of its own, tool included.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes seconds of a sine of 1 kHz at `level` as raw samples.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_tone(file: &Path, shape: (u32, u8), seconds: u32, level: f64) -> Result<()> {
    let (rate, channels) = shape;
    if !(0.0..=1.0).contains(&level) {
        bail!("a level of {level} is not one of full scale");
    }
    let mut bytes = Vec::new();
    for at in 0..rate * seconds {
        let phase = std::f64::consts::TAU * 1_000.0 * f64::from(at) / f64::from(rate);
        let sample = (phase.sin() * level * 32_767.0).round() as i16;
        for _ in 0..channels {
            bytes.extend(sample.to_le_bytes());
        }
    }
    fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_read_as_the_kernel_writes_it() {
        let text = "state: RUNNING\nowner_pid   : 345\ntrigger_time: 12.345\nhw_ptr      : 48000\n";
        let running = Status { state: "RUNNING".into(), pointer: 48_000, owner: Some(345) };
        assert_eq!(Status::parse(text), running);
        let closed = Status { state: "closed".into(), pointer: 0, owner: None };
        assert_eq!(Status::parse("closed\n"), closed);
    }
}
