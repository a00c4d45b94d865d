//! The kernel's filter, built as data: which packets reach the ring, and how much of each.
//!
//! A program of the classic BPF machine (McCanne and Jacobson 1993; the kernel's `networking/filter`). It sees a
//! packet from its network header on, as a packet socket of the kind `SOCK_DGRAM` gives it. What it lets through is
//! UDP over IPv4 or IPv6 that carries the ports of a far end which is not excluded, and nothing else: no other
//! protocol, no later fragment, which is payload alone. Behind IPv6 extension headers it looks only where a fragment
//! header stands alone: media has no other. What is let through is cut by the program's result.
//!
//! One VLAN tag is looked behind where the kernel left it in the packet: it takes the tag off what arrives, and puts
//! one into what leaves through a card that cannot do it itself. The packet then begins behind the tag, or, where an
//! application sent the frame or tags are stacked, at it; the bytes tell which
//! ([`link::network`](super::link::network) decides by the same rule).
//!
//! Every load beyond a packet's end rejects the packet. All jumps go forward, so every run ends.

use std::net::{IpAddr, SocketAddr};

/// What a program may exclude. The worst case has 776 instructions, and the kernel takes 4,096 (`BPF_MAXINSNS`).
pub const EXCLUDED_MAX: usize = 16;

/// One instruction, as `struct sock_filter` of `linux/filter.h` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip where a comparison holds.
    pub on_true: u8,
    /// How many instructions to skip where it does not.
    pub on_false: u8,
    /// The operand.
    pub operand: u32,
}

/// Builds the program that lets `snap_bytes` of each UDP packet through, from its IP header on, except from and to
/// the `excluded` far ends. An unspecified address stands for any host at that port.
#[must_use]
pub fn program(snap_bytes: u32, excluded: &[SocketAddr]) -> Vec<Instruction> {
    let ipv4 = |at| when(4, ipv4(at, snap_bytes, excluded));
    let ipv6 = |at| when(6, ipv6(at, snap_bytes, excluded));
    let behind_a_tag = [
        vec![load(HALF, 2)],
        when(ETHER_IPV4, [version(TAG_BYTES), ipv4(TAG_BYTES)].concat()),
        vec![load(HALF, 2)],
        when(ETHER_IPV6, [version(TAG_BYTES), ipv6(TAG_BYTES)].concat()),
    ]
    .concat();
    [
        // Loopback shows a packet as it leaves and as it arrives: once is enough.
        vec![load(WORD, ancillary(HARDWARE_TYPE)), jump(EQUAL, ARPHRD_LOOPBACK, 0, 3)],
        vec![load(WORD, ancillary(PACKET_TYPE)), jump(EQUAL, PACKET_OUTGOING, 0, 1), REJECT],
        vec![load(WORD, ancillary(PROTOCOL))],
        vec![jump(EQUAL, ETHER_IPV4, 4, 0), jump(EQUAL, ETHER_IPV6, 3, 0)],
        vec![jump(EQUAL, ETHER_VLAN, 3, 0), jump(EQUAL, ETHER_SERVICE_VLAN, 2, 0), REJECT],
        vec![instruction(JUMP, behind_a_tag.len() as u32)],
        behind_a_tag,
        version(0),
        ipv4(0),
        ipv6(0),
        vec![REJECT],
    ]
    .concat()
}

/// Decides on the IPv4 packet at `at` (RFC 791 section 3.1).
fn ipv4(at: u32, snap_bytes: u32, excluded: &[SocketAddr]) -> Vec<Instruction> {
    let mut code = vec![
        load(BYTE, at + 9),
        jump(EQUAL, UDP, 1, 0),
        REJECT,
        load(HALF, at + 6),
        jump(ANY_BIT, 0x1fff, 0, 1),
        REJECT,
        // X = 4 * (header length in words).
        instruction(LOAD_HEADER_LENGTH, at),
    ];
    for far_end in excluded {
        match far_end.ip().to_canonical() {
            ip if ip.is_unspecified() => code.extend(without_port(at, far_end.port())),
            IpAddr::V4(ip) => {
                let words = [(0, ip.to_bits())];
                code.extend(without(at, far_end.port(), &words, [at + 12, at + 16]));
            }
            IpAddr::V6(_) => {}
        }
    }
    code.push(instruction(RETURN, snap_bytes));
    code
}

