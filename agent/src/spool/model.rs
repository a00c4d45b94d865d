//! The spool against a slow model: random work on a disk that stops, forgets, fails and rots.
//!
//! The model is a collector that stores each record once, and a list of what was accepted. After every run it reads
//! the spool to its end and holds the promise against it: accepted = stored + reported lost.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;
use roomtone_protocol::ack::Ack;
use roomtone_protocol::device::{DeviceCause, DeviceEpisode, DeviceSide, EpisodeState};
use roomtone_protocol::frame;
use roomtone_protocol::id::{Epoch, Sequence};
use roomtone_protocol::message::Message;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

use super::crash_disk::{CrashDisk, Fault};
use super::engine::Engine;
use super::{Limits, Position, SpoolError};

/// Small, so that a run of some hundred records seals, sheds and rolls: segments of 8 KiB hold about 55 records.
pub(super) const SMALL: Limits =
    Limits { bytes_max: 64 << 10, headroom_bytes: 0, inodes_min: 0, segment_bytes: 8 << 10 };
pub(super) const NOW: Stamp = Stamp { wall_us: 1_000, uptime_us: 10 };

/// A record of about 150 bytes that is told by its serial number.
pub(super) fn record(serial: u64) -> Record {
    Record::DeviceEpisode(DeviceEpisode {
        episode: serial,
        call: None,
        device: "x".repeat(80).as_str().try_into().unwrap(),
        side: DeviceSide::Capture,
        cause: DeviceCause::Stalled,
        onset: NOW,
        bad_us: u64::MAX,
        state: EpisodeState::Open,
    })
}

type Id = (Epoch, u32);

/// A collector, and the memory of what it was promised.
#[derive(Debug, Default)]
pub(super) struct Collector {
    stored: BTreeMap<Id, Vec<u8>>,
    serials: BTreeMap<Id, u64>,
    lost: BTreeSet<Id>,
}

impl Collector {
    /// Takes frames as they were read, and checks that they may be what they are.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (frame, length) = frame::decode(bytes).expect("only whole frames are read");
            let id = (frame.header.id.epoch, frame.header.id.sequence.0);
            let whole = bytes[..length].to_vec();
            bytes = &bytes[length..];
            if let Some(before) = self.stored.get(&id) {
                assert_eq!(before, &whole, "record {id:?} was sent twice with different content");
                continue;
            }
            assert!(!self.lost.contains(&id), "record {id:?} was sent after it was reported lost");
            match frame.message {
                Some(Message::Record(Record::DeviceEpisode(episode))) => {
                    self.serials.insert(id, episode.episode);
                }
                Some(Message::Record(Record::LossReceipt(receipt))) => {
                    for sequence in receipt.first.0..=receipt.last.0 {
                        self.lost.insert((receipt.epoch, sequence));
                    }
                }
                other => panic!("{other:?} was never appended"),
            }
            self.stored.insert(id, whole);
        }
    }

    pub(super) fn serials(&self) -> Vec<u64> {
        self.serials.values().copied().collect()
    }

    /// How many records it has, receipts among them.
    pub(super) fn stored(&self) -> usize {
        self.stored.len()
    }

    pub(super) fn lost(&self) -> Vec<u32> {
        self.lost.iter().map(|id| id.1).collect()
    }
}

/// Reads to the end, acknowledging all of it; returns what came.
pub(super) fn drain(engine: &mut Engine<CrashDisk>, collector: &mut Collector) {
    let mut at = engine.oldest();
    loop {
        let mut bytes = Vec::new();
        let next = engine.read(at, &mut bytes, 1_000).unwrap();
        if next == at {
            break;
        }
        collector.take(&bytes);
        engine.acknowledge(Ack { epoch: next.epoch, next: next.sequence }).unwrap();
        at = next;
        // What was found lost while reading is reported behind the rest.
        engine.sync().unwrap();
    }
    // Damage to the very last record is reported only now.
    engine.sync().unwrap();
    let mut bytes = Vec::new();
    let next = engine.read(at, &mut bytes, 1_000).unwrap();
    collector.take(&bytes);
    if next != at {
        drain(engine, collector);
    }
}

