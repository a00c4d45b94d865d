//! The way down to the endpoints that are connected, and back to whoever asked one of them for something.
//!
//! A connection takes its line when it has been welcomed and gives it up when it ends; a newer connection of the same
//! endpoint takes the line over. A line holds [`CONTROLS_MAX`] controls: what does not fit is refused, never waited
//! for. It holds one configuration, the latest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use roomtone_protocol::configuration::Configuration;
use roomtone_protocol::control::Control;
use roomtone_protocol::id::{EndpointId, RecordId};
use tokio::sync::{mpsc, oneshot, watch};

use super::request::{EndpointClock, NotOpened, OpenRequests};

/// The most controls that wait on one connection.
pub const CONTROLS_MAX: usize = 4;

/// Why an endpoint was not asked. Nothing is under way then, unless it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAsked {
    /// It has no connection.
    NotConnected,
    /// It was asked before and has not answered.
    UnderWay,
    /// It, or this collector, has more to do than it takes.
    Busy,
}

/// The lines of all endpoints; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Downlinks {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: HashMap<EndpointId, Line>,
    lines_made: u64,
    self_tests: OpenRequests<oneshot::Sender<RecordId>>,
}

#[derive(Debug)]
struct Line {
    number: u64,
    clock: EndpointClock,
    controls: mpsc::Sender<Control>,
    configuration: watch::Sender<Option<Arc<Configuration>>>,
}

/// What goes down a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Down {
    /// A request.
    Control(Control),
    /// What the endpoint is to be set to.
    Configuration(Arc<Configuration>),
}

/// The lower end of a line, held by its connection.
#[derive(Debug)]
pub struct Downlink {
    all: Downlinks,
    endpoint: EndpointId,
    number: u64,
    controls: mpsc::Receiver<Control>,
    configuration: watch::Receiver<Option<Arc<Configuration>>>,
}

impl Downlinks {
    /// Makes the line of a connection, in place of an older connection's.
    #[must_use]
    pub fn connect(&self, endpoint: EndpointId, clock: EndpointClock) -> Downlink {
        let (sender, controls) = mpsc::channel(CONTROLS_MAX);
        let (wanted, configuration) = watch::channel(None);
        let mut shared = self.lock();
        shared.lines_made += 1;
        let number = shared.lines_made;
        let line = Line { number, clock, controls: sender, configuration: wanted };
        shared.lines.insert(endpoint, line);
        Downlink { all: self.clone(), endpoint, number, controls, configuration }
    }

    /// Asks an endpoint for a self-test; the receiver gets the record that tells the result, once it is on disk, or
    /// an error where the connection ended before the request could go down.
    ///
    /// # Errors
    /// [`NotAsked`] where it cannot be asked now.
    pub fn ask_for_self_test(
        &self,
        endpoint: EndpointId,
        now: Instant,
    ) -> Result<oneshot::Receiver<RecordId>, NotAsked> {
        let (waiter, answer) = oneshot::channel();
        let Shared { lines, self_tests, .. } = &mut *self.lock();
        let line = lines.get(&endpoint).ok_or(NotAsked::NotConnected)?;
        self_tests.open(endpoint, line.clock, waiter, now).map_err(|refused| match refused {
            NotOpened::UnderWay => NotAsked::UnderWay,
            NotOpened::TooMany => NotAsked::Busy,
        })?;
        line.controls.try_send(Control::SelfTest).map_err(|refused| {
            self_tests.withdraw(endpoint);
            match refused {
                mpsc::error::TrySendError::Full(_) => NotAsked::Busy,
                mpsc::error::TrySendError::Closed(_) => NotAsked::NotConnected,
            }
        })?;
        Ok(answer)
    }

    /// Sends an endpoint something that its transport must acknowledge; where its line is full, something is under
    /// way.
    pub fn probe(&self, endpoint: EndpointId) {
        if let Some(line) = self.lock().lines.get(&endpoint) {
            let _ = line.controls.try_send(Control::Probe);
        }
    }

    /// Sends an endpoint what it is to be set to, in place of an earlier one that has not gone down yet; whether it
    /// is connected.
    pub fn configure(&self, endpoint: EndpointId, wanted: Arc<Configuration>) -> bool {
        let shared = self.lock();
        let line = shared.lines.get(&endpoint);
        line.is_some_and(|line| line.configuration.send(Some(wanted)).is_ok())
    }

