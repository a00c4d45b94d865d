//! `roomtone-agent run`: joins tap, watch, context socket, spool and uplink.
//!
//! Four threads: the observer's, which must never wait for a disk, the device watch's, the host watch's, and the main
//! one, where tokio runs the uplink, the context socket is served, and this file appends to the spool. A fifth for as
//! long as a self-test takes. Where the collector sets the endpoint anew all of them are wound down and started again,
//! outside of calls and within the process: in the same order as at its end and at its beginning. Invariants: nothing
//! is sent that the spool does not have on disk; the agent sends nothing on a path that it taps.

mod steward;
mod surroundings;
mod tester;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use roomtone_protocol::ack::Ack;
use roomtone_protocol::configuration::Configuration;
use roomtone_protocol::control::Control;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::audio::selftest::Report;
use crate::audio::watch::{self, Call, DeviceWatch};
use crate::clock::{Moment, system};
use crate::config::Config;
use crate::config::layers::Local;
use crate::context::{self, Desk};
use crate::health::Glance;
use crate::media::Event;
use crate::observe::{self, Noticed, Observer};
use crate::open_call::OpenCall;
use crate::open_call::file::MarkFile;
use crate::path;
use crate::path::prober::{Circumstances, ROUNDS_BYTES_MAX};
use crate::report::Recorder;
use crate::spool::{self, Position, Spool, SpoolError};
use crate::systemd::Supervisor;
use crate::tap::TapError;
use crate::telemetry::Log;
use crate::uplink::quic::{Line, LinkError};
use crate::uplink::{Backlog, LinkStatus, Settings, Uplink};
use steward::{Steward, WORDS_MAX};
use surroundings::Surroundings;
use tester::Tester;

/// Intervals per frame while nobody listens: a minute of a leg at a third of the bytes.
const INTERVALS_OFFLINE: usize = 6;
/// How long a disk that refused to make records durable is left in peace.
const SYNC_AGAIN: Duration = Duration::from_secs(5);
/// Before the parts are started once more that ran before and do not start now: a process that ends loses what its
/// next life must find out again. The service manager's own pauses follow.
const START_AGAIN: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(8)];
/// How long the end waits for what runs beside the tasks, as the look-up of a name.
const LEFT_BEHIND: Duration = Duration::from_secs(1);
/// Requests of the collector that wait to be served.
const REQUESTS_MAX: usize = 4;

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Packets cannot be observed.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// Records cannot be kept.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The identity is unusable.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A part panicked, where the command line's own rule for that is not in force.
    #[error("the {part} ended by a defect; the log has its place")]
    Defect {
        /// Which.
        part: &'static str,
    },
    /// The kernel refuses what every process may have.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

impl DaemonError {
    /// Why a text on trial is taken back where the parts did not even start with it, in words that name nothing of this
    /// machine; `None` for what no text can be blamed for. What it may set of the spool keeps none from opening.
    fn of_trial(&self) -> Option<&'static str> {
        match self {
            Self::Tap(error) if error.is_of_options() => {
                Some("packet heads cannot be read with it; the agent's log says why")
            }
            Self::Tap(_)
            | Self::Spool(_)
            | Self::Link(_)
            | Self::Defect { .. }
            | Self::System { .. } => None,
        }
    }

    /// Whether it may be gone in some seconds, as a disk's trouble or a lack of memory.
    fn may_pass(&self) -> bool {
        match self {
            Self::Tap(_) | Self::Spool(_) | Self::System { .. } => true,
            Self::Link(_) | Self::Defect { .. } => false,
        }
    }
}

/// Runs until SIGINT or SIGTERM, with the machine's own file and what the collector sets beside it.
///
/// # Errors
/// Where something that the config asks for cannot be had at the start. Later faults are logged and overcome.
pub fn run(local: &Local, log: &Log) -> Result<(), DaemonError> {
    let failed = |action| move |source| DaemonError::System { action, source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed("start the runtime"))?;
    let ended = runtime.block_on(tokio::task::LocalSet::new().run_until(live(local, log)));
    // A name server that does not answer is not waited for.
    runtime.shutdown_timeout(LEFT_BEHIND);
    ended
}

