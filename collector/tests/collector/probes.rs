//! Path probes over real QUIC: answered, whatever else comes as a datagram.

use quinn::Connection;
use roomtone_protocol::probe::{DATAGRAM_BYTES_MAX, Datagram, Echo, Probe, Receipt};

use crate::client::*;

fn send(connection: &Connection, sequence: u32, wants_receipt: bool) {
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    let probe = Datagram::Probe(Probe { sequence, wants_receipt });
    let length = probe.encode(&mut buffer).unwrap();
    connection.send_datagram(buffer[..length].to_vec().into()).unwrap();
}

async fn receive(connection: &Connection) -> Datagram {
    let bytes = patiently("an answer to a probe", connection.read_datagram()).await.unwrap();
    Datagram::decode(&bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_with_what_arrived_and_garbage_ends_nothing() {
    let (pki, directory) = (Pki::new(&["oslo-4"]), tempfile::tempdir().unwrap());
    let collector = Collector::start(&pki, open_store(directory.path()), LIMITS);
    let (client, _) = Client::welcome(collector.address, &pki, 0, "endpoint-oslo-4").await;
    let connection = &client.connection;
    for garbage in [&b""[..], &[0x7f; 900], &[1, 0, 0], &[2; 34]] {
        connection.send_datagram(garbage.to_vec().into()).unwrap();
    }
    let mut before = 0;
    // Probe 1 is never sent: the path lost it.
    for (echo, (probe, window)) in [(0, 0b1), (2, 0b101), (3, 0b1011)].into_iter().enumerate() {
        send(connection, probe, false);
        let Datagram::Echo(found) = receive(connection).await else { panic!("not an echo") };
        let Echo { received_us, held_us, .. } = found;
        let echo = echo as u32;
        assert_eq!(found, Echo { probe, echo, received_us, held_us, latest: probe, window });
        assert!(received_us > before, "one clock that never steps");
        before = received_us;
    }
    send(connection, 4, true);
    assert!(matches!(receive(connection).await, Datagram::Echo(Echo { probe: 4, .. })));
    let Datagram::Receipt(Receipt { latest: 4, bitmap }) = receive(connection).await else {
        panic!("a receipt was asked for")
    };
    assert_eq!((bitmap[0], &bitmap[1..]), (0b10111, &[0; 15][..]));
    assert_eq!(connection.close_reason(), None);
    collector.stop().await;
}
