//! Reads datagrams from the kernel's capture ring.
//!
//! The kernel filters, cuts and stamps packets and collects them in blocks (TPACKET_V3). It wakes the reader when a
//! block is full or its time is over, and never while no packet arrives. Nothing is ever sent.
//! A packet of the loopback interface is seen once, as it arrives. One VLAN tag is looked behind; stacked tags are
//! for files, since no endpoint is given them. On `any`, a packet is seen at every interface that it crosses: where
//! there are VLAN interfaces, bonds or bridges, name the interface that carries the calls.
//!
//! The socket is this process's own where it may open one, and else comes from an opener ([`super::opener`]).

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{netdevice, sockopt};

use super::block::each_packet;
use super::error::MAP_RING;
use super::filter::EXCLUDED_MAX;
use super::kernel::{self, Ring};
use super::opener::{self, OPENER_SOCKET};
use super::socket::{self, SocketError, TapSocket};
use super::{Datagram, SkipReason, Skips, TapError, link};
use crate::clock::WallOffset;

/// All interfaces at once, those that appear later too.
pub const ANY_INTERFACE: &str = "any";

/// IPv6 40, UDP 8, a TURN data indication with an IPv6 peer 48 (RFC 8656: STUN header 20, peer address 24, data
/// header 4), RTP 12, and 14 for what may follow it: an audio level extension 8 (RFC 6464), a retransmitted sequence
/// number 2 (RFC 4588), a telephone event 4 (RFC 4733); 4 for a VLAN tag that the kernel left in front, and 2 to be
/// even.
const SNAP_BYTES: u32 = 128;

/// Some 4,600 packets: at 2,000 a second, which is a video call both ways, nine time-outs' worth.
const RING_BYTES: u32 = 1024 * 1024;

/// Wakes a call's reader four times a second, and shows a packet 250 ms late at most.
const BLOCK_TIMEOUT: Duration = Duration::from_millis(250);

/// What one call of `drain` hands over at most, so that a flood cannot keep its caller from its deadlines.
const DRAIN_PACKETS_MAX: usize = 16_384;

/// How often an interface is looked for that reported an error: the kernel tells only the first of "down" and "gone".
const SUSPECT_RECHECK: Duration = Duration::from_secs(1);

/// How to open a live tap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveOptions {
    /// The name of an interface, or [`ANY_INTERFACE`].
    pub interface: String,
    /// How much of each packet is captured, in bytes from its IP header on, 64 to 65,535; an opener gives 1,024 at
    /// most.
    pub snap_bytes: u32,
    /// The size of the kernel's ring, in bytes, 512 KiB to 64 MiB; resident in this process, and charged to no control
    /// group. Ring blocks are 128 KiB each, and a ring of one block would lose what arrives while it is read.
    pub ring_bytes: u32,
    /// How long a packet waits in the ring at most, 1 ms to 10 s.
    pub block_timeout: Duration,
    /// Far ends whose datagrams, from and to, are none of ours to measure, such as the collector; 16 at most. An
    /// unspecified address means any host at that port.
    pub exclude: Vec<SocketAddr>,
    /// Where an opener listens, asked where this process may not open a tap itself.
    pub opener: PathBuf,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            interface: ANY_INTERFACE.to_owned(),
            snap_bytes: SNAP_BYTES,
            ring_bytes: RING_BYTES,
            block_timeout: BLOCK_TIMEOUT,
            exclude: Vec::new(),
            opener: OPENER_SOCKET.into(),
        }
    }
}

/// The longest packet there is.
const SNAP_BYTES_MAX: u32 = 65_535;

