//! From frames of every link type to datagrams, and from bad frames to the right reason.

use super::writer::{
    Order, address, bsd_loopback, cooked, cooked2, datagram, ethernet, ipv4, ipv6, udp,
};
use roomtone_agent::clock::Moment;
use roomtone_agent::tap::SkipReason;
use roomtone_agent::tap::link::{LinkType, UdpHead, dissect, network};

const FROM4: &str = "192.0.2.1:5004";
const TO4: &str = "198.51.100.2:40000";
const FROM6: &str = "[2001:db8::1]:5004";
const TO6: &str = "[2001:db8::2]:40000";
const PAYLOAD: &[u8] = b"twenty bytes of RTP.";

const LINKS: [LinkType; 7] = [
    LinkType::Ethernet,
    LinkType::LinuxCooked,
    LinkType::LinuxCooked2,
    LinkType::RawIp,
    LinkType::RawIpv4,
    LinkType::RawIpv6,
    LinkType::BsdLoopback,
];

fn v4() -> Vec<u8> {
    datagram(FROM4, TO4, PAYLOAD)
}

fn v6() -> Vec<u8> {
    datagram(FROM6, TO6, PAYLOAD)
}

fn v6_behind(next: u8, extensions: &[u8]) -> Vec<u8> {
    let (from, to) = (address(FROM6), address(TO6));
    ipv6(from, to, next, &[extensions, &udp(from, to, PAYLOAD)].concat())
}

fn v4_with(protocol: u8, options: &[u8], fragment: u16) -> Vec<u8> {
    let (from, to) = (address(FROM4), address(TO4));
    ipv4(from, to, protocol, options, fragment, &udp(from, to, PAYLOAD))
}

fn whole(link: LinkType, frame: &[u8]) -> Result<UdpHead, SkipReason> {
    dissect(link, frame, u32::try_from(frame.len()).unwrap())
}

#[test]
fn the_same_datagram_is_found_behind_every_link_header() {
    use LinkType::*;
    let cases: Vec<(&str, LinkType, Vec<u8>)> = vec![
        ("ethernet, v4", Ethernet, ethernet(&[], &v4())),
        ("ethernet, v6", Ethernet, ethernet(&[], &v6())),
        ("802.1Q", Ethernet, ethernet(&[0x8100], &v4())),
        ("802.1ad over 802.1Q", Ethernet, ethernet(&[0x88a8, 0x8100], &v6())),
        ("four tags", Ethernet, ethernet(&[0x9100, 0x88a8, 0x8100, 0x8100], &v4())),
        ("cooked, v4", LinuxCooked, cooked(&v4())),
        ("cooked, v6", LinuxCooked, cooked(&v6())),
        ("cooked v2, v4", LinuxCooked2, cooked2(&v4())),
        ("cooked v2, v6", LinuxCooked2, cooked2(&v6())),
        ("raw, v4", RawIp, v4()),
        ("raw, v6", RawIp, v6()),
        ("raw v4", RawIpv4, v4()),
        ("raw v6", RawIpv6, v6()),
        ("loopback little, v4", BsdLoopback, bsd_loopback(Order::Little, 2, &v4())),
        ("loopback big, v4", BsdLoopback, bsd_loopback(Order::Big, 2, &v4())),
        ("loopback little, Darwin v6", BsdLoopback, bsd_loopback(Order::Little, 30, &v6())),
        ("loopback big, FreeBSD v6", BsdLoopback, bsd_loopback(Order::Big, 28, &v6())),
        ("loopback little, OpenBSD v6", BsdLoopback, bsd_loopback(Order::Little, 24, &v6())),
        ("loopback little, Linux v6", BsdLoopback, bsd_loopback(Order::Little, 10, &v6())),
    ];
    for (name, link, frame) in cases {
        let head = whole(link, &frame).unwrap_or_else(|reason| panic!("{name}: {reason:?}"));
        let found = head.datagram(Moment::ORIGIN, &frame);
        let (from, to) = if found.source.is_ipv4() { (FROM4, TO4) } else { (FROM6, TO6) };
        assert_eq!((found.source, found.destination), (address(from), address(to)), "{name}");
        assert_eq!((found.payload, found.wire_bytes), (PAYLOAD, 20), "{name}");
    }
}

