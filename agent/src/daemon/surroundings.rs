//! What is around a call: the host watch's thread, and the judge of client events.
//!
//! A shell: it passes on what the journal hears, and starts and ends the thread. Where the host watch is off the
//! judge is there all the same, and says so.

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use roomtone_protocol::record::Record;
use tokio::sync::mpsc;

use crate::audio::watch;
use crate::clock::Moment;
use crate::clock::system;
use crate::config::Config;
use crate::events::{Judge, Watched};
use crate::host::{Handle, HostWatch};
use crate::media::Event;

/// A sensor that hangs keeps nobody from stopping.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the head of this file.
pub(super) struct Surroundings {
    host: Option<Handle>,
    thread: Option<JoinHandle<()>>,
    records: mpsc::Receiver<Record>,
    judge: Judge,
}

impl Surroundings {
    /// Starts the host watch, if it is wanted.
    ///
    /// # Errors
    /// Where the kernel has no thread left.
    pub(super) fn start(config: &Config) -> std::io::Result<Self> {
        let judge = Judge::new(Watched { devices: config.audio.watch, host: config.host.watch });
        if !config.host.watch {
            // A channel whose other end is gone has no records.
            let records = mpsc::channel(1).1;
            return Ok(Self { host: None, thread: None, records, judge });
        }
        let (watch, host, records) = HostWatch::new(Path::new("/"));
        let thread =
            std::thread::Builder::new().name("host".to_owned()).spawn(move || watch.run())?;
        Ok(Self { host: Some(host), thread: Some(thread), records, judge })
    }

    /// Hears of a call. What it says goes to `out`.
    pub(super) fn note(
        &mut self,
        event: &Event,
        devices: Option<&watch::Handle>,
        out: &mut Vec<Record>,
    ) {
        self.listen(devices);
        self.judge.handle_event(event, system::now(), out);
        let Some(host) = &self.host else { return };
        match event {
            Event::CallOpened { call, .. } => host.call_opened(*call),
            Event::LegOpened { call, local, .. } => host.leg(*call, local.ip()),
            Event::CallClosed { call, .. } => host.call_closed(*call),
            Event::Interval { .. } | Event::LegSummary { .. } | Event::ContextTaken(_) => {}
        }
    }

    /// Hears what is about to be recorded by the device watch.
    pub(super) fn hear(&mut self, record: &Record) {
        self.judge.handle_record(record);
    }

    /// The next record of the host watch; never, where it is off or has ended.
    pub(super) async fn next(&mut self) -> Record {
        match self.records.recv().await {
            Some(record) => {
                self.judge.handle_record(&record);
                record
            }
            None => std::future::pending().await,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        self.judge.poll_timeout().map(|(due, _)| due)
    }

    /// Tells what is due.
    pub(super) fn handle_timeout(
        &mut self,
        devices: Option<&watch::Handle>,
        out: &mut Vec<Record>,
    ) {
        self.listen(devices);
        self.judge.handle_timeout(system::now(), out);
    }

    pub(super) fn spare(&self, is_sparing: bool) {
        if let Some(host) = &self.host {
            host.spare(is_sparing);
        }
    }

    /// Ends the thread, and tells all that is left; the device watch has ended before.
    pub(super) async fn finish(&mut self, devices: Option<&watch::Handle>, out: &mut Vec<Record>) {
        if let Some(host) = self.host.take() {
            host.stop();
        }
        let last = async {
            while let Some(record) = self.records.recv().await {
                self.judge.handle_record(&record);
                out.push(record);
            }
        };
        let is_over = tokio::time::timeout(PATIENCE, last).await.is_ok();
        self.listen(devices);
        self.judge.finish(out);
        // The end of its channel is the last thing that the thread does.
        let defect = match self.thread.take() {
            Some(thread) if is_over => thread.join().is_err(),
            Some(_) => {
                tracing::warn!("the host watch hangs in the kernel and is left behind");
                false
            }
            None => false,
        };
        if defect {
            tracing::error!("the host watch ended by a defect");
        }
    }

    fn listen(&mut self, devices: Option<&watch::Handle>) {
        if let Some(listened) = devices.and_then(watch::Handle::listened) {
            self.judge.handle_listened(listened);
        }
    }
}
