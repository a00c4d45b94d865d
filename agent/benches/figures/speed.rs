//! Time: the media watch alone, and `analyze` as a whole process beside tshark on the same file.

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use roomtone_agent::media::{CALL_IDLE, Options, Watch};

use super::capture::{self, LOCAL};
use super::figure::Figure;

const PACKETS: usize = 1_000_000;
const ROUNDS: usize = 5;

/// Nanoseconds per packet of the media watch, datagrams ready in memory, intervals and summaries included.
pub(crate) fn media_watch() -> Vec<Figure> {
    let packets = capture::packets(PACKETS);
    let mut rounds: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let options = Options { local: vec![LOCAL], call_idle: CALL_IDLE, seed: 1 };
            let mut watch = Watch::new(options);
            let started = Instant::now();
            for packet in &packets {
                watch.handle_datagram(&packet.datagram());
                while let Some(event) = watch.poll_event() {
                    black_box(event);
                }
            }
            watch.finish();
            started.elapsed()
        })
        .collect();
    rounds.sort_unstable();
    let nanos = rounds[ROUNDS / 2].as_nanos() as f64 / PACKETS as f64;
    vec![Figure {
        name: "media watch, 500 streams",
        value: nanos,
        unit: "ns/packet",
        target: Some(120.0),
        peer: None,
        ratio: None,
    }]
}

/// Packets per CPU second of `analyze` and of `tshark -q -z rtp,streams`, in turns.
pub(crate) fn analyze_against_tshark(folder: &Path) -> Vec<Figure> {
    let file = folder.join("load.pcap");
    capture::write(&file, &capture::packets(PACKETS));
    let agent = env!("CARGO_BIN_EXE_roomtone-agent");
    let file = file.to_str().expect("the target folder has a plain name");
    let inferring = ["analyze", file, "--json"];
    let given = ["analyze", file, "--json", "--local", "10.1.0.1"];
    let tshark = ["-r", file, "-q", "-z", "rtp,streams", "-d", "udp.port==3478,rtp"];
    let (mut ours, mut ours_given, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS.min(3) {
        ours.extend(cpu_seconds(agent, &inferring));
        ours_given.extend(cpu_seconds(agent, &given));
        theirs.extend(cpu_seconds("tshark", &tshark));
    }
    let (Some(ours), Some(ours_given)) = (median(ours), median(ours_given)) else {
        println!("not run: analyze did not finish");
        return Vec::new();
    };
    let theirs = median(theirs);
    if theirs.is_none() {
        println!("peer not run: no tshark (apt-get install tshark)");
    }
    let figure = |name, seconds: f64, target| Figure {
        name,
        value: PACKETS as f64 / seconds,
        unit: "packets/CPU s",
        target,
        peer: theirs.map(|_| "tshark -q -z rtp,streams"),
        ratio: theirs.map(|theirs| theirs / seconds),
    };
    vec![
        figure("analyze, local side inferred (least ratio 20)", ours, Some(20.0)),
        figure("analyze --local (least ratio 20)", ours_given, Some(20.0)),
    ]
}

/// User and system seconds of one run, by the kernel's account of the finished child.
fn cpu_seconds(program: &str, arguments: &[&str]) -> Option<f64> {
    let before = children_seconds();
    let mut command = Command::new(program);
    // STUN's port, so that tshark decodes the load as the RTP that it is; root's warning on stderr is not ours to show.
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().ok()?;
    status.success().then(|| children_seconds() - before)
}

fn children_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // proc(5): cutime and cstime are fields 16 and 17, in clock ticks of 1/100 s; the second field may hold spaces.
    let behind_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<f64> =
        behind_name.split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    fields.get(13).zip(fields.get(14)).map_or(0.0, |(user, system)| (user + system) / 100.0)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