/// Decides on the IPv6 packet at `at` (RFC 8200 sections 3 and 4.5).
fn ipv6(at: u32, snap_bytes: u32, excluded: &[SocketAddr]) -> Vec<Instruction> {
    let mut code = vec![
        load(BYTE, at + 6),
        // X = where the UDP header is, from `at`.
        instruction(LOAD_X, 40),
        jump(EQUAL, UDP, 9, 0),
        jump(EQUAL, IPV6_FRAGMENT, 1, 0),
        REJECT,
        load(BYTE, at + 40),
        jump(EQUAL, UDP, 1, 0),
        REJECT,
        load(HALF, at + 42),
        jump(ANY_BIT, 0xfff8, 0, 1),
        REJECT,
        instruction(LOAD_X, 48),
    ];
    for far_end in excluded {
        match far_end.ip().to_canonical() {
            ip if ip.is_unspecified() => code.extend(without_port(at, far_end.port())),
            IpAddr::V4(_) => {}
            IpAddr::V6(ip) => {
                let word = |at: u32| (at, (ip.to_bits() >> (96 - 8 * at)) as u32);
                let words = [0, 4, 8, 12].map(word);
                code.extend(without(at, far_end.port(), &words, [at + 8, at + 24]));
            }
        }
    }
    code.push(instruction(RETURN, snap_bytes));
    code
}

/// Rejects a packet from or to `port`; X is where the UDP header is, from `at`.
fn without_port(at: u32, port: u16) -> Vec<Instruction> {
    let sides = [at, at + 2].map(|side| {
        [vec![instruction(LOAD_HALF_AT_X, side)], when(port.into(), vec![REJECT])].concat()
    });
    sides.concat()
}

/// Rejects a packet from or to `port` of a host; `words` are those of its address and where they are in one, and the
/// packet's own two `addresses` are there.
fn without(at: u32, port: u16, words: &[(u32, u32)], addresses: [u32; 2]) -> Vec<Instruction> {
    let sides = [(at, addresses[0]), (at + 2, addresses[1])].map(|(side, address)| {
        // From the inside out: each word is looked at where all before it fit.
        let rejected = words.iter().rev().fold(vec![REJECT], |inner, (place, word)| {
            [vec![load(WORD, address + place)], when(*word, inner)].concat()
        });
        [vec![instruction(LOAD_HALF_AT_X, side)], when(port.into(), rejected)].concat()
    });
    sides.concat()
}

/// Runs `inner` where A is `value`, and goes on behind it, A unchanged, where it is not.
fn when(value: u32, inner: Vec<Instruction>) -> Vec<Instruction> {
    let skip = match u8::try_from(inner.len()) {
        Ok(length) => vec![jump(EQUAL, value, 0, length)],
        // A comparison reaches 255 instructions far, a plain jump anywhere.
        Err(_) => vec![jump(EQUAL, value, 1, 0), instruction(JUMP, inner.len() as u32)],
    };
    [skip, inner].concat()
}

/// A = the IP version of the packet at `at`.
fn version(at: u32) -> Vec<Instruction> {
    vec![load(BYTE, at), instruction(SHIFT_RIGHT, 4)]
}

const fn load(width: u16, at: u32) -> Instruction {
    instruction(LOAD | width, at)
}

const fn jump(test: u16, operand: u32, on_true: u8, on_false: u8) -> Instruction {
    Instruction { code: test, on_true, on_false, operand }
}

const fn instruction(code: u16, operand: u32) -> Instruction {
    Instruction { code, on_true: 0, on_false: 0, operand }
}

/// Where the kernel shows what it knows of a packet beside its bytes (`SKF_AD_OFF`).
const fn ancillary(what: u32) -> u32 {
    0xffff_f000 + what
}

// `linux/filter.h`, `SKF_AD_...`.
const PROTOCOL: u32 = 0;
const PACKET_TYPE: u32 = 4;
const HARDWARE_TYPE: u32 = 28;

// `linux/bpf_common.h`: class, width and mode of an instruction.
const LOAD: u16 = 0x20;
const WORD: u16 = 0x00;
const HALF: u16 = 0x08;
const BYTE: u16 = 0x10;
const LOAD_HALF_AT_X: u16 = 0x48;
const LOAD_X: u16 = 0x01;
const LOAD_HEADER_LENGTH: u16 = 0xb1;
const SHIFT_RIGHT: u16 = 0x74;
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const REJECT: Instruction = instruction(RETURN, 0);

// `linux/if_arp.h`, `linux/if_packet.h`, `linux/if_ether.h`, RFC 768, RFC 8200.
const ARPHRD_LOOPBACK: u32 = 772;
const PACKET_OUTGOING: u32 = 4;
const ETHER_IPV4: u32 = 0x0800;
const ETHER_IPV6: u32 = 0x86dd;
const ETHER_VLAN: u32 = 0x8100;
const ETHER_SERVICE_VLAN: u32 = 0x88a8;
const TAG_BYTES: u32 = 4;
const UDP: u32 = 17;
const IPV6_FRAGMENT: u32 = 44;
