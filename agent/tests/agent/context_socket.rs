//! The context socket with real clients: what they are told, and what they cannot do to the agent.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use roomtone_agent::clock::{Moment, system};
use roomtone_agent::context::{CLIENTS_MAX, Desk, SocketError, listen, serve};
use roomtone_agent::media::context::ContextChange;
use roomtone_agent::media::{CALL_IDLE, Options, Watch};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Far more than a loaded machine needs; reached in failure only.
const PATIENCE: Duration = Duration::from_secs(20);

/// An agent of which only the socket and the media watch run; it ends with its folder's guard.
struct Agent {
    folder: TempDir,
    told: Receiver<ContextChange>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Agent {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let (ready, is_ready) = channel();
        let (said, told) = channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            runtime.block_on(local.run_until(async move {
                let (changes, mut heard) = tokio::sync::mpsc::unbounded_channel();
                let desk = Desk::new(move |change: ContextChange, at: Moment| {
                    changes.send((change, at)).unwrap();
                });
                let listener = listen(&path).await.unwrap();
                ready.send(()).unwrap();
                let mut watch =
                    Watch::new(Options { local: Vec::new(), call_idle: CALL_IDLE, seed: 1 });
                let observing = async {
                    while let Some((change, at)) = heard.recv().await {
                        said.send(change).unwrap();
                        watch.handle_context(change, at);
                        let (now, wall) = system::now_and_wall();
                        watch.handle_timeout(now);
                        while let Some(event) = watch.poll_event() {
                            desk.note(&event, wall);
                        }
                    }
                };
                tokio::select! {
                    () = serve(listener, desk.clone()) => {}
                    () = observing => {}
                    _ = stopped => {}
                }
            }));
        });
        is_ready.recv_timeout(PATIENCE).unwrap();
        Self { folder, told, stop: Some(stop), thread: Some(thread) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    fn client(&self) -> Client {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    fn cli(&self, arguments: &[&str]) -> Output {
        cli(&self.path(), arguments)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A failed agent has failed its test by then.
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

struct Client {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Client {
    fn ask(&mut self, line: &str) -> Value {
        self.stream.write_all(line.as_bytes()).unwrap();
        self.stream.write_all(b"\n").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> Value {
        let mut answer = String::new();
        self.reader.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }
}

fn cli(socket: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_roomtone-agent"))
        .arg("call")
        .args(arguments)
        .arg("--socket")
        .arg(socket)
        .output()
        .unwrap()
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn answer_to_a_begin_names_the_call_that_came_of_it() {
    let agent = Agent::start();
    let mut client = agent.client();
    let begun = client.ask(r#"{"call":"begin","id":"m-1","service":"teams"}"#);
    assert_eq!(
        [&begun["ok"], &begun["inCall"], &begun["source"], &begun["rehearsal"], &begun["legs"]],
        [&json!(true), &json!(true), &json!("context"), &json!(false), &json!(0)]
    );
    assert_eq!(begun["call"].as_str().map(str::len), Some(16), "{begun}");
    assert_eq!(begun["context"]["id"], "m-1");
    assert_eq!(begun["context"]["service"], "teams");
    // Another client sees the same, and may end it.
    let mut other = agent.client();
    assert_eq!(other.ask(r#"{"status":true}"#), begun);
    let ended = other.ask(r#"{"call":"end","id":"m-1"}"#);
    assert_eq!([&ended["inCall"], &ended["context"]], [&json!(false), &Value::Null]);
}

#[test]
fn wrong_lines_are_answered_in_one_line_and_the_next_one_counts() {
    let agent = Agent::start();
    let mut client = agent.client();
    for (line, error) in [
        ("hello", "not a JSON object on one line"),
        (r#"{"call":"begin","id":"1","subject":"pay"}"#, "unknown field `subject`"),
        (r#"{"call":"end"}"#, "no call is open here"),
        ("\u{0}\u{1}", "not a JSON object on one line"),
    ] {
        let answer = client.ask(line);
        assert_eq!(answer["ok"], false);
        assert!(answer["error"].as_str().unwrap().contains(error), "{answer}");
    }
    assert_eq!(client.ask(r#"{"status":true}"#)["ok"], true);
}

#[test]
fn line_without_an_end_is_refused_and_closes_the_connection() {
    let agent = Agent::start();
    let mut client = agent.client();
    client.stream.write_all(&[b'x'; 1024]).unwrap();
    let answer = client.answer();
    assert_eq!(answer["error"], "the line is longer than 1024 bytes");
    assert_eq!(client.reader.read(&mut [0]).unwrap(), 0, "closed");
}

#[test]
fn context_bound_to_its_connection_ends_with_it() {
    let agent = Agent::start();
    let mut client = agent.client();
    client.ask(r#"{"call":"begin","id":"m-1","whileConnected":true}"#);
    assert!(matches!(agent.told.recv_timeout(PATIENCE), Ok(ContextChange::Began { .. })));
    drop(client);
    assert!(matches!(agent.told.recv_timeout(PATIENCE), Ok(ContextChange::Ended { .. })));
}

#[test]
fn one_client_too_many_is_told_so_and_the_others_go_on() {
    let agent = Agent::start();
    let mut clients: Vec<Client> = (0..CLIENTS_MAX).map(|_| agent.client()).collect();
    // The last one was let in once it is answered.
    assert_eq!(clients[CLIENTS_MAX - 1].ask(r#"{"status":true}"#)["ok"], true);
    let refused = agent.client().answer();
    assert_eq!(refused["error"], "16 clients are connected; close one, or try again later");
    assert_eq!(clients[0].ask(r#"{"status":true}"#)["ok"], true);
}

#[test]
fn socket_is_for_user_and_group_and_goes_with_the_agent() {
    let agent = Agent::start();
    let path = agent.path();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    let Agent { folder, .. } = &agent;
    let kept = folder.path().to_owned();
    drop(agent);
    assert!(!kept.join("agent.sock").exists());
}

/// Listens, says how that went, and ends.
fn try_listen(path: &Path) -> Result<(), SocketError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { listen(path).await.map(drop) })
}

#[test]
fn socket_of_a_dead_agent_is_replaced_and_that_of_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let live = UnixListener::bind(&path).unwrap();
    assert!(matches!(try_listen(&path), Err(SocketError::InUse { .. })));
    // Closed and not unlinked, as a kill leaves it.
    drop(live);
    assert!(path.exists());
    try_listen(&path).unwrap();
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    std::fs::write(&path, "notes").unwrap();
    assert!(matches!(try_listen(&path), Err(SocketError::NotASocket { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
    let missing = folder.path().join("missing/agent.sock");
    let error = try_listen(&missing).unwrap_err();
    assert!(error.to_string().ends_with("or set context.socket"), "{error}");
}

#[test]
fn command_line_begins_shows_and_ends_a_call() {
    let agent = Agent::start();
    let (code, text) = said(&agent.cli(&["begin", "--id", "m-1", "--service", "teams"]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("begun: m-1\ncall "), "{text}");
    assert!(text.contains("by context, 0 legs so far\ncontext m-1 (teams) open since"), "{text}");
    let status = agent.cli(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!([&status["inCall"], &status["source"]], [&json!(true), &json!("context")]);
    let wrong = said(&agent.cli(&["end", "--id", "m-2"]));
    let refused = "roomtone-agent: another call is open than the one to end\n";
    assert_eq!(wrong, (Some(1), refused.to_owned()));
    assert_eq!(said(&agent.cli(&["end"])), (Some(0), "ended\nno call is on\n".to_owned()));
    // Without an id one is drawn.
    let (_, text) = said(&agent.cli(&["begin"]));
    let id = text.lines().next().unwrap().strip_prefix("begun: ").unwrap();
    assert_eq!(said(&agent.cli(&["end", "--id", id])).0, Some(0));
}

#[test]
fn command_line_says_what_is_wrong_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let (code, text) = said(&cli(&path, &["status"]));
    assert_eq!(code, Some(1));
    assert!(text.contains("no agent listens at") && text.contains("context.socket"), "{text}");
    assert_eq!(text.lines().count(), 1);
    // Wrong usage needs no agent to be told.
    for wrong in [&["begin", "--service", "Teams"][..], &["begin", "--id", "a b"], &["mute"]] {
        let (code, text) = said(&cli(&path, wrong));
        assert_eq!((code, text.lines().count()), (Some(2), 1), "{text}");
    }
}
