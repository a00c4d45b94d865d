//! Looks at this host for [`judge`](super::judge), and changes nothing: what is opened is closed again, and the
//! collector sees a handshake without a Hello, which takes no running agent's place.
//!
//! Every look ends: files are read up to a bound, the collector has the uplink's own time-outs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Facts, Reached, Socket, Sound, Spool, TimeSource};
use crate::audio::alsa_proc::SoundFiles;
use crate::clock::system;
use crate::config::Config;
use crate::configuration::file::{FILE, Found, look};
use crate::identity::folder::read_certificate;
use crate::identity::trusted_time::TrustedTime;
use crate::tap::live::ANY_INTERFACE;
use crate::tap::{LiveOptions, LiveTap};
use crate::uplink::quic::{Connector, LinkError};
use crate::uplink::{CLOSE_DONE, Settings};

/// How long a collector may take to speak against a certificate that TLS let through: one round trip on any path.
const OBJECTION_TIMEOUT: Duration = Duration::from_secs(1);

/// Looks at everything that can be wrong; `root` is where run, proc, dev and sys lie.
#[must_use]
pub fn examine(config_file: &Path, root: &Path) -> Facts {
    let (now, wall) = system::now_and_wall();
    // What lies beside a file without a folder in its name lies in this process's own.
    let config_file = std::path::absolute(config_file).unwrap_or_else(|_| config_file.to_owned());
    let loaded = Config::load(&config_file);
    let mut facts = Facts {
        config: Ok(config_file.display().to_string()),
        configuration: None,
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        is_root: rustix::process::geteuid().is_root(),
        wall_us: wall.stamp(now).wall_us,
        time: time_source(root),
        certificate: None,
        key_mode: None,
        identity: None,
        collector: None,
        tap: None,
        is_interface_down: false,
        sound: sound(root),
        spool: None,
        context: None,
    };
    match loaded {
        Ok(config) => with_config(&config, root, &mut facts),
        Err(error) => facts.config = Err(error.to_string()),
    }
    facts
}

fn with_config(config: &Config, root: &Path, facts: &mut Facts) {
    facts.configuration = match look(&config.spool.beside(FILE)) {
        Found::Kept(kept) => kept.latest().map(Ok),
        Found::Useless(why) => Some(Err(why)),
    };
    let certificate = &config.identity.certificate;
    facts.certificate =
        Some(read_certificate(certificate).map_err(|e| format!("{}: {e}", certificate.display())));
    facts.key_mode =
        fs::metadata(&config.identity.key).ok().map(|it| it.permissions().mode() & 0o777);
    let Settings { collector, identity, attempt_timeout, .. } =
        Settings::new(config.collector.clone(), config.identity.clone());
    match Connector::new(collector, identity, attempt_timeout) {
        Ok(connector) => {
            facts.identity = Some(Ok(()));
            facts.collector = Some(reach(&connector, TrustedTime::own(facts.wall_us)));
        }
        Err(error) => facts.identity = Some(Err(error.to_string())),
    }
    let options = LiveOptions {
        interface: config.tap.interface.clone(),
        snap_bytes: config.tap.snap_bytes,
        ring_bytes: config.tap.ring_bytes,
        block_timeout: config.tap.block_timeout,
        ..LiveOptions::default()
    };
    let opened = LiveTap::open(&options).map(|_| format!("packet heads of {}", options.interface));
    facts.tap = Some(opened.map_err(|error| error.to_string()));
    facts.is_interface_down = is_down(&config.tap.interface, root);
    facts.spool = Some(spool(&config.spool));
    facts.context = config.context.socket.as_deref().map(socket);
}

fn time_source(root: &Path) -> TimeSource {
    let is_there = |path: &&str| root.join(path).exists();
    if is_there(&"run/systemd/timesync/synchronized") {
        TimeSource::Synchronised
    } else if ["run/chrony/chronyd.pid", "run/chronyd.pid", "run/ntpd.pid"].iter().any(is_there) {
        TimeSource::Daemon
    } else {
        TimeSource::Unknown
    }
}

fn reach(connector: &Connector, time: TrustedTime) -> Reached {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Reached::No(error.to_string()),
    };
    let reached = runtime.block_on(async {
        let begin = Instant::now();
        let mut link = connector.connect(time).await?;
        let took = begin.elapsed();
        // TLS 1.3 ends for the client before the server has looked at its certificate.
        let mut byte = [0; 1];
        let objection = link.receiver.receive(&mut byte);
        let objection = tokio::time::timeout(OBJECTION_TIMEOUT, objection).await;
        link.close(CLOSE_DONE, "doctor").await;
        match objection {
            Ok(Err(error)) => Err::<Duration, LinkError>(error),
            Ok(Ok(_)) | Err(_) => Ok(took),
        }
    });
    match reached {
        Ok(took) => {
            Reached::Handshake { took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX) }
        }
        Err(error) => Reached::No(error.to_string()),
    }
}

fn is_down(interface: &str, root: &Path) -> bool {
    let state = root.join("sys/class/net").join(interface).join("operstate");
    interface != ANY_INTERFACE && fs::read_to_string(state).is_ok_and(|it| it.trim() == "down")
}

fn sound(root: &Path) -> Result<Sound, String> {
    let files = SoundFiles::new(root);
    let inventory = files.inventory().map_err(|error| error.to_string())?;
    let count = |capture| inventory.devices.iter().filter(|it| it.place.capture == capture).count();
    let mut cards: Vec<u8> = inventory.devices.iter().map(|it| it.place.card).collect();
    cards.sort_unstable();
    cards.dedup();
    let closed_cards = cards.into_iter().filter(|card| files.may_open(*card) == Some(false));
    Ok(Sound { capture: count(true), render: count(false), closed_cards: closed_cards.count() })
}

fn spool(config: &crate::config::Spool) -> Spool {
    use rustix::fs::{Access, access, statvfs};
    // The agent makes what is missing: then the nearest folder above decides.
    let there = config.directory.ancestors().find(|it| it.is_dir()).unwrap_or(Path::new("/"));
    let refused = access(there, Access::WRITE_OK | Access::EXEC_OK).err();
    let free = statvfs(there).ok();
    Spool {
        path: there.display().to_string(),
        refused: refused.map(|errno| std::io::Error::from(errno).to_string()),
        free_bytes: free.as_ref().map_or(0, |it| it.f_bavail.saturating_mul(it.f_frsize)),
        // File systems that make inodes as they go say that they have none in all.
        free_inodes: free.as_ref().filter(|it| it.f_files > 0).map(|it| it.f_favail),
        bytes_max: config.bytes_max,
        headroom_bytes: config.headroom_bytes,
        inodes_min: config.inodes_min,
    }
}

fn socket(path: &Path) -> Socket {
    match UnixStream::connect(path) {
        Ok(_) => Socket::Answers,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Socket::NoPermission,
        Err(_) if path.parent().is_some_and(Path::is_dir) => Socket::Silent,
        Err(_) => Socket::NoFolder,
    }
}
