//! Our packages on a machine with systemd: installed, asked and removed as an operator does it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::wait_for;
use crate::process::output;

/// The services of both packages, and what each waits for.
pub const SERVICES: [&str; 2] = ["roomtone-collector", "roomtone-agent"];
/// Where each keeps what it has.
pub const STATES: [&str; 2] = ["/var/lib/roomtone-collector", "/var/lib/roomtone"];
/// From the arrival of what a service waits for until it is ready, on an emulated machine.
const ACTIVE_WITHIN: Duration = Duration::from_secs(90);

/// Installs or upgrades to the packages in a folder; returns what dpkg said.
///
/// # Errors
/// Where dpkg refuses.
pub fn install(folder: &str) -> Result<String> {
    let mut debs: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("cannot list {folder}"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    debs.sort();
    dpkg("--install", &debs)
}

/// `dpkg --remove` or `--purge` of both.
///
/// # Errors
/// Where dpkg refuses.
pub fn take_off(how: &str) -> Result<String> {
    dpkg(how, &SERVICES)
}

fn dpkg<S: AsRef<std::ffi::OsStr>>(how: &str, what: &[S]) -> Result<String> {
    let mut dpkg = Command::new("dpkg");
    dpkg.env("DEBIAN_FRONTEND", "noninteractive").arg(how);
    output(&mut dpkg, what)
}

/// The version of an installed package.
///
/// # Errors
/// Where it is not installed.
pub fn version(package: &str) -> Result<String> {
    output(&mut Command::new("dpkg-query"), ["--show", "--showformat=${Version}", package])
}

/// A property of a unit, as `systemctl show` has it.
///
/// # Errors
/// Where systemd does not answer.
pub fn property(unit: &str, name: &str) -> Result<String> {
    let said =
        output(&mut Command::new("systemctl"), ["show", "--property", name, "--value", unit])?;
    Ok(said.trim().to_owned())
}

/// Waits until a service is active, which says that it called itself ready.
///
/// # Errors
/// Where it does not get there; the error has what it said last.
pub fn wait_active(service: &str) -> Result<()> {
    wait_for(service, ACTIVE_WITHIN, || {
        Ok((property(service, "ActiveState")? == "active").then_some(()))
    })
    .with_context(|| {
        let journal = ["--no-pager", "--lines", "3", "--output", "cat", "--unit", service];
        output(&mut Command::new("journalctl"), journal).unwrap_or_default().replace('\n', " | ")
    })
}

/// Runs one of the installed programs as root; returns what it printed.
///
/// # Errors
/// Where it fails.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    output(&mut Command::new(program), arguments)
}

/// Enrols this machine: an authority and a config for the collector, a token, an identity for the agent. Returns what
/// `enroll` said. Each service is active then.
///
/// # Errors
/// Where a step fails.
pub fn enroll() -> Result<String> {
    run("roomtone-collector", &["init", "--address", "localhost:4433"])?;
    wait_active("roomtone-collector")?;
    let token = run("roomtone-collector", &["token", "create", "--site", "Oslo"])?;
    let mut child = Command::new("roomtone-agent")
        .args(["enroll", "--token", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start roomtone-agent")?;
    child.stdin.take().context("stdin was asked for")?.write_all(token.as_bytes())?;
    let done = child.wait_with_output()?;
    let said = [done.stdout, done.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    if !done.status.success() {
        bail!("enroll failed: {}", said.concat());
    }
    wait_active("roomtone-agent")?;
    Ok(said.concat())
}

/// Whether this machine has an identity.
#[must_use]
pub fn is_enrolled() -> bool {
    Path::new(STATES[1]).join("identity/endpoint.pem").exists()
}

/// Whether both packages are installed.
#[must_use]
pub fn is_installed() -> bool {
    SERVICES.iter().all(|package| version(package).is_ok_and(|version| !version.is_empty()))
}

/// The exposure that `systemd-analyze security` gives a unit, 0 to 10.
///
/// # Errors
/// Where it gives none.
pub fn exposure(unit: &str) -> Result<f64> {
    let said = output(&mut Command::new("systemd-analyze"), ["security", "--no-pager", unit])?;
    read_exposure(&said)
        .with_context(|| format!("no exposure of {unit} in what systemd-analyze said"))
}

/// `→ Overall exposure level for roomtone-agent.service: 1.5 OK`
fn read_exposure(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.contains("Overall exposure level"))?;
    line.split_once(".service: ")?.1.split_whitespace().next()?.parse().ok()
}

/// A number of `/proc/PID/status`, in its own unit; capabilities are hexadecimal.
///
/// # Errors
/// Where the process or the line is not there.
pub fn status(process: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    read_status(&text, name).with_context(|| format!("no {name} of process {process}"))
}

fn read_status(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let word = value.split_whitespace().next()?;
    let radix = if name.starts_with("Cap") { 16 } else { 10 };
    u64::from_str_radix(word, radix).ok()
}

/// What is left on the disk with our name in its path; what the trials brought themselves is not counted.
///
/// # Errors
/// Where the disk cannot be searched.
pub fn left_behind() -> Result<Vec<String>> {
    let mut find = Command::new("find");
    find.args(["/", "-xdev", "("]);
    for (at, own) in
        ["/proc", "/sys", "/debs", "/opt", "/share", "/tmp", "/modules"].iter().enumerate()
    {
        if at > 0 {
            find.arg("-o");
        }
        find.args(["-path", own]);
    }
    let said = output(&mut find, [")", "-prune", "-o", "-name", "*roomtone*", "-print"])?;
    let mut left: Vec<String> = said.lines().map(str::to_owned).collect();
    for (file, what) in [("/etc/passwd", "user"), ("/etc/group", "group")] {
        let text = fs::read_to_string(file)?;
        let ours = text.lines().filter(|line| line.starts_with("roomtone"));
        left.extend(ours.map(|line| format!("{what} {line}")));
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposure_is_the_last_lines_number() {
        let said = "✗ RemoveIPC=  leaves objects  0.1\n\n\
            → Overall exposure level for roomtone-agent.service: 1.5 OK 🙂\n";
        assert_eq!(read_exposure(said), Some(1.5));
        assert_eq!(read_exposure("Unit roomtone-agent.service not found."), None);
    }

    #[test]
    fn status_lines_are_numbers_of_their_own_base() {
        let text = "Name:\tagent\nVmRSS:\t    9748 kB\nCapEff:\t0000000000002000\n";
        assert_eq!(read_status(text, "VmRSS"), Some(9_748));
        assert_eq!(read_status(text, "CapEff"), Some(0x2000));
        assert_eq!(read_status(text, "VmHWM"), None);
    }
}
