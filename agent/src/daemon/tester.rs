//! Runs self-tests that the collector asks for, one at a time and never beside a call.
//!
//! A test waits for devices, so it has a thread of its own. A request while one runs is answered by that one's record.
//! A call that begins ends the test at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use roomtone_protocol::device::{SelfTest, SelfTestOutcome};
use roomtone_protocol::limits::DEVICE_NAME_BYTES_MAX;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;
use tokio::sync::mpsc;

use crate::audio::chirp;
use crate::audio::selftest::{self, Options, Outcome, Report};

/// See the head of this file.
pub(super) struct Tester {
    calls: usize,
    in_call: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    reports: mpsc::Sender<Report>,
}

impl Tester {
    /// The tester, and where its reports come out.
    pub(super) fn new() -> (Self, mpsc::Receiver<Report>) {
        // One test at a time makes one report at a time.
        let (reports, receiver) = mpsc::channel(1);
        (Self { calls: 0, in_call: Arc::default(), thread: None, reports }, receiver)
    }

    pub(super) fn handle_call_opened(&mut self) {
        self.calls += 1;
        self.in_call.store(true, Ordering::Relaxed);
    }

    pub(super) fn handle_call_closed(&mut self) {
        self.calls = self.calls.saturating_sub(1);
        self.in_call.store(self.calls > 0, Ordering::Relaxed);
    }

    /// The collector asks for a test.
    pub(super) fn handle_request(&mut self) {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            tracing::info!("a self-test runs already");
            return;
        }
        let options = Options {
            root: "/".into(),
            capture: None,
            render: None,
            level_db: chirp::LEVEL_DB,
            in_call: Arc::clone(&self.in_call),
        };
        let reports = self.reports.clone();
        let body = move || {
            // Nobody listens where the agent is ending.
            let _ = reports.blocking_send(selftest::run(&options));
        };
        match std::thread::Builder::new().name("selftest".to_owned()).spawn(body) {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => tracing::warn!(%error, "no thread for a self-test"),
        }
    }

    /// Ends a test that runs, and waits for that some seconds at most.
    pub(super) fn stop(self) {
        self.in_call.store(true, Ordering::Relaxed);
        // With its receiver gone its thread waits for nobody; a panic has ended the process already.
        if let Some(thread) = self.thread {
            let _ = thread.join();
        }
    }
}

/// The record of a test that the collector asked for.
pub(super) fn record(report: &Report, ended: Stamp) -> Record {
    let outcome = match report.outcome {
        Outcome::Heard => SelfTestOutcome::Heard,
        Outcome::NotHeard => SelfTestOutcome::NotHeard,
        Outcome::NoSignal => SelfTestOutcome::NoSignal,
        Outcome::CaptureFailed => SelfTestOutcome::CaptureFailed,
        Outcome::RenderFailed => SelfTestOutcome::RenderFailed,
        Outcome::Busy => SelfTestOutcome::Busy,
        Outcome::InCall => SelfTestOutcome::InCall,
        Outcome::NoDevice => SelfTestOutcome::NoDevice,
    };
    // A conversion to an integer saturates.
    let tenths = |db: f32| (db * 10.0).round() as i16;
    let delay = report.delay.map(|delay| delay.as_micros());
    Record::SelfTest(SelfTest {
        ended,
        requested: true,
        capture: name(&report.capture),
        render: name(&report.render),
        outcome,
        level_db_tenths: report.microphone_db.map(tenths),
        delay_us: delay.and_then(|us| u32::try_from(us).ok()),
    })
}

/// The inventory cuts names to what fits; what is beyond is left out.
fn name(text: &str) -> heapless::String<DEVICE_NAME_BYTES_MAX> {
    let mut name = heapless::String::new();
    let _ = text.chars().try_for_each(|c| name.push(c));
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::chirp::Match;
    use std::time::Duration;

    const ENDED: Stamp = Stamp { wall_us: 9, uptime_us: 5 };

    fn report(outcome: Outcome) -> Report {
        Report {
            faulty: None,
            capture: "Sim Headset (hw:SimHeadset,0)".to_owned(),
            capture_place: None,
            render: "é".repeat(60),
            render_place: None,
            played_db: -30.0,
            outcome,
            found: Some(Match { score: 0.9, at: Duration::from_millis(300), level_db: -42.0 }),
            delay: Some(Duration::from_micros(215_500)),
            microphone_db: Some(-44.66),
            holder: None,
            words: String::new(),
        }
    }

    /// -44.66 dB are -447 tenths; of 60 letters of two bytes 40 fit into 80.
    #[test]
    fn record_has_the_reports_figures_in_wire_units() {
        let Record::SelfTest(test) = record(&report(Outcome::Heard), ENDED) else {
            panic!("another record");
        };
        assert_eq!(
            (test.outcome, test.requested, test.ended),
            (SelfTestOutcome::Heard, true, ENDED)
        );
        assert_eq!((test.level_db_tenths, test.delay_us), (Some(-447), Some(215_500)));
        assert_eq!(test.capture, "Sim Headset (hw:SimHeadset,0)");
        assert_eq!(test.render.chars().count(), 40);
    }

    #[test]
    fn request_in_a_call_is_answered_without_a_sound() {
        let (mut tester, mut reports) = Tester::new();
        tester.handle_call_opened();
        tester.handle_request();
        let report = reports.blocking_recv().unwrap();
        assert_eq!(report.outcome, Outcome::InCall);
        drop(reports);
        tester.stop();
    }
}
