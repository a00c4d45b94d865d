//! Our streams on microphones that calls use, and the reports that they make.
//!
//! A shell on the device watch's thread: it opens and drops what [`super::listening`] says, empties the queues each
//! time that the watch wakes, which is four times a second while a device is open, and hands reports on. It has no
//! beat of its own. What a stream of ours suffers beside a healthy call is ours: overruns are only logged.
//!
//! Through a sound server a run of zeros is not told: a source that its user muted there is zeros too, and nothing
//! here can tell the two apart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::bell::Bell;
use super::board::Board;
use super::cpal_host::{self, Event, OpenError, Samples, StartError};
use super::inventory::Place;
use super::level_queue::{LevelReceiver, LevelSender, level_queue};
use super::listening::{Act, Listening};
use super::sensor::Sighting;
use super::signal::{OpenFailure, Signal};
use super::source::{Server, Target};
use crate::clock::Moment;
use crate::clock::system;
use crate::events::Listened;

/// A report is made this often at most; the watch wakes as often.
const REPORT_EVERY: Duration = Duration::from_millis(240);
/// A stream without a buffer for this long is dead, whatever cpal says: after a sleep callbacks stop in silence.
const SILENT_MAX: Duration = Duration::from_secs(3);

/// See the head of this file.
pub struct Ears {
    listening: Listening,
    open: BTreeMap<Place, Ear>,
    /// Of which program's microphone it was said that there are no levels.
    said: BTreeMap<Place, u32>,
    bell: Arc<Bell>,
    /// What came of it, for the judge of client events.
    listened: Arc<Mutex<Listened>>,
    /// From which pauses are drawn.
    random: u64,
}

/// One stream.
struct Ear {
    stream: cpal_host::Stream,
    receiver: LevelReceiver,
    holder: u32,
    is_server: bool,
    reported_at: Moment,
    heard_at: Moment,
    is_open: bool,
}

impl Ears {
    /// Nothing is opened before a call; `bell` wakes the thread of the device watch.
    #[must_use]
    pub fn new(bell: Arc<Bell>, seed: u64) -> Self {
        let servers = [Server::PulseAudio, Server::PipeWire];
        let servers = servers.into_iter().filter(|server| cpal_host::knows(*server)).collect();
        let listening = Listening::new(std::process::id(), servers);
        Self {
            listening,
            open: BTreeMap::new(),
            said: BTreeMap::new(),
            bell,
            listened: Arc::default(),
            random: seed,
        }
    }

    /// Where what came of listening along is added up.
    #[must_use]
    pub fn listened(&self) -> Arc<Mutex<Listened>> {
        Arc::clone(&self.listened)
    }

    /// Takes what the sensor saw, in order.
    pub fn handle_sighting(&mut self, sighting: &Sighting) {
        self.listening.handle_sighting(sighting);
    }

    /// Does what is due, and tells the board what was heard.
    pub fn look(&mut self, board: &mut Board, in_call: bool) {
        let now = system::now();
        self.listening.set_in_call(in_call);
        self.hear(board, now);
        let streams = |open: &BTreeMap<Place, Ear>| open.keys().copied().collect::<Vec<_>>();
        while let Some(act) = self.listening.poll_act(&streams(&self.open), now) {
            self.act(act, now);
        }
    }

    /// When to look without any event.
    #[must_use]
    pub fn due(&self) -> Option<Moment> {
        let opening = self.open.values().filter_map(|ear| ear.stream.due());
        opening.chain(self.listening.poll_timeout()).min()
    }

    fn hear(&mut self, board: &mut Board, now: Moment) {
        let places: Vec<Place> = self.open.keys().copied().collect();
        for place in places {
            let Some(ear) = self.open.get_mut(&place) else { continue };
            let over = match ear.stream.poll() {
                Some(Event::Opened(shape)) => {
                    tracing::info!(card = place.card, rate_hz = shape.rate_hz, "listening along");
                    ear.receiver.set_rate(shape.rate_hz);
                    self.said.remove(&place);
                    (ear.is_open, ear.heard_at) = (true, now);
                    self.listening.handle_opened(place, now);
                    None
                }
                Some(Event::Failed { error, words }) => Some(self.failed(place, &error, &words)),
                Some(Event::Broke { words, .. }) => {
                    tracing::info!(card = place.card, words, "listening along ended");
                    Some(Over::Failed)
                }
                None => None,
            };
            let over = over.or_else(|| self.report(place, board, now));
            match over {
                Some(Over::Failed) => {
                    let random = self.draw();
                    self.open.remove(&place);
                    self.listening.handle_failed(place, random, now);
                }
                Some(Over::NoServer) => {
                    self.open.remove(&place);
                    self.listening.handle_no_server(place, now);
                }
                Some(Over::HolderGone) => self.listening.handle_holder_gone(place),
                None => {}
            }
        }
    }