#[test]
fn a_tag_behind_a_cooked_header_is_passed() {
    let mut tagged = cooked(&v4());
    // Protocol 0x8100 at 14, then tag 100 and the inner EtherType.
    tagged.splice(14..16, [0x81, 0x00, 0, 100, 0x08, 0x00]);
    assert_eq!(whole(LinkType::LinuxCooked, &tagged).unwrap().payload_start, 16 + 4 + 20 + 8);

    let mut tagged = cooked2(&v4());
    tagged.splice(0..2, [0x81, 0x00]);
    tagged.splice(20..20, [0, 100, 0x08, 0x00]);
    assert_eq!(whole(LinkType::LinuxCooked2, &tagged).unwrap().payload_start, 20 + 4 + 20 + 8);
}

#[test]
fn the_same_datagram_is_found_however_the_kernel_shows_its_tag() {
    for (packet, ether_type) in [(v4(), 0x0800), (v6(), 0x86dd)] {
        let behind = packet.len() - PAYLOAD.len();
        let at_tag = [&[0x20, 100][..], &u16::to_be_bytes(ether_type), &packet].concat();
        let cases = [
            ("no tag", ether_type, packet.clone(), behind),
            ("behind the tag that is named", 0x8100, packet.clone(), behind),
            ("at the tag that is named", 0x8100, at_tag.clone(), 4 + behind),
            ("at a tag, and the inner type is named", ether_type, at_tag, 4 + behind),
        ];
        for (name, named, bytes, start) in cases {
            let head = network(named, &bytes, bytes.len() as u32);
            let head = head.unwrap_or_else(|reason| panic!("{name}: {reason:?}"));
            assert_eq!((head.payload_start, head.payload_end), (start, start + 20), "{name}");
        }
    }
    // A total length that looks like an EtherType: 0x0800 = 2,048 bytes, behind a tag.
    let long = datagram(FROM4, TO4, &[7; 2_048 - 28]);
    let head = network(0x8100, &long[..128], 2_048).unwrap();
    assert_eq!((head.payload_start, head.wire_bytes), (28, 2_020));
    assert_eq!(network(0x0806, &v4(), 48), Err(SkipReason::NotIp));
    assert_eq!(network(0x0800, &v6(), 68), Err(SkipReason::MalformedIp));
    assert_eq!(network(0x0800, &v4()[..27], 48), Err(SkipReason::TruncatedHead));
    assert_eq!(network(0x8100, &[], 0), Err(SkipReason::MalformedLink));
}

