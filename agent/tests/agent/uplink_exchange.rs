//! The exchange by itself, event by event: when it speaks, when it waits, when it gives up.

use std::time::Duration;

use roomtone_agent::clock::Moment;
use roomtone_agent::uplink::cause::{Cause, Violation};
use roomtone_agent::uplink::exchange::{Event, Exchange, Held, Limits, NoRenewal, Position};
use roomtone_protocol::ack::Ack;
use roomtone_protocol::call::{CallCloseReason, CallClosed};
use roomtone_protocol::control::Control;
use roomtone_protocol::enroll::{BootId, Der, RenewReply, RenewRequest};
use roomtone_protocol::error::DecodeError;
use roomtone_protocol::frame::{HEADER_BYTES, decode, encode_link, encode_record};
use roomtone_protocol::hello::{HelloReply, RefuseReason};
use roomtone_protocol::id::{CallId, EndpointId, Epoch, RecordId, Sequence};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::message::{Message, kind};
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

const ENDPOINT: EndpointId = EndpointId([7; 16]);
const EPOCH: Epoch = Epoch(0xfeed);
pub(super) const STAMP: Stamp = Stamp { wall_us: 1, uptime_us: 2 };
pub(super) const START: Moment = Moment::from_nanos(1_000_000_000_000);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn at(sequence: u32) -> Position {
    Position { epoch: EPOCH, sequence: Sequence(sequence) }
}

fn ack(next: u32) -> Ack {
    Ack { epoch: EPOCH, next: Sequence(next) }
}

pub(super) fn link(message: &Message) -> Vec<u8> {
    let mut frame = vec![0; FRAME_BYTES_MAX];
    let length = encode_link(message, &mut frame).unwrap();
    frame.truncate(length);
    frame
}

pub(super) fn welcome(next: u32) -> Vec<u8> {
    let collector_version = "0.1.0".try_into().unwrap();
    let next = Sequence(next);
    link(&Message::HelloReply(HelloReply::Welcome { wire: 1, collector_version, next, wall_us: 0 }))
}

fn refused(reason: RefuseReason) -> Vec<u8> {
    let detail = "because".try_into().unwrap();
    link(&Message::HelloReply(HelloReply::Refused { reason, detail }))
}

fn ack_frame(next: u32) -> Vec<u8> {
    link(&Message::Ack(ack(next)))
}

fn control(control: Control) -> Vec<u8> {
    link(&Message::Control(control))
}

fn records(epoch: Epoch, numbers: std::ops::Range<u32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in numbers {
        let record = Record::CallClosed(CallClosed {
            call: CallId(u64::from(n)),
            closed: STAMP,
            reason: CallCloseReason::Idle,
            legs: 1,
        });
        let mut frame = [0; FRAME_BYTES_MAX];
        let id = RecordId { epoch, sequence: Sequence(n) };
        let length = encode_record(id, record, &mut frame).unwrap();
        bytes.extend_from_slice(&frame[..length]);
    }
    bytes
}

pub(super) fn events(exchange: &mut Exchange) -> Vec<Event> {
    std::iter::from_fn(|| exchange.poll_event()).collect()
}

fn welcomed(from: u32) -> Event {
    let collector_version = "0.1.0".try_into().unwrap();
    Event::Welcomed { collector_version, from: at(from), wall_us: 0 }
}

/// Connected, with the Hello on its way, at `START`.
pub(super) fn greeting(oldest: u32, newest: u32) -> Exchange {
    let mut exchange = Exchange::new(ENDPOINT, Limits::default(), START);
    exchange.handle_timeout(START);
    assert_eq!(events(&mut exchange), [Event::Connect]);
    exchange.handle_connected(Held { oldest: at(oldest), newest: at(newest) }, STAMP, START);
    exchange.poll_transmit().expect("a Hello");
    exchange
}

/// Welcomed at `START` with nothing left to tell.
pub(super) fn flowing(next: u32, newest: u32) -> Exchange {
    let mut exchange = greeting(next, newest);
    exchange.handle_bytes(&welcome(next), START);
    assert_eq!(events(&mut exchange), [welcomed(next)]);
    exchange
}

