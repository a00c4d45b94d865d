//! All devices of the endpoint: which machine a sighting belongs to, what the call means for each, what is told of
//! them.
//!
//! A core. It keeps one [`Function`] per device and direction, tells calls to all of them, and turns what they say
//! into [`Told`], an episode that changes often at most once per [`EPISODE_EVERY`]. A device that left keeps its
//! machine, because what was learned of it holds when it is plugged in again; at [`DEVICES_MAX`] the longest gone
//! give way.
//!
//! [`Carry`] is what must outlive the process in mid-call. It holds the whole state, so a restart goes on where the
//! file ends: the same episodes with the same ids, whose last report wins. The restarted media watch sees another
//! call; the old one stays open for these machines until that call opens, so that no time is in neither and none in
//! both.

use std::collections::VecDeque;
use std::time::Duration;

use roomtone_protocol::device::{DeviceEpisode, DeviceSide, EpisodeState};
use roomtone_protocol::id::CallId;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;
use serde::{Deserialize, Serialize};

use super::accounting::{Tally, episode_record};
use super::alsa_ctl::controls::{Setting, Volume};
use super::alsa_proc::Holder;
use super::alsa_proc::parse::{Format, NAME_BYTES_MAX, clean};
use super::constants::{CARD_ID_BYTES_MAX, Thresholds};
use super::episode::Episode;
use super::function::{Event, Function, Options, State};
use super::inventory::{DEVICES_MAX, Device, Place};
use super::sensor::{Sight, Sighting};
use super::signal::Signal;
use crate::clock::{Moment, WallOffset};

/// An episode that flaps is told this often at most; its beginning and its end are told at once.
pub const EPISODE_EVERY: Duration = Duration::from_secs(5);
/// What waits to be drained, at most: an episode and a summary of every device, twice.
const TOLD_MAX: usize = 4 * DEVICES_MAX;
/// The form of [`Carry`]; another one is not read.
const CARRY_VERSION: u16 = 1;

/// What is to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// An episode as it stands.
    Episode {
        /// The call that it matters in.
        call: Option<CallId>,
        /// The device's name.
        device: String,
        /// Microphone or loudspeaker.
        side: DeviceSide,
        /// The figures.
        episode: Episode,
    },
    /// A device's totals in a call that closed.
    Summary {
        /// The call.
        call: CallId,
        /// The device's name.
        device: String,
        /// Microphone or loudspeaker.
        side: DeviceSide,
        /// The figures.
        tally: Tally,
        /// The rules that judged.
        detector: u16,
    },
}

impl Told {
    /// The record of it.
    #[must_use]
    pub fn record(&self, wall: WallOffset) -> Record {
        match self {
            Self::Episode { call, device, side, episode } => {
                Record::DeviceEpisode(episode_record(episode, *call, device, *side, wall))
            }
            Self::Summary { call, device, side, tally, detector } => {
                Record::DeviceSummary(tally.summary(*call, device, *side, *detector))
            }
        }
    }
}

/// A device as people see it.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Its name.
    pub device: &'a str,
    /// Microphone or loudspeaker.
    pub side: DeviceSide,
    /// How it is.
    pub state: State,
    /// Since when.
    pub since: Moment,
    /// Who has it open.
    pub holder: Option<&'a Holder>,
    /// With which format.
    pub format: Option<&'a Format>,
    /// How its mixer is set.
    pub setting: Setting,
}

/// One device.
#[derive(Debug)]
struct Entry {
    device: Device,
    is_here: bool,
    is_open: bool,
    /// Taken over from the process before and not looked at since.
    is_restored: bool,
    seen_at: Moment,
    function: Function,
    state: State,
    since: Moment,
    holder: Option<Holder>,
    format: Option<Format>,
    setting: Setting,
    /// The episode told last, when, and what changed since.
    told_at: Option<Moment>,
    held_back: Option<Episode>,
    /// The call in which the episode began.
    episode_call: Option<CallId>,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Board {
    thresholds: Thresholds,
    own_pid: u32,
    seed: u64,
    entries: Vec<Entry>,
    call: Option<CallId>,
    /// When a call of the process before ends for want of a new one.
    orphan_until: Option<Moment>,
    told: VecDeque<Told>,
    dropped: u64,
}

/// What outlives the process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Carry {
    version: u16,
    /// The boot whose clock the moments are of, as the kernel names it; the shell's to fill and compare.
    pub boot: String,
    saved_ns: u64,
    call: Option<u64>,
    devices: Vec<CarriedDevice>,
}

#[derive(Debug, Serialize, Deserialize)]
struct CarriedDevice {
    name: String,
    card_id: String,
    pcm: u8,
    capture: bool,
    episode_call: Option<u64>,
    /// When the open episode began, wall time in microseconds since 1970.
    onset_wall_us: Option<u64>,
    function: super::function::Carry,
}

