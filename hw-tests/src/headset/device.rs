//! The headset itself: answers requests at the pace of a real device, and breaks on command.
//!
//! Each direction has a clock of its own: a request of n packets is done n ms after the one before it, however late
//! the host asked or this program woke, so that the rate is exact on average. What waits longer than [`BEHIND_MAX`]
//! is given up, as a device gives up what its host did not fetch.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::command::{Command, Side};
use super::descriptors::{
    self, CAPTURE_ENDPOINT, CAPTURE_UNIT, RATES_HZ, RENDER_ENDPOINT, RENDER_UNIT, SAMPLE_BYTES,
    STATUS_ENDPOINT, TO_HOST,
};
use super::signal::{Meter, Signal, Source};
use super::usbip::{ECONNRESET, ENOMEM, EPIPE, PacketDone, Reply, Request, Submit};

/// How far a direction's clock may lag behind: what `snd-usb-audio` queues is at most 24 ms; the rest is for a busy
/// machine.
const BEHIND_MAX: Duration = Duration::from_millis(200);
/// Requests that may wait on one endpoint; `snd-usb-audio` has 12 (`MAX_URBS`).
const WAITING_MAX: usize = 64;
/// Notices of the button that may wait for the host to ask.
const NOTICES_MAX: usize = 8;

/// Range and step of both volumes, in 1/256 dB (Audio 1.0 section 5.2.2.4.3.2): -32 dB to 0 dB by 1 dB.
const VOLUME_MIN: i16 = -32 * 256;
const VOLUME_MAX: i16 = 0;
const VOLUME_STEP: i16 = 256;

/// Names by which the kernel tells headsets apart.
#[derive(Debug, Clone)]
pub struct Names {
    /// The product; the ALSA card's id is made of it.
    pub product: String,
    /// The serial number.
    pub serial: String,
}

/// The device behind the wire.
#[derive(Debug)]
pub struct Headset {
    names: Names,
    faults: Faults,
    source: Source,
    capture: Direction,
    render: Direction,
    heard: Meter,
    configuration: u8,
    /// Requests on endpoint 0 that a hang holds back, and those that wait for the button.
    held: VecDeque<Submit>,
    status: VecDeque<u32>,
    notices: VecDeque<u8>,
    replies: VecDeque<Reply>,
}

/// What is broken.
#[derive(Debug, Default)]
struct Faults {
    control: Control,
    no_data: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Control {
    #[default]
    Works,
    Stalls,
    Hangs,
}

/// One direction of audio.
#[derive(Debug)]
struct Direction {
    stalled: bool,
    /// Linux error number of each packet; 0 for none.
    error: i32,
    muted: bool,
    volume: i16,
    alternate: u8,
    rate_hz: u32,
    waiting: VecDeque<(Submit, Instant)>,
    /// When the last request accepted will be done.
    clock: Option<Instant>,
    frames: u64,
}

/// Counters since the one before; settings as they are.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stat {
    /// Frames that the host fetched from the microphone.
    pub capture_frames: u64,
    /// Frames that the host sent to the loudspeaker.
    pub render_frames: u64,
    /// Their level, of full scale, mute and volume applied.
    pub render_rms: Option<f64>,
    /// Whether the microphone is muted.
    pub capture_muted: bool,
    /// Whether the loudspeaker is muted.
    pub render_muted: bool,
    /// The microphone's volume, in 1/256 dB.
    pub capture_volume: i16,
    /// The loudspeaker's volume, in 1/256 dB.
    pub render_volume: i16,
    /// The rates that the host chose, in Hz.
    pub rates_hz: [u32; 2],
    /// Which setting of the streaming interfaces the host chose: 1 while the device is open.
    pub alternates: [u8; 2],
}

impl Headset {
    /// A healthy headset that hears a tone.
    #[must_use]
    pub fn new(names: Names) -> Self {
        Self {
            names,
            faults: Faults::default(),
            source: Source::new(Signal::Tone),
            capture: Direction::new(),
            render: Direction::new(),
            heard: Meter::default(),
            configuration: 0,
            held: VecDeque::new(),
            status: VecDeque::new(),
            notices: VecDeque::new(),
            replies: VecDeque::new(),
        }
    }