    /// Passes on what arrived since the last report.
    fn report(&mut self, place: Place, board: &mut Board, now: Moment) -> Option<Over> {
        let ear = self.open.get_mut(&place).filter(|ear| ear.is_open)?;
        if !is_alive(ear.holder) {
            return Some(Over::HolderGone);
        }
        if ear.receiver.drain() {
            ear.heard_at = now;
        } else if now.since(ear.heard_at) >= SILENT_MAX {
            tracing::info!(card = place.card, "listening along fell silent");
            return Some(Over::Failed);
        }
        if now.since(ear.reported_at) >= REPORT_EVERY
            && let Some(mut report) = ear.receiver.take_report()
        {
            ear.reported_at = now;
            self.listened.lock().unwrap_or_else(PoisonError::into_inner).add(&report);
            if ear.is_server {
                (report.zero_run, report.zero_longest) = (Duration::ZERO, Duration::ZERO);
            }
            board.handle_own(place, &Signal::Levels(report), now);
        }
        None
    }

    fn failed(&mut self, place: Place, error: &OpenError, words: &str) -> Over {
        let Some(ear) = self.open.get(&place) else { return Over::Failed };
        let what = match error {
            OpenError::NoServer => "the sound server does not answer: ALSA instead",
            OpenError::NotThere => "the microphone cannot be shared: no levels",
            OpenError::Refused(OpenFailure::Busy) => {
                "the microphone is busy, its program has it alone: no levels"
            }
            // The program that holds it is the one that matters: our own failure beside it is ours.
            OpenError::Refused(_) => "the microphone does not open beside its program: no levels",
        };
        // Once for each program that holds it: the attempts go on.
        if self.said.insert(place, ear.holder) == Some(ear.holder) {
            tracing::debug!(card = place.card, words, "{what}");
        } else {
            tracing::info!(card = place.card, words, "{what}");
        }
        if *error == OpenError::NoServer { Over::NoServer } else { Over::Failed }
    }

    fn act(&mut self, act: Act, now: Moment) {
        match act {
            Act::Drop(place) => {
                if let Some(ear) = self.open.remove(&place) {
                    let (xruns, lost) = (ear.stream.xruns(), ear.receiver.lost());
                    tracing::info!(card = place.card, xruns, lost, "no longer listening along");
                }
            }
            Act::Several(server) => {
                let text = "holds several microphones: nobody can tell which its source is";
                tracing::info!(?server, "the sound server {text}, so no levels");
            }
            Act::Open { place, key, holder, target, shape } => {
                let is_server = matches!(target, Target::Server(_));
                let Some((sender, receiver)) = level_queue() else {
                    return self.not_started(place, "too many streams hang", now);
                };
                let heard = heard(sender);
                match cpal_host::capture(&key, target, shape, None, heard, &self.bell) {
                    Ok(stream) => {
                        let ear = Ear {
                            stream,
                            receiver,
                            holder,
                            is_server,
                            reported_at: now,
                            heard_at: now,
                            is_open: false,
                        };
                        self.open.insert(place, ear);
                    }
                    Err(error @ (StartError::Hangs | StartError::NoThread(_))) => {
                        self.not_started(place, &error.to_string(), now);
                    }
                }
            }
        }
    }

    fn not_started(&mut self, place: Place, words: &str, now: Moment) {
        tracing::debug!(card = place.card, words, "no stream");
        let random = self.draw();
        self.listening.handle_failed(place, random, now);
    }

    /// SplitMix64: pauses need to differ between agents, and no more.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Why a stream is over.
enum Over {
    Failed,
    NoServer,
    HolderGone,
}

/// The callback's body: numbers, and a push.
fn heard(mut sender: LevelSender) -> impl FnMut(Samples<'_>, u16) + Send + 'static {
    move |samples, channels| match samples {
        Samples::Bits16(buffer) => sender.handle_buffer(buffer, channels),
        Samples::Bits32(buffer) => sender.handle_buffer(buffer, channels),
        Samples::Float(buffer) => sender.handle_buffer(buffer, channels),
    }
}

/// Whether a process exists, also one that `/proc` hides from us.
fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| {
        let answer = rustix::process::test_kill_process(pid);
        answer.is_ok() || answer == Err(rustix::io::Errno::PERM)
    })
}
