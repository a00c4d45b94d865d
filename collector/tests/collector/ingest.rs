//! Good agents over real QUIC: what is acked is on disk, once.

use std::sync::mpsc;

use roomtone_collector::ingest::exchange::CloseReason;
use roomtone_collector::store::sqlite::SqliteReader;
use roomtone_collector::store::{Operation, Store, StoreError, StoreReader};
use roomtone_protocol::ack::Ack;
use roomtone_protocol::control::Control;
use roomtone_protocol::hello::{HelloReply, RefuseReason};
use roomtone_protocol::message::Message;

use crate::client::*;
use crate::fixture::*;

#[tokio::test(flavor = "multi_thread")]
async fn acked_call_is_visible_to_a_reader_at_once() {
    let (pki, directory) = (Pki::new(&["oslo-4"]), tempfile::tempdir().unwrap());
    let collector = Collector::start(&pki, open_store(directory.path()), LIMITS);
    let (mut client, next) = Client::welcome(collector.address, &pki, 0, "endpoint-oslo-4").await;
    assert_eq!(next, 0);
    let records = whole_call(CALL);
    let count = records.len() as u32;
    for (sequence, record) in (0..).zip(records) {
        client.record(sequence, record).await;
    }
    client.acked(count).await;
    let reader = SqliteReader::open(directory.path()).unwrap();
    let calls = reader.call(CALL).unwrap();
    assert_eq!((calls.len(), calls[0].legs[&0].intervals.len()), (1, 6));
    let endpoint = &reader.endpoints().unwrap()[0];
    assert_eq!((endpoint.name.as_str(), endpoint.connected), ("oslo-4", true));
    assert_eq!(endpoint.endpoint, pki.endpoints[0]);
    collector.stop().await;
}

/// A store that commits only when told to.
struct Gated<S> {
    store: S,
    entered: mpsc::Sender<usize>,
    open: mpsc::Receiver<()>,
}

