//! What the programs say when they cannot: one clear line, the right exit code, no panic.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use roomtone_hw_tests::pair::Place;
use roomtone_hw_tests::process::Running;

fn run(mut command: Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code().expect("no signal ended it"), String::from_utf8(stderr).unwrap())
}

/// One line, of this program, without a panic, that has all of `words`.
fn assert_line(said: &(i32, String), code: i32, words: &[&str]) {
    let (exit, text) = said;
    assert_eq!(*exit, code, "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains("panicked"), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} in {text:?}");
    }
}

fn place(folder: &Path) -> Place {
    let place = Place::new(folder).unwrap();
    place.prepare(0, "").unwrap();
    place
}

fn agent(place: &Place, config: &Path) -> Command {
    let mut command = place.program("roomtone-agent");
    command.arg("run").arg("--config").arg(config);
    command
}

#[test]
fn unreadable_or_wrong_configs_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    let file = folder.path().join("wrong.toml");
    let table: [(&[u8], &str); 5] = [
        (b"[colector]\naddress = \"a:1\"\n", "did you mean"),
        (b"[collector\n", "wrong.toml"),
        (b"\xff\xfe", "UTF-8"),
        (b"", "collector.address"),
        (b"[collector]\naddress = 7\n", "collector.address"),
    ];
    for (text, word) in table {
        fs::write(&file, text).unwrap();
        assert_line(&run(agent(&place, &file)), 2, &[word]);
    }
    assert_line(&run(agent(&place, folder.path())), 2, &["directory"]);
    assert_line(&run(agent(&place, &folder.path().join("absent.toml"))), 2, &["absent.toml"]);
    let mut collector = place.program("roomtone-collector");
    fs::write(&file, "[listen]\nadress = \"[::]:1\"\n").unwrap();
    collector.args(["serve", "--config"]).arg(&file);
    assert_line(&run(collector), 2, &["address"]);
}

#[test]
fn port_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    place.prepare_collector(port).unwrap();
    let mut collector = place.program("roomtone-collector");
    collector.args(["serve", "--config"]).arg(folder.path().join("collector.toml"));
    let address = format!("127.0.0.1:{port}");
    assert_line(&run(collector), 1, &[&address, "in use"]);
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    for (program, arguments) in [
        ("roomtone-agent", &["analyze"][..]),
        ("roomtone-agent", &["rehearse", "--loss", "many"]),
        ("roomtone-agent", &["rehearse", "--loss", "90%"]),
        ("roomtone-collector", &["call"]),
        ("roomtone-collector", &["frobnicate"]),
    ] {
        let mut command = place.program(program);
        command.args(arguments);
        let (code, text) = run(command);
        assert_eq!(code, 2, "{program} {arguments:?}: {text}");
    }
}

#[test]
fn files_that_are_no_capture_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    let file = folder.path().join("file.pcap");
    let analyze = |file: &Path| {
        let mut command = place.program("roomtone-agent");
        command.arg("analyze").arg(file);
        run(command)
    };
    for content in [&b""[..], b"MZ\x90\x00\x03", b"\xd4\xc3\xb2\xa1\x02"] {
        fs::write(&file, content).unwrap();
        assert_line(&analyze(&file), 1, &["file.pcap", "capture"]);
    }
    assert_line(&analyze(folder.path()), 1, &["directory"]);
    assert_line(&analyze(&folder.path().join("absent")), 1, &["absent"]);
}

#[test]
fn missing_capability_is_named_with_its_cure() {
    if !rustix_is_root() {
        println!("not run: dropping the capability needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    let config = folder.path().join("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("[collector]\naddress = \"127.0.0.1:1\"\n\n{text}")).unwrap();
    let without =
        place.clone().behind(&["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"]);
    // It lives on: devices are watched meanwhile, and the tap is opened once it can be.
    let mut agent = Running::start(
        "the agent",
        without.program("roomtone-agent").arg("run").arg("--config").arg(&config),
        &folder.path().join("agent.log"),
    )
    .unwrap();
    let line = agent.wait_for("CAP_NET_RAW", Duration::from_secs(20)).unwrap();
    assert!(line.contains("setcap") && line.contains("WARN"), "{line}");
    agent.check().unwrap();
    agent.stop().unwrap();
}

fn rustix_is_root() -> bool {
    fs::metadata("/proc/self")
        .map(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
        .unwrap_or(false)
}

#[test]
fn certificate_of_another_authority_is_refused_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let ours = place(&folder.path().join("ours"));
    let theirs = place(&folder.path().join("theirs"));
    let (_collector, address) = ours.start_collector().unwrap();
    let mut agent = match theirs.start_agent(&address, false) {
        Ok(agent) => agent,
        Err(error) => panic!("{error:#}"),
    };
    let line = agent.wait_for("no link", Duration::from_secs(20)).unwrap();
    assert!(line.contains("certificate"), "{line}");
    let endpoints = ours.ask(&["endpoints"]).unwrap();
    assert_eq!(endpoints["endpoints"].as_array().map(Vec::len), Some(0), "nothing of it is stored");
}

#[test]
fn terminal_is_no_reason_to_panic() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    let config = folder.path().join("collector.toml");
    let (_serving, _) = place.start_collector().unwrap();
    // stderr of every other test is a pipe; people look at terminals. script(1) makes one.
    let collector = place.program("roomtone-collector").get_program().to_owned();
    let line = format!("{} calls --config {}", collector.display(), config.display());
    let said = Command::new("script").args(["-qefc", &line, "/dev/null"]).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && !text.contains("panicked"), "{text}");
}