    /// Takes what the host asks.
    pub fn handle_request(&mut self, request: Request, now: Instant) {
        match request {
            Request::Unlink { sequence, victim } => {
                let error = if self.take_back(victim) { ECONNRESET } else { 0 };
                self.replies.push_back(Reply::Unlinked { sequence, error });
            }
            Request::Submit(submit) => match (submit.endpoint, submit.to_host) {
                (0, _) if self.faults.control == Control::Hangs && is_class(&submit) => {
                    self.hold(submit);
                }
                (0, _) => self.answer_control(&submit),
                (STATUS_ENDPOINT, true) => {
                    if self.status.len() == WAITING_MAX {
                        self.refuse(&submit, ENOMEM);
                    } else {
                        self.status.push_back(submit.sequence);
                    }
                    self.tell_notices();
                }
                (CAPTURE_ENDPOINT, true) => self.queue(Side::Capture, submit, now),
                (RENDER_ENDPOINT, false) => self.queue(Side::Render, submit, now),
                _ => self.refuse(&submit, EPIPE),
            },
        }
    }

    /// Takes a command; [`Command::Plug`] and [`Command::Unplug`] concern the wire and change nothing but the host's
    /// settings.
    pub fn handle_command(&mut self, command: Command) {
        match command {
            Command::Stall(side) => self.direction(side).stalled = true,
            Command::PacketError(side, error) => self.direction(side).error = i32::from(error),
            Command::NoData => self.faults.no_data = true,
            Command::ControlStall => self.faults.control = Control::Stalls,
            Command::ControlHang => self.faults.control = Control::Hangs,
            Command::Hear(signal) => self.source = Source::new(signal),
            Command::Resume => {
                self.faults = Faults::default();
                for direction in [&mut self.capture, &mut self.render] {
                    direction.stalled = false;
                    direction.error = 0;
                }
                while let Some(submit) = self.held.pop_front() {
                    self.answer_control(&submit);
                }
            }
            Command::Button => {
                self.capture.muted = !self.capture.muted;
                if self.notices.len() < NOTICES_MAX {
                    self.notices.push_back(CAPTURE_UNIT);
                }
                self.tell_notices();
            }
            Command::Unplug | Command::Plug => self.forget_host(),
            Command::Stat => {}
        }
    }

    /// The counters, which begin anew.
    pub fn take_stat(&mut self) -> Stat {
        let stat = Stat {
            capture_frames: self.capture.frames,
            render_frames: self.render.frames,
            render_rms: self.heard.rms(),
            capture_muted: self.capture.muted,
            render_muted: self.render.muted,
            capture_volume: self.capture.volume,
            render_volume: self.render.volume,
            rates_hz: [self.capture.rate_hz, self.render.rate_hz],
            alternates: [self.capture.alternate, self.render.alternate],
        };
        self.capture.frames = 0;
        self.render.frames = 0;
        self.heard = Meter::default();
        stat
    }

    /// The next answer that is due.
    pub fn poll_reply(&mut self, now: Instant) -> Option<Reply> {
        if let Some(reply) = self.replies.pop_front() {
            return Some(reply);
        }
        if let Some(submit) = self.capture.take_due(now) {
            return Some(self.deliver(&submit));
        }
        let submit = self.render.take_due(now)?;
        Some(self.consume(&submit))
    }