pub(super) fn close_cause(exchange: &mut Exchange) -> Option<Cause> {
    events(exchange).into_iter().find_map(|event| match event {
        Event::Close(cause) => Some(cause),
        Event::Connect
        | Event::Welcomed { .. }
        | Event::CollectorBehind { .. }
        | Event::RenewFirst { .. }
        | Event::Renewed(_)
        | Event::Acknowledged(_)
        | Event::Requested(_)
        | Event::Configured(_) => None,
    })
}

#[test]
fn hello_comes_first_and_names_the_oldest_record_held() {
    let boot = Some(BootId([9; 16]));
    let mut exchange = Exchange::new(ENDPOINT, Limits::default(), START).of_boot(boot);
    assert_eq!(exchange.poll_timeout(), Some((START, "connect")));
    exchange.handle_timeout(START);
    assert_eq!(events(&mut exchange), [Event::Connect]);
    exchange.handle_connected(Held { oldest: at(3), newest: at(9) }, STAMP, START);
    let bytes = exchange.poll_transmit().unwrap();
    let (frame, length) = decode(&bytes).unwrap();
    assert_eq!(length, bytes.len());
    let Some(Message::Hello(hello)) = frame.message else { panic!("{frame:?}") };
    assert_eq!((hello.endpoint, hello.epoch, hello.oldest), (ENDPOINT, EPOCH, Sequence(3)));
    assert_eq!(hello.boot, boot);
    assert_eq!((hello.wire_min, hello.wire_max, hello.now), (1, 1, STAMP));
}

#[test]
fn nothing_is_wanted_before_the_welcome() {
    let mut exchange = greeting(0, 10);
    assert_eq!(exchange.poll_want(), None);
    assert_eq!(exchange.handle_read(&records(EPOCH, 0..10), at(10), START), 0);
    exchange.handle_appended();
    assert_eq!(exchange.poll_want(), None);
    exchange.handle_bytes(&welcome(0), START);
    assert_eq!(exchange.poll_want().unwrap().from, at(0));
}

#[test]
fn link_goes_on_where_the_collector_stands_and_hands_that_on_as_an_ack() {
    let mut exchange = greeting(3, 9);
    exchange.handle_bytes(&welcome(5), START);
    assert_eq!(events(&mut exchange), [welcomed(5), Event::Acknowledged(ack(5))]);
    assert_eq!(exchange.poll_want().unwrap().from, at(5));
}

#[test]
fn collector_that_lost_data_gets_all_that_is_still_held() {
    let mut exchange = greeting(3, 9);
    exchange.handle_bytes(&welcome(1), START);
    let behind = Event::CollectorBehind { next: Sequence(1), oldest: at(3) };
    assert_eq!(events(&mut exchange), [welcomed(3), behind]);
    assert_eq!(exchange.poll_want().unwrap().from, at(3));
}

#[test]
fn collector_that_knows_more_gets_nothing_and_nothing_is_deleted() {
    let mut exchange = greeting(3, 9);
    exchange.handle_bytes(&welcome(10), START);
    let cause = Cause::CollectorAhead { epoch: EPOCH, next: Sequence(10), newest: Sequence(9) };
    assert_eq!(events(&mut exchange), [Event::Close(cause)]);
    assert_eq!(exchange.poll_want(), None);
    // The spool begins a new epoch at once, so the usual pause will do.
    assert_eq!(pause_after(&mut exchange, START).as_secs(), 1);
}

#[test]
fn collector_that_knows_more_of_an_older_epoch_is_no_conflict() {
    let mut exchange = Exchange::new(ENDPOINT, Limits::default(), START);
    exchange.handle_timeout(START);
    let newest = Position { epoch: Epoch(2), sequence: Sequence(0) };
    exchange.handle_connected(Held { oldest: at(3), newest }, STAMP, START);
    exchange.handle_bytes(&welcome(10), START);
    // No new record is ever written there, so none can collide; the spool moves on to its next epoch.
    assert_eq!(exchange.poll_want().unwrap().from, at(10));
    exchange.handle_read(&[], newest, START);
    assert_eq!(exchange.poll_want().unwrap().from, newest);
}

#[test]
fn silence_after_the_hello_ends_the_connection_after_10_s() {
    let mut exchange = greeting(0, 0);
    assert_eq!(exchange.poll_timeout(), Some((START + secs(10), "hello reply")));
    exchange.handle_timeout(START + secs(9));
    assert_eq!(events(&mut exchange), []);
    exchange.handle_timeout(START + secs(10));
    assert_eq!(events(&mut exchange), [Event::Close(Cause::HelloTimeout)]);
}