    /// Tells whoever waits for it that `by`, a self-test on request that ended at `ended_us` by the endpoint's clock
    /// since boot, is on disk.
    pub fn handle_self_test(&self, endpoint: EndpointId, by: RecordId, ended_us: u64) {
        if let Some(waiter) = self.lock().self_tests.handle_result(endpoint, ended_us) {
            // Who asked may have gone; the result is in the store.
            let _ = waiter.send(by);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Downlink {
    /// What is next for the endpoint; `None` where a newer connection took the line over.
    pub async fn next(&mut self) -> Option<Down> {
        tokio::select! {
            control = self.controls.recv() => control.map(Down::Control),
            changed = self.configuration.changed() => {
                changed.ok()?;
                self.configuration.borrow_and_update().clone().map(Down::Configuration)
            }
        }
    }
}

impl Drop for Downlink {
    fn drop(&mut self) {
        let mut shared = self.all.lock();
        while let Ok(control) = self.controls.try_recv() {
            match control {
                // It never left: whoever waits need not wait for it, and may ask again.
                Control::SelfTest => shared.self_tests.withdraw(self.endpoint),
                Control::GoingAway | Control::Probe => {}
            }
        }
        if shared.lines.get(&self.endpoint).is_some_and(|line| line.number == self.number) {
            shared.lines.remove(&self.endpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::id::{Epoch, Sequence};

    use super::*;

    const OSLO: EndpointId = EndpointId([1; 16]);

    fn connect(downlinks: &Downlinks) -> Downlink {
        downlinks.connect(OSLO, EndpointClock { uptime_us: 0, at: Instant::now() })
    }

    fn by(sequence: u32) -> RecordId {
        RecordId { epoch: Epoch(1), sequence: Sequence(sequence) }
    }

    #[test]
    fn older_connection_that_ends_does_not_take_the_line_of_the_newer_one() {
        let downlinks = Downlinks::default();
        let older = connect(&downlinks);
        let mut newer = connect(&downlinks);
        drop(older);
        let mut answer = downlinks.ask_for_self_test(OSLO, Instant::now()).unwrap();
        assert_eq!(newer.controls.try_recv(), Ok(Control::SelfTest));
        downlinks.handle_self_test(OSLO, by(7), u64::MAX);
        assert_eq!(answer.try_recv(), Ok(by(7)));
        drop(newer);
        let refused = downlinks.ask_for_self_test(OSLO, Instant::now());
        assert_eq!(refused.unwrap_err(), NotAsked::NotConnected);
    }

    #[test]
    fn request_that_never_went_down_is_withdrawn_with_its_connection() {
        let downlinks = Downlinks::default();
        let line = connect(&downlinks);
        let mut answer = downlinks.ask_for_self_test(OSLO, Instant::now()).unwrap();
        drop(line);
        assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        let _line = connect(&downlinks);
        assert!(downlinks.ask_for_self_test(OSLO, Instant::now()).is_ok());
    }

    #[tokio::test]
    async fn of_configurations_the_latest_goes_down_and_only_to_who_is_connected() {
        let downlinks = Downlinks::default();
        let configuration = |byte| {
            let hash = roomtone_protocol::configuration::ConfigurationHash([byte; 8]);
            Arc::new(Configuration { hash, text: "".try_into().unwrap() })
        };
        assert!(!downlinks.configure(OSLO, configuration(1)));
        let mut line = connect(&downlinks);
        assert!(downlinks.configure(OSLO, configuration(1)));
        assert!(downlinks.configure(OSLO, configuration(2)));
        assert_eq!(line.next().await, Some(Down::Configuration(configuration(2))));
        let _newer = connect(&downlinks);
        assert_eq!(line.next().await, None);
    }

    #[test]
    fn endpoint_that_does_not_take_its_controls_is_busy_and_nothing_is_left_open() {
        let downlinks = Downlinks::default();
        let _line = connect(&downlinks);
        for sequence in 0..CONTROLS_MAX as u32 {
            let _answer = downlinks.ask_for_self_test(OSLO, Instant::now()).unwrap();
            downlinks.handle_self_test(OSLO, by(sequence), u64::MAX);
        }
        for _ in 0..2 {
            let refused = downlinks.ask_for_self_test(OSLO, Instant::now());
            assert_eq!(refused.unwrap_err(), NotAsked::Busy);
        }
    }
}
