//! Notices what happens to the devices of this machine, and sleeps in between.
//!
//! Three things wake it: the kernel's uevents (a card came or left), inotify on `/dev/snd` (somebody opened or closed
//! a device; the folder may be watched by anybody and nothing is opened), and the mixers. Opening and closing a PCM
//! makes no uevent, which is why inotify is there. Only while somebody has a device open is `/proc` read, four times
//! a second. With all devices closed nothing wakes it at all.
//!
//! A shell: it says what it saw and when, in order. It forgets nothing that it said: a device that was seen opened is
//! seen closed or gone before it is seen opened again.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

use super::alsa_ctl::Mixers;
use super::alsa_ctl::controls::Setting;
use super::alsa_proc::parse::{Format, Progress, pcm_node};
use super::alsa_proc::{Holder, Reading, SoundError, SoundFiles};
use super::inventory::{Device, Inventory, Place};
use super::servers::Servers;
use super::uevent::{Hotplug, Uevents};
use crate::clock::Moment;
use crate::clock::system;

/// How often open devices are read: a stall of 1 s shows within 1.25 s (design section 4.3).
pub const READ_EVERY: Duration = Duration::from_millis(250);
/// How often all devices are looked at where inotify is not to be had, while a call is on.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Longest wait for a folder or group that udev is still making after a card came.
const SETTLE: Duration = Duration::from_millis(300);
/// The clocks are read one after the other; a real sleep takes longer.
const SLEEP_MIN: Duration = Duration::from_millis(100);

/// What was seen of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// It is there.
    Arrived(Device),
    /// Its card left.
    Left(Device),
    /// Somebody has it open. Seen again where another format or holder shows.
    Opened {
        /// Who; `None` where the kernel does not say.
        holder: Option<Holder>,
        /// How; `None` until it is agreed on.
        format: Option<Format>,
    },
    /// It is open, and came this far.
    Went(Progress),
    /// Nobody has it open any more.
    Closed,
    /// Somebody opened it and had closed it again before anybody could look.
    Tried,
    /// The sound server that has it open, or had it last, ended.
    ServerEnded,
    /// Its mixer is set like this.
    Set(Setting),
    /// The machine slept since the last look.
    Slept,
}

/// A sight, of whom and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Where the device is.
    pub place: Place,
    /// When it was seen.
    pub at: Moment,
    /// What.
    pub sight: Sight,
}

/// What is remembered of a device between two looks.
#[derive(Debug)]
struct Known {
    device: Device,
    open: Option<OpenNow>,
    setting: Option<Setting>,
    /// The sound server that opened it last, if it was one.
    server: Option<u32>,
}

#[derive(Debug)]
struct OpenNow {
    sub: u8,
    owner: Option<u32>,
    format: Option<Format>,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Sensor {
    files: SoundFiles,
    uevents: Option<Uevents>,
    nodes: Option<OwnedFd>,
    mixers: Option<Mixers>,
    with_mixers: bool,
    known: BTreeMap<Place, Known>,
    lives: BTreeMap<u8, u64>,
    life: u64,
    beyond: usize,
    absent: Option<SoundError>,
    in_call: bool,
    read_at: Moment,
    settle_until: Option<Moment>,
    slept: Slept,
    servers: Servers,
}

/// How much the machine has slept since it booted, as far as can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Slept {
    /// By the clocks.
    total: Duration,
    /// By the kernel's count; a test of suspending that stops short of it does not show in the clocks.
    times: Option<u64>,
}

impl Sensor {
    /// Looks below `root` (`/` outside tests). Nothing is read before the first [`Self::look`].
    #[must_use]
    pub fn new(root: &Path, with_mixers: bool) -> Self {
        let uevents = Uevents::open();
        if let Err(error) = &uevents {
            tracing::warn!(%error, "no hot-plug events: a device that comes or goes is noticed late");
        }
        Self {
            files: SoundFiles::new(root),
            uevents: uevents.ok(),
            nodes: None,
            mixers: None,
            with_mixers,
            known: BTreeMap::new(),
            lives: BTreeMap::new(),
            life: 0,
            beyond: 0,
            absent: None,
            in_call: false,
            read_at: Moment::ORIGIN,
            settle_until: None,
            slept: Slept::default(),
            servers: Servers::default(),
        }
    }

