//! The rehearsal: a real two-way call through a path whose faults are known, so that anyone can
//! check an agent at any time.
//!
//! ```text
//!   caller 127.0.0.1:a ──── 127.0.77.2:b  relay  127.0.77.2:c ──── 127.0.0.1:d callee
//! ```
//! Both sides send voice packets (never audio) and consent checks through real sockets. The relay
//! alone impairs, so an agent on this machine, which knows 127.0.0.1 as its own, sees two legs: on
//! each an egress stream that is whole and an ingress stream that suffered. Every message of STUN
//! says `roomtone rehearsal`, so that whoever sees the legs can label them.
//!
//! With `--call` and `--answer` the two sides run on two machines and there is no relay: each side
//! impairs what it sends, before it leaves the socket.
//!
//! The runtime's timers round up to a whole millisecond, and a busy machine wakes up later still.
//! The report gives the delays that were applied, not those that were drawn.
//!
//! The cores decide and count (`impair`, `talker`, `rtp`, `stun`, on `random`); `wire` has the
//! sockets; this file joins them on one task and ends the call in order. Loss and delay by
//! the kernel's own queues are not injected and show up as [`Report::unaccounted`].

mod impair;
mod options;
mod random;
mod report;
mod rtp;
mod stun;
mod talker;
mod wire;

use std::future::poll_fn;
use std::io::{self, IsTerminal, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::signal::unix::{SignalKind, signal};

pub use self::impair::{Probability, Profile};
pub use self::options::{Options, OptionsError, ParseShareError};
pub use self::report::{Checks, Count, Ending, Injected, Kind, Party, Report, Spread};
pub use self::stun::SOFTWARE;

use self::impair::Impairment;
use self::random::Random;
use self::talker::{Consent, OPENING_MAX, Silence, Talker};
use self::wire::{DATAGRAM_BYTES_MAX, Desk, Observe, Relay, Wire, moment};
use crate::clock::Moment;
use crate::tap::Datagram;

/// Where the sides are: an agent knows this address as its own.
const SIDES_IP: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Where the relay is: on the loopback interface, and no agent's own address.
const RELAY_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 77, 2);
/// The longest wait for what is still on its way after the talk: a check and its answer at the
/// longest delay with the widest jitter (2 x 10 s), both held to be overtaken, and some.
const LINGER_MAX: Duration = Duration::from_secs(22);
/// Silence from another machine that means it has hung up: no voice for 50 frames.
const HUSH: Duration = Duration::from_secs(1);
/// How often the progress is shown.
const PROGRESS: Duration = Duration::from_secs(1);

/// One side of a rehearsed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    /// The one who calls.
    Caller,
    /// The one who is called.
    Callee,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Caller => "caller",
            Self::Callee => "callee",
        })
    }
}

/// Why a rehearsal could not run, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum RehearseError {
    /// The request makes no sense; the operator corrects the command line.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The system has no random seed to give; `--seed` does without.
    #[error("no random seed from the system: {0}; give one with --seed")]
    Seed(getrandom::Error),
    /// An address is not this machine's, or its port is in use.
    #[error("cannot bind {address}: {source}; give a free port of an address of this machine")]
    Bind {
        /// Where the socket was to be.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no route to an address.
    #[error("cannot reach {address}: {source}; check the address and the route to it")]
    Connect {
        /// Where the datagrams were to go.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A socket broke in the middle of the call.
    #[error(
        "cannot receive at {address}: {source}; check that the interface is up, then run again"
    )]
    Receive {
        /// The socket's own address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The other machine is silent.
    #[error(
        "no answer from {address} within {} s; check that `rehearse --answer` waits there and that \
         UDP passes both ways",
        OPENING_MAX.as_secs()
    )]
    NoAnswer {
        /// Whom the checks were sent to.
        address: SocketAddr,
    },
    /// Ctrl-C cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signal(io::Error),
}