impl LiveOptions {
    /// Holds every option to its range, the snap length to one of the caller's.
    pub(super) fn check(&self, snap_bytes_max: u32) -> Result<(), TapError> {
        let within = |name, found, least, most| {
            if (least..=most).contains(&found) {
                return Ok(());
            }
            Err(TapError::OutOfRange { name, found, least, most })
        };
        let timeout_ms = u64::try_from(self.block_timeout.as_millis()).unwrap_or(u64::MAX);
        within("snap length in bytes", self.snap_bytes.into(), 64, snap_bytes_max.into())?;
        within("ring size in bytes", u64::from(self.ring_bytes), 512 * 1024, 64 * 1024 * 1024)?;
        within("block time-out in ms", timeout_ms, 1, 10_000)?;
        within("number of excluded addresses", self.exclude.len() as u64, 0, EXCLUDED_MAX as u64)
    }
}

/// What a live tap received and lost, from its opening on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TapStats {
    /// Packets that passed the kernel's filter, those included that were then dropped.
    pub received: u64,
    /// Packets that found no room in the ring. They were on the wire: never count them as lost by the network.
    pub dropped: u64,
}

/// Why [`LiveTap::wait`] returned. Neither means that the time was over or a signal came: look at the deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wakeup {
    /// There is something to [`LiveTap::drain`].
    pub packets: bool,
    /// The other descriptor can be read.
    pub called: bool,
}

/// An open capture on this machine.
pub struct LiveTap {
    ring: Ring,
    socket: OwnedFd,
    interface: String,
    /// The kernel's number of the interface; `None` for all interfaces.
    index: Option<u32>,
    stats: TapStats,
    /// The kernel reported an error on the interface, and no packet came since.
    is_suspect: bool,
    packets: u64,
    bytes: u64,
    skips: Skips,
}

impl fmt::Debug for LiveTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveTap").field("interface", &self.interface).finish_non_exhaustive()
    }
}

impl LiveTap {
    /// Opens a capture without promiscuous mode: what this machine sends and receives, and no more.
    ///
    /// An interface that is down can be opened, and is seen when it comes up.
    ///
    /// # Errors
    /// `OutOfRange` by the options; `Permission`, `UnknownInterface`, `Opener`, `Unfit` as they say; `Capture` where
    /// the kernel refuses something else.
    pub fn open(options: &LiveOptions) -> Result<Self, TapError> {
        options.check(SNAP_BYTES_MAX)?;
        let interface = options.interface.clone();
        let index = socket::find_interface(&interface)?;
        let TapSocket { socket, shape } = match socket::open(options, index) {
            Ok(opened) => opened,
            Err(SocketError::NotAllowed(_)) => opener::ask(&options.opener, options)?,
            Err(SocketError::Other(error)) => return Err(error),
        };
        let ring = Ring::map(&socket, shape).map_err(|errno| TapError::Capture {
            interface: interface.clone(),
            step: MAP_RING,
            reason: errno.into(),
        })?;
        let mut tap = Self {
            ring,
            socket,
            interface,
            index,
            stats: TapStats::default(),
            is_suspect: false,
            packets: 0,
            bytes: 0,
            skips: Skips::default(),
        };
        // Of an interface that is down the kernel says so at once.
        tap.is_suspect = tap.takes_error();
        Ok(tap)
    }

