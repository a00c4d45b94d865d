//! Capture files of every kind, sound and broken, and the real ones where they are at hand.

use std::io::{Read, Write};
use std::path::Path;

use super::writer::{
    COOKED, COOKED2, ETHERNET, MICROS, NANOS, Order, RAW, block, cooked, cooked2, datagram,
    enhanced_packet, ethernet, interface, obsolete_packet, pcap_head, pcap_record, section,
    simple_packet,
};
use roomtone_agent::tap::{FileTap, TapError};

/// 2026-11-22 00:00:00 UTC.
const SECONDS: u32 = 1_795_305_600;
const SECONDS_NANOS: u64 = SECONDS as u64 * 1_000_000_000;

/// What a tap said about one file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// Time in nanoseconds, captured payload, payload bytes on the wire.
    datagrams: Vec<(u64, Vec<u8>, u16)>,
    packets: u64,
    bytes: u64,
    skips: Vec<(&'static str, u64)>,
    error: Option<String>,
}

fn read_from(input: impl Read) -> Outcome {
    let mut tap = match FileTap::from_reader(input) {
        Ok(tap) => tap,
        Err(error) => return Outcome { error: Some(error.to_string()), ..Outcome::default() },
    };
    let mut read = Outcome::default();
    loop {
        match tap.next() {
            Ok(Some(datagram)) => read.datagrams.push((
                datagram.at.as_nanos(),
                datagram.payload.to_vec(),
                datagram.wire_bytes,
            )),
            Ok(None) => break,
            Err(error) => {
                read.error = Some(error.to_string());
                assert!(tap.next().unwrap().is_none(), "an error ends the file");
                break;
            }
        }
    }
    (read.packets, read.bytes) = (tap.packets(), tap.bytes());
    read.skips = tap.skips().iter().collect();
    assert_eq!(read.packets, read.datagrams.len() as u64 + tap.skips().total());
    read
}

fn read(file: &[u8]) -> Outcome {
    read_from(file)
}

fn packet(payload: &[u8]) -> Vec<u8> {
    datagram("192.0.2.1:5004", "192.0.2.2:5004", payload)
}

#[test]
fn pcap_of_either_order_and_resolution_gives_the_same_datagrams() {
    for order in Order::BOTH {
        for (magic, fraction) in [(MICROS, 123_456), (NANOS, 123_456_789)] {
            let frame = ethernet(&[], &packet(b"one"));
            let file = [
                pcap_head(order, magic, ETHERNET),
                pcap_record(order, SECONDS, fraction, frame.len(), &frame),
                pcap_record(order, SECONDS + 1, 0, 1_000, &frame[..44]),
            ]
            .concat();
            let nanos = if magic == MICROS { 123_456_000 } else { 123_456_789 };
            let expected = Outcome {
                datagrams: vec![
                    (SECONDS_NANOS + nanos, b"one".to_vec(), 3),
                    // 14 + 20 + 8 of 44 captured bytes are heads.
                    (SECONDS_NANOS + 1_000_000_000, b"on".to_vec(), 3),
                ],
                packets: 2,
                bytes: 45 + 1_000,
                ..Outcome::default()
            };
            assert_eq!(read(&file), expected, "{order:?} {magic:x}");
        }
    }
}

#[test]
fn pcap_link_number_is_read_without_the_check_sequence_bits() {
    let file = [
        pcap_head(Order::Little, MICROS, 0x5400_0000 | RAW),
        pcap_record(Order::Little, SECONDS, 0, 31, &packet(b"one")),
    ]
    .concat();
    assert_eq!(read(&file).datagrams.len(), 1);
}

#[test]
fn pcapng_interfaces_differ_in_link_type_and_clock() {
    for order in Order::BOTH {
        let file = [
            section(order),
            interface(order, ETHERNET, &[]),
            interface(order, COOKED2, &[(9, &[9])]),
            // A name first, whose padding must be passed; then 2^-10 s.
            interface(order, RAW, &[(2, b"wlan0"), (9, &[0x80 | 10])]),
            // Milliseconds, counted from one day later than 1970.
            interface(order, COOKED, &[(9, &[3]), (14, &order.i64(86_400))]),
            // Picoseconds, counted from a second before 1970.
            interface(order, RAW, &[(9, &[12]), (14, &order.i64(-1))]),
            enhanced_packet(order, 0, 1_500_000, 45, &ethernet(&[], &packet(b"one"))),
            enhanced_packet(order, 1, 1_500_000_001, 51, &cooked2(&packet(b"two"))),
            enhanced_packet(order, 2, 1_536, 31, &packet(b"bin")),
            enhanced_packet(order, 3, 1_500, 47, &cooked(&packet(b"off"))),
            enhanced_packet(order, 4, 2_500_000_000_999, 31, &packet(b"neg")),
            obsolete_packet(order, 2, 2_048, &packet(b"old")),
        ]
        .concat();
        let found: Vec<_> =
            read(&file).datagrams.into_iter().map(|(at, payload, _)| (at, payload)).collect();
        let expected = [
            (1_500_000_000, b"one".to_vec()),
            (1_500_000_001, b"two".to_vec()),
            // 1,536 / 1,024 s.
            (1_500_000_000, b"bin".to_vec()),
            (86_401_500_000_000, b"off".to_vec()),
            // 2.5 s less 1 s; 999 ps are no nanosecond.
            (1_500_000_000, b"neg".to_vec()),
            (2_000_000_000, b"old".to_vec()),
        ];
        assert_eq!(found, expected, "{order:?}");
    }
}