    /// When the next answer is due; `None` where only the host or a command can bring one.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [&self.capture, &self.render].into_iter().filter_map(Direction::next_due).min()
    }

    fn direction(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Capture => &mut self.capture,
            Side::Render => &mut self.render,
        }
    }

    /// Off the bus a device loses what its host had set up, and keeps its faults, its mute and its volume.
    fn forget_host(&mut self) {
        for direction in [&mut self.capture, &mut self.render] {
            direction.waiting.clear();
            direction.clock = None;
            direction.alternate = 0;
        }
        self.configuration = 0;
        self.held.clear();
        self.status.clear();
        self.notices.clear();
        self.replies.clear();
    }

    fn queue(&mut self, side: Side, submit: Submit, now: Instant) {
        let inside = submit.packets.iter().all(|&(offset, length)| {
            offset.checked_add(length).is_some_and(|end| end <= submit.length)
        });
        if !inside || submit.packets.is_empty() {
            self.refuse(&submit, EPIPE);
        } else if self.direction(side).waiting.len() == WAITING_MAX {
            self.refuse(&submit, ENOMEM);
        } else {
            self.direction(side).queue(submit, now);
        }
    }

    fn hold(&mut self, submit: Submit) {
        if self.held.len() == WAITING_MAX {
            self.refuse(&submit, ENOMEM);
        } else {
            self.held.push_back(submit);
        }
    }

    fn refuse(&mut self, submit: &Submit, error: i32) {
        self.replies.push_back(done(submit, error, 0, Vec::new(), Vec::new()));
    }

    fn take_back(&mut self, victim: u32) -> bool {
        for queue in [&mut self.capture.waiting, &mut self.render.waiting] {
            if let Some(at) = queue.iter().position(|(submit, _)| submit.sequence == victim) {
                return queue.remove(at).is_some();
            }
        }
        if let Some(at) = self.status.iter().position(|&sequence| sequence == victim) {
            return self.status.remove(at).is_some();
        }
        let at = self.held.iter().position(|submit| submit.sequence == victim);
        at.is_some_and(|at| self.held.remove(at).is_some())
    }

    /// Status words of section 3.7.1.2: an interrupt is pending, raised by a unit of the control interface.
    fn tell_notices(&mut self) {
        while !self.notices.is_empty() && !self.status.is_empty() {
            if let (Some(unit), Some(sequence)) =
                (self.notices.pop_front(), self.status.pop_front())
            {
                let data = vec![0x80, unit];
                let packets = Vec::new();
                self.replies.push_back(Reply::Submitted {
                    sequence,
                    error: 0,
                    actual: 2,
                    data,
                    packets,
                });
            }
        }
    }

    /// The microphone's packets: each takes what one millisecond holds.
    fn deliver(&mut self, submit: &Submit) -> Reply {
        let gain = if self.capture.muted { 0.0 } else { linear(self.capture.volume) };
        let rate_hz = self.capture.rate_hz;
        let error = self.capture.error;
        let empty = self.faults.no_data || error != 0;
        let mut data = Vec::new();
        let mut packets = Vec::with_capacity(submit.packets.len());
        for &(offset, length) in &submit.packets {
            let frames = if empty { 0 } else { (rate_hz / 1_000).min(length / SAMPLE_BYTES) };
            for _ in 0..frames {
                let sample = f64::from(self.source.next_sample(rate_hz)) * gain;
                data.extend((sample.round() as i16).to_le_bytes());
            }
            self.capture.frames += u64::from(frames);
            packets.push(PacketDone { offset, length, actual: frames * SAMPLE_BYTES, error });
        }
        let actual = u32::try_from(data.len()).expect("no more than the buffer's length");
        done(submit, 0, actual, data, packets)
    }

    fn consume(&mut self, submit: &Submit) -> Reply {
        let gain = if self.render.muted { 0.0 } else { linear(self.render.volume) };
        let error = self.render.error;
        let mut actual = 0;
        let mut packets = Vec::with_capacity(submit.packets.len());
        for &(offset, length) in &submit.packets {
            let moved = if error == 0 { length } else { 0 };
            let (from, to) = (offset as usize, (offset + moved) as usize);
            // `queue` took care that packets lie inside, `Decoder` that the buffer is as long as it says.
            let bytes = &submit.data[from..to];
            self.heard.handle_samples(bytes, gain);
            let frame = SAMPLE_BYTES * u32::from(descriptors::RENDER_CHANNELS);
            if self.render.rate_hz == self.capture.rate_hz {
                for left in bytes.chunks_exact(frame as usize) {
                    let sample = f64::from(i16::from_le_bytes([left[0], left[1]])) * gain;
                    self.source.handle_played(sample.round() as i16, self.render.rate_hz);
                }
            }
            self.render.frames += u64::from(moved / frame);
            actual += moved;
            packets.push(PacketDone { offset, length, actual: moved, error });
        }
        done(submit, 0, actual, Vec::new(), packets)
    }

    fn answer_control(&mut self, submit: &Submit) {
        let answer = if self.faults.control == Control::Stalls && is_class(submit) {
            None
        } else {
            self.control(submit)
        };
        let reply = match answer {
            None => done(submit, EPIPE, 0, Vec::new(), Vec::new()),
            Some(mut data) if submit.to_host => {
                let setup = u16::from_le_bytes([submit.setup[6], submit.setup[7]]);
                data.truncate(usize::from(setup).min(submit.length as usize));
                let actual = u32::try_from(data.len()).expect("cut to a length of 16 bit");
                done(submit, 0, actual, data, Vec::new())
            }
            Some(_) => done(submit, 0, submit.length, Vec::new(), Vec::new()),
        };
        self.replies.push_back(reply);
    }

    /// Answers on endpoint 0; `None` where the request is not known.
    fn control(&mut self, submit: &Submit) -> Option<Vec<u8>> {
        let [kind, request, value_low, value_high, index_low, index_high, ..] = submit.setup;
        match (kind, request) {
            // GET_DESCRIPTOR
            (0x80, 6) => match value_high {
                1 => Some(descriptors::device()),
                2 => Some(descriptors::configuration()),
                3 => descriptors::string(value_low, &self.names.product, &self.names.serial),
                _ => None,
            },
            // GET_STATUS, GET_CONFIGURATION, GET_INTERFACE
            (0x80..=0x82, 0) => Some(vec![0, 0]),
            (0x80, 8) => Some(vec![self.configuration]),
            (0x81, 10) => match index_low {
                0 => Some(vec![0]),
                1 => Some(vec![self.render.alternate]),
                2 => Some(vec![self.capture.alternate]),
                _ => None,
            },
            // CLEAR_FEATURE, SET_FEATURE, SET_ADDRESS
            (0x00..=0x02, 1 | 3) | (0x00, 5) => Some(Vec::new()),
            // SET_CONFIGURATION, SET_INTERFACE
            (0x00, 9) => {
                self.configuration = value_low;
                Some(Vec::new())
            }
            (0x01, 11) => {
                match index_low {
                    0 => {}
                    1 => self.render.choose(value_low),
                    2 => self.capture.choose(value_low),
                    _ => return None,
                }
                Some(Vec::new())
            }
            // SET_CUR, GET_CUR of an endpoint's sampling frequency (Audio 1.0 section 5.2.3.2.3.1)
            (0x22, 1) => {
                let &[low, middle, high] = submit.data.first_chunk::<3>()?;
                let rate_hz = u32::from_le_bytes([low, middle, high, 0]);
                let direction = self.endpoint(index_low)?;
                if RATES_HZ.contains(&rate_hz) {
                    direction.rate_hz = rate_hz;
                }
                Some(Vec::new())
            }
            (0xa2, 0x81) => Some(self.endpoint(index_low)?.rate_hz.to_le_bytes()[..3].to_vec()),
            (0x21, 1) => self.set_unit(index_high, value_high, &submit.data),
            (0xa1, 0x81..=0x84) => self.unit_value(index_high, value_high, request),
            _ => None,
        }
    }

    fn endpoint(&mut self, address: u8) -> Option<&mut Direction> {
        match address {
            RENDER_ENDPOINT => Some(&mut self.render),
            address if address == CAPTURE_ENDPOINT | TO_HOST => Some(&mut self.capture),
            _ => None,
        }
    }

    fn unit(&mut self, unit: u8) -> Option<&mut Direction> {
        match unit {
            RENDER_UNIT => Some(&mut self.render),
            CAPTURE_UNIT => Some(&mut self.capture),
            _ => None,
        }
    }

    fn set_unit(&mut self, unit: u8, selector: u8, data: &[u8]) -> Option<Vec<u8>> {
        let direction = self.unit(unit)?;
        match selector {
            MUTE => direction.muted = *data.first()? != 0,
            VOLUME => {
                let volume = i16::from_le_bytes(*data.first_chunk::<2>()?);
                direction.volume = volume.clamp(VOLUME_MIN, VOLUME_MAX);
            }
            _ => return None,
        }
        Some(Vec::new())
    }

    /// GET_CUR, GET_MIN, GET_MAX, GET_RES of a feature unit.
    fn unit_value(&mut self, unit: u8, selector: u8, request: u8) -> Option<Vec<u8>> {
        let direction = self.unit(unit)?;
        match (selector, request) {
            (MUTE, 0x81) => Some(vec![u8::from(direction.muted)]),
            (VOLUME, 0x81) => Some(direction.volume.to_le_bytes().to_vec()),
            (VOLUME, 0x82) => Some(VOLUME_MIN.to_le_bytes().to_vec()),
            (VOLUME, 0x83) => Some(VOLUME_MAX.to_le_bytes().to_vec()),
            (VOLUME, 0x84) => Some(VOLUME_STEP.to_le_bytes().to_vec()),
            _ => None,
        }
    }
}

