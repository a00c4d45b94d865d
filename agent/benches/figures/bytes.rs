//! Bytes on the wire: what a leg interval costs inside a frame of six, with and without what was heard of it.

use std::path::{Path, PathBuf};

use roomtone_agent::clock::WallOffset;
use roomtone_agent::media::{CALL_IDLE, Options, Watch};
use roomtone_agent::report::Recorder;
use roomtone_agent::tap::file::FileTap;
use roomtone_protocol::frame::encode_record;
use roomtone_protocol::id::{Epoch, RecordId, Sequence};
use roomtone_protocol::interval::LegIntervals;
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::record::Record;

use super::figure::Figure;

/// Whole frames of six intervals, headers and ids included, over every capture at hand.
pub(crate) fn per_leg_interval() -> Vec<Figure> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures");
    let names = [
        [
            "bytes per leg interval, rehearsal",
            "bytes per leg interval, rehearsal, with what was heard",
        ],
        [
            "bytes per leg interval, clean call",
            "bytes per leg interval, clean call, with what was heard",
        ],
        [
            "bytes per leg interval, wifi call",
            "bytes per leg interval, wifi call, with what was heard",
        ],
        [
            "bytes per leg interval, bursty call",
            "bytes per leg interval, bursty call, with what was heard",
        ],
        [
            "bytes per leg interval, delay steps",
            "bytes per leg interval, delay steps, with what was heard",
        ],
    ];
    let files = [
        (own.join("rehearsal.pcap"), "127.0.0.1"),
        (shared.join("clean.pcap"), "10.77.0.2"),
        (shared.join("wifi.pcap"), "10.77.0.2"),
        (shared.join("burst.pcap"), "10.77.0.2"),
        (shared.join("rttstep.pcap"), "10.77.0.2"),
    ];
    let figures = |(names, (file, local)): ([&'static str; 2], (PathBuf, &str))| {
        let bytes = bytes_per_interval(&file, local)?;
        // What was heard grows with the number of received audio streams, and has no target.
        let targets = [Some(25.0), None];
        let figure = |n: usize| Figure {
            name: names[n],
            value: bytes[n],
            unit: "bytes",
            target: targets[n],
            peer: None,
            ratio: None,
        };
        Some([0, 1].map(figure))
    };
    names.into_iter().zip(files).filter_map(figures).flatten().collect()
}

/// Without what was heard, and with it.
fn bytes_per_interval(file: &Path, local: &str) -> Option<[f64; 2]> {
    let mut tap = FileTap::open(file).ok()?;
    let options = Options { local: vec![local.parse().ok()?], call_idle: CALL_IDLE, seed: 1 };
    let mut watch = Watch::new(options);
    let mut recorder = Recorder::new();
    recorder.set_intervals_per_frame(6);
    let mut records = Vec::new();
    while let Ok(Some(datagram)) = tap.next() {
        watch.handle_datagram(&datagram);
        while let Some(event) = watch.poll_event() {
            recorder.handle(event, WallOffset::NONE, &mut records);
        }
    }
    // Whole frames of six only: the last one of a call is shorter.
    let mut buffer = [0; FRAME_BYTES_MAX];
    let (mut bytes, mut intervals) = ([0, 0], 0);
    for record in records {
        let Record::LegIntervals(frame) = record else { continue };
        if frame.pack.len() < 6 {
            continue;
        }
        intervals += frame.pack.len();
        let id = RecordId { epoch: Epoch(0x1234_5678), sequence: Sequence(1000) };
        let bare = LegIntervals { heard: None, ..frame.clone() };
        for (bytes, frame) in bytes.iter_mut().zip([bare, frame]) {
            *bytes += encode_record(id, Record::LegIntervals(frame), &mut buffer).ok()?;
        }
    }
    (intervals > 0).then(|| bytes.map(|bytes| bytes as f64 / intervals as f64))
}
