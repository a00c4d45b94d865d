//! The running agent, set by a collector that the test plays by hand: applied, reported, refused, with every record of
//! its spool sent once and in order whatever the configuration does to its parts.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use roomtone_agent::configuration::{LIVES_MAX, hash};
use roomtone_agent::spool::{Limits, Spool};
use roomtone_protocol::ack::Ack;
use roomtone_protocol::configuration::{Arrival, Configuration, Outcome};
use roomtone_protocol::enroll::BootId;
use roomtone_protocol::frame::{decode, encode_link};
use roomtone_protocol::health::{Health, Troubles};
use roomtone_protocol::hello::HelloReply;
use roomtone_protocol::host::HostInterval;
use roomtone_protocol::id::{RecordId, Sequence};
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::message::Message;
use roomtone_protocol::record::Record;
use roomtone_protocol::time::Stamp;

use super::uplink_quic::{Pki, within};

/// Records that wait in the spool when the agent begins.
const RECORDS: u32 = 300;

/// The agent's process; ended with the test, whatever became of it.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One connection of the agent, greeted.
struct Peer {
    connection: quinn::Connection,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    bytes: Vec<u8>,
    boot: Option<BootId>,
    /// The records that came over it, in order.
    records: Vec<RecordId>,
}

impl Peer {
    async fn accept(endpoint: &quinn::Endpoint) -> Self {
        let connection = endpoint.accept().await.unwrap().await.unwrap();
        let (send, recv) = connection.accept_bi().await.unwrap();
        let (bytes, records) = (Vec::new(), Vec::new());
        let mut peer = Self { connection, send, recv, bytes, boot: None, records };
        let Message::Hello(hello) = peer.hear().await else { panic!("no Hello comes first") };
        peer.boot = hello.boot;
        let collector_version = "double".try_into().unwrap();
        let next = hello.oldest;
        let welcome = HelloReply::Welcome { wire: 1, collector_version, next, wall_us: 0 };
        peer.say(Message::HelloReply(welcome)).await;
        peer
    }

    async fn say(&mut self, message: Message) {
        let mut frame = [0; FRAME_BYTES_MAX];
        let length = encode_link(&message, &mut frame).unwrap();
        self.send.write_all(&frame[..length]).await.unwrap();
    }

    /// The next frame.
    async fn hear(&mut self) -> Message {
        loop {
            if let Ok((frame, length)) = decode(&self.bytes) {
                self.bytes.drain(..length);
                if let Some(Message::Record(_)) = frame.message {
                    self.records.push(frame.header.id);
                }
                return frame.message.unwrap();
            }
            let mut chunk = [0; 4096];
            let length = self.recv.read(&mut chunk).await.unwrap().expect("the agent goes on");
            self.bytes.extend_from_slice(&chunk[..length]);
        }
    }

    /// The next heartbeat; what comes before it is an effective configuration or a record.
    async fn health(&mut self) -> (Health, Option<String>) {
        let mut effective = None;
        loop {
            match self.hear().await {
                Message::Health(health) => return (health, effective),
                Message::EffectiveConfiguration(told) => {
                    assert_eq!(hash(&told.text), told.hash);
                    effective = Some(told.text.as_str().to_owned());
                }
                Message::Record(_) => {}
                other @ (Message::Hello(_)
                | Message::HelloReply(_)
                | Message::Ack(_)
                | Message::Control(_)
                | Message::EnrollRequest(_)
                | Message::EnrollReply(_)
                | Message::RenewRequest(_)
                | Message::RenewReply(_)
                | Message::Configuration(_)) => panic!("the agent sent {other:?}"),
            }
        }
    }

    async fn set(&mut self, text: &str) {
        let configuration = Configuration { hash: hash(text), text: text.try_into().unwrap() };
        self.say(Message::Configuration(configuration)).await;
    }

    /// Waits until the agent closes, and returns its code and words.
    async fn closed(&mut self) -> String {
        loop {
            let mut chunk = [0; 4096];
            match self.recv.read(&mut chunk).await {
                Ok(Some(length)) => self.bytes.extend_from_slice(&chunk[..length]),
                Ok(None) | Err(_) => break,
            }
        }
        let end = self.connection.closed().await;
        let quinn::ConnectionError::ApplicationClosed(close) = end else { panic!("{end}") };
        format!("{} {}", close.error_code, String::from_utf8_lossy(&close.reason))
    }
}

