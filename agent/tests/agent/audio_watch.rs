//! The device watch as the daemon runs it, on a made-up machine: calls in, records out.
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use super::sound_tree::SoundTree;
use roomtone_agent::audio::constants::Thresholds;
use roomtone_agent::audio::inventory::Place;
use roomtone_agent::audio::watch::{Call, DeviceWatch, Handle, Options};
use roomtone_agent::clock::system;
use roomtone_protocol::device::{DeviceCause, DeviceEpisode, DeviceSide, EpisodeState};
use roomtone_protocol::id::CallId;
use roomtone_protocol::record::Record;
use tokio::sync::mpsc;

const MIC: Place = Place { card: 0, pcm: 0, capture: true };
const CALL: CallId = CallId(7);

struct Watch {
    calls: Handle,
    records: mpsc::Receiver<Record>,
    thread: JoinHandle<()>,
}

fn carry(tree: &SoundTree) -> PathBuf {
    tree.root().join("devices.json")
}

impl Watch {
    fn start(tree: &SoundTree) -> Self {
        let options = Options {
            root: tree.root().to_owned(),
            with_mixers: false,
            with_levels: false,
            thresholds: Thresholds::default(),
            carry: carry(tree),
            call_idle: Duration::from_secs(15),
            seed: 1,
        };
        let (watch, calls, records) = DeviceWatch::new(&options).unwrap();
        Self { calls, records, thread: std::thread::spawn(move || watch.run()) }
    }

    fn open_call(&self, call: CallId) {
        self.calls.call(Call::Opened(call, system::now()));
    }

    /// The next record, which the watch's own deadlines bring.
    fn next(&mut self) -> Record {
        self.records.blocking_recv().unwrap()
    }

    fn episode(&mut self) -> DeviceEpisode {
        let record = self.next();
        let Record::DeviceEpisode(episode) = record else {
            panic!("{record:?} is no episode");
        };
        episode
    }

    /// Ends the thread and returns what it still said.
    fn stop(mut self) -> Vec<Record> {
        self.calls.stop();
        let mut rest = Vec::new();
        while let Some(record) = self.records.blocking_recv() {
            rest.push(record);
        }
        self.thread.join().unwrap();
        rest
    }
}

fn headset_in_use() -> SoundTree {
    let tree = SoundTree::new();
    tree.headset(0, "SimHeadset", "Sim Headset");
    tree.run(MIC, 412, 4_800);
    tree
}

#[test]
fn microphone_unplugged_in_a_call_is_an_episode_at_once_and_a_summary_at_the_end() {
    let tree = headset_in_use();
    let mut watch = Watch::start(&tree);
    watch.open_call(CALL);
    // The call is heard of when the state is kept for it.
    until(|| carry(&tree).exists());
    let before = system::now();
    tree.unplug(0);
    let episode = watch.episode();
    let after = system::now();
    assert_eq!((episode.cause, episode.state), (DeviceCause::Removed, EpisodeState::Open));
    assert_eq!((episode.side, episode.call), (DeviceSide::Capture, Some(CALL)));
    assert_eq!(episode.device.as_str(), "Sim Headset (hw:SimHeadset,0)");
    assert!(after.since(before) < Duration::from_secs(5), "seen after {:?}", after.since(before));

    watch.calls.call(Call::Closed(CALL, system::now()));
    let rest = watch.stop();
    let last = rest.iter().rev().find_map(|record| {
        let Record::DeviceEpisode(episode) = record else {
            return None;
        };
        Some(episode.clone())
    });
    let last = last.unwrap();
    assert_eq!((last.episode, last.state), (episode.episode, EpisodeState::Unrecovered));
    let summaries: Vec<_> = rest
        .iter()
        .filter_map(|record| {
            let Record::DeviceSummary(summary) = record else {
                return None;
            };
            Some(summary)
        })
        .collect();
    // The loudspeaker was there, and nobody used it.
    let [summary] = summaries[..] else {
        panic!("{summaries:?}");
    };
    assert_eq!((summary.call, summary.side, summary.episodes), (CALL, DeviceSide::Capture, 1));
    assert_eq!(summary.not_functioning.part_us(), last.bad_us);
    assert!(!carry(&tree).exists(), "nothing is to be carried outside of calls");
}