#[derive(Debug, Clone)]
enum Action {
    Append(u8),
    Sync,
    Read {
        bytes_max: u16,
    },
    Acknowledge(Index),
    AcknowledgeTooMuch,
    Kill,
    CutPower,
    /// Stops at that call of what follows; then the machine comes back with or without its memory.
    StopAt {
        calls: u8,
        power: Index,
    },
    FailSyncs(u8),
    FailWrites(u8),
    Fill {
        room: u16,
    },
    Heal,
    Flip {
        file: Index,
        bit: Index,
    },
    Snatch(Index),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => (1..40u8).prop_map(Action::Append),
        6 => Just(Action::Sync),
        4 => any::<u16>().prop_map(|bytes_max| Action::Read { bytes_max }),
        4 => any::<Index>().prop_map(Action::Acknowledge),
        1 => Just(Action::AcknowledgeTooMuch),
        1 => Just(Action::Kill),
        2 => Just(Action::CutPower),
        4 => (1..60u8, any::<Index>()).prop_map(|(calls, power)| Action::StopAt { calls, power }),
        2 => (1..4u8).prop_map(Action::FailSyncs),
        2 => (1..4u8).prop_map(Action::FailWrites),
        1 => (0..9_000u16).prop_map(|room| Action::Fill { room }),
        3 => Just(Action::Heal),
        2 => any::<(Index, Index)>().prop_map(|(file, bit)| Action::Flip { file, bit }),
        1 => any::<Index>().prop_map(Action::Snatch),
    ]
}

