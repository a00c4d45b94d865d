//! Two hosts on one machine: network namespaces joined by a veth pair. Needs root.

use std::process::Command;

use anyhow::Result;

use super::process::output;

/// Two namespaces; gone when dropped.
#[derive(Debug)]
pub struct TwoHosts {
    names: [String; 2],
}

impl TwoHosts {
    /// The hosts' addresses, in the order of the names.
    pub const ADDRESSES: [&'static str; 2] = ["10.77.91.1", "10.77.91.2"];

    /// Makes the namespaces; `None` without the right to, which is said on stdout and counts as not run.
    ///
    /// # Errors
    /// Where `ip` fails although it may.
    pub fn make(label: &str) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            println!("not run: making network namespaces needs root");
            return Ok(None);
        }
        let id = std::process::id();
        let hosts = Self { names: ["a", "b"].map(|end| format!("rt-{label}-{id}-{end}")) };
        let [a, b] = [hosts.name(0), hosts.name(1)];
        ip(&["netns", "add", a])?;
        ip(&["netns", "add", b])?;
        ip(&["link", "add", "rt0", "netns", a, "type", "veth", "peer", "name", "rt0", "netns", b])?;
        for (name, address) in [a, b].into_iter().zip(Self::ADDRESSES) {
            let address = format!("{address}/24");
            ip(&["-n", name, "address", "add", &address, "dev", "rt0"])?;
            ip(&["-n", name, "link", "set", "rt0", "up"])?;
            ip(&["-n", name, "link", "set", "lo", "up"])?;
        }
        Ok(Some(hosts))
    }

    /// Impairs what `host` sends: words of `tc-netem(8)`, such as `delay 40ms`.
    ///
    /// # Errors
    /// Where the kernel lacks netem or does not know the words.
    pub fn impair(&self, host: usize, words: &[&str]) -> Result<()> {
        let mut tc = Command::new("tc");
        tc.args(["-n", self.name(host), "qdisc", "replace", "dev", "rt0", "root", "netem"]);
        output(&mut tc, words).map(drop)
    }

    /// The name of host 0 or 1.
    #[must_use]
    pub fn name(&self, host: usize) -> &str {
        &self.names[host]
    }

    /// What to put before a command line, so that it runs on that host.
    #[must_use]
    pub fn prefix(&self, host: usize) -> [&str; 4] {
        ["ip", "netns", "exec", self.name(host)]
    }
}

impl Drop for TwoHosts {
    fn drop(&mut self) {
        for name in &self.names {
            // The veth pair goes with its namespaces; one that was never made is gone already.
            let _ = ip(&["netns", "del", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    output(&mut Command::new("ip"), arguments).map(drop)
}
