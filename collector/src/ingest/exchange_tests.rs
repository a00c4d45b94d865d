//! The exchange against good, odd and hostile peers, without a network.

use std::time::Duration;

use proptest::prelude::*;
use roomtone_protocol::call::{CallOpened, CallPurpose};
use roomtone_protocol::id::{CallId, RecordId};
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

use super::*;

const OSLO: EndpointId = EndpointId([4; 16]);
const EPOCH: Epoch = Epoch(9);

fn hello(endpoint: EndpointId, wire: std::ops::RangeInclusive<u8>) -> Vec<u8> {
    link(&Message::Hello(Hello {
        endpoint,
        wire_min: *wire.start(),
        wire_max: *wire.end(),
        agent_version: bounded("0.1.0"),
        epoch: EPOCH,
        oldest: Sequence(0),
        now: Stamp { wall_us: 0, uptime_us: 42 },
        boot: None,
    }))
}

fn link(message: &Message) -> Vec<u8> {
    let mut buffer = [0; FRAME_BYTES_MAX];
    let length = frame::encode_link(message, &mut buffer).unwrap();
    buffer[..length].to_vec()
}

fn record(sequence: u32) -> Vec<u8> {
    let opened = Stamp { wall_us: 1, uptime_us: 1 };
    let record =
        Record::CallOpened(CallOpened { call: CallId(3), opened, purpose: CallPurpose::Meeting });
    let mut buffer = [0; FRAME_BYTES_MAX];
    let id = RecordId { epoch: EPOCH, sequence: Sequence(sequence) };
    let length = frame::encode_record(id, record, &mut buffer).unwrap();
    buffer[..length].to_vec()
}

/// The frame with other bytes and a checksum that holds, as a wrong or a later agent would send it.
fn reseal(mut frame: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut frame);
    let crc = crc32c(&[&frame[..15], &frame[19..]].concat());
    frame[15..19].copy_from_slice(&crc.to_le_bytes());
    frame
}

/// CRC-32C bit by bit, reflected polynomial 0x82f63b78 (RFC 3720 appendix B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 }
        })
    })
}

fn sent(exchange: &mut Exchange) -> Vec<Message> {
    let mut buffer = [0; FRAME_BYTES_MAX];
    let mut messages = Vec::new();
    while let Some(length) = exchange.poll_transmit(&mut buffer) {
        let (frame, _) = frame::decode(&buffer[..length]).unwrap();
        messages.extend(frame.message);
    }
    messages
}

fn open() -> Exchange {
    let mut exchange = Exchange::new(OSLO, Instant::now());
    exchange.handle_bytes(&hello(OSLO, 1..=1));
    assert!(matches!(exchange.poll_step(), Step::Greet(_)));
    exchange.handle_welcome(Sequence(5), 77);
    assert_eq!(sent(&mut exchange).len(), 1);
    exchange
}

fn ack(next: u32) -> Ack {
    Ack { epoch: EPOCH, next: Sequence(next) }
}

fn refused(exchange: &mut Exchange) -> RefuseReason {
    assert_eq!(exchange.poll_step(), Step::Close(CloseReason::Refused));
    let messages = sent(exchange);
    let [Message::HelloReply(HelloReply::Refused { reason, .. })] = &messages[..] else {
        panic!("one refusal, found {messages:?}");
    };
    *reason
}

#[test]
fn hello_is_answered_with_the_watermark_and_the_time() {
    let mut exchange = Exchange::new(OSLO, Instant::now());
    for byte in hello(OSLO, 0..=3) {
        assert_eq!(exchange.poll_step(), Step::Wait);
        exchange.handle_bytes(&[byte]);
    }
    let greeting =
        Greeting { agent_version: "0.1.0".to_owned(), epoch: EPOCH, uptime_us: 42, boot: None };
    assert_eq!(exchange.poll_step(), Step::Greet(greeting));
    assert_eq!(exchange.room(), 0, "nothing is read before the store has answered");
    exchange.handle_welcome(Sequence(5), 77);
    let messages = sent(&mut exchange);
    let [
        Message::HelloReply(HelloReply::Welcome {
            wire: 1, next: Sequence(5), wall_us: 77, ..
        }),
    ] = &messages[..]
    else {
        panic!("a welcome, found {messages:?}");
    };
}