impl Carry {
    /// The ends of the episodes that were open in another boot: its clock is gone, and what became of the devices with
    /// it.
    #[must_use]
    pub fn unrecovered(&self) -> Vec<Record> {
        let ended = |device: &CarriedDevice| {
            let open = *device.function.episode()?;
            let onset = Stamp { wall_us: device.onset_wall_us?, uptime_us: open.onset.as_micros() };
            let episode = Episode { state: EpisodeState::Unrecovered, ..open };
            let side = if device.capture { DeviceSide::Capture } else { DeviceSide::Render };
            let name = clean(device.name.as_bytes(), NAME_BYTES_MAX);
            let call = device.episode_call.map(CallId);
            let record = episode_record(&episode, call, &name, side, WallOffset::NONE);
            Some(Record::DeviceEpisode(DeviceEpisode { onset, ..record }))
        };
        self.devices.iter().take(DEVICES_MAX).filter_map(ended).collect()
    }
}

impl Board {
    /// A board without devices. `seed` must be random: episode ids come from it.
    #[must_use]
    pub fn new(own_pid: u32, seed: u64, thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            own_pid,
            seed,
            entries: Vec::new(),
            call: None,
            orphan_until: None,
            told: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Takes what the sensor saw. Sightings come in the order of their moments.
    pub fn handle_sighting(&mut self, Sighting { place, at, sight }: Sighting) {
        match sight {
            Sight::Arrived(device) => {
                if let Some(at_entry) = self.adopt(device, at) {
                    self.signal(at_entry, &[Signal::Appeared], at);
                }
            }
            Sight::Left(_) => {
                if let Some(entry) = self.here(place) {
                    self.signal(entry, &[Signal::Removed], at);
                    self.entries[entry].leave(at);
                }
            }
            Sight::Opened { holder, format } => {
                if let Some(entry) = self.here(place) {
                    let frames = |of: fn(&Format) -> u32| format.as_ref().map_or(0, of);
                    let opened = Signal::Opened {
                        rate_hz: frames(|format| format.rate_hz),
                        period_frames: frames(|format| format.period_frames),
                        buffer_frames: frames(|format| format.buffer_frames),
                        owner_pid: holder.as_ref().map(|holder| holder.pid),
                    };
                    self.signal(entry, &[opened], at);
                    self.entries[entry].is_open = true;
                    self.entries[entry].holder = holder;
                    self.entries[entry].format = format;
                }
            }
            Sight::Went(progress) => {
                if let Some(entry) = self.here(place) {
                    let (pcm_state, hw_ptr_frames) = (progress.state, progress.hw_ptr);
                    self.signal(entry, &[Signal::Progress { pcm_state, hw_ptr_frames }], at);
                }
            }
            Sight::Closed => {
                if let Some(entry) = self.here(place) {
                    self.signal(entry, &[Signal::Closed], at);
                    self.entries[entry].is_open = false;
                    self.entries[entry].holder = None;
                    self.entries[entry].format = None;
                }
            }
            Sight::Tried => {
                if let Some(entry) = self.here(place) {
                    self.signal(entry, &[Signal::Tried], at);
                }
            }
            Sight::ServerEnded => {
                if let Some(entry) = self.here(place) {
                    self.signal(entry, &[Signal::ServerLost], at);
                }
            }
            Sight::Set(setting) => {
                if let Some(entry) = self.here(place) {
                    let zero = setting.volume.is_some_and(Volume::is_zero);
                    let muted = setting.muted == Some(true);
                    self.entries[entry].setting = setting;
                    self.signal(entry, &[Signal::Muted(muted), Signal::VolumeZero(zero)], at);
                }
            }
            Sight::Slept => {
                if let Some(entry) = self.here(place) {
                    self.signal(entry, &[Signal::Suspended], at);
                }
            }
        }
    }

    /// Takes what a stream of our own, or a self-test, says of a device. One that is not there is nobody's.
    pub fn handle_own(&mut self, place: Place, signal: &Signal, at: Moment) {
        if let Some(entry) = self.here(place) {
            self.signal(entry, std::slice::from_ref(signal), at);
        }
    }

    /// All devices that are there have arrived: what the process before knew and nobody sees any more left, or was
    /// closed, meanwhile.
    pub fn handle_first_look(&mut self, now: Moment) {
        for at in 0..self.entries.len() {
            let entry = &mut self.entries[at];
            if !std::mem::take(&mut entry.is_restored) {
                continue;
            }
            if !entry.is_here {
                self.signal(at, &[Signal::Removed], now);
            } else if !entry.is_open {
                self.signal(at, &[Signal::Closed], now);
            }
        }
    }

    /// A call began. One that a process before left open ends here.
    pub fn handle_call_opened(&mut self, call: CallId, at: Moment) {
        self.end_call(at);
        self.call = Some(call);
        for entry in &mut self.entries {
            entry.function.handle_call(true, at);
        }
        self.collect(at);
    }

    /// The call ended.
    pub fn handle_call_closed(&mut self, call: CallId, at: Moment) {
        if self.call == Some(call) {
            self.end_call(at);
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.orphan_until.is_some_and(|until| now >= until) {
            self.end_call(now);
        }
        for entry in &mut self.entries {
            entry.function.handle_timeout(now);
        }
        self.collect(now);
        for entry in &mut self.entries {
            if entry.told_at.is_none_or(|told| now >= told + EPISODE_EVERY)
                && let Some(episode) = entry.held_back.take()
            {
                tell(&mut self.told, &mut self.dropped, entry.episode(episode, now));
            }
        }
    }

    /// When [`Self::handle_timeout`] is due, and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        let functions = self.entries.iter().filter_map(|entry| entry.function.poll_timeout());
        let held = self.entries.iter().filter_map(|entry| {
            let told = entry.told_at.filter(|_| entry.held_back.is_some())?;
            Some((told + EPISODE_EVERY, "report of a flapping episode"))
        });
        let orphan = self.orphan_until.map(|at| (at, "end of a call of the process before"));
        functions.chain(held).chain(orphan).min()
    }

    /// What is to be recorded, in order.
    pub fn poll_told(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    /// Whether something is to be recorded.
    #[must_use]
    pub fn has_told(&self) -> bool {
        !self.told.is_empty()
    }

    /// The open call.
    #[must_use]
    pub fn call(&self) -> Option<CallId> {
        self.call
    }

    /// What could not be kept until it was drained; 0 unless the shell forgets to.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The devices that are there, and those that a call misses, by name and side.
    #[must_use]
    pub fn views(&self) -> Vec<View<'_>> {
        let shown = |entry: &&Entry| entry.is_here || entry.state != State::Absent;
        let mut views: Vec<View<'_>> = self.entries.iter().filter(shown).map(Entry::view).collect();
        views.sort_by_key(|view| (view.device, view.side == DeviceSide::Render));
        views
    }

    /// What must outlive the process: all devices in a call, and outside of one those with an open episode; `None`
    /// where there are none.
    #[must_use]
    pub fn carry(&self, now: Moment, wall: WallOffset) -> Option<Carry> {
        let is_carried = |entry: &&Entry| self.call.is_some() || entry.function.episode().is_some();
        let devices = self.entries.iter().filter(is_carried).map(|entry| CarriedDevice {
            name: entry.device.name.clone(),
            card_id: entry.device.card_id.clone(),
            pcm: entry.device.place.pcm,
            capture: entry.device.place.capture,
            episode_call: entry.episode_call.map(|call| call.0),
            onset_wall_us: entry.function.episode().map(|open| wall.stamp(open.onset).wall_us),
            function: entry.function.carry(),
        });
        let devices: Vec<_> = devices.collect();
        let (saved_ns, call) = (now.as_nanos(), self.call.map(|call| call.0));
        let (version, boot) = (CARRY_VERSION, String::new());
        let carry = Carry { version, boot, saved_ns, call, devices };
        (!carry.devices.is_empty()).then_some(carry)
    }

    /// Goes on where the process before stopped; to be called before the first sighting.
    ///
    /// Without a new call within `call_idle` of the file's moment its call ends. A file of another form, or from before
    /// the last boot, whose moments mean nothing any more, is not taken: false.
    pub fn restore(&mut self, carry: Carry, call_idle: Duration, now: Moment) -> bool {
        let saved = Moment::from_nanos(carry.saved_ns);
        if carry.version != CARRY_VERSION || saved > now || carry.devices.len() > DEVICES_MAX {
            return false;
        }
        self.call = carry.call.map(CallId);
        self.orphan_until = self.call.map(|_| (saved + call_idle).max(now));
        for carried in carry.devices {
            let place = Place { card: u8::MAX, pcm: carried.pcm, capture: carried.capture };
            let device = Device {
                name: clean(carried.name.as_bytes(), NAME_BYTES_MAX),
                place,
                subs: 0,
                card_id: clean(carried.card_id.as_bytes(), CARD_ID_BYTES_MAX),
                driver: String::new(),
                pcm_name: None,
            };
            if self.entries.iter().all(|entry| entry.device.key() != device.key()) {
                let options = self.options(&device);
                let mut function = Function::restore(options, &carried.function, now);
                // A machine that could not go on begins anew in the same call.
                function.handle_call(self.call.is_some(), now);
                let entry = Entry::new(device, function, now);
                let episode_call = carried.episode_call.map(CallId);
                let entry = Entry { is_here: false, is_restored: true, episode_call, ..entry };
                self.entries.push(entry);
            }
        }
        true
    }

    fn end_call(&mut self, at: Moment) {
        self.orphan_until = None;
        let Some(call) = self.call.take() else {
            return;
        };
        for entry in &mut self.entries {
            entry.function.handle_call(false, at);
        }
        self.collect(at);
        for entry in &mut self.entries {
            // What was held back is older than what the end of the call said.
            entry.held_back = None;
            entry.told_at = None;
            let tally = *entry.function.tally();
            // The others were there, and nobody used them.
            if tally.is_used {
                let told = Told::Summary {
                    call,
                    device: entry.device.name.clone(),
                    side: entry.device.place.side(),
                    tally,
                    detector: self.thresholds.detector(),
                };
                tell(&mut self.told, &mut self.dropped, told);
            }
        }
    }

    /// The entry of a device that arrived, made where it is new; `None` where there is no room.
    fn adopt(&mut self, device: Device, now: Moment) -> Option<usize> {
        let key = device.key();
        if let Some(at) = self.entries.iter().position(|entry| entry.device.key() == key) {
            let entry = &mut self.entries[at];
            entry.device = device;
            entry.is_here = true;
            return Some(at);
        }
        if self.entries.len() >= DEVICES_MAX {
            let gone = self.entries.iter().enumerate().filter(|(_, entry)| !entry.is_here);
            let oldest = gone.min_by_key(|(_, entry)| entry.seen_at).map(|(at, _)| at)?;
            self.entries.swap_remove(oldest);
        }
        let mut function = Function::new(self.options(&device));
        function.handle_call(self.call.is_some(), now);
        self.entries.push(Entry::new(device, function, now));
        Some(self.entries.len() - 1)
    }

    fn options(&mut self, device: &Device) -> Options {
        // Weyl's sequence with the golden ratio: neighbours share no pattern, and no seed comes twice.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        Options {
            thresholds: self.thresholds.clone(),
            side: device.place.side(),
            own_pid: self.own_pid,
            seed: self.seed,
        }
    }