/// How the parts ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// As they were asked to from outside.
    Stopped,
    /// To be started again, set anew.
    SetAnew,
}

/// The life of the process: the parts, started as often as they are set anew.
async fn live(local: &Local, log: &Log) -> Result<(), DaemonError> {
    let failed = |action| move |source| DaemonError::System { action, source };
    // Caught once: between two starts none may be missed.
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("catch SIGTERM"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("catch SIGINT"))?;
    let mut supervisor = Supervisor::from_environment();
    let mut steward = Steward::open(local, log);
    // None before the parts have run: what is missing from the start is told at once.
    let mut pauses = [].iter();
    loop {
        let config = steward.choose();
        let signals = [&mut terminate, &mut interrupt];
        let served = serve(&config, &mut steward, &mut supervisor, signals).await;
        steward.handle_ended();
        match served {
            Ok(Ended::Stopped) => return Ok(()),
            Ok(Ended::SetAnew) => {
                pauses = START_AGAIN.iter();
                tracing::info!("starting again as the collector sets it");
            }
            Err(error) if error.of_trial().is_some_and(|why| steward.handle_failed(why)) => {
                tracing::warn!(%error, "what the collector set is taken back");
            }
            Err(error) if error.may_pass() => {
                let Some(pause) = pauses.next() else { return Err(error) };
                tracing::warn!(%error, ?pause, "the parts do not start and are started again");
                tokio::select! {
                    () = tokio::time::sleep(*pause) => {}
                    _ = terminate.recv() => return Ok(()),
                    _ = interrupt.recv() => return Ok(()),
                }
            }
            Err(error) => return Err(error),
        }
    }
}

async fn serve(
    config: &Config,
    steward: &mut Steward<'_>,
    supervisor: &mut Supervisor,
    signals: [&mut Signal; 2],
) -> Result<Ended, DaemonError> {
    let failed = |action| move |source| DaemonError::System { action, source };
    let (observer, stop, events) =
        Observer::open(&config.tap, &config.media, &config.collector, seed()?)?;
    let spool = Rc::new(RefCell::new(open_spool(config)?));
    let (mark_file, killed_in) = MarkFile::open(config.spool.beside("call.json"));
    let appended = Arc::new(Notify::new());
    let (requests, asked) = mpsc::channel(REQUESTS_MAX);
    let settings = Settings::new(config.collector.clone(), config.identity.clone());
    let (uplink, status) =
        Uplink::new(settings, Rc::clone(&spool), Arc::clone(&appended), requests, stamp)?;
    let (words, said) = mpsc::channel(WORDS_MAX);
    let (configurations, set) = tokio::sync::watch::channel(None);
    let (lines, lent) = tokio::sync::watch::channel(None);
    let uplink = uplink.with_talk(said, configurations).with_probing(lines);

    // Whatever may fail comes before what would live on behind the failure: the parts may be started again.
    let surroundings =
        Surroundings::start(config).map_err(failed("start the host watch's thread"))?;
    let (calls, devices, watching) = watch_devices(config)?;
    let observing = std::thread::Builder::new()
        .name("tap".to_owned())
        .spawn(move || observer.run())
        .inspect_err(|_| calls.iter().for_each(watch::Handle::stop))
        .map_err(failed("start the tap's thread"))?;
    let tap = stop.clone();
    let desk = Desk::new(move |change, at| tap.context(change, at));
    let clients = open_context(config, &desk).await;
    tracing::info!(interface = %config.tap.interface, "observing");
    let (circumstances, seen) = tokio::sync::watch::channel(Circumstances::default());
    let (probed, paths) = mpsc::channel(path::watch::RECORDS_MAX);
    let circumstances = config.path.probe.then_some(circumstances);
    let probing = probe_paths(config, lent, (seen, probed));
    let (recorded, shutdown) = oneshot::channel::<()>();
    let uplink = tokio::task::spawn_local(uplink.run(async {
        // An error means that the recorder is gone, which is the same.
        let _ = shutdown.await;
    }));

    let (tester, tests) = Tester::new();
    let mut journal = Journal {
        spool,
        appended,
        recorder: Recorder::new(),
        records: Vec::new(),
        owes_sync: false,
        calls,
        circumstances,
        surroundings,
        desk,
        open_call: OpenCall::default(),
        mark_file,
        tester,
        supervisor,
        steward,
        is_live: false,
        is_sparing: false,
    };
    if let Some(mark) = killed_in {
        tracing::info!("the agent was killed in a call, which is closed now");
        journal.records.push(Record::CallClosed(mark.closed()));
    }
    // Before anything else is recorded.
    journal.write();
    journal.supervisor.ready();
    journal.steward.handle_started(words);
    let inbox = Inbox { events, devices, paths, status, asked, tests, set };
    let (tester, ended) = journal.keep(inbox, &stop, signals).await;
    match ended {
        Ended::Stopped => {
            supervisor.stopping();
            tracing::info!("stopping: what is recorded is sent for two seconds more");
        }
        Ended::SetAnew => supervisor.status("starting again as the collector sets it"),
    }
    if let Some(clients) = clients {
        clients.abort();
        // Its end is that it was aborted.
        let _ = clients.await;
    }
    for probing in probing {
        probing.await.map_err(|_| DaemonError::Defect { part: "path watch" })?;
    }
    drop(recorded);
    // What makes the journal end may be the end of one of the two.
    let uplink = uplink.await.map_err(|_| DaemonError::Defect { part: "uplink" });
    stop.stop();
    tester.stop();
    observing.join().map_err(|_| DaemonError::Defect { part: "tap" })?;
    if let Some(watching) = watching {
        watching.join().map_err(|_| DaemonError::Defect { part: "device watch" })?;
    }
    uplink.map(|()| ended)
}

