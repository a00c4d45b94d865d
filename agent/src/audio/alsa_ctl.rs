//! Mixers: who muted what, by software or by the headset's own button. The only file that names the `alsa` crate.
//!
//! A thread of its own, started with the first card, because a read can block: a USB headset that no longer answers
//! keeps a control request for 5 s. It sleeps until a control changes. What it learns lies in one place per card, the
//! newest only, so that nothing queues up. A shell: `controls` decides what a change means.
//!
//! Opening a control device disturbs nobody, but needs the group `audio`. Without it, and where a card has no mixer,
//! the settings stay unknown and everything else goes on.

pub mod controls;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use alsa::Output;
use alsa::mixer::{Mixer, Selem, SelemChannelId};
use alsa::poll::{Descriptors, Flags, pollfd};

use super::alsa_proc::parse::{NAME_BYTES_MAX, clean};
use super::bell::Bell;
use controls::{Control, Setting, Volume};

/// Simple elements of a mixer that are looked at, at most; large consoles have some 200.
const ELEMENTS_MAX: usize = 256;
/// Pauses before an open that failed is tried again: udev hands a new node to the group a moment after it was made.
const RETRY_MS: [i32; 5] = [200, 400, 800, 1_600, 3_200];

/// What is known of a card's mixer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardMixer {
    /// Which life of this card number it is about.
    pub life: u64,
    /// The microphone side.
    pub capture: Setting,
    /// The loudspeaker side.
    pub render: Setting,
}

/// The thread, from outside.
#[derive(Debug)]
pub struct Mixers {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Cards to watch, each with its life: the same number may come back as another card.
    wanted: Mutex<BTreeMap<u8, u64>>,
    known: Mutex<BTreeMap<u8, CardMixer>>,
    /// Wakes the thread.
    wake: Bell,
    /// Says that `known` changed.
    changed: Bell,
    stop: AtomicBool,
}

impl Mixers {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the kernel has no descriptor or thread left.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            wanted: Mutex::default(),
            known: Mutex::default(),
            wake: Bell::new()?,
            changed: Bell::new()?,
            stop: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("mixers".to_owned()).spawn(move || theirs.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Watches these cards, each with a number for its life, and no others.
    pub fn want(&self, cards: BTreeMap<u8, u64>) {
        let mut wanted = lock(&self.shared.wanted);
        if *wanted != cards {
            *wanted = cards;
            self.shared.wake.ring();
        }
    }

    /// What is known now, by card.
    #[must_use]
    pub fn known(&self) -> BTreeMap<u8, CardMixer> {
        self.shared.changed.hush();
        lock(&self.shared.known).clone()
    }
}

impl AsFd for Mixers {
    /// Readable when [`Mixers::known`] has news.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.changed.as_fd()
    }
}

impl Drop for Mixers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake.ring();
        // Not joined: it may sit in a request that a headset does not answer, and owns nothing that must be put back.
        drop(self.thread.take());
    }
}

/// Neither side of these locks can panic while it holds one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A card's mixer on the thread.
struct Open {
    life: u64,
    mixer: Option<Mixer>,
    attempts: usize,
}

impl Shared {
    fn run(&self) {
        let mut open: BTreeMap<u8, Open> = BTreeMap::new();
        while !self.stop.load(Ordering::Acquire) {
            self.adopt(&mut open);
            let retry = self.open_missing(&mut open);
            self.wait(&mut open, retry);
        }
    }

    /// Drops what is no longer wanted and takes in what is.
    fn adopt(&self, open: &mut BTreeMap<u8, Open>) {
        let wanted = lock(&self.wanted).clone();
        open.retain(|card, have| wanted.get(card) == Some(&have.life));
        lock(&self.known).retain(|card, have| wanted.get(card) == Some(&have.life));
        for (card, life) in wanted {
            open.entry(card).or_insert(Open { life, mixer: None, attempts: 0 });
        }
    }