    fn here(&self, place: Place) -> Option<usize> {
        self.entries.iter().position(|entry| entry.is_here && entry.device.place == place)
    }

    fn signal(&mut self, entry: usize, signals: &[Signal], at: Moment) {
        for signal in signals {
            self.entries[entry].function.handle_signal(signal, at);
        }
        self.entries[entry].seen_at = at;
        self.collect(at);
    }

    /// Takes what the machines say.
    fn collect(&mut self, now: Moment) {
        for entry in &mut self.entries {
            while let Some(event) = entry.function.poll_event() {
                match event {
                    Event::StateChanged { to, since, .. } => {
                        entry.state = to;
                        entry.since = since;
                    }
                    Event::EpisodeOpened(episode) => {
                        entry.held_back = None;
                        entry.episode_call = self.call;
                        let told = entry.episode(episode, now);
                        tell(&mut self.told, &mut self.dropped, told);
                    }
                    Event::EpisodeClosed(episode) => {
                        entry.held_back = None;
                        let told = entry.episode(episode, now);
                        tell(&mut self.told, &mut self.dropped, told);
                    }
                    Event::EpisodeChanged(episode) => {
                        if entry.told_at.is_some_and(|told| now < told + EPISODE_EVERY) {
                            entry.held_back = Some(episode);
                        } else {
                            let told = entry.episode(episode, now);
                            tell(&mut self.told, &mut self.dropped, told);
                        }
                    }
                }
            }
        }
    }
}

