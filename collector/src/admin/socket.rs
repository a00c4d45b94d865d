//! The admin socket: who may speak on it, how long, how much; what is said is `dialogue`'s affair.
//!
//! The file has mode 0600, and only root and the collector's own user are heard, whatever the file's mode was for a
//! moment. [`CONNECTIONS_MAX`] at once, a line in [`LINE_WAIT`], [`LINE_BYTES_MAX`] of it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::dialogue::{
    Answer, Disk, LINE_BYTES_MAX, Rechecked, Reconfigured, Reports, Request, Status,
};
use crate::fleet::live::{Fleet, FleetCounts};
use crate::identity::refusal::Refusal;
use crate::identity::registrar::Registrar;
use crate::ingest::downlink::{Downlinks, NotAsked};
use crate::ingest::exchange::CloseReason;
use crate::ingest::pacer::Pacer;
use crate::ingest::quic::Links;
use crate::ingest::writer::{Room, RoomFacts};

/// The most connections at once: people at one collector.
pub const CONNECTIONS_MAX: usize = 16;
/// How long a peer may take to write a line, or to read one.
const LINE_WAIT: Duration = Duration::from_secs(10);
/// How long the others may wait for one that is turned away.
const BUSY_WAIT: Duration = Duration::from_millis(100);
/// How long to rest where the system has no descriptor for one more connection.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// The longest path of a unix socket, in bytes: `sun_path` of unix(7) without its final zero.
const PATH_BYTES_MAX: usize = 107;

/// Why the admin socket cannot be used. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Another process listens there. Stop it, or choose another path.
    #[error("{} is in use by another roomtone-collector: stop it, or set another admin.socket", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has the name. It is not ours to remove.
    #[error("{} is there and is not a socket: remove it, or set another admin.socket", path.display())]
    NotASocket {
        /// What is there.
        path: PathBuf,
    },
    /// The kernel takes no such path for a socket.
    #[error("{} has {} bytes, a socket's path has at most {PATH_BYTES_MAX}: set a shorter admin.socket", path.display(), path.as_os_str().len())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The socket cannot be made. Mend its folder or that folder's rights.
    #[error("cannot listen on {}: {source}", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A listening admin socket; its file goes when it is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode, so that nobody else's file is removed at the end.
    identity: (u64, u64),
}

/// What requests are carried out on.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The ways down to connected endpoints.
    pub downlinks: Downlinks,
    /// What endpoints are to be set to.
    pub fleet: Arc<Fleet>,
    /// The connections of endpoints.
    pub links: Links,
    /// How much endpoints may bring.
    pub pacer: Pacer,
    /// Who is heard.
    pub registrar: Arc<Registrar>,
    /// The space of the store's disk.
    pub room: Room,
    /// When `serve` began.
    pub since: Instant,
}

impl AdminSocket {
    /// Listens at `path`, in place of the socket of a process that is gone.
    ///
    /// # Errors
    /// [`AdminError`] where another process listens there or the path cannot be used.
    pub async fn bind(path: &Path) -> Result<Self, AdminError> {
        let bind = |source| AdminError::Bind { path: path.to_owned(), source };
        if path.as_os_str().len() > PATH_BYTES_MAX {
            return Err(AdminError::PathTooLong { path: path.to_owned() });
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(AdminError::NotASocket { path: path.to_owned() });
            }
            Ok(_) => match UnixStream::connect(path).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(bind)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // Somebody listens, or at least holds it with a full queue.
                Ok(_) | Err(_) => return Err(AdminError::InUse { path: path.to_owned() }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(bind(error)),
        }
        let listener = UnixListener::bind(path).map_err(bind)?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(bind)?;
        let identity = identity(path).map_err(bind)?;
        Ok(Self { listener, path: path.to_owned(), identity })
    }