    /// The first look: all devices, as they are now.
    pub fn look(&mut self) -> Vec<Sighting> {
        let mut seen = Vec::new();
        self.slept = self.read_slept();
        self.take_inventory(&mut seen);
        self.read_devices(|_| true, &mut seen);
        self.read_mixers(&mut seen);
        seen
    }

    /// Why there are no devices, if the kernel shows none at all.
    #[must_use]
    pub fn absent(&self) -> Option<&SoundError> {
        self.absent.as_ref()
    }

    /// Cards and devices beyond the limits.
    #[must_use]
    pub fn beyond(&self) -> usize {
        self.beyond
    }

    /// Cards whose mixer this process may not open.
    pub fn forbidden(&self) -> impl Iterator<Item = u8> {
        self.lives.keys().copied().filter(|card| self.files.may_open(*card) == Some(false))
    }

    /// While a call is on, devices are looked at even where no event tells of them.
    pub fn set_in_call(&mut self, in_call: bool) {
        self.in_call = in_call;
    }

    /// Sleeps until something happened, `other` can be read, or `until`; then looks.
    pub fn wait(&mut self, other: BorrowedFd<'_>, until: Option<Moment>) -> Vec<Sighting> {
        let now = system::now();
        let due = [until, self.due()].into_iter().flatten().min();
        let timeout = due.and_then(|due| Timespec::try_from(due.since(now)).ok());
        let mut fds = vec![PollFd::from_borrowed_fd(other, PollFlags::IN)];
        let sources = [
            self.uevents.as_ref().map(AsFd::as_fd),
            self.nodes.as_ref().map(AsFd::as_fd),
            self.mixers.as_ref().map(AsFd::as_fd),
        ];
        let mut place_of = [None; 3];
        for (place, fd) in place_of.iter_mut().zip(sources) {
            if let Some(fd) = fd {
                *place = Some(fds.len());
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            }
        }
        let first_server = fds.len();
        fds.extend(self.servers.fds());
        let woken = poll(&mut fds, timeout.as_ref()).is_ok();
        let is_ready = |at: usize| woken && !fds[at].revents().is_empty();
        let ready = place_of.map(|place| place.is_some_and(is_ready));
        let ended: Vec<usize> = (first_server..fds.len())
            .filter(|at| is_ready(*at))
            .map(|at| at - first_server)
            .collect();
        drop(fds);
        let mut seen = self.gather(ready);
        for server in self.servers.take(&ended) {
            for (place, known) in &mut self.known {
                if known.server == Some(server) {
                    known.server = None;
                    seen.push(sighting(*place, Sight::ServerEnded));
                }
            }
        }
        seen
    }

    /// When the next look is due without an event.
    fn due(&self) -> Option<Moment> {
        let open = self.known.values().any(|known| known.open.is_some());
        let blind = self.is_blind();
        let every = match (open, blind) {
            (true, _) => Some(READ_EVERY),
            (false, true) => Some(LOOK_EVERY),
            (false, false) => None,
        };
        [every.map(|every| self.read_at + every), self.settle_until].into_iter().flatten().min()
    }

    /// In a call, whether a device could be opened, or plugged in, without an event that tells of it.
    fn is_blind(&self) -> bool {
        let unwatched = self.nodes.is_none() && !self.known.is_empty();
        self.in_call && (unwatched || self.uevents.is_none())
    }

    fn gather(&mut self, [hotplug, nodes, mixers]: [bool; 3]) -> Vec<Sighting> {
        let mut seen = Vec::new();
        let mut anew = false;
        if hotplug {
            let mut events = Vec::new();
            if let Some(uevents) = &self.uevents {
                uevents.drain(|event| events.push(event));
            }
            anew |= !events.is_empty();
            for event in events {
                if let Hotplug::Removed(card) = event {
                    self.forget(|place| place.card == card, &mut seen);
                    self.lives.remove(&card);
                }
            }
        }
        let mut touched = BTreeMap::new();
        if nodes {
            anew |= self.drain_nodes(&mut touched);
        }
        let is_touched = |known: &Known| touched.contains_key(&known.device.place);
        let now = system::now();
        if self.settle_until.is_some_and(|at| now >= at) {
            self.settle_until = None;
            anew = true;
        }
        // Without uevents a card that comes or goes shows in the inventory alone.
        let late = self.uevents.is_none() && self.in_call && now >= self.read_at + LOOK_EVERY;
        if anew || late {
            self.take_inventory(&mut seen);
        }
        let open = self.known.values().any(|known| known.open.is_some());
        let due = self.read_at + READ_EVERY;
        let blind = self.is_blind() && now >= self.read_at + LOOK_EVERY;
        if anew || blind {
            self.read_devices(|_| true, &mut seen);
        } else if open && now >= due {
            self.read_devices(|known| known.open.is_some() || is_touched(known), &mut seen);
        } else if !touched.is_empty() {
            let read_at = self.read_at;
            self.read_devices(is_touched, &mut seen);
            // Others that are open keep their beat.
            if open {
                self.read_at = read_at;
            }
        }
        for (place, was_opened) in touched {
            let is_seen = |sighting: &Sighting| sighting.place == place;
            let is_closed = self.known.get(&place).is_some_and(|known| known.open.is_none());
            if was_opened && is_closed && !seen.iter().any(is_seen) {
                seen.push(sighting(place, Sight::Tried));
            }
        }
        if mixers {
            self.read_mixers(&mut seen);
        }
        seen
    }