#[test]
fn idle_link_has_no_deadline() {
    let mut exchange = flowing(0, 0);
    exchange.handle_read(&[], at(0), START);
    assert_eq!(exchange.poll_timeout(), None);
    assert_eq!(exchange.poll_want(), None, "the spool said that there is nothing more");
    exchange.handle_appended();
    assert_eq!(exchange.poll_want().unwrap().from, at(0));
}

#[test]
fn records_in_flight_without_ack_progress_end_the_connection_after_30_s() {
    let mut exchange = flowing(0, 4);
    exchange.handle_read(&records(EPOCH, 0..4), at(4), START + secs(5));
    assert_eq!(exchange.poll_timeout(), Some((START + secs(35), "ack progress")));
    // Half of them acknowledged: 30 s from there.
    exchange.handle_bytes(&ack_frame(2), START + secs(20));
    assert_eq!(exchange.poll_timeout(), Some((START + secs(50), "ack progress")));
    // A repetition is no progress.
    exchange.handle_bytes(&ack_frame(2), START + secs(40));
    assert_eq!(exchange.counters().acks_stale, 1);
    events(&mut exchange);
    exchange.handle_timeout(START + secs(50));
    assert_eq!(events(&mut exchange), [Event::Close(Cause::NoProgress)]);
}

#[test]
fn watchdog_counts_from_the_send_and_not_from_a_quiet_hour_before() {
    let mut exchange = flowing(0, 1);
    exchange.handle_read(&records(EPOCH, 0..1), at(1), START + secs(3600));
    exchange.handle_timeout(START + secs(3601));
    assert_eq!(events(&mut exchange), []);
}

#[test]
fn window_is_never_exceeded_and_opens_with_acks() {
    let mut exchange = flowing(0, 1_000_000);
    let mut next = 0u32;
    let mut in_flight = 0;
    while let Some(want) = exchange.poll_want() {
        assert!(want.bytes_max >= FRAME_BYTES_MAX, "any record must fit");
        let run = records(EPOCH, next..next + 50);
        assert!(run.len() <= want.bytes_max);
        next += 50;
        in_flight += exchange.handle_read(&run, at(next), START);
    }
    let window = Limits::default().window_bytes;
    assert!(in_flight <= window && in_flight > window - FRAME_BYTES_MAX, "{in_flight}");
    exchange.handle_bytes(&ack_frame(next), START);
    assert_eq!(events(&mut exchange), [Event::Acknowledged(ack(next))]);
    assert_eq!(exchange.poll_want().unwrap().from, at(next));
}

#[test]
fn ack_of_a_record_never_sent_ends_the_connection() {
    let mut exchange = flowing(0, 9);
    exchange.handle_read(&records(EPOCH, 0..4), at(4), START);
    exchange.handle_bytes(&ack_frame(5), START);
    let violation = Violation::AckAhead { ack: ack(5), sent: Sequence(4) };
    assert_eq!(events(&mut exchange), [Event::Close(Cause::Violation(violation))]);
}

#[test]
fn acks_of_one_read_reach_the_spool_as_one() {
    let mut exchange = flowing(0, 9);
    exchange.handle_read(&records(EPOCH, 0..9), at(9), START);
    let bytes: Vec<u8> = [2, 5, 5, 4, 9].into_iter().flat_map(ack_frame).collect();
    exchange.handle_bytes(&bytes, START);
    assert_eq!(events(&mut exchange), [Event::Acknowledged(ack(9))]);
    assert_eq!(exchange.counters().acks_stale, 2, "the second 5, and 4");
}

#[test]
fn epochs_in_one_run_are_acknowledged_apart() {
    let mut exchange = flowing(0, 2);
    let later = Epoch(1);
    let mut run = records(EPOCH, 0..2);
    run.extend(records(later, 0..3));
    exchange.handle_read(&run, Position { epoch: later, sequence: Sequence(3) }, START);
    exchange.handle_bytes(&ack_frame(2), START);
    let last = Ack { epoch: later, next: Sequence(3) };
    exchange.handle_bytes(&link(&Message::Ack(last)), START);
    assert_eq!(events(&mut exchange), [Event::Acknowledged(ack(2)), Event::Acknowledged(last)]);
    assert_eq!(exchange.poll_timeout(), None, "nothing in flight any more");
}

