//! The lists of endpoints with the widest and the wildest that peers can say.

use roomtone_protocol::configuration::{ConfigurationHash, Outcome};
use roomtone_protocol::health::Troubles;
use roomtone_protocol::id::EndpointId;
use unicode_width::UnicodeWidthStr;

use super::*;
use crate::fleet::heartbeat::Heard;
use crate::fleet::heartbeat::tests::health;
use crate::fleet::roster::{Sources, join, worst_first};

const NOW_US: u64 = 253_402_300_799_999_999;
const NAME: &str = "東京\u{1b}[31m\u{202e}会議室会議室会議室会議室会議室会議室会議室会議室";

fn heard(byte: u8, health: Option<Health>) -> Heard {
    Heard {
        endpoint: EndpointId([byte; 16]),
        name: NAME.to_owned(),
        site: NAME.to_owned(),
        agent_version: NAME.chars().take(10).collect(),
        connected_us: NOW_US,
        ended_us: None,
        heartbeat: health.map(|health| {
            let cpu = Some(CpuShare { part_us: u64::MAX, whole_us: 1 });
            Heartbeat { heard_us: NOW_US, health, cpu }
        }),
    }
}

fn absurd() -> Health {
    let mut health = health(u32::MAX, Some((ConfigurationHash([255; 8]), Outcome::RolledBack)));
    (health.resident_kib, health.cpu_ms, health.spool_bytes) = (u32::MAX, u64::MAX, u64::MAX);
    (health.tap_received, health.tap_dropped) = (u64::MAX, u64::MAX);
    health.troubles = Troubles(u32::MAX);
    health.interval_s = u16::MAX;
    let latest = health.configuration.latest.as_mut().unwrap();
    latest.detail = "\u{1b}[2J\u{202e}evil\r\n".repeat(7).as_str().try_into().unwrap();
    health
}

fn entries(heard: Vec<Heard>) -> Vec<Entry> {
    let (mut entries, _) = join(Sources { heard, ..Sources::default() }, NOW_US);
    worst_first(&mut entries);
    entries
}

#[test]
fn no_peer_steers_the_terminal_or_widens_the_table() {
    let list =
        entries(vec![heard(1, Some(absurd())), heard(2, None), heard(3, Some(health(5, None)))]);
    let texts = [endpoints(&list), endpoint(&list[0]), endpoint(&list[1]), endpoint(&list[2])];
    for line in texts[0].lines() {
        assert!(line.width() <= COLUMNS, "{} columns: {line}", line.width());
    }
    for text in texts {
        let is_plain = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
        assert!(text.chars().all(is_plain), "{text:?}");
    }
}

#[test]
fn worst_is_first_and_the_last_line_sums_up() {
    let mut silent = heard(1, None);
    silent.ended_us = Some(NOW_US);
    let list = entries(vec![heard(3, None), heard(2, Some(absurd())), silent]);
    let text = endpoints(&list);
    let states: Vec<_> =
        text.lines().skip(1).take(3).map(|line| line.contains(" degraded ")).collect();
    assert_eq!(states, [false, true, false], "{text}");
    assert!(text.ends_with("\n\n3 endpoints: 1 up, 1 degraded, 1 silent\n"), "{text}");
    assert_eq!(summary(&[]), "no endpoints");
}

#[test]
fn complaints_of_a_large_fleet_are_bounded() {
    let many = (0..200).map(|it| heard(it, Some(absurd()))).collect();
    let text = endpoints(&entries(many));
    assert!(text.contains("\n(150 more, see --json)\n"), "{text}");
}

#[test]
fn sizes_fit_their_column() {
    for (bytes, text) in [
        (0, "0"),
        (1_023, "1023"),
        (1_024, "1.0K"),
        (9_728_000, "9.2M"),
        (u64::from(u32::MAX) * 1_024, "4096.0G"),
        (u64::MAX, "> 9T"),
    ] {
        assert_eq!(size(bytes), text);
    }
}

#[test]
fn json_has_the_records_and_the_health_of_each() {
    let list = entries(vec![heard(2, Some(absurd()))]);
    let json = serde_json::to_value(Endpoints::new(&list)).unwrap();
    let one = &json["endpoints"][0];
    assert_eq!(one["id"], list[0].endpoint.to_string());
    assert_eq!((&one["records"], &one["lastSeen"]), (&0.into(), &serde_json::Value::Null));
    assert_eq!((&one["state"], &one["name"]), (&"degraded".into(), &NAME.into()));
    assert_eq!(one["health"]["cpuMs"], u64::MAX);
    assert_eq!(one["health"]["latest"]["outcome"], "rolledBack");
    assert_eq!(json["counts"], serde_json::json!({ "degraded": 1 }));
    let shown = serde_json::to_value(Shown::new(&list[0])).unwrap();
    assert_eq!(shown["condition"]["why"].as_array().unwrap().len(), 9);
}