    /// Opens what is not open; returns when to try again, in milliseconds, -1 for never.
    fn open_missing(&self, open: &mut BTreeMap<u8, Open>) -> i32 {
        let mut soonest = -1;
        for (card, have) in open.iter_mut().filter(|(_, have)| have.mixer.is_none()) {
            let Some(pause) = RETRY_MS.get(have.attempts) else {
                continue;
            };
            have.attempts += 1;
            // libasound writes its complaints to stderr unless they are caught; a new catch forgets the old ones.
            let words = Output::local_error_handler();
            match Mixer::new(&format!("hw:{card}"), true) {
                Ok(mixer) => {
                    self.publish(*card, have.life, &mixer);
                    have.mixer = Some(mixer);
                }
                Err(error) => {
                    let words = words.map(|words| words.borrow().buffer_string(complaint));
                    let words = words.unwrap_or_default();
                    tracing::debug!(card, errno = error.errno(), words, "the mixer does not open");
                    if soonest < 0 || *pause < soonest {
                        soonest = *pause;
                    }
                }
            }
            // libasound keeps its parsed configuration, some hundred KiB, until it is told that nobody needs it.
            let _ = alsa::config::update_free_global();
        }
        soonest
    }

    /// Sleeps until a control changes, a card leaves, or somebody wants something else.
    fn wait(&self, open: &mut BTreeMap<u8, Open>, timeout_ms: i32) {
        let wake = pollfd { fd: self.wake.as_raw_fd(), events: Flags::IN.bits(), revents: 0 };
        let mut fds = vec![wake];
        let mut owners = Vec::new();
        for (card, have) in open.iter() {
            if let Some(descriptors) = have.mixer.as_ref().and_then(|mixer| mixer.get().ok()) {
                owners.extend(descriptors.iter().map(|_| *card));
                fds.extend(descriptors);
            }
        }
        if alsa::poll::poll(&mut fds, timeout_ms).is_err() {
            return;
        }
        if fds.first().is_some_and(|fd| fd.revents != 0) {
            self.wake.hush();
        }
        for (fd, card) in fds.iter().skip(1).zip(owners) {
            if fd.revents == 0 {
                continue;
            }
            let Some(have) = open.get_mut(&card) else {
                continue;
            };
            let hung_up = Flags::from_bits_truncate(fd.revents)
                .intersects(Flags::ERR | Flags::HUP | Flags::NVAL);
            match &have.mixer {
                Some(mixer) if !hung_up && mixer.handle_events().is_ok() => {
                    self.publish(card, have.life, mixer);
                }
                // ENODEV: the card left. Whoever sees it come back asks for another life.
                Some(_) => {
                    have.mixer = None;
                    have.attempts = RETRY_MS.len();
                }
                None => {}
            }
        }
    }

    fn publish(&self, card: u8, life: u64, mixer: &Mixer) {
        let elements: Vec<Selem<'_>> =
            mixer.iter().take(ELEMENTS_MAX).filter_map(Selem::new).collect();
        let side = |capture| {
            let controls: Vec<Control> =
                elements.iter().filter_map(|element| control(element, capture)).collect();
            Setting::judge(&controls, capture)
        };
        let now = CardMixer { life, capture: side(true), render: side(false) };
        if lock(&self.known).insert(card, now) != Some(now) {
            self.changed.ring();
        }
    }
}

/// libasound's words on one short line.
fn complaint(words: &[u8]) -> String {
    clean(words, NAME_BYTES_MAX)
}

/// One element from one side; `None` where it has nothing there.
fn control(element: &Selem<'_>, capture: bool) -> Option<Control> {
    let channels = || SelemChannelId::all().iter().copied();
    let (has_switch, has_volume) = if capture {
        (element.has_capture_switch(), element.has_capture_volume())
    } else {
        (element.has_playback_switch(), element.has_playback_volume())
    };
    let on = has_switch.then(|| {
        let states = channels().filter_map(|channel| {
            if capture {
                element.has_capture_channel(channel).then(|| element.get_capture_switch(channel))
            } else {
                element.has_playback_channel(channel).then(|| element.get_playback_switch(channel))
            }
        });
        // A switch that cannot be read mutes nothing.
        states.into_iter().any(|state| state != Ok(0))
    });
    let volume = if has_volume {
        let values = channels().filter_map(|channel| {
            if capture {
                element.has_capture_channel(channel).then(|| element.get_capture_volume(channel))
            } else {
                element.has_playback_channel(channel).then(|| element.get_playback_volume(channel))
            }
        });
        let range = if capture {
            element.get_capture_volume_range()
        } else {
            element.get_playback_volume_range()
        };
        values.filter_map(Result::ok).max().and_then(|value| Volume::new(value, range))
    } else {
        None
    };
    if on.is_none() && volume.is_none() {
        return None;
    }
    let id = element.get_id();
    let name = clean(id.get_name().ok()?.as_bytes(), NAME_BYTES_MAX);
    Some(Control { name, index: id.get_index(), on, volume })
}