    /// What to poll for reading, beside other things; [`Self::wait`] does it for a thread of its own.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sleeps until a block of packets is ready, `wake` can be read or its other end is closed, or `timeout` is over
    /// (`None`: never). Whoever is told of packets must drain them, or the next call returns at once.
    ///
    /// While the interface is down, it also returns once a second, so that `drain` can see whether it is gone.
    ///
    /// # Errors
    /// `Wait`, which does not pass by itself.
    pub fn wait(
        &mut self,
        wake: BorrowedFd<'_>,
        timeout: Option<Duration>,
    ) -> Result<Wakeup, TapError> {
        let timeout = if self.is_suspect {
            Some(timeout.map_or(SUSPECT_RECHECK, |timeout| timeout.min(SUSPECT_RECHECK)))
        } else {
            timeout
        };
        // A time-out beyond what the kernel can say is none.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut descriptors = [
            PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(wake, PollFlags::IN),
        ];
        match rustix::event::poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Wakeup::default()),
            Err(error) => return Err(TapError::Wait(error.into())),
        }
        let [packets, called] = descriptors.map(|descriptor| descriptor.revents());
        if packets.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            // What is told once must not wake again.
            self.takes_error();
            self.is_suspect = true;
        }
        Ok(Wakeup { packets: !packets.is_empty() || self.is_suspect, called: !called.is_empty() })
    }

    /// Hands over the datagrams that are ready, in the kernel's order, and returns how many; more may be left after
    /// 16,384 packets and the block that holds them, and then the descriptor stays readable.
    ///
    /// `offset` turns the kernel's wall time into moments: pass one that was read just now, or [`WallOffset::NONE`]
    /// for the wall time itself, to be turned packet by packet
    /// ([`PacketClock`](crate::clock::packet_clock::PacketClock)).
    ///
    /// # Errors
    /// `Vanished` where the interface is gone: open anew when it is back.
    pub fn drain(
        &mut self,
        offset: WallOffset,
        mut each: impl FnMut(Datagram<'_>),
    ) -> Result<usize, TapError> {
        let (skips, bytes) = (&mut self.skips, &mut self.bytes);
        let (mut handed_over, mut packets) = (0, 0);
        while packets < DRAIN_PACKETS_MAX {
            let Some(block) = self.ring.block() else { break };
            let is_whole = each_packet(block, |packet| {
                packets += 1;
                *bytes += u64::from(packet.wire_bytes);
                match link::network(packet.ether_type, packet.bytes, packet.wire_bytes) {
                    Ok(head) => {
                        handed_over += 1;
                        each(head.datagram(offset.moment(packet.wall_nanos), packet.bytes));
                    }
                    Err(reason) => skips.count(reason),
                }
            });
            if !is_whole {
                packets += 1;
                skips.count(SkipReason::TruncatedRecord);
            }
            self.ring.release();
        }
        self.packets += packets as u64;
        self.is_suspect &= packets == 0;
        if self.is_suspect {
            self.check_interface()?;
        }
        Ok(handed_over)
    }

    /// What was received and lost from the opening on.
    ///
    /// # Errors
    /// `Capture`, which a descriptor that is none explains.
    pub fn stats(&mut self) -> Result<TapStats, TapError> {
        let counted = kernel::take_counted(self.socket.as_fd()).map_err(|errno| {
            let interface = self.interface.clone();
            TapError::Capture { interface, step: "ask for its counters", reason: errno.into() }
        })?;
        // The kernel's counters are 32 bits wide and begin anew each time: they are asked with each block, long
        // before they could wrap.
        self.stats.received += u64::from(counted.received);
        self.stats.dropped += u64::from(counted.dropped);
        Ok(self.stats)
    }

    /// Packets read so far.
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// The length of these packets on the wire without their link headers, in bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What did not become a datagram so far.
    pub const fn skips(&self) -> &Skips {
        &self.skips
    }

    /// Takes the error that the kernel holds for this socket, as that its interface went down; whether there was one.
    fn takes_error(&self) -> bool {
        !matches!(sockopt::socket_error(&self.socket), Ok(Ok(())))
    }

    /// An interface that came back under its name has another number, and this capture will never see it.
    fn check_interface(&self) -> Result<(), TapError> {
        match self.index {
            Some(index) if netdevice::name_to_index(self.fd(), &self.interface) != Ok(index) => {
                Err(TapError::Vanished(self.interface.clone()))
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_out_of_range_is_named_with_its_range() {
        let options = LiveOptions { ring_bytes: 4_096, ..LiveOptions::default() };
        assert_eq!(
            LiveTap::open(&options).unwrap_err().to_string(),
            "ring size in bytes is 4096, allowed are 524288 to 67108864"
        );
    }
}
