//! The self-test: a short quiet chirp through a loudspeaker, looked for in a microphone.
//!
//! It finds what no counter shows: a loudspeaker whose packets go nowhere, a microphone that delivers zeros, a cable
//! that is not plugged. It runs between calls only, and stops at once when one begins. Some three seconds of the
//! microphone lie in memory while it runs, are compared with the chirp ([`super::chirp`]), and are forgotten.
//!
//! A shell: [`choice`] decides which devices and whether at all, the chirp's score decides what was heard.

pub mod choice;
mod tape;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use roomtone_protocol::device::DeviceSide;

use super::alsa_proc::{Holder, Reading, SoundFiles};
use super::bell::Bell;
use super::chirp::{self, CHIRP, Match};
use super::cpal_host::{self, Event, OpenError, Samples, StartError, Stream};
use super::inventory::Place;
use super::level::BufferLevel;
use super::signal::{OpenFailure, SelfTestOutcome};
use super::source::{Shape, Target, Width};
use crate::clock::system;
use choice::{Candidate, Chosen, Refused};
use tape::{Player, Progress, Recorder, Recording};

/// The rate of both streams; plugins convert it where a device has none like it.
const RATE_HZ: u32 = 48_000;
/// Frames of a buffer: 50 ms, with which an emulated machine neither overruns nor underruns. Drivers' own are 5 to
/// 683 ms.
const PERIOD_FRAMES: u32 = RATE_HZ / 20;
/// Plugins make two channels of one and leave further ones out.
const CHANNELS: u16 = 2;
/// How long the microphone listens on after the chirp: the longest delay that is found, wireless headsets have 0.3 s.
const LISTEN: Duration = Duration::from_millis(1_200);
/// How long the first buffer may take: what the watch of calls allows before `never_started`.
const START_WITHIN: Duration = Duration::from_secs(3);
/// How long a stream may take to close before the test goes on without it.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// How often the test looks whether something happened.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Chirps at most: an overrun in the middle of one spoils it.
const ATTEMPTS_MAX: u32 = 2;

/// What to test, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where proc and dev lie; `/` outside tests.
    pub root: PathBuf,
    /// The microphone: a device's name, a card's id or an ALSA name.
    pub capture: Option<String>,
    /// The loudspeaker, named likewise.
    pub render: Option<String>,
    /// How loud, in dB of full scale; not beyond [`chirp::LEVEL_DB_MAX`].
    pub level_db: f32,
    /// Somebody knows that a call is on; set while the test runs, it ends the test.
    pub in_call: Arc<AtomicBool>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The chirp was heard.
    Heard,
    /// The microphone works, and the chirp was not in it.
    NotHeard,
    /// The microphone delivered nothing, or nothing but one value.
    NoSignal,
    /// The microphone did not open, or broke.
    CaptureFailed,
    /// The loudspeaker did not open, broke, or took nothing.
    RenderFailed,
    /// Another process uses one of the two: no fault.
    Busy,
    /// A call is on.
    InCall,
    /// There is no such device.
    NoDevice,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The microphone's name; what was asked for where there is none such.
    pub capture: String,
    /// Where it is.
    pub capture_place: Option<Place>,
    /// The loudspeaker's name, likewise.
    pub render: String,
    /// Where it is.
    pub render_place: Option<Place>,
    /// Whose fault it is, where it is a device's.
    pub faulty: Option<DeviceSide>,
    /// How loud the chirp was played, in dB of full scale.
    pub played_db: f32,
    /// How it ended.
    pub outcome: Outcome,
    /// Where the recording is most like the chirp; `None` where nothing was recorded.
    pub found: Option<Match>,
    /// From the driver of the loudspeaker to that of the microphone, the buffers of both included; `None` where
    /// nothing was heard.
    pub delay: Option<Duration>,
    /// Level of all that the microphone delivered, in dB of full scale, RMS; `None` where it was silent.
    pub microphone_db: Option<f32>,
    /// Who uses a device, where that is why.
    pub holder: Option<Holder>,
    /// The same in words, on one line.
    pub words: String,
}

