//! The fleet of a running `serve`: what is connected, what it was sent, what it said.
//!
//! Of each connected endpoint the latest report is kept in memory, and what changed is written as one step about once
//! a second. So nothing queues: a flood of heartbeats overwrites itself, and memory is one entry per connection and
//! per connection that ended within the last second. A change of the book by a command is noticed in the same round,
//! and at once where the command says so.
//!
//! Where the book cannot be used there is no fleet: nothing is kept or sent, and records are taken as ever.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use roomtone_protocol::configuration::{Configuration, ConfigurationHash, EffectiveConfiguration};
use roomtone_protocol::health::Health;
use roomtone_protocol::id::EndpointId;

use super::book::{Book, BookError, HeardRow};
use super::heartbeat::{CpuMeter, Heard, Heartbeat};
use super::plan::Plan;
use super::session::{Reported, Session};
use super::settings;
use crate::ingest::downlink::Downlinks;

/// How often what changed is written, and the book looked at for changes by others.
pub const ROUND: Duration = Duration::from_secs(1);
/// A disk that refuses must not fill the log as well: the first failure and every thousandth are told.
const FAILURES_PER_LINE: u64 = 1_000;

/// The fleet; share it.
#[derive(Debug)]
pub struct Fleet {
    shared: Mutex<Shared>,
    /// `None` where it cannot be used. Locked before `shared`, never the other way round.
    book: Option<Mutex<Book>>,
    downlinks: Downlinks,
    counts: Counts,
    wall_us: fn() -> u64,
}

#[derive(Debug, Default)]
struct Shared {
    plan: Arc<Plan>,
    entries: HashMap<EndpointId, Entry>,
    connections_made: u64,
}

#[derive(Debug, Default)]
struct Counts {
    reports: AtomicU64,
    excess: AtomicU64,
    malformed: AtomicU64,
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetCounts {
    /// Heartbeats and effective configurations that were taken.
    pub reports: u64,
    /// Those that came faster than they are taken.
    pub excess: u64,
    /// Effective configurations whose hash is not that of their text.
    pub malformed: u64,
}

/// Who has connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Which endpoint.
    pub endpoint: EndpointId,
    /// Its display name.
    pub name: String,
    /// Its site; empty for none.
    pub site: String,
    /// Its agent's version.
    pub agent_version: String,
    /// What the book says that it reported last: [`Fleet::recall`].
    pub reported: Reported,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    heard: Heard,
    session: Session,
    cpu: CpuMeter,
    effective: Option<EffectiveConfiguration>,
    /// Whether there is something to write.
    is_changed: bool,
}

/// One connection's place in the fleet, until it is dropped.
#[derive(Debug)]
pub struct Presence {
    fleet: Arc<Fleet>,
    endpoint: EndpointId,
    number: u64,
}

impl Fleet {
    /// A fleet by its book; `wall_us` is the collector's clock.
    ///
    /// # Errors
    /// [`BookError`] where the book cannot be read.
    pub fn new(book: Book, downlinks: Downlinks, wall_us: fn() -> u64) -> Result<Self, BookError> {
        let plan = Arc::new(book.plan()?);
        tell_unread(&Plan::default(), &plan);
        let without = Self::without_book(downlinks, wall_us);
        lock(&without.shared).plan = plan;
        Ok(Self { book: Some(Mutex::new(book)), ..without })
    }

    /// No fleet: nothing is sent and nothing kept.
    #[must_use]
    pub fn without_book(downlinks: Downlinks, wall_us: fn() -> u64) -> Self {
        Self { shared: Mutex::default(), book: None, downlinks, counts: Counts::default(), wall_us }
    }

    /// Whether there is a book.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.book.is_some()
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> FleetCounts {
        FleetCounts {
            reports: self.counts.reports.load(Ordering::Relaxed),
            excess: self.counts.excess.load(Ordering::Relaxed),
            malformed: self.counts.malformed.load(Ordering::Relaxed),
        }
    }

    /// What the book says that an endpoint reported last. Waits for the disk.
    #[must_use]
    pub fn recall(&self, endpoint: EndpointId) -> Reported {
        let Some(book) = &self.book else { return Reported::Unknown };
        // A book that cannot be read now costs one frame that the endpoint has already.
        lock(book).reported(endpoint).unwrap_or_default()
    }

