//! The context socket: where the room application says that a call begins and ends.
//!
//! A Unix stream socket on the agent's main runtime; [`line`] is what clients say, [`register`] decides, [`reply`] is
//! what they hear. A shell: it cuts bytes into lines, hands changes to the tap's thread, and waits until these have
//! taken effect before it answers, so that an answer tells the call that came of it.
//!
//! The socket has mode 0660: the agent's user and group may open it. The file of an agent that died is replaced; that
//! of one that lives, and whatever is no socket, is left alone. Bounds: [`CLIENTS_MAX`] clients, one line and one
//! answer of each at a time, [`LINE_EVERY`]; a client that says nothing and holds no context is closed.

pub mod line;
pub mod register;
pub mod reply;

use std::cell::RefCell;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::clock::{Moment, WallOffset, system};
use crate::media::Event;
use crate::media::context::ContextChange;
use line::{LineError, Lines, parse};
use register::{ClientNumber, Register};
use reply::Reply;

/// Connections at once: a room has one application and an engineer who looks on.
pub const CLIENTS_MAX: usize = 16;
/// A client is heard this often at most, so that none keeps the main thread busy.
pub const LINE_EVERY: Duration = Duration::from_millis(50);
/// A client that holds no context may be silent for this long.
const SILENT_MAX: Duration = Duration::from_secs(60);
/// A line that has begun ends within this, and an answer is taken: both are written at once.
const LINE_WITHIN: Duration = Duration::from_secs(5);
/// How long an answer waits for the tap's thread: the longest `tap.block_timeout` of 1 s, and what a busy machine adds.
const SETTLED_WITHIN: Duration = Duration::from_secs(3);
/// How long a socket that lies there may take to show that somebody listens.
const PROBED_WITHIN: Duration = Duration::from_secs(1);
/// How long to wait where the system has no descriptor left for a client.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// Who may open the socket: the agent's user and group.
const MODE: u32 = 0o660;

/// Why there is no context socket. The agent goes on without.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another agent answers there.
    #[error("another agent listens at {}: give each its own context.socket", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// Something else lies there.
    #[error("{} is no socket: name another path in context.socket", path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// The directory is missing or closed to the agent, or the system refuses.
    #[error("cannot listen at {}: {source}; make its directory for the agent's user, or set context.socket", path.display())]
    Refused {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Somebody else may have removed it, which is what is wanted.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Listens at a path.
///
/// # Errors
/// [`SocketError`]: the agent goes on without.
pub async fn listen(path: &Path) -> Result<Listener, SocketError> {
    let refused = |source| SocketError::Refused { path: path.to_owned(), source };
    let socket = match UnixListener::bind(path) {
        Ok(socket) => socket,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            replace(path).await?;
            UnixListener::bind(path).map_err(refused)?
        }
        Err(error) => return Err(refused(error)),
    };
    let listener = Listener { socket, path: path.to_owned() };
    // Until here the umask alone decided, which opens it to fewer.
    std::fs::set_permissions(path, PermissionsExt::from_mode(MODE)).map_err(refused)?;
    Ok(listener)
}

/// Removes the socket of an agent that died.
async fn replace(path: &Path) -> Result<(), SocketError> {
    let refused = |source| SocketError::Refused { path: path.to_owned(), source };
    let found = std::fs::symlink_metadata(path).map_err(refused)?;
    if !found.file_type().is_socket() {
        return Err(SocketError::NotASocket { path: path.to_owned() });
    }
    match timeout(PROBED_WITHIN, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(refused)
        }
        // One that does not answer in time has a full queue, which somebody made.
        Ok(Ok(_)) | Err(_) => Err(SocketError::InUse { path: path.to_owned() }),
        Ok(Err(error)) => Err(refused(error)),
    }
}

/// What all clients share, and the journal with them.
#[derive(Clone)]
pub struct Desk {
    register: Rc<RefCell<Register>>,
    changed: Rc<Notify>,
    tell: Rc<dyn Fn(ContextChange, Moment)>,
}

impl Desk {
    /// A desk that nobody has come to. `tell` hands changes to the media watch, whose events come by [`Self::note`].
    pub fn new(tell: impl Fn(ContextChange, Moment) + 'static) -> Self {
        Self { register: Rc::default(), changed: Rc::default(), tell: Rc::new(tell) }
    }

    /// Takes what the media watch says.
    pub fn note(&self, event: &Event, wall: WallOffset) {
        self.register.borrow_mut().handle_event(event, wall);
        self.changed.notify_waiters();
    }

