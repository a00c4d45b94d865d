//! The path watch over the uplink's real QUIC connection, against a collector of the tests' own.

use roomtone_agent::config::Reflector;
use roomtone_agent::path::prober::Circumstances;
use roomtone_agent::path::reflected;
use roomtone_agent::path::watch::{RECORDS_MAX, run};
use roomtone_protocol::id::CallId;
use roomtone_protocol::path::{PathInterval, PathTarget};
use roomtone_protocol::probe::{DATAGRAM_BYTES_MAX, Datagram, Echo, Probe};
use roomtone_protocol::record::Record;
use roomtone_protocol::stamp::{PACKET_BYTES, Reply, Request, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};

use super::uplink_quic::{Bench, CollectorDouble, Manner, Pki, socket, within};

/// Answers probes as a collector does, but for the second one, whose answer the path loses; says how many came.
pub(super) async fn echo(connection: quinn::Connection, probes: watch::Sender<u32>) {
    let (mut echo, mut window) = (0, 0u64);
    while let Ok(bytes) = connection.read_datagram().await {
        let Ok(Datagram::Probe(Probe { sequence, .. })) = Datagram::decode(&bytes) else {
            panic!("not a probe: {bytes:02x?}")
        };
        window = window << 1 | 1;
        let received_us = u64::from(sequence) * 276_000;
        let answer =
            Echo { probe: sequence, echo, received_us, held_us: 5, latest: sequence, window };
        echo += 1;
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        let length = Datagram::Echo(answer).encode(&mut buffer).unwrap();
        if sequence != 1 {
            connection.send_datagram(buffer[..length].to_vec().into()).unwrap();
            connection.send_datagram(b"\x7f of a later version".to_vec().into()).unwrap();
        }
        probes.send_replace(sequence + 1);
    }
}

#[tokio::test]
async fn probes_return_on_the_uplinks_connection_and_become_a_record() {
    let pki = Pki::new();
    let collector = CollectorDouble::start(&pki, Manner::Stores, socket());
    let bench = Bench::new(&pki, &collector, 0);
    let (uplink, _status) = bench.uplink();
    let (lines, lent) = watch::channel(None);
    let call = Some(CallId(0x77));
    let (circumstances, seen) = watch::channel(Circumstances { call, is_sparing: false });
    let (told, mut records) = mpsc::channel(RECORDS_MAX);
    let (stop, stopped) = oneshot::channel::<()>();
    let story = async {
        // The fifth came there, so the answers to the first four are on their way, but the second's.
        collector.probes.clone().wait_for(|probes| *probes >= 5).await.unwrap();
        drop(circumstances);
        let Some(Record::PathInterval(record)) = records.recv().await else {
            panic!("no record of the path")
        };
        assert_eq!(records.recv().await, None, "one interval");
        stop.send(()).unwrap();
        record
    };
    let uplink = uplink.with_probing(lines).run(async move { stopped.await.unwrap() });
    let (record, (), ()) =
        within(async { tokio::join!(story, run(lent, seen, told, 0), uplink) }).await;
    let PathInterval { sent, lost_up, lost_down, rtt_min_dms, rtt_max_dms, .. } = record;
    let detail = record.detail.unwrap();
    assert_eq!((record.target, detail.call), (PathTarget::Collector, call));
    // At the end only what came back behind it tells that a probe was not cut off: the second's answer was lost.
    assert!(detail.returned >= 3 && sent == detail.returned + 1, "{record:?}");
    assert_eq!((lost_up, lost_down, detail.unplaced), (0, 1, 0));
    assert!(rtt_min_dms > 0 && rtt_min_dms <= rtt_max_dms);
    let connection = record.connection.unwrap();
    assert!(connection.sent_packets >= sent && connection.mtu >= 1_200, "{connection:?}");
}

#[tokio::test]
async fn reflector_is_a_target_of_its_own() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let reflector = Reflector { host: address.ip().to_string(), port: address.port() };
    let (circumstances, seen) =
        watch::channel(Circumstances { call: Some(CallId(0x77)), is_sparing: false });
    let (told, mut records) = mpsc::channel(RECORDS_MAX);
    let story = async {
        let mut buffer = [0; 100];
        // It loses the reply to the second request, and leaves after the fifth.
        for number in 0..5 {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let request = Request::decode(&buffer[..length]).unwrap();
            assert_eq!((length, request.sequence), (PACKET_BYTES, number));
            let sent = Timestamp::of_unix_us(request.sent.micros());
            let reply =
                Reply { sequence: number, sent, received_bits: sent.bits, request, ttl: 64 };
            reply.encode(&mut buffer).unwrap();
            if number != 1 {
                socket.send_to(&buffer[..PACKET_BYTES], from).await.unwrap();
            }
        }
        drop(circumstances);
        records.recv().await
    };
    let (record, ()) =
        within(async { tokio::join!(story, reflected::run(reflector, seen, told, 0)) }).await;
    let Some(Record::PathInterval(record)) = record else { panic!("no record of the path") };
    let detail = record.detail.unwrap();
    assert_eq!((record.target, record.reflector), (PathTarget::Stamp, Some(address)));
    assert_eq!((record.connection, record.lost_up, record.lost_down), (None, 0, 0));
    // Its numbers are those of the requests, so nothing tells in which direction the second was lost.
    assert!(detail.returned >= 3 && detail.unplaced == 1, "{record:?}");
}