#[test]
fn spool_that_yields_damaged_bytes_is_cut_there_and_the_link_lives() {
    let mut exchange = flowing(0, 9);
    let mut run = records(EPOCH, 0..3);
    let good = run.len() / 3 * 2;
    run[good + HEADER_BYTES] ^= 1;
    assert_eq!(exchange.handle_read(&run, at(3), START), good);
    assert_eq!(exchange.counters().reads_damaged, 1);
    assert_eq!(exchange.poll_want().unwrap().from, at(3));
    let hello_in_spool = welcome(0);
    assert_eq!(exchange.handle_read(&hello_in_spool, at(4), START), 0, "not a record");
}

#[test]
fn each_refusal_is_told_apart_and_who_this_is_is_asked_again_in_hours() {
    let hours = |hours: u64| secs(hours * 3600);
    let table = [
        (RefuseReason::Busy, secs(1), "no room now"),
        (RefuseReason::EndpointMismatch, hours(2), "identity.endpoint"),
        (RefuseReason::WireVersion, secs(60), "upgrade the collector"),
        (RefuseReason::NoHello, secs(60), "no hello"),
        (RefuseReason::Revoked, hours(2), "was revoked, enrol anew"),
        (RefuseReason::Expired, hours(2), "enroll --force"),
        (RefuseReason::Cloned, hours(2), "enrol this one anew"),
        (RefuseReason::InUse, secs(1), "trying again later"),
        (RefuseReason::UnknownEndpoint, hours(2), "that it enrolled"),
    ];
    for (reason, pause_max, advice) in table {
        let mut exchange = greeting(0, 0);
        exchange.handle_bytes(&refused(reason), START);
        let cause = close_cause(&mut exchange).unwrap();
        let text = cause.to_string();
        assert!(text.contains(advice) && text.contains("because"), "{text}");
        assert!(!text.contains('\n') && !text.ends_with('.'), "{text}");
        assert_eq!(pause_after(&mut exchange, START).as_secs(), pause_max.as_secs());
    }
}

#[test]
fn endpoint_that_stays_refused_asks_less_and_less_and_never_within_the_hour() {
    let mut exchange = greeting(0, 0);
    for (least, most) in [(1, 2), (2, 4), (3, 6), (3, 6)] {
        exchange.handle_bytes(&refused(RefuseReason::Revoked), START);
        events(&mut exchange);
        let random = if most == 4 { u64::MAX } else { 0 };
        exchange.handle_disconnected(random, START);
        let (until, _) = exchange.poll_timeout().unwrap();
        let expected = if most == 4 { most } else { least };
        assert_eq!(until.since(START).as_secs_f64().round() as u64, expected * 3600);
        exchange.handle_timeout(until);
        exchange.handle_connected(Held { oldest: at(0), newest: at(0) }, STAMP, START);
        exchange.poll_transmit();
        events(&mut exchange);
    }
    // Another identity is heard, and lost again: the usual pause.
    exchange.handle_bytes(&welcome(0), START);
    assert_eq!(pause_after(&mut exchange, START).as_secs(), 1);
}

#[test]
fn identity_that_is_put_in_force_while_waiting_connects_at_once() {
    let mut exchange = greeting(0, 0);
    exchange.handle_bytes(&refused(RefuseReason::Cloned), START);
    events(&mut exchange);
    exchange.handle_disconnected(0, START);
    exchange.handle_identity(START + secs(7));
    assert_eq!(exchange.poll_timeout(), Some((START + secs(7), "connect")));
}

#[test]
fn request_for_a_certificate_travels_between_records_one_at_a_time() {
    let mut exchange = flowing(0, 9);
    exchange.handle_read(&records(EPOCH, 0..4), at(4), START);
    assert!(exchange.handle_renewal(csr(), START));
    assert!(!exchange.handle_renewal(csr(), START), "one at a time");
    let request = Message::RenewRequest(RenewRequest { csr: csr() });
    assert_eq!(exchange.poll_transmit(), Some(link(&request)));
    assert!(exchange.poll_want().is_some(), "records go on");
    exchange.handle_bytes(&renewed(), START);
    exchange.handle_bytes(&ack_frame(4), START);
    let Message::RenewReply(reply) = renew_reply() else { unreachable!() };
    let expected = [Event::Renewed(Some(Box::new(reply))), Event::Acknowledged(ack(4))];
    assert_eq!(events(&mut exchange), expected);
    assert!(exchange.handle_renewal(csr(), START), "the next one");
}

