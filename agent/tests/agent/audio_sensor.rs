//! The sensor on a made-up machine: a folder that looks like `/proc/asound`, `/dev/snd` and `/proc/PID`.
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Duration;

use super::sound_tree::SoundTree;
use roomtone_agent::audio::alsa_proc::{Holder, SoundError};
use roomtone_agent::audio::bell::Bell;
use roomtone_agent::audio::function::PcmState;
use roomtone_agent::audio::inventory::Place;
use roomtone_agent::audio::sensor::{Sensor, Sight, Sighting};
use roomtone_agent::clock::system;

const MIC: Place = Place { card: 0, pcm: 0, capture: true };
/// Longer than any of the sensor's own pauses; tests end earlier unless they fail.
const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    tree: SoundTree,
    sensor: Sensor,
    never: Bell,
}

impl Bench {
    fn new(tree: SoundTree) -> Self {
        let sensor = Sensor::new(tree.root(), false);
        Self { tree, sensor, never: Bell::new().unwrap() }
    }

    /// Waits until a sight is seen that `wanted` takes; returns all seen until then.
    fn until(&mut self, wanted: impl Fn(&Sighting) -> bool) -> Vec<Sighting> {
        let deadline = system::now() + PATIENCE;
        let mut seen = Vec::new();
        while system::now() < deadline {
            let new = self.sensor.wait(self.never.as_fd(), Some(deadline));
            let done = new.iter().any(&wanted);
            seen.extend(new);
            if done {
                return seen;
            }
        }
        panic!("not seen in {PATIENCE:?}; seen was {seen:?}");
    }
}

fn names(seen: &[Sighting]) -> Vec<&str> {
    let arrived = seen.iter().filter_map(|sighting| {
        let Sight::Arrived(device) = &sighting.sight else {
            return None;
        };
        Some(device.name.as_str())
    });
    arrived.collect()
}

#[test]
fn machine_without_sound_has_no_devices_and_says_why() {
    let mut bench = Bench::new(SoundTree::without_sound());
    assert_eq!(bench.sensor.look(), []);
    let absent = bench.sensor.absent().unwrap();
    assert!(matches!(absent, SoundError::Absent { .. }));
    let line = absent.to_string();
    assert!(
        line.starts_with("this machine has no sound subsystem") && !line.contains('\n'),
        "{line}"
    );
}

#[test]
fn opening_and_closing_are_noticed_without_polling() {
    let tree = SoundTree::new();
    tree.headset(0, "SimHeadset", "Sim Headset");
    let mut bench = Bench::new(tree);
    assert_eq!(
        names(&bench.sensor.look()),
        ["Sim Headset (hw:SimHeadset,0)", "Sim Headset (hw:SimHeadset,0)"]
    );

    bench.tree.process(412, 400, "audio-io", "meeting");
    bench.tree.run(MIC, 412, 4_800);
    let node = File::open(bench.tree.node(MIC)).unwrap();
    let seen = bench.until(|s| matches!(s.sight, Sight::Went(_)));
    let opened = seen.iter().find_map(|s| {
        let Sight::Opened { holder, format } = &s.sight else {
            return None;
        };
        (s.place == MIC).then(|| (holder.clone(), format.clone()))
    });
    let (holder, format) = opened.unwrap();
    // The owner is a thread; people know its process.
    assert_eq!(holder, Some(Holder { pid: 400, name: Some("meeting".to_owned()) }));
    assert_eq!(format.unwrap().rate_hz, 48_000);

    bench.tree.run(MIC, 412, 16_800);
    bench.until(
        |s| matches!(s.sight, Sight::Went(p) if p.hw_ptr == 16_800 && p.state == PcmState::Running),
    );

    bench.tree.close(MIC);
    drop(node);
    bench.until(|s| s.sight == Sight::Closed && s.place == MIC);
}

/// A program whose open fails within milliseconds has closed the device before anybody reads its status.
#[test]
fn open_that_is_over_at_once_is_noticed_and_one_of_a_file_is_not() {
    let tree = SoundTree::new();
    tree.headset(0, "SimHeadset", "Sim Headset");
    let mut bench = Bench::new(tree);
    bench.sensor.look();
    drop(File::open(bench.tree.node(Place { card: 9, ..MIC })));
    drop(File::open(bench.tree.node(MIC)).unwrap());
    let seen = bench.until(|s| s.sight == Sight::Tried);
    assert!(seen.iter().all(|s| s.place == MIC), "{seen:?}");
}

