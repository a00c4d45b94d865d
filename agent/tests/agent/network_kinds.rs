//! Interfaces of a real kernel, in a network namespace of their own. Needs root and `ip`; says so where either is
//! missing, and which kinds of interfaces this kernel cannot make.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use roomtone_agent::network::Network;
use roomtone_protocol::id::CallId;
use roomtone_protocol::network::{ConnectionType, NetworkAttachment};
use roomtone_protocol::time::Stamp;

/// Set in the child that runs inside of the namespace.
const INSIDE: &str = "ROOMTONE_TEST_NAMESPACE";
const NAME: &str = "network_kinds::interfaces_of_a_kernel_are_told_apart";

/// A namespace that goes away with the test.
struct Namespace(String);

impl Namespace {
    fn ip(&self, line: &str) -> bool {
        let words = line.split(' ');
        let output = Command::new("ip").args(["-n", &self.0]).args(words).output();
        output.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn look(address: &str) -> Option<NetworkAttachment> {
    let address: IpAddr = address.parse().unwrap();
    let at = Stamp { wall_us: 0, uptime_us: 0 };
    Network::new(Path::new("/")).look(CallId(7), address, at)
}

#[test]
fn interfaces_of_a_kernel_are_told_apart() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    if !rustix::process::geteuid().is_root() {
        println!("not run: only root makes a network namespace");
        return;
    }
    let name = Namespace(format!("roomtone-test-{}", std::process::id()));
    let made = Command::new("ip").args(["netns", "add", &name.0]).output();
    if !made.is_ok_and(|made| made.status.success()) {
        println!("not run: `ip netns add` does not work here");
        return;
    }
    // Of each kind one, numbered; two ends of a cable, so that the first has a carrier.
    let kinds = [
        ("link add kind1 type veth peer name other1", 1),
        ("tuntap add kind2 mode tun", 2),
        ("tuntap add kind3 mode tap", 3),
        ("link add kind4 type vxlan id 5 dstport 4789", 4),
        ("link add kind5 type wireguard", 5),
        ("link add kind6 type dummy", 6),
    ];
    let mut made = Vec::new();
    for (line, number) in kinds {
        if !name.ip(line) {
            println!("not run in part: this kernel has no `ip {line}`");
            continue;
        }
        assert!(name.ip(&format!("address add 192.0.2.{number}/28 dev kind{number}")), "{line}");
        assert!(name.ip(&format!("link set kind{number} mtu 1300 up")), "{line}");
        made.push(number.to_string());
    }
    assert!(name.ip("link set other1 up"));
    assert!(name.ip("address add 2001:db8::7/56 dev kind1 nodad"));
    assert!(name.ip("route add default dev kind1"));
    assert!(name.ip("-6 route add default dev kind1"));
    // As VPNs do that leave the default route alone: two halves that go before it.
    assert!(name.ip("route add 128.0.0.0/1 dev kind2"));

    let exe = std::env::current_exe().unwrap();
    let output = Command::new("ip")
        .args(["netns", "exec", &name.0])
        .arg(exe)
        .args(["--exact", NAME, "--nocapture"])
        .env(INSIDE, made.join(" "))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("looked inside"), "{told}{wrong}");
}

fn inside() {
    let made = std::env::var(INSIDE).unwrap();
    for number in made.split(' ') {
        let seen = look(&format!("192.0.2.{number}")).expect("the address is there");
        let (connection, is_default_route) = match number {
            // The way to 198.41.0.4 is the longer of two: 128.0.0.0/1 of the tunnel.
            "1" | "6" => (ConnectionType::Wired, false),
            "2" => (ConnectionType::Tunnel, true),
            _ => (ConnectionType::Tunnel, false),
        };
        let is_vpn = connection == ConnectionType::Tunnel;
        let found = (seen.connection, seen.is_vpn, seen.is_default_route);
        assert_eq!(found, (connection, is_vpn, is_default_route), "{seen:?}");
        assert_eq!((seen.prefix, seen.mtu), (28, Some(1_300)), "{seen:?}");
        assert_eq!(seen.interface.as_str(), format!("kind{number}"));
    }
    let v6 = look("2001:db8::7").expect("the address is there");
    assert_eq!((v6.prefix, v6.is_default_route), (56, true), "{v6:?}");
    assert_eq!(look("192.0.2.99"), None);
    println!("looked inside");
}
