//! The audio path and the path of packets allocate nothing in steady state: counted by an allocator of this program's
//! own, which is why it is a program of its own.
#![allow(
    clippy::unwrap_used,
    reason = "a panic is how a test fails; clippy.toml covers test functions only"
)]
#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use roomtone_agent::audio::alsa_proc::Holder;
use roomtone_agent::audio::alsa_proc::parse::Progress;
use roomtone_agent::audio::bell::Bell;
use roomtone_agent::audio::board::Board;
use roomtone_agent::audio::constants::Thresholds;
use roomtone_agent::audio::cpal_host::{self, Event, Samples};
use roomtone_agent::audio::function::{PcmState, State};
use roomtone_agent::audio::inventory::{Device, Place};
use roomtone_agent::audio::level_queue::level_queue;
use roomtone_agent::audio::sensor::{Sight, Sighting};
use roomtone_agent::audio::signal::Signal;
use roomtone_agent::audio::source::{Shape, Target, Width};
use roomtone_agent::clock::Moment;
use roomtone_agent::media::playout::{Content, Packet, Playout};
use roomtone_agent::media::seq::Arrival;
use roomtone_protocol::id::CallId;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every method passes its arguments on to the system's allocator and returns what that returned.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test, so that nothing else allocates meanwhile.
#[test]
fn callback_queue_meter_report_board_and_playout_allocate_nothing() {
    through_the_playout();
    through_the_board();
    through_cpal();
}

/// Ten minutes of one stream, with loss, lateness, silence and a restart, from its first packet on.
fn through_the_playout() {
    let mut playout = Playout::new(48_000);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for n in 0..30_000u64 {
        let arrival = match n % 1_000 {
            7 | 8 => continue,
            9 => Arrival::Advanced { step: 3 },
            500 => Arrival::Restarted,
            _ => Arrival::Advanced { step: 1 },
        };
        let late = if n % 100 == 50 { 90 } else { n % 13 };
        playout.handle(&Packet {
            at: Moment::from_nanos((n * 20 + late) * 1_000_000),
            timestamp: (n * 960) as u32,
            arrival,
            content: Content::Frame,
        });
    }
    let (interval, burst) = (playout.take_interval(), playout.burst());
    let counted = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(counted, 0, "30,000 packets and a report");
    assert!(interval.played > 29_000 && burst.missing >= 60, "{interval:?} {burst:?}");
}

/// 20,000 buffers of 10 ms with the watch's look at them every 250 ms: 200 s of a call.
fn through_the_board() {
    const MIC: Place = Place { card: 0, pcm: 0, capture: true };
    let (mut sender, mut receiver) = level_queue().unwrap();
    receiver.set_rate(48_000);
    let mut board = Board::new(1, 7, Thresholds::default());
    let device = Device {
        name: "Sim Headset (hw:SimHeadset,0)".to_owned(),
        place: MIC,
        subs: 1,
        card_id: "SimHeadset".to_owned(),
        driver: "USB-Audio".to_owned(),
        pcm_name: None,
    };
    let holder = Some(Holder { pid: 400, name: Some("meeting".to_owned()) });
    let mut now = Moment::from_nanos(1_000_000_000);
    let see = |board: &mut Board, at, sight| {
        board.handle_sighting(Sighting { place: MIC, at, sight });
    };
    see(&mut board, now, Sight::Arrived(device));
    see(&mut board, now, Sight::Opened { holder, format: None });
    board.handle_call_opened(CallId(1), now);

    let buffer: Vec<i16> = (0..960).map(|n: i16| n.wrapping_mul(31) | 1).collect();
    let (mut before, mut reports) = (0, 0);
    for n in 0..20_000u64 {
        if n == 1_000 {
            before = ALLOCATIONS.load(Ordering::Relaxed);
        }
        sender.handle_buffer(&buffer, 2);
        now = now + Duration::from_millis(10);
        if n % 25 == 24 {
            let state = PcmState::Running;
            let progress = Progress { state, owner: Some(400), hw_ptr: n * 480 };
            see(&mut board, now, Sight::Went(progress));
            receiver.drain();
            let report = receiver.take_report().unwrap();
            board.handle_own(MIC, &Signal::Levels(report), now);
            board.handle_timeout(now);
            reports += 1;
        }
    }
    let counted = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(counted, 0, "19,000 buffers and 760 reports");
    assert_eq!((reports, receiver.lost()), (800, 0));
    assert_eq!(board.views()[0].state, State::Functioning);
}

/// ALSA's own `null` device: cpal's thread calls as fast as it can, with zeros.
fn through_cpal() {
    const BUFFERS: u64 = 5_000;
    const PATIENCE: Duration = Duration::from_secs(20);
    let bell = Arc::new(Bell::new().unwrap());
    let (mut sender, mut receiver) = level_queue().unwrap();
    let buffers = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&buffers);
    let heard = move |samples: Samples<'_>, channels: u16| {
        if let Samples::Bits16(buffer) = samples {
            sender.handle_buffer(buffer, channels);
        }
        counter.fetch_add(1, Ordering::Relaxed);
    };
    let shape = Shape { rate_hz: 48_000, channels: 2, width: Width::Bits16 };
    let target = Target::Alsa(vec!["null".to_owned()]);
    let mut stream =
        cpal_host::capture("null", target, Some(shape), Some(480), heard, &bell).unwrap();
    match stream.wait(PATIENCE) {
        Some(Event::Opened(opened)) => assert_eq!(opened, shape),
        Some(Event::Failed { words, .. }) => {
            // A machine without ALSA's files.
            println!("not run: {words}");
            return;
        }
        other => panic!("{other:?}"),
    }
    receiver.set_rate(48_000);
    let wait = |least: u64| {
        let begun = std::time::Instant::now();
        while buffers.load(Ordering::Relaxed) < least {
            assert!(begun.elapsed() < PATIENCE, "{} buffers", buffers.load(Ordering::Relaxed));
            std::thread::yield_now();
        }
    };
    wait(500);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    wait(500 + BUFFERS);
    receiver.drain();
    let report = receiver.take_report();
    let counted = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(counted, 0, "{BUFFERS} buffers through cpal");
    // Far more came than the queue holds: what was lost is counted, and made no run.
    assert!(report.is_none() && receiver.lost() > 0, "{report:?}");
    assert!(stream.close(PATIENCE));
}