    /// Reads what inotify has, of each device whether it was opened; true where the folder itself changed.
    fn drain_nodes(&mut self, touched: &mut BTreeMap<Place, bool>) -> bool {
        let mut changed = false;
        let mut gone = false;
        if let Some(nodes) = &self.nodes {
            let mut buffer = [MaybeUninit::uninit(); 4_096];
            let mut reader = inotify::Reader::new(nodes, &mut buffer);
            while let Ok(event) = reader.next() {
                let flags = event.events();
                gone |= flags.intersects(inotify::ReadFlags::IGNORED);
                changed |= flags.intersects(
                    inotify::ReadFlags::CREATE
                        | inotify::ReadFlags::DELETE
                        | inotify::ReadFlags::IGNORED
                        | inotify::ReadFlags::QUEUE_OVERFLOW,
                );
                let node = event.file_name().and_then(|name| pcm_node(name.to_bytes()));
                if let Some((card, pcm, capture)) = node {
                    let place = Place { card, pcm, capture };
                    let was_opened = flags.intersects(inotify::ReadFlags::OPEN);
                    let has_room = touched.len() < super::inventory::DEVICES_MAX;
                    if has_room || touched.contains_key(&place) {
                        *touched.entry(place).or_default() |= was_opened;
                    }
                }
            }
        }
        if gone {
            self.nodes = None;
        }
        changed
    }

    /// Watches the folder of nodes, if it is there.
    fn watch_nodes(&mut self) {
        if self.nodes.is_some() {
            return;
        }
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = inotify::WatchFlags::OPEN
            | inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::CLOSE_NOWRITE
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::ONLYDIR;
        let watched = inotify::init(flags)
            .and_then(|nodes| inotify::add_watch(&nodes, self.files.nodes(), watch).map(|_| nodes));
        match watched {
            Ok(nodes) => self.nodes = Some(nodes),
            Err(error) => tracing::debug!(%error, "the folder of device nodes is not watched yet"),
        }
    }

    fn take_inventory(&mut self, seen: &mut Vec<Sighting>) {
        let inventory = match self.files.inventory() {
            Ok(inventory) => {
                self.absent = None;
                inventory
            }
            Err(error @ SoundError::Absent { .. }) => {
                self.absent = Some(error);
                Inventory::default()
            }
            Err(error @ SoundError::Unreadable { .. }) => {
                tracing::warn!(%error, "the devices stay as they were");
                return;
            }
        };
        self.beyond = inventory.beyond;
        // Another name at the same place is another device.
        self.forget_all_but(&inventory, seen);
        let before = self.lives.clone();
        self.lives.retain(|card, _| inventory.devices.iter().any(|d| d.place.card == *card));
        for device in inventory.devices {
            let place = device.place;
            let life = &mut self.life;
            self.lives.entry(place.card).or_insert_with(|| {
                *life += 1;
                *life
            });
            self.known.entry(place).or_insert_with(|| {
                seen.push(sighting(place, Sight::Arrived(device.clone())));
                Known { device, open: None, setting: None, server: None }
            });
        }
        if self.lives != before {
            // The last nodes of a new card may come after its first event.
            self.settle_until = Some(system::now() + SETTLE);
        }
        if !self.lives.is_empty() {
            self.watch_nodes();
        }
        self.want_mixers();
    }

