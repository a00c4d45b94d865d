//! What the heartbeats of a large fleet cost a collector: taking them in, and writing a second's worth as one step.
//!
//! `cargo bench -p roomtone-collector --bench fleet_writer` prints one JSON line: 20,000 endpoints with a heartbeat a
//! minute are 333 a second; ten minutes of them.
// A bench may unwrap as a test may.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use roomtone_collector::fleet::book::{Book, Deed, FILE};
use roomtone_collector::fleet::live::{Arrival, Fleet, Presence};
use roomtone_collector::fleet::scope::Scope;
use roomtone_collector::fleet::session::Reported;
use roomtone_collector::fleet::settings::{self, Settings};
use roomtone_collector::ingest::downlink::Downlinks;
use roomtone_protocol::configuration::{Arrival as Came, ConfigurationState, Outcome};
use roomtone_protocol::health::{ClockState, Health, LinkTransport, Troubles};
use roomtone_protocol::id::EndpointId;
use roomtone_protocol::time::Stamp;

const ENDPOINTS: u32 = 20_000;
const INTERVAL_S: u32 = 60;
const SECONDS: u32 = 600;
const TEXT: &str = "[log]\nlevel = \"info\"\n";

fn main() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join(FILE);
    let (mut book, _) = Book::open_or_set_aside(&path).unwrap();
    let deed = Deed { percent: 100, who: String::new(), note: String::new(), now_us: 1 };
    book.revise(&Scope::Fleet, &deed, |_| Settings::parse(TEXT)).unwrap();
    let wall_us = || 1_795_391_940_000_000;
    let fleet = Arc::new(Fleet::new(book, Downlinks::default(), wall_us).unwrap());
    let start = Instant::now();
    let connected: Vec<Presence> = (0..ENDPOINTS).map(|it| connect(&fleet, it, start)).collect();
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    fleet.write().unwrap();
    let first = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let per_second = ENDPOINTS / INTERVAL_S;
    let (mut taking, mut writing, mut longest) = (0.0, 0.0, Duration::ZERO);
    for second in 0..SECONDS {
        // Bench time passes faster than an endpoint may report: its clock goes on as it says.
        let now = start + Duration::from_secs(second.into());
        let begun = cpu_seconds();
        for number in 0..per_second {
            let place = (second * per_second + number) % ENDPOINTS;
            connected[place as usize].handle_health(health(second), now);
        }
        taking += cpu_seconds() - begun;
        let (wall, begun) = (Instant::now(), cpu_seconds());
        fleet.write().unwrap();
        writing += cpu_seconds() - begun;
        longest = longest.max(wall.elapsed());
    }
    let rows = f64::from(per_second * SECONDS);
    assert_eq!(fleet.counts().reports as f64, rows, "every heartbeat was taken");
    let bytes: u64 = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    println!(
        "{{\"name\":\"fleet_writer\",\"endpoints\":{ENDPOINTS},\"rowsPerSecond\":{per_second},\
         \"cpuShareTaking\":{:.5},\"cpuShareWriting\":{:.5},\"rowsPerCpuSecond\":{:.0},\
         \"longestWriteMs\":{:.1},\"firstWriteOfAllMs\":{:.0},\"firstWriteCpuMs\":{:.0},\"bytes\":{bytes}}}",
        taking / f64::from(SECONDS),
        writing / f64::from(SECONDS),
        rows / writing,
        longest.as_secs_f64() * 1e3,
        first.0 * 1e3,
        first.1 * 1e3,
    );
}

fn connect(fleet: &Arc<Fleet>, number: u32, now: Instant) -> Presence {
    // As random as ids are, so that rows are written all over the file.
    let id = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let arrival = Arrival {
        endpoint: EndpointId(id.to_be_bytes()),
        name: format!("room-{number}"),
        site: "oslo".to_owned(),
        agent_version: "0.1.0".to_owned(),
        reported: Reported::Latest(settings::hash(TEXT)),
    };
    fleet.connect(arrival, now).unwrap()
}

fn health(second: u32) -> Health {
    let hash = settings::hash(TEXT);
    let latest = Came { hash, outcome: Outcome::InForce, detail: "".try_into().unwrap() };
    Health {
        now: Stamp { wall_us: 1_795_391_940_000_000, uptime_us: u64::from(second) * 1_000_000 },
        interval_s: INTERVAL_S as u16,
        running_s: second,
        resident_kib: 9_500 + second,
        cpu_ms: u64::from(second) * 2,
        spool_bytes: 4_096,
        tap_received: u64::from(second) * 100,
        tap_dropped: 0,
        clock: ClockState::Synchronised,
        transport: LinkTransport::Quic,
        troubles: Troubles::default(),
        configuration: ConfigurationState {
            effective: hash,
            in_force: Some(hash),
            latest: Some(latest),
        },
    }
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
