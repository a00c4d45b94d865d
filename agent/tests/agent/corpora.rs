//! Replays the committed corpora of the fuzz targets: what a fuzzer once found stays found, without a fuzzer.
//!
//! With `ROOMTONE_WRITE_SEEDS=1`, the inputs named `seed-*` are written anew first.

use std::path::Path;

use super::fuzz_bodies::{
    block, capture_file, configuration, context, host, link, netlink, rtcp, rtp, stun_turn, watch,
};
use roomtone_agent::network::message::{Ask, request};

use super::tap_block;
use super::writer;
use super::writer::{Order, bsd_loopback, cooked, cooked2, datagram, ethernet};

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut replayed = 0;
    for entry in std::fs::read_dir(&folder).expect("each target has a corpus") {
        let path = entry.expect("the corpus can be listed").path();
        body(&std::fs::read(&path).expect("an input can be read"));
        replayed += 1;
    }
    assert!(replayed >= 5, "{target} has {replayed} inputs only");
}

#[test]
fn block_holds_on_its_corpus() {
    seed("block", block_seeds());
    replay("block", block::body);
}

#[test]
fn link_holds_on_its_corpus() {
    seed("link", link_seeds());
    replay("link", link::body);
}

#[test]
fn capture_file_holds_on_its_corpus() {
    seed("capture_file", capture_file_seeds());
    replay("capture_file", capture_file::body);
}

#[test]
fn configuration_holds_on_its_corpus() {
    seed("configuration", configuration_seeds());
    replay("configuration", configuration::body);
}

#[test]
fn context_holds_on_its_corpus() {
    seed("context", context_seeds());
    replay("context", context::body);
}

#[test]
fn rtcp_holds_on_its_corpus() {
    seed("rtcp", rtcp_seeds());
    replay("rtcp", rtcp::body);
}

#[test]
fn rtp_holds_on_its_corpus() {
    replay("rtp", rtp::body);
}

#[test]
fn stun_turn_holds_on_its_corpus() {
    replay("stun_turn", stun_turn::body);
}

#[test]
fn watch_holds_on_its_corpus() {
    replay("watch", watch::body);
}

#[test]
fn host_holds_on_its_corpus() {
    seed("host", host_seeds());
    replay("host", host::body);
}

#[test]
fn netlink_holds_on_its_corpus() {
    seed("netlink", netlink_seeds());
    replay("netlink", netlink::body);
}

/// Writes `inputs` as the seeds of `target` if that was asked for.
fn seed(target: &str, inputs: impl IntoIterator<Item = Vec<u8>>) {
    if std::env::var_os("ROOMTONE_WRITE_SEEDS").is_none() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    for (number, input) in inputs.into_iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:02}")), input)
            .expect("seeds can be written");
    }
}

/// An RTP head in a datagram of each family.
fn packets() -> [Vec<u8>; 2] {
    let rtp = [0x80, 111, 0, 1, 0, 0, 3, 0xc0, 0, 0, 0, 7];
    [
        datagram("192.0.2.1:5004", "192.0.2.2:5004", &rtp),
        datagram("[2001:db8::1]:5004", "[2001:db8::2]:5004", &rtp),
    ]
}