/// Rehearses until the talk is over or Ctrl-C, and reports what was done.
///
/// `observe` is told each datagram that a side of this process sends or receives, as a tap at that
/// side would see it: in the order of that side, with moments of the clock since boot. Progress is
/// shown on stderr where that is a terminal.
///
/// The first Ctrl-C ends the talk, a second one the wait for what is still on its way.
///
/// # Errors
/// See [`RehearseError`]; a call that merely went badly is a report.
pub async fn run(
    options: Options,
    observe: impl FnMut(Side, Datagram<'_>),
) -> Result<Report, RehearseError> {
    let mut interrupts = signal(SignalKind::interrupt()).map_err(RehearseError::Signal)?;
    let stop = async move || {
        interrupts.recv().await;
    };
    run_until(options, stop, observe).await
}

/// [`run`], told by `stop` instead of Ctrl-C when to end early.
///
/// # Errors
/// See [`RehearseError`].
pub async fn run_until(
    options: Options,
    mut stop: impl AsyncFnMut(),
    mut observe: impl FnMut(Side, Datagram<'_>),
) -> Result<Report, RehearseError> {
    let profile = options.check()?;
    let seed = match options.seed {
        Some(seed) => seed,
        // 32 bits are short enough to be typed again, and exact in any reader of JSON.
        None => getrandom::u32().map_err(RehearseError::Seed)?.into(),
    };
    let mut show = Show::on_terminal(options.seconds);
    let plan = Plan { seconds: options.seconds, profile, random: Random::new(seed) };
    let call = match (options.answer, options.call) {
        (Some(address), _) => {
            let socket = Wire::bind(address).await?;
            show.waiting(local(&socket)?);
            tokio::select! {
                call = Call::answer(&plan, socket, &mut observe) => Some(call?),
                () = stop() => None,
            }
        }
        (None, Some(address)) => Some(Call::to(&plan, address).await?),
        (None, None) => Some(Call::through_relay(&plan).await?),
    };
    let started = moment();
    let (ending, parties) = match call {
        Some(mut call) => (call.hold(stop, &mut observe, &mut show).await?, call.parties()),
        None => (Ending::Interrupted, Vec::new()),
    };
    Ok(Report { seed, profile, ending, elapsed: moment().since(started), parties })
}

/// What every call of a run is made from.
struct Plan {
    seconds: u32,
    profile: Profile,
    random: Random,
}

impl Plan {
    /// The randomness of one side: two machines given the same seed must not send the same SSRC.
    fn random(&self, side: Side) -> Random {
        match side {
            Side::Caller => self.random.fork(1),
            Side::Callee => self.random.fork(2),
        }
    }

    fn talker(&self, side: Side, consent: Consent) -> Talker {
        Talker::new(self.seconds, consent, &self.random(side), moment())
    }

    /// What is done to the datagrams that a side sends.
    fn impairment(&self, side: Side) -> Impairment {
        Impairment::new(self.profile, &self.random(side).fork(2))
    }
}

/// A call, or as much of it as runs in this process.
struct Call {
    desks: Vec<Desk>,
    relay: Option<Relay>,
}

impl Call {
    /// Both sides here, and the relay between them.
    async fn through_relay(plan: &Plan) -> Result<Self, RehearseError> {
        let (caller, towards_caller) = desk_at_relay(plan, Side::Caller).await?;
        let (callee, towards_callee) = desk_at_relay(plan, Side::Callee).await?;
        let lines = [plan.impairment(Side::Caller), plan.impairment(Side::Callee)];
        let relay = Relay::new([towards_caller, towards_callee], lines);
        Ok(Self { desks: vec![caller, callee], relay: Some(relay) })
    }

    /// The caller alone; the callee is another process.
    async fn to(plan: &Plan, callee: SocketAddr) -> Result<Self, RehearseError> {
        let any = match callee {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let wire = Wire::connect(Wire::bind(any).await?, callee).await?;
        Ok(Self::alone(plan, Side::Caller, wire))
    }

    /// The callee alone, once the first check of a rehearsal came in; all else is left unanswered.
    async fn answer(
        plan: &Plan,
        socket: UdpSocket,
        observe: Observe<'_>,
    ) -> Result<Self, RehearseError> {
        let address = local(&socket)?;
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        loop {
            let (length, caller) = socket
                .recv_from(&mut buffer)
                .await
                .map_err(|source| RehearseError::Receive { address, source })?;
            let check = &buffer[..length];
            if stun::is_check(check) {
                let now = moment();
                let mut call =
                    Self::alone(plan, Side::Callee, Wire::connect(socket, caller).await?);
                call.desks[0].hear(check, now, observe);
                return Ok(call);
            }
        }
    }

    fn alone(plan: &Plan, side: Side, wire: Wire) -> Self {
        let talker = plan.talker(side, Consent::Asked);
        let desk = Desk::new(side, talker, wire, Some(plan.impairment(side)));
        Self { desks: vec![desk], relay: None }
    }

    /// Lets the sides talk, and then waits for what is still on its way.
    async fn hold(
        &mut self,
        mut stop: impl AsyncFnMut(),
        observe: Observe<'_>,
        show: &mut Show,
    ) -> Result<Ending, RehearseError> {
        tokio::select! {
            done = self.talk(observe, show) => done?,
            () = stop() => self.desks.iter_mut().for_each(Desk::hang_up),
        }
        let ending = self.ending()?;
        tokio::select! {
            done = self.linger(observe) => done?,
            () = stop() => {}
        }
        show.over();
        Ok(ending)
    }

    async fn talk(&mut self, observe: Observe<'_>, show: &mut Show) -> Result<(), RehearseError> {
        loop {
            self.turn(observe)?;
            show.progress(&self.desks, moment());
            let Some(due) = self.desks.iter().filter_map(|desk| desk.talker().poll_timeout()).min()
            else {
                return Ok(());
            };
            self.wait(due).await;
        }
    }

    async fn linger(&mut self, observe: Observe<'_>) -> Result<(), RehearseError> {
        let end = moment() + LINGER_MAX;
        loop {
            self.turn(observe)?;
            let now = moment();
            if now >= end || self.is_over(now) {
                return Ok(());
            }
            let hush = self.desks[0].heard_at() + HUSH;
            self.wait(if hush > now { hush.min(end) } else { end }).await;
        }
    }

    /// Whether nothing more will come: of a relay that is known, of another machine it is guessed.
    fn is_over(&self, now: Moment) -> bool {
        let [caller, callee] = self.desks.as_slice() else {
            return self.desks.iter().all(|desk| {
                let is_hung_up = desk.talker().silence() == Some(Silence::HungUp);
                desk.is_idle() && (is_hung_up || now.since(desk.heard_at()) >= HUSH)
            });
        };
        self.relay.as_ref().is_none_or(|relay| {
            relay.is_idle()
                && relay.handled(0) == caller.sent().total()
                && relay.handled(1) == callee.sent().total()
                && relay.passed(0) == callee.received().total()
                && relay.passed(1) == caller.received().total()
        })
    }

    /// Lets everyone do what is due.
    fn turn(&mut self, observe: Observe<'_>) -> Result<(), RehearseError> {
        for desk in &mut self.desks {
            desk.turn(observe)?;
        }
        self.relay.as_mut().map_or(Ok(()), Relay::turn)
    }

    /// Waits until something came in, or something is due, at `due` at the latest.
    async fn wait(&self, due: Moment) {
        let desks = self.desks.iter().filter_map(Desk::poll_timeout);
        let relay = self.relay.as_ref().and_then(Relay::poll_timeout);
        let due = desks.chain(relay).chain([due]).min().unwrap_or(due);
        let readable = poll_fn(|context| {
            // All are asked, so that each wakes the task.
            let desks = self.desks.iter().filter(|desk| desk.poll_readable(context)).count();
            let relay = self.relay.as_ref().is_some_and(|relay| relay.poll_readable(context));
            if desks > 0 || relay { Poll::Ready(()) } else { Poll::Pending }
        });
        // Running into the time-out is the normal end of a wait: a frame is due.
        let _ = tokio::time::timeout(due.since(moment()), readable).await;
    }

    fn ending(&self) -> Result<Ending, RehearseError> {
        let mut ending = Ending::Complete;
        for desk in &self.desks {
            match desk.talker().silence() {
                Some(Silence::Done) | None => {}
                Some(Silence::HungUp) => ending = Ending::Interrupted,
                Some(Silence::ConsentLost) => ending = Ending::ConsentLost,
                Some(Silence::NoAnswer) => {
                    return Err(RehearseError::NoAnswer { address: desk.remote() });
                }
            }
        }
        Ok(ending)
    }

    fn parties(&self) -> Vec<Party> {
        let relay = self.relay.as_ref();
        let parties = self.desks.iter().enumerate();
        parties.map(|(at, desk)| desk.party(relay.map(|relay| relay.behind(at)))).collect()
    }
}

/// A side here, and the relay's socket towards it.
async fn desk_at_relay(plan: &Plan, side: Side) -> Result<(Desk, Wire), RehearseError> {
    let own = Wire::bind((SIDES_IP, 0).into()).await?;
    let relay = Wire::bind((RELAY_IP, 0).into()).await?;
    let relay_address = local(&relay)?;
    let towards = Wire::connect(relay, local(&own)?).await?;
    let wire = Wire::connect(own, relay_address).await?;
    Ok((Desk::new(side, plan.talker(side, Consent::Given), wire, None), towards))
}

/// The address that a socket was bound to.
fn local(socket: &UdpSocket) -> Result<SocketAddr, RehearseError> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    socket.local_addr().map_err(|source| RehearseError::Bind { address, source })
}

/// The progress on stderr, for people only.
struct Show {
    is_terminal: bool,
    seconds: u32,
    started: Option<Moment>,
    next: Moment,
}

impl Show {
    fn on_terminal(seconds: u32) -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self { is_terminal, seconds, started: None, next: Moment::ORIGIN }
    }

    fn waiting(&self, address: SocketAddr) {
        if self.is_terminal {
            self.write(&format!("waiting for a call at {address}\n"));
        }
    }

    /// Overwrites the line once a second.
    fn progress(&mut self, desks: &[Desk], now: Moment) {
        if !self.is_terminal || now < self.next {
            return;
        }
        self.next = now + PROGRESS;
        let spent = now.since(*self.started.get_or_insert(now)).as_secs();
        let mut line = format!("\r\x1b[Krehearsing, {spent} of {} s", self.seconds);
        for desk in desks {
            let (sent, received) = (desk.sent().total(), desk.received().total());
            line.push_str(&format!("; {}: sent {sent}, received {received}", desk.side()));
        }
        self.write(&line);
    }

    fn over(&self) {
        if self.is_terminal {
            self.write("\r\x1b[K");
        }
    }

    /// A terminal that went away is no reason to end the call.
    fn write(&self, text: &str) {
        let mut stderr = io::stderr();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn plan(seconds: u32, loss_ppm: u32) -> Plan {
        let share = |ppm| Probability::from_ppm(ppm).unwrap();
        let profile = Profile {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(5),
            loss: share(loss_ppm),
            burst: None,
            duplicate: share(50_000),
            reorder: share(50_000),
        };
        Plan { seconds, profile, random: Random::new(3) }
    }

    fn silent() -> Show {
        Show { is_terminal: false, seconds: 1, started: None, next: Moment::ORIGIN }
    }

    async fn hold(call: &mut Call) -> Result<Ending, RehearseError> {
        call.hold(async || pending().await, &mut |_, _| {}, &mut silent()).await
    }

    #[tokio::test]
    async fn two_machines_rehearse_without_a_relay() {
        let socket = Wire::bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = local(&socket).unwrap();
        // What is no check of a rehearsal is not answered, and does not occupy the socket.
        let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for noise in [&b"hello"[..], &[0; 20], &stun::response([1; 12], address)] {
            stranger.send_to(noise, address).unwrap();
        }
        let (caller, callee) = tokio::join!(
            async {
                let mut call = Call::to(&plan(1, 100_000), address).await?;
                Ok::<_, RehearseError>((hold(&mut call).await?, call.parties()))
            },
            async {
                let mut call = Call::answer(&plan(1, 0), socket, &mut |_, _| {}).await?;
                Ok::<_, RehearseError>((hold(&mut call).await?, call.parties()))
            },
        );
        let (caller, callee) = (caller.unwrap(), callee.unwrap());
        assert_eq!((caller.0, callee.0), (Ending::Complete, Ending::Complete));
        let (caller, callee) = (&caller.1[0], &callee.1[0]);
        assert_eq!((caller.side, callee.side), (Side::Caller, Side::Callee));
        assert_eq!((caller.remote, callee.remote), (callee.local, caller.local));
        assert_ne!(caller.ssrc, callee.ssrc, "one seed at both ends is two voices");
        for (from, to) in [(caller, callee), (callee, caller)] {
            // Each impairs what it sends: what left the socket is what its line released.
            assert_eq!(from.sent, from.injected.released);
            assert_eq!(from.sent, to.received);
            assert_eq!(from.injected.handled.rtp + from.frames_skipped, 50);
            assert!(from.checks.rtt.min >= Duration::from_millis(15), "the other's delay");
        }
        assert!(caller.injected.lost.rtp > 0);
        assert_eq!(callee.injected.lost.rtp, 0);
    }
}
