//! Which context is open, who holds it and until when; what is known of the call on.
//!
//! A core, and the one place that knows both what clients said and what became of it. At most one context is open: a
//! begin with another id ends the one before, whoever began that. A begin with the id that is open renews it and makes
//! its client the holder. Anybody who may open the socket may end it.
//!
//! A context does not outlive its room application for ever. It ends with its `end`; with its holder's connection, if
//! the begin asked for that; else [`UNATTENDED_MAX`] after that connection closed, and [`ATTENDED_MAX`] after its
//! latest begin in any case. The call may go on then, as packets tell.
//!
//! Bounds: one context, no list of clients, [`BEGINS_AT_ONCE`] begins and then one every [`BEGIN_EVERY`]. A client in a
//! loop cannot fill the spool with calls.

use std::collections::VecDeque;
use std::time::Duration;

use roomtone_protocol::call::CallPurpose;
use roomtone_protocol::id::CallId;

use super::line::{Begin, Command, ContextId, Service};
use crate::clock::{Moment, WallOffset};
use crate::media::Event;
use crate::media::context::{ContextChange, ContextNumber};

/// A context that nobody renews ends after a day: no meeting lasts longer than its room.
pub const ATTENDED_MAX: Duration = Duration::from_secs(24 * 3600);
/// A context whose client has gone without an end, as the command line does, ends after a long meeting.
pub const UNATTENDED_MAX: Duration = Duration::from_secs(4 * 3600);
/// Contexts that may begin at once: somebody who tries out a script.
pub const BEGINS_AT_ONCE: u32 = 10;
/// How often one more may begin then: calls that follow each other faster are none.
pub const BEGIN_EVERY: Duration = Duration::from_secs(6);

/// A connection of the socket; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientNumber(pub u64);

/// Why a command was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An end where nothing is open.
    #[error("no call is open here: it ended by itself, or none was begun since the agent started")]
    NoneOpen,
    /// An end of another context than the open one.
    #[error("another call is open than the one to end")]
    AnotherOpen,
    /// Begins in a row.
    #[error("too many calls begun; try again in {} s", wait.as_secs() + 1)]
    TooMany {
        /// How long until the next one may begin.
        wait: Duration,
    },
}

/// The open context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenContext {
    number: ContextNumber,
    /// The room application's name of it.
    pub id: ContextId,
    /// What carries it.
    pub service: Option<Service>,
    /// When it began.
    pub since: Moment,
    renewed: Moment,
    holder: Holder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// It goes on without the connection.
    Connected(ClientNumber),
    /// It ends with the connection.
    Bound(ClientNumber),
    /// The connection closed then.
    Gone(Moment),
}

/// The call on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentCall {
    /// Which.
    pub call: CallId,
    /// When it began, microseconds since 1970.
    pub since_us: u64,
    /// Meeting or rehearsal.
    pub purpose: CallPurpose,
    /// How many legs it had so far.
    pub legs: u16,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Register {
    open: Option<OpenContext>,
    call: Option<CurrentCall>,
    /// Changes told so far; also the number of the latest context.
    told: u64,
    /// Changes that the media watch has taken.
    taken: u64,
    changes: VecDeque<(ContextChange, Moment)>,
    begins: Begins,
}

impl Register {
    /// Carries out a command of a client.
    ///
    /// # Errors
    /// [`Refusal`], for the client to read; nothing changed then.
    pub fn handle_command(
        &mut self,
        client: ClientNumber,
        command: Command,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.handle_timeout(now);
        match command {
            Command::Begin(begin) => self.begin(client, begin, now),
            Command::End { id } => match &self.open {
                None => Err(Refusal::NoneOpen),
                Some(open) if id.is_some_and(|id| id != open.id) => Err(Refusal::AnotherOpen),
                Some(_) => {
                    self.end(now);
                    Ok(())
                }
            },
            Command::Status => Ok(()),
        }
    }

    fn begin(&mut self, client: ClientNumber, begin: Begin, now: Moment) -> Result<(), Refusal> {
        let holder = match begin.while_connected {
            true => Holder::Bound(client),
            false => Holder::Connected(client),
        };
        if let Some(open) = self.open.as_mut().filter(|open| open.id == begin.id) {
            open.renewed = now;
            open.holder = holder;
            return Ok(());
        }
        self.begins.take(now).map_err(|wait| Refusal::TooMany { wait })?;
        let is_rehearsal = begin.service.as_ref().is_some_and(Service::is_rehearsal);
        let purpose = if is_rehearsal { CallPurpose::Rehearsal } else { CallPurpose::Meeting };
        let context = ContextNumber(self.told);
        self.open = Some(OpenContext {
            number: context,
            id: begin.id,
            service: begin.service,
            since: now,
            renewed: now,
            holder,
        });
        self.tell(ContextChange::Began { context, purpose }, now);
        Ok(())
    }