#[test]
fn ip_options_and_extension_headers_are_passed() {
    let hop_by_hop = [17, 0, 5, 2, 0, 0, 1, 0];
    // Hop-by-hop, then destination options of 16 bytes, then routing, then UDP.
    let chain = [
        &[60, 0, 5, 2, 0, 0, 1, 0][..],
        &[43, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[17, 0, 4, 0, 0, 0, 0, 0],
    ]
    .concat();
    let first_and_only = [17, 0, 0, 0, 0, 0, 0, 9];
    let cases = [
        ("v4 options", LinkType::RawIpv4, v4_with(17, &[1; 8], 0), 28 + 8),
        ("v4 most options", LinkType::RawIpv4, v4_with(17, &[1; 40], 0), 60 + 8),
        ("v4 do not fragment", LinkType::RawIpv4, v4_with(17, &[], 0x4000), 20 + 8),
        ("hop-by-hop", LinkType::RawIpv6, v6_behind(0, &hop_by_hop), 40 + 8 + 8),
        ("chain", LinkType::RawIpv6, v6_behind(0, &chain), 40 + 32 + 8),
        ("atomic fragment", LinkType::RawIpv6, v6_behind(44, &first_and_only), 40 + 8 + 8),
    ];
    for (name, link, packet, start) in cases {
        let head = whole(link, &packet).unwrap_or_else(|reason| panic!("{name}: {reason:?}"));
        assert_eq!((head.payload_start, head.payload_end), (start, start + 20), "{name}");
    }
}

#[test]
fn first_fragment_counts_with_its_whole_length_and_later_ones_are_skipped() {
    let (from, to) = (address(FROM4), address(TO4));
    let whole_datagram = udp(from, to, &[7; 3_000]);
    let first = ipv4(from, to, 17, &[], 0x2000, &whole_datagram[..1_480]);
    let head = whole(LinkType::RawIp, &first).unwrap();
    // 1,480 bytes of the datagram are here, 8 of them its header.
    assert_eq!((head.wire_bytes, head.payload_end - head.payload_start), (3_000, 1_472));
    let later = ipv4(from, to, 17, &[], 185, &whole_datagram[1_480..]);
    assert_eq!(whole(LinkType::RawIp, &later), Err(SkipReason::Fragment));

    let (from, to) = (address(FROM6), address(TO6));
    let whole_datagram = udp(from, to, &[7; 3_000]);
    let first = [&[17, 0, 0, 1, 0, 0, 0, 9], &whole_datagram[..1_440]].concat();
    let head = whole(LinkType::RawIp, &ipv6(from, to, 44, &first)).unwrap();
    assert_eq!((head.wire_bytes, head.payload_end - head.payload_start), (3_000, 1_432));
    // Offset 180 in units of 8 bytes, shifted left by 3.
    let later = [&[17, 0, 0x05, 0xa1, 0, 0, 0, 9], &whole_datagram[1_440..2_880]].concat();
    assert_eq!(whole(LinkType::RawIp, &ipv6(from, to, 44, &later)), Err(SkipReason::Fragment));
}

#[test]
fn padding_of_a_short_frame_is_no_payload() {
    // The least Ethernet frame is 60 bytes; 14 + 20 + 8 + 4 leave 14 of padding.
    let mut frame = ethernet(&[], &datagram(FROM4, TO4, b"ping"));
    frame.resize(60, 0);
    let head = whole(LinkType::Ethernet, &frame).unwrap();
    assert_eq!(head.datagram(Moment::ORIGIN, &frame).payload, b"ping");
}

#[test]
fn a_payload_cut_by_the_snap_length_keeps_its_length_on_the_wire() {
    let frame = ethernet(&[], &datagram(FROM4, TO4, &[9; 1_200]));
    let head = dissect(LinkType::Ethernet, &frame[..144], 1_242).unwrap();
    assert_eq!((head.wire_bytes, head.payload_end - head.payload_start), (1_200, 144 - 42));
    let head = dissect(LinkType::Ethernet, &frame[..42], 1_242).unwrap();
    assert_eq!((head.wire_bytes, head.payload_end - head.payload_start), (1_200, 0));
}

#[test]
fn every_bad_frame_has_its_reason() {
    use LinkType::*;
    let changed = |packet: Vec<u8>, at: usize, byte: u8| {
        let mut packet = packet;
        packet[at] = byte;
        packet
    };
    let arp = [&[0xff; 12][..], &[0x08, 0x06], &[0; 28]].concat();
    let llc = [&[2; 12][..], &[0x00, 0x26], &[0x42; 38]].concat();
    let nine_options: Vec<u8> = (0..9).flat_map(|_| [60, 0, 1, 4, 0, 0, 0, 0]).collect();
    let cases: Vec<(&str, LinkType, Vec<u8>, SkipReason)> = vec![
        ("nothing", Ethernet, vec![], SkipReason::MalformedLink),
        ("half an Ethernet header", Ethernet, vec![2; 13], SkipReason::MalformedLink),
        ("half a cooked header", LinuxCooked, vec![0; 15], SkipReason::MalformedLink),
        ("one byte cooked v2", LinuxCooked2, vec![8], SkipReason::MalformedLink),
        ("three bytes loopback", BsdLoopback, vec![2, 0, 0], SkipReason::MalformedLink),
        ("five tags", Ethernet, ethernet(&[0x8100; 5], &v4()), SkipReason::MalformedLink),
        (
            "a tag and no more",
            Ethernet,
            [&[2; 12][..], &[0x81, 0]].concat(),
            SkipReason::MalformedLink,
        ),
        ("ARP", Ethernet, arp, SkipReason::NotIp),
        ("spanning tree", Ethernet, llc, SkipReason::NotIp),
        ("AppleTalk", BsdLoopback, bsd_loopback(Order::Little, 16, &v4()), SkipReason::NotIp),
        ("version 5", RawIp, changed(v4(), 0, 0x55), SkipReason::NotIp),
        (
            "version 6 as EtherType 4",
            Ethernet,
            changed(ethernet(&[], &v4()), 14, 0x65),
            SkipReason::MalformedIp,
        ),
        (
            "version 4 as EtherType 6",
            Ethernet,
            changed(ethernet(&[], &v6()), 14, 0x45),
            SkipReason::MalformedIp,
        ),
        ("empty raw", RawIp, vec![], SkipReason::MalformedIp),
        ("short v4", RawIpv4, v4()[..19].to_vec(), SkipReason::MalformedIp),
        ("short v6", RawIpv6, v6()[..39].to_vec(), SkipReason::MalformedIp),
        ("header of 16 bytes", RawIpv4, changed(v4(), 0, 0x44), SkipReason::MalformedIp),
        ("total below header", RawIpv4, changed(v4(), 3, 19), SkipReason::MalformedIp),
        ("TCP", RawIpv4, v4_with(6, &[], 0), SkipReason::NotUdp),
        ("a later fragment of TCP", RawIpv4, v4_with(6, &[], 185), SkipReason::NotUdp),
        ("ICMPv6", RawIpv6, v6_behind(58, &[]), SkipReason::NotUdp),
        ("no next header", RawIpv6, v6_behind(59, &[]), SkipReason::NotUdp),
        (
            "a later fragment of ICMPv6",
            RawIpv6,
            v6_behind(44, &[58, 0, 0x05, 0xa0, 0, 0, 0, 9]),
            SkipReason::NotUdp,
        ),
        ("nine extension headers", RawIpv6, v6_behind(60, &nine_options), SkipReason::MalformedIp),
        (
            "an extension beyond its packet",
            RawIpv6,
            v6_behind(0, &[17, 255, 0, 0, 0, 0, 0, 0]),
            SkipReason::MalformedIp,
        ),
        (
            "jumbogram",
            RawIpv6,
            changed(v6_behind(0, &[17, 0, 0xc2, 4, 0, 1, 0, 0]), 5, 0),
            SkipReason::MalformedIp,
        ),
        ("UDP length 7", RawIpv4, changed(v4(), 25, 7), SkipReason::MalformedUdp),
        ("UDP longer than its packet", RawIpv4, changed(v4(), 25, 29), SkipReason::MalformedUdp),
        ("IP too short for UDP", RawIpv4, changed(v4(), 3, 27), SkipReason::MalformedUdp),
        ("frame too short for UDP", RawIpv4, v4()[..27].to_vec(), SkipReason::MalformedUdp),
    ];
    for (name, link, frame, reason) in cases {
        assert_eq!(whole(link, &frame), Err(reason), "{name}");
    }
}

#[test]
fn a_head_cut_anywhere_by_the_capture_is_truncated_and_not_malformed() {
    let behind = v6_behind(0, &[17, 0, 5, 2, 0, 0, 1, 0]);
    for (link, frame) in [
        (LinkType::Ethernet, ethernet(&[0x8100, 0x8100], &behind)),
        (LinkType::LinuxCooked, cooked(&v4())),
        (LinkType::LinuxCooked2, cooked2(&v6())),
        (LinkType::BsdLoopback, bsd_loopback(Order::Big, 2, &v4())),
        (LinkType::RawIp, behind.clone()),
    ] {
        let start = whole(link, &frame).unwrap().payload_start;
        for length in 0..start {
            let found = dissect(link, &frame[..length], frame.len() as u32);
            assert_eq!(found, Err(SkipReason::TruncatedHead), "{link:?} cut at {length}");
        }
    }
}

#[test]
fn every_single_changed_byte_yields_a_reason_or_a_payload_inside_the_frame() {
    let frames =
        [ethernet(&[0x8100], &v4()), cooked(&v6()), v6_behind(44, &[17, 0, 0, 1, 0, 0, 0, 9])];
    let mut outcomes = [0_u32; 2];
    for frame in frames {
        for (at, byte) in (0..frame.len()).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
            let mut changed = frame.clone();
            changed[at] = byte;
            for link in LINKS {
                let found = whole(link, &changed);
                outcomes[usize::from(found.is_ok())] += 1;
                if let Ok(head) = found {
                    assert!(head.payload_start <= head.payload_end);
                    assert!(head.payload_end <= changed.len());
                    assert!(head.payload_end - head.payload_start <= usize::from(head.wire_bytes));
                }
            }
        }
    }
    assert!(outcomes.iter().all(|&count| count > 1_000), "{outcomes:?}");
}