/// The device watch's ears, its records, and its thread.
type Watching = (Option<watch::Handle>, mpsc::Receiver<Record>, Option<JoinHandle<()>>);

/// Starts the device watch, if it is wanted.
fn watch_devices(config: &Config) -> Result<Watching, DaemonError> {
    let failed = |action| move |source| DaemonError::System { action, source };
    if !config.audio.watch {
        // A channel whose other end is gone says so at once.
        return Ok((None, mpsc::channel(1).1, None));
    }
    let options = watch::Options {
        root: "/".into(),
        with_mixers: true,
        with_levels: config.audio.levels,
        thresholds: config.audio.thresholds.clone(),
        carry: config.spool.beside("devices.json"),
        call_idle: config.media.call_idle,
        seed: seed()?,
    };
    let (devices, calls, records) = DeviceWatch::new(&options).map_err(failed("watch devices"))?;
    let thread = std::thread::Builder::new()
        .name("devices".to_owned())
        .spawn(move || devices.run())
        .map_err(failed("start the device watch's thread"))?;
    Ok((Some(calls), records, Some(thread)))
}

/// Starts the path watch's tasks: one for the collector, one for a reflector, where they are wanted.
fn probe_paths(
    config: &Config,
    lines: tokio::sync::watch::Receiver<Option<Line>>,
    (circumstances, records): (tokio::sync::watch::Receiver<Circumstances>, mpsc::Sender<Record>),
) -> Vec<tokio::task::JoinHandle<()>> {
    let [collectors_round, reflectors_round] = ROUNDS_BYTES_MAX;
    let mut tasks = Vec::new();
    if !config.path.probe {
        return tasks;
    }
    let beside = config.path.reflector.as_ref().map_or(0, |_| reflectors_round);
    if let Some(reflector) = config.path.reflector.clone() {
        let (seen, told) = (circumstances.clone(), records.clone());
        let reflected = path::reflected::run(reflector, seen, told, collectors_round);
        tasks.push(tokio::task::spawn_local(reflected));
    }
    let watched = path::watch::run(lines, circumstances, records, beside);
    tasks.push(tokio::task::spawn_local(watched));
    tasks
}

/// Opens the room application's socket, if it is wanted and can be had; without it calls are known by their packets.
async fn open_context(config: &Config, desk: &Desk) -> Option<tokio::task::JoinHandle<()>> {
    match context::listen(config.context.socket.as_ref()?).await {
        Ok(listener) => Some(tokio::task::spawn_local(context::serve(listener, desk.clone()))),
        Err(error) => {
            tracing::warn!(%error, "no context socket");
            None
        }
    }
}

