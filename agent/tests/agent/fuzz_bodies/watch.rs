//! What must hold for any traffic at any times: the watch's books balance, and each of its records survives its frame.

use std::net::SocketAddr;

use roomtone_agent::clock::Moment;
use roomtone_agent::media::context::{ContextChange, ContextNumber};
use roomtone_agent::media::{CALL_IDLE, Options, Watch};
use roomtone_agent::tap::Datagram;
use roomtone_protocol::call::CallPurpose;

use super::ledger::Ledger;

/// Steps of time, in nanoseconds: from one burst's spacing to the end of time.
const STEPS: [u64; 8] = [
    1_000,
    1_000_000,
    20_000_000,
    1_000_000_000,
    10_000_000_000,
    600_000_000_000,
    31_536_000_000_000_000,
    1 << 60,
];
const STARTS: [u64; 4] = [0, 1_795_305_600_000_000_000, i64::MAX as u64 - 1, u64::MAX - 60_000_000];

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        head
    }
}

struct World {
    watch: Watch,
    ledger: Ledger,
    now: u64,
}

impl World {
    /// Bit 7 goes backwards, bits 4 to 6 choose the unit, bits 0 to 3 how many of it.
    fn step(&mut self, time: u8) {
        let by = STEPS[usize::from(time >> 4 & 7)].saturating_mul(u64::from(time & 15));
        self.now = if time & 0x80 == 0 {
            self.now.saturating_add(by)
        } else {
            self.now.saturating_sub(by)
        };
    }

    /// Bits 0 and 1 choose the local side, bits 2 to 4 the remote one, bit 7 the direction.
    fn send(&mut self, path: u8, payload: &[u8], wire_bytes: u16) {
        let v4 = path & 1 == 0;
        let port = 40_000 + u16::from(path >> 2 & 7);
        let address = |host: u8| {
            let ip = if v4 {
                [192, 0, 2, host].into()
            } else {
                [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)].into()
            };
            SocketAddr::new(ip, port)
        };
        // Host 1 and 2 are the endpoint's own: with bit 1 both sides are.
        let local = address(1);
        let remote = address(if path & 2 == 0 { 9 } else { 2 });
        let (source, destination) =
            if path & 0x80 == 0 { (remote, local) } else { (local, remote) };
        let at = Moment::from_nanos(self.now);
        self.watch.handle_datagram(&Datagram {
            at,
            source,
            destination,
            dscp: path & 0x3f,
            payload,
            wire_bytes,
        });
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(event) = self.watch.poll_event() {
            self.ledger.handle(event);
        }
    }
}

/// Input: intervals per frame and start (1), then actions, each a kind, a step of time, and what the kind needs.
pub(crate) fn body(input: &[u8]) {
    let mut input = Input(input);
    let Some([head]) = input.take() else { return };
    let local = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"];
    let local = local.map(|ip| ip.parse().expect("an address")).to_vec();
    let mut world = World {
        watch: Watch::new(Options { local, call_idle: CALL_IDLE, seed: 1 }),
        ledger: Ledger::new(usize::from(head & 7)),
        now: STARTS[usize::from(head >> 6)],
    };
    while let Some([kind, time]) = input.take() {
        world.step(time);
        // The last five came later than most of the corpus.
        let kind = match kind {
            252.. => 6,
            251 => 7,
            _ => kind % 6,
        };
        if act(kind, &mut input, &mut world).is_none() {
            break;
        }
        if let Some((due, _)) = world.watch.poll_timeout() {
            assert!(due < Moment::from_nanos(u64::MAX));
        }
    }
    world.watch.finish();
    world.drain();
    world.ledger.finish();
}

fn act(kind: u8, input: &mut Input<'_>, world: &mut World) -> Option<()> {
    match kind {
        // Anything, cut anywhere.
        0 => {
            let [path, length, high, low] = input.take()?;
            let payload = input.bytes(usize::from(length));
            world.send(path, payload, u16::from_be_bytes([high, low]));
        }
        // A run of RTP packets, in ChannelData where bit 6 of the path says so.
        1 | 2 => {
            let [path, ssrc, payload_type, count, time, step] = input.take()?;
            let mut sequence = u16::from_be_bytes(input.take()?);
            let mut timestamp = u32::from_be_bytes(input.take()?);
            let ticks = u32::from(u16::from_be_bytes(input.take()?));
            for _ in 0..count % 32 {
                let mut packet = vec![0x80, payload_type];
                packet.extend(sequence.to_be_bytes());
                packet.extend(timestamp.to_be_bytes());
                packet.extend([0, 0, 0, ssrc]);
                let wire_bytes = 16 + u16::from(ssrc);
                if path & 0x40 != 0 {
                    let [high, low] = wire_bytes.to_be_bytes();
                    packet.splice(0..0, [0x40, 0, high, low]);
                    world.send(path, &packet, wire_bytes + 4);
                } else {
                    world.send(path, &packet, wire_bytes);
                }
                sequence = sequence.wrapping_add_signed(i16::from(step.cast_signed()));
                timestamp = timestamp.wrapping_add(ticks);
                world.step(time);
            }
        }
        // A STUN message, a rehearsal's where bit 6 of the path says so.
        3 => {
            let [path, high, low, transaction] = input.take()?;
            let mut message = vec![high & 0x3f, low, 0, 0, 0x21, 0x12, 0xa4, 0x42];
            message.extend([transaction; 12]);
            if path & 0x40 != 0 {
                message[3] = 24;
                message.extend([0x80, 0x22, 0x00, 18]);
                message.extend(b"roomtone rehearsal\0\0");
            }
            world.send(path, &message, message.len() as u16);
        }
        4 => {
            world.watch.handle_timeout(Moment::from_nanos(world.now));
            world.drain();
        }
        6 => {
            let [what] = input.take()?;
            let context = ContextNumber(u64::from(what & 0x3f));
            let change = match what >> 6 {
                0 => ContextChange::Began { context, purpose: CallPurpose::Meeting },
                1 => ContextChange::Began { context, purpose: CallPurpose::Rehearsal },
                _ => ContextChange::Ended { context },
            };
            world.watch.handle_context(change, Moment::from_nanos(world.now));
            world.drain();
        }
        // RTCP in the clear: a report on one stream, a sender's where bit 6 of the path says so.
        7 => {
            let [path, reporter, about, highest, last, delay] = input.take()?;
            let sender = [0x81c8_000c, reporter.into(), u32::from(last), u32::MAX, 0, 0, 0];
            let receiver = [0x81c9_0007, reporter.into()];
            let head = if path & 0x40 != 0 { &sender[..] } else { &receiver };
            // The middle of the NTP time that a sender report of the same `last` has.
            let last = u32::from(last) << 16 | 0xffff;
            let [about, highest, delay] = [about, highest, delay].map(u32::from);
            let block = [about, delay << 20, highest, highest << 24, last, delay << 8];
            let words = head.iter().chain(&block);
            let bytes: Vec<u8> = words.flat_map(|word| word.to_be_bytes()).collect();
            world.send(path, &bytes, bytes.len() as u16);
        }
        _ => {
            let total = u64::from(u16::from_be_bytes(input.take()?));
            world.watch.note_tap_dropped(total);
        }
    }
    Some(())
}
