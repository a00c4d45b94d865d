//! A rehearsal over this machine's loopback interface: what the sockets saw is what the relay says
//! it did, to the packet.

use std::collections::BTreeSet;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use roomtone_agent::clock::Moment;
use roomtone_agent::rehearse::{
    Count, Ending, Options, Party, Probability, RehearseError, Report, SOFTWARE, Side, run_until,
};
use roomtone_agent::tap::Datagram;

/// A datagram as a tap would have kept it.
struct Seen {
    side: Side,
    at: Moment,
    source: SocketAddr,
    destination: SocketAddr,
    payload: Vec<u8>,
}

impl Seen {
    fn is_rtp(&self) -> bool {
        self.payload[0] == 0x90
    }

    fn is_request(&self) -> bool {
        self.payload[..2] == [0, 1]
    }

    fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.payload[2], self.payload[3]])
    }
}

/// What a receiver can tell of a voice stream by its sequence numbers.
#[derive(Debug, PartialEq, Eq)]
struct Measured {
    received: u64,
    duplicate: u64,
    reordered: u64,
    lost: u64,
}

fn measure(packets: &[&Seen]) -> Measured {
    // The extended sequence number, from the first packet's neighbourhood.
    let origin = i64::from(packets[0].sequence());
    let number = |seen: &&Seen| {
        let step = seen.sequence().wrapping_sub(packets[0].sequence());
        origin + i64::from(step.cast_signed())
    };
    let mut distinct = BTreeSet::new();
    let mut measured = Measured { received: 0, duplicate: 0, reordered: 0, lost: 0 };
    for seen in packets {
        let is_late = distinct.last().is_some_and(|highest| number(seen) < *highest);
        if distinct.insert(number(seen)) {
            measured.received += 1;
            measured.reordered += u64::from(is_late);
        } else {
            measured.duplicate += 1;
        }
    }
    let span = distinct.last().unwrap() - distinct.first().unwrap() + 1;
    measured.lost = u64::try_from(span).unwrap() - measured.received;
    measured
}

fn share(text: &str) -> Probability {
    text.parse().unwrap()
}

fn options(seconds: u32) -> Options {
    Options {
        seconds,
        delay: Duration::from_millis(40),
        jitter: None,
        loss: share("0%"),
        burst: None,
        duplicate: share("0%"),
        reorder: share("0%"),
        seed: Some(21),
        answer: None,
        call: None,
        json: false,
    }
}

async fn rehearse(options: Options) -> (Report, Vec<Seen>) {
    let mut seen = Vec::new();
    let report = run_until(options, pending, |side, datagram: Datagram<'_>| {
        assert_eq!(usize::from(datagram.wire_bytes), datagram.payload.len());
        seen.push(Seen {
            side,
            at: datagram.at,
            source: datagram.source,
            destination: datagram.destination,
            payload: datagram.payload.to_vec(),
        });
    })
    .await
    .unwrap();
    (report, seen)
}

fn sides(report: &Report) -> (&Party, &Party) {
    let [caller, callee] = report.parties.as_slice() else { panic!("two sides run here") };
    assert_eq!((caller.side, callee.side), (Side::Caller, Side::Callee));
    (caller, callee)
}

#[tokio::test]
async fn sockets_see_exactly_what_the_relay_did() {
    let (report, seen) = rehearse(Options {
        loss: share("10%"),
        burst: Some(2),
        duplicate: share("5%"),
        reorder: share("5%"),
        ..options(2)
    })
    .await;

    assert_eq!((report.ending, report.unaccounted()), (Ending::Complete, Some(0)));
    let (caller, callee) = sides(&report);
    assert_ne!(caller.ssrc, callee.ssrc);
    for (from, to) in [(caller, callee), (callee, caller)] {
        assert_eq!((from.unsent, from.foreign), (0, 0));
        assert_eq!(from.sent.rtp + from.frames_skipped, 100, "2 s of 20 ms");
        let done = &from.injected;
        assert_eq!(from.sent, done.handled);
        assert_eq!(
            to.received,
            Count {
                rtp: from.sent.rtp - done.lost.rtp + done.duplicated.rtp,
                stun: from.sent.stun - done.lost.stun + done.duplicated.stun,
            }
        );
        assert!(done.lost.rtp > 0 && done.duplicated.rtp > 0 && done.reordered.rtp > 0);

        let arrived: Vec<&Seen> = seen
            .iter()
            .filter(|seen| seen.is_rtp() && seen.side == to.side && seen.source == to.remote)
            .collect();
        assert_eq!(
            measure(&arrived),
            Measured {
                received: done.released.rtp - done.duplicated.rtp,
                duplicate: done.duplicated.rtp,
                reordered: done.reordered.rtp,
                lost: done.lost.rtp - done.rtp_lost_unseen,
            }
        );
    }
}

