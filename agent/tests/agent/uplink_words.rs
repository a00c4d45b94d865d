//! What speaks of now on the agent's side of the link: heartbeats, the effective configuration, and what the collector
//! sets.

use roomtone_agent::configuration::hash;
use roomtone_agent::uplink::cause::{Cause, Violation};
use roomtone_agent::uplink::exchange::{Event, Exchange, Held};
use roomtone_protocol::configuration::{
    Arrival, Configuration, ConfigurationState, EffectiveConfiguration, Outcome,
};
use roomtone_protocol::frame::{HEADER_BYTES, decode};
use roomtone_protocol::health::{ClockState, Health, LinkTransport, Troubles};
use roomtone_protocol::message::{Message, kind};
use roomtone_protocol::time::Stamp;

use super::uplink_exchange::{
    STAMP, START, at, close_cause, events, flowing, greeting, link, raw_frame, welcome,
};

fn configuration(text: &str) -> Configuration {
    Configuration { hash: hash(text), text: text.try_into().unwrap() }
}

fn health(running_s: u32) -> Health {
    Health {
        now: STAMP,
        interval_s: 60,
        running_s,
        resident_kib: 9_728,
        cpu_ms: 1_234,
        spool_bytes: 65_536,
        tap_received: 1_000_000,
        tap_dropped: 0,
        clock: ClockState::Synchronised,
        transport: LinkTransport::Quic,
        troubles: Troubles::default(),
        configuration: ConfigurationState {
            effective: hash("effective"),
            in_force: Some(hash("in force")),
            latest: Some(Arrival {
                hash: hash("in force"),
                outcome: Outcome::InForce,
                detail: "".try_into().unwrap(),
            }),
        },
    }
}

fn effective(text: &str) -> Box<EffectiveConfiguration> {
    Box::new(EffectiveConfiguration { hash: hash(text), text: text.try_into().unwrap() })
}

fn transmitted(exchange: &mut Exchange) -> Vec<Message> {
    std::iter::from_fn(|| exchange.poll_transmit())
        .map(|bytes| decode(&bytes).unwrap().0.message.unwrap())
        .collect()
}

#[test]
fn heartbeat_leaves_after_the_welcome_only_and_the_latest_wins() {
    let mut exchange = greeting(0, 0);
    exchange.handle_health(health(1));
    exchange.handle_effective(effective("a"));
    assert_eq!(exchange.poll_transmit(), None, "before the Welcome");
    exchange.handle_bytes(&welcome(0), START);
    assert_eq!(exchange.poll_transmit(), None, "what was said before is not kept");
    exchange.handle_health(health(2));
    exchange.handle_effective(effective("a"));
    exchange.handle_health(health(3));
    exchange.handle_effective(effective("b"));
    let expected = [Message::EffectiveConfiguration(*effective("b")), Message::Health(health(3))];
    assert_eq!(transmitted(&mut exchange), expected);
    assert_eq!(transmitted(&mut exchange), []);
}

#[test]
fn heartbeat_of_a_connection_that_broke_is_not_sent_on_the_next() {
    let mut exchange = flowing(0, 0);
    exchange.handle_health(health(1));
    exchange.handle_effective(effective("a"));
    exchange.handle_disconnected(0, START);
    exchange.handle_timeout(START);
    exchange.handle_connected(Held { oldest: at(0), newest: at(0) }, STAMP, START);
    assert!(matches!(transmitted(&mut exchange)[..], [Message::Hello(_)]));
    exchange.handle_bytes(&welcome(0), START);
    assert_eq!(exchange.poll_transmit(), None);
}

/// The header of 19 bytes; the stamp at most 8 + 6, interval, running, RSS 2 + 3 + 3, CPU and counters 3 + 3 + 4 + 1,
/// clock, transport, troubles 3, three hashes with their marks 8 + 9 + 9, outcome and detail 2.
#[test]
fn heartbeat_is_some_eighty_bytes() {
    let wall = Stamp { wall_us: 1_795_391_940_000_000, uptime_us: 86_400_000_000 };
    let bytes = link(&Message::Health(Health { now: wall, ..health(86_400) }));
    assert!(bytes.len() <= HEADER_BYTES + 70, "{}", bytes.len());
    println!("a heartbeat has {} bytes", bytes.len());
}

#[test]
fn configuration_is_handed_on_once_and_the_latest_wins() {
    let mut exchange = flowing(0, 0);
    let both = [configuration("a"), configuration("b")].map(Message::Configuration);
    exchange.handle_bytes(&both.map(|message| link(&message)).concat(), START);
    assert_eq!(events(&mut exchange), [Event::Configured(Box::new(configuration("b")))]);
    assert_eq!(exchange.counters().frames_skipped, 0);
}

#[test]
fn configuration_that_is_not_what_its_hash_says_is_skipped_and_counted() {
    let mut exchange = flowing(0, 0);
    let wrong = Configuration { hash: hash("b"), ..configuration("a") };
    exchange.handle_bytes(&link(&Message::Configuration(wrong)), START);
    // A text that is longer than a text may be: its length says 16,383 bytes.
    let unreadable = raw_frame(kind::CONFIGURATION, &[0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0x7f]);
    exchange.handle_bytes(&unreadable, START);
    assert_eq!((events(&mut exchange), exchange.counters().frames_skipped), (vec![], 2));
}

#[test]
fn configuration_before_the_welcome_is_a_violation() {
    let mut exchange = greeting(0, 0);
    exchange.handle_bytes(&link(&Message::Configuration(configuration("a"))), START);
    let violation = Violation::Unexpected { kind: kind::CONFIGURATION };
    assert_eq!(close_cause(&mut exchange), Some(Cause::Violation(violation)));
}