impl Entry {
    fn new(device: Device, function: Function, now: Moment) -> Self {
        Self {
            state: function.state(),
            is_here: true,
            is_open: false,
            is_restored: false,
            device,
            seen_at: now,
            function,
            since: now,
            holder: None,
            format: None,
            setting: Setting::default(),
            told_at: None,
            held_back: None,
            episode_call: None,
        }
    }

    fn leave(&mut self, at: Moment) {
        self.is_here = false;
        self.is_open = false;
        self.seen_at = at;
        self.holder = None;
        self.format = None;
        self.setting = Setting::default();
    }

    fn episode(&mut self, episode: Episode, now: Moment) -> Told {
        self.told_at = Some(now);
        let call = self.episode_call;
        let (device, side) = (self.device.name.clone(), self.device.place.side());
        Told::Episode { call, device, side, episode }
    }

    fn view(&self) -> View<'_> {
        View {
            device: &self.device.name,
            side: self.device.place.side(),
            state: self.state,
            since: self.since,
            holder: self.holder.as_ref(),
            format: self.format.as_ref(),
            setting: self.setting,
        }
    }
}

fn tell(told: &mut VecDeque<Told>, dropped: &mut u64, new: Told) {
    if told.len() >= TOLD_MAX {
        told.pop_front();
        *dropped += 1;
    }
    told.push_back(new);
}