/// Blocks of the capture ring: whole ones, and ones that lead nowhere.
fn block_seeds() -> Vec<Vec<u8>> {
    let [packet, other] = packets();
    let one = (0x0800, 1_795_305_600, 123, 40, &packet[..]);
    let two = (0x86dd, 1_795_305_600, 456, 60, &other[..]);
    let filled = tap_block::block(&[one, two, one]);
    let changed = |at: usize, word: u32| {
        let mut changed = filled.clone();
        changed[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        changed
    };
    vec![
        tap_block::block(&[]),
        tap_block::block(&[one]),
        filled.clone(),
        changed(12, u32::MAX),
        changed(16, u32::MAX),
        changed(48, 0),
        changed(60, u32::MAX),
    ]
}

/// Frames behind the number of their link type, as the body takes them.
fn link_seeds() -> Vec<Vec<u8>> {
    let frames = packets().into_iter().flat_map(|packet| {
        let version = packet[0] >> 4;
        [
            (0, ethernet(&[], &packet)),
            (0, ethernet(&[0x88a8, 0x8100], &packet)),
            (1, cooked(&packet)),
            (2, cooked2(&packet)),
            (3, packet.clone()),
            (if version == 4 { 6 } else { 7 }, packet.clone()),
            (8, bsd_loopback(Order::Little, if version == 4 { 2 } else { 30 }, &packet)),
        ]
    });
    frames.map(|(link, frame)| [&[link, 0, 9][..], &frame].concat()).collect()
}

/// Compounds behind their length on the wire: whole, cut, padded, and what SRTCP looks like.
fn rtcp_seeds() -> Vec<Vec<u8>> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let block = [9, 0x4000_0005, 0x1_0005, 160, 0x1122_3344, 0x1_0000];
    let sender: Vec<u8> =
        words(&[&[0x81c8_000c, 7, 0xaabb_1122, 0x3344_ccdd, 960, 50, 8_000][..], &block].concat());
    let receiver: Vec<u8> = words(&[&[0x82c9_000d, 8][..], &block, &block].concat());
    let names: Vec<u8> = words(&[0x81ca_0003, 7, 0x0106_6162, 0x6364_6566]);
    let padded: Vec<u8> = words(&[0xa1cb_0002, 7, 4]);
    let feedback: Vec<u8> = words(&[0x81ce_0002, 7, 9]);
    let whole = [&sender[..], &receiver, &feedback, &names].concat();
    let on_wire = |wire: usize, bytes: &[u8]| [&(wire as u16).to_be_bytes()[..], bytes].concat();
    vec![
        on_wire(whole.len(), &whole),
        on_wire(whole.len(), &whole[..100]),
        on_wire(sender.len() + 12, &[&sender[..], &padded].concat()),
        on_wire(sender.len() + 14, &[&sender[..], &[0x55; 14]].concat()),
        on_wire(sender.len() + 20, &[&sender[..], &[0x55; 20]].concat()),
        on_wire(8, &[0x80, 201, 0, 1, 0, 0, 0, 7]),
        on_wire(65_532, &[0x9f, 200, 0xff, 0xfe, 0, 0, 0, 7]),
    ]
}