    /// Takes in a connection that was welcomed and has its line down, in place of an older one of the endpoint.
    ///
    /// What the endpoint lacks is sent. `None` where there is no fleet.
    pub fn connect(self: &Arc<Self>, arrival: Arrival, now: Instant) -> Option<Presence> {
        self.book.as_ref()?;
        let Arrival { endpoint, name, site, agent_version, reported } = arrival;
        let connected_us = (self.wall_us)();
        let mut shared = lock(&self.shared);
        shared.connections_made += 1;
        let number = shared.connections_made;
        let before = shared.entries.remove(&endpoint);
        // What an older connection said in this last second the book may not know yet.
        let reported = before.as_ref().map_or(reported, |it| it.session.reported());
        let (heartbeat, effective) =
            before.map_or((None, None), |it| (it.heard.heartbeat, it.effective));
        let heard =
            Heard { endpoint, name, site, agent_version, connected_us, ended_us: None, heartbeat };
        let session = Session::new(reported, now);
        let cpu = CpuMeter::default();
        let entry = Entry { number, heard, session, cpu, effective, is_changed: true };
        shared.entries.insert(endpoint, entry);
        self.send(&mut shared, endpoint, &mut HashMap::new());
        drop(shared);
        Some(Presence { fleet: self.clone(), endpoint, number })
    }

    /// Reads what endpoints are to be set to, and sends it to those that are connected and lack it.
    ///
    /// Returns how many these are. Waits for the disk.
    ///
    /// # Errors
    /// [`BookError`] where the book cannot be read; what was wanted before still is.
    pub fn reload(&self) -> Result<u64, BookError> {
        let Some(book) = &self.book else { return Ok(0) };
        let endpoints: Vec<EndpointId> = {
            // Held until the plan is in its place: of two that read at once the later one must not lose.
            let book = lock(book);
            let plan = book.plan()?;
            let mut shared = lock(&self.shared);
            if *shared.plan == plan {
                return Ok(0);
            }
            tell_unread(&shared.plan, &plan);
            shared.plan = Arc::new(plan);
            shared.entries.keys().copied().collect()
        };
        let mut made = HashMap::new();
        // One lock for each, so that heartbeats of a large fleet do not wait for all of it.
        let sent = endpoints
            .into_iter()
            .filter(|endpoint| self.send(&mut lock(&self.shared), *endpoint, &mut made))
            .count();
        Ok(sent as u64)
    }

    /// Sends an endpoint what it lacks; whether that was anything.
    fn send(
        &self,
        shared: &mut Shared,
        endpoint: EndpointId,
        made: &mut HashMap<ConfigurationHash, Arc<Configuration>>,
    ) -> bool {
        let Shared { plan, entries, .. } = shared;
        let Some(entry) = entries.get_mut(&endpoint) else { return false };
        if entry.heard.ended_us.is_some() {
            return false;
        }
        let wanted = plan.wanted(endpoint, &entry.heard.site);
        let Some(wanted) = wanted.filter(|wanted| entry.session.must_send(Some(wanted))) else {
            return false;
        };
        let made = made.entry(wanted.hash).or_insert_with(|| Arc::new(wanted.configuration()));
        self.downlinks.configure(endpoint, made.clone())
    }

    /// Writes what has changed. Waits for the disk.
    ///
    /// # Errors
    /// [`BookError`]; what is connected is written next time, what has gone meanwhile is not.
    pub fn write(&self) -> Result<(), BookError> {
        let Some(book) = &self.book else { return Ok(()) };
        let mut book = lock(book);
        let rows: Vec<HeardRow> = {
            let mut shared = lock(&self.shared);
            let changed = shared.entries.values_mut().filter(|it| it.is_changed);
            let taken = changed.map(|entry| {
                entry.is_changed = false;
                HeardRow { heard: entry.heard.clone(), effective: entry.effective.take() }
            });
            let rows = taken.collect();
            shared.entries.retain(|_, entry| entry.heard.ended_us.is_none());
            rows
        };
        if rows.is_empty() {
            return Ok(());
        }
        book.write(&rows).inspect_err(|_| {
            let mut shared = lock(&self.shared);
            for row in rows {
                if let Some(entry) = shared.entries.get_mut(&row.heard.endpoint) {
                    entry.is_changed = true;
                    entry.effective = entry.effective.take().or(row.effective);
                }
            }
        })
    }

