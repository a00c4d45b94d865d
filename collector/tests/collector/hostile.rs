//! Peers that are wrong, broken or hostile: each is turned away, and a good agent beside them notices nothing.

use std::time::Duration;

use roomtone_collector::ingest::exchange::CloseReason;
use roomtone_collector::ingest::tls;
use roomtone_collector::store::StoreReader;
use roomtone_collector::store::sqlite::SqliteReader;
use roomtone_protocol::hello::{HelloReply, RefuseReason};
use roomtone_protocol::id::EndpointId;
use roomtone_protocol::message::Message;

use crate::client::*;
use crate::fixture::*;

/// Two endpoints: Tromsø is good and sends a record before and after each misdeed.
struct Scene {
    pki: Pki,
    directory: tempfile::TempDir,
    collector: Collector,
    good: Client,
    sent: u32,
}

impl Scene {
    async fn new(hello_wait: Duration) -> Self {
        let (pki, directory) = (Pki::new(&["oslo-4", "tromso-1"]), tempfile::tempdir().unwrap());
        let limits = roomtone_collector::ingest::quic::Limits { hello_wait, ..LIMITS };
        let collector = Collector::start(&pki, open_store(directory.path()), limits);
        let (good, _) = Client::welcome(collector.address, &pki, 1, "endpoint-tromso-1").await;
        let mut scene = Self { pki, directory, collector, good, sent: 0 };
        scene.good_is_unharmed().await;
        scene
    }

    async fn good_is_unharmed(&mut self) {
        self.good.record(self.sent, host_interval()).await;
        self.sent += 1;
        self.good.acked(self.sent).await;
    }

    async fn bad(&self) -> Client {
        Client::connect(self.collector.address, &self.pki, "endpoint-oslo-4").await
    }

    async fn greeted(&self) -> Client {
        Client::welcome(self.collector.address, &self.pki, 0, "endpoint-oslo-4").await.0
    }

    fn oslo(&self) -> EndpointId {
        self.pki.endpoints[0]
    }

    async fn end(mut self) {
        self.good_is_unharmed().await;
        let reader = SqliteReader::open(self.directory.path()).unwrap();
        let endpoints = reader.endpoints().unwrap();
        let good = endpoints.iter().find(|it| it.endpoint == self.pki.endpoints[1]).unwrap();
        assert_eq!((good.counts.stored, good.connected), (u64::from(self.sent), true));
        self.collector.stop().await;
    }
}

const LONG: Duration = Duration::from_secs(20);

