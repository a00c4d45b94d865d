//! Streams of our own on a device or a sound server. The only file that names cpal.
//!
//! Each stream has a thread that opens it, keeps it and closes it, because any of these can block: a USB headset that
//! does not answer keeps a control request for 5 s. Whoever asked waits no longer than [`OPEN_WITHIN`]; the thread is
//! left to end by itself, and until then its device gets no second one ([`StartError::Hangs`]). A stream is dropped at
//! its first error that is no overrun. cpal repeats the errors of a dead stream in a loop without a pause, 1,652 in
//! 3 ms seen: only the first is looked at, the others are slowed down.
//!
//! No moment of cpal's is used: some drivers' clocks stand still (HDA in a guest gives 0) or freeze in a stall. A
//! callback gets a buffer and nothing else.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{BufferSize, ErrorKind, HostId, SampleFormat, StreamConfig};

use super::alsa_proc::parse::{NAME_BYTES_MAX, clean};
use super::bell::Bell;
use super::signal::OpenFailure;
use super::source::{Server, Shape, Target, Width};
use crate::clock::Moment;
use crate::clock::system;

/// How long an opening may take before it counts as failed: healthy ones took 0.4 s in an emulated machine, and what
/// a device that hangs keeps waiting is 5 s.
pub const OPEN_WITHIN: Duration = Duration::from_secs(4);
/// How long cpal may wait for a sound server, and how often an idle ALSA stream looks whether its device left.
const WAIT: Duration = OPEN_WITHIN;
/// What every further error of a dead stream costs it.
const ERROR_PAUSE: Duration = Duration::from_millis(10);
/// Overruns without a buffer in between after which a stream is dead.
const XRUNS_IN_A_ROW_MAX: u32 = 50;
/// Overruns in a row that may follow each other without a pause.
const XRUNS_AT_ONCE_MAX: u32 = 4;

/// A callback's buffer, interleaved.
#[derive(Debug, Clone, Copy)]
pub enum Samples<'a> {
    /// 16-bit integers.
    Bits16(&'a [i16]),
    /// 32-bit integers.
    Bits32(&'a [i32]),
    /// 32-bit floats.
    Float(&'a [f32]),
}

/// Why no attempt was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// An earlier stream of the device has not ended.
    #[error("an earlier attempt at this device has not come back yet")]
    Hangs,
    /// The kernel has no thread left.
    #[error("no thread for a stream: {0}")]
    NoThread(String),
}

/// Why there is no stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// There is no such device, or no longer.
    NotThere,
    /// The sound server does not answer, or is not compiled in.
    NoServer,
    /// The device did not open.
    Refused(OpenFailure),
}

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It runs.
    Opened(Shape),
    /// It could not be opened.
    Failed {
        /// Why.
        error: OpenError,
        /// What cpal and libasound said, on one line.
        words: String,
    },
    /// It ran and ended.
    Broke {
        /// Its device left, or its server.
        is_gone: bool,
        /// What cpal said.
        words: String,
    },
}

/// What its thread is told.
#[derive(Debug)]
enum Order {
    Stop,
    Broke(ErrorKind, String),
}

/// A stream, from outside. Dropped, it ends, without being waited for.
#[derive(Debug)]
pub struct Stream {
    events: Receiver<Event>,
    orders: SyncSender<Order>,
    asked_at: Moment,
    is_opening: bool,
    xruns: Arc<AtomicU32>,
}

impl Stream {
    /// What happened since the last question.
    pub fn poll(&mut self) -> Option<Event> {
        match self.events.try_recv() {
            Ok(event) => {
                self.is_opening = false;
                Some(event)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                let is_late = self.is_opening && system::now().since(self.asked_at) >= OPEN_WITHIN;
                self.is_opening &= !is_late;
                is_late.then(late)
            }
        }
    }