    /// Lets the register decide, and hands on what it decided.
    fn with<T>(&self, decide: impl FnOnce(&mut Register) -> T) -> T {
        let mut register = self.register.borrow_mut();
        let decided = decide(&mut register);
        while let Some((change, at)) = register.poll_change() {
            (self.tell)(change, at);
        }
        drop(register);
        self.changed.notify_waiters();
        decided
    }

    /// Waits until the tap's thread has done what it was told; at most as long as that takes where it is well.
    async fn settle(&self) {
        let settled = async {
            while !self.register.borrow().is_settled() {
                self.changed.notified().await;
            }
        };
        // An answer that does not know the call yet is better than none.
        let _ = timeout(SETTLED_WITHIN, settled).await;
    }

    async fn answer(&self, client: ClientNumber, line: Result<Vec<u8>, LineError>) -> Reply {
        let command = match line.and_then(|line| parse(&line)) {
            Ok(command) => command,
            Err(error) => return Reply::refused(&error),
        };
        let now = system::now();
        if let Err(error) = self.with(|register| register.handle_command(client, command, now)) {
            return Reply::refused(&error);
        }
        self.settle().await;
        Reply::done(&self.register.borrow(), system::now_and_wall().1)
    }

    fn is_holder(&self, client: ClientNumber) -> bool {
        self.register.borrow().is_holder(client)
    }
}

/// Serves clients until it is dropped.
pub async fn serve(listener: Listener, desk: Desk) {
    let mut clients = JoinSet::new();
    let mut number = 0;
    loop {
        let due = desk.register.borrow().poll_timeout();
        let due = due.map(|(at, _)| Instant::now() + at.since(system::now()));
        tokio::select! {
            accepted = listener.socket.accept() => match accepted {
                Ok((stream, _)) if clients.len() < CLIENTS_MAX => {
                    number += 1;
                    clients.spawn_local(attend(stream, ClientNumber(number), desk.clone()));
                }
                Ok((stream, _)) => {
                    // Fits into any socket's empty buffer, or the client is told by the closing alone.
                    let _ = stream.try_write(&Reply::refused(&Ended::Crowd).line());
                }
                Err(error) => {
                    tracing::warn!(%error, "a client of the context socket was not let in");
                    sleep(ACCEPT_AGAIN).await;
                }
            },
            Some(_) = clients.join_next(), if !clients.is_empty() => {}
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                desk.with(|register| register.handle_timeout(system::now()));
            }
            // The deadline may have moved.
            () = desk.changed.notified() => {}
        }
    }
}

/// Why a client's connection was closed from here.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{CLIENTS_MAX} clients are connected; close one, or try again later")]
    Crowd,
    #[error("closed: nothing was said for {} s and no call of this connection is open", SILENT_MAX.as_secs())]
    Silence,
    #[error("closed: a line that begins must end within {} s", LINE_WITHIN.as_secs())]
    Slow,
}

/// Serves one client until one of the two has had enough.
async fn attend(stream: UnixStream, client: ClientNumber, desk: Desk) {
    tracing::debug!(client = client.0, "a client came to the context socket");
    // An error means that the connection is gone, as its end does.
    let _ = converse(&stream, client, &desk).await;
    desk.with(|register| register.handle_gone(client, system::now()));
    tracing::debug!(client = client.0, "a client left the context socket");
}

async fn converse(stream: &UnixStream, client: ClientNumber, desk: &Desk) -> io::Result<()> {
    let mut lines = Lines::default();
    let mut heard_at = Instant::now();
    loop {
        if let Some(line) = lines.poll_line() {
            let is_beyond = line.is_err();
            let reply = desk.answer(client, line).await;
            write(stream, &reply).await?;
            if is_beyond {
                return Ok(());
            }
            heard_at = Instant::now();
            sleep(LINE_EVERY).await;
            continue;
        }
        let patience = if lines.is_amid() { LINE_WITHIN } else { SILENT_MAX };
        match timeout(patience.saturating_sub(heard_at.elapsed()), stream.readable()).await {
            Ok(ready) => ready?,
            Err(_) if lines.is_amid() => return write(stream, &Reply::refused(&Ended::Slow)).await,
            Err(_) if desk.is_holder(client) => {
                heard_at = Instant::now();
                continue;
            }
            Err(_) => return write(stream, &Reply::refused(&Ended::Silence)).await,
        }
        let is_first = !lines.is_amid();
        match stream.try_read(lines.space()) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                lines.handle_arrived(count);
                // Later bytes of a line do not buy it time.
                if is_first {
                    heard_at = Instant::now();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn write(stream: &UnixStream, reply: &Reply) -> io::Result<()> {
    let line = reply.line();
    let mut rest = &line[..];
    let written = async {
        while !rest.is_empty() {
            stream.writable().await?;
            match stream.try_write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    timeout(LINE_WITHIN, written).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
