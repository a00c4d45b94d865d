//! Hot-plug: what the kernel says about sound cards on its uevent socket.
//!
//! Group 1 of `NETLINK_KOBJECT_UEVENT` needs no privilege and no udev. A message says where to look, not what is
//! there: whoever hears one reads the inventory anew. Only a removal is told apart, because the card may be back,
//! under the same number, before anybody has looked.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recvfrom, socket_with};

/// The kernel's own messages; group 2 is udev's.
const KERNEL_GROUP: u32 = 1;
/// The kernel's limit of one message (`UEVENT_BUFFER_SIZE` in `include/linux/kobject.h`) and its header.
const MESSAGE_BYTES_MAX: usize = 4_096;
/// Messages read in one go, at most, so that a storm elsewhere cannot keep the thread here.
const MESSAGES_MAX: usize = 256;

/// Something about sound cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hotplug {
    /// The card with this number left.
    Removed(u8),
    /// Something else changed, or messages were lost: look again.
    Changed,
}

/// Reads one message; `None` where it is not about sound.
#[must_use]
pub fn parse(message: &[u8]) -> Option<Hotplug> {
    let mut fields = message.split(|byte| *byte == 0);
    let (action, path) = split_at_byte(fields.next()?, b'@')?;
    if !fields.any(|field| field == b"SUBSYSTEM=sound") {
        return None;
    }
    let card = path.rsplit(|byte| *byte == b'/').next()?.strip_prefix(b"card");
    let card = card.and_then(|number| str::from_utf8(number).ok()?.parse().ok());
    Some(match (action, card) {
        (b"remove", Some(card)) => Hotplug::Removed(card),
        (_, _) => Hotplug::Changed,
    })
}

fn split_at_byte(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|found| *found == byte)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// The socket.
#[derive(Debug)]
pub struct Uevents(OwnedFd);

impl Uevents {
    /// Listens from now on.
    ///
    /// # Errors
    /// Where the kernel refuses the socket: in a service, `RestrictAddressFamilies` must name `AF_NETLINK`.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd =
            socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
        bind(&fd, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(Self(fd))
    }

    /// Hands over what has come, in order.
    pub fn drain(&self, mut on: impl FnMut(Hotplug)) {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        for _ in 0..MESSAGES_MAX {
            match recvfrom(&self.0, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((length, _, from)) => {
                    let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
                    // Port 0 is the kernel; a process with the right to send here could be anybody.
                    if from.is_some_and(|from| from.pid() == 0)
                        && let Some(hotplug) = parse(buffer.get(..length).unwrap_or(&buffer))
                    {
                        on(hotplug);
                    }
                }
                Err(Errno::INTR) => {}
                // The socket's buffer ran over: what was lost may have been about sound.
                Err(Errno::NOBUFS) => on(Hotplug::Changed),
                Err(_) => break,
            }
        }
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REMOVED: &[u8] = b"remove@/devices/platform/vhci_hcd.0/usb1/1-1/1-1:1.0/sound/card10\0\
        ACTION=remove\0DEVPATH=/devices/x/sound/card10\0SUBSYSTEM=sound\0SEQNUM=2041\0";

    #[test]
    fn removal_names_the_card() {
        assert_eq!(parse(REMOVED), Some(Hotplug::Removed(10)));
    }

    #[test]
    fn whatever_else_is_about_sound_means_look_again() {
        let table: [(&[u8], _); 5] = [
            (b"add@/devices/x/sound/card1\0SUBSYSTEM=sound\0", Some(Hotplug::Changed)),
            // A PCM of a card leaves with the card, or alone: the inventory tells.
            (b"remove@/devices/x/sound/card1/pcmC1D0c\0SUBSYSTEM=sound\0", Some(Hotplug::Changed)),
            (b"remove@/devices/x/sound/card999\0SUBSYSTEM=sound\0", Some(Hotplug::Changed)),
            (b"remove@/devices/x/net/card1\0SUBSYSTEM=net\0", None),
            (b"libudev\0\xfe\xed\xca\xfe", None),
        ];
        for (message, hotplug) in table {
            assert_eq!(parse(message), hotplug, "{message:?}");
        }
    }

    #[test]
    fn socket_opens_without_privilege_and_has_nothing_about_sound_yet() {
        let mut heard = Vec::new();
        Uevents::open().unwrap().drain(|hotplug| heard.push(hotplug));
        assert!(!heard.contains(&Hotplug::Removed(255)), "{heard:?}");
    }

    proptest! {
        #[test]
        fn a_cut_message_names_no_card(cut in 0..REMOVED.len()) {
            // The subsystem stands behind the path: a cut that spares it spares the number.
            let hotplug = parse(&REMOVED[..cut]);
            prop_assert!(hotplug.is_none() || hotplug == Some(Hotplug::Removed(10)));
        }

        #[test]
        fn any_bytes_are_answered(message in prop::collection::vec(any::<u8>(), 0..4_096)) {
            let _ = parse(&message);
        }
    }
}