fn refusal(message: Option<Message>) -> RefuseReason {
    match message {
        Some(Message::HelloReply(HelloReply::Refused { reason, .. })) => reason,
        other => panic!("a refusal, found {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_frames_end_their_connection_only() {
    let mut scene = Scene::new(LONG).await;
    let mut flipped = record_frame(0, host_interval());
    *flipped.last_mut().unwrap() ^= 0x40;
    let mut oversize = record_frame(0, host_interval());
    oversize[5..7].copy_from_slice(&u16::MAX.to_le_bytes());
    let mut version = record_frame(0, host_interval());
    version[2] = 9;
    let garbage: Vec<u8> =
        (0..60_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), flipped, oversize, version, garbage] {
        let mut before_hello = scene.bad().await;
        before_hello.bytes(&bytes).await;
        assert_eq!(before_hello.closed().await, CloseReason::BadFrame);
        let mut after_hello = scene.greeted().await;
        after_hello.bytes(&bytes).await;
        assert_eq!(after_hello.closed().await, CloseReason::BadFrame);
        scene.good_is_unharmed().await;
    }
    scene.end().await;
}

/// The datagrams of somebody who scans ports: each kind of QUIC packet (RFC 9000 section 17) with a right head and
/// garbage behind it, versions that nobody speaks, other protocols, and noise.
fn scanned(number: u32) -> Vec<u8> {
    let noise = |bytes: u32| {
        (0..bytes).map(move |i| ((number ^ (i << 12)).wrapping_mul(2_654_435_761) >> 24) as u8)
    };
    let long = |first: u8, version: u32| {
        let mut packet = vec![first];
        packet.extend(version.to_be_bytes());
        // Connection ids of 8 bytes, no token, a length of two bytes that fits 1,200 bytes in all.
        packet.push(8);
        packet.extend(noise(8));
        packet.push(8);
        packet.extend(noise(8));
        packet.push(0);
        packet.extend([0x44, 0x98]);
        packet.extend(noise(1_176));
        packet
    };
    match number % 12 {
        0 => long(0xc3, 1),
        1 => long(0xd3, 1),
        2 => long(0xe3, 1),
        3 => long(0xf3, 1),
        4 => long(0xc3, 0x1a2a_3a4a),
        5 => long(0x80, 0),
        6 => std::iter::once(0x40).chain(noise(40)).collect(),
        7 => b"\x16\xfe\xff\0\0\0\0\0\0\0\0\0\x20\x01\0\0\x14".to_vec(),
        8 => {
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".iter().copied().chain(noise(500)).collect()
        }
        9 => b"OPTIONS sip:a@b SIP/2.0\r\n\r\n".to_vec(),
        10 => noise(number % 1_500).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scan_of_garbage_takes_nobody_down() {
    let mut scene = Scene::new(LONG).await;
    for round in 0..6 {
        // Each from an address of its own, as far as a port makes one.
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for number in 0..600 {
            // A datagram that the kernel has no room for was lost, as on any network.
            let _ = socket.send_to(&scanned(round * 600 + number), scene.collector.address);
        }
        scene.good_is_unharmed().await;
        // Somebody new is heard as well.
        let newcomer = scene.greeted().await;
        drop(newcomer);
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_before_garbage_are_stored_and_acked() {
    let scene = Scene::new(LONG).await;
    let mut bad = scene.greeted().await;
    let mut bytes = record_frame(0, host_interval());
    bytes.extend_from_slice(b"garbage");
    bad.bytes(&bytes).await;
    bad.acked(1).await;
    assert_eq!(bad.closed().await, CloseReason::BadFrame);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_frame_that_is_no_hello_of_ones_own_is_refused() {
    let scene = Scene::new(LONG).await;
    let mut early = scene.bad().await;
    early.record(0, host_interval()).await;
    assert_eq!(refusal(early.next().await), RefuseReason::NoHello);
    assert_eq!(early.closed().await, CloseReason::Refused);
    let mut thief = scene.bad().await;
    thief.hello(scene.pki.endpoints[1]).await;
    assert_eq!(refusal(thief.next().await), RefuseReason::EndpointMismatch);
    assert_eq!(thief.closed().await, CloseReason::Refused);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn second_hello_ends_the_connection() {
    let scene = Scene::new(LONG).await;
    let mut bad = scene.greeted().await;
    bad.hello(scene.oslo()).await;
    assert_eq!(bad.closed().await, CloseReason::UnexpectedFrame);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_without_a_whole_hello_is_closed_at_the_deadline() {
    let scene = Scene::new(Duration::from_millis(400)).await;
    // One that opens no stream, one that sends nothing on it, one that stops within its Hello.
    let config = scene.pki.client(Some((&scene.pki, "endpoint-oslo-4")), tls::ALPN);
    let silent = connect(scene.collector.address, config).await.unwrap();
    assert_eq!(close_reason(&silent).await, CloseReason::HelloTimeout);
    let mut half = scene.bad().await;
    let bytes = hello(scene.oslo());
    half.bytes(&bytes[..bytes.len() - 1]).await;
    assert_eq!(half.closed().await, CloseReason::HelloTimeout);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_that_closes_its_side_within_a_frame_is_done() {
    let scene = Scene::new(LONG).await;
    let mut half = scene.greeted().await;
    half.record(0, host_interval()).await;
    let bytes = record_frame(1, host_interval());
    half.bytes(&bytes[..bytes.len() / 2]).await;
    half.send.finish().unwrap();
    half.acked(1).await;
    assert_eq!(half.closed().await, CloseReason::Done);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_certificates_and_protocols_do_not_get_in() {
    let scene = Scene::new(LONG).await;
    let address = scene.collector.address;
    let stranger = Pki::new(&["oslo-4"]);
    let pki = &scene.pki;
    for (what, config) in [
        (
            "another authority's certificate",
            pki.client(Some((&stranger, "endpoint-oslo-4")), tls::ALPN),
        ),
        ("a server's certificate", pki.client(Some((pki, "collector")), tls::ALPN)),
        ("another protocol", pki.client(Some((pki, "endpoint-oslo-4")), b"h3")),
    ] {
        // TLS 1.3 lets a client believe in its connection before the server has looked at its certificate.
        let error = match connect(address, config).await {
            Ok(connection) => patiently("the close", connection.closed()).await,
            Err(error) => error,
        };
        // 0x100 + a TLS alert (RFC 9001 section 4.8): refused by TLS, not by us.
        let quinn::ConnectionError::ConnectionClosed(close) = &error else {
            panic!("{what}: a TLS alert, found {error:?}");
        };
        let code = u64::from(close.error_code);
        assert!((0x100..0x200).contains(&code), "{what}: {code:#x}");
    }
    let anonymous = connect(address, pki.client(None, tls::ALPN)).await.unwrap();
    assert_eq!(close_reason(&anonymous).await, CloseReason::NoCertificate);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn record_that_decodes_wrongly_is_counted_and_the_agent_goes_on() {
    let scene = Scene::new(LONG).await;
    let mut odd = scene.greeted().await;
    // A kind of a later version: the header's checksum is made anew over the changed kind.
    let mut later = record_frame(0, host_interval());
    later[3] = 0x70;
    let crc = crc32c(&[&later[..15], &later[19..]].concat());
    later[15..19].copy_from_slice(&crc.to_le_bytes());
    odd.bytes(&later).await;
    odd.record(1, host_interval()).await;
    odd.acked(2).await;
    let reader = SqliteReader::open(scene.directory.path()).unwrap();
    let endpoints = reader.endpoints().unwrap();
    let counts = endpoints.iter().find(|it| it.endpoint == scene.oslo()).unwrap().counts;
    assert_eq!((counts.stored, counts.unknown, counts.refused), (2, 1, 0));
    scene.end().await;
}

/// CRC-32C bit by bit, reflected polynomial 0x82f63b78 (RFC 3720 appendix B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 }
        })
    })
}