#[test]
fn peer_that_is_not_the_certificates_endpoint_is_refused() {
    let mut exchange = Exchange::new(OSLO, Instant::now());
    exchange.handle_bytes(&hello(EndpointId([5; 16]), 1..=1));
    assert_eq!(refused(&mut exchange), RefuseReason::EndpointMismatch);
    assert_eq!(exchange.room(), 0);
}

#[test]
fn peer_without_a_common_wire_version_is_refused() {
    for wire in [2..=9, 0..=0] {
        let mut exchange = Exchange::new(OSLO, Instant::now());
        exchange.handle_bytes(&hello(OSLO, wire));
        assert_eq!(refused(&mut exchange), RefuseReason::WireVersion);
    }
}

#[test]
fn record_before_hello_is_refused() {
    let mut exchange = Exchange::new(OSLO, Instant::now());
    exchange.handle_bytes(&record(0));
    assert_eq!(refused(&mut exchange), RefuseReason::NoHello);
}

#[test]
fn silent_peer_is_closed_at_its_deadline_and_not_before() {
    let until = Instant::now();
    let mut exchange = Exchange::new(OSLO, until);
    assert_eq!(exchange.poll_timeout(), Some((until, "hello")));
    assert_eq!(exchange.handle_timeout(until - Duration::from_millis(1)), Step::Wait);
    assert_eq!(exchange.handle_timeout(until), Step::Close(CloseReason::HelloTimeout));
    assert_eq!(open().poll_timeout(), None);
}

#[test]
fn acks_are_coalesced_per_epoch() {
    let mut exchange = open();
    for sequence in 5..8 {
        exchange.handle_bytes(&record(sequence));
        assert!(matches!(exchange.poll_step(), Step::Submit(batch) if batch.len() == 1));
    }
    assert_eq!(sent(&mut exchange), [], "no ack before a commit");
    exchange.handle_commit([ack(6)]);
    exchange.handle_commit([ack(7), ack(8)]);
    assert_eq!(sent(&mut exchange), [Message::Ack(ack(8))]);
    let other = Ack { epoch: Epoch(10), next: Sequence(1) };
    exchange.handle_commit([ack(9), other]);
    assert_eq!(sent(&mut exchange), [Message::Ack(ack(9)), Message::Ack(other)]);
}

#[test]
fn batches_stop_while_the_store_is_behind() {
    let mut exchange = open();
    for sequence in 0..SUBMITTED_MAX as u32 {
        exchange.handle_bytes(&record(sequence));
        assert!(exchange.may_submit());
        assert!(matches!(exchange.poll_step(), Step::Submit(_)));
    }
    exchange.handle_bytes(&record(99));
    assert!(!exchange.may_submit());
    assert_eq!(exchange.poll_step(), Step::Wait);
    // A peer that goes on sending fills two frames' worth and no more.
    while exchange.room() > 0 {
        let bytes = record(100);
        let fits = bytes.len().min(exchange.room());
        exchange.handle_bytes(&bytes[..fits]);
    }
    assert_eq!(exchange.buffer.len(), BUFFER_BYTES_MAX);
    exchange.handle_commit([ack(1)]);
    assert!(
        matches!(exchange.poll_step(), Step::Submit(batch) if batch.len() == BATCH_RECORDS_MAX)
    );
}

#[test]
fn unknown_and_unreadable_records_are_kept_and_the_stream_goes_on() {
    let mut exchange = open();
    let unknown = reseal(record(5), |frame| frame[3] = 0x7e);
    let unreadable = reseal(record(6), |frame| {
        // The purpose is the last byte; 9 is no purpose.
        *frame.last_mut().unwrap() = 9;
    });
    let unknown_link = reseal(record(0), |frame| frame[3] = 0x0f);
    for bytes in [unknown, unknown_link, unreadable, record(7)] {
        exchange.handle_bytes(&bytes);
    }
    let Step::Submit(batch) = exchange.poll_step() else { panic!("a batch") };
    let reasons: Vec<_> = batch
        .iter()
        .map(|incoming| match &incoming.content {
            Content::Known(_) => None,
            Content::Opaque(opaque) => Some((opaque.kind, opaque.reason)),
        })
        .collect();
    assert_eq!(
        reasons,
        [Some((0x7e, OpaqueReason::UnknownKind)), Some((0x10, OpaqueReason::Refused)), None]
    );
    let counts = LinkCounts { records: 3, unknown: 1, refused: 1, skipped: 1 };
    assert_eq!(exchange.counts(), counts);
}