    fn want_mixers(&mut self) {
        if !self.with_mixers {
            return;
        }
        if self.mixers.is_none() && !self.lives.is_empty() {
            match Mixers::start() {
                Ok(mixers) => self.mixers = Some(mixers),
                Err(error) => tracing::warn!(%error, "mutes and volumes are not watched"),
            }
        }
        if let Some(mixers) = &self.mixers {
            mixers.want(self.lives.clone());
        }
    }

    fn forget_all_but(&mut self, inventory: &Inventory, seen: &mut Vec<Sighting>) {
        let stays = |place: Place, known: &Known| {
            inventory.at(place).is_some_and(|device| device.name == known.device.name)
        };
        let gone: Vec<Place> = self
            .known
            .iter()
            .filter(|(place, known)| !stays(**place, known))
            .map(|(place, _)| *place)
            .collect();
        for place in &gone {
            // The card is another one now: its mixer must be opened anew.
            if inventory.at(*place).is_some() {
                self.lives.remove(&place.card);
            }
        }
        self.forget(|place| gone.contains(&place), seen);
    }

    fn forget(&mut self, which: impl Fn(Place) -> bool, seen: &mut Vec<Sighting>) {
        let gone: Vec<Place> = self.known.keys().copied().filter(|place| which(*place)).collect();
        for place in gone {
            if let Some(known) = self.known.remove(&place) {
                seen.push(sighting(place, Sight::Left(known.device)));
            }
        }
    }

    fn read_devices(&mut self, which: impl Fn(&Known) -> bool, seen: &mut Vec<Sighting>) {
        self.read_at = system::now();
        self.note_sleep(seen);
        let mut gone = Vec::new();
        for (place, known) in self.known.iter_mut().filter(|(_, known)| which(known)) {
            let before = known.open.as_ref().map(|open| open.sub);
            match self.files.reading(*place, known.device.subs, before) {
                Reading::Gone => gone.push(*place),
                Reading::Unclear => {}
                Reading::Closed => {
                    if known.open.take().is_some() {
                        seen.push(sighting(*place, Sight::Closed));
                    }
                }
                Reading::Open { sub, progress } => {
                    let at = system::now();
                    // Closed and opened again between two looks: the holder tells, or a position that fell to 0.
                    let same = known.open.as_ref().is_some_and(|open| {
                        open.sub == sub && open.owner == progress.owner && open.format.is_some()
                    });
                    if !same {
                        let format = self.files.format(*place, sub);
                        let new = OpenNow { sub, owner: progress.owner, format: format.clone() };
                        let told = known.open.as_ref().is_some_and(|open| {
                            (open.sub, open.owner, &open.format) == (sub, new.owner, &format)
                        });
                        if !told {
                            let holder = progress.owner.map(|owner| self.files.holder(owner));
                            known.server = holder.as_ref().and_then(|it| self.servers.watch(it));
                            let sight = Sight::Opened { holder, format };
                            seen.push(Sighting { place: *place, at, sight });
                        }
                        known.open = Some(new);
                    }
                    seen.push(Sighting { place: *place, at, sight: Sight::Went(progress) });
                }
            }
        }
        self.forget(|place| gone.contains(&place), seen);
        self.servers.keep(|server| self.known.values().any(|known| known.server == Some(server)));
    }

    fn read_slept(&self) -> Slept {
        Slept { total: system::slept(), times: self.files.suspends() }
    }

    /// Says of every device that is open that the machine slept, before it says how far it came.
    fn note_sleep(&mut self, seen: &mut Vec<Sighting>) {
        let now = self.read_slept();
        let before = std::mem::replace(&mut self.slept, now);
        if now.total > before.total + SLEEP_MIN || now.times > before.times {
            let open = self.known.iter().filter(|(_, known)| known.open.is_some());
            seen.extend(open.map(|(place, _)| sighting(*place, Sight::Slept)));
        }
    }

    fn read_mixers(&mut self, seen: &mut Vec<Sighting>) {
        let Some(mixers) = &self.mixers else {
            return;
        };
        let settings = mixers.known();
        for (place, known) in &mut self.known {
            let Some(mixer) = settings.get(&place.card) else {
                continue;
            };
            let setting = if place.capture { mixer.capture } else { mixer.render };
            if self.lives.get(&place.card) == Some(&mixer.life) && known.setting != Some(setting) {
                known.setting = Some(setting);
                seen.push(sighting(*place, Sight::Set(setting)));
            }
        }
    }
}

fn sighting(place: Place, sight: Sight) -> Sighting {
    Sighting { place, at: system::now(), sight }
}