#[test]
fn answer_that_nobody_asked_for_is_a_violation() {
    let violation = Cause::Violation(Violation::Unexpected { kind: kind::RENEW_REPLY });
    let mut unasked = flowing(0, 0);
    unasked.handle_bytes(&renewed(), START);
    assert_eq!(close_cause(&mut unasked), Some(violation.clone()));
    // Asked, and not sent yet.
    let mut early = flowing(0, 0);
    early.handle_renewal(csr(), START);
    early.handle_bytes(&renewed(), START);
    assert_eq!(close_cause(&mut early), Some(violation));
}

#[test]
fn answer_of_a_later_version_is_a_refusal() {
    let mut exchange = flowing(0, 0);
    exchange.handle_renewal(csr(), START);
    exchange.poll_transmit();
    exchange.handle_bytes(&raw_frame(kind::RENEW_REPLY, &[1, 77]), START);
    assert_eq!(events(&mut exchange), [Event::Renewed(None)]);
}

#[test]
fn request_without_an_answer_ends_the_connection_after_30_s() {
    let mut exchange = flowing(0, 0);
    exchange.handle_renewal(csr(), START);
    exchange.poll_transmit();
    assert_eq!(exchange.poll_timeout(), Some((START + secs(30), "renew reply")));
    exchange.handle_timeout(START + secs(30));
    assert_eq!(close_cause(&mut exchange), Some(Cause::RenewTimeout));
}

#[test]
fn expired_certificate_is_renewed_first_and_nothing_else_travels() {
    let mut exchange = greeting(0, 9);
    exchange.handle_bytes(&renew_first(), START);
    assert_eq!(events(&mut exchange), [Event::RenewFirst { wall_us: 5 }]);
    assert_eq!(exchange.poll_want(), None);
    assert!(exchange.handle_renewal(csr(), START));
    exchange.poll_transmit().unwrap();
    exchange.handle_bytes(&renewed(), START);
    assert!(matches!(events(&mut exchange)[..], [Event::Renewed(Some(_))]));
    exchange.handle_identity(START);
    assert_eq!(events(&mut exchange), [Event::Close(Cause::NewIdentity)]);
    exchange.handle_disconnected(u64::MAX, START);
    assert_eq!(exchange.poll_timeout(), Some((START, "connect")), "at once");
    // A collector that asks for the next renewal, and the next, does not get them at once.
    reconnect(&mut exchange, START);
    exchange.handle_connected(Held { oldest: at(0), newest: at(9) }, STAMP, START);
    exchange.handle_bytes(&renew_first(), START);
    exchange.handle_identity(START);
    assert_eq!(pause_after(&mut exchange, START).as_secs(), 1);
}

#[test]
fn renewal_that_cannot_be_is_tried_again_soon_or_in_hours() {
    for (why, seconds) in [(NoRenewal::Later, 1), (NoRenewal::Unable, 2 * 3600)] {
        let mut exchange = greeting(0, 0);
        exchange.handle_bytes(&renew_first(), START);
        exchange.handle_no_renewal(why, START);
        assert_eq!(close_cause(&mut exchange), Some(Cause::NotRenewed));
        assert_eq!(pause_after(&mut exchange, START).as_secs(), seconds);
    }
    // On a connection that works it is no reason to end it.
    let mut exchange = flowing(0, 0);
    exchange.handle_no_renewal(NoRenewal::Unable, START);
    assert_eq!(events(&mut exchange), []);
}

#[test]
fn connection_is_left_for_another_identity_once_its_records_are_acknowledged() {
    let mut exchange = flowing(0, 9);
    exchange.handle_read(&records(EPOCH, 0..4), at(4), START);
    exchange.handle_identity(START);
    assert_eq!((exchange.poll_want(), events(&mut exchange)), (None, vec![]));
    assert_eq!(exchange.poll_timeout(), Some((START + secs(5), "leave")));
    exchange.handle_bytes(&ack_frame(4), START);
    assert_eq!(
        events(&mut exchange),
        [Event::Acknowledged(ack(4)), Event::Close(Cause::NewIdentity)]
    );
    exchange.handle_disconnected(u64::MAX, START);
    assert_eq!(exchange.poll_timeout(), Some((START, "connect")));
    // Nothing in flight: at once; no ack: after 5 s.
    let mut idle = flowing(0, 0);
    idle.handle_identity(START);
    assert_eq!(close_cause(&mut idle), Some(Cause::NewIdentity));
    let mut silent = flowing(0, 9);
    silent.handle_read(&records(EPOCH, 0..4), at(4), START);
    silent.handle_identity(START);
    silent.handle_timeout(START + secs(5));
    assert_eq!(close_cause(&mut silent), Some(Cause::NewIdentity));
}