impl<S: Store> Store for Gated<S> {
    fn commit(
        &mut self,
        operations: &[Operation],
        received_us: u64,
    ) -> Result<Vec<Option<Ack>>, StoreError> {
        let records = operations.iter().filter(|it| matches!(it, Operation::Record(_))).count();
        if records > 0 {
            self.entered.send(records).unwrap();
            self.open.recv().unwrap();
        }
        self.store.commit(operations, received_us)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_ack_comes_before_the_commit() {
    let (pki, directory) = (Pki::new(&["oslo-4"]), tempfile::tempdir().unwrap());
    let (entered, commits) = mpsc::channel();
    let (gate, open) = mpsc::channel();
    let store = Gated { store: open_store(directory.path()), entered, open };
    let collector = Collector::start(&pki, store, LIMITS);
    let (mut client, _) = Client::welcome(collector.address, &pki, 0, "endpoint-oslo-4").await;
    client.record(0, host_interval()).await;
    tokio::task::block_in_place(|| commits.recv().unwrap());
    let reader = SqliteReader::open(directory.path()).unwrap();
    {
        // The commit stands at the gate; an ack that came early would be here within this time.
        let early = tokio::time::timeout(std::time::Duration::from_millis(100), client.next());
        assert!(early.await.is_err());
        assert_eq!(reader.endpoints().unwrap()[0].counts.stored, 0);
    }
    gate.send(()).unwrap();
    client.acked(1).await;
    assert_eq!(reader.endpoints().unwrap()[0].counts.stored, 1);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_that_sends_everything_again_after_a_reconnect_is_stored_once() {
    let (pki, directory) = (Pki::new(&["oslo-4"]), tempfile::tempdir().unwrap());
    let collector = Collector::start(&pki, open_store(directory.path()), LIMITS);
    let count = whole_call(CALL).len() as u32;
    for round in 0..3 {
        let (mut client, next) =
            Client::welcome(collector.address, &pki, 0, "endpoint-oslo-4").await;
        assert_eq!(next, if round == 0 { 0 } else { count + round });
        for (sequence, record) in (0..).zip(whole_call(CALL)) {
            client.record(sequence, record).await;
        }
        // The first repetition is acked up to the watermark; a new record's ack says that all before it were seen.
        client.record(count + round, host_interval()).await;
        client.acked(count + round + 1).await;
    }
    let reader = SqliteReader::open(directory.path()).unwrap();
    let counts = reader.endpoints().unwrap()[0].counts;
    assert_eq!((counts.stored, counts.duplicate), (u64::from(count + 3), 2 * u64::from(count)));
    assert_eq!(counts.missing, 0);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_connection_replaces_the_older_one_of_its_endpoint_only() {
    let (pki, directory) = (Pki::new(&["oslo-4", "tromso-1"]), tempfile::tempdir().unwrap());
    let collector = Collector::start(&pki, open_store(directory.path()), LIMITS);
    let address = collector.address;
    let (older, _) = Client::welcome(address, &pki, 0, "endpoint-oslo-4").await;
    let (mut other, _) = Client::welcome(address, &pki, 1, "endpoint-tromso-1").await;
    let (mut newer, _) = Client::welcome(address, &pki, 0, "endpoint-oslo-4").await;
    assert_eq!(older.closed().await, CloseReason::Replaced);
    for client in [&mut other, &mut newer] {
        client.record(0, host_interval()).await;
        client.acked(1).await;
    }
    let reader = SqliteReader::open(directory.path()).unwrap();
    assert!(reader.endpoints().unwrap().iter().all(|it| it.connected));
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_acks_what_was_taken_and_says_goodbye() {
    let (pki, directory) = (Pki::new(&["oslo-4"]), tempfile::tempdir().unwrap());
    let (entered, commits) = mpsc::channel();
    let (gate, open) = mpsc::channel();
    let store = Gated { store: open_store(directory.path()), entered, open };
    let collector = Collector::start(&pki, store, LIMITS);
    let (mut client, _) = Client::welcome(collector.address, &pki, 0, "endpoint-oslo-4").await;
    client.record(0, host_interval()).await;
    tokio::task::block_in_place(|| commits.recv().unwrap());
    let stopping = tokio::spawn(collector.stop());
    gate.send(()).unwrap();
    client.acked(1).await;
    assert_eq!(client.next().await, Some(Message::Control(Control::GoingAway)));
    assert_eq!(client.next().await, None);
    assert_eq!(client.closed().await, CloseReason::GoingAway);
    stopping.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn full_collector_says_busy_and_has_room_again_later() {
    let (pki, directory) = (Pki::new(&["oslo-4", "tromso-1"]), tempfile::tempdir().unwrap());
    let limits = roomtone_collector::ingest::quic::Limits { connections_max: 1, ..LIMITS };
    let collector = Collector::start(&pki, open_store(directory.path()), limits);
    let (first, _) = Client::welcome(collector.address, &pki, 0, "endpoint-oslo-4").await;
    let mut second = Client::connect(collector.address, &pki, "endpoint-tromso-1").await;
    second.hello(pki.endpoints[1]).await;
    match second.next().await {
        Some(Message::HelloReply(HelloReply::Refused { reason: RefuseReason::Busy, .. })) => {}
        other => panic!("busy, found {other:?}"),
    }
    assert_eq!(second.closed().await, CloseReason::Refused);
    first.connection.close(0u32.into(), b"");
    drop((first, second));
    // The place is free as soon as the collector has seen the close; until then it says busy, or refuses unheard
    // while the refused connection is not gone either.
    loop {
        let again = Client::try_connect(collector.address, &pki, "endpoint-tromso-1").await;
        let mut again = match again {
            Ok(again) => again,
            Err(quinn::ConnectionError::ConnectionClosed(_)) => continue,
            Err(error) => panic!("refused or heard, found {error:?}"),
        };
        again.hello(pki.endpoints[1]).await;
        if let Some(Message::HelloReply(HelloReply::Welcome { .. })) = again.next().await {
            break;
        }
    }
    collector.stop().await;
}

/// A store that refuses everything after its first groups.
struct Failing<S>(S, usize);

impl<S: Store> Store for Failing<S> {
    fn commit(
        &mut self,
        operations: &[Operation],
        received_us: u64,
    ) -> Result<Vec<Option<Ack>>, StoreError> {
        if self.1 == 0 {
            let source = std::io::Error::other("disk full").into();
            return Err(StoreError::Write { path: "day".into(), source });
        }
        self.1 -= 1;
        self.0.commit(operations, received_us)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn store_that_fails_acks_nothing_and_sends_agents_away() {
    let (pki, directory) = (Pki::new(&["oslo-4"]), tempfile::tempdir().unwrap());
    let collector = Collector::start(&pki, Failing(open_store(directory.path()), 1), LIMITS);
    let (mut client, _) = Client::welcome(collector.address, &pki, 0, "endpoint-oslo-4").await;
    client.record(0, host_interval()).await;
    assert_eq!(client.next().await, None);
    assert_eq!(client.closed().await, CloseReason::StoreUnavailable);
    collector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fleet_that_comes_back_at_once_is_taken_in() {
    // More than the handshakes above which addresses must prove themselves (64).
    let names: Vec<String> = (0..90).map(|number| format!("room-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (pki, directory) = (std::sync::Arc::new(Pki::new(&names)), tempfile::tempdir().unwrap());
    let limits = roomtone_collector::ingest::quic::Limits { handshakes_max: 128, ..LIMITS };
    let collector = Collector::start(&pki, open_store(directory.path()), limits);
    let address = collector.address;
    let mut agents = tokio::task::JoinSet::new();
    for index in 0..names.len() {
        let (pki, name) = (pki.clone(), format!("endpoint-room-{index}"));
        agents.spawn(async move {
            let (mut client, _) = Client::welcome(address, &pki, index, &name).await;
            client.record(0, host_interval()).await;
            client.acked(1).await;
            client
        });
    }
    let agents = agents.join_all().await;
    let endpoints = SqliteReader::open(directory.path()).unwrap().endpoints().unwrap();
    assert_eq!(endpoints.len(), agents.len());
    assert!(endpoints.iter().all(|it| it.connected && it.counts.stored == 1));
    collector.stop().await;
}