/// Fills a spool with records that no collector has, and returns their ids.
fn fill(directory: &Path) -> Vec<RecordId> {
    let limits = Limits { headroom_bytes: 0, inodes_min: 0, ..Limits::default() };
    let now = Stamp { wall_us: 1, uptime_us: 1 };
    let (mut spool, _) = Spool::open(directory, limits, now).unwrap();
    let record = Record::HostInterval(HostInterval {
        started: now,
        duration_ms: 10_000,
        cpu_permille: 1,
        memory_permille: 2,
        cpu_pressure_permille: None,
        temperature_deci_celsius: None,
        detail: None,
    });
    let ids = (0..RECORDS).map(|_| spool.append(record.clone(), now).unwrap()).collect();
    spool.sync().unwrap();
    ids
}

fn outcome(health: &Health) -> Option<Outcome> {
    health.configuration.latest.as_ref().map(|latest| latest.outcome)
}

/// A machine with its files, and the collector's end.
struct Room {
    pki: Pki,
    endpoint: quinn::Endpoint,
}

impl Room {
    /// Whether an agent can run here; prints why not.
    fn is_possible() -> bool {
        let may_tap = rustix::process::geteuid().is_root();
        if !may_tap {
            println!("not run: the agent's tap needs CAP_NET_RAW");
        }
        may_tap
    }

    fn new() -> Self {
        let pki = Pki::new();
        let endpoint = pki.listen();
        let port = endpoint.local_addr().unwrap().port();
        // None of the addresses on lo is the endpoint's: the calls of other tests are not its own.
        let config = format!(
            "[collector]\naddress = \"127.0.0.1:{port}\"\nserver_name = \"collector.test\"\n\
             [identity]\ncertificate = \"endpoint.crt\"\nkey = \"endpoint.key\"\nca = \"ca.crt\"\n\
             [spool]\ndirectory = \"state/spool\"\nheadroom = \"0\"\ninodes_min = 0\n\
             [tap]\ninterface = \"lo\"\nlocal = [\"192.0.2.1\"]\n[audio]\nwatch = false\n\
             [host]\nwatch = false\n[context]\nsocket = \"agent.sock\"\n",
        );
        std::fs::write(pki.path("agent.toml"), config).unwrap();
        Self { pki, endpoint }
    }

    fn agent(&self) -> Agent {
        self.start(Stdio::null())
    }

    /// An agent whose log can be read.
    fn agent_heard(&self) -> Agent {
        self.start(Stdio::piped())
    }

    fn start(&self, log: Stdio) -> Agent {
        let agent = Command::new(env!("CARGO_BIN_EXE_roomtone-agent"))
            .args(["run", "--config"])
            .arg(self.pki.path("agent.toml"))
            .env_remove("NOTIFY_SOCKET")
            .stderr(log)
            .spawn();
        Agent(agent.unwrap())
    }

    /// Says that a call begins or ends, and waits until the agent has taken it.
    fn call(&self, what: &str) {
        let done = Command::new(env!("CARGO_BIN_EXE_roomtone-agent"))
            .args(["call", what, "--id", "meeting", "--socket"])
            .arg(self.pki.path("agent.sock"))
            .stdout(Stdio::null())
            .status();
        assert!(done.unwrap().success(), "call {what}");
    }

    /// Says lines on one connection, together, and returns the answers to all of them.
    fn say(&self, lines: &[&str]) -> String {
        let stream = UnixStream::connect(self.pki.path("agent.sock")).unwrap();
        (&stream).write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
        let answers = BufReader::new(&stream).lines().map(Result::unwrap);
        let answers: Vec<_> = answers.take(lines.len()).collect();
        assert_eq!(answers.len(), lines.len(), "each line is answered");
        for answer in &answers {
            assert!(answer.starts_with("{\"ok\":true"), "{answer}");
        }
        answers.concat()
    }

    async fn peer(&self) -> Peer {
        within(Peer::accept(&self.endpoint)).await
    }
}

