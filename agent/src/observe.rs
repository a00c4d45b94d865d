//! The tap's own thread: sleeps until the kernel has packets, the watch has a deadline or the room application says
//! something, feeds the watch, hands its events on.
//!
//! It wakes about four times a second while media flows and not at all while none does. Nothing is sent or written to
//! disk here: a slow disk must not cost packets.

mod pace;

use std::mem::{Discriminant, discriminant};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::sync::mpsc;

use crate::audio::bell::Bell;
use crate::clock::packet_clock::PacketClock;
use crate::clock::{Moment, WallOffset, system};
use crate::config;
use crate::media::context::ContextChange;
use crate::media::{self, Event, Watch};
use crate::tap::{Datagram, LiveOptions, LiveTap, TapError, local_addresses};
use pace::{Pace, Reopening};

/// Events on their way to the spool, at most. An interval of the largest call (a few legs) makes some ten; where the
/// disk hangs, the thread waits and the kernel's ring counts what it drops.
pub const EVENTS_MAX: usize = 1_024;
/// How often the addresses of the interfaces are looked up anew, while packets come.
const ADDRESSES_EVERY: Duration = Duration::from_secs(30);
/// How soon behind an interface that came: it gets its address a moment later.
const ADDRESSES_SOON: Duration = Duration::from_secs(2);
/// Words of the room application on their way to the watch, at most; its socket lets ten through at once.
const CHANGES_MAX: usize = 32;

/// An event and the offset of the wall clock when it was noticed.
pub type Noticed = (Event, WallOffset);

/// The observer before its thread runs.
pub struct Observer {
    /// `None` where it could not be opened yet.
    tap: Option<LiveTap>,
    /// Why the tap could not be opened latest, as the log was told; `None` while it is open.
    told: Option<Discriminant<TapError>>,
    options: LiveOptions,
    watch: Watch,
    clock: PacketClock,
    pace: Pace,
    /// When the interfaces' addresses are looked up again; `None` where the config names the endpoint's own.
    addresses_due: Option<Moment>,
    wake: Arc<Wake>,
    changes: Receiver<(ContextChange, Moment)>,
    events: mpsc::Sender<Noticed>,
    received_before: u64,
    dropped_before: u64,
}

/// What wakes the observer's thread beside packets and deadlines.
#[derive(Debug)]
struct Wake {
    bell: Bell,
    is_ending: AtomicBool,
    /// The thread has answered the bell.
    is_answered: AtomicBool,
    tap: Tally,
}

/// What the thread lets others know of its tap.
#[derive(Debug, Default)]
struct Tally {
    received: AtomicU64,
    dropped: AtomicU64,
    is_shut: AtomicBool,
}

/// What became of the packets since the tap was opened first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TapCounts {
    /// Heads that the kernel handed over or dropped before it could.
    pub received: u64,
    /// Those that it dropped.
    pub dropped: u64,
    /// The tap is not open: it broke, or could not be opened yet.
    pub is_shut: bool,
}

/// Reaches the observer's thread from others.
#[derive(Debug, Clone)]
pub struct Handle {
    wake: Arc<Wake>,
    changes: SyncSender<(ContextChange, Moment)>,
}

impl Handle {
    /// Asks the thread to end: what is open is closed and reported first.
    pub fn stop(&self) {
        self.wake.is_ending.store(true, Ordering::Release);
        self.wake.bell.ring();
    }

    /// Whether the thread has gone round since this was asked last, which wakes it; true the first time.
    #[must_use]
    pub fn answers(&self) -> bool {
        let answered = self.wake.is_answered.swap(false, Ordering::AcqRel);
        self.wake.bell.ring();
        answered
    }

    /// What the tap has seen and lost, as of its thread's last round.
    #[must_use]
    pub fn tap(&self) -> TapCounts {
        let Tally { received, dropped, is_shut } = &self.wake.tap;
        TapCounts {
            received: received.load(Ordering::Relaxed),
            dropped: dropped.load(Ordering::Relaxed),
            is_shut: is_shut.load(Ordering::Relaxed),
        }
    }

