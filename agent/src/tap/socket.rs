//! Opens the socket that packets come through, for this process or for one that may not do it itself.
//!
//! The order is the point: the filter is in place and locked before the socket is bound, so that no moment lets
//! anything else through, and whoever holds the socket later cannot take the filter away. Until it is bound, it
//! receives nothing.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use super::error::{ATTACH_FILTER, MAKE_RING};
use super::kernel::{self, RingShape};
use super::live::ANY_INTERFACE;
use super::{LiveOptions, TapError, filter};

/// Some 580 heads of packets. A block that its time-out closes goes to the reader as it is: many small ones survive a
/// reader that is held up longer than few large ones.
const BLOCK_BYTES: u32 = 128 * 1024;

/// A packet socket with its ring, receiving.
#[derive(Debug)]
pub(super) struct TapSocket {
    pub(super) socket: OwnedFd,
    pub(super) shape: RingShape,
}

/// Why there is no packet socket.
pub(super) enum SocketError {
    /// This process may not have one.
    NotAllowed(Errno),
    /// Something else.
    Other(TapError),
}

/// Opens a socket that receives from the interface with this number, from all where it is `None`.
///
/// An interface that is down is no error: the socket receives when it comes up.
pub(super) fn open(options: &LiveOptions, index: Option<u32>) -> Result<TapSocket, SocketError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let failed = |step| {
        let interface = options.interface.clone();
        move |errno: Errno| {
            SocketError::Other(TapError::Capture { interface, step, reason: errno.into() })
        }
    };
    // DGRAM: packets begin with their IP header, and no link address is read. Protocol 0: nothing is received yet.
    let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None);
    let socket = socket.map_err(|errno| match errno {
        // AFNOSUPPORT is what RestrictAddressFamilies= of systemd answers.
        Errno::PERM | Errno::ACCESS | Errno::AFNOSUPPORT => SocketError::NotAllowed(errno),
        errno => failed("make a packet socket")(errno),
    })?;
    let program = filter::program(options.snap_bytes, &options.exclude);
    kernel::attach_filter(socket.as_fd(), &program).map_err(failed(ATTACH_FILTER))?;
    kernel::lock_filter(socket.as_fd()).map_err(failed("lock the filter"))?;
    let shape = RingShape { block_bytes: BLOCK_BYTES, blocks: options.ring_bytes / BLOCK_BYTES };
    let timeout_ms = u32::try_from(options.block_timeout.as_millis()).unwrap_or(u32::MAX);
    kernel::make_ring(socket.as_fd(), shape, timeout_ms).map_err(failed(MAKE_RING))?;
    kernel::bind(socket.as_fd(), index.unwrap_or(0)).map_err(failed("bind to it"))?;
    Ok(TapSocket { socket, shape })
}

/// The kernel's number of an interface; `None` for all of them.
pub(super) fn find_interface(name: &str) -> Result<Option<u32>, TapError> {
    if name == ANY_INTERFACE {
        return Ok(None);
    }
    // Any socket may be asked; this kind every process may have.
    let flags = SocketFlags::CLOEXEC;
    let found = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
        .and_then(|socket| netdevice::name_to_index(socket, name));
    found.map(Some).map_err(|_| TapError::UnknownInterface {
        name: name.to_owned(),
        existing: existing_interfaces(),
    })
}

/// The names of all interfaces, with or without an address, in this process's own network namespace.
fn existing_interfaces() -> String {
    /// A line has some 130 bytes: enough for 500 interfaces.
    const LISTED_BYTES_MAX: u64 = 64 * 1024;
    let mut table = String::new();
    let read = File::open("/proc/self/net/dev")
        .and_then(|file| file.take(LISTED_BYTES_MAX).read_to_string(&mut table));
    let names = table.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    match read {
        Ok(_) => names.chain([ANY_INTERFACE]).collect::<Vec<_>>().join(", "),
        Err(_) => ANY_INTERFACE.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> Option<TapSocket> {
        let options = LiveOptions { interface: "lo".to_owned(), ..LiveOptions::default() };
        let index = find_interface("lo").unwrap();
        match open(&options, index) {
            Ok(opened) => Some(opened),
            Err(SocketError::NotAllowed(_)) => {
                assert!(!rustix::process::geteuid().is_root(), "root must be able to run this");
                println!("not run: no CAP_NET_RAW");
                None
            }
            Err(SocketError::Other(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn filter_of_an_open_tap_can_be_neither_removed_nor_replaced() {
        let Some(opened) = loopback() else { return };
        let socket = opened.socket.as_fd();
        assert_eq!(kernel::detach_filter(socket), Err(Errno::PERM));
        let all = [filter::Instruction { code: 6, on_true: 0, on_false: 0, operand: 65_535 }];
        assert_eq!(kernel::attach_filter(socket, &all), Err(Errno::PERM));
    }

    #[test]
    fn kernel_takes_the_longest_filter() {
        let far_end = "[2001:db8:1:2:3:4:5:6]:443".parse().unwrap();
        let program = filter::program(128, &[far_end; filter::EXCLUDED_MAX]);
        // Any socket takes a filter, without any right.
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(kernel::attach_filter(socket.as_fd(), &program), Ok(()));
    }

    #[test]
    fn ring_is_mapped_in_its_own_shape_only() {
        let Some(TapSocket { socket, shape }) = loopback() else { return };
        let shapes = [
            RingShape { blocks: 0, ..shape },
            RingShape { blocks: shape.blocks + 1, ..shape },
            RingShape { block_bytes: 0, ..shape },
            RingShape { block_bytes: shape.block_bytes + 1, ..shape },
            RingShape { block_bytes: !4_095, blocks: u32::MAX },
        ];
        for wrong in shapes {
            assert!(kernel::Ring::map(&socket, wrong).is_err(), "{wrong:?}");
        }
        assert!(kernel::Ring::map(&socket, shape).is_ok());
    }
}