/// Runs a test; takes 2 to 15 s. It waits for devices, so a thread that has anything else to do must not call it.
#[must_use]
pub fn run(options: &Options) -> Report {
    let mut report = Report {
        capture: options.capture.clone().unwrap_or_default(),
        capture_place: None,
        render: options.render.clone().unwrap_or_default(),
        render_place: None,
        played_db: options.level_db.clamp(chirp::LEVEL_DB_MIN, chirp::LEVEL_DB_MAX),
        outcome: Outcome::NoDevice,
        found: None,
        delay: None,
        faulty: None,
        microphone_db: None,
        holder: None,
        words: String::new(),
    };
    let end = test(options, &mut report);
    report.outcome = end.outcome;
    report.faulty = end.faulty;
    report.words = end.words;
    report
}

impl Report {
    /// What it says of the microphone and of the loudspeaker; `None` where it says nothing.
    ///
    /// A chirp that was not heard says nothing: which of the two it was nobody can tell, and a speakerphone that
    /// cancels its own echo never hears itself. Zeros say nothing: microphones gate to them, and some mute by them. A
    /// person who knows the device judges that, and no episode stands open until the next test.
    #[must_use]
    pub fn verdicts(&self) -> (Option<SelfTestOutcome>, Option<SelfTestOutcome>) {
        use SelfTestOutcome::{Failed, Passed};
        match (self.outcome, self.faulty) {
            (Outcome::Heard, _) => (Some(Passed), Some(Passed)),
            (_, Some(DeviceSide::Capture)) => (Some(Failed), None),
            (_, Some(DeviceSide::Render)) => (None, Some(Failed)),
            (_, None) => (None, None),
        }
    }
}

/// How it ended, in words.
struct End {
    outcome: Outcome,
    words: String,
    /// The device itself failed: it did not answer, broke, or moved nothing. What we may not open, or cannot, is ours.
    faulty: Option<DeviceSide>,
}

fn end(outcome: Outcome, words: impl Into<String>) -> End {
    End { outcome, words: words.into(), faulty: None }
}

/// As [`end`], and the device of `side` is at fault.
fn fault(side: Side, outcome: Outcome, words: impl Into<String>) -> End {
    let faulty = match side {
        Side::Capture => DeviceSide::Capture,
        Side::Render => DeviceSide::Render,
    };
    End { faulty: Some(faulty), ..end(outcome, words) }
}

fn test(options: &Options, report: &mut Report) -> End {
    if options.in_call.load(Ordering::Relaxed) {
        return in_call();
    }
    let candidates = match candidates(&SoundFiles::new(&options.root)) {
        Ok(candidates) => candidates,
        Err(words) => return end(Outcome::NoDevice, words),
    };
    let chosen = choice::choose(&candidates, options.capture.as_deref(), options.render.as_deref());
    let (capture, render) = match chosen {
        Ok(chosen) => chosen,
        Err(refused) => return refuse(refused, report),
    };
    report.capture.clone_from(&capture.name);
    report.capture_place = capture.place;
    report.render.clone_from(&render.name);
    report.render_place = render.place;
    let mut attempt = 1;
    loop {
        let tried = Attempt { options, capture: &capture, render: &render }.run(report);
        // A machine that is too busy to keep the buffers going says nothing of its devices.
        let is_open_question = matches!(
            tried.end.outcome,
            Outcome::NotHeard | Outcome::NoSignal | Outcome::RenderFailed
        );
        let is_worth_another = is_open_question && tried.xruns > 0;
        if !is_worth_another || attempt == ATTEMPTS_MAX {
            return tried.end;
        }
        attempt += 1;
    }
}

/// What to do where the test lacks rights.
const NOT_ALLOWED: &str = "may not be opened by this user; root and the group audio may";

