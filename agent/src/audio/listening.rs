//! Which microphones are listened to, and how: only in a call, and only what another process has open already.
//!
//! An open of ours on a device that nobody uses could keep the call's program from switching to it, so a stream of
//! ours joins one that is there and leaves with it. A core: it is told of sightings and of what became of streams, and
//! says what to open and what to drop. One opening at a time, because libasound opens one at a time, and a device that
//! hangs must not make another one look as if it did.
//!
//! Where a sound server holds the device and this build can ask it, its default source counts for the one microphone
//! that it holds; of several nobody can tell which it is. Everything else goes through ALSA's `sysdefault`, which on
//! hardware shares a microphone between those who ask in that way. A program that asked for the device alone keeps it
//! alone: busy, and no fault.

use std::collections::BTreeMap;
use std::time::Duration;

use super::alsa_proc::parse::Format;
use super::inventory::{Device, Place};
use super::sensor::{Sight, Sighting};
use super::source::{Server, Shape, Target, Width};
use crate::clock::Moment;
use crate::uplink::backoff::Backoff;

/// Microphones that are listened to at once, at most: more are no room's.
pub const STREAMS_MAX: usize = 8;
/// The pause after a first failure, doubled with each further one.
const RETRY_BASE: Duration = Duration::from_secs(1);
/// The longest pause.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// A stream that lasted so long was a success: the pauses begin anew.
const PROVEN: Duration = Duration::from_secs(10);
/// A holder's program is given this long to finish its own opening before we join.
const SETTLE: Duration = Duration::from_millis(500);

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Join the device's stream.
    Open {
        /// Where it is.
        place: Place,
        /// What its streams are registered by.
        key: String,
        /// Who holds it; the stream ends with it.
        holder: u32,
        /// What to open.
        target: Target,
        /// How; `None` for a server's own format.
        shape: Option<Shape>,
    },
    /// Drop the stream.
    Drop(Place),
    /// Say once that a server holds several microphones, and nobody listens to them.
    Several(Server),
}

/// A microphone that is there.
#[derive(Debug)]
struct Mic {
    card_id: String,
    held: Option<Held>,
    stream: Stream,
    retry: Backoff,
}

/// Another process has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    pid: u32,
    server: Option<Server>,
    format: Option<Format>,
}

/// Our stream on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    /// None before a moment.
    None { until: Moment },
    /// Asked for.
    Opening,
    /// There, since a moment.
    On { since: Moment },
}

/// See the head of this file.
#[derive(Debug)]
pub struct Listening {
    own_pid: u32,
    /// Which servers this build can ask.
    servers: Vec<Server>,
    in_call: bool,
    mics: BTreeMap<Place, Mic>,
    /// The server that was said to hold several.
    several: Option<Server>,
}

impl Listening {
    /// Nothing to listen to. `servers` are those that can be asked for their default source.
    #[must_use]
    pub fn new(own_pid: u32, servers: Vec<Server>) -> Self {
        Self { own_pid, servers, in_call: false, mics: BTreeMap::new(), several: None }
    }

    /// Takes what the sensor saw.
    pub fn handle_sighting(&mut self, Sighting { place, at, sight }: &Sighting) {
        if !place.capture {
            return;
        }
        match sight {
            Sight::Arrived(Device { card_id, .. }) => {
                // The inventory bounds how many there are.
                self.mics.insert(
                    *place,
                    Mic {
                        card_id: card_id.clone(),
                        held: None,
                        stream: Stream::None { until: *at },
                        retry: Backoff::new(RETRY_BASE, RETRY_MAX),
                    },
                );
            }
            Sight::Left(_) => {
                self.mics.remove(place);
            }
            Sight::Opened { holder, format } => {
                let Some(mic) = self.mics.get_mut(place) else { return };
                let held = holder.as_ref().filter(|it| it.pid != self.own_pid).map(|holder| Held {
                    pid: holder.pid,
                    server: holder.name.as_deref().and_then(server),
                    format: format.clone(),
                });
                let is_same = |before: &Held, now: &Held| before.pid == now.pid;
                if !mic.held.as_ref().zip(held.as_ref()).is_some_and(|(a, b)| is_same(a, b)) {
                    mic.retry.reset();
                    mic.rest_until(*at + SETTLE);
                }
                mic.held = held;
            }
            Sight::Closed => {
                if let Some(mic) = self.mics.get_mut(place) {
                    mic.held = None;
                }
            }
            Sight::Went(_) | Sight::Set(_) | Sight::Slept | Sight::Tried | Sight::ServerEnded => {}
        }
    }