    /// Waits until something happened, at most until an opening is late; `None` where nothing did within `most`.
    pub fn wait(&mut self, most: Duration) -> Option<Event> {
        let until = self.due().map_or(most, |due| due.since(system::now()).min(most));
        match self.events.recv_timeout(until) {
            Ok(event) => {
                self.is_opening = false;
                Some(event)
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => self.poll(),
        }
    }

    /// Ends it and waits for that; false where it did not within `most`.
    pub fn close(self, most: Duration) -> bool {
        // Full where it broke: then it ends anyhow.
        let _ = self.orders.try_send(Order::Stop);
        let until = system::now() + most;
        loop {
            match self.events.recv_timeout(until.since(system::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }

    /// When an opening that goes on is late.
    #[must_use]
    pub fn due(&self) -> Option<Moment> {
        self.is_opening.then(|| self.asked_at + OPEN_WITHIN)
    }

    /// How long ago it was asked for.
    #[must_use]
    pub fn age(&self) -> Duration {
        system::now().since(self.asked_at)
    }

    /// Overruns or underruns so far.
    #[must_use]
    pub fn xruns(&self) -> u32 {
        self.xruns.load(Ordering::Relaxed)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.orders.try_send(Order::Stop);
    }
}

fn late() -> Event {
    let error = OpenError::Refused(OpenFailure::Fault);
    Event::Failed { error, words: format!("it did not open within {OPEN_WITHIN:?}") }
}

/// Opens a capture stream. `device` names what is opened among the streams of this process; `wanted` is the format,
/// `None` for the device's own; `period` the frames of a buffer, `None` for the driver's own. `heard` is called with
/// each buffer and its channels, in a thread that must never wait. `bell` rings when there is an [`Event`].
///
/// # Errors
/// Where no attempt is made. All else is an event.
pub fn capture(
    device: &str,
    target: Target,
    wanted: Option<Shape>,
    period: Option<u32>,
    mut heard: impl FnMut(Samples<'_>, u16) + Send + 'static,
    bell: &Arc<Bell>,
) -> Result<Stream, StartError> {
    start(device, "capture", bell, move |faults| {
        let device =
            find(&target, |device| device.supports_input(), |host| host.default_input_device())?;
        let shape = match wanted {
            Some(shape) => shape,
            None => shape_of(&device.default_input_config()?),
        };
        let alive = Arc::clone(&faults.xruns_in_a_row);
        let stream = device.build_input_stream_raw(
            config(shape, period),
            format(shape.width),
            move |data, _| {
                alive.store(0, Ordering::Relaxed);
                if let Some(buffer) = data.as_slice() {
                    heard(Samples::Bits16(buffer), shape.channels);
                } else if let Some(buffer) = data.as_slice() {
                    heard(Samples::Bits32(buffer), shape.channels);
                } else if let Some(buffer) = data.as_slice() {
                    heard(Samples::Float(buffer), shape.channels);
                }
            },
            move |error| faults.handle(&error),
            Some(WAIT),
        )?;
        Ok((stream, shape))
    })
}

/// Opens a render stream of 16-bit samples; `fill` writes each buffer, which comes full of silence. Else as
/// [`capture`].
///
/// # Errors
/// As there.
pub fn render(
    device: &str,
    target: Target,
    (rate_hz, channels): (u32, u16),
    period: Option<u32>,
    mut fill: impl FnMut(&mut [i16], u16) + Send + 'static,
    bell: &Arc<Bell>,
) -> Result<Stream, StartError> {
    start(device, "render", bell, move |faults| {
        let device =
            find(&target, |device| device.supports_output(), |host| host.default_output_device())?;
        let shape = Shape { rate_hz, channels, width: Width::Bits16 };
        let alive = Arc::clone(&faults.xruns_in_a_row);
        let stream = device.build_output_stream_raw(
            config(shape, period),
            SampleFormat::I16,
            move |data, _| {
                alive.store(0, Ordering::Relaxed);
                if let Some(buffer) = data.as_slice_mut() {
                    fill(buffer, channels);
                }
            },
            move |error| faults.handle(&error),
            Some(WAIT),
        )?;
        Ok((stream, shape))
    })
}

/// Whether streams of a server can be had in this build; whether it answers shows when one is opened.
#[must_use]
pub fn knows(server: Server) -> bool {
    host_of(server).is_some()
}

/// PipeWire speaks PulseAudio's protocol too.
fn host_of(server: Server) -> Option<HostId> {
    let named = |name: &str| cpal::ALL_HOSTS.iter().copied().find(|host| host.name() == name);
    match server {
        Server::PulseAudio => named("PulseAudio"),
        Server::PipeWire => named("PipeWire").or_else(|| named("PulseAudio")),
    }
}

/// Device and side for which a thread lives.
static STREAMS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// An entry there, until its thread ended.
struct Registered(String);

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&STREAMS).remove(&self.0);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing can panic while it holds this.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where cpal's errors go.
struct Faults {
    orders: SyncSender<Order>,
    is_broken: AtomicBool,
    xruns: Arc<AtomicU32>,
    /// Since the last buffer.
    xruns_in_a_row: Arc<AtomicU32>,
}

impl Faults {
    /// Runs in cpal's thread, which has nothing else to do once its stream is dead.
    fn handle(&self, error: &cpal::Error) {
        let is_dead = if error.kind() == ErrorKind::Xrun {
            self.xruns.fetch_add(1, Ordering::Relaxed);
            let in_a_row = self.xruns_in_a_row.fetch_add(1, Ordering::Relaxed);
            if in_a_row >= XRUNS_AT_ONCE_MAX {
                std::thread::sleep(ERROR_PAUSE);
            }
            in_a_row >= XRUNS_IN_A_ROW_MAX
        } else {
            // Refused priority: it runs on with the ordinary one.
            error.kind() != ErrorKind::RealtimeDenied
        };
        if is_dead && !self.is_broken.swap(true, Ordering::Relaxed) {
            // Full where it is to stop anyhow.
            let _ = self.orders.try_send(Order::Broke(error.kind(), words(error)));
        } else if is_dead {
            std::thread::sleep(ERROR_PAUSE);
        }
    }
}

fn start(
    device: &str,
    side: &'static str,
    bell: &Arc<Bell>,
    open: impl FnOnce(Faults) -> Result<(cpal::Stream, Shape), Refusal> + Send + 'static,
) -> Result<Stream, StartError> {
    let key = format!("{side} {device}");
    if !lock(&STREAMS).insert(key.clone()) {
        return Err(StartError::Hangs);
    }
    let registered = Registered(key);
    // One order to stop and one break; one event of opening and one of breaking.
    let (orders, told) = sync_channel(2);
    let (teller, events) = sync_channel(2);
    let xruns = Arc::new(AtomicU32::new(0));
    let faults = Faults {
        orders: orders.clone(),
        is_broken: AtomicBool::new(false),
        xruns: Arc::clone(&xruns),
        xruns_in_a_row: Arc::default(),
    };
    let bell = Arc::clone(bell);
    let body = move || {
        // Dropped last: until then the device has a thread.
        let registered = registered;
        let tell = |event| {
            // Nobody who listens has dropped the other end, and then it is over.
            let _ = teller.try_send(event);
            bell.ring();
        };
        if let Some(broke) = keep(open, faults, &told, &tell) {
            tell(broke);
        }
        drop(registered);
    };
    std::thread::Builder::new()
        .name(format!("own {side}"))
        .spawn(body)
        .map_err(|error| StartError::NoThread(error.to_string()))?;
    Ok(Stream { events, orders, asked_at: system::now(), is_opening: true, xruns })
}

/// Opens, keeps until told otherwise, and closes; returns how it ended unless it was asked to.
fn keep(
    open: impl FnOnce(Faults) -> Result<(cpal::Stream, Shape), Refusal>,
    faults: Faults,
    told: &Receiver<Order>,
    tell: &impl Fn(Event),
) -> Option<Event> {
    // libasound writes its complaints to stderr unless they are caught, thread by thread.
    let complaints = alsa::Output::local_error_handler();
    let opened = open(faults).and_then(|(stream, shape)| {
        stream.play()?;
        Ok((stream, shape))
    });
    let (stream, shape) = match opened {
        Ok(opened) => opened,
        Err(Refusal { error, words }) => {
            let said = complaints.map(|said| said.borrow().buffer_string(complaint));
            let said = said.unwrap_or_default();
            let words = if said.is_empty() { words } else { format!("{words} ({said})") };
            return Some(Event::Failed { error, words });
        }
    };
    tell(Event::Opened(shape));
    let order = told.recv();
    drop(stream);
    match order {
        Ok(Order::Broke(kind, words)) => {
            let is_gone =
                matches!(kind, ErrorKind::DeviceNotAvailable | ErrorKind::StreamInvalidated);
            Some(Event::Broke { is_gone, words })
        }
        Ok(Order::Stop) | Err(_) => None,
    }
}

/// Why an opening failed.
struct Refusal {
    error: OpenError,
    words: String,
}

impl From<cpal::Error> for Refusal {
    fn from(error: cpal::Error) -> Self {
        Self { error: open_error(error.kind()), words: words(&error) }
    }
}

/// What cpal's kinds say of a device that was to be opened.
fn open_error(kind: ErrorKind) -> OpenError {
    match kind {
        ErrorKind::DeviceNotAvailable => OpenError::NotThere,
        ErrorKind::HostUnavailable => OpenError::NoServer,
        ErrorKind::DeviceBusy => OpenError::Refused(OpenFailure::Busy),
        ErrorKind::PermissionDenied => OpenError::Refused(OpenFailure::NoPermission),
        // What we asked for cannot be had; that says nothing against the device.
        ErrorKind::UnsupportedConfig
        | ErrorKind::UnsupportedOperation
        | ErrorKind::InvalidInput
        | ErrorKind::RealtimeDenied
        | ErrorKind::ResourceExhausted => OpenError::Refused(OpenFailure::Unsupported),
        // An overrun cannot be of a stream that does not run: EPIPE is what a USB device answers that refuses the
        // rate.
        ErrorKind::Xrun
        | ErrorKind::DeviceChanged
        | ErrorKind::StreamInvalidated
        | ErrorKind::BackendError
        | ErrorKind::Other => OpenError::Refused(OpenFailure::Fault),
        // A kind of a later cpal.
        _ => OpenError::Refused(OpenFailure::Fault),
    }
}

/// One short line.
fn words(error: &cpal::Error) -> String {
    clean(error.to_string().as_bytes(), NAME_BYTES_MAX)
}

fn complaint(words: &[u8]) -> String {
    clean(words, NAME_BYTES_MAX)
}

fn find(
    target: &Target,
    fits: impl Fn(&cpal::Device) -> bool,
    default: impl FnOnce(&cpal::Host) -> Option<cpal::Device>,
) -> Result<cpal::Device, Refusal> {
    let none = |error, words: String| Refusal { error, words };
    match target {
        Target::Server(server) => {
            let host = host_of(*server)
                .ok_or_else(|| none(OpenError::NoServer, format!("{server:?} is not built in")))?;
            let host = cpal::host_from_id(host)?;
            default(&host).ok_or_else(|| none(OpenError::NotThere, "no default device".to_owned()))
        }
        Target::Alsa(names) => {
            let host = cpal::host_from_id(HostId::Alsa)?;
            let mut known: Vec<cpal::Device> = host.devices()?.filter(fits).collect();
            let is =
                |device: &cpal::Device, name: &str| device.id().is_ok_and(|id| id.id() == name);
            let at = names.iter().find_map(|name| known.iter().position(|have| is(have, name)));
            at.map(|at| known.swap_remove(at)).ok_or_else(|| {
                none(OpenError::NotThere, format!("ALSA has no {}", names.join(" and no ")))
            })
        }
    }
}

fn config(shape: Shape, period: Option<u32>) -> StreamConfig {
    StreamConfig {
        channels: shape.channels,
        sample_rate: shape.rate_hz,
        buffer_size: period.map_or(BufferSize::Default, BufferSize::Fixed),
    }
}

fn format(width: Width) -> SampleFormat {
    match width {
        Width::Bits16 => SampleFormat::I16,
        Width::Bits32 => SampleFormat::I32,
        Width::Float => SampleFormat::F32,
    }
}

/// A device's own format where we have a reader for it, otherwise one that plugins convert to.
fn shape_of(config: &cpal::SupportedStreamConfig) -> Shape {
    const NARROW: [SampleFormat; 3] = [SampleFormat::I16, SampleFormat::U8, SampleFormat::I8];
    let width = if config.sample_format() == SampleFormat::F32 {
        Width::Float
    } else if NARROW.contains(&config.sample_format()) {
        Width::Bits16
    } else {
        Width::Bits32
    };
    Shape { rate_hz: config.sample_rate(), channels: config.channels(), width }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const SHAPE: Shape = Shape { rate_hz: 48_000, channels: 1, width: Width::Bits16 };

    fn open(device: &str, name: &str) -> Result<Stream, StartError> {
        let bell = Arc::new(Bell::new().unwrap());
        let target = Target::Alsa(vec![name.to_owned()]);
        capture(device, target, Some(SHAPE), Some(480), |_, _| {}, &bell)
    }

    #[test]
    fn device_has_one_thread_until_that_ended() {
        let mut first = open("one thread", "null").unwrap();
        assert_eq!(open("one thread", "null").err(), Some(StartError::Hangs));
        // Whether a machine has ALSA's files or not: something happens, and then it ends.
        assert!(first.wait(PATIENCE).is_some());
        assert!(first.close(PATIENCE));
        assert!(open("one thread", "null").is_ok());
    }

    #[test]
    fn name_that_alsa_does_not_know_is_not_there() {
        let mut stream = open("unknown", "no such device").unwrap();
        let Some(Event::Failed { error, words }) = stream.wait(PATIENCE) else {
            panic!("no answer");
        };
        assert_eq!(error, OpenError::NotThere, "{words}");
        assert!(words.contains("no such device"), "{words}");
    }

    #[test]
    fn servers_are_known_as_they_are_built_in() {
        assert_eq!(knows(Server::PulseAudio), cfg!(feature = "pulseaudio"));
        let either = cfg!(feature = "pipewire") || cfg!(feature = "pulseaudio");
        assert_eq!(knows(Server::PipeWire), either);
    }

    #[test]
    fn busy_and_forbidden_are_no_faults_and_epipe_at_open_is_one() {
        let refused = OpenError::Refused;
        for (kind, error) in [
            (ErrorKind::DeviceBusy, refused(OpenFailure::Busy)),
            (ErrorKind::PermissionDenied, refused(OpenFailure::NoPermission)),
            (ErrorKind::UnsupportedConfig, refused(OpenFailure::Unsupported)),
            (ErrorKind::Xrun, refused(OpenFailure::Fault)),
            (ErrorKind::BackendError, refused(OpenFailure::Fault)),
            (ErrorKind::DeviceNotAvailable, OpenError::NotThere),
            (ErrorKind::HostUnavailable, OpenError::NoServer),
        ] {
            assert_eq!(open_error(kind), error, "{kind:?}");
        }
    }
}
