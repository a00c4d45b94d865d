//! The bytes of the datagrams of the path watch, which never change, and what holds for all of them.
//!
//! A file under `golden/v1-datagrams` is one datagram in hexadecimal, a space between its fields. Other bytes for the
//! same content mean another kind, since a reader tells versions of a datagram apart by nothing else.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "fuzz_bodies/probe.rs"]
mod probe;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use roomtone_protocol::probe::{DATAGRAM_BYTES_MAX, Datagram, Echo, Probe, Receipt};

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "golden", "v1-datagrams"].iter().collect()
}

fn encode(datagram: &Datagram) -> Vec<u8> {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let length = datagram.encode(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

fn vectors() -> Vec<(&'static str, Datagram)> {
    let probe = |wants_receipt| Datagram::Probe(Probe { sequence: 0x0403_0201, wants_receipt });
    // All of 64 but the two probes before the latest one.
    let echo = Echo {
        probe: 0x0403_0201,
        echo: 0x0807_0605,
        received_us: 0x1817_1615_1413_1211,
        held_us: 0x0000_0123,
        latest: 0x0403_0203,
        window: !0b110,
    };
    // The latest, and the one 1,023 before it.
    let mut bitmap = [0; 16];
    (bitmap[0], bitmap[15]) = (1, 1 << 63);
    vec![
        ("probe", probe(false)),
        ("probe_wants_receipt", probe(true)),
        ("echo", Datagram::Echo(echo)),
        ("receipt", Datagram::Receipt(Receipt { latest: 0x0403_0201, bitmap })),
    ]
}

#[test]
fn every_datagram_has_exactly_the_bytes_of_its_file() {
    for (name, datagram) in vectors() {
        let text = fs::read_to_string(folder().join(name).with_extension("hex")).unwrap();
        let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        assert_eq!(encode(&datagram), bytes, "{name}");
        assert_eq!(Datagram::decode(&bytes), Ok(datagram), "{name}");
    }
}

#[test]
fn every_file_belongs_to_a_vector() {
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let files: BTreeSet<_> =
        files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let names: BTreeSet<_> = vectors().iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(files, names);
}

fn datagram() -> impl Strategy<Value = Datagram> {
    let probe = (any::<u32>(), any::<bool>())
        .prop_map(|(sequence, wants_receipt)| Datagram::Probe(Probe { sequence, wants_receipt }));
    let echo = (any::<(u32, u32, u64)>(), any::<(u32, u32, u64)>()).prop_map(
        |((probe, echo, received_us), (held_us, latest, window))| {
            Datagram::Echo(Echo { probe, echo, received_us, held_us, latest, window })
        },
    );
    let receipt = (any::<u32>(), any::<[u64; 16]>())
        .prop_map(|(latest, bitmap)| Datagram::Receipt(Receipt { latest, bitmap }));
    prop_oneof![probe, echo, receipt]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_what_is_read(datagram in datagram()) {
        prop_assert_eq!(Datagram::decode(&encode(&datagram)), Ok(datagram));
    }

    #[test]
    fn arbitrary_bytes_are_read_as_what_they_are_or_refused(
        kind in 0u8..6,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        probe::run(&bytes);
        probe::run(&[&[kind][..], &bytes].concat());
    }
}
