//! Sends Ethernet frames as they are, with tags and protocols that no UDP socket makes. Needs CAP_NET_RAW.
#![allow(unsafe_code, reason = "no safe library knows the address of an interface")]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::AsRawFd;
use std::ptr;

use rustix::net::{AddressFamily, SocketType, netdevice, socket};

/// Sends a frame out of an interface.
pub(crate) fn send(interface: &str, frame: &[u8]) -> io::Result<()> {
    let socket = socket(AddressFamily::PACKET, SocketType::RAW, None)?;
    // SAFETY: all bits zero are a value of this structure of integers.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = netdevice::name_to_index(&socket, interface)?.cast_signed();
    // SAFETY: both pointers go with the lengths of what they point to, which outlives the call.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            ptr::from_ref(&address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