#[tokio::test]
async fn agent_at_the_sides_sees_two_whole_egress_legs() {
    let (report, seen) = rehearse(Options { loss: share("20%"), ..options(1) }).await;

    let (caller, callee) = sides(&report);
    for side in [caller, callee] {
        assert_eq!(side.local.ip().to_string(), "127.0.0.1");
        assert_eq!(side.remote.ip().to_string(), "127.0.77.2");
        let own: Vec<&Seen> = seen.iter().filter(|seen| seen.side == side.side).collect();
        assert!(own.iter().all(|seen| {
            (seen.source, seen.destination) == (side.local, side.remote)
                || (seen.source, seen.destination) == (side.remote, side.local)
        }));
        assert!(own.is_sorted_by_key(|seen| seen.at));
        let voice: Vec<&Seen> =
            own.iter().copied().filter(|seen| seen.is_rtp() && seen.source == side.local).collect();
        assert_eq!(
            measure(&voice),
            Measured { received: 50 - side.frames_skipped, duplicate: 0, reordered: 0, lost: 0 }
        );
        // Marker on the first packet only; the SSRC is the reported one on all.
        let markers: Vec<bool> = voice.iter().map(|seen| seen.payload[1] & 0x80 != 0).collect();
        assert!(markers[0] && !markers[1..].contains(&true));
        assert!(voice.iter().all(|seen| seen.payload[8..12] == side.ssrc.to_be_bytes()));
    }
    assert_ne!(caller.remote, callee.remote);
}

#[tokio::test]
async fn checks_are_labelled_and_their_round_trips_true() {
    let (report, seen) = rehearse(Options {
        delay: Duration::from_millis(30),
        jitter: Some(Duration::ZERO),
        ..options(1)
    })
    .await;

    let (caller, callee) = sides(&report);
    for (side, other) in [(caller, callee), (callee, caller)] {
        let requests: Vec<&Seen> =
            seen.iter().filter(|seen| seen.is_request() && seen.source == side.local).collect();
        assert_eq!(requests.len(), 1, "one at the start, the next after 2 s or more");
        // SOFTWARE is the first attribute: type, length 18, value.
        assert_eq!(requests[0].payload[20..24], [0x80, 0x22, 0, 18]);
        assert_eq!(&requests[0].payload[24..42], SOFTWARE.as_bytes());

        assert_eq!((side.checks.requests, side.checks.rtt.count), (1, 1));
        assert_eq!(other.checks.answered, 1);
        // 30 ms each way; how late a busy machine wakes up comes on top.
        assert!(side.checks.rtt.min >= Duration::from_millis(60), "{:?}", side.checks.rtt);
        let answer = seen
            .iter()
            .find(|seen| {
                seen.destination == side.local
                    && seen.payload[..2] == [1, 1]
                    && seen.payload[8..20] == requests[0].payload[8..20]
            })
            .unwrap();
        assert_eq!(answer.at.since(requests[0].at), side.checks.rtt.min);
    }
}

#[tokio::test]
async fn applied_delay_is_never_shorter_than_asked() {
    let (report, _) =
        rehearse(Options { jitter: Some(Duration::from_millis(10)), ..options(1) }).await;
    for side in &report.parties {
        assert!(side.injected.delay.min >= Duration::from_millis(30));
        assert_eq!(side.injected.delay.count, side.sent.total(), "nothing was lost");
    }
}

#[tokio::test]
async fn stop_ends_the_talk_in_order() {
    let (stop_now, stopped) = tokio::sync::oneshot::channel::<()>();
    let (mut stop_now, mut stopped) = (Some(stop_now), Some(stopped));
    let stop = async || match stopped.take() {
        Some(stopped) => {
            let _ = stopped.await;
        }
        None => pending().await,
    };
    let mut frames = 0;
    let report = run_until(options(3_600), stop, |side, datagram| {
        frames += u32::from(side == Side::Caller && datagram.payload[0] == 0x90);
        if frames == 10 {
            stop_now.take();
        }
    })
    .await
    .unwrap();

    assert_eq!((report.ending, report.unaccounted()), (Ending::Interrupted, Some(0)));
    let (caller, callee) = sides(&report);
    assert!(caller.sent.rtp < 3_600 * 50);
    assert_eq!(callee.received.rtp, caller.sent.rtp, "what was on its way still arrived");
}

#[tokio::test]
async fn report_reads_as_json() {
    let (report, _) = rehearse(options(1)).await;
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["seed"], 21);
    assert_eq!(json["ending"], "complete");
    assert_eq!(json["profile"]["delayMs"], 40.0);
    assert_eq!(json["profile"]["jitterMs"], 12.0);
    let caller = &json["parties"][0];
    assert_eq!(caller["side"], "caller");
    assert_eq!(caller["sent"]["rtp"], report.parties[0].sent.rtp);
    assert_eq!(caller["injected"]["rtpLostUnseen"], 0);
    assert_eq!(caller["checks"]["rtt"]["count"], 1);
}

#[tokio::test]
async fn port_in_use_is_one_clear_line() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = run_until(Options { answer: Some(address), ..options(1) }, pending, |_, _| {})
        .await
        .unwrap_err();
    assert!(matches!(error, RehearseError::Bind { .. }), "{error:?}");
    assert!(error.to_string().starts_with(&format!("cannot bind {address}: ")), "{error}");
}