    /// A call is on, or none.
    pub fn set_in_call(&mut self, in_call: bool) {
        self.in_call = in_call;
    }

    /// The stream runs.
    pub fn handle_opened(&mut self, place: Place, now: Moment) {
        if let Some(mic) = self.mics.get_mut(&place) {
            mic.stream = Stream::On { since: now };
        }
    }

    /// The stream did not open, or ended; `random` is uniform over all of `u64`.
    pub fn handle_failed(&mut self, place: Place, random: u64, now: Moment) {
        if let Some(mic) = self.mics.get_mut(&place) {
            if matches!(mic.stream, Stream::On { since } if now.since(since) >= PROVEN) {
                mic.retry.reset();
            }
            mic.stream = Stream::None { until: now + mic.retry.pause(random) };
        }
    }

    /// The server does not answer: this holder's device goes by ALSA from now on. Another life of the server is asked
    /// anew.
    pub fn handle_no_server(&mut self, place: Place, now: Moment) {
        if let Some(mic) = self.mics.get_mut(&place) {
            if let Some(held) = &mut mic.held {
                held.server = None;
            }
            mic.stream = Stream::None { until: now };
        }
    }

    /// The holder's process ended while a stream of ours kept the device open.
    pub fn handle_holder_gone(&mut self, place: Place) {
        if let Some(mic) = self.mics.get_mut(&place) {
            mic.held = None;
        }
    }

    /// What to do next; `None` when all is as it should be. `streams` are those that exist.
    pub fn poll_act(&mut self, streams: &[Place], now: Moment) -> Option<Act> {
        // A stream whose device came back, or got another holder, rests here and exists there.
        let rests = |mic: &Mic| matches!(mic.stream, Stream::None { .. });
        let stale = streams
            .iter()
            .find(|place| !self.is_wanted(**place) || self.mics.get(place).is_some_and(rests));
        if let Some(place) = stale {
            if let Some(mic) = self.mics.get_mut(place).filter(|mic| !rests(mic)) {
                // Dropped although it is held: several are, perhaps only because we listened. Not at once again.
                let pause =
                    if self.in_call && mic.held.is_some() { RETRY_MAX } else { Duration::ZERO };
                mic.rest_until(now + pause);
            }
            return Some(Act::Drop(*place));
        }
        if let Some(act) = self.say_several() {
            return Some(act);
        }
        if self.is_full() {
            return None;
        }
        let is_due = |mic: &Mic| matches!(mic.stream, Stream::None { until } if until <= now);
        let due = self.mics.iter().filter(|(_, mic)| is_due(mic)).map(|(place, _)| *place);
        let place = due.filter(|place| self.is_wanted(*place)).min()?;
        let mic = self.mics.get_mut(&place)?;
        let held = mic.held.as_ref()?;
        let server = held.server.filter(|server| self.servers.contains(server));
        let key = format!("{},{}", mic.card_id, place.pcm);
        let (target, shape) = match server {
            Some(server) => (Target::Server(server), None),
            None => {
                // Its plugin converts: what the holder agreed on costs nothing and loses nothing.
                let shape = held.format.as_ref().and_then(shape);
                (Target::Alsa(names(&mic.card_id, place)), shape)
            }
        };
        let holder = held.pid;
        mic.stream = Stream::Opening;
        Some(Act::Open { place, key, holder, target, shape })
    }

