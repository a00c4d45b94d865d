//! Looks after how the agent is set and how it is: keeps what the collector sets, says what became of it, and says the
//! heartbeat. A shell: `configuration` and `health` decide.
//!
//! It lives as long as the process; what it looks after is wound down and started again where another text comes into
//! force.

use std::path::Path;

use roomtone_protocol::configuration::{Arrival, Configuration, EffectiveConfiguration};
use roomtone_protocol::time::Stamp;
use tokio::sync::mpsc;

use crate::clock::Moment;
use crate::clock::system;
use crate::config::Config;
use crate::config::layers::{Local, effective};
use crate::configuration::file::{FILE, KeptFile};
use crate::configuration::{Act, Keeper, Verdict, hash};
use crate::health::host::{ceilings, clock_state, cpu_ms, resident_kib};
use crate::health::{Glance, Monitor, Sample};
use crate::identity::folder::read_certificate;
use crate::show::hex;
use crate::telemetry::Log;
use crate::uplink::{LinkStatus, Word};

/// Words on their way to the uplink: an effective configuration and a heartbeat, twice.
pub(super) const WORDS_MAX: usize = 4;

/// See the head of this file.
pub(super) struct Steward<'a> {
    local: &'a Local,
    log: &'a Log,
    keeper: Keeper,
    file: KeptFile,
    monitor: Monitor,
    config: Config,
    effective: EffectiveConfiguration,
    words: Option<mpsc::Sender<Word>>,
    /// Since when the collector takes records.
    welcomed: Option<Stamp>,
    /// What the collector's latest text was known to have become.
    latest: Option<Arrival>,
    /// The parts are being wound down, to be started again.
    is_over: bool,
    /// What the parts of before counted.
    before: Glance,
    glance: Glance,
}

impl<'a> Steward<'a> {
    /// A life of the process begins: takes up what the one before kept.
    pub(super) fn open(local: &'a Local, log: &'a Log) -> Self {
        let (file, kept) = KeptFile::open(local.config().spool.beside(FILE));
        let config = local.config().clone();
        let text = effective(&config);
        let mut steward = Self {
            local,
            log,
            keeper: Keeper::begin(kept),
            file,
            monitor: Monitor::new(ceilings(Path::new("/")), system::now()),
            effective: EffectiveConfiguration { hash: hash(&text), text },
            config,
            words: None,
            welcomed: None,
            latest: None,
            is_over: false,
            before: Glance::default(),
            glance: Glance::default(),
        };
        steward.act();
        steward
    }

    /// The config for the parts that are about to be started.
    pub(super) fn choose(&mut self) -> Config {
        self.config = loop {
            let Some(text) = self.keeper.text() else { break self.local.config().clone() };
            match self.local.with(text) {
                Ok(config) => break config,
                // Each time another text is in force, and the third time none.
                Err(why) => self.keeper.handle_invalid(why),
            }
            self.act();
        };
        let text = effective(&self.config);
        self.effective = EffectiveConfiguration { hash: hash(&text), text };
        self.log.set(self.config.log.level);
        self.config.clone()
    }

    /// The parts run; `words` is their way to the collector.
    pub(super) fn handle_started(&mut self, words: mpsc::Sender<Word>) {
        self.words = Some(words);
        (self.welcomed, self.is_over) = (None, false);
        self.keeper.handle_slept(system::slept());
        self.keeper.handle_applied(system::now());
        self.monitor.handle_started(self.config.health.interval);
    }

    /// The parts could not be started: true where they may be without what was on trial.
    pub(super) fn handle_failed(&mut self, why: &str) -> bool {
        let may_go_on = self.keeper.handle_failed(why);
        self.act();
        may_go_on
    }

    /// The parts have ended: what they counted is kept.
    pub(super) fn handle_ended(&mut self) {
        self.words = None;
        self.before = self.glance;
    }

    pub(super) fn handle_arrival(&mut self, configuration: Configuration) {
        let verdict = match self.local.with(&configuration.text) {
            Err(why) => Verdict::Refused(why),
            Ok(config) if config == self.config => Verdict::Same,
            Ok(_) => Verdict::Differs,
        };
        self.keeper.handle_arrival(configuration, verdict, system::now());
    }

