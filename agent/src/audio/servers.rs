//! Sound servers that hold devices: told apart from other programs by name, and watched for their end.
//!
//! A program that closes its device has no use for it; a server that dies takes the device from programs that go on.
//! The kernel closes a dying process's files before it tells of its end, and tells by a pidfd, so that nobody polls.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::alsa_proc::Holder;

/// The names of their processes: PulseAudio, PipeWire (its session manager opens devices while it probes them), JACK.
const NAMES: [&str; 6] =
    ["pulseaudio", "pipewire", "pipewire-pulse", "wireplumber", "jackd", "jackdbus"];
/// Machines run one or two; of more, the latest are not watched.
const SERVERS_MAX: usize = 8;

/// The servers that hold a device, or held it last.
#[derive(Debug, Default)]
pub struct Servers {
    watched: Vec<(u32, OwnedFd)>,
}

/// Whether a process of this name serves other programs' sound.
#[must_use]
pub fn is_sound_server(name: &str) -> bool {
    NAMES.contains(&name)
}

impl Servers {
    /// Watches a holder for its end, if it is a server; returns its process then.
    pub fn watch(&mut self, holder: &Holder) -> Option<u32> {
        holder.name.as_deref().filter(|name| is_sound_server(name))?;
        if self.watched.iter().all(|(pid, _)| *pid != holder.pid) {
            let pid = Pid::from_raw(i32::try_from(holder.pid).ok()?)?;
            if self.watched.len() >= SERVERS_MAX {
                return None;
            }
            // One that ended meanwhile is no server any more, and its devices are read as closed.
            self.watched.push((holder.pid, pidfd_open(pid, PidfdFlags::empty()).ok()?));
        }
        Some(holder.pid)
    }

    /// What becomes readable when one ends, in a fixed order.
    pub fn fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.watched.iter().map(|(_, fd)| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN))
    }

    /// Forgets and returns those at these places of [`Self::fds`], which ended.
    pub fn take(&mut self, ended: &[usize]) -> Vec<u32> {
        let watched = ended.iter().filter_map(|at| self.watched.get(*at));
        let pids: Vec<u32> = watched.map(|(pid, _)| *pid).collect();
        self.keep(|pid| !pids.contains(&pid));
        pids
    }

    /// Forgets those that are not wanted.
    pub fn keep(&mut self, is_wanted: impl Fn(u32) -> bool) {
        self.watched.retain(|(pid, _)| is_wanted(*pid));
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::event::{Timespec, poll};

    use super::*;

    fn holder(pid: u32, name: &str) -> Holder {
        Holder { pid, name: Some(name.to_owned()) }
    }

    #[test]
    fn server_that_is_killed_is_told_at_once() {
        let mut server = Command::new("sleep").arg("60").spawn().unwrap();
        let mut servers = Servers::default();
        assert_eq!(servers.watch(&holder(server.id(), "pulseaudio")), Some(server.id()));
        let ready = |servers: &Servers, wait| {
            let mut fds: Vec<_> = servers.fds().collect();
            poll(&mut fds, Some(&Timespec { tv_sec: wait, tv_nsec: 0 })).unwrap()
        };
        assert_eq!(ready(&servers, 0), 0);
        server.kill().unwrap();
        assert_eq!(ready(&servers, 10), 1);
        assert_eq!(servers.take(&[0]), [server.id()]);
        assert_eq!(servers.fds().count(), 0);
        server.wait().unwrap();
    }

    #[test]
    fn other_programs_and_processes_that_are_gone_are_not_watched() {
        let mut servers = Servers::default();
        assert_eq!(servers.watch(&holder(std::process::id(), "teams-for-linux")), None);
        assert_eq!(servers.watch(&Holder { pid: std::process::id(), name: None }), None);
        assert_eq!(servers.watch(&holder(u32::MAX, "pulseaudio")), None);
        assert_eq!(servers.fds().count(), 0);
    }
}
