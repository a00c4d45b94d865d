//! The wire to `vhci_hcd` and the command socket, in one thread that never blocks on either.
//!
//! A command is one connection: a line in, a line of JSON out, with the wall time at which it took effect.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use super::command::Command;
use super::device::{Headset, Names};
use super::usbip::Decoder;

/// How to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port of the virtual bus, 0 to 7.
    pub port: u8,
    /// Where commands are taken.
    pub socket: PathBuf,
    /// What the headset calls itself.
    pub names: Names,
    /// Whether it waits for `plug` instead of being plugged at once.
    pub unplugged: bool,
}

/// Where the kernel takes devices.
const BUS: &str = "/sys/devices/platform/vhci_hcd.0";
/// How long the kernel may take to free a port: it waits for the drivers of the device before.
const PORT_FREE_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take for its line; the headset stands still meanwhile.
const LINE_WITHIN: Duration = Duration::from_millis(50);
/// Longest line of a client.
const LINE_BYTES_MAX: u64 = 200;

/// Serves until the process ends.
///
/// # Errors
/// Where the virtual bus is missing or the socket cannot be made.
pub fn serve(options: &Options) -> Result<()> {
    // A socket left over from an earlier run would refuse the name.
    let _ = fs::remove_file(&options.socket);
    let listener = UnixListener::bind(&options.socket)
        .with_context(|| format!("cannot make the socket {}", options.socket.display()))?;
    let mut headset = Headset::new(options.names.clone());
    let mut link = None;
    if !options.unplugged {
        link = Some(Link::attach(options.port)?);
    }
    loop {
        let timeout = headset.poll_timeout().map(|due| {
            let wait = due.saturating_duration_since(Instant::now());
            Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 })
        });
        let (called, moved) = {
            let mut waits = vec![PollFd::new(&listener, PollFlags::IN)];
            waits.extend(link.as_ref().map(|link| PollFd::new(&link.stream, PollFlags::IN)));
            match poll(&mut waits, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for the wire"),
            }
            let ready = |at: usize| waits.get(at).is_some_and(|wait| !wait.revents().is_empty());
            (ready(0), ready(1))
        };
        if moved
            && let Some(up) = &mut link
            && let Err(error) = up.read(&mut headset)
        {
            eprintln!("roomtone-headset: off the bus: {error:#}");
            headset.handle_command(Command::Unplug);
            link = None;
        }
        if called {
            answer(&listener, &mut headset, &mut link, options.port);
        }
        if let Some(up) = &mut link {
            up.write(&mut headset)?;
        }
    }
}

/// Tells a serving headset a command; returns its answer.
///
/// # Errors
/// Where nobody serves, or the headset refused; the error has its words.
pub fn tell(socket: &Path, command: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("no headset serves at {}", socket.display()))?;
    stream.set_read_timeout(Some(PORT_FREE_WITHIN + Duration::from_secs(5)))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut said = String::new();
    stream.read_to_string(&mut said).context("the headset did not answer")?;
    let said: Value = serde_json::from_str(&said).context("the headset answered no JSON")?;
    match said["error"].as_str() {
        Some(error) => bail!("the headset refused {command:?}: {error}"),
        None => Ok(said),
    }
}

/// The kernel's end of the wire is a file of the socket pair, and ours.
struct Link {
    stream: UnixStream,
    decoder: Decoder,
}

impl Link {
    fn attach(port: u8) -> Result<Self> {
        /// `USB_SPEED_FULL` of the kernel.
        const FULL_SPEED: u8 = 2;
        /// Bus 1, device 2 in the words of the remote host that does not exist.
        const DEVICE: u32 = 0x1_0002;
        let (stream, kernels) = UnixStream::pair().context("cannot make the wire")?;
        let line = format!("{port} {} {DEVICE} {FULL_SPEED}", kernels.as_raw_fd());
        let file = format!("{BUS}/attach");
        let until = Instant::now() + PORT_FREE_WITHIN;
        loop {
            match fs::write(&file, &line) {
                Ok(()) => break,
                // The device before is still on its way out.
                Err(error)
                    if error.kind() == std::io::ErrorKind::ResourceBusy
                        && Instant::now() < until =>
                {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!(
                            "cannot attach to {file}: is the module vhci-hcd loaded, and are you root?"
                        )
                    });
                }
            }
        }
        Ok(Self { stream, decoder: Decoder::default() })
    }

    fn read(&mut self, headset: &mut Headset) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            bail!("the host closed the wire");
        }
        self.decoder.handle_bytes(&buffer[..count]);
        let now = Instant::now();
        while let Some(request) = self.decoder.poll_request()? {
            headset.handle_request(request, now);
        }
        Ok(())
    }

    fn write(&mut self, headset: &mut Headset) -> Result<()> {
        while let Some(reply) = headset.poll_reply(Instant::now()) {
            if let Err(error) = self.stream.write_all(&reply.encode()) {
                // The host is gone; the next read tells so and drops the link.
                if error.kind() == std::io::ErrorKind::BrokenPipe {
                    return Ok(());
                }
                return Err(error).context("cannot write to the wire");
            }
        }
        Ok(())
    }
}

/// Serves one client. Its failures are its own.
fn answer(listener: &UnixListener, headset: &mut Headset, link: &mut Option<Link>, port: u8) {
    let Ok((client, _)) = listener.accept() else { return };
    let mut line = String::new();
    let read = client
        .set_read_timeout(Some(LINE_WITHIN))
        .and_then(|()| BufReader::new((&client).take(LINE_BYTES_MAX)).read_line(&mut line));
    let said = match read {
        Err(error) => json!({ "error": format!("no whole line came: {error}") }),
        Ok(_) => match obey(&line, headset, link, port) {
            Ok(said) => said,
            Err(error) => json!({ "error": format!("{error:#}") }),
        },
    };
    // A client that went away does not miss its answer.
    let _ = (&client).write_all(said.to_string().as_bytes());
}

fn obey(line: &str, headset: &mut Headset, link: &mut Option<Link>, port: u8) -> Result<Value> {
    let command = Command::parse(line)?;
    let mut said = json!({});
    match command {
        Command::Plug if link.is_some() => bail!("it is plugged already"),
        Command::Unplug if link.is_none() => bail!("it is not plugged"),
        Command::Plug => {
            headset.handle_command(command);
            *link = Some(Link::attach(port)?);
        }
        Command::Unplug => {
            *link = None;
            headset.handle_command(command);
        }
        Command::Stat => said = serde_json::to_value(headset.take_stat())?,
        Command::Stall(_)
        | Command::Resume
        | Command::Hear(_)
        | Command::NoData
        | Command::PacketError(..)
        | Command::Button
        | Command::ControlStall
        | Command::ControlHang => headset.handle_command(command),
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    said["atMs"] = json!(since.as_secs_f64() * 1e3);
    said["plugged"] = json!(link.is_some());
    Ok(said)
}