    fn end(&mut self, now: Moment) {
        if let Some(open) = self.open.take() {
            self.tell(ContextChange::Ended { context: open.number }, now);
        }
    }

    fn tell(&mut self, change: ContextChange, now: Moment) {
        self.told += 1;
        self.changes.push_back((change, now));
    }

    /// A client's connection closed.
    pub fn handle_gone(&mut self, client: ClientNumber, now: Moment) {
        let Some(open) = &mut self.open else { return };
        match open.holder {
            Holder::Connected(holder) if holder == client => open.holder = Holder::Gone(now),
            Holder::Bound(holder) if holder == client => self.end(now),
            Holder::Connected(_) | Holder::Bound(_) | Holder::Gone(_) => {}
        }
    }

    /// Ends what has lasted too long.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.open.as_ref().is_some_and(|open| now >= open.ends_by()) {
            self.end(now);
        }
    }

    /// When [`Self::handle_timeout`] is due, and what for.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        self.open.as_ref().map(|open| (open.ends_by(), "end of a forgotten context"))
    }

    /// What the media watch has to hear, in order.
    pub fn poll_change(&mut self) -> Option<(ContextChange, Moment)> {
        self.changes.pop_front()
    }

    /// Whether this client holds the open context.
    #[must_use]
    pub fn is_holder(&self, client: ClientNumber) -> bool {
        self.open.as_ref().is_some_and(|open| match open.holder {
            Holder::Connected(holder) | Holder::Bound(holder) => holder == client,
            Holder::Gone(_) => false,
        })
    }

    /// Takes what the media watch says.
    pub fn handle_event(&mut self, event: &Event, wall: WallOffset) {
        match event {
            Event::CallOpened { call, at, purpose } => {
                let (call, purpose, since_us) = (*call, *purpose, wall.stamp(*at).wall_us);
                self.call = Some(CurrentCall { call, since_us, purpose, legs: 0 });
            }
            Event::LegOpened { .. } => {
                if let Some(call) = &mut self.call {
                    call.legs = call.legs.saturating_add(1);
                }
            }
            Event::CallClosed { .. } => self.call = None,
            Event::ContextTaken(_) => self.taken += 1,
            Event::Interval { .. } | Event::LegSummary { .. } => {}
        }
    }

    /// Whether the media watch has taken everything that it was told, so that [`Self::call`] is up to date.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.taken >= self.told
    }

    /// The call on.
    #[must_use]
    pub fn call(&self) -> Option<CurrentCall> {
        self.call
    }

    /// The open context.
    #[must_use]
    pub fn open(&self) -> Option<&OpenContext> {
        self.open.as_ref()
    }
}

impl OpenContext {
    fn ends_by(&self) -> Moment {
        let attended = self.renewed + ATTENDED_MAX;
        match self.holder {
            Holder::Connected(_) | Holder::Bound(_) => attended,
            Holder::Gone(at) => attended.min(at + UNATTENDED_MAX),
        }
    }
}

/// How many contexts may still begin: a bucket that fills by one every [`BEGIN_EVERY`].
#[derive(Debug, Default)]
struct Begins {
    /// When the bucket is full again.
    full: Moment,
}

