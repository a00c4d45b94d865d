//! The live tap on the loopback interface, with real sockets. Needs CAP_NET_RAW; says so where it is missing.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{frames, writer};
use roomtone_agent::clock::WallOffset;
use roomtone_agent::tap::{LiveOptions, LiveTap, TapError, Wakeup};

/// Set in the child that checks what a process without the capability is told.
const UNPRIVILEGED: &str = "ROOMTONE_TEST_UNPRIVILEGED";

/// Far more than a loaded machine needs; reached in failure only.
const PATIENCE: Duration = Duration::from_secs(20);

/// A datagram as the tap saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    nanos: u64,
    source: SocketAddr,
    destination: SocketAddr,
    payload: Vec<u8>,
    wire_bytes: u16,
}

/// Opens the tap, or prints why the test is not run.
fn tap(options: &LiveOptions) -> Option<LiveTap> {
    match LiveTap::open(options) {
        Ok(tap) => Some(tap),
        Err(TapError::Permission { .. }) => {
            println!("not run: no CAP_NET_RAW");
            assert!(!rustix::process::geteuid().is_root(), "root must be able to run this test");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn on(interface: &str) -> LiveOptions {
    let block_timeout = Duration::from_millis(20);
    LiveOptions { interface: interface.to_owned(), block_timeout, ..LiveOptions::default() }
}

/// A descriptor that never becomes readable while its other end is kept.
fn silence() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader.into(), writer.into())
}

/// Reads until `count` datagrams to or from one of `ports` were seen, then for one more block time.
fn collect(tap: &mut LiveTap, ports: &[u16], count: usize) -> Vec<Seen> {
    let (wake, _kept) = silence();
    let start = std::time::Instant::now();
    let mut seen = Vec::new();
    loop {
        let is_enough = seen.len() >= count;
        let timeout = if is_enough { Duration::from_millis(100) } else { PATIENCE };
        let wakeup = tap.wait(wake.as_fd(), Some(timeout)).unwrap();
        tap.drain(WallOffset::NONE, |datagram| {
            if ports.contains(&datagram.destination.port())
                || ports.contains(&datagram.source.port())
            {
                seen.push(Seen {
                    nanos: datagram.at.as_nanos(),
                    source: datagram.source,
                    destination: datagram.destination,
                    payload: datagram.payload.to_vec(),
                    wire_bytes: datagram.wire_bytes,
                });
            }
        })
        .unwrap();
        if is_enough && !wakeup.packets {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "saw {} of {count}", seen.len());
    }
}

fn pair(host: &str) -> (UdpSocket, UdpSocket, [SocketAddr; 2]) {
    let sockets = [0, 1].map(|_| UdpSocket::bind(format!("{host}:0")).unwrap());
    let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
    let [from, to] = sockets;
    (from, to, addresses)
}

fn wall_nanos() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

#[test]
fn every_datagram_over_loopback_is_seen_once_in_order_with_its_head() {
    for interface in ["lo", "any"] {
        for host in ["127.0.0.1", "[::1]"] {
            let Some(mut tap) = tap(&on(interface)) else { return };
            let (from, _to, [source, destination]) = pair(host);
            let before = wall_nanos();
            for number in 0..200_u16 {
                let mut payload = vec![0xa5; 20 + usize::from(number) * 6];
                payload[..2].copy_from_slice(&number.to_be_bytes());
                from.send_to(&payload, destination).unwrap();
            }
            let after = wall_nanos();
            let seen = collect(&mut tap, &[destination.port()], 200);
            assert_eq!(seen.len(), 200, "{interface} {host}");
            // IP header and UDP header; the rest of 128 bytes is payload.
            let room = 128 - if source.is_ipv4() { 28 } else { 48 };
            for (number, seen) in (0..200_u16).zip(&seen) {
                let wire_bytes = 20 + number * 6;
                assert_eq!((seen.source, seen.destination), (source, destination));
                assert_eq!(seen.payload[..2], number.to_be_bytes(), "{interface} {host}");
                assert_eq!(seen.payload.len(), usize::from(wire_bytes).min(room));
                assert_eq!(seen.wire_bytes, wire_bytes);
                assert!(
                    (before..=after).contains(&seen.nanos),
                    "{} in {before}..={after}",
                    seen.nanos
                );
            }
            assert!(seen.is_sorted_by_key(|seen| seen.nanos));
            assert!(seen.iter().any(|seen| seen.nanos % 1_000 != 0), "stamps are in nanoseconds");
            let stats = tap.stats().unwrap();
            assert!(stats.received >= 200, "{stats:?}");
            assert_eq!(stats.dropped, 0);
            assert!(tap.packets() >= 200 && tap.packets() <= stats.received);
            assert!(tap.bytes() > 0);
        }
    }
}

#[test]
fn excluded_far_ends_do_not_reach_the_process() {
    let (from, _to, [_, wanted]) = pair("127.0.0.1");
    let (_, _kept, [_, by_port]) = pair("127.0.0.1");
    let (_, _kept_too, [_, by_address]) = pair("127.0.0.1");
    let any_host = SocketAddr::new("::".parse().unwrap(), by_port.port());
    let options = LiveOptions { exclude: vec![any_host, by_address], ..on("lo") };
    let Some(mut tap) = tap(&options) else { return };
    for destination in [by_port, by_address, wanted] {
        from.send_to(b"probe", destination).unwrap();
    }
    let ports = [by_port, by_address, wanted].map(|address| address.port());
    let seen = collect(&mut tap, &ports, 1);
    assert_eq!(seen.iter().map(|seen| seen.destination).collect::<Vec<_>>(), [wanted]);
}

#[test]
fn a_full_ring_is_told_as_drops_and_not_as_silence() {
    let options = LiveOptions { ring_bytes: 512 * 1024, snap_bytes: 65_535, ..on("lo") };
    let Some(mut tap) = tap(&options) else { return };
    let (from, _to, [_, destination]) = pair("127.0.0.1");
    // 200 datagrams of 8 KiB are 1.6 MiB for a ring of 512 KiB, in which 60 fit.
    for _ in 0..200 {
        from.send_to(&[0; 8_192], destination).unwrap();
    }
    let first = tap.stats().unwrap();
    assert!(first.dropped >= 50 && first.dropped < first.received, "{first:?}");
    let again = tap.stats().unwrap();
    assert!(again.dropped >= first.dropped && again.received >= first.received, "{again:?}");
}

#[test]
fn a_waiting_tap_wakes_for_the_other_descriptor_and_for_its_deadline() {
    let Some(mut tap) = tap(&on("lo")) else { return };
    let (wake, writer) = silence();
    std::fs::File::from(writer).write_all(b"!").unwrap();
    assert!(tap.wait(wake.as_fd(), None).unwrap().called);

    let (wake, _kept) = silence();
    loop {
        let start = std::time::Instant::now();
        let wakeup = tap.wait(wake.as_fd(), Some(Duration::from_millis(30))).unwrap();
        // Others may send over loopback meanwhile.
        if wakeup.packets {
            tap.drain(WallOffset::NONE, |_| {}).unwrap();
            continue;
        }
        assert_eq!(wakeup, Wakeup::default());
        assert!(start.elapsed() >= Duration::from_millis(30));
        break;
    }
}

#[test]
fn an_unknown_interface_is_answered_with_the_known_ones() {
    if tap(&on("lo")).is_none() {
        return;
    }
    for name in ["nosuch0", "", "a-name-longer-than-the-kernel-allows", "lo\0"] {
        let options = LiveOptions { interface: name.to_owned(), ..LiveOptions::default() };
        let text = LiveTap::open(&options).unwrap_err().to_string();
        assert!(text.starts_with(&format!("no interface `{name}`: this machine has ")), "{text}");
        let listed: Vec<_> = text.rsplit_once(" has ").unwrap().1.split(", ").collect();
        assert!(listed.contains(&"lo") && listed.contains(&"any"), "{text}");
    }
}

/// Two interfaces joined by a cable, both up; gone when dropped.
struct Cable {
    ends: [String; 2],
}

impl Cable {
    /// `None` where no such interface can be made, which is printed. `name` keeps parallel tests apart.
    fn new(name: &str) -> Option<Self> {
        let ends = ["a", "b"].map(|end| format!("rt{name}{end}{}", std::process::id()));
        if !ip(&format!("link add {} type veth peer name {}", ends[0], ends[1])) {
            println!("not run: no veth interfaces can be made here");
            return None;
        }
        let cable = Self { ends };
        assert!(cable.ends.iter().all(|end| ip(&format!("link set {end} up"))));
        Some(cable)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // Either end takes the other along; a test may have done it already.
        ip(&format!("link del {}", self.ends[0]));
    }
}

fn ip(arguments: &str) -> bool {
    let run = Command::new("ip").args(arguments.split(' ')).output();
    run.is_ok_and(|output| output.status.success())
}

#[test]
fn tagged_frames_are_seen_at_both_ends_of_a_cable() {
    if tap(&on("lo")).is_none() {
        return;
    }
    let Some(cable) = Cable::new("v") else { return };
    let mut taps = cable.ends.each_ref().map(|end| tap(&on(end)).unwrap());
    let tags: [&[u16]; 2] = [&[], &[0x8100]];
    for tags in tags {
        for (from, to) in
            [("192.0.2.1:5004", "192.0.2.2:5006"), ("[2001:db8::1]:5004", "[2001:db8::2]:5006")]
        {
            let packet = writer::datagram(from, to, &[tags.len() as u8; 30]);
            frames::send(&cable.ends[0], &writer::ethernet(tags, &packet)).unwrap();
        }
    }
    for (tap, end) in taps.iter_mut().zip(["sender", "receiver"]) {
        let seen = collect(tap, &[5_006], 4);
        let found: Vec<_> = seen
            .iter()
            .map(|seen| (seen.payload[0], seen.payload.len(), seen.source.is_ipv6()))
            .collect();
        let expected = [(0, 30, false), (0, 30, true), (1, 30, false), (1, 30, true)];
        assert_eq!(found, expected, "{end}");
    }
}

#[test]
fn an_interface_that_vanishes_is_named_and_an_interface_that_is_down_is_not_gone() {
    if tap(&on("lo")).is_none() {
        return;
    }
    let Some(cable) = Cable::new("g") else { return };
    let [name, _] = &cable.ends;
    let mut tap = tap(&on(name)).unwrap();
    let (wake, _kept) = silence();

    assert!(ip(&format!("link set {name} down")));
    let start = std::time::Instant::now();
    for _ in 0..2 {
        assert!(tap.wait(wake.as_fd(), Some(PATIENCE)).unwrap().packets);
        tap.drain(WallOffset::NONE, |_| {}).unwrap();
    }
    assert!(start.elapsed() < PATIENCE, "the tap looks after an interface that is down");

    assert!(ip(&format!("link del {name}")));
    let error = loop {
        assert!(start.elapsed() < PATIENCE, "the interface is gone and the tap does not say so");
        tap.wait(wake.as_fd(), Some(PATIENCE)).unwrap();
        if let Err(error) = tap.drain(WallOffset::NONE, |_| {}) {
            break error;
        }
    };
    assert!(matches!(&error, TapError::Vanished(gone) if gone == name), "{error}");
    assert_eq!(error.to_string(), format!("interface `{name}` vanished"));
}

#[test]
fn an_interface_that_is_down_is_opened_and_seen_when_it_comes_up() {
    if tap(&on("lo")).is_none() {
        return;
    }
    let Some(cable) = Cable::new("d") else { return };
    assert!(ip(&format!("link set {} down", cable.ends[0])));
    let mut tap = tap(&on(&cable.ends[0])).unwrap();
    let (wake, _kept) = silence();
    assert!(tap.wait(wake.as_fd(), Some(PATIENCE)).unwrap().packets, "it is looked after");
    assert_eq!(tap.drain(WallOffset::NONE, |_| {}).unwrap(), 0);

    assert!(ip(&format!("link set {} up", cable.ends[0])));
    let packet = writer::datagram("192.0.2.1:5004", "192.0.2.2:5006", b"up");
    frames::send(&cable.ends[0], &writer::ethernet(&[], &packet)).unwrap();
    assert_eq!(collect(&mut tap, &[5_006], 1)[0].payload, b"up");
}

#[test]
fn what_is_no_udp_does_not_reach_the_process() {
    if tap(&on("lo")).is_none() {
        return;
    }
    let Some(cable) = Cable::new("u") else { return };
    let mut tap = tap(&on(&cable.ends[1])).unwrap();
    let (from, to) = (writer::address("192.0.2.1:5004"), writer::address("192.0.2.2:5006"));
    let body = writer::udp(from, to, b"body");
    let tcp = writer::ipv4(from, to, 6, &[], 0, &body);
    let fragment = writer::ipv4(from, to, 17, &[], 185, &body);
    let arp = [&[0xff; 6][..], &[2; 6], &[0x08, 0x06], &[0; 46]].concat();
    let frames = [
        writer::ethernet(&[], &tcp),
        writer::ethernet(&[0x8100], &tcp),
        arp,
        writer::ethernet(&[], &fragment),
    ];
    for frame in &frames {
        frames::send(&cable.ends[0], frame).unwrap();
    }
    let packet = writer::datagram("192.0.2.1:5004", "192.0.2.2:5006", b"media");
    frames::send(&cable.ends[0], &writer::ethernet(&[], &packet)).unwrap();
    let seen = collect(&mut tap, &[5_004, 5_006], 1);
    assert_eq!(seen.iter().map(|seen| &seen.payload[..]).collect::<Vec<_>>(), [b"media"]);
    assert_eq!(tap.skips().total(), 0, "{:?}", tap.skips());
}

#[test]
fn a_process_without_the_capability_is_told_which_one_and_how_to_grant_it() {
    if std::env::var_os(UNPRIVILEGED).is_some() {
        let options = LiveOptions { opener: "/nowhere/tap.sock".into(), ..on("lo") };
        println!("told: {}", LiveTap::open(&options).unwrap_err());
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("not run: only root can drop to another user");
        return;
    }
    let name = "tap_live::a_process_without_the_capability_is_told_which_one_and_how_to_grant_it";
    // Copied, since another user may not be able to reach the folder of this binary.
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("agent");
    std::fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), everyone).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--"])
        .arg(&binary)
        .args(["--exact", name, "--nocapture"])
        .env(UNPRIVILEGED, "1")
        .current_dir("/")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let expected = "told: no permission to capture: CAP_NET_RAW is missing, and nobody opens the tap at \
                    /nowhere/tap.sock (No such file or directory (os error 2)): start \
                    roomtone-tap.socket as root, or grant the capability with \
                    `setcap cap_net_raw+ep <binary>`\n";
    assert!(told.contains(expected), "{told}{}", String::from_utf8_lossy(&output.stderr));
}