fn csr() -> Der {
    Der::from_slice(b"a signing request").unwrap()
}

fn renew_reply() -> Message {
    Message::RenewReply(RenewReply::Renewed { certificate: csr() })
}

fn renewed() -> Vec<u8> {
    link(&renew_reply())
}

fn renew_first() -> Vec<u8> {
    let collector_version = "0.1.0".try_into().unwrap();
    link(&Message::HelloReply(HelloReply::RenewFirst { collector_version, wall_us: 5 }))
}

#[test]
fn refusal_of_a_later_version_is_still_a_refusal() {
    // Variant 1 of HelloReply (Refused) with reason 77, which version 1 does not know, and an empty detail.
    let mut exchange = greeting(0, 0);
    exchange.handle_bytes(&raw_frame(kind::HELLO_REPLY, &[1, 77, 0]), START);
    let cause = close_cause(&mut exchange).unwrap();
    assert!(matches!(cause, Cause::Refused { reason: None, .. }), "{cause:?}");
}

#[test]
fn frames_of_later_versions_are_skipped_and_counted() {
    let mut exchange = flowing(0, 4);
    exchange.handle_read(&records(EPOCH, 0..4), at(4), START);
    exchange.handle_bytes(&raw_frame(0x0e, b"new"), START);
    exchange.handle_bytes(&raw_frame(kind::CONTROL, &[99]), START);
    exchange.handle_bytes(&ack_frame(4), START);
    assert_eq!(events(&mut exchange), [Event::Acknowledged(ack(4))]);
    assert_eq!(exchange.counters().frames_skipped, 2);
}

#[test]
fn every_breach_of_the_wire_ends_the_connection_with_its_name() {
    let hello = {
        let mut exchange = Exchange::new(ENDPOINT, Limits::default(), START);
        exchange.handle_timeout(START);
        exchange.handle_connected(Held { oldest: at(0), newest: at(0) }, STAMP, START);
        exchange.poll_transmit().unwrap()
    };
    let unexpected = |kind| Violation::Unexpected { kind };
    let wire_2 = link(&Message::HelloReply(HelloReply::Welcome {
        wire: 2,
        collector_version: heapless::String::new(),
        next: Sequence(0),
        wall_us: 0,
    }));
    let http = u16::from_le_bytes(*b"HT");
    let mut oversize = vec![b'R', b'T', 1, kind::ACK, 0, 0xff, 0xff];
    oversize.resize(HEADER_BYTES, 0);
    let before_welcome = [
        (ack_frame(0), unexpected(kind::ACK)),
        (control(Control::SelfTest), unexpected(kind::CONTROL)),
        (hello.clone(), unexpected(kind::HELLO)),
        (records(EPOCH, 0..1), unexpected(kind::CALL_CLOSED)),
        (wire_2, Violation::WireVersion { found: 2 }),
        (raw_frame(kind::ACK, &[0x80]), Violation::Unreadable { kind: kind::ACK }),
        (b"HTTP/1.1 400".to_vec(), Violation::Frame(DecodeError::Magic { found: http })),
        (vec![b'R', b'T', 9], Violation::Frame(DecodeError::Version { found: 9 })),
        (oversize.clone(), Violation::Frame(DecodeError::TooLong { length: 65_535 })),
    ];
    for (bytes, violation) in before_welcome {
        let mut exchange = greeting(0, 0);
        // Foreign bytes may end in the middle of what would be a header.
        let padded = [bytes, vec![0; HEADER_BYTES]].concat();
        exchange.handle_bytes(&padded, START);
        assert_eq!(close_cause(&mut exchange), Some(Cause::Violation(violation)));
    }
    let after_welcome = [
        (welcome(0), unexpected(kind::HELLO_REPLY)),
        (hello, unexpected(kind::HELLO)),
        (raw_frame(kind::ACK, &[0x80]), Violation::Unreadable { kind: kind::ACK }),
        (oversize, Violation::Frame(DecodeError::TooLong { length: 65_535 })),
    ];
    for (bytes, violation) in after_welcome {
        let mut exchange = flowing(0, 0);
        exchange.handle_bytes(&bytes, START);
        assert_eq!(close_cause(&mut exchange), Some(Cause::Violation(violation)));
        exchange.handle_bytes(&ack_frame(0), START);
        assert_eq!(events(&mut exchange), [], "deaf once closed");
    }
}