    /// Tells the watch what the room application said at a moment; what comes of it is an event.
    pub fn context(&self, change: ContextChange, at: Moment) {
        match self.changes.try_send((change, at)) {
            Ok(()) => self.wake.bell.ring(),
            Err(TrySendError::Full(_)) => {
                tracing::error!("the tap hangs and does not hear of a context");
            }
            // It ended before and said so.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

impl Observer {
    /// Opens the tap; what goes to and comes from the collector stays outside of it.
    ///
    /// A tap that cannot be opened now is opened once it can be, as that of an interface in a dock or one whose opener
    /// is not up: devices are watched meanwhile, and the collector is told.
    ///
    /// # Errors
    /// Where the options are to blame ([`TapError::is_of_options`]); [`TapError::Wait`] where the kernel has no
    /// descriptor left.
    pub fn open(
        tap: &config::Tap,
        media: &config::Media,
        collector: &config::Collector,
        seed: u64,
    ) -> Result<(Self, Handle, mpsc::Receiver<Noticed>), TapError> {
        let options = LiveOptions {
            interface: tap.interface.clone(),
            snap_bytes: tap.snap_bytes,
            ring_bytes: tap.ring_bytes,
            block_timeout: tap.block_timeout,
            exclude: own_traffic(collector).into_iter().collect(),
            ..LiveOptions::default()
        };
        let (live, told) = match LiveTap::open(&options) {
            Ok(tap) => (Some(tap), None),
            Err(error) if error.is_of_options() => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "no packet heads are read until the tap can be opened");
                (None, Some(discriminant(&error)))
            }
        };
        let is_fixed = !tap.local.is_empty();
        let local = if is_fixed { tap.local.clone() } else { local_addresses() };
        let bell = Bell::new().map_err(TapError::Wait)?;
        let (is_ending, is_answered) = (AtomicBool::new(false), AtomicBool::new(true));
        let tally = Tally { is_shut: AtomicBool::new(live.is_none()), ..Tally::default() };
        let wake = Arc::new(Wake { bell, is_ending, is_answered, tap: tally });
        let (said, changes) = sync_channel(CHANGES_MAX);
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let (now, wall) = system::now_and_wall();
        let pace = Pace::new(options.block_timeout);
        let observer = Self {
            tap: live,
            told,
            options,
            watch: Watch::new(media::Options { local, call_idle: media.call_idle, seed }),
            clock: PacketClock::new(wall, now, pace.hold()),
            pace,
            addresses_due: (!is_fixed).then_some(now + ADDRESSES_EVERY),
            wake: Arc::clone(&wake),
            changes,
            events,
            received_before: 0,
            dropped_before: 0,
        };
        Ok((observer, Handle { wake, changes: said }, receiver))
    }

    /// Observes until it is stopped or nobody listens any more.
    pub fn run(mut self) {
        let mut open = self.tap.take();
        loop {
            let Some(tap) = &mut open else {
                open = self.reopen();
                if open.is_some() {
                    continue;
                }
                break;
            };
            match self.observe(tap) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "the tap broke and is opened again");
                    self.leave(tap);
                    open = None;
                }
            }
        }
        if let Some(tap) = &mut open {
            self.settle(tap);
        }
        self.hear();
        self.watch.handle_timeout(system::now());
        self.watch.finish();
        self.hand_on(system::now_and_wall().1);
    }

    /// Reads what the kernel still holds back in a block that is not full.
    fn settle(&mut self, tap: &mut LiveTap) {
        let until = system::now() + self.pace.hold();
        loop {
            let left = until.since(system::now());
            // The tap's own descriptor alone: the bell may go on ringing.
            if left.is_zero() || !is_readable(tap.fd(), left) {
                break;
            }
            let (now, wall) = system::now_and_wall();
            if self.drain(tap, now, wall).is_err() {
                break;
            }
        }
    }

    /// One round: sleep, read, decide. False when the end was asked for.
    fn observe(&mut self, tap: &mut LiveTap) -> Result<bool, TapError> {
        let due = self.watch.poll_timeout().map(|(at, _)| at);
        let timeout = self.pace.sleep(due, system::now());
        let woken = tap.wait(self.wake.bell.as_fd(), timeout)?;
        let (now, wall) = system::now_and_wall();
        if woken.called {
            self.hear();
        }
        if woken.packets {
            if self.addresses_due.is_some_and(|due| now >= due) {
                self.watch.set_local(local_addresses());
                self.addresses_due = Some(now + ADDRESSES_EVERY);
            }
            self.drain(tap, now, wall)?;
            self.count(tap)?;
        }
        self.watch.handle_timeout(self.pace.settled(now));
        Ok(self.hand_on(wall) && !self.is_ending())
    }

    /// Reads what the kernel dropped.
    fn count(&mut self, tap: &mut LiveTap) -> Result<(), TapError> {
        let stats = tap.stats()?;
        let dropped = self.dropped_before + stats.dropped;
        self.watch.note_tap_dropped(dropped);
        self.wake.tap.received.store(self.received_before + stats.received, Ordering::Relaxed);
        self.wake.tap.dropped.store(dropped, Ordering::Relaxed);
        Ok(())
    }

    /// Tells the watch what the room application said.
    fn hear(&mut self) {
        self.wake.bell.hush();
        self.wake.is_answered.store(true, Ordering::Release);
        while let Ok((change, at)) = self.changes.try_recv() {
            self.watch.handle_context(change, at);
        }
    }

    fn is_ending(&self) -> bool {
        self.wake.is_ending.load(Ordering::Acquire)
    }

    /// Feeds the watch with what the kernel has ready.
    fn drain(&mut self, tap: &mut LiveTap, now: Moment, wall: WallOffset) -> Result<(), TapError> {
        let (watch, clock) = (&mut self.watch, &mut self.clock);
        if let Some(step) = clock.handle_reading(wall, now) {
            tracing::info!(?step, "the wall clock was set");
        }
        // Wall time comes out of the tap: one offset for a whole batch would not do across a step.
        tap.drain(WallOffset::NONE, |datagram| {
            let at = clock.moment(datagram.at.as_nanos());
            watch.handle_datagram(&Datagram { at, ..datagram });
        })?;
        Ok(())
    }

    /// Passes on what the watch has to say; false where nobody listens.
    fn hand_on(&mut self, wall: WallOffset) -> bool {
        while let Some(event) = self.watch.poll_event() {
            if self.events.blocking_send((event, wall)).is_err() {
                return false;
            }
        }
        true
    }

    /// Counts what a tap that broke has seen.
    fn leave(&mut self, tap: &mut LiveTap) {
        let stats = tap.stats().unwrap_or_default();
        self.received_before += stats.received;
        self.dropped_before += stats.dropped;
        self.wake.tap.is_shut.store(true, Ordering::Relaxed);
    }

    /// Opens the tap, with growing pauses; `None` when the end was asked for meanwhile.
    fn reopen(&mut self) -> Option<LiveTap> {
        let mut reopening = Reopening::new();
        let mut attempt_at = system::now() + reopening.pause();
        loop {
            // Deadlines of a call by its context are kept without a tap too; words and questions are no attempt.
            let due = self.watch.poll_timeout().map_or(attempt_at, |(at, _)| at.min(attempt_at));
            if is_readable(self.wake.bell.as_fd(), due.since(system::now())) {
                self.hear();
            }
            if self.is_ending() {
                return None;
            }
            let (now, wall) = system::now_and_wall();
            self.watch.handle_timeout(now);
            if !self.hand_on(wall) {
                return None;
            }
            if now < attempt_at {
                continue;
            }
            attempt_at = now + reopening.pause();
            match LiveTap::open(&self.options) {
                Ok(tap) => {
                    self.told = None;
                    if self.addresses_due.is_some() {
                        // What came with the interface, and soon what it was given.
                        self.watch.set_local(local_addresses());
                        self.addresses_due = Some(now + ADDRESSES_SOON);
                    }
                    self.wake.tap.is_shut.store(false, Ordering::Relaxed);
                    tracing::info!("the tap is open again");
                    return Some(tap);
                }
                Err(error) => {
                    let kind = Some(discriminant(&error));
                    // Not twice in a row: this may go on for as long as a dock is away.
                    if std::mem::replace(&mut self.told, kind) == kind {
                        tracing::debug!(%error, "the tap cannot be opened yet");
                    } else {
                        tracing::warn!(%error, "the tap cannot be opened yet");
                    }
                }
            }
        }
    }
}