#[tokio::test]
async fn collector_sets_a_running_agent_and_no_record_is_lost_or_doubled() {
    if !Room::is_possible() {
        return;
    }
    let room = Room::new();
    let spool = room.pki.path("state/spool");
    let ids = fill(&spool);
    let mut agent = room.agent();

    // As its own file sets it. Nothing is acknowledged here, so all of it comes again.
    let mut peer = room.peer().await;
    let boot = peer.boot;
    let (health, effective) = within(peer.health()).await;
    let effective =
        effective.expect("the effective configuration comes before the first heartbeat");
    assert!(effective.contains("call_idle = \"15s\"\n"), "{effective}");
    assert_eq!(health.configuration.effective, hash(&effective));
    assert_eq!((outcome(&health), health.configuration.in_force), (None, None));
    assert_eq!((health.interval_s, health.troubles), (60, Troubles::default()));
    assert!(health.resident_kib > 1_000 && health.spool_bytes > 1_000, "{health:?}");

    // The machine's own file sets audio.watch; the rest is new.
    let text = "log.level = 'warn'\nmedia.call_idle = '30s'\naudio.watch = true\n";
    within(peer.set(text)).await;
    assert_eq!(within(peer.closed()).await, "0 the agent ends");

    let mut peer = room.peer().await;
    assert_eq!(peer.boot, boot);
    let (health, effective) = within(peer.health()).await;
    let effective = effective.unwrap();
    for line in ["call_idle = \"30s\"\n", "watch = false\n", "level = \"warn\"\n"] {
        assert!(effective.contains(line), "{effective}");
    }
    assert_eq!(outcome(&health), Some(Outcome::InForce));
    assert_eq!(health.configuration.in_force, Some(hash(text)));
    assert_eq!(health.configuration.effective, hash(&effective));

    // Refused: told at once, and the link stays.
    within(peer.set("tap.interface = 'eth9'\n")).await;
    let (health, _) = within(peer.health()).await;
    let Some(Arrival { outcome: Outcome::Refused, detail, .. }) = health.configuration.latest
    else {
        panic!("{health:?}");
    };
    assert!(detail.starts_with("unknown key \"tap.interface\" at line 1; only the"), "{detail}");
    assert_eq!(health.configuration.in_force, Some(hash(text)));

    // Back to what is in force: no restart for that.
    within(peer.set(text)).await;
    assert_eq!(outcome(&within(peer.health()).await.0), Some(Outcome::InForce));

    while peer.records.len() < ids.len() {
        within(peer.hear()).await;
    }
    assert!(peer.records == ids, "each record once, in order, after the restart");
    let last = ids.last().unwrap();
    let next = Sequence(last.sequence.0 + 1);
    within(peer.say(Message::Ack(Ack { epoch: last.epoch, next }))).await;

    // What was set outlives the process.
    let process = rustix::process::Pid::from_child(&agent.0);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert_eq!(within(peer.closed()).await, "0 the agent ends");
    assert!(agent.0.wait().unwrap().success());
    let limits = Limits { headroom_bytes: 0, inodes_min: 0, ..Limits::default() };
    let (spool, recovery) =
        Spool::open(&spool, limits, Stamp { wall_us: 1, uptime_us: 1 }).unwrap();
    assert!(!recovery.new_epoch && recovery.lost == 0 && recovery.quarantined == 0, "{recovery:?}");
    assert_eq!(spool.position().sequence, next, "nothing was recorded beside");
    let shown = Command::new(env!("CARGO_BIN_EXE_roomtone-agent"))
        .args(["config", "--config"])
        .arg(room.pki.path("agent.toml"))
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("collector  media.call_idle        \"30s\"\n"), "{shown}");
    assert!(shown.contains("file       audio.watch            false"), "{shown}");
}

#[tokio::test]
async fn text_that_comes_in_a_call_waits_for_its_end_and_the_call_is_told_once() {
    if !Room::is_possible() {
        return;
    }
    let room = Room::new();
    let _agent = room.agent();
    let mut peer = room.peer().await;
    within(peer.health()).await;
    room.call("begin");
    within(peer.set("media.call_idle = '5s'\n")).await;
    let (health, _) = within(peer.health()).await;
    assert_eq!(outcome(&health), Some(Outcome::WaitsForCall));
    assert_eq!(health.configuration.in_force, None);

    // A call without packets is over with its context; its beginning, end and events leave before the connection does.
    room.call("end");
    while peer.records.len() < 3 {
        within(peer.hear()).await;
    }
    within(peer.closed()).await;
    let mut peer = room.peer().await;
    let (health, effective) = within(peer.health()).await;
    assert_eq!(outcome(&health), Some(Outcome::InForce));
    assert!(effective.unwrap().contains("call_idle = \"5s\"\n"));
    // Nothing was acknowledged: the same three come again, and no fourth.
    while peer.records.len() < 3 {
        within(peer.hear()).await;
    }
    let sequences: Vec<_> = peer.records.iter().map(|id| id.sequence.0).collect();
    assert_eq!(sequences, [0, 1, 2]);
    // The next call is told with the numbers that follow, from a socket that answers again.
    room.call("begin");
    while peer.records.len() < 4 {
        within(peer.hear()).await;
    }
    assert_eq!(peer.records[3].sequence, Sequence(3));
}