impl Begins {
    /// Takes one, or says how long until there is one.
    fn take(&mut self, now: Moment) -> Result<(), Duration> {
        let full = self.full.max(now) + BEGIN_EVERY;
        let missing = full.since(now);
        let room = BEGIN_EVERY * BEGINS_AT_ONCE;
        if missing > room {
            return Err(missing - room);
        }
        self.full = full;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ClientNumber = ClientNumber(1);
    const TWO: ClientNumber = ClientNumber(2);
    const HOUR: u64 = 3_600;

    fn s(seconds: u64) -> Moment {
        Moment::from_nanos(seconds * 1_000_000_000)
    }

    fn begin(id: &str) -> Command {
        Command::Begin(Begin { id: id.parse().unwrap(), service: None, while_connected: false })
    }

    fn begin_bound(id: &str) -> Command {
        Command::Begin(Begin { id: id.parse().unwrap(), service: None, while_connected: true })
    }

    fn end(id: Option<&str>) -> Command {
        Command::End { id: id.map(|id| id.parse().unwrap()) }
    }

    /// What the media watch was told: `+` and the number of a context that began, `-` of one that ended.
    fn told(register: &mut Register) -> String {
        let changes = std::iter::from_fn(|| register.poll_change());
        let told = changes.map(|(change, _)| match change {
            ContextChange::Began { context, .. } => format!("+{}", context.0),
            ContextChange::Ended { context } => format!("-{}", context.0),
        });
        told.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn begin_and_end_are_told_once_each() {
        let mut register = Register::default();
        register.handle_command(ONE, begin("a"), s(0)).unwrap();
        register.handle_command(ONE, begin("a"), s(1)).unwrap();
        register.handle_command(TWO, end(Some("a")), s(2)).unwrap();
        assert_eq!(register.handle_command(ONE, end(Some("a")), s(3)), Err(Refusal::NoneOpen));
        assert_eq!(told(&mut register), "+0 -0");
    }

    #[test]
    fn another_id_takes_over_and_only_its_own_id_or_none_ends_it() {
        let mut register = Register::default();
        register.handle_command(ONE, begin("a"), s(0)).unwrap();
        register.handle_command(TWO, begin("b"), s(1)).unwrap();
        assert_eq!(register.handle_command(ONE, end(Some("a")), s(2)), Err(Refusal::AnotherOpen));
        register.handle_gone(ONE, s(3));
        register.handle_command(ONE, end(None), s(4)).unwrap();
        // The media watch ends the first one by itself.
        assert_eq!(told(&mut register), "+0 +1 -1");
    }

    #[test]
    fn context_ends_with_its_connection_if_it_asked_for_that() {
        let mut register = Register::default();
        register.handle_command(ONE, begin_bound("a"), s(0)).unwrap();
        register.handle_gone(TWO, s(1));
        assert!(register.is_holder(ONE) && register.open().is_some());
        register.handle_gone(ONE, s(2));
        assert_eq!(told(&mut register), "+0 -0");
    }

    #[test]
    fn context_whose_client_went_ends_four_hours_later() {
        let mut register = Register::default();
        register.handle_command(ONE, begin("a"), s(0)).unwrap();
        register.handle_gone(ONE, s(10));
        assert!(!register.is_holder(ONE));
        assert_eq!(register.poll_timeout().unwrap().0, s(10 + 4 * HOUR));
        register.handle_timeout(s(10 + 4 * HOUR - 1));
        assert_eq!(told(&mut register), "+0");
        register.handle_timeout(s(10 + 4 * HOUR));
        assert_eq!(told(&mut register), "-0");
        assert_eq!(register.poll_timeout(), None);
    }

    #[test]
    fn context_ends_a_day_after_its_latest_begin() {
        let mut register = Register::default();
        register.handle_command(ONE, begin("a"), s(0)).unwrap();
        register.handle_command(TWO, begin("a"), s(HOUR)).unwrap();
        // The first client holds nothing any more: its end changes nothing.
        register.handle_gone(ONE, s(HOUR));
        register.handle_timeout(s(25 * HOUR - 1));
        assert_eq!(told(&mut register), "+0");
        register.handle_timeout(s(25 * HOUR));
        assert_eq!(told(&mut register), "-0");
    }

    #[test]
    fn command_behind_a_deadline_finds_the_context_ended() {
        let mut register = Register::default();
        register.handle_command(ONE, begin("a"), s(0)).unwrap();
        assert_eq!(register.handle_command(ONE, end(None), s(25 * HOUR)), Err(Refusal::NoneOpen));
        register.handle_command(ONE, begin("a"), s(25 * HOUR)).unwrap();
        assert_eq!(told(&mut register), "+0 -0 +2");
    }

    #[test]
    fn begins_in_a_loop_are_refused_after_ten_and_let_through_one_every_six_seconds() {
        let mut register = Register::default();
        for n in 0..10 {
            register.handle_command(ONE, begin(&format!("a{n}")), s(100)).unwrap();
        }
        let wait = Duration::from_secs(6);
        let refused = register.handle_command(ONE, begin("b"), s(100));
        assert_eq!(refused, Err(Refusal::TooMany { wait }));
        assert_eq!(refused.unwrap_err().to_string(), "too many calls begun; try again in 7 s");
        // A renewal is none.
        register.handle_command(ONE, begin("a9"), s(100)).unwrap();
        assert!(register.handle_command(ONE, begin("b"), s(105)).is_err());
        register.handle_command(ONE, begin("b"), s(106)).unwrap();
        assert!(register.handle_command(ONE, begin("c"), s(106)).is_err());
    }

    #[test]
    fn call_is_known_once_the_media_watch_has_taken_the_word() {
        use crate::media::context::ContextTaken;
        let wall = WallOffset::from_readings(1_795_391_940_000_000_000, s(0));
        let mut register = Register::default();
        register.handle_command(ONE, begin("a"), s(1)).unwrap();
        assert!(!register.is_settled());
        let (call, purpose) = (CallId(7), CallPurpose::Meeting);
        register.handle_event(&Event::CallOpened { call, at: s(1), purpose }, wall);
        let change = ContextChange::Began { context: ContextNumber(0), purpose };
        let taken = ContextTaken { change, at: s(1), call: Some(call) };
        register.handle_event(&Event::ContextTaken(taken), wall);
        assert!(register.is_settled());
        let since_us = 1_795_391_941_000_000;
        assert_eq!(register.call(), Some(CurrentCall { call, since_us, purpose, legs: 0 }));
    }
}