#[test]
fn sound_server_that_ends_is_noticed_on_the_device_that_it_held() {
    let tree = SoundTree::new();
    tree.headset(0, "SimHeadset", "Sim Headset");
    tree.headset(1, "Second", "Second");
    let mut server = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = server.id();
    // PulseAudio opens its devices on threads of its own.
    tree.process(pid + 1, pid, "alsa-source", "pulseaudio");
    tree.process(412, 400, "audio-io", "meeting");
    tree.run(MIC, pid + 1, 4_800);
    tree.run(Place { card: 1, ..MIC }, 412, 4_800);
    let mut bench = Bench::new(tree);
    bench.sensor.look();
    server.kill().unwrap();
    let seen = bench.until(|s| s.sight == Sight::ServerEnded);
    let ended = seen.iter().filter(|s| s.sight == Sight::ServerEnded);
    assert_eq!(ended.map(|s| s.place).collect::<Vec<_>>(), [MIC]);
    server.wait().unwrap();
}

#[test]
fn unplugged_device_is_left_and_not_closed() {
    let tree = SoundTree::new();
    tree.headset(0, "SimHeadset", "Sim Headset");
    tree.run(MIC, 412, 4_800);
    let mut bench = Bench::new(tree);
    let seen = bench.sensor.look();
    assert!(seen.iter().any(|s| s.place == MIC && matches!(s.sight, Sight::Went(_))));

    bench.tree.unplug(0);
    let seen = bench.until(|s| matches!(s.sight, Sight::Left(_)) && s.place == MIC);
    assert!(!seen.iter().any(|s| s.sight == Sight::Closed), "{seen:?}");
}

#[test]
fn card_that_comes_back_with_another_name_is_another_device() {
    let tree = SoundTree::new();
    tree.headset(0, "A", "First");
    let mut bench = Bench::new(tree);
    bench.sensor.look();
    bench.tree.unplug(0);
    bench.tree.headset(0, "B", "Second");
    let seen = bench.until(|s| matches!(s.sight, Sight::Arrived(_)));
    assert_eq!(names(&seen), ["Second (hw:B,0)", "Second (hw:B,0)"]);
    assert_eq!(seen.iter().filter(|s| matches!(s.sight, Sight::Left(_))).count(), 2);
}

#[test]
fn of_40_cards_with_odd_names_32_are_watched() {
    let tree = SoundTree::new();
    for card in 0..40 {
        tree.headset_bytes(card, format!("C{card}").as_bytes(), b"M\xffic\x1b[0m\x07");
    }
    let mut bench = Bench::new(tree);
    let seen = bench.sensor.look();
    let names = names(&seen);
    assert_eq!((names.len(), bench.sensor.beyond()), (64, 8));
    for name in names {
        assert!(name.len() <= 80 && !name.contains(char::is_control), "{name:?}");
    }
}

#[test]
fn garbage_and_huge_files_are_no_faults() {
    let tree = SoundTree::new();
    tree.headset(0, "SimHeadset", "Sim Headset");
    tree.run(MIC, 412, 4_800);
    let mut bench = Bench::new(tree);
    bench.sensor.look();
    // 10 MB of noise where a position should be: nothing is seen, above all no close and no removal.
    bench.tree.write_status(MIC, &vec![0x80; 10_000_000]);
    let until = system::now() + Duration::from_millis(700);
    let mut seen = Vec::new();
    while system::now() < until {
        seen.extend(bench.sensor.wait(bench.never.as_fd(), Some(until)));
    }
    assert!(seen.iter().all(|s| s.place != MIC), "{seen:?}");
    bench.tree.run(MIC, 412, 9_600);
    bench.until(|s| matches!(s.sight, Sight::Went(p) if p.hw_ptr == 9_600));
}

#[test]
fn nothing_wakes_the_sensor_while_no_device_is_open() {
    let tree = SoundTree::new();
    tree.headset(0, "SimHeadset", "Sim Headset");
    let mut bench = Bench::new(tree);
    bench.sensor.look();
    // The second look, which waits for the last nodes of a new card, is the last.
    let mut rounds = 0;
    let until = system::now() + Duration::from_millis(1_500);
    while system::now() < until {
        assert_eq!(bench.sensor.wait(bench.never.as_fd(), Some(until)), []);
        rounds += 1;
    }
    // One for the second look, one for the deadline; a kernel event of another test's machine may add a few.
    assert!(rounds <= 4, "{rounds} rounds in 1.5 s");
}