#[test]
fn records_before_garbage_are_kept_and_garbage_closes() {
    let mut flipped = record(6);
    flipped[20] ^= 1;
    let oversize = {
        let mut frame = record(6);
        frame[5..7].copy_from_slice(&u16::MAX.to_le_bytes());
        frame
    };
    let version = {
        let mut frame = record(6);
        frame[2] = 2;
        frame
    };
    for garbage in [b"GET / HTTP/1.1\r\n".to_vec(), flipped, oversize, version] {
        let mut exchange = open();
        exchange.handle_bytes(&record(5));
        exchange.handle_bytes(&garbage);
        assert!(matches!(exchange.poll_step(), Step::Submit(batch) if batch.len() == 1));
        assert_eq!(exchange.poll_step(), Step::Close(CloseReason::BadFrame));
    }
}

#[test]
fn frames_that_only_a_collector_sends_close() {
    for message in [Message::Ack(ack(1)), Message::Control(Control::SelfTest)] {
        let mut exchange = open();
        exchange.handle_bytes(&link(&message));
        assert_eq!(exchange.poll_step(), Step::Close(CloseReason::UnexpectedFrame));
    }
    let mut exchange = open();
    exchange.handle_bytes(&hello(OSLO, 1..=1));
    assert_eq!(exchange.poll_step(), Step::Close(CloseReason::UnexpectedFrame));
    let mut exchange = open();
    exchange.handle_bytes(&record(u32::MAX));
    assert_eq!(exchange.poll_step(), Step::Close(CloseReason::UnexpectedFrame));
}

fn health() -> Health {
    crate::fleet::heartbeat::tests::health(60, None)
}

#[test]
fn reports_wait_for_the_records_before_them_and_are_no_records() {
    let effective = EffectiveConfiguration {
        hash: roomtone_protocol::configuration::ConfigurationHash([7; 8]),
        text: "[log]\n".try_into().unwrap(),
    };
    let mut exchange = open();
    let frames = [
        record(0),
        link(&Message::Health(health())),
        link(&Message::EffectiveConfiguration(effective.clone())),
        record(1),
    ];
    exchange.handle_bytes(&frames.concat());
    assert!(matches!(exchange.poll_step(), Step::Submit(batch) if batch.len() == 1));
    assert_eq!(exchange.poll_step(), Step::Keep(Report::Health(Box::new(health()))));
    assert_eq!(exchange.poll_step(), Step::Keep(Report::Effective(Box::new(effective))));
    assert!(matches!(exchange.poll_step(), Step::Submit(batch) if batch.len() == 1));
    assert_eq!(exchange.counts().records, 2);
}

#[test]
fn report_whose_body_is_none_is_skipped_and_counted() {
    let mut exchange = open();
    // Two bytes of a body.
    let broken = reseal(link(&Message::Health(health())), |frame| {
        frame.truncate(HEADER_BYTES + 2);
        frame[5..7].copy_from_slice(&2u16.to_le_bytes());
    });
    exchange.handle_bytes(&[broken, record(0)].concat());
    assert!(matches!(exchange.poll_step(), Step::Submit(batch) if batch.len() == 1));
    assert_eq!(exchange.counts().skipped, 1);
}

#[test]
fn report_before_the_welcome_or_instead_of_a_renewal_does_not_belong() {
    let report = link(&Message::Health(health()));
    let mut exchange = Exchange::new(OSLO, Instant::now());
    exchange.handle_bytes(&report);
    assert_eq!(exchange.poll_step(), Step::Close(CloseReason::Refused));
    let mut exchange = expired();
    exchange.handle_bytes(&report);
    assert_eq!(exchange.poll_step(), Step::Close(CloseReason::UnexpectedFrame));
}

#[test]
fn of_configurations_that_were_not_sent_the_latest_goes_down() {
    let configuration = |byte| {
        let hash = roomtone_protocol::configuration::ConfigurationHash([byte; 8]);
        Configuration { hash, text: "".try_into().unwrap() }
    };
    let mut exchange = open();
    sent(&mut exchange);
    exchange.handle_configuration(Arc::new(configuration(1)));
    exchange.handle_configuration(Arc::new(configuration(2)));
    exchange.handle_control(Control::SelfTest);
    let expected = [Message::Configuration(configuration(2)), Message::Control(Control::SelfTest)];
    assert_eq!(sent(&mut exchange), expected);
    exchange.handle_bytes(&link(&Message::Configuration(configuration(1))));
    assert_eq!(exchange.poll_step(), Step::Close(CloseReason::UnexpectedFrame));
}