#[test]
fn a_new_section_brings_its_own_order_and_interfaces() {
    let (little, big) = (Order::Little, Order::Big);
    let file = [
        section(little),
        interface(little, RAW, &[]),
        enhanced_packet(little, 0, 1, 31, &packet(b"one")),
        section(big),
        enhanced_packet(big, 0, 2, 31, &packet(b"two")),
        interface(big, ETHERNET, &[]),
        enhanced_packet(big, 0, 3, 45, &ethernet(&[], &packet(b"six"))),
    ]
    .concat();
    let found = read(&file);
    assert_eq!(found.skips, [("unknownInterface", 1)]);
    let expected = [(1_000, b"one".to_vec(), 3), (3_000, b"six".to_vec(), 3)];
    assert_eq!(found.datagrams, expected);
}

#[test]
fn blocks_without_packets_are_passed_whatever_their_size() {
    let order = Order::Little;
    let file = [
        section(order),
        // Decryption secrets, larger than any buffer; then name resolution; then a kind of tomorrow.
        block(order, 10, &vec![0x6b; 1_000_000]),
        interface(order, RAW, &[]),
        block(order, 4, b"names"),
        block(order, 0x4242_4242, &[]),
        enhanced_packet(order, 0, 7, 31, &packet(b"one")),
        block(order, 5, &[0; 40]),
    ]
    .concat();
    let found = read(&file);
    assert_eq!(found.datagrams, [(7_000, b"one".to_vec(), 3)]);
    assert_eq!((found.packets, found.skips, found.error), (1, vec![], None));
}

#[test]
fn packets_without_time_or_interface_or_known_link_are_counted_by_reason() {
    let order = Order::Little;
    let file = [
        section(order),
        interface(order, RAW, &[]),
        interface(order, 127, &[]),
        simple_packet(order, 31, &packet(b"one")),
        enhanced_packet(order, 1, 1, 31, &packet(b"two")),
        enhanced_packet(order, 2, 1, 31, &packet(b"six")),
        enhanced_packet(order, u32::MAX, 1, 31, &packet(b"ten")),
    ]
    .concat();
    let found = read(&file);
    assert_eq!(found.skips, [("unsupportedLink", 1), ("noTimestamp", 1), ("unknownInterface", 2)]);
    assert_eq!((found.packets, found.bytes), (4, 4 * 31));
}

#[test]
fn time_that_goes_backwards_is_handed_over_as_it_is() {
    let order = Order::Little;
    let record = |seconds| pcap_record(order, seconds, 0, 31, &packet(b"one"));
    let file = [pcap_head(order, MICROS, RAW), record(30), record(10), record(0), record(u32::MAX)];
    let seconds: Vec<u64> =
        read(&file.concat()).datagrams.iter().map(|(at, ..)| at / 1_000_000_000).collect();
    assert_eq!(seconds, [30, 10, 0, 4_294_967_295]);
}

#[test]
fn times_beyond_all_bounds_are_held_and_not_wrapped() {
    let order = Order::Little;
    let file = [
        section(order),
        interface(order, RAW, &[(9, &[0])]),
        interface(order, RAW, &[(9, &[0x80])]),
        interface(order, RAW, &[(9, &[0xff])]),
        interface(order, RAW, &[(9, &[127])]),
        interface(order, RAW, &[(14, &order.i64(i64::MIN))]),
        (0..5).flat_map(|at| enhanced_packet(order, at, u64::MAX, 31, &packet(b"one"))).collect(),
    ]
    .concat();
    let times: Vec<u64> = read(&file).datagrams.iter().map(|(at, ..)| *at).collect();
    // 2^64 s twice; 2^64 * 10^9 / 2^127 is below 1; 10^-127 s; long before 1970.
    assert_eq!(times, [u64::MAX, u64::MAX, 0, 0, 0]);
}

