//! The path watch's task: carries probes between the prober and whichever line the uplink has.
//!
//! It runs on the agent's one tokio thread. An answer's arrival is read off the clock as soon as that thread turns to
//! it, before anything else is done; what the thread did just then, such as a write to a slow disk, adds to the round
//! trip and to the jitter of that one probe. The collector's reading of the clock suffers likewise.

use roomtone_protocol::probe::{DATAGRAM_BYTES_MAX, Datagram};
use roomtone_protocol::record::Record;
use tokio::sync::{mpsc, watch};

use super::prober::{self, Circumstances, Prober, Target};
use crate::clock::Moment;
use crate::clock::system;
use crate::uplink::quic::Line;

/// Records on their way to the spool, at most: what ends with a connection at worst.
pub const RECORDS_MAX: usize = 16;

/// Probes until nobody tells the circumstances any more, then tells what is left. `beside_bytes` is what a round to
/// another target takes of the same budget.
pub async fn run(
    mut lines: watch::Receiver<Option<Line>>,
    mut circumstances: watch::Receiver<Circumstances>,
    records: mpsc::Sender<Record>,
    beside_bytes: u64,
) {
    let mut prober = Prober::new(*circumstances.borrow_and_update());
    let mut line: Option<Line> = None;
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    loop {
        attend(&mut prober, line.as_ref());
        if tell(&mut prober, &records).await.is_err() {
            return;
        }
        let now = system::now();
        let due = prober.poll_timeout(now).map(|(at, _)| at.since(now));
        tokio::select! {
            // In this order: what has arrived ages with each moment.
            biased;
            length = received(line.as_ref(), &mut buffer) => {
                let now = system::now();
                match length {
                    Some(length) => prober.handle_datagram(&buffer[..length], now),
                    None => {
                        line = None;
                        prober.handle_line_end(now);
                    }
                }
            }
            changed = lines.changed() => {
                if changed.is_err() {
                    break;
                }
                let next = lines.borrow_and_update().clone();
                line = take_up(&mut prober, line.as_ref(), next, beside_bytes);
            }
            changed = circumstances.changed() => {
                if changed.is_err() {
                    break;
                }
                let now = system::now();
                prober.handle_circumstances(*circumstances.borrow_and_update(), random(now), now);
            }
            () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {}
        }
    }
    note_figures(&mut prober, line.as_ref());
    prober.handle_line_end(system::now());
    // Where nobody takes them any more nobody wants them.
    let _ = tell(&mut prober, &records).await;
}

/// Ends what the line before was for, and begins with the next one.
fn take_up(
    prober: &mut Prober,
    before: Option<&Line>,
    next: Option<Line>,
    beside_bytes: u64,
) -> Option<Line> {
    let now = system::now();
    note_figures(prober, before);
    prober.handle_line_end(now);
    let next = next?;
    if !next.takes_probes() {
        tracing::info!("the collector takes no path probes, it is of an earlier version");
        return None;
    }
    let line = prober::Line {
        target: Target::Collector,
        head_bytes: next.head_bytes(),
        beside_bytes,
        figures: next.figures(),
    };
    prober.handle_line(line, random(now), now);
    Some(next)
}

/// Does what is due, and sends.
fn attend(prober: &mut Prober, line: Option<&Line>) {
    let Some(line) = line else { return };
    let now = system::now();
    note_figures(prober, Some(line));
    prober.handle_timeout(now);
    let Some(probe) = prober.poll_transmit(random(now), now) else { return };
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    let is_sent = Datagram::Probe(probe).encode(&mut buffer).is_ok_and(|length| {
        let left = system::now();
        let is_sent = line.send(&buffer[..length]);
        if is_sent {
            prober.handle_sent(left);
        }
        is_sent
    });
    if !is_sent {
        prober.handle_unsent();
    }
}

fn note_figures(prober: &mut Prober, line: Option<&Line>) {
    if let Some(line) = line {
        prober.handle_figures(line.figures());
    }
}

/// Hands on what there is to tell; an error where nobody takes it.
pub(super) async fn tell(
    prober: &mut Prober,
    records: &mpsc::Sender<Record>,
) -> Result<(), mpsc::error::SendError<Record>> {
    loop {
        let Some(record) = prober.poll_record(system::now_and_wall().1) else { return Ok(()) };
        let detail = record.detail;
        tracing::debug!(
            sent = record.sent,
            returned = detail.map(|it| it.returned),
            lost_up = record.lost_up,
            lost_down = record.lost_down,
            unplaced = detail.map(|it| it.unplaced),
            rtt_mean_dms = record.rtt_mean_dms,
            jitter_up_dms = record.jitter_up_dms,
            jitter_down_dms = record.jitter_down_dms,
            "an interval of the path"
        );
        records.send(Record::PathInterval(record)).await?;
    }
}

async fn received(line: Option<&Line>, buffer: &mut [u8]) -> Option<usize> {
    match line {
        Some(line) => line.receive(buffer).await,
        None => std::future::pending().await,
    }
}

/// Chance for spacings; a system without any has a clock that differs from its neighbours'.
pub(super) fn random(now: Moment) -> u64 {
    getrandom::u64().unwrap_or_else(|_| now.as_nanos().wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