/// Control selectors of a feature unit (Audio 1.0 table A-11).
const MUTE: u8 = 1;
const VOLUME: u8 = 2;

impl Direction {
    fn new() -> Self {
        Self {
            stalled: false,
            error: 0,
            muted: false,
            volume: VOLUME_MAX,
            alternate: 0,
            rate_hz: RATES_HZ[1],
            waiting: VecDeque::new(),
            clock: None,
            frames: 0,
        }
    }

    /// Begins or ends streaming.
    fn choose(&mut self, alternate: u8) {
        self.alternate = alternate;
        self.clock = None;
    }

    fn queue(&mut self, submit: Submit, now: Instant) {
        let lasts = Duration::from_millis(submit.packets.len() as u64);
        let begins = match self.clock {
            Some(clock) if clock + BEHIND_MAX >= now => clock,
            Some(_) | None => now,
        };
        self.clock = Some(begins + lasts);
        self.waiting.push_back((submit, begins + lasts));
    }

    fn next_due(&self) -> Option<Instant> {
        self.waiting.front().filter(|_| !self.stalled).map(|&(_, due)| due)
    }

    fn take_due(&mut self, now: Instant) -> Option<Submit> {
        if self.next_due()? > now {
            return None;
        }
        self.waiting.pop_front().map(|(submit, _)| submit)
    }
}

