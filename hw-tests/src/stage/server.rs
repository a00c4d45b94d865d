//! A sound server that owns the microphone, and an application that records through it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::sound::{Card, Holder, Side};
use super::wait_for;
use crate::guest::image::SERVER_MODULES_FOLDER;
use crate::process::{Running, output};

/// A sound server; ended when dropped.
#[derive(Debug)]
pub struct Server {
    running: Running,
    socket: PathBuf,
}

/// A server may take this long to load its modules in an emulated machine.
const STARTS_WITHIN: Duration = Duration::from_secs(20);
/// The name of the microphone at the server.
const SOURCE: &str = "mic";
/// The card's mixer control that mutes its microphone.
const CONTROL: &str = "Mic";

impl Server {
    /// Starts PulseAudio on the microphone of `card`. It lets go of an idle microphone after `idle_s`.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(card: &Card, state: &Path, idle_s: u32) -> Result<Self> {
        let socket = state.join("pulse.sock");
        // A killed server leaves its socket.
        let _ = std::fs::remove_file(&socket);
        let (rate, channels) = card.shape(Side::Capture);
        let mut command = Command::new("pulseaudio");
        command
            .env("PULSE_RUNTIME_PATH", state.join("pulse"))
            .env("PULSE_STATE_PATH", state.join("pulse"))
            .args(["-n", "--daemonize=no", "--use-pid-file=no", "--disable-shm=yes"])
            .args(["--realtime=no", "--high-priority=no", "--exit-idle-time=-1"])
            .args(["--dl-search-path", SERVER_MODULES_FOLDER])
            .args(["-L", &format!("module-native-protocol-unix socket={} auth-anonymous=1", socket.display())])
            .args([
                "-L",
                &format!(
                    "module-alsa-source source_name={SOURCE} device=hw:{} control={CONTROL} rate={rate} channels={channels} \
                     tsched=0 fragments=8 fragment_size={}",
                    card.id(),
                    // 50 ms of samples of two bytes: with shorter ones an emulated machine overruns.
                    rate / 20 * u32::from(channels) * 2
                ),
            ])
            .args(["-L", &format!("module-suspend-on-idle timeout={idle_s}")]);
        let running = Running::start("the sound server", &mut command, &state.join("pulse.log"))?;
        let server = Self { running, socket };
        wait_for("the sound server's microphone", STARTS_WITHIN, || {
            Ok(server.control(&["get-source-mute", SOURCE]).ok())
        })?;
        Ok(server)
    }

    /// Starts an application that records through the server, and connects anew whenever that ends.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn record(&self) -> Result<Holder> {
        let script = format!(
            "while :; do pacat --record --server=unix:{} --device={SOURCE} --raw --latency-msec=100 >/dev/null 2>&1; \
             sleep 0.2; done",
            self.socket.display()
        );
        Holder::of_script(&script)
    }

    /// Mutes the microphone at the server, or ends that.
    ///
    /// # Errors
    /// Where the server does not obey.
    pub fn mute(&self, word: &str) -> Result<()> {
        self.control(&["set-source-mute", SOURCE, word])
    }

    /// Kills it without warning.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn kill(self) -> Result<()> {
        self.running.kill()
    }

    fn control(&self, arguments: &[&str]) -> Result<()> {
        let mut pactl = Command::new("pactl");
        pactl.arg(format!("--server=unix:{}", self.socket.display())).stdin(Stdio::null());
        output(&mut pactl, arguments).context("the sound server does not answer").map(drop)
    }
}
