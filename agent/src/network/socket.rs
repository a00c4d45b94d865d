//! Questions to the kernel over netlink, one at a time, each on a socket of its own.
//!
//! A shell: `message` knows the bytes. Nothing is changed by any question, and none needs a right. Bounds: a second of
//! waiting, [`READS_MAX`] reads of [`READ_BYTES_MAX`] bytes; what is longer is cut, and the walk over it with it.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recvfrom, send,
    socket_with,
};

use super::message::{Part, parts};

/// As much as the kernel hands out at once (`NETLINK_GET_STRICT_CHK` or not: 32 KiB at most).
const READ_BYTES_MAX: usize = 32 * 1024;
/// Some thousand addresses or stations.
const READS_MAX: usize = 64;
/// The kernel answers within its call; it is the machine that may be slow.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// rtnetlink.
    Route,
    /// A family of generic netlink.
    Generic,
}

/// Asks, and hands each object of the answer to `each` until it returns false, or the answer ends.
///
/// # Errors
/// Where the kernel has no socket for it, refuses the question, or does not answer.
pub fn ask(whom: Whom, question: &[u8], mut each: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let protocol: Option<Protocol> = match whom {
        Whom::Route => None,
        Whom::Generic => Some(netlink::GENERIC),
    };
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    send(&socket, question, SendFlags::empty())?;
    // A question for all has an answer with an end; one for one has an answer of one object.
    let is_for_all = question.get(7).is_some_and(|flags| flags & 0x03 != 0);
    let mut buffer = vec![0; READ_BYTES_MAX];
    for _ in 0..READS_MAX {
        let (length, from) = match recvfrom(&socket, &mut buffer, RecvFlags::empty()) {
            Ok((length, _, from)) => (length, from),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        // Port 0 is the kernel.
        let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
        if from.is_none_or(|from| from.pid() != 0) {
            continue;
        }
        for part in parts(buffer.get(..length).unwrap_or(&buffer)) {
            match part {
                Part::Object(object) => {
                    if !each(object) || !is_for_all {
                        return Ok(());
                    }
                }
                Part::End => return Ok(()),
                Part::Refused(errno) => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The first thing that is found in the answer.
///
/// # Errors
/// As [`ask`].
pub fn find<T>(
    whom: Whom,
    question: &[u8],
    mut what: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    let mut found = None;
    ask(whom, question, |object| {
        found = what(object);
        found.is_none()
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{route, wireless};

    #[test]
    fn kernel_answers_for_loopback() {
        let here = "127.0.0.1".parse().unwrap();
        let place = find(Whom::Route, &route::ask_addresses(here), |it| route::place_of(here, it));
        let place = place.unwrap().expect("loopback has its address");
        assert_eq!(place.prefix, 8);
        let link = find(Whom::Route, &route::ask_link(place.interface), |it| {
            route::link(place.interface, it)
        });
        let link = link.unwrap().expect("the interface is there");
        // ARPHRD_LOOPBACK.
        assert_eq!((link.name.as_str(), link.hardware), ("lo", 772));
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let nothing = route::ask_link(u32::MAX / 2);
        let refused = find(Whom::Route, &nothing, |_| Some(())).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::NODEV.raw_os_error()));
        // Generic netlink knows this family only where a driver of Wi-Fi is loaded; either is an answer.
        match find(Whom::Generic, &wireless::ask_family(), wireless::family) {
            Ok(family) => assert!(family.is_some()),
            Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::NOENT.raw_os_error())),
        }
    }
}