/// Requests of the audio class, as opposed to those that every device knows.
fn is_class(submit: &Submit) -> bool {
    submit.setup[0] & 0x60 == 0x20
}

/// 1/256 dB as a factor.
fn linear(volume: i16) -> f64 {
    10_f64.powf(f64::from(volume) / 256.0 / 20.0)
}

fn done(
    submit: &Submit,
    error: i32,
    actual: u32,
    data: Vec<u8>,
    packets: Vec<PacketDone>,
) -> Reply {
    Reply::Submitted { sequence: submit.sequence, error, actual, data, packets }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn headset() -> Headset {
        Headset::new(Names { product: "Sim".into(), serial: "1".into() })
    }

    fn capture(sequence: u32, packets: u32) -> Request {
        Request::Submit(Submit {
            sequence,
            endpoint: CAPTURE_ENDPOINT,
            to_host: true,
            setup: [0; 8],
            length: packets * 98,
            data: Vec::new(),
            packets: (0..packets).map(|n| (n * 98, 98)).collect(),
        })
    }

    fn render(sequence: u32, data: Vec<u8>) -> Request {
        let length = data.len() as u32;
        Request::Submit(Submit {
            sequence,
            endpoint: RENDER_ENDPOINT,
            to_host: false,
            setup: [0; 8],
            length,
            data,
            packets: vec![(0, length)],
        })
    }

    fn control(sequence: u32, setup: [u8; 8], data: &[u8]) -> Request {
        Request::Submit(Submit {
            sequence,
            endpoint: 0,
            to_host: setup[0] & 0x80 != 0,
            setup,
            length: u32::from(setup[6]),
            data: data.to_vec(),
            packets: Vec::new(),
        })
    }

    fn answer(headset: &mut Headset, now: Instant) -> Option<(u32, i32, Vec<u8>)> {
        match headset.poll_reply(now)? {
            Reply::Submitted { sequence, error, data, .. } => Some((sequence, error, data)),
            Reply::Unlinked { sequence, error } => Some((sequence, error, Vec::new())),
        }
    }

    #[test]
    fn microphone_keeps_its_rate_however_late_it_is_asked() {
        let (mut headset, start) = (headset(), Instant::now());
        headset.handle_request(capture(1, 10), start);
        assert_eq!(headset.poll_timeout(), Some(start + 10 * MS));
        assert_eq!(headset.poll_reply(start + 9 * MS), None);
        // 10 packets of 48 samples of 2 bytes.
        assert_eq!(answer(&mut headset, start + 15 * MS).unwrap().2.len(), 960);
        // Asked 15 ms after the first was due, it is due by the device's clock, which is over.
        headset.handle_request(capture(2, 10), start + 25 * MS);
        assert_eq!(headset.poll_timeout(), Some(start + 20 * MS));
        assert!(headset.poll_reply(start + 25 * MS).is_some());
        // Silence for longer than 200 ms begins a new clock.
        let late = start + 221 * MS;
        headset.handle_request(capture(3, 10), late);
        assert_eq!(headset.poll_timeout(), Some(late + 10 * MS));
    }

    #[test]
    fn stalled_microphone_never_answers_and_its_requests_can_be_taken_back() {
        let (mut headset, start) = (headset(), Instant::now());
        headset.handle_request(capture(1, 10), start);
        headset.handle_command(Command::Stall(Side::Capture));
        assert_eq!(headset.poll_timeout(), None);
        assert_eq!(headset.poll_reply(start + 10_000 * MS), None);
        headset.handle_request(Request::Unlink { sequence: 2, victim: 1 }, start);
        assert_eq!(answer(&mut headset, start), Some((2, ECONNRESET, Vec::new())));
        headset.handle_request(Request::Unlink { sequence: 3, victim: 1 }, start);
        assert_eq!(answer(&mut headset, start), Some((3, 0, Vec::new())));
        // The loudspeaker went on meanwhile.
        headset.handle_request(render(4, vec![0; 192]), start);
        assert!(headset.poll_reply(start + MS).is_some());
    }

    #[test]
    fn resumed_microphone_answers_at_once_what_waited() {
        let (mut headset, start) = (headset(), Instant::now());
        headset.handle_command(Command::Stall(Side::Capture));
        headset.handle_request(capture(1, 10), start);
        headset.handle_command(Command::Resume);
        assert_eq!(answer(&mut headset, start + 50 * MS).unwrap().0, 1);
    }

    #[test]
    fn broken_and_empty_packets_end_requests_without_an_error_of_the_whole() {
        for (command, error) in
            [(Command::PacketError(Side::Capture, 71), 71), (Command::NoData, 0)]
        {
            let (mut headset, start) = (headset(), Instant::now());
            headset.handle_command(command);
            headset.handle_request(capture(1, 2), start);
            let expected = PacketDone { offset: 98, length: 98, actual: 0, error };
            let Some(Reply::Submitted { error: 0, actual: 0, packets, .. }) =
                headset.poll_reply(start + 2 * MS)
            else {
                panic!()
            };
            assert_eq!(packets[1], expected);
        }
    }

    #[test]
    fn loudspeaker_with_broken_packets_keeps_the_pace_and_plays_nothing() {
        let (mut headset, start) = (headset(), Instant::now());
        headset.handle_command(Command::PacketError(Side::Render, 71));
        headset.handle_request(render(1, vec![1; 192]), start);
        assert_eq!(headset.poll_timeout(), Some(start + MS));
        assert!(headset.poll_reply(start + MS).is_some());
        assert_eq!(headset.take_stat().render_frames, 0);
        headset.handle_command(Command::Resume);
        headset.handle_request(render(2, vec![1; 192]), start);
        assert!(headset.poll_reply(start + 2 * MS).is_some());
        // 192 bytes are 48 frames of two channels.
        assert_eq!(headset.take_stat().render_frames, 48);
    }

    #[test]
    fn button_mutes_the_microphone_and_tells_once_the_host_asks() {
        let (mut headset, start) = (headset(), Instant::now());
        headset.handle_command(Command::Button);
        assert_eq!(headset.poll_reply(start), None);
        let status = Submit {
            sequence: 5,
            endpoint: STATUS_ENDPOINT,
            to_host: true,
            setup: [0; 8],
            length: 2,
            data: Vec::new(),
            packets: Vec::new(),
        };
        headset.handle_request(Request::Submit(status), start);
        assert_eq!(answer(&mut headset, start), Some((5, 0, vec![0x80, CAPTURE_UNIT])));
        // GET_CUR of the mute: on; and samples are zeros.
        let mute = [0xa1, 0x81, 0, MUTE, 0, CAPTURE_UNIT, 1, 0];
        headset.handle_request(control(6, mute, &[]), start);
        assert_eq!(answer(&mut headset, start), Some((6, 0, vec![1])));
        headset.handle_request(capture(7, 1), start);
        assert_eq!(answer(&mut headset, start + MS), Some((7, 0, vec![0; 96])));
    }

    #[test]
    fn rate_and_volume_are_what_the_host_set() {
        let (mut headset, start) = (headset(), Instant::now());
        let rate = [0x22, 1, 0, 1, CAPTURE_ENDPOINT | TO_HOST, 0, 3, 0];
        headset.handle_request(control(1, rate, &[0x80, 0x3e, 0]), start);
        let volume = [0x21, 1, 0, VOLUME, 0, RENDER_UNIT, 2, 0];
        headset.handle_request(control(2, volume, &(-6 * 256_i16).to_le_bytes()), start);
        while headset.poll_reply(start).is_some() {}
        // -6 dB of a full-scale square wave: 10 ^ (-6 / 20) = 0.5012.
        let full: Vec<u8> = [i16::MIN; 96].iter().flat_map(|s| s.to_le_bytes()).collect();
        headset.handle_request(render(3, full), start);
        assert!(headset.poll_reply(start + MS).is_some());
        let stat = headset.take_stat();
        assert_eq!(stat.rates_hz, [16_000, 48_000]);
        assert!((stat.render_rms.unwrap() - 0.5012).abs() < 1e-3);
    }

    #[test]
    fn hung_control_waits_and_stalled_control_is_refused_but_descriptors_are_told() {
        let (mut headset, start) = (headset(), Instant::now());
        let mute = [0xa1, 0x81, 0, MUTE, 0, CAPTURE_UNIT, 1, 0];
        headset.handle_command(Command::ControlHang);
        headset.handle_request(control(1, mute, &[]), start);
        headset.handle_request(control(2, [0x80, 6, 0, 1, 0, 0, 8, 0], &[]), start);
        // Of the 18 bytes of the descriptor, the 8 that were asked for.
        assert_eq!(answer(&mut headset, start).unwrap().2.len(), 8);
        assert_eq!(headset.poll_reply(start), None);
        headset.handle_command(Command::Resume);
        assert_eq!(answer(&mut headset, start), Some((1, 0, vec![0])));
        headset.handle_command(Command::ControlStall);
        headset.handle_request(control(3, mute, &[]), start);
        assert_eq!(answer(&mut headset, start), Some((3, EPIPE, Vec::new())));
    }

    #[test]
    fn hostile_requests_are_refused() {
        let (mut headset, start) = (headset(), Instant::now());
        let outside = Request::Submit(Submit {
            sequence: 1,
            endpoint: RENDER_ENDPOINT,
            to_host: false,
            setup: [0; 8],
            length: 4,
            data: vec![0; 4],
            packets: vec![(u32::MAX, 8)],
        });
        headset.handle_request(outside, start);
        assert_eq!(answer(&mut headset, start), Some((1, EPIPE, Vec::new())));
        for sequence in 0..=WAITING_MAX as u32 {
            headset.handle_request(capture(sequence, 1), start);
        }
        assert_eq!(answer(&mut headset, start), Some((WAITING_MAX as u32, ENOMEM, Vec::new())));
        headset.handle_request(control(9, [0x22, 1, 0, 1, 0x82, 0, 3, 0], &[1]), start);
        assert_eq!(answer(&mut headset, start), Some((9, EPIPE, Vec::new())));
    }

    #[test]
    fn unplugged_headset_forgets_its_host_and_keeps_its_mute() {
        let (mut headset, start) = (headset(), Instant::now());
        headset.handle_command(Command::Button);
        headset.handle_request(capture(1, 10), start);
        headset.handle_command(Command::Unplug);
        assert_eq!((headset.poll_timeout(), headset.poll_reply(start + 20 * MS)), (None, None));
        assert!(headset.take_stat().capture_muted);
    }
}
