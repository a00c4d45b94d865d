//! The tap's own thread: sleeps until the kernel has packets or the watch has a deadline, feeds the watch, hands its
//! events on.
//!
//! It wakes about four times a second while media flows and not at all while none does. Nothing is sent or written to
//! disk here: a slow disk must not cost packets.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::system;
use crate::clock::{Moment, WallOffset};
use crate::config;
use crate::media::{self, Event, Watch};
use crate::tap::{LiveOptions, LiveTap, TapError, local_addresses};

/// Events on their way to the spool, at most. An interval of the largest call (a few legs) makes some ten; where the
/// disk hangs, the thread waits and the kernel's ring counts what it drops.
pub const EVENTS_MAX: usize = 1_024;
/// Packets lie in the ring for a block time-out at most: a deadline is acted on this much later, so that no packet of
/// an interval comes after its end.
const SETTLE: Duration = Duration::from_millis(50);
/// How often the addresses of the interfaces are looked up anew, while packets come.
const ADDRESSES_EVERY: Duration = Duration::from_secs(30);
/// How long to wait before a tap that broke is opened again, at first and at most.
const REOPEN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// An event and the offset of the wall clock when it was noticed.
pub type Noticed = (Event, WallOffset);

/// The observer before its thread runs: an open tap, so that a missing capability stops the agent at once and says so.
pub struct Observer {
    tap: LiveTap,
    options: LiveOptions,
    watch: Watch,
    fixed_local: bool,
    stop: Arc<OwnedFd>,
    events: mpsc::Sender<Noticed>,
    dropped_before: u64,
}

/// Ends the observer's thread: what is open is closed and reported first.
#[derive(Debug)]
pub struct Stop(Arc<OwnedFd>);

impl Stop {
    /// Asks the thread to end.
    pub fn stop(&self) {
        // A counter that already stands at its maximum has been asked before.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl Observer {
    /// Opens the tap.
    ///
    /// # Errors
    /// As [`LiveTap::open`]; [`TapError::Wait`] where the kernel has no descriptor left.
    pub fn open(
        tap: &config::Tap,
        media: &config::Media,
        seed: u64,
    ) -> Result<(Self, Stop, mpsc::Receiver<Noticed>), TapError> {
        let options = LiveOptions {
            interface: tap.interface.clone(),
            snap_bytes: tap.snap_bytes,
            ring_bytes: tap.ring_bytes,
            block_timeout: tap.block_timeout,
            exclude: Vec::new(),
        };
        let live = LiveTap::open(&options)?;
        let local = if tap.local.is_empty() { local_addresses() } else { tap.local.clone() };
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let stop =
            rustix::event::eventfd(0, flags).map_err(|error| TapError::Wait(error.into()))?;
        let stop = Arc::new(stop);
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let observer = Self {
            tap: live,
            options,
            watch: Watch::new(media::Options { local, call_idle: media.call_idle, seed }),
            fixed_local: !tap.local.is_empty(),
            stop: Arc::clone(&stop),
            events,
            dropped_before: 0,
        };
        Ok((observer, Stop(stop), receiver))
    }

    /// Observes until it is stopped or nobody listens any more.
    pub fn run(mut self) {
        let mut addresses_due = system::now() + ADDRESSES_EVERY;
        loop {
            match self.observe(&mut addresses_due) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "the tap broke and is opened again");
                    if !self.reopen() {
                        break;
                    }
                }
            }
        }
        self.settle();
        self.watch.finish();
        self.hand_on(system::now_and_wall().1);
    }

    /// Reads what the kernel still holds back in a block that is not full.
    fn settle(&mut self) {
        let until = system::now() + self.options.block_timeout + SETTLE;
        loop {
            let left = until.since(system::now());
            if left.is_zero() {
                break;
            }
            // The tap's own descriptor alone: the request to end stays readable.
            let mut ready = [rustix::event::PollFd::from_borrowed_fd(
                self.tap.fd(),
                rustix::event::PollFlags::IN,
            )];
            let timeout = rustix::event::Timespec::try_from(left).ok();
            if !matches!(rustix::event::poll(&mut ready, timeout.as_ref()), Ok(1..)) {
                break;
            }
            let watch = &mut self.watch;
            let wall = system::now_and_wall().1;
            if self.tap.drain(wall, |datagram| watch.handle_datagram(&datagram)).is_err() {
                break;
            }
        }
    }

    /// One round: sleep, read, decide. False when the end was asked for.
    fn observe(&mut self, addresses_due: &mut Moment) -> Result<bool, TapError> {
        let settle = self.options.block_timeout + SETTLE;
        let due = self.watch.poll_timeout().map(|(at, _)| at + settle);
        let timeout = due.map(|due| due.since(system::now()));
        let woken = self.tap.wait(self.stop.as_fd(), timeout)?;
        let (now, wall) = system::now_and_wall();
        if woken.packets {
            let watch = &mut self.watch;
            self.tap.drain(wall, |datagram| watch.handle_datagram(&datagram))?;
            self.watch.note_tap_dropped(self.dropped_before + self.tap.stats()?.dropped);
            if now >= *addresses_due && !self.fixed_local {
                self.watch.set_local(local_addresses());
                *addresses_due = now + ADDRESSES_EVERY;
            }
        }
        if due.is_some_and(|due| now >= due) {
            self.watch.handle_timeout(Moment::from_nanos(
                now.since(Moment::ORIGIN + settle).as_nanos() as u64,
            ));
        }
        Ok(self.hand_on(wall) && !woken.called)
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

    /// Opens the tap again, with growing pauses; false when the end was asked for meanwhile.
    fn reopen(&mut self) -> bool {
        self.dropped_before += self.tap.stats().map(|stats| stats.dropped).unwrap_or(0);
        let [mut pause, longest] = REOPEN;
        loop {
            let mut asked = [rustix::event::PollFd::new(&*self.stop, rustix::event::PollFlags::IN)];
            let timeout = rustix::event::Timespec::try_from(pause).ok();
            if matches!(rustix::event::poll(&mut asked, timeout.as_ref()), Ok(1..)) {
                return false;
            }
            let (now, wall) = system::now_and_wall();
            self.watch.handle_timeout(now);
            if !self.hand_on(wall) {
                return false;
            }
            match LiveTap::open(&self.options) {
                Ok(tap) => {
                    self.tap = tap;
                    tracing::info!("the tap is open again");
                    return true;
                }
                Err(error) => tracing::debug!(%error, "the tap cannot be opened yet"),
            }
            pause = (pause * 2).min(longest);
        }
    }
}