/// Waits until a descriptor can be read; false where the time was over first, or the descriptor is of no more use.
fn is_readable(descriptor: BorrowedFd<'_>, timeout: Duration) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
    let timeout = Timespec::try_from(timeout).ok();
    rustix::event::poll(&mut polled, timeout.as_ref()).is_ok()
        && polled[0].revents().contains(PollFlags::IN)
}

/// What to leave out of the tap so that the agent does not look at its own packets.
///
/// A collector that is named may move from address to address: its port is left out everywhere, unless calls may use
/// it too. Then its few packets are looked at, and are no media.
fn own_traffic(collector: &config::Collector) -> Option<SocketAddr> {
    let port = collector.port;
    match collector.host.parse::<IpAddr>() {
        Ok(address) => Some(SocketAddr::new(address, port)),
        Err(_) if is_free_of_media(port) => {
            Some(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        }
        Err(_) => None,
    }
}

/// TURN relays listen on 443 and on 3478 to 3481 (Teams), media is given ports from 16384 on (Cisco), 49152 on (RFC
/// 8656 section 7.2), 50000 on (Teams).
fn is_free_of_media(port: u16) -> bool {
    (1_024..16_384).contains(&port) && !(3_478..=3_481).contains(&port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(host: &str, port: u16) -> Option<String> {
        let collector =
            config::Collector { host: host.to_owned(), port, server_name: host.to_owned() };
        own_traffic(&collector).map(|address| address.to_string())
    }

    #[test]
    fn own_packets_to_an_address_are_left_out_there_only() {
        assert_eq!(excluded("192.0.2.7", 443).as_deref(), Some("192.0.2.7:443"));
        assert_eq!(excluded("2001:db8::7", 50_000).as_deref(), Some("[2001:db8::7]:50000"));
    }

    #[test]
    fn port_of_a_named_collector_is_left_out_unless_calls_may_use_it() {
        assert_eq!(excluded("collector.example", 4_433).as_deref(), Some("0.0.0.0:4433"));
        for port in [443, 3_478, 3_481, 16_384, 50_000] {
            assert_eq!(excluded("collector.example", port), None, "port {port}");
        }
    }
}