fn open_spool(config: &Config) -> Result<Spool, DaemonError> {
    let limits = spool::Limits {
        bytes_max: config.spool.bytes_max,
        headroom_bytes: config.spool.headroom_bytes,
        inodes_min: config.spool.inodes_min,
        ..spool::Limits::default()
    };
    let (spool, recovery) = Spool::open(&config.spool.directory, limits, stamp())?;
    tracing::info!(?recovery, "spool open");
    Ok(spool)
}

/// Both clocks now.
fn stamp() -> Stamp {
    let (now, wall) = system::now_and_wall();
    wall.stamp(now)
}

fn seed() -> Result<u64, DaemonError> {
    getrandom::u64().map_err(|error| DaemonError::System {
        action: "draw random numbers",
        source: std::io::Error::other(error),
    })
}

impl Backlog for Spool {
    type Error = SpoolError;

    fn position(&self) -> Position {
        Self::position(self)
    }

    fn oldest(&self) -> Position {
        Self::oldest(self)
    }

    fn read(
        &mut self,
        from: Position,
        buffer: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<Position, SpoolError> {
        Self::read(self, from, buffer, bytes_max)
    }

    fn acknowledge(&mut self, ack: Ack) -> Result<(), SpoolError> {
        Self::acknowledge(self, ack)
    }
}

/// Writes what the observer notices into the spool.
struct Journal<'a, 'b> {
    spool: Rc<RefCell<Spool>>,
    appended: Arc<Notify>,
    recorder: Recorder,
    records: Vec<Record>,
    /// The last sync failed.
    owes_sync: bool,
    /// Hears of calls, so that devices are judged while they matter.
    calls: Option<watch::Handle>,
    /// Tells of calls, so that the path is probed while they last; `None` where it is not probed.
    circumstances: Option<tokio::sync::watch::Sender<Circumstances>>,
    /// Hears of calls, so that their host and their network are looked at and their events judged.
    surroundings: Surroundings,
    /// Hears of calls, so that the room application is told of them.
    desk: Desk,
    /// What closes the call if this process is killed in it.
    open_call: OpenCall,
    mark_file: MarkFile,
    tester: Tester,
    /// Hears that the journal is kept, so that one that hangs is started anew.
    supervisor: &'a mut Supervisor,
    /// Hears of calls and of the link, so that nothing is set anew in a call.
    steward: &'a mut Steward<'b>,
    /// Somebody looks on.
    is_live: bool,
    /// The parts do less.
    is_sparing: bool,
}

/// The next tick, if there are any.
async fn tick(interval: &mut Option<tokio::time::Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// What comes to the journal.
struct Inbox {
    events: mpsc::Receiver<Noticed>,
    devices: mpsc::Receiver<Record>,
    paths: mpsc::Receiver<Record>,
    status: tokio::sync::watch::Receiver<LinkStatus>,
    /// What the collector asks for.
    asked: mpsc::Receiver<Control>,
    /// Self-tests that ended.
    tests: mpsc::Receiver<Report>,
    /// What the collector set latest.
    set: tokio::sync::watch::Receiver<Option<Configuration>>,
}

impl Journal<'_, '_> {
    /// Until the observer ends, which the first signal makes it do and so does another configuration, or the uplink,
    /// which it never should.
    async fn keep(
        mut self,
        Inbox { mut events, mut devices, mut paths, mut status, mut asked, mut tests, mut set }: Inbox,
        stop: &observe::Handle,
        [terminate, interrupt]: [&mut Signal; 2],
    ) -> (Tester, Ended) {
        let mut alive = self.supervisor.alive_every().map(tokio::time::interval);
        // Without a device watch the channel is closed from the start.
        let mut watched = true;
        let mut probed = self.circumstances.is_some();
        let mut ended = None;
        loop {
            let mark_due = self.open_call.poll_timeout().map(|(at, _)| at.since(system::now()));
            let judged_due = self.surroundings.poll_timeout().map(|at| at.since(system::now()));
            let steward_due = self.steward.poll_timeout().map(|at| at.since(system::now()));
            tokio::select! {
                noticed = events.recv() => match noticed {
                    Some(noticed) => self.note(noticed),
                    None => break,
                },
                record = devices.recv(), if watched => {
                    watched = record.is_some();
                    if let Some(record) = record {
                        self.note_device(record);
                    }
                    while let Ok(record) = devices.try_recv() {
                        self.note_device(record);
                    }
                }
                record = self.surroundings.next() => self.records.push(record),
                () = tokio::time::sleep(judged_due.unwrap_or_default()), if judged_due.is_some() => {
                    self.surroundings.handle_timeout(self.calls.as_ref(), &mut self.records);
                }
                record = paths.recv(), if probed => {
                    probed = record.is_some();
                    self.records.extend(record);
                }
                changed = status.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let status = status.borrow_and_update();
                    self.steward.handle_status(&status);
                    self.choose_frame(&status);
                    drop(status);
                    // Acks and receipts become durable with a sync.
                    self.sync();
                }
                Some(control) = asked.recv() => match control {
                    Control::SelfTest => self.tester.handle_request(),
                    // The uplink's own affair.
                    Control::GoingAway | Control::Probe => {}
                },
                Some(report) = tests.recv() => self.note_test(&report),
                // In a silent night no next record would bring the next try.
                () = tokio::time::sleep(SYNC_AGAIN), if self.owes_sync => self.sync(),
                () = tokio::time::sleep(mark_due.unwrap_or_default()), if mark_due.is_some() => {
                    let (now, wall) = system::now_and_wall();
                    self.open_call.handle_timeout(now, wall);
                }
                Ok(()) = set.changed() => {
                    if let Some(configuration) = set.borrow_and_update().clone() {
                        self.steward.handle_arrival(configuration);
                    }
                }
                () = tokio::time::sleep(steward_due.unwrap_or_default()),
                    if steward_due.is_some() => {}
                () = tick(&mut alive) => if stop.answers() {
                    self.supervisor.alive();
                },
                _ = terminate.recv() => {
                    ended = Some(Ended::Stopped);
                    stop.stop();
                }
                _ = interrupt.recv() => {
                    ended = Some(Ended::Stopped);
                    stop.stop();
                }
            }
            // What one round of the tap brought is one write; and a call that has begun is known before anything is
            // decided, whichever branch was taken and however slow the disk was.
            while let Ok(noticed) = events.try_recv() {
                self.note(noticed);
            }
            let heard = system::now();
            self.write();
            if self.attend(stop, heard) && ended.is_none() {
                ended = Some(Ended::SetAnew);
                stop.stop();
            }
        }
        self.recorder.flush(system::now_and_wall().1, &mut self.records);
        // The device watch has heard that the calls are closed and says what that means before it ends.
        if let Some(calls) = &self.calls {
            calls.stop();
        }
        while let Some(record) = devices.recv().await {
            self.note_device(record);
        }
        // What is known is kept before anybody is waited for.
        self.write();
        // The path watch ends where nobody tells it of calls any more.
        self.circumstances = None;
        while let Some(record) = paths.recv().await {
            self.records.push(record);
        }
        self.write();
        self.surroundings.finish(self.calls.as_ref(), &mut self.records).await;
        self.write();
        (self.tester, ended.unwrap_or(Ended::Stopped))
    }

    /// Lets the steward see what there is to see; true where it wants the parts to be started again.
    fn attend(&mut self, stop: &observe::Handle, heard: Moment) -> bool {
        let (tap, spool) = (stop.tap(), self.spool.borrow().stats());
        let glance = Glance {
            tap_received: tap.received,
            tap_dropped: tap.dropped,
            is_tap_shut: tap.is_shut,
            spool_losses: spool.shed + spool.lost + spool.sync_failures,
            is_spool_stuck: self.owes_sync,
            is_blind: self.calls.as_ref().is_some_and(watch::Handle::is_blind),
        };
        let is_over = self.steward.attend(&glance, spool.bytes, heard);
        let is_sparing = self.steward.is_strained();
        if is_sparing != self.is_sparing {
            self.is_sparing = is_sparing;
            if let Some(calls) = &self.calls {
                calls.spare(is_sparing);
            }
            self.tell_path(|it| it.is_sparing = is_sparing);
            self.surroundings.spare(is_sparing);
            self.choose_interval();
        }
        is_over
    }

    fn note_test(&mut self, report: &Report) {
        tracing::info!(outcome = ?report.outcome, "self-test on request");
        if let Some(calls) = &self.calls {
            calls.self_test(report, system::now());
        }
        self.records.push(tester::record(report, stamp()));
    }

    fn note_device(&mut self, record: Record) {
        self.surroundings.hear(&record);
        self.records.push(record);
    }

    fn note(&mut self, (event, wall): Noticed) {
        self.desk.note(&event, wall);
        self.open_call.handle_event(&event, wall);
        match event {
            Event::CallOpened { call, .. } => {
                self.tester.handle_call_opened();
                self.steward.handle_call_opened();
                self.tell_path(|it| it.call = Some(call));
            }
            Event::CallClosed { .. } => {
                self.tester.handle_call_closed();
                self.steward.handle_call_closed();
                self.tell_path(|it| it.call = None);
            }
            Event::LegOpened { .. }
            | Event::Interval { .. }
            | Event::LegSummary { .. }
            | Event::ContextTaken { .. } => {}
        }
        if let Some(calls) = &self.calls {
            match event {
                Event::CallOpened { call, at, .. } => calls.call(Call::Opened(call, at)),
                Event::CallClosed { call, at, .. } => calls.call(Call::Closed(call, at)),
                Event::LegOpened { .. }
                | Event::Interval { .. }
                | Event::LegSummary { .. }
                | Event::ContextTaken(_) => {}
            }
        }
        let mut judged = Vec::new();
        self.surroundings.note(&event, self.calls.as_ref(), &mut judged);
        // A leg whose intervals leave something out does so every ten seconds, and its summary too: once is enough.
        let is_summary = matches!(event, Event::LegSummary { .. });
        let before = self.recorder.left_out();
        self.recorder.handle(event, wall, &mut self.records);
        // Behind the end of the call that they are of.
        self.records.append(&mut judged);
        let left_out = self.recorder.left_out();
        if is_summary && left_out > before {
            tracing::warn!(left_out, "a leg has more streams than its records can name");
        }
    }

    fn tell_path(&self, change: impl FnOnce(&mut Circumstances)) {
        if let Some(circumstances) = &self.circumstances {
            circumstances.send_modify(change);
        }
    }

    /// One interval per frame while somebody looks on, six while nobody does.
    fn choose_frame(&mut self, status: &LinkStatus) {
        let live = status.connected_since.is_some();
        self.supervisor.status(if live {
            "observing, the collector takes records"
        } else if status.refused.is_some() {
            "observing, the collector refuses this endpoint: the log says why and what to do; records wait on disk"
        } else {
            "observing, records wait on disk for the collector"
        });
        self.is_live = live;
        self.choose_interval();
    }

    /// Six where the agent does less, too.
    fn choose_interval(&mut self) {
        let at_once = self.is_live && !self.is_sparing;
        self.recorder.set_intervals_per_frame(if at_once { 1 } else { INTERVALS_OFFLINE });
        if at_once {
            self.recorder.flush(system::now_and_wall().1, &mut self.records);
        }
    }

    /// Appends and makes durable; a refused record is counted by the spool and reported lost.
    ///
    /// A call's mark is there before its beginning is, and goes when its end is durable: whenever this process is
    /// killed, each beginning has an end.
    fn write(&mut self) {
        if !self.mark_file.is_there() {
            self.mark_file.keep(self.open_call.mark());
        }
        if !self.records.is_empty() {
            self.append();
        }
        if !self.owes_sync {
            self.mark_file.keep(self.open_call.mark());
        }
    }

    fn append(&mut self) {
        let mut spool = self.spool.borrow_mut();
        for record in self.records.drain(..) {
            if let Err(error) = spool.append(record, stamp()) {
                tracing::warn!(%error, "a record was not kept");
            }
        }
        drop(spool);
        self.sync();
    }

    /// Makes durable what was appended; only that can be read, and sent.
    fn sync(&mut self) {
        match self.spool.borrow_mut().sync() {
            Ok(()) => {
                self.owes_sync = false;
                // Receipts of losses are written with a sync: there may be more than was appended here.
                self.appended.notify_one();
            }
            Err(error) => {
                self.owes_sync = true;
                tracing::warn!(%error, "records are not durable yet");
            }
        }
    }
}