fn in_call() -> End {
    end(Outcome::InCall, "a call is on: try again after it")
}

/// All devices, and who else uses them.
fn candidates(files: &SoundFiles) -> Result<Vec<Candidate>, String> {
    let inventory = files.inventory().map_err(|error| error.to_string())?;
    let own = std::process::id();
    let holder = |place, subs| match files.reading(place, subs, None) {
        Reading::Open { progress, .. } => {
            let holder = progress.owner.map(|owner| files.holder(owner));
            // Opened by whom the kernel does not say is opened all the same.
            Some(holder.unwrap_or(Holder { pid: 0, name: None })).filter(|it| it.pid != own)
        }
        Reading::Gone | Reading::Unclear | Reading::Closed => None,
    };
    let candidate = |device: super::inventory::Device| {
        let holder = holder(device.place, device.subs);
        Candidate { device, holder }
    };
    Ok(inventory.devices.into_iter().map(candidate).collect())
}

fn refuse(refused: Refused, report: &mut Report) -> End {
    match refused {
        Refused::NoDevice { asked, side, known } => {
            let side = match side {
                DeviceSide::Capture => "capture",
                DeviceSide::Render => "render",
            };
            let there = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let asked = asked.map_or_else(String::new, |asked| format!(" {asked:?}"));
            end(Outcome::NoDevice, format!("no {side} device{asked}; there is: {there}"))
        }
        Refused::Busy { device, holder } => {
            let words = format!("{device} is in use by {}: no fault", who(&holder));
            report.holder = Some(holder);
            end(Outcome::Busy, words)
        }
        Refused::InCall { device, holder } => {
            let words = format!(
                "{device} is in use by {}, a call may be on: try again after it",
                who(&holder)
            );
            report.holder = Some(holder);
            end(Outcome::InCall, words)
        }
    }
}