#[tokio::test]
async fn meeting_that_follows_at_once_is_one_call_whatever_waits_for_the_end_of_the_one_before() {
    if !Room::is_possible() {
        return;
    }
    let room = Room::new();
    let _agent = room.agent();
    let mut peer = room.peer().await;
    within(peer.health()).await;
    room.say(&[r#"{"call":"begin","id":"first"}"#]);
    within(peer.set("media.call_idle = '5s'\n")).await;
    assert_eq!(outcome(&within(peer.health()).await.0), Some(Outcome::WaitsForCall));
    // The first one opens and closes, the second one opens: a connection that ends before is a restart between them.
    room.say(&[r#"{"call":"end","id":"first"}"#, r#"{"call":"begin","id":"second"}"#]);
    while peer.records.len() < 3 {
        within(peer.hear()).await;
    }
    // The same connection tells its end, and the agent knows of the second one until then.
    let told = room.say(&[r#"{"status":true}"#]);
    assert!(told.contains("\"context\":{\"id\":\"second\""), "{told}");
    room.say(&[r#"{"call":"end","id":"second"}"#]);
    while peer.records.len() < 4 {
        within(peer.hear()).await;
    }
    within(peer.closed()).await;
    let mut peer = room.peer().await;
    assert_eq!(outcome(&within(peer.health()).await.0), Some(Outcome::InForce));
}

#[tokio::test]
async fn interface_that_is_away_takes_neither_the_link_nor_the_trial_of_a_text() {
    let room = Room::new();
    let path = room.pki.path("agent.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("\"lo\"", "\"undocked0\"")).unwrap();
    let _agent = room.agent();
    let mut peer = room.peer().await;
    let (health, _) = within(peer.health()).await;
    assert_eq!(health.troubles, Troubles::NO_TAP);
    within(peer.set("media.call_idle = '5s'\n")).await;
    within(peer.closed()).await;
    let mut peer = room.peer().await;
    let (health, _) = within(peer.health()).await;
    assert_eq!((outcome(&health), health.troubles), (Some(Outcome::InForce), Troubles::NO_TAP));
}

#[tokio::test]
async fn spool_that_cannot_be_opened_for_a_moment_does_not_end_the_trial_of_a_text() {
    if !Room::is_possible() {
        return;
    }
    let room = Room::new();
    let mut agent = room.agent_heard();
    let log = BufReader::new(agent.0.stderr.take().unwrap());
    let mut peer = room.peer().await;
    within(peer.health()).await;
    let (spool, aside) = (room.pki.path("state/spool"), room.pki.path("state/aside"));
    std::fs::rename(&spool, &aside).unwrap();
    std::fs::write(&spool, "no folder").unwrap();
    within(peer.set("media.call_idle = '5s'\n")).await;
    within(peer.closed()).await;
    // The agent's whole life is in its log, so that the disk is mended after the first attempt and never before.
    let found = tokio::task::spawn_blocking(move || {
        let mut lines = log.lines().map(Result::unwrap);
        let found = lines.any(|line| line.contains("the parts do not start and are started again"));
        std::fs::remove_file(&spool).unwrap();
        std::fs::rename(&aside, &spool).unwrap();
        (found, lines)
    });
    let (found, _lines) = within(found).await.unwrap();
    assert!(found, "the agent ended");
    let mut peer = room.peer().await;
    assert_eq!(outcome(&within(peer.health()).await.0), Some(Outcome::InForce));
}

#[tokio::test]
async fn agent_that_does_not_stay_up_with_a_text_goes_back_by_itself() {
    if !Room::is_possible() {
        return;
    }
    let room = Room::new();
    let mut agent = room.agent();
    let mut peer = room.peer().await;
    within(peer.health()).await;
    let text = "health.interval = '15m'\n";
    within(peer.set(text)).await;
    within(peer.closed()).await;
    // Each life is killed when it has connected and before it is greeted; the third that begins on trial gives it up.
    for _ in 0..LIVES_MAX {
        let connection = within(room.endpoint.accept()).await.unwrap().await.unwrap();
        drop(agent);
        connection.close(0u32.into(), b"");
        agent = room.agent();
    }
    let mut peer = room.peer().await;
    let (health, effective) = within(peer.health()).await;
    let latest = health.configuration.latest.unwrap();
    assert_eq!((latest.hash, latest.outcome), (hash(text), Outcome::RolledBack));
    assert_eq!(latest.detail, "the agent did not stay up with it");
    assert_eq!((health.configuration.in_force, health.interval_s), (None, 60));
    assert!(effective.unwrap().contains("interval = \"1m\"\n"));
    // The same again changes nothing and says nothing; what comes after it is answered.
    within(peer.set(text)).await;
    within(peer.set("no TOML")).await;
    let (health, _) = within(peer.health()).await;
    assert_eq!(outcome(&health), Some(Outcome::Refused));
}