    fn data_version(&self) -> Result<i64, BookError> {
        self.book.as_ref().map_or(Ok(0), |book| lock(book).data_version())
    }
}

impl Presence {
    /// Takes a heartbeat, and sends what the endpoint lacks by it.
    pub fn handle_health(&self, health: Health, now: Instant) {
        let heard_us = (self.fleet.wall_us)();
        let mut shared = lock(&self.fleet.shared);
        let Some(entry) = self.entry(&mut shared, now) else { return };
        entry.session.handle_report(&health.configuration);
        let cpu = entry.cpu.handle(&health);
        entry.heard.heartbeat = Some(Heartbeat { heard_us, health, cpu });
        entry.is_changed = true;
        self.fleet.send(&mut shared, self.endpoint, &mut HashMap::new());
    }

    /// Takes what the endpoint says that it is set to.
    pub fn handle_effective(&self, effective: EffectiveConfiguration, now: Instant) {
        let mut shared = lock(&self.fleet.shared);
        let Some(entry) = self.entry(&mut shared, now) else { return };
        if settings::hash(&effective.text) != effective.hash {
            self.fleet.counts.malformed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        entry.effective = Some(effective);
        entry.is_changed = true;
    }

    /// The entry, where it still is this connection's and a report more is taken.
    fn entry<'a>(&self, shared: &'a mut Shared, now: Instant) -> Option<&'a mut Entry> {
        let entry = shared.entries.get_mut(&self.endpoint);
        let entry = entry.filter(|it| it.number == self.number)?;
        let is_taken = entry.session.admits(now);
        let counts = &self.fleet.counts;
        let count = if is_taken { &counts.reports } else { &counts.excess };
        count.fetch_add(1, Ordering::Relaxed);
        is_taken.then_some(entry)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let ended_us = (self.fleet.wall_us)();
        let mut shared = lock(&self.fleet.shared);
        let entry = shared.entries.get_mut(&self.endpoint);
        if let Some(entry) = entry.filter(|it| it.number == self.number) {
            entry.heard.ended_us = Some(ended_us);
            entry.is_changed = true;
        }
    }
}

/// The thread that writes; it writes a last time when it is [finished](Self::finish).
#[derive(Debug)]
pub struct Rounds {
    stop: mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Rounds {
    /// Starts it.
    ///
    /// # Errors
    /// [`io::Error`] where no thread can be started.
    pub fn start(fleet: Arc<Fleet>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("fleet".to_owned())
            .spawn(move || come_round(&fleet, &stopped))?;
        Ok(Self { stop, thread })
    }

    /// Writes what is left and ends.
    pub fn finish(self) {
        drop(self.stop);
        // One that panicked has said so.
        let _ = self.thread.join();
    }
}

/// Says once that there are revisions that this version cannot read.
fn tell_unread(before: &Plan, now: &Plan) {
    let revisions = now.unread();
    if revisions > before.unread() {
        tracing::warn!(
            revisions,
            "settings of a later version: whom they reach keeps what it has, `config history` names them"
        );
    }
}

fn come_round(fleet: &Fleet, stopped: &mpsc::Receiver<()>) {
    let (mut seen, mut failures) = (fleet.data_version().ok(), 0_u64);
    loop {
        let is_last = stopped.recv_timeout(ROUND) != Err(RecvTimeoutError::Timeout);
        let reread = || -> Result<Option<i64>, BookError> {
            let version = fleet.data_version()?;
            if seen != Some(version) {
                fleet.reload()?;
            }
            Ok(Some(version))
        };
        let round = fleet.write().and_then(|()| reread());
        match round {
            Ok(version) => {
                if failures > 0 {
                    tracing::info!(rounds_failed = failures, "the fleet's book is written again");
                }
                (seen, failures) = (version, 0);
            }
            Err(error) => {
                if failures.is_multiple_of(FAILURES_PER_LINE) {
                    tracing::error!(%error, "how endpoints are is not written; records are taken as ever");
                }
                failures += 1;
            }
        }
        if is_last {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