    /// Answers requests until `shutdown` turns true; those under way are cut.
    pub async fn run(self, desk: Desk, mut shutdown: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = tasks.join_next() => continue,
                _ = shutdown.wait_for(|is_over| *is_over) => break,
            };
            let mut stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "a connection to the admin socket was lost");
                    tokio::time::sleep(ACCEPT_REST).await;
                    continue;
                }
            };
            if !is_ours(&stream) {
                tracing::warn!("turned another user away from the admin socket");
                continue;
            }
            let Ok(place) = places.clone().try_acquire_owned() else {
                // Fits into the buffer of a new socket, so it does not wait; who has left does not matter.
                let line = Answer::busy().to_line();
                let _ = timeout(BUSY_WAIT, stream.write_all(line.as_bytes())).await;
                continue;
            };
            let desk = desk.clone();
            tasks.spawn(async move {
                // A peer that hangs up ends its connection and nothing else.
                let _ = converse(stream, &desk).await;
                drop(place);
            });
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|it| (it.dev(), it.ino()))
}

/// Whether the peer is root or the user that this process is.
fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

/// Answers line by line until the peer has no more, takes too long or writes what is no line.
async fn converse(stream: UnixStream, desk: &Desk) -> io::Result<()> {
    let (receiver, mut sender) = stream.into_split();
    let mut receiver = BufReader::new(receiver);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut receiver).take(LINE_BYTES_MAX as u64 + 1);
        timeout(LINE_WAIT, bounded.read_until(b'\n', &mut line)).await??;
        if line.is_empty() {
            return Ok(());
        }
        let is_whole = line.len() <= LINE_BYTES_MAX;
        let answer = if is_whole {
            match Request::from_line(&line) {
                Ok(request) => carry_out(request, desk).await,
                Err(refusal) => refusal,
            }
        } else {
            Answer::line_too_long()
        };
        timeout(LINE_WAIT, sender.write_all(answer.to_line().as_bytes())).await??;
        if !is_whole {
            return Ok(());
        }
    }
}

async fn carry_out(request: Request, desk: &Desk) -> Answer {
    match request {
        Request::SelfTest { endpoint, wait } => {
            match desk.downlinks.ask_for_self_test(endpoint, Instant::now()) {
                Ok(result) => match timeout(wait, result).await {
                    Ok(Ok(by)) => Answer::self_test(by),
                    // The connection ended before the request went down.
                    Ok(Err(_)) => Answer::not_asked(NotAsked::NotConnected),
                    Err(_) => Answer::no_answer(wait),
                },
                Err(why) => Answer::not_asked(why),
            }
        }
        Request::Recheck { endpoint } => {
            let registrar = desk.registrar.clone();
            let looked_up = tokio::task::spawn_blocking(move || registrar.recheck(endpoint)).await;
            match looked_up {
                // The registrar knows by now, so a connection that comes meanwhile ends itself.
                Ok(Ok(true)) => {
                    let cut = desk.links.cut(endpoint, CloseReason::Revoked);
                    Answer::Rechecked(Rechecked { cut })
                }
                Ok(Ok(false)) => Answer::Rechecked(Rechecked { cut: false }),
                Ok(Err(_)) | Err(_) => Answer::no_registry(),
            }
        }
        Request::Reconfigure => {
            let fleet = desk.fleet.clone();
            if !fleet.is_kept() {
                return Answer::no_book();
            }
            match tokio::task::spawn_blocking(move || fleet.reload()).await {
                Ok(Ok(sent)) => Answer::Reconfigured(Reconfigured { sent }),
                Ok(Err(_)) | Err(_) => Answer::no_book(),
            }
        }
        Request::Status => Answer::Status(Box::new(status(desk))),
    }
}

fn disk(room: RoomFacts) -> Disk {
    let RoomFacts { is_low, free_bytes, needed_bytes, batches_refused } = room;
    Disk { low: is_low, free_bytes, needed_bytes, batches_refused }
}

fn status(desk: &Desk) -> Status {
    let refusals = desk.registrar.refusals();
    let FleetCounts { reports: taken, excess, malformed } = desk.fleet.counts();
    let counted = Refusal::ALL.map(|it| (it.name().to_owned(), refusals.count(it)));
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: desk.since.elapsed().as_secs(),
        connected: desk.links.count() as u64,
        held: desk.pacer.held() as u64,
        enrolling: desk.registrar.is_enrolling(),
        refusals: counted.into_iter().filter(|(_, count)| *count > 0).collect(),
        reports: Reports { kept: desk.fleet.is_kept(), taken, excess, malformed },
        disk: disk(desk.room.facts()),
    }
}