struct World {
    disk: CrashDisk,
    engine: Option<Engine<CrashDisk>>,
    collector: Collector,
    /// Records that must arrive or be reported.
    owed: BTreeMap<Id, u64>,
    /// Records that were appended since the last sync.
    unsynced: BTreeMap<Id, u64>,
    /// Where the connection stands.
    at: Position,
    /// Whether anything was read on this connection.
    has_read: bool,
    serial: u64,
    power: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = CrashDisk::new(seed);
        let (engine, _) = Engine::open(disk.clone(), SMALL, NOW).unwrap();
        let at = engine.oldest();
        let (owed, unsynced) = (BTreeMap::new(), BTreeMap::new());
        let collector = Collector::default();
        let engine = Some(engine);
        Self {
            disk,
            engine,
            collector,
            owed,
            unsynced,
            at,
            has_read: false,
            serial: 0,
            power: false,
        }
    }

    fn engine(&mut self) -> &mut Engine<CrashDisk> {
        self.engine.as_mut().expect("the engine is only away while it is opened again")
    }

    fn files(&self, ending: &str) -> Vec<String> {
        let names = self.disk.names().into_iter();
        names.filter(|name| name.ends_with(ending) && !name.contains('/')).collect()
    }

    fn restart(&mut self, power: bool) {
        self.engine = None;
        if power {
            self.disk.cut_power();
            self.unsynced.clear();
        } else {
            self.disk.restart_process();
        }
        let (engine, _) = Engine::open(self.disk.clone(), SMALL, NOW).unwrap();
        self.at = engine.oldest();
        self.has_read = false;
        self.engine = Some(engine);
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Append(count) => (0..*count).for_each(|_| self.append()),
            Action::Sync => self.sync(),
            Action::Read { bytes_max } => {
                let (mut bytes, at) = (Vec::new(), self.at);
                if let Ok(next) = self.engine().read(at, &mut bytes, usize::from(*bytes_max)) {
                    assert_eq!(next == at, bytes.is_empty());
                    self.collector.take(&bytes);
                    // Before another epoch is begun, the collector acknowledges the last of this one.
                    if next.epoch != at.epoch {
                        let ack = Ack { epoch: at.epoch, next: at.sequence };
                        let _ = self.engine().acknowledge(ack);
                    }
                    self.at = next;
                    self.has_read |= !bytes.is_empty();
                } else {
                    assert!(bytes.is_empty());
                }
            }
            Action::Acknowledge(_) if !self.has_read => {}
            Action::Acknowledge(upto) => {
                let next = upto.index(self.at.sequence.0 as usize + 1) as u32;
                let ack = Ack { epoch: self.at.epoch, next: Sequence(next) };
                match self.engine().acknowledge(ack) {
                    Ok(()) | Err(SpoolError::Disk { .. }) => {}
                    Err(error) => panic!("what was read could not be acknowledged: {error}"),
                }
            }
            Action::AcknowledgeTooMuch => {
                let Position { epoch, sequence } = self.engine().position();
                let ack = Ack { epoch, next: Sequence(sequence.0 + 1) };
                let refused = self.engine().acknowledge(ack);
                assert!(matches!(refused, Err(SpoolError::AckBeyond { .. })), "{refused:?}");
            }
            Action::Kill => self.restart(false),
            Action::CutPower => self.restart(true),
            Action::StopAt { calls, power } => {
                self.power = power.index(2) == 1;
                self.disk.inject(Fault::StopAt(u64::from(*calls)));
            }
            Action::FailSyncs(count) => self.disk.inject(Fault::Syncs(u64::from(*count))),
            Action::FailWrites(count) => self.disk.inject(Fault::Writes(u64::from(*count))),
            Action::Fill { room } => {
                let used = self.disk.used();
                self.disk.inject(Fault::Capacity(used + u64::from(*room)));
            }
            Action::Heal => self.disk.heal(),
            Action::Flip { file, bit } => {
                let files = self.files(".seg");
                if files.is_empty() {
                    return;
                }
                let name = file.get(&files);
                let bits = self.disk.content(name).len() * 8;
                assert!(bits > 0, "{name} was sealed with nothing in it");
                let bit = bit.index(bits);
                self.disk.tamper(name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            }
            Action::Snatch(file) => {
                let files = self.files(".seg");
                if !files.is_empty() {
                    self.disk.snatch(&files[file.index(files.len())]);
                }
            }
        }
        if self.disk.is_stopped() {
            self.restart(self.power);
        }
    }

    fn append(&mut self) {
        self.serial += 1;
        let serial = self.serial;
        match self.engine().append(record(serial), NOW) {
            Ok(id) => {
                let id = (id.epoch, id.sequence.0);
                let unsynced = &mut self.unsynced;
                assert_eq!(unsynced.insert(id, serial), None, "{id:?} was given twice");
                assert!(!self.owed.contains_key(&id), "{id:?} was given twice");
            }
            Err(SpoolError::Refused { .. } | SpoolError::Disk { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn sync(&mut self) {
        if self.engine().sync().is_ok() {
            self.owed.append(&mut self.unsynced);
        }
    }

    fn settle(mut self) {
        if self.disk.is_stopped() {
            self.restart(self.power);
        }
        self.disk.restart_process();
        self.restart(false);
        // Some runs end with a damaged record as the last one: the next append shows that life goes on.
        self.append();
        self.engine().sync().unwrap();
        self.owed.append(&mut self.unsynced);
        let mut engine = self.engine.take().unwrap();
        drain(&mut engine, &mut self.collector);
        for (id, serial) in &self.owed {
            let stored = self.collector.serials.get(id);
            assert!(
                stored == Some(serial) || (stored.is_none() && self.collector.lost.contains(id)),
                "record {id:?} (serial {serial}) is not accounted for, stored is {stored:?}"
            );
        }
        assert_eq!(engine.oldest(), engine.position());
        assert_eq!(engine.stats().records, 0);
        assert!(self.disk.names().len() <= 24, "{:?}", self.disk.names());
    }
}

proptest! {
    #[test]
    fn accepted_is_stored_or_reported_whatever_the_disk_does(
        seed in any::<u64>(),
        actions in prop::collection::vec(action(), 1..80),
    ) {
        let mut world = World::new(seed);
        for action in &actions {
            world.act(action);
        }
        world.settle();
    }
}