#[test]
fn control_goes_down_after_the_welcome_and_one_at_a_time() {
    let mut exchange = Exchange::new(OSLO, Instant::now());
    assert!(!exchange.takes_control());
    exchange.handle_bytes(&hello(OSLO, 1..=1));
    assert!(matches!(exchange.poll_step(), Step::Greet(_)));
    assert!(!exchange.takes_control());
    exchange.handle_welcome(Sequence(5), 77);
    exchange.handle_control(Control::SelfTest);
    assert!(!exchange.takes_control(), "the first is not sent yet");
    let messages = sent(&mut exchange);
    assert!(matches!(messages[0], Message::HelloReply(HelloReply::Welcome { .. })));
    assert_eq!(messages[1..], [Message::Control(Control::SelfTest)]);
    assert!(exchange.takes_control());
}

#[test]
fn refused_peer_gets_no_control() {
    let mut exchange = Exchange::refusing(OSLO, Instant::now(), (RefuseReason::Busy, "no room"));
    assert!(!exchange.takes_control());
    assert_eq!(sent(&mut exchange).len(), 1);
}

fn renew_request() -> Vec<u8> {
    let csr = [0x30, 1, 0xc5].into_iter().collect();
    link(&Message::RenewRequest(roomtone_protocol::enroll::RenewRequest { csr }))
}

fn busy() -> Box<RenewReply> {
    Box::new(RenewReply::Refused(RenewRefusal::Busy))
}

/// An exchange that was told to renew first.
fn expired() -> Exchange {
    let mut exchange = Exchange::new(OSLO, Instant::now());
    exchange.handle_bytes(&hello(OSLO, 1..=1));
    assert!(matches!(exchange.poll_step(), Step::Greet(_)));
    exchange.handle_renew_first(7, Instant::now() + Duration::from_secs(9));
    let [Message::HelloReply(HelloReply::RenewFirst { wall_us: 7, .. })] = sent(&mut exchange)[..]
    else {
        panic!("told to renew first");
    };
    exchange
}

#[test]
fn request_to_renew_waits_for_the_records_before_it_and_is_answered_once() {
    let mut exchange = open();
    sent(&mut exchange);
    exchange.handle_bytes(&[record(0), renew_request(), record(1)].concat());
    let Step::Submit(batch) = exchange.poll_step() else { panic!("the record comes first") };
    assert_eq!(batch.len(), 1);
    let Step::Renew(csr) = exchange.poll_step() else { panic!("then the request") };
    assert_eq!(csr[..], [0x30, 1, 0xc5]);
    assert!(matches!(exchange.poll_step(), Step::Submit(_)), "records go on meanwhile");
    exchange.handle_renewed(busy());
    assert_eq!(sent(&mut exchange), [Message::RenewReply(*busy())]);
    exchange.handle_bytes(&renew_request());
    assert!(matches!(exchange.poll_step(), Step::Renew(_)), "it may be asked again");
    exchange.handle_bytes(&renew_request());
    assert_eq!(
        exchange.poll_step(),
        Step::Close(CloseReason::UnexpectedFrame),
        "not before the answer"
    );
}

#[test]
fn request_to_renew_that_is_none_is_refused_and_the_connection_goes_on() {
    let mut exchange = open();
    sent(&mut exchange);
    // A length of 127 bytes, of which three are there.
    exchange.handle_bytes(&reseal(renew_request(), |frame| frame[19] = 0x7f));
    assert_eq!(exchange.poll_step(), Step::Wait);
    let refused = RenewReply::Refused(RenewRefusal::BadRequest);
    assert_eq!(sent(&mut exchange), [Message::RenewReply(refused)]);
}

#[test]
fn agent_whose_certificate_has_expired_gets_one_answer_and_stores_nothing() {
    let mut exchange = expired();
    assert!(!exchange.may_submit());
    exchange.handle_bytes(&renew_request());
    assert!(matches!(exchange.poll_step(), Step::Renew(_)));
    exchange.handle_renewed(busy());
    assert_eq!(sent(&mut exchange), [Message::RenewReply(*busy())]);
    assert_eq!(exchange.poll_step(), Step::Close(CloseReason::Done));
    let mut exchange = expired();
    exchange.handle_bytes(&record(0));
    assert_eq!(exchange.poll_step(), Step::Close(CloseReason::UnexpectedFrame));
}

