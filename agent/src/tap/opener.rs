//! A tap for an agent that may not open one: a socket handed over by a process that lives for that moment only.
//!
//! The agent connects to a Unix socket of the service manager, which starts `roomtone-agent open-tap` with the
//! connection as its stdin, CAP_NET_RAW, and no other right. One JSON line says what is wanted, one line is the
//! answer:
//! ```text
//! {"interface":"any","snapBytes":128,"ringBytes":1048576,"blockTimeoutMs":250,"exclude":["192.0.2.7:443"]}
//! {"opened":{"blockBytes":131072,"blocks":8}}          and the packet socket (SCM_RIGHTS)
//! {"refused":"no interface `eth7`: this machine has lo, eth0, any"}
//! {"unfit":"ring size in bytes is 1, allowed are 524288 to 67108864"}
//! ```
//! Then the opener ends: packets go from the kernel to the agent's mapping of the ring, and nothing is copied twice.
//!
//! This is a boundary of rights. Whoever may connect is given the heads of this machine's UDP packets and nothing
//! beyond: the filter is the opener's own, locked, and what is asked for is held to the opener's own bounds. A
//! request is hostile until it is parsed.

use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::kernel::RingShape;
use super::socket::{self, SocketError, TapSocket};
use super::{LiveOptions, TapError};

/// Where the agent's package has the service manager listen.
pub const OPENER_SOCKET: &str = "/run/roomtone-tap.sock";

/// A request with an IPv6 address 16 times has some 900 bytes; an answer that lists the interfaces of a machine with
/// 500 of them some 8,000.
const REQUEST_BYTES_MAX: usize = 2_048;
const ANSWER_BYTES_MAX: usize = 16 * 1_024;

/// `IFNAMSIZ` of `linux/if.h`, without the byte that ends a name there.
const INTERFACE_BYTES_MAX: usize = 15;

/// The most of a packet that is handed out, in bytes: what `tap.snap_bytes` allows.
const SNAP_BYTES_MAX: u32 = 1_024;

/// How long either side waits for the other. Starting a process on a busy machine takes most of it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an agent asks for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    interface: String,
    snap_bytes: u32,
    ring_bytes: u32,
    block_timeout_ms: u32,
    exclude: Vec<SocketAddr>,
}

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Answer {
    /// The socket comes with this line; the shape of its ring.
    #[serde(rename_all = "camelCase")]
    Opened { block_bytes: u32, blocks: u32 },
    /// Why there is none now.
    Refused(String),
    /// Why there is none with these options.
    Unfit(String),
}