#[test]
fn departing_collector_may_acknowledge_what_it_has_and_gets_no_more() {
    let mut exchange = flowing(0, 9);
    exchange.handle_read(&records(EPOCH, 0..4), at(4), START);
    exchange.handle_bytes(&control(Control::GoingAway), START);
    assert_eq!(exchange.poll_want(), None);
    assert_eq!(exchange.poll_timeout(), Some((START + secs(5), "leave")));
    exchange.handle_bytes(&ack_frame(4), START);
    assert_eq!(
        events(&mut exchange),
        [Event::Acknowledged(ack(4)), Event::Close(Cause::GoingAway)]
    );
}

#[test]
fn departing_collector_that_stays_silent_is_left_after_5_s() {
    let mut exchange = flowing(0, 9);
    exchange.handle_read(&records(EPOCH, 0..4), at(4), START);
    exchange.handle_bytes(&control(Control::GoingAway), START);
    exchange.handle_bytes(&control(Control::GoingAway), START + secs(4));
    exchange.handle_timeout(START + secs(5));
    assert_eq!(close_cause(&mut exchange), Some(Cause::GoingAway));
}

#[test]
fn thousand_requests_for_a_self_test_are_one() {
    let mut exchange = flowing(0, 0);
    for _ in 0..1000 {
        exchange.handle_bytes(&control(Control::SelfTest), START);
    }
    assert_eq!(events(&mut exchange), [Event::Requested(Control::SelfTest)]);
}