#[test]
fn agent_whose_certificate_has_expired_has_its_time_to_ask() {
    let mut exchange = expired();
    let (until, _) = exchange.poll_timeout().unwrap();
    assert_eq!(exchange.handle_timeout(until - Duration::from_millis(1)), Step::Wait);
    assert_eq!(exchange.handle_timeout(until), Step::Close(CloseReason::HelloTimeout));
}

#[test]
fn verdict_on_a_hello_is_told_and_ends_the_connection() {
    let mut exchange = Exchange::new(OSLO, Instant::now());
    exchange.handle_bytes(&hello(OSLO, 1..=1));
    assert!(matches!(exchange.poll_step(), Step::Greet(_)));
    exchange.handle_refusal((RefuseReason::Cloned, "another keeps it"));
    assert_eq!(exchange.refused(), Some(RefuseReason::Cloned));
    assert_eq!(refused(&mut exchange), RefuseReason::Cloned);
    assert_eq!(exchange.poll_step(), Step::Close(CloseReason::Refused));
}

#[test]
fn idle_connection_holds_no_buffer() {
    let mut exchange = open();
    exchange.handle_bytes(&record(5));
    assert!(matches!(exchange.poll_step(), Step::Submit(_)));
    assert_eq!(exchange.buffer.capacity(), 0);
}

proptest! {
    /// However the bytes are cut and whatever they are: records before the first bad byte arrive in order, once.
    #[test]
    fn cutting_the_stream_anywhere_changes_nothing(
        count in 0u32..40,
        cuts in proptest::collection::vec(1usize..700, 1..60),
        garbage in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut exchange = open();
        let mut bytes: Vec<u8> = (0..count).flat_map(record).collect();
        bytes.extend(&garbage);
        let mut rest = &bytes[..];
        let mut sequences = Vec::new();
        let mut closed = None;
        for cut in cuts.into_iter().cycle() {
            let cut = cut.min(rest.len()).min(exchange.room());
            exchange.handle_bytes(&rest[..cut]);
            rest = &rest[cut..];
            loop {
                match exchange.poll_step() {
                    Step::Submit(batch) => {
                        sequences.extend(batch.iter().map(|it| it.id.sequence.0));
                        exchange.handle_commit([]);
                    }
                    Step::Close(reason) => { closed = Some(reason); break; }
                    Step::Wait => break,
                    Step::Greet(_) => prop_assert!(false, "greeted already"),
                    Step::Renew(_) | Step::Keep(_) => {}
                }
            }
            if rest.is_empty() || closed.is_some() {
                break;
            }
        }
        prop_assert_eq!(sequences, (0..count).collect::<Vec<_>>());
        if garbage.first().is_some_and(|byte| *byte != b'R') && garbage.len() > 1 {
            prop_assert_eq!(closed, Some(CloseReason::BadFrame));
        }
    }
}

#[test]
fn held_endpoint_is_read_no_further_than_the_buffer_and_still_reports() {
    let mut exchange = open();
    let (start, later) = (Instant::now(), Instant::now() + Duration::from_secs(9));
    exchange.handle_bytes(&record(5));
    assert!(matches!(exchange.poll_step(), Step::Submit(batch) if batch.len() == 1));
    assert_eq!(exchange.take_taken_bytes(), record(5).len() as u64);
    assert_eq!(exchange.take_taken_bytes(), 0);
    exchange.handle_hold(Some(later));
    // In front of the records a report is heard; behind them it waits with them.
    let health = Message::Health(crate::fleet::heartbeat::tests::health(60, None));
    exchange.handle_bytes(&link(&health));
    assert!(matches!(exchange.poll_step(), Step::Keep(Report::Health(_))));
    let mut next = 6;
    while exchange.room() >= record(next).len() {
        exchange.handle_bytes(&record(next));
        next += 1;
    }
    let rest = vec![0; exchange.room()];
    exchange.handle_bytes(&rest);
    assert!(!exchange.may_submit());
    assert_eq!((exchange.poll_step(), exchange.room()), (Step::Wait, 0));
    assert_eq!(exchange.poll_timeout(), Some((later, "allowance")));
    assert_eq!(exchange.handle_timeout(start), Step::Wait);
    assert!(!exchange.may_submit());
    assert_eq!(exchange.handle_timeout(later), Step::Wait);
    assert!(exchange.may_submit() && exchange.poll_timeout().is_none());
    let Step::Submit(batch) = exchange.poll_step() else { panic!("a batch") };
    assert_eq!(batch[0].id.sequence, Sequence(6));
}