#[test]
fn a_file_cut_anywhere_yields_what_is_whole_and_counts_one_truncated_record() {
    let order = Order::Little;
    let pcap = [
        pcap_head(order, MICROS, RAW),
        pcap_record(order, 1, 0, 31, &packet(b"one")),
        pcap_record(order, 2, 0, 31, &packet(b"two")),
    ];
    let pcapng = [
        [section(order), interface(order, RAW, &[])].concat(),
        enhanced_packet(order, 0, 1, 31, &packet(b"one")),
        enhanced_packet(order, 0, 2, 31, &packet(b"two")),
    ];
    for [head, first, second] in [pcap, pcapng] {
        let file = [&head[..], &first, &second].concat();
        for cut in head.len()..=file.len() {
            let found = read(&file[..cut]);
            assert_eq!(found.error, None, "cut at {cut}");
            let whole = match cut - head.len() {
                behind if behind < first.len() => 0,
                behind if behind < first.len() + second.len() => 1,
                _ => 2,
            };
            let is_between =
                [0, first.len(), first.len() + second.len()].contains(&(cut - head.len()));
            let skips: &[_] = if is_between { &[] } else { &[("truncatedRecord", 1)] };
            assert_eq!((found.datagrams.len(), &found.skips[..]), (whole, skips), "cut at {cut}");
        }
    }
}

#[test]
fn pieces_of_any_size_give_the_same_as_the_whole() {
    struct Pieces<'a>(&'a [u8], usize);
    impl Read for Pieces<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(into.len());
            Read::read(&mut self.0.take(count as u64), into)
                .inspect(|&count| self.0 = &self.0[count..])
        }
    }
    let order = Order::Big;
    let mut file = [section(order), interface(order, ETHERNET, &[])].concat();
    for length in 0..300 {
        let frame = ethernet(&[], &packet(&vec![length as u8; length]));
        file.extend(enhanced_packet(order, 0, length as u64, frame.len(), &frame));
        file.extend(block(order, 5, &vec![0; length]));
    }
    // Longer than a read, shorter than the longest packet.
    file.extend(enhanced_packet(order, 0, 1, 200_000, &vec![0; 200_000]));
    file.extend(enhanced_packet(order, 0, 1, 45, &ethernet(&[], &packet(b"end"))));
    let expected = read(&file);
    assert_eq!((expected.datagrams.len(), &expected.skips[..]), (301, &[("notIp", 1)][..]));
    for size in [1, 7, 4_096] {
        assert_eq!(read_from(Pieces(&file, size)), expected, "pieces of {size}");
    }
}

#[test]
fn what_is_no_capture_is_refused_with_what_it_is() {
    let order = Order::Little;
    let cases: [(&[u8], &str); 9] = [
        (b"", "not a capture file: it is empty"),
        (
            b"\x7fELF\x02\x01",
            "not a capture file: first bytes 7f 45 4c 46 are neither pcap nor pcapng",
        ),
        (b"ab", "not a capture file: first bytes 61 62 are neither pcap nor pcapng"),
        (&[0x1f, 0x8b, 8, 0, 0], "not a capture file: it is compressed with gzip, unpack it first"),
        (
            &[0x28, 0xb5, 0x2f, 0xfd],
            "not a capture file: it is compressed with zstd, unpack it first",
        ),
        (
            &pcap_head(order, MICROS, 1)[..4],
            "not a capture file: it ends inside its header, after 4 bytes",
        ),
        (
            &pcap_head(order, MICROS, 1)[..23],
            "not a capture file: it ends inside its header, after 23 bytes",
        ),
        (&section(order)[..27], "not a capture file: it ends inside its header, after 27 bytes"),
        (
            &[0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 1, 2, 3, 4],
            "corrupt capture file at byte 0: a pcapng section without its byte-order magic",
        ),
    ];
    for (file, expected) in cases {
        assert_eq!(read(file).error.as_deref(), Some(expected));
    }
}

