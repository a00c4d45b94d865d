//! What a service manager hears of the two programs, at the socket where systemd would listen.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use roomtone_hw_tests::netns::TwoHosts;
use roomtone_hw_tests::pair::Place;

const GUARD: Duration = Duration::from_secs(60);
/// A sign of life is due every second, a third of this; the collector looks every 5 s.
const WATCHDOG: &str = "WATCHDOG_USEC=3000000";

/// The manager's end, and the words behind which a program is told of it.
fn manager(folder: &Path, name: &str) -> (UnixDatagram, [String; 3]) {
    let path = folder.join(name);
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(GUARD)).unwrap();
    (socket, ["env".to_owned(), format!("NOTIFY_SOCKET={}", path.display()), WATCHDOG.to_owned()])
}

/// What is told, up to and with the first that begins with `last`.
fn told_until(socket: &UnixDatagram, last: &str) -> Vec<String> {
    let mut told = Vec::new();
    let mut buffer = [0; 512];
    while !told.last().is_some_and(|word: &String| word.starts_with(last)) {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| {
            panic!("{last:?} did not come ({error}), only {told:?}");
        });
        told.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
    }
    told
}

#[test]
fn service_manager_hears_that_both_are_ready_alive_and_stopping() {
    let Some(hosts) = TwoHosts::make("supervised").unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (collectors, of_collector) = manager(folder.path(), "collector.notify");
    let (agents, of_agent) = manager(folder.path(), "agent.notify");
    let place = Place::new(folder.path()).unwrap();
    let behind = |words: &[String; 3]| {
        let host = hosts.prefix(0);
        let words: Vec<&str> = host.into_iter().chain(words.iter().map(String::as_str)).collect();
        place.clone().behind(&words)
    };
    place.prepare(0, "").unwrap();
    let (collector, address) = behind(&of_collector).start_collector().unwrap();
    assert_eq!(told_until(&collectors, "READY"), ["READY=1"]);
    let agent = behind(&of_agent).start_agent(&address, true).unwrap();
    assert_eq!(told_until(&agents, "READY"), ["READY=1"]);
    told_until(&agents, "STATUS=observing, the collector takes records");
    // The first is said at once; the second only where the tap's thread, the store's writer, has answered meanwhile.
    for socket in [&agents, &collectors] {
        told_until(socket, "WATCHDOG=1");
        told_until(socket, "WATCHDOG=1");
    }
    agent.stop().unwrap();
    told_until(&agents, "STOPPING=1");
    collector.stop().unwrap();
    told_until(&collectors, "STOPPING=1");
}
