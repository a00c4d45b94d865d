//! A call application that does not start again by itself: the one thing that no tool of ALSA does.
//!
//! After a sleep of the machine it prepares its stream, as it must, and waits for its user to start it. cpal 0.18 was
//! seen to do the same and to stay so. A line on stdin is the user.

use std::io::BufRead;
use std::sync::mpsc;

use alsa::pcm::{Access, Format, HwParams, PCM};
use alsa::{Direction, ValueOr};
use anyhow::{Context, Result};

/// What to open.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The device, such as `hw:CARD=SimHeadset`
    #[arg(long)]
    device: String,
    /// Frames per second
    #[arg(long)]
    rate_hz: u32,
    /// Channels of the microphone
    #[arg(long)]
    channels: u32,
}

/// How long a poll for frames may last; the user is looked after in between.
const POLL_MS: u32 = 100;
/// As the tools are told: with shorter periods an emulated machine overruns.
const PERIOD_US: u32 = 50_000;
const BUFFER_US: u32 = 400_000;

/// Holds the microphone until stdin ends.
///
/// # Errors
/// Where it cannot be opened, or fails by anything but a sleep or an overrun.
pub fn hold(options: &Options) -> Result<()> {
    let (sender, user) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let pcm = open(options).with_context(|| format!("cannot open {}", options.device))?;
    let mut samples = vec![0_i16; (options.rate_hz / 10 * options.channels) as usize];
    pcm.start().context("cannot start")?;
    let mut runs = true;
    loop {
        match user.recv_timeout(std::time::Duration::from_millis(if runs { 0 } else { 20 })) {
            Ok(_) => {
                pcm.prepare().context("cannot prepare")?;
                pcm.start().context("cannot start again")?;
                runs = true;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if !runs {
            continue;
        }
        let read = pcm.wait(Some(POLL_MS)).and_then(|_| pcm.io_i16()?.readi(&mut samples));
        match read.map_err(|error| error.errno()) {
            Ok(_) | Err(EAGAIN) => {}
            // An overrun is told by the same word as a sleep on hardware that cannot resume.
            Err(EPIPE | ESTRPIPE) => {
                pcm.prepare().context("cannot prepare after a sleep")?;
                runs = false;
            }
            Err(errno) => anyhow::bail!("reading ended with error {errno}"),
        }
    }
}

/// Linux error numbers: nothing to read yet, an overrun, a sleep.
const EAGAIN: i32 = 11;
const EPIPE: i32 = 32;
const ESTRPIPE: i32 = 86;

fn open(options: &Options) -> alsa::Result<PCM> {
    let pcm = PCM::new(&options.device, Direction::Capture, true)?;
    {
        let params = HwParams::any(&pcm)?;
        params.set_access(Access::RWInterleaved)?;
        params.set_format(Format::s16())?;
        params.set_channels(options.channels)?;
        params.set_rate(options.rate_hz, ValueOr::Nearest)?;
        params.set_period_time_near(PERIOD_US, ValueOr::Nearest)?;
        params.set_buffer_time_near(BUFFER_US, ValueOr::Nearest)?;
        pcm.hw_params(&params)?;
    }
    pcm.prepare()?;
    Ok(pcm)
}