#[test]
fn numbers_of_libpcap_and_of_files_name_the_same_links() {
    let expected = [
        (1, LinkType::Ethernet),
        (113, LinkType::LinuxCooked),
        (276, LinkType::LinuxCooked2),
        (12, LinkType::RawIp),
        (14, LinkType::RawIp),
        (101, LinkType::RawIp),
        (228, LinkType::RawIpv4),
        (229, LinkType::RawIpv6),
        (0, LinkType::BsdLoopback),
        (108, LinkType::BsdLoopback),
    ];
    for (number, link) in expected {
        assert_eq!(LinkType::from_number(number), Some(link));
    }
    let readable = (0..=1_000).filter(|&number| LinkType::from_number(number).is_some()).count();
    assert_eq!(readable, expected.len());
}

#[test]
fn code_point_is_read_in_both_families_without_the_congestion_bits() {
    // Expedited forwarding (46) and both bits of RFC 3168: 46 * 4 + 3 = 0xbb.
    let (mut v4, mut v6) = (v4(), v6());
    assert_eq!(
        (whole(LinkType::RawIp, &v4).unwrap().dscp, whole(LinkType::RawIp, &v6).unwrap().dscp),
        (0, 0)
    );
    v4[1] = 0xbb;
    // Version 6, then the class across two bytes, then the flow label.
    (v6[0], v6[1]) = (0x6b, 0xbf);
    for packet in [&v4, &v6] {
        assert_eq!(whole(LinkType::RawIp, packet).unwrap().dscp, 46);
        let tagged = ethernet(&[0x8100], packet);
        let head = whole(LinkType::Ethernet, &tagged).unwrap();
        assert_eq!(head.datagram(Moment::ORIGIN, &tagged).dscp, 46, "behind a tag");
        let ether_type = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
        assert_eq!(network(ether_type, packet, packet.len() as u32).unwrap().dscp, 46, "live");
    }
    (v4[1], v6[0], v6[1]) = (0xff, 0x6f, 0xff);
    let found = [&v4, &v6].map(|packet| whole(LinkType::RawIp, packet).unwrap().dscp);
    assert_eq!(found, [63, 63], "never more than six bits");
}