    /// When [`Self::poll_act`] may have something to say without any event.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        let due = |(place, mic): (&Place, &Mic)| match mic.stream {
            Stream::None { until } if self.is_wanted(*place) => Some(until),
            Stream::None { .. } | Stream::Opening | Stream::On { .. } => None,
        };
        let is_full = self.is_full();
        self.mics.iter().filter(|_| !is_full).filter_map(due).min()
    }

    /// One is being opened, or there are as many as there may be.
    fn is_full(&self) -> bool {
        let streams = self.mics.values().map(|mic| mic.stream);
        let exists = |stream: &Stream| !matches!(stream, Stream::None { .. });
        let is_opening = streams.clone().any(|stream| stream == Stream::Opening);
        is_opening || streams.filter(exists).count() >= STREAMS_MAX
    }

    /// Whether a stream on it may exist.
    fn is_wanted(&self, place: Place) -> bool {
        let Some(held) = self.mics.get(&place).and_then(|mic| mic.held.as_ref()) else {
            return false;
        };
        let by_server = held.server.filter(|server| self.servers.contains(server));
        self.in_call && by_server.is_none_or(|server| self.held_by(server) == 1)
    }

    fn held_by(&self, server: Server) -> usize {
        let is_held = |mic: &&Mic| mic.held.as_ref().is_some_and(|it| it.server == Some(server));
        self.mics.values().filter(is_held).count()
    }

    fn say_several(&mut self) -> Option<Act> {
        let several = self.servers.iter().copied().find(|it| self.in_call && self.held_by(*it) > 1);
        let is_new = several != self.several;
        self.several = several;
        several.filter(|_| is_new).map(Act::Several)
    }
}

impl Mic {
    /// No stream before a moment, unless one is being opened.
    fn rest_until(&mut self, at: Moment) {
        self.stream = Stream::None { until: at };
    }
}

/// Programs that hold devices for others.
fn server(process: &str) -> Option<Server> {
    match process {
        "pulseaudio" => Some(Server::PulseAudio),
        "pipewire" => Some(Server::PipeWire),
        _ => None,
    }
}

/// `sysdefault` is a card's first device; another one is shared under its own name.
fn names(card_id: &str, Place { card, pcm, .. }: Place) -> Vec<String> {
    if pcm == 0 {
        vec![format!("sysdefault:CARD={card_id}")]
    } else {
        vec![format!("dsnoop:CARD={card_id},DEV={pcm}"), format!("dsnoop:CARD={card},DEV={pcm}")]
    }
}

