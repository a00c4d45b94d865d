//! What the service manager is told: that the agent observes, how it is, that its main loop still goes round.
//!
//! sd_notify(3) is one datagram of `KEY=value` lines to the socket that `NOTIFY_SOCKET` names. Without that variable,
//! as on a terminal, nothing is said. A datagram is never waited for: a manager that does not read must not hold up
//! a room, as the crate `sd-notify` would let it. The collector has a twin of this file.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<UnixDatagram>,
    /// How long it waits for a sign of life, where it does.
    watchdog: Option<Duration>,
    /// What it was told last.
    status: String,
}

impl Supervisor {
    /// The manager that started this process.
    #[must_use]
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var_os(name);
        let Some(address) = variable("NOTIFY_SOCKET") else { return Self::default() };
        let socket = match connect(&address) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be told anything");
                return Self::default();
            }
        };
        let (limit, process) = (variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
        let watchdog = watchdog(limit.as_deref(), process.as_deref(), std::process::id());
        Self { socket: Some(socket), watchdog, status: String::new() }
    }

    /// How often [`Self::alive`] is due: three times as often as the manager asks for, so that a late one does no
    /// harm. `None` where nobody waits for it.
    #[must_use]
    pub fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 3)
    }

    /// Says that the work has begun.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// Says that the process is about to end, as it was asked to.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Says that the main loop goes round. To be said by that loop only, and only where the rest makes progress too.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// Says in a line how things are, where that is another line than the last.
    ///
    /// Whoever may run `systemctl status` reads it: no names and no addresses.
    pub fn status(&mut self, line: &str) {
        if self.status != line {
            line.clone_into(&mut self.status);
            self.tell(&format!("STATUS={line}"));
        }
    }

    fn tell(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(state.as_bytes()) {
            tracing::debug!(%error, state, "the service manager was not told");
        }
    }
}

/// A path, or a name in the abstract namespace behind `@`; sd_notify(3).
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// The time within which a sign of life is expected; sd_watchdog_enabled(3). Variables for another process do not
/// count, nor do values that are no time.
fn watchdog(limit: Option<&OsStr>, process: Option<&OsStr>, own: u32) -> Option<Duration> {
    let number = |text: &OsStr| text.to_str()?.parse::<u64>().ok();
    let is_ours = process.is_none_or(|process| number(process) == Some(u64::from(own)));
    let limit = number(limit?).filter(|limit| *limit > 0)?;
    is_ours.then_some(Duration::from_micros(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_by(say: impl FnOnce(&mut Supervisor)) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let mut supervisor =
            Supervisor { socket: Some(connect(path.as_os_str()).unwrap()), ..Default::default() };
        say(&mut supervisor);
        let mut buffer = [0; 256];
        // A Unix datagram is there when its sending returns.
        std::iter::from_fn(|| {
            manager.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())
        })
        .map(|datagram| String::from_utf8(datagram).unwrap())
        .collect()
    }

    #[test]
    fn each_word_is_one_datagram_as_sd_notify_defines_it() {
        let told = told_by(|supervisor| {
            supervisor.ready();
            supervisor.status("no call");
            supervisor.alive();
            supervisor.stopping();
        });
        assert_eq!(told, ["READY=1", "STATUS=no call", "WATCHDOG=1", "STOPPING=1"]);
    }

    #[test]
    fn status_is_told_only_where_it_changes() {
        let told = told_by(|supervisor| {
            for line in ["no call", "no call", "in a call", "no call"] {
                supervisor.status(line);
            }
        });
        assert_eq!(told, ["STATUS=no call", "STATUS=in a call", "STATUS=no call"]);
    }

    #[test]
    fn name_behind_an_at_sign_is_abstract() {
        let name = format!("roomtone-agent-test-{}", std::process::id());
        let manager =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        connect(OsStr::new(&format!("@{name}"))).unwrap().send(b"READY=1").unwrap();
        let mut buffer = [0; 16];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
    }

    #[test]
    fn manager_that_does_not_read_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let supervisor =
            Supervisor { socket: Some(connect(path.as_os_str()).unwrap()), ..Default::default() };
        // The kernel lets net.unix.max_dgram_qlen datagrams wait, 10 by default and at most thousands.
        for _ in 0..100_000 {
            supervisor.alive();
        }
        drop(manager);
        supervisor.alive();
    }

    #[test]
    fn nothing_is_said_where_nobody_started_us() {
        let mut supervisor = Supervisor::default();
        supervisor.ready();
        supervisor.status("no call");
        assert_eq!(supervisor.alive_every(), None);
    }

    #[test]
    fn socket_that_does_not_exist_is_an_error() {
        for address in ["/nobody/listens/here", "", "relative"] {
            assert!(connect(OsStr::new(address)).is_err(), "{address:?}");
        }
    }

    #[test]
    fn watchdog_is_ours_only_with_our_process_id() {
        let limit = |limit: &str, process: Option<&str>| {
            watchdog(Some(OsStr::new(limit)), process.map(OsStr::new), 7)
        };
        assert_eq!(limit("90000000", Some("7")), Some(Duration::from_secs(90)));
        assert_eq!(limit("90000000", None), Some(Duration::from_secs(90)));
        assert_eq!(limit("90000000", Some("8")), None);
        for senseless in ["0", "-1", "soon", "", "18446744073709551616"] {
            assert_eq!(limit(senseless, None), None, "{senseless:?}");
        }
        assert_eq!(watchdog(None, Some(OsStr::new("7")), 7), None);
    }

    #[test]
    fn sign_of_life_comes_three_times_as_often_as_it_is_asked_for() {
        let supervisor =
            Supervisor { watchdog: Some(Duration::from_secs(90)), ..Supervisor::default() };
        assert_eq!(supervisor.alive_every(), Some(Duration::from_secs(30)));
    }
}