/// Why no tap was handed over.
#[derive(Debug, thiserror::Error)]
pub enum OpenerError {
    /// Stdin is none of a service manager's connections.
    #[error(
        "stdin is no connection of an agent: roomtone-tap.socket starts this, nobody else needs to"
    )]
    NotAConnection,
    /// The other side is not an agent of this version.
    #[error("what was sent is no request for a tap: {0}")]
    NotARequest(&'static str),
    /// The tap could not be opened, which the other side was told.
    #[error(transparent)]
    NotOpened(TapError),
    /// The other side went away.
    #[error("the agent cannot be answered")]
    Answer(#[source] io::Error),
}

/// Serves the one request of a connection.
///
/// # Errors
/// [`OpenerError`]; where the other side still listens it was told why.
pub fn serve(connection: impl AsFd) -> Result<(), OpenerError> {
    let connection = connection.as_fd();
    if sockopt::socket_domain(connection) != Ok(AddressFamily::UNIX)
        || sockopt::socket_type(connection) != Ok(SocketType::STREAM)
    {
        return Err(OpenerError::NotAConnection);
    }
    let connection = connection.try_clone_to_owned().map_err(OpenerError::Answer)?;
    let mut connection = UnixStream::from(connection);
    let opened = receive_request(&mut connection)
        .and_then(|request| open(&request).map_err(OpenerError::NotOpened));
    match opened {
        Ok(TapSocket { socket, shape: RingShape { block_bytes, blocks } }) => {
            answer(&connection, &Answer::Opened { block_bytes, blocks }, Some(&socket))
        }
        Err(error) => {
            let why = error.to_string();
            let told = match &error {
                OpenerError::NotOpened(error) if error.is_of_options() => Answer::Unfit(why),
                OpenerError::NotOpened(_)
                | OpenerError::NotAConnection
                | OpenerError::NotARequest(_)
                | OpenerError::Answer(_) => Answer::Refused(why),
            };
            answer(&connection, &told, None)?;
            Err(error)
        }
    }
}

fn receive_request(connection: &mut UnixStream) -> Result<Request, OpenerError> {
    connection.set_read_timeout(Some(PATIENCE)).map_err(OpenerError::Answer)?;
    connection.set_write_timeout(Some(PATIENCE)).map_err(OpenerError::Answer)?;
    let mut line = Vec::new();
    let mut buffer = [0; 512];
    while !line.ends_with(b"\n") {
        let length = match connection.read(&mut buffer) {
            Ok(0) => return Err(OpenerError::NotARequest("it ends in its line")),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(OpenerError::NotARequest("its line did not end in time")),
        };
        line.extend_from_slice(buffer.get(..length).unwrap_or_default());
        if line.len() > REQUEST_BYTES_MAX {
            return Err(OpenerError::NotARequest("its line is too long"));
        }
    }
    // What exactly is wrong with a line stands in it, and belongs into no log.
    let request: Request = serde_json::from_slice(&line)
        .map_err(|_| OpenerError::NotARequest("its line is none that is known"))?;
    // It is said again where no interface has it.
    if request.interface.len() > INTERFACE_BYTES_MAX || request.interface.contains(char::is_control)
    {
        return Err(OpenerError::NotARequest("its interface is no name"));
    }
    Ok(request)
}

/// Opens what is asked for, within the opener's own bounds.
fn open(request: &Request) -> Result<TapSocket, TapError> {
    let &Request { ref interface, snap_bytes, ring_bytes, block_timeout_ms, ref exclude } = request;
    let options = LiveOptions {
        interface: interface.clone(),
        snap_bytes,
        ring_bytes,
        block_timeout: Duration::from_millis(block_timeout_ms.into()),
        exclude: exclude.clone(),
        ..LiveOptions::default()
    };
    options.check(SNAP_BYTES_MAX)?;
    let index = socket::find_interface(interface)?;
    socket::open(&options, index).map_err(|error| match error {
        SocketError::NotAllowed(errno) => TapError::Capture {
            interface: interface.clone(),
            step: "make a packet socket: the opener itself has no CAP_NET_RAW",
            reason: errno.into(),
        },
        SocketError::Other(error) => error,
    })
}

fn answer(
    connection: &UnixStream,
    answer: &Answer,
    socket: Option<&OwnedFd>,
) -> Result<(), OpenerError> {
    let mut line = serde_json::to_vec(answer).map_err(|error| OpenerError::Answer(error.into()))?;
    line.push(b'\n');
    let descriptors = socket.map(AsFd::as_fd);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if descriptors.is_some() {
        let fits = ancillary.push(SendAncillaryMessage::ScmRights(descriptors.as_slice()));
        assert!(fits, "the space is made for one descriptor");
    }
    // One message, far smaller than any socket's buffer: it is taken as a whole or not at all.
    let parts = [io::IoSlice::new(&line)];
    let sent = sendmsg(connection, &parts, &mut ancillary, SendFlags::NOSIGNAL);
    sent.map(drop).map_err(|errno| OpenerError::Answer(errno.into()))
}

/// Asks the opener at `path` for a tap.
///
/// # Errors
/// `Permission` where nobody listens there, or not for this process; `Unfit` where the options are to blame; `Opener`
/// with what else it says, or with what is wrong with its answer.
pub(super) fn ask(path: &Path, options: &LiveOptions) -> Result<TapSocket, TapError> {
    let connection =
        connect(path).map_err(|reason| TapError::Permission { opener: path.to_owned(), reason })?;
    let unusable = |what: &str| TapError::Opener(what.to_owned());
    let failed = |error: io::Error| TapError::Opener(format!("nothing within 5 s ({error})"));
    let request = Request {
        interface: options.interface.clone(),
        snap_bytes: options.snap_bytes,
        ring_bytes: options.ring_bytes,
        block_timeout_ms: u32::try_from(options.block_timeout.as_millis()).unwrap_or(u32::MAX),
        exclude: options.exclude.clone(),
    };
    let mut line = serde_json::to_vec(&request).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    io::Write::write_all(&mut &connection, &line).map_err(failed)?;
    let (line, socket) = receive_answer(&connection).map_err(failed)?;
    match (serde_json::from_slice(&line), socket) {
        (Ok(Answer::Opened { block_bytes, blocks }), Some(socket)) => {
            // Whatever else it is would be read as packets.
            if sockopt::socket_domain(&socket) != Ok(AddressFamily::PACKET) {
                return Err(unusable("here is a tap, and hands over something else"));
            }
            Ok(TapSocket { socket, shape: RingShape { block_bytes, blocks } })
        }
        (Ok(Answer::Opened { .. }), None) => Err(unusable("here is a tap, and hands over none")),
        (Ok(Answer::Refused(why)), _) => Err(TapError::Opener(why)),
        (Ok(Answer::Unfit(why)), _) => Err(TapError::Unfit(why)),
        (Err(_), _) => Err(unusable("something that is no answer: is it of another version?")),
    }
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    // Before the connect, which waits too where the opener's queue is full.
    for direction in [Timeout::Send, Timeout::Recv] {
        sockopt::set_socket_timeout(&socket, direction, Some(PATIENCE))?;
    }
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// The line, and the descriptor that came with it.
fn receive_answer(connection: &UnixStream) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let (mut line, mut received) = (Vec::new(), None);
    let mut buffer = [0; 1_024];
    while !line.ends_with(b"\n") && line.len() <= ANSWER_BYTES_MAX {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let message = match recvmsg(connection, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        {
            Ok(message) => message,
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                received = descriptors.last().or(received);
            }
        }
        if message.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(buffer.get(..message.bytes).unwrap_or_default());
    }
    Ok((line, received))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What an agent says that asks somebody who does `answer`.
    fn asked(answer: impl FnOnce(UnixStream) + Send + 'static) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tap.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let opener = std::thread::spawn(move || {
            let (connection, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(&connection).read_line(&mut request).unwrap();
            assert!(request.len() <= REQUEST_BYTES_MAX, "{request}");
            answer(connection);
        });
        let exclude = vec!["[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535".parse().unwrap(); 16];
        let options = LiveOptions { exclude, ..LiveOptions::default() };
        let told = ask(&path, &options).unwrap_err().to_string();
        opener.join().unwrap();
        told
    }

    #[test]
    fn wrong_answers_are_told_and_open_nothing() {
        let opened = "{\"opened\":{\"blockBytes\":131072,\"blocks\":8}}\n";
        let says = |text: &str| {
            let text = text.to_owned();
            asked(move |mut connection| {
                // The agent may have gone, where it has read enough.
                let _ = connection.write_all(text.as_bytes());
            })
        };
        assert_eq!(says("{\"refused\":\"no\"}\n"), "the tap's opener says: no");
        assert_eq!(says("{\"unfit\":\"too much\"}\n"), "the tap's opener says: too much");
        assert!(says(opened).ends_with("hands over none"));
        for text in ["\n", "hello\n", "{\"opened\":{}}\n", &"x".repeat(20_000)] {
            assert!(says(text).ends_with("is it of another version?"), "{text}");
        }
        for text in ["", "{\"opened\""] {
            assert!(says(text).contains("nothing within 5 s"), "{text}");
        }
        let told = asked(|connection| {
            let other = OwnedFd::from(std::io::pipe().unwrap().0);
            let shape = Answer::Opened { block_bytes: 131_072, blocks: 8 };
            answer(&connection, &shape, Some(&other)).unwrap();
        });
        assert!(told.ends_with("hands over something else"), "{told}");
    }

    #[test]
    fn nobody_there_is_a_missing_permission() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tap.sock");
        let error = ask(&path, &LiveOptions::default()).unwrap_err();
        assert!(matches!(error, TapError::Permission { .. }), "{error}");
        drop(UnixListener::bind(&path).unwrap());
        let error = ask(&path, &LiveOptions::default()).unwrap_err();
        assert!(matches!(error, TapError::Permission { .. }), "{error}");
    }
}