#[test]
fn pauses_grow_to_the_ceiling_while_nothing_answers() {
    let mut exchange = Exchange::new(ENDPOINT, Limits::default(), START);
    let pauses: Vec<u64> = (0..8)
        .map(|_| {
            reconnect(&mut exchange, START);
            pause_after(&mut exchange, START).as_secs()
        })
        .collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn welcome_alone_does_not_shorten_the_pause_but_an_ack_does() {
    let mut exchange = flowing(0, 4);
    // A collector that greets and falls over: 1 s, 2 s, 4 s.
    for seconds in [1, 2, 4] {
        assert_eq!(pause_after(&mut exchange, START).as_secs(), seconds);
        reconnect(&mut exchange, START);
        exchange.handle_connected(Held { oldest: at(0), newest: at(4) }, STAMP, START);
        exchange.handle_bytes(&welcome(0), START);
    }
    exchange.handle_read(&records(EPOCH, 0..4), at(4), START);
    exchange.handle_bytes(&ack_frame(1), START);
    assert_eq!(pause_after(&mut exchange, START).as_secs(), 1);
}

#[test]
fn link_that_held_for_the_ceiling_has_proven_itself_without_acks() {
    let mut exchange = flowing(0, 0);
    assert_eq!(pause_after(&mut exchange, START).as_secs(), 1);
    reconnect(&mut exchange, START);
    exchange.handle_connected(Held { oldest: at(0), newest: at(0) }, STAMP, START);
    exchange.handle_bytes(&welcome(0), START);
    assert_eq!(pause_after(&mut exchange, START + secs(60)).as_secs(), 1);
}

#[test]
fn what_was_in_flight_is_wanted_again_after_a_break() {
    let mut exchange = flowing(0, 9);
    exchange.handle_read(&records(EPOCH, 0..9), at(9), START);
    exchange.handle_bytes(&ack_frame(4), START);
    exchange.handle_disconnected(0, START);
    exchange.handle_timeout(START);
    assert_eq!(events(&mut exchange), [Event::Acknowledged(ack(4)), Event::Connect]);
    exchange.handle_connected(Held { oldest: at(4), newest: at(9) }, STAMP, START);
    exchange.handle_bytes(&welcome(4), START);
    assert_eq!(exchange.poll_want().unwrap().from, at(4));
}

#[test]
fn half_a_frame_of_a_dead_connection_does_not_spoil_the_next() {
    let mut exchange = flowing(0, 0);
    exchange.handle_bytes(&ack_frame(0)[..7], START);
    exchange.handle_disconnected(0, START);
    exchange.handle_timeout(START);
    exchange.handle_connected(Held { oldest: at(0), newest: at(0) }, STAMP, START);
    exchange.handle_bytes(&welcome(0), START);
    assert_eq!(events(&mut exchange), [Event::Connect, welcomed(0)]);
}

#[test]
fn end_waits_for_the_last_acks_and_not_longer_than_2_s() {
    let mut exchange = flowing(0, 4);
    exchange.handle_shutdown(START);
    assert!(exchange.poll_want().is_some(), "what is readable still goes out");
    exchange.handle_read(&records(EPOCH, 0..4), at(4), START);
    exchange.handle_read(&[], at(4), START);
    assert_eq!(events(&mut exchange), []);
    assert_eq!(exchange.poll_timeout(), Some((START + secs(2), "flush")));
    exchange.handle_bytes(&ack_frame(3), START + secs(1));
    assert_eq!(events(&mut exchange), [Event::Acknowledged(ack(3))]);
    exchange.handle_timeout(START + secs(2));
    assert_eq!(events(&mut exchange), [Event::Close(Cause::Shutdown)]);
    exchange.handle_disconnected(0, START + secs(2));
    assert!(exchange.is_finished());
    assert_eq!(exchange.poll_timeout(), None);
}

#[test]
fn end_waits_for_the_answer_to_a_renewal_and_not_longer_than_2_s() {
    let asking = || {
        let mut exchange = flowing(0, 0);
        exchange.handle_read(&[], at(0), START);
        assert!(exchange.handle_renewal(csr(), START));
        assert!(exchange.poll_transmit().is_some(), "the request leaves");
        exchange.handle_shutdown(START);
        exchange.handle_read(&[], at(0), START);
        assert_eq!(events(&mut exchange), [], "it waits");
        exchange
    };
    let mut answered = asking();
    answered.handle_bytes(&renewed(), START + secs(1));
    let Message::RenewReply(reply) = renew_reply() else { unreachable!() };
    assert_eq!(
        events(&mut answered),
        [Event::Renewed(Some(Box::new(reply))), Event::Close(Cause::Shutdown)]
    );
    let mut unanswered = asking();
    unanswered.handle_timeout(START + secs(2));
    assert_eq!(events(&mut unanswered), [Event::Close(Cause::Shutdown)]);
}

#[test]
fn end_is_immediate_where_nothing_is_left_or_nobody_is_there() {
    let mut caught_up = flowing(0, 0);
    caught_up.handle_read(&[], at(0), START);
    caught_up.handle_shutdown(START);
    assert!(caught_up.poll_want().is_some(), "an append may not have been told yet");
    caught_up.handle_read(&[], at(0), START);
    assert_eq!(events(&mut caught_up), [Event::Close(Cause::Shutdown)]);

    let mut waiting = flowing(0, 0);
    waiting.handle_disconnected(u64::MAX, START);
    waiting.handle_shutdown(START);
    assert!(waiting.is_finished());

    let mut connecting = Exchange::new(ENDPOINT, Limits::default(), START);
    connecting.handle_timeout(START);
    connecting.handle_shutdown(START);
    assert!(!connecting.is_finished());
    connecting.handle_timeout(START + secs(2));
    assert!(connecting.is_finished());
}

/// Breaks the link and returns the longest pause that may follow; a millisecond makes up for the open end.
fn pause_after(exchange: &mut Exchange, now: Moment) -> Duration {
    exchange.handle_disconnected(u64::MAX, now);
    exchange.poll_timeout().unwrap().0.since(now) + Duration::from_millis(1)
}

fn reconnect(exchange: &mut Exchange, now: Moment) {
    let (until, _) = exchange.poll_timeout().unwrap();
    exchange.handle_timeout(until.max(now));
    assert_eq!(events(exchange).last(), Some(&Event::Connect));
}

/// A link frame with any kind byte and body, its checksum valid.
pub(super) fn raw_frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![b'R', b'T', 1, kind, 0];
    frame.extend((body.len() as u16).to_le_bytes());
    frame.extend([0; 8]);
    let covered: Vec<u8> = frame.iter().chain(body).copied().collect();
    frame.extend(crc32c(&covered).to_le_bytes());
    frame.extend(body);
    frame
}

/// CRC-32C bit by bit, RFC 3720 appendix B.4.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 }
        })
    })
}
