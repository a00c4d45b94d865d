//! Reads datagrams from the kernel's capture ring; the only file that names libpcap.
//!
//! The kernel filters, cuts and stamps packets and collects them in blocks (TPACKET_V3). It wakes the reader when a
//! block is full or its time is over, and never while no packet arrives. Nothing is ever sent.
//! A packet of the loopback interface is seen once: libpcap drops the outgoing copy. One VLAN tag is looked behind;
//! stacked tags are for files, since no endpoint is given them. On `any`, a packet is seen at every interface that it
//! crosses: where there are VLAN interfaces, bonds or bridges, name the interface that carries the calls.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, netdevice};

use super::link::{self, LinkType};
use super::{Datagram, Skips, TapError};
use crate::clock::WallOffset;

/// All interfaces at once, those that appear later too.
pub const ANY_INTERFACE: &str = "any";

/// Ethernet with two VLAN tags 22, IPv6 40, UDP 8, a TURN data indication with an IPv6 peer 48 (RFC 8656: STUN header
/// 20, peer address 24, data header 4), RTP 12, and 14 for what may follow it: an audio level extension 8 (RFC 6464), a
/// retransmitted sequence number 2 (RFC 4588), a telephone event 4 (RFC 4733).
const SNAP_BYTES: u32 = 144;

/// About 4,000 packets: at 2,000 a second, which is a video call both ways, eight time-outs' worth.
const RING_BYTES: u32 = 1024 * 1024;

/// Wakes a call's reader four times a second, and shows a packet 250 ms late at most.
const BLOCK_TIMEOUT: Duration = Duration::from_millis(250);

/// What one call of `drain` hands over at most, so that a flood cannot keep its caller from its deadlines.
const DRAIN_PACKETS_MAX: usize = 16_384;

/// What the filter can exclude: the kernel takes 4,096 instructions, and each exclusion costs some 30.
const EXCLUDED_MAX: usize = 16;

/// How often an interface is looked for that reported an error: the kernel tells only the first of "down" and "gone".
const SUSPECT_RECHECK: Duration = Duration::from_secs(1);

/// How to open a live tap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveOptions {
    /// The name of an interface, or [`ANY_INTERFACE`].
    pub interface: String,
    /// How much of each packet is captured, in bytes, 64 to 65,535.
    pub snap_bytes: u32,
    /// The size of the kernel's ring, in bytes, 512 KiB to 64 MiB; it counts as memory of this process. Ring blocks are
    /// 256 KiB each, and a ring of one block would lose what arrives while it is read.
    pub ring_bytes: u32,
    /// How long a packet waits in the ring at most, 1 ms to 10 s.
    pub block_timeout: Duration,
    /// Far ends whose datagrams, from and to, are none of ours to measure, such as the collector; 16 at most. An
    /// unspecified address means any host at that port.
    pub exclude: Vec<SocketAddr>,
}

impl Default for LiveOptions {
    fn default() -> Self {
        Self {
            interface: ANY_INTERFACE.to_owned(),
            snap_bytes: SNAP_BYTES,
            ring_bytes: RING_BYTES,
            block_timeout: BLOCK_TIMEOUT,
            exclude: Vec::new(),
        }
    }
}

impl LiveOptions {
    fn check(&self) -> Result<(), TapError> {
        let within = |name, found, least, most| {
            if (least..=most).contains(&found) {
                return Ok(());
            }
            Err(TapError::OutOfRange { name, found, least, most })
        };
        let timeout_ms = u64::try_from(self.block_timeout.as_millis()).unwrap_or(u64::MAX);
        within("snap length in bytes", u64::from(self.snap_bytes), 64, 65_535)?;
        within("ring size in bytes", u64::from(self.ring_bytes), 512 * 1024, 64 * 1024 * 1024)?;
        within("block time-out in ms", timeout_ms, 1, 10_000)?;
        within("number of excluded addresses", self.exclude.len() as u64, 0, EXCLUDED_MAX as u64)
    }

    /// The kernel filter. libpcap knows the word `vlan` for Ethernet only; elsewhere the kernel has taken the tag off.
    ///
    /// Everything after `vlan` is looked for behind the tag, therefore it comes last and repeats the exclusions.
    fn filter(&self, link: LinkType) -> String {
        let mut wanted = String::from("udp");
        for excluded in &self.exclude {
            let (host, port) = (excluded.ip(), excluded.port());
            wanted += &if host.is_unspecified() {
                format!(" and not port {port}")
            } else {
                format!(" and not (host {host} and port {port})")
            };
        }
        if link == LinkType::Ethernet {
            format!("({wanted}) or (vlan and {wanted})")
        } else {
            wanted
        }
    }
}