/// The holder's format, in a width of ours that loses none of its steps.
fn shape(format: &Format) -> Option<Shape> {
    let channels = u16::try_from(format.channels).ok().filter(|channels| *channels > 0)?;
    let is_narrow = ["S16_LE", "S16_BE", "S8", "U8"].contains(&format.sample.as_str());
    let width = if is_narrow { Width::Bits16 } else { Width::Bits32 };
    (format.rate_hz > 0).then_some(Shape { rate_hz: format.rate_hz, channels, width })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::alsa_proc::Holder;

    const MIC: Place = Place { card: 1, pcm: 0, capture: true };
    const OTHER: Place = Place { card: 2, pcm: 0, capture: true };
    const OWN: u32 = 1;

    fn ms(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    fn sees(listening: &mut Listening, place: Place, at: Moment, sight: Sight) {
        listening.handle_sighting(&Sighting { place, at, sight });
    }

    fn arrives(listening: &mut Listening, place: Place, id: &str) {
        let device = Device {
            name: format!("{id} (hw:{id},0)"),
            place,
            subs: 1,
            card_id: id.to_owned(),
            driver: "USB-Audio".to_owned(),
            pcm_name: None,
        };
        sees(listening, place, ms(0), Sight::Arrived(device));
    }

    fn opened(pid: u32, name: &str, sample: &str) -> Sight {
        let holder = Some(Holder { pid, name: Some(name.to_owned()) });
        let format = Some(Format {
            sample: sample.to_owned(),
            rate_hz: 48_000,
            channels: 1,
            period_frames: 480,
            buffer_frames: 960,
        });
        Sight::Opened { holder, format }
    }

    /// Two microphones, a call, and a program that holds the first one.
    fn in_call(servers: &[Server]) -> Listening {
        let mut listening = Listening::new(OWN, servers.to_vec());
        arrives(&mut listening, MIC, "Headset");
        arrives(&mut listening, OTHER, "Camera");
        sees(&mut listening, MIC, ms(0), opened(7, "meeting", "S16_LE"));
        listening.set_in_call(true);
        listening
    }

    #[test]
    fn only_what_is_held_in_a_call_is_opened_and_shared() {
        let mut listening = in_call(&[]);
        assert_eq!(listening.poll_act(&[], ms(499)), None);
        assert_eq!(listening.poll_timeout(), Some(ms(500)));
        let target = Target::Alsa(vec!["sysdefault:CARD=Headset".to_owned()]);
        let shape = Shape { rate_hz: 48_000, channels: 1, width: Width::Bits16 };
        let open = Act::Open {
            place: MIC,
            key: "Headset,0".to_owned(),
            holder: 7,
            target,
            shape: Some(shape),
        };
        assert_eq!(listening.poll_act(&[], ms(500)), Some(open));
        assert_eq!(listening.poll_act(&[], ms(600)), None);
        assert_eq!(listening.poll_timeout(), None);
    }

    #[test]
    fn nothing_is_opened_outside_of_a_call_or_for_ourselves() {
        let mut listening = in_call(&[]);
        listening.set_in_call(false);
        assert_eq!(listening.poll_act(&[], ms(5_000)), None);
        assert_eq!(listening.poll_timeout(), None);
        listening.set_in_call(true);
        sees(&mut listening, MIC, ms(5_000), opened(OWN, "roomtone-agent", "S16_LE"));
        assert_eq!(listening.poll_act(&[], ms(9_000)), None);
    }

    #[test]
    fn stream_ends_with_the_call_the_device_its_holder_and_its_closing() {
        type End = fn(&mut Listening);
        let ends: [(&str, End); 4] = [
            ("call", |it| it.set_in_call(false)),
            ("closed", |it| sees(it, MIC, ms(9_000), Sight::Closed)),
            ("holder", |it| it.handle_holder_gone(MIC)),
            ("left", |it| {
                let left = it.mics.remove(&MIC);
                assert!(left.is_some());
            }),
        ];
        for (name, end) in ends {
            let mut listening = in_call(&[]);
            assert!(matches!(listening.poll_act(&[], ms(500)), Some(Act::Open { .. })));
            listening.handle_opened(MIC, ms(600));
            assert_eq!(listening.poll_act(&[MIC], ms(8_000)), None, "{name}");
            end(&mut listening);
            assert_eq!(listening.poll_act(&[MIC], ms(9_000)), Some(Act::Drop(MIC)), "{name}");
            assert_eq!(listening.poll_act(&[], ms(99_000)), None, "{name}");
        }
    }

    /// Pauses with the largest random number: 1, 2, 4 … 60 s; a stream that lasted 10 s starts them anew.
    #[test]
    fn failures_are_followed_by_growing_pauses() {
        let mut listening = in_call(&[]);
        let mut now = ms(500);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert!(matches!(listening.poll_act(&[], now), Some(Act::Open { .. })));
            listening.handle_failed(MIC, u64::MAX, now);
            let due = listening.poll_timeout().unwrap();
            pauses.push(due.since(now).as_secs_f64().round() as u64);
            now = due;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(matches!(listening.poll_act(&[], now), Some(Act::Open { .. })));
        listening.handle_opened(MIC, now);
        let later = now + PROVEN;
        listening.handle_failed(MIC, u64::MAX, later);
        assert!(listening.poll_timeout().unwrap().since(later) <= RETRY_BASE);
    }

    #[test]
    fn servers_default_source_counts_for_the_only_microphone_that_it_holds() {
        let mut listening = in_call(&[Server::PulseAudio]);
        sees(&mut listening, MIC, ms(0), opened(7, "pulseaudio", "S32_LE"));
        let Some(Act::Open { target, shape, .. }) = listening.poll_act(&[], ms(500)) else {
            panic!("nothing is opened");
        };
        assert_eq!((target, shape), (Target::Server(Server::PulseAudio), None));
        listening.handle_opened(MIC, ms(600));
        sees(&mut listening, OTHER, ms(700), opened(7, "pulseaudio", "S32_LE"));
        assert_eq!(listening.poll_act(&[MIC], ms(900)), Some(Act::Drop(MIC)));
        assert_eq!(listening.poll_act(&[], ms(900)), Some(Act::Several(Server::PulseAudio)));
        assert_eq!(listening.poll_act(&[], ms(9_000)), None);
    }

    #[test]
    fn server_that_does_not_answer_is_gone_around() {
        let mut listening = in_call(&[Server::PipeWire]);
        sees(&mut listening, MIC, ms(0), opened(7, "pipewire", "S24_3LE"));
        assert!(matches!(listening.poll_act(&[], ms(500)), Some(Act::Open { .. })));
        listening.handle_no_server(MIC, ms(600));
        let Some(Act::Open { target, shape, .. }) = listening.poll_act(&[], ms(600)) else {
            panic!("nothing is opened");
        };
        assert_eq!(target, Target::Alsa(vec!["sysdefault:CARD=Headset".to_owned()]));
        // 24 bits would lose their quietest eight in 16.
        assert_eq!(shape.unwrap().width, Width::Bits32);
    }

    #[test]
    fn stream_is_made_anew_for_another_holder() {
        let mut listening = in_call(&[]);
        assert!(matches!(listening.poll_act(&[], ms(500)), Some(Act::Open { holder: 7, .. })));
        listening.handle_opened(MIC, ms(600));
        sees(&mut listening, MIC, ms(5_000), opened(9, "other", "S16_LE"));
        assert_eq!(listening.poll_act(&[MIC], ms(5_000)), Some(Act::Drop(MIC)));
        assert_eq!(listening.poll_act(&[], ms(5_000)), None);
        assert_eq!(listening.poll_timeout(), Some(ms(5_500)));
        assert!(matches!(listening.poll_act(&[], ms(5_500)), Some(Act::Open { holder: 9, .. })));
    }

    #[test]
    fn streams_have_a_maximum_and_what_is_beyond_wakes_nobody() {
        let mut listening = in_call(&[]);
        for card in 1..=12 {
            let place = Place { card, ..MIC };
            arrives(&mut listening, place, &format!("C{card}"));
            sees(&mut listening, place, ms(0), opened(7, "meeting", "S16_LE"));
        }
        let mut streams = Vec::new();
        while let Some(Act::Open { place, .. }) = listening.poll_act(&streams, ms(500)) {
            listening.handle_opened(place, ms(500));
            streams.push(place);
        }
        assert_eq!((streams.len(), listening.poll_timeout()), (STREAMS_MAX, None));
    }

    #[test]
    fn one_opening_at_a_time() {
        let mut listening = in_call(&[]);
        sees(&mut listening, OTHER, ms(0), opened(8, "camera", "S16_LE"));
        let first = listening.poll_act(&[], ms(500));
        assert!(matches!(first, Some(Act::Open { place: MIC, .. })), "{first:?}");
        assert_eq!(listening.poll_act(&[MIC], ms(500)), None);
        listening.handle_opened(MIC, ms(900));
        let second = listening.poll_act(&[MIC], ms(900));
        assert!(matches!(second, Some(Act::Open { place: OTHER, .. })), "{second:?}");
    }
}
