//! What the kernel's filter lets through, in a machine that does what the kernel's does; `tap_live` has the kernel.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::writer::{address, datagram, ether_type, ipv4, ipv6, udp};
use roomtone_agent::tap::SkipReason;
use roomtone_agent::tap::filter::{EXCLUDED_MAX, Instruction, program};
use roomtone_agent::tap::link::network;

const SNAP: u32 = 128;
/// What the filter says of itself; the kernel takes 4,096.
const LONGEST: usize = 776;
const FROM4: &str = "192.0.2.1:5004";
const TO4: &str = "198.51.100.2:40000";
const FROM6: &str = "[2001:db8::1]:5004";
const TO6: &str = "[2001:db8::2]:40000";

/// A packet as the kernel shows it to a filter.
struct Shown<'a> {
    protocol: u16,
    packet_type: u32,
    hardware_type: u32,
    bytes: &'a [u8],
}

/// An Ethernet card's incoming packet.
fn incoming(protocol: u16, bytes: &[u8]) -> Shown<'_> {
    Shown { protocol, packet_type: 0, hardware_type: 1, bytes }
}

/// Runs a program as `networking/filter` says; what the kernel would refuse to load, or what does not end, is a
/// panic.
fn run(program: &[Instruction], shown: &Shown<'_>) -> u32 {
    let (mut a, mut x, mut at) = (0_u32, 0_u32, 0);
    let read = |at: u32, bytes: usize| {
        let field = shown.bytes.get(at as usize..)?.get(..bytes)?;
        Some(field.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    };
    loop {
        let Instruction { code, on_true, on_false, operand } = program[at];
        at += 1;
        let loaded = match code {
            0x20 if operand == 0xffff_f000 => Some(u32::from(shown.protocol)),
            0x20 if operand == 0xffff_f004 => Some(shown.packet_type),
            0x20 if operand == 0xffff_f01c => Some(shown.hardware_type),
            0x20 => read(operand, 4),
            0x28 => read(operand, 2),
            0x30 => read(operand, 1),
            0x48 => read(x + operand, 2),
            0xb1 => match read(operand, 1) {
                Some(byte) => {
                    x = (byte & 0x0f) * 4;
                    continue;
                }
                None => None,
            },
            0x01 => {
                x = operand;
                continue;
            }
            0x74 => Some(a >> operand),
            0x05 => {
                at += operand as usize;
                continue;
            }
            0x15 => {
                at += usize::from(if a == operand { on_true } else { on_false });
                continue;
            }
            0x45 => {
                at += usize::from(if a & operand != 0 { on_true } else { on_false });
                continue;
            }
            0x06 => return operand,
            other => panic!("{other:#x} at {at}"),
        };
        match loaded {
            Some(value) => a = value,
            // The kernel rejects a packet that ends before a load.
            None => return 0,
        }
    }
}

fn plain(shown: &Shown<'_>) -> bool {
    let result = run(&program(SNAP, &[]), shown);
    assert!(result == 0 || result == SNAP, "{result}");
    result == SNAP
}

fn protocol(packet: &[u8]) -> u16 {
    u16::from_be_bytes(ether_type(packet))
}

/// A packet that begins at its VLAN tag.
fn at_tag(packet: &[u8]) -> Vec<u8> {
    [&[0x40, 100][..], &ether_type(packet), packet].concat()
}

#[test]
fn udp_passes_however_the_kernel_shows_a_tag() {
    for packet in [datagram(FROM4, TO4, b"head"), datagram(FROM6, TO6, b"head")] {
        assert!(plain(&incoming(protocol(&packet), &packet)));
        for tag in [0x8100, 0x88a8] {
            assert!(plain(&incoming(tag, &packet)), "the packet begins behind its tag");
            assert!(plain(&incoming(tag, &at_tag(&packet))), "the packet begins at its tag");
        }
    }
}

#[test]
fn loopback_is_seen_once_and_other_interfaces_both_ways() {
    let packet = datagram(FROM4, TO4, b"head");
    for (hardware_type, packet_type, passes) in
        [(772, 4, false), (772, 0, true), (1, 4, true), (1, 0, true), (0xfffe, 4, true)]
    {
        let shown = Shown { protocol: 0x0800, packet_type, hardware_type, bytes: &packet };
        assert_eq!(plain(&shown), passes, "{hardware_type} {packet_type}");
    }
}

#[test]
fn what_is_no_udp_head_does_not_pass() {
    let (from4, to4, from6, to6) = (address(FROM4), address(TO4), address(FROM6), address(TO6));
    let (body4, body6) = (udp(from4, to4, b"head"), udp(from6, to6, b"head"));
    let fragment = |next, offset: u16| {
        let [high, low] = offset.to_be_bytes();
        ipv6(from6, to6, 44, &[&[next, 0, high, low, 0, 0, 0, 9], &body6[..]].concat())
    };
    let packets = [
        ("TCP", ipv4(from4, to4, 6, &[], 0, &body4)),
        ("ICMP", ipv4(from4, to4, 1, &[], 0, &body4)),
        ("a later fragment", ipv4(from4, to4, 17, &[], 0x2001, &body4)),
        ("the last fragment", ipv4(from4, to4, 17, &[], 0x0001, &body4)),
        ("TCP over IPv6", ipv6(from6, to6, 6, &body6)),
        ("ICMPv6", ipv6(from6, to6, 58, &body6)),
        ("hop-by-hop", ipv6(from6, to6, 0, &[&[17, 0, 1, 4, 0, 0, 0, 0], &body6[..]].concat())),
        ("a first fragment of ICMPv6", fragment(58, 1)),
        ("a later fragment over IPv6", fragment(17, 8)),
        ("no ports", datagram(FROM4, TO4, b"")[..21].to_vec()),
        ("nothing", vec![]),
    ];
    for (name, packet) in packets {
        for shown in [0x0800, 0x86dd, 0x8100] {
            let excluding = program(SNAP, &[address("192.0.2.9:1")]);
            assert_eq!(run(&excluding, &incoming(shown, &packet)), 0, "{name} as {shown:#x}");
        }
    }
    let packet = datagram(FROM4, TO4, b"head");
    for shown in [0x0806, 0x8863, 0x88cc, 0x0004] {
        assert!(!plain(&incoming(shown, &packet)), "{shown:#x} is not IP, whatever its bytes");
    }
    assert!(plain(&incoming(0x0800, &ipv4(from4, to4, 17, &[1; 8], 0x2000, &body4))));
    assert!(plain(&incoming(0x86dd, &fragment(17, 1))), "a first fragment has the ports");
}

/// As many far ends as are allowed, each the most expensive kind.
fn worst() -> Vec<SocketAddr> {
    (0..EXCLUDED_MAX).map(|n| address(&format!("[2001:db8:1:2:3:4:5:{n:x}]:44{n:02}"))).collect()
}

#[test]
fn longest_program_is_as_long_as_said_and_never_jumps_beyond_itself() {
    let many_ports: Vec<_> =
        (0..EXCLUDED_MAX).map(|n| address(&format!("0.0.0.0:44{n:02}"))).collect();
    for excluded in [vec![], many_ports, worst()] {
        let program = program(SNAP, &excluded);
        assert!(program.len() <= LONGEST, "{} instructions", program.len());
        for (at, it) in program.iter().enumerate() {
            let furthest = match it.code {
                0x05 => it.operand as usize,
                _ => usize::from(it.on_true.max(it.on_false)),
            };
            assert!(at + 1 + furthest <= program.len() - usize::from(it.code != 0x06), "{at}");
        }
        assert_eq!(program.last().map(|it| it.code), Some(0x06));
    }
    assert_eq!(program(SNAP, &worst()).len(), LONGEST);
}

#[test]
fn last_of_many_exclusions_holds_like_the_first_and_others_pass() {
    let excluded = worst();
    let program = program(SNAP, &excluded);
    let between = |from: SocketAddr, to: SocketAddr| {
        let packet = datagram(&from.to_string(), &to.to_string(), b"head");
        let shown = [(0x86dd, packet.clone()), (0x8100, packet.clone()), (0x88a8, at_tag(&packet))];
        shown.map(|(protocol, bytes)| run(&program, &incoming(protocol, &bytes)))
    };
    let (here, other) = (address("[2001:db8::1]:4400"), address("[2001:db8:1:2:3:4:5:ff]:4400"));
    for far_end in excluded {
        assert_eq!(between(here, far_end), [0; 3], "{far_end}");
        assert_eq!(between(far_end, here), [0; 3], "{far_end}");
    }
    assert_eq!(between(here, other), [SNAP; 3]);
    let packet = datagram(FROM4, TO4, b"head");
    for (protocol, bytes) in
        [(0x0800, packet.clone()), (0x8100, packet.clone()), (0x8100, at_tag(&packet))]
    {
        assert_eq!(run(&program, &incoming(protocol, &bytes)), SNAP, "{protocol:#x}");
    }
}

fn any_address() -> impl Strategy<Value = (u8, u8, u16)> {
    (0..2_u8, 0..3_u8, 1_u16..4)
}

fn far_end((family, host, port): (u8, u8, u16)) -> SocketAddr {
    match family {
        0 => address(&format!("192.0.2.{host}:{port}")),
        _ => address(&format!("[2001:db8::{host}]:{port}")),
    }
}

proptest! {
    #[test]
    fn far_ends_are_excluded_by_address_and_port_together(
        family in 0..2_u8,
        ends in [(0..3_u8, 1_u16..4), (0..3_u8, 1_u16..4)],
        excluded in prop::collection::vec(any_address(), 0..4),
        any_host in prop::option::of((any::<bool>(), 1_u16..4)),
        tag in 0..3_usize,
    ) {
        let [source, destination] = ends.map(|(host, port)| far_end((family, host, port)));
        let packet = datagram(&source.to_string(), &destination.to_string(), b"head");
        let mut excluded: Vec<_> = excluded.into_iter().map(far_end).collect();
        excluded.extend(any_host.map(|(six, port)| {
            address(&format!("{}:{port}", if six { "[::]" } else { "0.0.0.0" }))
        }));
        let is_meant = |end: SocketAddr| excluded.iter().any(|it| {
            it.port() == end.port() && (it.ip().is_unspecified() || it.ip() == end.ip())
        });
        let program = program(SNAP, &excluded);
        let (shown, bytes) = [
            (protocol(&packet), packet.clone()), (0x8100, packet.clone()), (0x8100, at_tag(&packet)),
        ][tag].clone();
        let passes = run(&program, &incoming(shown, &bytes)) == SNAP;
        prop_assert_eq!(passes, !is_meant(source) && !is_meant(destination));
    }

    #[test]
    fn whatever_passes_is_udp_to_the_reader_too(
        shown in prop::sample::select(vec![0x0800_u16, 0x86dd, 0x8100, 0x88a8, 0x0806]),
        mut bytes in prop::collection::vec(any::<u8>(), 0..120),
        skeleton in prop::sample::select(vec![0x45_u8, 0x46, 0x60]),
        next in prop::sample::select(vec![17_u8, 17, 44, 6, 58]),
    ) {
        // Bytes that are random throughout would hardly ever pass.
        let at = match bytes.first() { Some(first) if first & 1 == 1 => 4, _ => 0 };
        for (place, byte) in [(0, skeleton), (6, next), (9, 17), (40, 17), (2, 0)] {
            if let Some(found) = bytes.get_mut(at + place) {
                *found = byte;
            }
        }
        if plain(&incoming(shown, &bytes)) {
            let begins = bytes[0] >> 4;
            prop_assume!(!matches!((shown, begins), (0x0800, 6) | (0x86dd, 4)));
            let seen = network(shown, &bytes, bytes.len() as u32);
            prop_assert!(
                matches!(seen, Ok(_) | Err(SkipReason::MalformedIp | SkipReason::MalformedUdp)),
                "{:?}", seen
            );
        }
    }

    #[test]
    fn any_bytes_are_judged(
        shown in any::<u16>(),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let result = run(&program(SNAP, &worst()), &incoming(shown, &bytes));
        prop_assert!(result == 0 || result == SNAP);
    }
}