    pub(super) fn handle_status(&mut self, status: &LinkStatus) {
        if status.connected_since == self.welcomed {
            return;
        }
        self.welcomed = status.connected_since;
        if self.welcomed.is_some() {
            self.keeper.handle_welcomed();
            self.monitor.handle_welcomed(system::now());
            self.say(Word::Effective(Box::new(self.effective.clone())));
        } else {
            self.monitor.handle_unlinked();
        }
    }

    pub(super) fn handle_call_opened(&mut self) {
        self.keeper.handle_call_opened();
    }

    pub(super) fn handle_call_closed(&mut self) {
        self.keeper.handle_call_closed(system::now());
    }

    /// The next moment at which it wants to be asked again.
    pub(super) fn poll_timeout(&self) -> Option<Moment> {
        let dues = [self.keeper.poll_timeout(), self.monitor.poll_timeout()];
        dues.into_iter().flatten().map(|(due, _)| due).min().filter(|_| !self.is_over)
    }

    /// Does what is due, with what can be seen; true where the parts are to be wound down and started again. `heard`
    /// is the moment up to which calls have been told: no deadline after it is acted on.
    pub(super) fn attend(&mut self, seen: &Glance, spool_bytes: u64, heard: Moment) -> bool {
        let now = system::now();
        self.keeper.handle_slept(system::slept());
        self.keeper.handle_timeout(heard);
        self.is_over |= self.act();
        let latest = self.keeper.kept().latest();
        if latest != self.latest {
            self.tell_of(latest.as_ref());
            self.latest = latest;
            self.monitor.handle_changed(now);
        }
        self.glance = self.sum(seen);
        self.monitor.handle_glance(&self.glance, now);
        // What is about to be started says how it is by itself.
        if !self.is_over && self.monitor.wants_sample(now) {
            self.beat(spool_bytes, now);
        }
        self.is_over
    }

    /// Whether the agent is to do less.
    pub(super) fn is_strained(&self) -> bool {
        self.monitor.is_strained()
    }

    fn beat(&mut self, spool_bytes: u64, now: Moment) {
        let was_strained = self.monitor.is_strained();
        let certificate = read_certificate(&self.config.identity.certificate);
        let sample = Sample {
            stamp: super::stamp(),
            glance: self.glance,
            resident_kib: resident_kib(),
            ring_kib: if self.glance.is_tap_shut { 0 } else { self.config.tap.ring_bytes >> 10 },
            cpu_ms: cpu_ms(),
            spool_bytes,
            clock: clock_state(Path::new("/")),
            certificate_us: certificate.ok().map(|it| [it.not_before_us, it.not_after_us]),
        };
        let state = self.keeper.state(self.effective.hash);
        if let Some(health) = self.monitor.handle_sample(&sample, state, now) {
            self.say(Word::Health(Box::new(health)));
        }
        let is_strained = self.monitor.is_strained();
        if is_strained != was_strained {
            let (resident_kib, cpu_ms) = (sample.resident_kib, sample.cpu_ms);
            tracing::warn!(is_strained, resident_kib, cpu_ms, "near a ceiling the agent does less");
        }
    }

    /// Does what the keeper asks for; true where the parts are to be started again.
    fn act(&mut self) -> bool {
        let mut is_over = false;
        while let Some(act) = self.keeper.poll_act() {
            match act {
                Act::Keep => {
                    if let Err(error) = self.file.keep(self.keeper.kept()) {
                        tracing::warn!(%error, "what the collector set cannot be kept");
                        self.keeper.handle_unkept();
                    }
                }
                Act::Restart => is_over = true,
            }
        }
        is_over
    }

    /// Counts of all parts since the process began.
    fn sum(&self, seen: &Glance) -> Glance {
        Glance {
            tap_received: self.before.tap_received + seen.tap_received,
            tap_dropped: self.before.tap_dropped + seen.tap_dropped,
            spool_losses: self.before.spool_losses + seen.spool_losses,
            ..*seen
        }
    }

    fn say(&self, word: Word) {
        // An uplink that hangs has lost its use for a heartbeat.
        if self.words.as_ref().is_none_or(|words| words.try_send(word).is_err()) {
            tracing::debug!("the uplink did not take a word of how the agent is");
        }
    }

    fn tell_of(&self, latest: Option<&Arrival>) {
        let Some(Arrival { hash, outcome, detail }) = latest else { return };
        let hash = hex(&hash.0);
        tracing::info!(hash, ?outcome, detail = detail.as_str(), "the collector's configuration");
    }
}
