//! The tap that comes from an opener: the real program on a connection, as the service manager starts it.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use roomtone_agent::clock::WallOffset;
use roomtone_agent::tap::{LiveOptions, LiveTap};

/// Set in the child without the capability: where the opener listens.
const OPENER: &str = "ROOMTONE_TEST_OPENER";

/// Far more than a loaded machine needs; reached in failure only.
const PATIENCE: Duration = Duration::from_secs(20);

/// The opener on a connection, which is its stdin.
fn start(connection: UnixStream) -> Child {
    Command::new(env!("CARGO_BIN_EXE_roomtone-agent"))
        .arg("open-tap")
        .stdin(Stdio::from(OwnedFd::from(connection)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// This binary, where every user can run it, and the command that runs one test of it without any capability.
fn without_rights(folder: &Path, test: &str) -> Command {
    let binary = folder.join("agent");
    std::fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder, everyone).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--"])
        .arg(binary)
        .args(["--exact", test, "--nocapture"])
        .current_dir("/");
    command
}

/// What the unprivileged agent does: opens, sees a datagram, and does both again, as after an interface came back.
fn observe_twice(opener: PathBuf) {
    let options = LiveOptions {
        interface: "lo".to_owned(),
        block_timeout: Duration::from_millis(20),
        opener,
        ..LiveOptions::default()
    };
    for _ in 0..2 {
        let mut tap = LiveTap::open(&options).unwrap();
        let (from, to) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let destination = to.local_addr().unwrap();
        from.send_to(&[0xa5; 600], destination).unwrap();
        let (wake, _kept) = std::io::pipe().unwrap();
        let start = Instant::now();
        let mut seen = None;
        while seen.is_none() {
            assert!(start.elapsed() < PATIENCE, "nothing is seen");
            tap.wait(wake.as_fd(), Some(PATIENCE)).unwrap();
            tap.drain(WallOffset::NONE, |datagram| {
                if datagram.destination == destination {
                    seen = Some((datagram.payload.len(), datagram.wire_bytes));
                }
            })
            .unwrap();
        }
        // 128 bytes less the heads of IPv4 and UDP.
        assert_eq!(seen, Some((100, 600)));
        assert_eq!(tap.stats().unwrap().dropped, 0);
        println!("seen through an opener");
    }
    let wrong = LiveOptions { snap_bytes: 2_000, ..options.clone() };
    println!("told: {}", LiveTap::open(&wrong).unwrap_err());
    let wrong = LiveOptions { interface: "nosuch0".to_owned(), ..options };
    println!("told: {}", LiveTap::open(&wrong).unwrap_err());
}

#[test]
fn an_agent_without_rights_sees_what_the_opener_opened() {
    if let Some(opener) = std::env::var_os(OPENER) {
        return observe_twice(opener.into());
    }
    if !rustix::process::geteuid().is_root() {
        println!("not run: only root can open a tap and drop to another user");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tap.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&path, everyone).unwrap();
    // The service manager's part. The unknown interface is not asked for: the agent knows that by itself.
    let manager = std::thread::spawn(move || {
        let openers = (0..3).map(|_| start(listener.accept().unwrap().0).wait_with_output());
        openers.map(|output| output.unwrap().status.code()).collect::<Vec<_>>()
    });
    let name = "tap_opener::an_agent_without_rights_sees_what_the_opener_opened";
    let output = without_rights(folder.path(), name).env(OPENER, &path).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(told.matches("seen through an opener\n").count(), 2, "{told}");
    let refused =
        "told: the tap's opener says: snap length in bytes is 2000, allowed are 64 to 1024\n";
    assert!(told.contains(refused), "{told}");
    assert!(told.contains("told: no interface `nosuch0`: this machine has "), "{told}");
    assert_eq!(manager.join().unwrap(), [Some(0), Some(0), Some(1)]);
}

#[test]
fn whatever_is_no_request_is_refused_with_one_line() {
    let request = |key: &str, value: &str| {
        let keys = [
            ("interface", "\"lo\""),
            ("snapBytes", "128"),
            ("ringBytes", "1048576"),
            ("blockTimeoutMs", "250"),
            ("exclude", "[]"),
        ];
        let pairs = keys.map(|(known, usual)| {
            format!("\"{known}\":{}", if known == key { value } else { usual })
        });
        format!("{{{}}}\n", pairs.join(","))
    };
    let far_ends = vec!["\"[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535\""; 17].join(",");
    let cases = [
        (String::new(), "it ends in its line"),
        ("{\"interface\":\"lo\"".to_owned(), "it ends in its line"),
        ("\n".to_owned(), "none that is known"),
        ("\u{0}\u{1b}[31m\n".to_owned(), "none that is known"),
        ("{\"interface\":\"lo\"}\n".to_owned(), "none that is known"),
        (request("snapBytes", "-1"), "none that is known"),
        (request("snapBytes", "128,\"promiscuous\":true"), "none that is known"),
        (request("exclude", "[\"collector.example:443\"]"), "none that is known"),
        (format!("{}{}", request("", ""), request("", "")), "none that is known"),
        ("[".repeat(2_000) + "\n", "none that is known"),
        ("x".repeat(2_100), "too long"),
        (request("snapBytes", "65535"), "64 to 1024"),
        (request("ringBytes", "1073741824"), "524288 to 67108864"),
        (request("blockTimeoutMs", "0"), "1 to 10000"),
        (request("exclude", &format!("[{far_ends}]")), "0 to 16"),
        (request("interface", "\"nosuch0\""), "no interface `nosuch0`"),
        (request("interface", "\"../../etc\""), "no interface `../../etc`"),
        (request("interface", "\"lo\\u0000\""), "its interface is no name"),
        (request("interface", "\"a-name-of-16-byte\""), "its interface is no name"),
    ];
    for (sent, why) in cases {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let opener = start(theirs);
        ours.write_all(sent.as_bytes()).unwrap();
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        ours.read_to_string(&mut answer).unwrap();
        let output = opener.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // What is out of its range will be so tomorrow.
        let kind = if why.contains(" to ") { "unfit" } else { "refused" };
        assert!(answer.starts_with(&format!("{{\"{kind}\":\"")), "{sent}: {answer}");
        assert!(answer.contains(why), "{sent}: {answer}");
        assert_eq!(answer.matches('\n').count(), 1, "{answer}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(why), "{sent}: {said}");
        assert!(!said.contains(['\u{0}', '\u{1b}']), "{said:?}");
        assert_eq!(output.status.code(), Some(1), "{sent}");
    }
}

#[test]
fn an_opener_that_nobody_asks_says_who_starts_it() {
    let output = Command::new(env!("CARGO_BIN_EXE_roomtone-agent"))
        .arg("open-tap")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("roomtone-tap.socket") && said.lines().count() == 1, "{said}");
}