fn who(Holder { pid, name }: &Holder) -> String {
    match name {
        Some(name) => format!("{name} (process {pid})"),
        None if *pid > 0 => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

/// One chirp.
struct Attempt<'a> {
    options: &'a Options,
    capture: &'a Chosen,
    render: &'a Chosen,
}

struct Tried {
    end: End,
    /// Overruns and underruns of both streams.
    xruns: u32,
}

impl Attempt<'_> {
    fn run(&self, report: &mut Report) -> Tried {
        let mut streams = Streams::default();
        let ended = self.record(&mut streams, report);
        let xruns = streams.open.iter().map(|(_, stream)| stream.xruns()).sum();
        // The loudspeaker first, so that a call that began is not disturbed.
        for (_, stream) in streams.open.into_iter().rev() {
            if !stream.close(CLOSE_WITHIN) {
                tracing::info!("a device of the self-test does not close");
            }
        }
        let mut end = match ended {
            Err(end) => end,
            // Handed back when its stream closed.
            Ok(played_ns) => match streams.recording.and_then(|tape| tape.try_recv().ok()) {
                Some(recording) => judge(&recording, played_ns, report),
                None => end(Outcome::CaptureFailed, "the microphone did not close"),
            },
        };
        if xruns > 0 && report.delay.take().is_some() {
            end.words += "; buffers overran, so the delay is not known";
        }
        Tried { end, xruns }
    }

    /// Plays and records; returns when the chirp was handed to the loudspeaker, in nanoseconds since boot.
    fn record(&self, streams: &mut Streams, report: &mut Report) -> Result<u64, End> {
        let bell = Bell::new()
            .map_err(|error| end(Outcome::CaptureFailed, format!("no bell: {error}")))?;
        let bell = Arc::new(bell);
        let progress = Arc::new(Progress::default());
        let (home, tape) = sync_channel(1);
        streams.recording = Some(tape);

        let mut recorder = Some(Recorder::new(Arc::clone(&progress), home));
        // In 16 bits the noise of a quiet 24-bit microphone is zeros.
        let shape = Shape { rate_hz: RATE_HZ, channels: CHANNELS, width: Width::Bits32 };
        let opened = self.open(Side::Capture, report, |period| {
            // A second try needs a recorder of its own; the first one came home.
            let mut recorder = recorder.take().unwrap_or_else(|| {
                let (home, tape) = sync_channel(1);
                streams.recording = Some(tape);
                Recorder::new(Arc::clone(&progress), home)
            });
            let target = Target::Alsa(self.capture.alsa.clone());
            let heard = move |samples: Samples<'_>, channels| recorder.handle(samples, channels);
            cpal_host::capture(&self.capture.key, target, Some(shape), period, heard, &bell)
        })?;
        streams.open.push((Side::Capture, opened));
        let first = |progress: &Progress| progress.frames.load(Ordering::Relaxed) > 0;
        self.until(streams, &progress, first)?.ok_or_else(|| {
            let words = format!("the microphone delivered nothing for {START_WITHIN:?}");
            fault(Side::Capture, Outcome::NoSignal, words)
        })?;

        let sound: Arc<[i16]> = chirp::chirp(RATE_HZ, report.played_db)
            .into_iter()
            .map(|value| (value * 32_768.0).round() as i16)
            .collect();
        let opened = self.open(Side::Render, report, |period| {
            let mut player = Player::new(Arc::clone(&sound), Arc::clone(&progress));
            let target = Target::Alsa(self.render.alsa.clone());
            let fill = move |buffer: &mut [i16], channels| player.fill(buffer, channels);
            let shape = (RATE_HZ, CHANNELS);
            cpal_host::render(&self.render.key, target, shape, period, fill, &bell)
        })?;
        streams.open.push((Side::Render, opened));
        progress.is_armed.store(true, Ordering::Release);
        let played = |progress: &Progress| progress.is_played.load(Ordering::Acquire);
        self.until(streams, &progress, played)?.ok_or_else(|| {
            let words = format!("the loudspeaker took nothing for {START_WITHIN:?}");
            fault(Side::Render, Outcome::RenderFailed, words)
        })?;
        let until = system::now() + CHIRP + LISTEN;
        while system::now() < until {
            self.look(streams)?;
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(progress.played_ns.load(Ordering::Relaxed))
    }

    /// Opens with buffers of our own size, or the driver's where it has none like them.
    fn open(
        &self,
        side: Side,
        report: &mut Report,
        mut start: impl FnMut(Option<u32>) -> Result<Stream, StartError>,
    ) -> Result<Stream, End> {
        let mut failed = None;
        for period in [Some(PERIOD_FRAMES), None] {
            let mut stream =
                start(period).map_err(|error| end(side.failed(), error.to_string()))?;
            let event = loop {
                if self.options.in_call.load(Ordering::Relaxed) {
                    return Err(in_call());
                }
                if let Some(event) = stream.wait(LOOK_EVERY) {
                    break event;
                }
            };
            match event {
                Event::Opened(_) => return Ok(stream),
                Event::Failed { error, words } => {
                    let is_format = error == OpenError::Refused(OpenFailure::Unsupported);
                    failed = Some((error, words));
                    // It must be gone before it may be opened again.
                    if !is_format || !stream.close(CLOSE_WITHIN) {
                        break;
                    }
                }
                Event::Broke { words, .. } => return Err(fault(side, side.failed(), words)),
            }
        }
        let (error, words) = failed.unwrap_or((OpenError::NotThere, String::new()));
        Err(self.refused(side, &error, &words, report))
    }

    fn refused(&self, side: Side, error: &OpenError, words: &str, report: &mut Report) -> End {
        let chosen = match side {
            Side::Capture => self.capture,
            Side::Render => self.render,
        };
        let name = &chosen.name;
        match error {
            OpenError::NotThere => {
                let files = SoundFiles::new(&self.options.root);
                let may_open = chosen.place.and_then(|place| files.may_open(place.card));
                let outcome =
                    if chosen.place.is_some() { side.failed() } else { Outcome::NoDevice };
                match may_open {
                    // ALSA does not list what its user may not open.
                    Some(false) => end(outcome, format!("{name} {NOT_ALLOWED}")),
                    Some(true) | None => end(outcome, format!("{name} cannot be found: {words}")),
                }
            }
            OpenError::Refused(OpenFailure::Busy) => {
                let held = candidates(&SoundFiles::new(&self.options.root)).unwrap_or_default();
                let at = held.into_iter().find(|it| chosen.place == Some(it.device.place));
                let holder = at.and_then(|it| it.holder);
                let by = holder.as_ref().map_or("another process".to_owned(), who);
                report.holder = holder;
                end(Outcome::Busy, format!("{name} is in use by {by}: no fault"))
            }
            OpenError::Refused(OpenFailure::NoPermission) => {
                end(side.failed(), format!("{name} {NOT_ALLOWED}"))
            }
            OpenError::Refused(OpenFailure::Fault) => {
                fault(side, side.failed(), format!("{name} does not open: {words}"))
            }
            OpenError::NoServer | OpenError::Refused(OpenFailure::Unsupported) => {
                end(side.failed(), format!("{name} does not open: {words}"))
            }
        }
    }

    /// Waits for something to happen; `None` where it does not within [`START_WITHIN`].
    fn until(
        &self,
        streams: &mut Streams,
        progress: &Progress,
        happened: impl Fn(&Progress) -> bool,
    ) -> Result<Option<()>, End> {
        let until = system::now() + START_WITHIN;
        while !happened(progress) {
            if system::now() >= until {
                return Ok(None);
            }
            self.look(streams)?;
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(Some(()))
    }

    /// Whether the test may go on.
    fn look(&self, streams: &mut Streams) -> Result<(), End> {
        if self.options.in_call.load(Ordering::Relaxed) {
            return Err(in_call());
        }
        // A call's program opens its devices before its first packet, and may want ours.
        let held = candidates(&SoundFiles::new(&self.options.root)).unwrap_or_default();
        if let Some(holder) = held.into_iter().find_map(|it| it.holder) {
            return Err(end(
                Outcome::InCall,
                format!("{} opened a device, a call may begin: try again after it", who(&holder)),
            ));
        }
        for (side, stream) in &mut streams.open {
            if let Some(Event::Broke { words, .. } | Event::Failed { words, .. }) = stream.poll() {
                let words = format!("{} broke: {words}", side.name());
                return Err(fault(*side, side.failed(), words));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Capture,
    Render,
}

impl Side {
    fn failed(self) -> Outcome {
        match self {
            Self::Capture => Outcome::CaptureFailed,
            Self::Render => Outcome::RenderFailed,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Capture => "the microphone",
            Self::Render => "the loudspeaker",
        }
    }
}

/// What is open, in the order of opening.
#[derive(Default)]
struct Streams {
    open: Vec<(Side, Stream)>,
    recording: Option<Receiver<Recording>>,
}

fn judge(recording: &Recording, played_ns: u64, report: &mut Report) -> End {
    let level = BufferLevel::of(&recording.samples, 1);
    if level.frames == 0 {
        return end(Outcome::NoSignal, "the microphone delivered nothing");
    }
    if level.is_zero() {
        return end(Outcome::NoSignal, "the microphone delivered nothing but zeros; is it muted?");
    }
    let mean_square = level.square_sum / f64::from(level.samples.max(1));
    report.microphone_db = (mean_square > 0.0).then(|| 10.0 * mean_square.log10() as f32);
    if level.is_constant {
        let words = "the microphone delivered one value that never changed";
        return fault(Side::Capture, Outcome::NoSignal, words);
    }
    let Some(found) = chirp::find(&recording.samples, RATE_HZ) else {
        return end(Outcome::CaptureFailed, "the microphone delivered less than the chirp is long");
    };
    report.found = Some(found);
    let score = format!("score {:.2}, {:.2} is enough", found.score, chirp::SCORE_MIN);
    if !found.is_heard() {
        return end(
            Outcome::NotHeard,
            format!("the microphone works and did not hear it ({score})"),
        );
    }
    let sample = (found.at.as_micros() as u64 * u64::from(RATE_HZ) / 1_000_000) as usize;
    let taken_ns = recording.taken_ns(sample).unwrap_or(played_ns);
    let delay = Duration::from_nanos(taken_ns.saturating_sub(played_ns));
    report.delay = Some(delay);
    let (level, ms) = (found.level_db, delay.as_secs_f64() * 1e3);
    end(Outcome::Heard, format!("heard at {level:.1} dBFS after {ms:.0} ms ({score})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            capture: String::new(),
            capture_place: None,
            render: String::new(),
            render_place: None,
            played_db: chirp::LEVEL_DB,
            outcome: Outcome::NoDevice,
            found: None,
            delay: None,
            faulty: None,
            microphone_db: None,
            holder: None,
            words: String::new(),
        }
    }

    /// A recorder that hears what a player plays: a quarter as loud, in buffers of 50 ms.
    #[test]
    fn what_the_player_plays_is_heard_in_what_the_recorder_kept() {
        let progress = Arc::new(Progress::default());
        let (home, tape) = sync_channel(1);
        let mut recorder = Recorder::new(Arc::clone(&progress), home);
        let sound: Arc<[i16]> =
            chirp::chirp(RATE_HZ, -30.0).iter().map(|v| (v * 32_768.0) as i16).collect();
        let mut player = Player::new(sound, Arc::clone(&progress));
        progress.is_armed.store(true, Ordering::Release);
        for _ in 0..30 {
            let mut buffer = vec![0i16; PERIOD_FRAMES as usize * 2];
            player.fill(&mut buffer, 2);
            buffer.iter_mut().for_each(|sample| *sample = *sample / 4 + 1);
            recorder.handle(Samples::Bits16(&buffer), 2);
        }
        assert!(progress.is_played.load(Ordering::Acquire));
        drop(recorder);
        let mut report = report();
        let end = judge(
            &tape.try_recv().unwrap(),
            progress.played_ns.load(Ordering::Relaxed),
            &mut report,
        );
        assert_eq!(end.outcome, Outcome::Heard, "{}", end.words);
        let found = report.found.unwrap();
        // 300 ms of silence come first; -30 dB less 12.04 are -42.04.
        assert_eq!(found.at.as_millis(), 300);
        assert!((found.level_db + 42.04).abs() < 0.3, "{found:?}");
    }

    #[test]
    fn recordings_without_a_signal_say_how_they_are_without() {
        for (value, words) in [(None, "nothing"), (Some(0.0), "zeros"), (Some(0.2), "one value")] {
            let samples = value.map_or(Vec::new(), |value| vec![value; 48_000]);
            let end = judge(&Recording { samples, arrivals: Vec::new() }, 0, &mut report());
            assert_eq!(end.outcome, Outcome::NoSignal);
            assert!(end.words.contains(words), "{}", end.words);
        }
    }

    #[test]
    fn machine_without_sound_has_nothing_to_test() {
        let root = tempfile::tempdir().unwrap();
        let options = Options {
            root: root.path().to_owned(),
            capture: None,
            render: None,
            level_db: 0.0,
            in_call: Arc::default(),
        };
        let report = run(&options);
        assert_eq!((report.outcome, report.played_db), (Outcome::NoDevice, chirp::LEVEL_DB_MAX));
        assert!(
            report.words.starts_with("this machine has no sound subsystem"),
            "{}",
            report.words
        );
        options.in_call.store(true, Ordering::Relaxed);
        assert_eq!(run(&options).outcome, Outcome::InCall);
    }
}
