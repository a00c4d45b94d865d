//! The load: RTP packets of 500 streams, interleaved as on a wire, with 1 % loss and a little jitter.

use std::io::{BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use roomtone_agent::clock::Moment;
use roomtone_agent::tap::Datagram;

/// Two streams, one in each direction, per leg.
pub(crate) const LEGS: u32 = 250;
pub(crate) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));

/// One packet: when, between whom, which way, and its 12 bytes of RTP header.
pub(crate) struct Packet {
    pub(crate) at: Moment,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) rtp: [u8; 12],
}

/// The length of each packet's payload on the wire, headers included, in bytes.
const RTP_BYTES: usize = 92;

/// Makes `count` packets.
pub(crate) fn packets(count: usize) -> Vec<Packet> {
    let mut packets = Vec::with_capacity(count);
    let mut noise = 1u64;
    for tick in 0u64.. {
        for leg in 0..LEGS {
            for egress in [false, true] {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                if noise >> 32 & 127 == 0 {
                    continue;
                }
                let ssrc = leg * 2 + u32::from(egress) + 0x5000_0000;
                let local = SocketAddr::new(LOCAL, 20_000 + leg as u16);
                let remote = SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a02_0000 + leg)), 3478);
                let (source, destination) = if egress { (local, remote) } else { (remote, local) };
                let jitter = noise >> 40 & 0xf_ffff; // up to 1 ms
                let spread = u64::from(leg) * 40_000;
                let at = 1_700_000_000_000_000_000 + tick * 20_000_000 + spread + jitter;
                let mut rtp = [0x80, 111, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                rtp[2..4].copy_from_slice(&(tick as u16).to_be_bytes());
                rtp[4..8].copy_from_slice(&(tick as u32 * 960).to_be_bytes());
                rtp[8..12].copy_from_slice(&ssrc.to_be_bytes());
                packets.push(Packet { at: Moment::from_nanos(at), source, destination, rtp });
                if packets.len() == count {
                    return packets;
                }
            }
        }
    }
    packets
}

impl Packet {
    /// As a tap would hand it over.
    pub(crate) fn datagram(&self) -> Datagram<'_> {
        Datagram {
            at: self.at,
            source: self.source,
            destination: self.destination,
            dscp: 0,
            payload: &self.rtp,
            wire_bytes: RTP_BYTES as u16,
        }
    }
}

/// Writes the packets as a pcap file of Ethernet frames, whole, as `tcpdump` would.
pub(crate) fn write(file: &Path, packets: &[Packet]) {
    let create = || -> std::io::Result<()> {
        std::fs::create_dir_all(file.parent().expect("a file lies in a folder"))?;
        let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(file)?);
        out.write_all(&[
            0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0,
        ])?;
        for packet in packets {
            let frame = frame(packet);
            let nanos = packet.at.as_nanos();
            let length = frame.len() as u32;
            for field in
                [(nanos / 1_000_000_000) as u32, (nanos / 1_000 % 1_000_000) as u32, length, length]
            {
                out.write_all(&field.to_le_bytes())?;
            }
            out.write_all(&frame)?;
        }
        out.flush()
    };
    create().expect("target is writable");
}

fn frame(packet: &Packet) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) =
        (packet.source.ip(), packet.destination.ip())
    else {
        unreachable!("the load is IPv4")
    };
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    let udp_bytes = 8 + RTP_BYTES as u16;
    frame.extend([0x45, 0]);
    frame.extend((20 + udp_bytes).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(packet.source.port().to_be_bytes());
    frame.extend(packet.destination.port().to_be_bytes());
    frame.extend(udp_bytes.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(packet.rtp);
    frame.resize(14 + 20 + usize::from(udp_bytes), 0x5a);
    frame
}