/// Texts of a collector, and what an agent keeps of them.
fn configuration_seeds() -> Vec<Vec<u8>> {
    let texts = [
        String::new(),
        "[spool]\nbytes_max = \"1GiB\"\nheadroom = \"0B\"\ninodes_min = 0\n".to_owned(),
        "log.level = 'debug' # loud\nhealth = { interval = \"15m\" }\naudio.levels = true"
            .to_owned(),
        "[tap]\nsnap_bytes = \"1KiB\"\nring_bytes = \"64 MiB\"\nblock_timeout = \"999ms 1us\"\n"
            .to_owned(),
        "[audio]\nstall = \"1m\"\nstall = \"1m\"\n".to_owned(),
        "identity.key = \"/etc/shadow\"\ncollector.address = \"evil.example:1\"".to_owned(),
        format!("spool.inodes_min = {}", "9".repeat(1_900)),
        format!("log.level = {}{}", "[".repeat(1_000), "]".repeat(1_000)),
        "a.".repeat(1_000) + "b = 1",
        "[log]\nlevel = \"\\u001b[2J\\n\"".to_owned(),
        r#"{"version":1,"confirmed":"a","latest":{"text":"b","stage":{"onTrial":{"lives":2}}}}"#
            .to_owned(),
        r#"{"version":1,"confirmed":null,"latest":{"text":"","stage":{"refused":"why"}}}"#
            .to_owned(),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}

/// What clients say, behind the size of the pieces.
fn context_seeds() -> Vec<Vec<u8>> {
    let all = concat!(
        r#"{"call":"begin","id":"19:meeting_x@thread.v2","service":"teams","whileConnected":true}"#,
        "\n",
        r#"{"call":"begin","id":"b","service":null}"#,
        "\r\n",
        r#"{"status":true}"#,
        "\n",
        r#"{"call":"end","id":"a"}"#,
        "\n",
        r#"{"call":"end"}"#,
        "\n",
    );
    let refused = concat!(
        "\n[1]\n{\n{\"call\":\"mute\"}\n{\"id\":\"\u{1b}\"}\n",
        r#"{"call":"begin","id":"1","id":"2"}"#,
        "\n",
        r#"{"call":"begin","id":"1","subject":"x"}"#,
        "\n",
        r#"{"status":true,"call":"end"}"#,
        "\n\u{fffd}\u{0}\n",
    );
    let nested = format!("{{\"call\":{}", "[".repeat(900));
    // A call every six minutes, for days; a line of one byte too many; one begin after the other at one time.
    let calls = (0..40).map(|n| format!("{{\"call\":\"begin\",\"id\":\"{n}\"}}\n"));
    let calls: String = calls.collect();
    let endless = "x".repeat(1_025);
    [(0, all), (2, all), (6, refused), (200, &nested), (6, &calls), (0, &calls), (90, &endless)]
        .into_iter()
        .map(|(head, text): (u8, &str)| [&[head][..], text.as_bytes()].concat())
        .collect()
}

/// Files of each format, order and resolution.
fn capture_file_seeds() -> Vec<Vec<u8>> {
    let [packet, other] = packets();
    let frame = ethernet(&[], &packet);
    let length = frame.len();
    Order::BOTH
        .into_iter()
        .flat_map(|order| {
            let pcap = |magic| {
                let record = writer::pcap_record(order, 1_795_305_600, 123_456, length, &frame);
                [writer::pcap_head(order, magic, writer::ETHERNET), record.clone(), record].concat()
            };
            let pcapng = [
                writer::section(order),
                writer::interface(order, writer::ETHERNET, &[(2, b"eth0"), (9, &[9])]),
                writer::interface(order, writer::RAW, &[(9, &[0x94]), (14, &order.i64(-3_600))]),
                writer::enhanced_packet(order, 0, 1_795_305_600_000_000_000, length, &frame),
                writer::block(order, 5, &[7; 24]),
                writer::enhanced_packet(order, 1, 1 << 50, other.len(), &other),
                writer::simple_packet(order, length, &frame),
                writer::obsolete_packet(order, 1, 1 << 51, &packet),
                writer::section(order),
            ];
            [pcap(writer::MICROS), pcap(writer::NANOS), pcapng.concat()]
        })
        .collect()
}

/// Files of a machine before and after, parted by a zero.
fn host_seeds() -> Vec<Vec<u8>> {
    let stat = "cpu  10 1 5 100 20 2 3 4 7 0\ncpu0 6 1 3 40 10 1 2 2 7 0\ncpu1 4 0 2 60 10 1 1 2 0 0\nintr 9\n";
    let memory = "MemTotal: 8000 kB\nMemFree: 100 kB\nMemAvailable: 6000 kB\n";
    let pressure =
        "some avg10=0.00 avg60=0.12 avg300=0.05 total=1234567\nfull avg10=0.00 total=99\n";
    let all = [stat, memory, pressure].concat();
    let later = all.replace(" 5 100", " 9 170").replace("1234567", "2234567");
    let pairs: [(&str, &str); 6] = [
        (&all, &later),
        (stat, stat),
        ("17\n", "18\n"),
        (pressure, ""),
        ("DEVTYPE=wlan\nINTERFACE=wlan0\nIFINDEX=3\n", "-1\n"),
        ("cpu 18446744073709551615 1 1 1\nMemTotal: 1 kB\nMemAvailable: 2 kB\n", &all),
    ];
    pairs.map(|(before, after)| [before, "\0", after].concat().into_bytes()).to_vec()
}

/// Answers as the kernel gives them, by the builder of questions.
fn netlink_seeds() -> Vec<Vec<u8>> {
    let of =
        |kind, head: &[u8], attributes: &[(u16, &[u8])]| request(kind, Ask::One, head, attributes);
    let nested = |attributes: &[(u16, &[u8])]| of(0, &[], attributes).split_off(16);
    let mut head = [0; 16];
    head[4] = 7;
    let kind = nested(&[(1, b"wireguard\0")]);
    let link = of(16, &head, &[(3, b"wg0\0"), (4, &[0x8c, 5, 0, 0]), (18, &kind)]);
    let address = of(20, &[2, 24, 0, 0, 7, 0, 0, 0], &[(1, &[192, 0, 2, 7]), (2, &[192, 0, 2, 7])]);
    let route = of(24, &[0; 12], &[(4, &[7, 0, 0, 0])]);
    let rate = nested(&[(5, &[0xdb, 0x21, 0, 0]), (6, &[9])]);
    let info = nested(&[(7, &[0xc4]), (8, &rate)]);
    let station = of(30, &[19, 1, 0, 0], &[(6, &[2, 0, 0, 0, 1, 0]), (21, &info)]);
    let tuned =
        of(30, &[7, 1, 0, 0], &[(5, &[2, 0, 0, 0]), (52, b"room"), (38, &[0x3c, 0x14, 0, 0])]);
    let both = [tuned.as_slice(), &info].concat();
    let done = [address.clone(), of(3, &[0; 4], &[]), of(2, &(-19i32).to_ne_bytes(), &[])].concat();
    vec![link, address, route, station, tuned, both, done]
}