#[test]
fn a_broken_record_ends_the_file_with_its_place_and_keeps_what_came_before() {
    let order = Order::Little;
    let ng = [section(order), interface(order, RAW, &[])].concat();
    let changed = |block: Vec<u8>, at: usize, value: u32| {
        let mut block = block;
        block[at..at + 4].copy_from_slice(&order.u32(value));
        block
    };
    let good = enhanced_packet(order, 0, 1, 31, &packet(b"one"));
    let pcap = pcap_head(order, MICROS, RAW);
    let record = pcap_record(order, 1, 0, 31, &packet(b"one"));
    let cases = [
        (&pcap, &record, changed(record.clone(), 8, 262_145), "a packet longer than 256 KiB"),
        (&pcap, &record, changed(record.clone(), 8, u32::MAX), "a packet longer than 256 KiB"),
        (&ng, &good, changed(good.clone(), 4, 8), "a pcapng block with an impossible length"),
        (&ng, &good, changed(good.clone(), 4, 65), "a pcapng block with an impossible length"),
        (&ng, &good, changed(good.clone(), 4, 0xffff_fffc), "a pcapng block longer than 320 KiB"),
        (&ng, &good, changed(good.clone(), 20, 33), "a pcapng packet longer than its block"),
        (
            &ng,
            &good,
            changed(good.clone(), good.len() - 4, 68),
            "a pcapng block whose two lengths differ",
        ),
        (&ng, &good, block(order, 6, &[0; 16]), "a pcapng packet block that is too short"),
        (&ng, &good, block(order, 3, &[]), "a pcapng packet block that is too short"),
        (&ng, &good, block(order, 1, &[0; 4]), "a pcapng interface block that is too short"),
        (&ng, &good, changed(section(order), 12, 2), "its pcapng version is not 1"),
    ];
    for (head, good, bad, detail) in cases {
        let found = read(&[&head[..], good, &bad, good].concat());
        let offset = head.len() + good.len();
        let expected = format!("corrupt capture file at byte {offset}: {detail}");
        assert_eq!((found.error, found.datagrams.len()), (Some(expected), 1));
    }
}

#[test]
fn a_million_interfaces_take_no_memory_of_a_million() {
    let order = Order::Little;
    let mut file = section(order);
    for _ in 0..2_000 {
        file.extend(interface(order, RAW, &[]));
    }
    file.extend(enhanced_packet(order, 1_023, 1, 31, &packet(b"one")));
    file.extend(enhanced_packet(order, 1_024, 1, 31, &packet(b"two")));
    let found = read(&file);
    assert_eq!((found.datagrams.len(), found.skips), (1, vec![("unknownInterface", 1)]));
}

#[test]
fn paths_that_cannot_be_read_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| FileTap::open(path).unwrap_err();
    assert_eq!(refused(folder.path()).to_string(), "not a capture file: it is a directory");
    let absent = refused(&folder.path().join("absent.pcap"));
    assert!(
        matches!(&absent, TapError::Open(error) if error.kind() == std::io::ErrorKind::NotFound)
    );
    assert_eq!(absent.to_string(), "cannot be opened");

    let path = folder.path().join("call.pcap");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&pcap_head(Order::Little, NANOS, RAW)).unwrap();
    let mut tap = FileTap::open(&path).unwrap();
    assert!(tap.next().unwrap().is_none());
    assert_eq!((tap.packets(), tap.bytes()), (0, 0));
}

/// Real captures with their packets by `capinfos -c -M` and their datagrams by `tshark -Y 'udp and not icmp'`.
const KNOWN_CAPTURES: [(&str, u64, u64); 15] = [
    ("avcall.pcap", 15_038, 15_038),
    ("burst.pcap", 11_442, 11_442),
    ("clean.pcap", 7_492, 7_492),
    ("rttstep.pcap", 11_503, 11_503),
    ("wifi.pcap", 8_264, 8_264),
    ("foreign/FAX-Call-t38-CA-TDM-SIP-FB-1.pcap", 1_552, 1_552),
    ("foreign/sipp_dtmf_2833_1.pcap", 10, 10),
    ("foreign/sipp_g711a.pcap", 236, 236),
    ("foreign/stun_google_meet.pcapng", 362, 362),
    ("foreign/stun_msteams_unidir.pcapng", 12, 12),
    ("foreign/stun_wa_call.pcapng", 591, 590),
    ("foreign/teams.pcap", 1_540, 179),
    ("foreign/telegram_videocall.pcapng", 889, 232),
    ("foreign/webex.pcap", 1_110, 38),
    ("foreign/zoom.pcap", 781, 318),
];

#[test]
fn real_captures_have_the_packets_that_others_count() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    for (name, packets, datagrams) in KNOWN_CAPTURES {
        let path = folder.join(name);
        if !path.is_file() {
            println!("not run: {name} is absent");
            continue;
        }
        let mut tap = FileTap::open(&path).unwrap();
        let mut found = 0;
        while tap.next().unwrap().is_some() {
            found += 1;
        }
        assert_eq!((tap.packets(), found), (packets, datagrams), "{name}: {:?}", tap.skips());
        assert_eq!(found + tap.skips().total(), packets, "{name}");
    }
}