#[test]
fn microphone_that_stops_moving_is_stalled_since_its_last_progress() {
    let tree = headset_in_use();
    let mut watch = Watch::start(&tree);
    watch.open_call(CALL);
    until(|| carry(&tree).exists());
    tree.run(MIC, 412, 16_800);
    let moved = system::now();
    let episode = watch.episode();
    assert_eq!((episode.cause, episode.state), (DeviceCause::Stalled, EpisodeState::Open));
    // Read every 250 ms: the position was seen to change that much after it did, and twice that on a loaded machine.
    let error = episode.onset.uptime_us.saturating_sub(moved.as_micros());
    assert!(error <= 500_000, "onset {error} us after the last progress");
    assert!(system::now().since(moved) < Duration::from_secs(5));
    watch.stop();
}

/// A watch that is killed in a call whose microphone was unplugged; the episode as it told it.
fn killed_in_a_fault(tree: &SoundTree) -> DeviceEpisode {
    let mut watch = Watch::start(tree);
    watch.open_call(CALL);
    until(|| carry(tree).exists());
    tree.unplug(0);
    let episode = watch.episode();
    // What kill -9 leaves: the file as it was when the record left. The thread itself ends with its test.
    let kept = std::fs::read(carry(tree)).unwrap();
    drop(watch.stop());
    std::fs::write(carry(tree), kept).unwrap();
    episode
}

#[test]
fn restart_in_mid_fault_tells_the_same_episode_again() {
    let tree = headset_in_use();
    let before = killed_in_a_fault(&tree);

    let mut watch = Watch::start(&tree);
    // The restarted media watch draws another id.
    watch.open_call(CallId(8));
    let after = watch.episode();
    assert_eq!((after.episode, after.call), (before.episode, Some(CALL)));
    assert_eq!(
        (after.state, after.onset.uptime_us),
        (EpisodeState::Unrecovered, before.onset.uptime_us)
    );
    let record = watch.next();
    let Record::DeviceSummary(summary) = record else {
        panic!("{record:?} is no summary");
    };
    assert_eq!((summary.call, summary.episodes), (CALL, 1));
    assert_eq!(summary.not_functioning.part_us(), after.bad_us);
}

/// A power cut in a fault: the clock of the episode is gone, and it must not stand open for ever.
#[test]
fn episode_of_another_boot_is_ended_and_not_gone_on_with() {
    let tree = headset_in_use();
    let random = tree.root().join("proc/sys/kernel/random");
    std::fs::create_dir_all(&random).unwrap();
    std::fs::write(random.join("boot_id"), "one\n").unwrap();
    let before = killed_in_a_fault(&tree);

    std::fs::write(random.join("boot_id"), "two\n").unwrap();
    let mut watch = Watch::start(&tree);
    let after = watch.episode();
    assert_eq!((after.episode, after.call), (before.episode, Some(CALL)));
    assert_eq!((after.state, after.cause), (EpisodeState::Unrecovered, before.cause));
    // The wall clock's offset is read anew each time and moves by microseconds.
    let moved_us = after.onset.wall_us.abs_diff(before.onset.wall_us);
    assert!(moved_us < 1_000_000, "{after:?} {before:?}");
    assert_eq!(after.onset.uptime_us, before.onset.uptime_us);
    assert_eq!(watch.stop(), []);
    assert!(!carry(&tree).exists());
}

#[test]
fn machine_without_sound_is_watched_in_silence() {
    let tree = SoundTree::without_sound();
    let watch = Watch::start(&tree);
    watch.open_call(CALL);
    watch.calls.call(Call::Closed(CALL, system::now()));
    assert_eq!(watch.stop(), []);
}

#[test]
fn damaged_carry_file_is_set_aside_by_a_new_beginning() {
    for text in ["", "{", "[1,2]", "{\"version\":99,\"saved_ns\":0,\"call\":1,\"devices\":[]}"] {
        let tree = headset_in_use();
        std::fs::write(carry(&tree), text).unwrap();
        assert_eq!(Watch::start(&tree).stop(), [], "{text:?}");
        assert!(!carry(&tree).exists(), "{text:?}");
    }
}

/// Waits for what another thread does; fails loudly instead of forever.
fn until(done: impl Fn() -> bool) {
    let deadline = system::now() + Duration::from_secs(20);
    while !done() {
        assert!(system::now() < deadline, "not done in 20 s");
        std::thread::yield_now();
    }
}