/// What a live tap received and lost, from its opening on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TapStats {
    /// Packets that passed the kernel's filter, those included that were then dropped.
    pub received: u64,
    /// Packets that found no room in the ring. They were on the wire: never count them as lost by the network.
    pub dropped: u64,
    /// Packets that the interface or its driver dropped, where it says so.
    pub interface_dropped: u64,
}

/// libpcap's counters, which are 32 bits wide and wrap, made to go on.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    last: [u32; 3],
    total: [u64; 3],
}

impl Counters {
    fn advance(&mut self, now: [u32; 3]) -> TapStats {
        for ((total, last), now) in self.total.iter_mut().zip(&mut self.last).zip(now) {
            *total += u64::from(now.wrapping_sub(*last));
            *last = now;
        }
        let [received, dropped, interface_dropped] = self.total;
        TapStats { received, dropped, interface_dropped }
    }
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
    capture: pcap::Capture<pcap::Active>,
    interface: String,
    /// The kernel's number of the interface; `None` for all interfaces.
    index: Option<u32>,
    link: LinkType,
    counters: Counters,
    /// The kernel reported an error on the interface, and no packet came since.
    is_suspect: bool,
    packets: u64,
    bytes: u64,
    skips: Skips,
}

impl fmt::Debug for LiveTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveTap")
            .field("interface", &self.interface)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl LiveTap {
    /// Opens a capture without promiscuous mode: what this machine sends and receives, and no more.
    ///
    /// # Errors
    /// `OutOfRange` by the options; `Permission`, `UnknownInterface`, `UnsupportedLink` as they say; `Capture` with
    /// libpcap's own words for the rest, such as an interface that is not up.
    pub fn open(options: &LiveOptions) -> Result<Self, TapError> {
        options.check()?;
        let interface = options.interface.clone();
        let index = find_interface(&interface)?;
        let failed = |error: pcap::Error| refused(&interface, &error);

        let timeout_ms = i32::try_from(options.block_timeout.as_millis()).unwrap_or(i32::MAX);
        let capture = pcap::Capture::from_device(interface.as_str())
            .map_err(failed)?
            .promisc(false)
            .immediate_mode(false)
            .snaplen(i32::try_from(options.snap_bytes).unwrap_or(i32::MAX))
            .buffer_size(i32::try_from(options.ring_bytes).unwrap_or(i32::MAX))
            .timeout(timeout_ms)
            // Linux stamps in nanoseconds whatever it is asked for; this keeps libpcap from dividing them.
            .precision(pcap::Precision::Nano)
            .open()
            .map_err(failed)?;
        let number = capture.get_datalink().0;
        let Some(link) = u32::try_from(number).ok().and_then(LinkType::from_number) else {
            return Err(TapError::UnsupportedLink { interface, number });
        };
        let mut capture = capture.setnonblock().map_err(failed)?;
        capture.filter(&options.filter(link), true).map_err(failed)?;
        Ok(Self {
            capture,
            interface,
            index,
            link,
            counters: Counters::default(),
            is_suspect: false,
            packets: 0,
            bytes: 0,
            skips: Skips::default(),
        })
    }

    /// What to poll for reading, beside other things; [`Self::wait`] does it for a thread of its own.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.capture.as_fd()
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
            PollFd::from_borrowed_fd(self.capture.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(wake, PollFlags::IN),
        ];
        match rustix::event::poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Wakeup::default()),
            Err(error) => return Err(TapError::Wait(error.into())),
        }
        let [packets, called] = descriptors.map(|descriptor| descriptor.revents());
        self.is_suspect |= packets.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
        Ok(Wakeup { packets: !packets.is_empty() || self.is_suspect, called: !called.is_empty() })
    }

    /// Hands over the datagrams that are ready, in the kernel's order, and returns how many; more may be left after
    /// 16,384 packets, and then the descriptor stays readable.
    ///
    /// `offset` turns the kernel's wall time into moments: pass one that was read just now, or [`WallOffset::NONE`]
    /// for the wall time itself, to be turned packet by packet
    /// ([`PacketClock`](crate::clock::packet_clock::PacketClock)).
    ///
    /// # Errors `Vanished` where the interface is gone, `Capture` with libpcap's words otherwise. Open anew in either
    /// case.
    pub fn drain(
        &mut self,
        offset: WallOffset,
        mut each: impl FnMut(Datagram<'_>),
    ) -> Result<usize, TapError> {
        let (link, skips, bytes) = (self.link, &mut self.skips, &mut self.bytes);
        let mut handed_over = 0;
        let dispatched = self.capture.dispatch(Some(DRAIN_PACKETS_MAX), |packet| {
            *bytes += u64::from(packet.header.len);
            match link::dissect(link, packet.data, packet.header.len) {
                Ok(head) => {
                    handed_over += 1;
                    each(head.datagram(offset.moment(wall_nanos(packet.header)), packet.data));
                }
                Err(reason) => skips.count(reason),
            }
        });
        match dispatched {
            Ok(0) if self.is_suspect => self.check_interface()?,
            Ok(packets) => {
                self.packets += packets as u64;
                self.is_suspect = self.is_suspect && packets == 0;
            }
            Err(error) => {
                self.check_interface()?;
                return Err(refused(&self.interface, &error));
            }
        }
        Ok(handed_over)
    }

    /// What was received and lost from the opening on.
    ///
    /// # Errors
    /// `Capture` with libpcap's words.
    pub fn stats(&mut self) -> Result<TapStats, TapError> {
        let now = self.capture.stats().map_err(|error| refused(&self.interface, &error))?;
        Ok(self.counters.advance([now.received, now.dropped, now.if_dropped]))
    }

    /// Packets read so far.
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// The length of these packets on the wire, link headers included, in bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What did not become a datagram so far.
    pub const fn skips(&self) -> &Skips {
        &self.skips
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

/// Asks the kernel itself, since libpcap tells its reasons in prose only.
fn find_interface(name: &str) -> Result<Option<u32>, TapError> {
    let socket = match rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, None) {
        Ok(socket) => socket,
        Err(Errno::PERM | Errno::ACCESS) => return Err(TapError::Permission),
        Err(error) => {
            return Err(TapError::Capture {
                interface: name.to_owned(),
                detail: error.to_string(),
            });
        }
    };
    if name == ANY_INTERFACE {
        return Ok(None);
    }
    match netdevice::name_to_index(&socket, name) {
        Ok(index) => Ok(Some(index)),
        Err(_) => Err(TapError::UnknownInterface {
            name: name.to_owned(),
            existing: existing_interfaces(),
        }),
    }
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

fn refused(interface: &str, error: &pcap::Error) -> TapError {
    let detail =
        if let pcap::Error::PcapError(words) = error { words.clone() } else { error.to_string() };
    TapError::Capture { interface: interface.to_owned(), detail }
}

/// The kernel's stamp in nanoseconds since 1970: with nanosecond precision, `tv_usec` holds nanoseconds.
fn wall_nanos(header: &pcap::PacketHeader) -> u64 {
    let seconds = u64::try_from(header.ts.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(header.ts.tv_usec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_counters_go_on_after_32_bits() {
        let mut counters = Counters::default();
        counters.advance([u32::MAX - 1, 0, 0]);
        // From 2^32 - 2 to 3 are 5 packets: the total is 2^32 + 3.
        let stats = counters.advance([3, 7, 0]);
        assert_eq!(stats, TapStats { received: (1 << 32) + 3, dropped: 7, interface_dropped: 0 });
    }

    #[test]
    fn exclusions_hold_in_front_of_and_behind_a_vlan_tag() {
        let exclude = vec!["[::]:4433".parse().unwrap(), "192.0.2.7:443".parse().unwrap()];
        let options = LiveOptions { exclude, ..LiveOptions::default() };
        assert_eq!(
            options.filter(LinkType::LinuxCooked),
            "udp and not port 4433 and not (host 192.0.2.7 and port 443)"
        );
        assert_eq!(
            options.filter(LinkType::Ethernet),
            "(udp and not port 4433 and not (host 192.0.2.7 and port 443)) \
             or (vlan and udp and not port 4433 and not (host 192.0.2.7 and port 443))"
        );
    }

    #[test]
    fn an_option_out_of_range_is_named_with_its_range() {
        let options = LiveOptions { ring_bytes: 4_096, ..LiveOptions::default() };
        assert_eq!(
            LiveTap::open(&options).unwrap_err().to_string(),
            "ring size in bytes is 4096, allowed are 524288 to 67108864"
        );
    }
}
