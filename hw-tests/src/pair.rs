//! A collector and an agent on one machine, with certificates, configs, spool and store in one folder.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::process::{Running, output};

/// How long a program may take to be ready: a busy two-core machine and a debug build.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// What tells a collector's log that it listens.
const COLLECTOR_READY: &str = "ready";
/// What tells an agent's log that its tap is open.
const AGENT_READY: &str = "observing";
/// What tells an agent's log that the collector welcomed it.
const AGENT_LINKED: &str = "the collector takes records";

/// Where the programs lie and where they may write.
#[derive(Debug, Clone)]
pub struct Place {
    state: PathBuf,
    programs: PathBuf,
    /// The collector's config.
    config: PathBuf,
    /// Put before each command line, such as `ip netns exec NAME`.
    prefix: Vec<String>,
    apart: bool,
}

impl Place {
    /// A place whose programs lie beside this one.
    ///
    /// # Errors
    /// Where the folder cannot be made, or the programs were not built.
    pub fn new(state: &Path) -> Result<Self> {
        fs::create_dir_all(state).with_context(|| format!("cannot make {}", state.display()))?;
        let state = fs::canonicalize(state)?;
        let agent = beside("roomtone-agent")?;
        Ok(Self {
            programs: agent.parent().unwrap_or(Path::new("/")).to_owned(),
            config: state.join("collector.toml"),
            state,
            prefix: Vec::new(),
            apart: false,
        })
    }

    /// The programs and the collector's config as the packages have them; what is made here goes to `state`.
    #[must_use]
    pub fn installed(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
            programs: "/usr/bin".into(),
            config: "/etc/roomtone/collector.toml".into(),
            prefix: Vec::new(),
            apart: false,
        }
    }

    /// The same programs, started behind `prefix`.
    #[must_use]
    pub fn behind(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// The same programs, out of reach of the terminal's Ctrl-C: whoever started them ends them, in order.
    #[must_use]
    pub fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// The folder.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// A command line of one of the programs.
    #[must_use]
    pub fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = match self.prefix.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        if self.apart {
            command.process_group(0);
        }
        command
    }

    /// Asks the collector's own command line, as JSON.
    ///
    /// # Errors
    /// Where it fails or does not print JSON.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = self.program("roomtone-collector");
        command.args(arguments).arg("--json").arg("--config").arg(&self.config);
        let text = output(&mut command, [""; 0])?;
        serde_json::from_str(&text).context("the collector printed no JSON")
    }

    /// The calls that the collector knows, newest first, each with its intervals.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn calls(&self) -> Result<Vec<Value>> {
        let listed = self.ask(&["calls"])?;
        let ids = listed["calls"].as_array().context("the collector lists no calls")?;
        let mut calls = Vec::new();
        for id in ids.iter().filter_map(|call| call["id"].as_str()) {
            let answer = self.ask(&["call", id])?;
            let found = answer["calls"].as_array().context("the collector shows no call")?;
            calls.extend(found.iter().cloned());
        }
        Ok(calls)
    }

    /// Makes certificates, unless they are there already, and configs; `extra` is put behind the agent's.
    ///
    /// # Errors
    /// Where the collector cannot make them or a file cannot be written.
    pub fn prepare(&self, port: u16, extra: &str) -> Result<()> {
        let certificates = self.state.join("certificates");
        let mut make = self.program("roomtone-collector");
        make.args(["dev-certificates", "--endpoint-name", "this-machine", "--directory"]);
        let said = output(make.arg(&certificates), [""; 0])?;
        let endpoint = said
            .split(|c: char| !(c.is_ascii_hexdigit() || c == '-'))
            .find(|word| word.len() == 36 && word.matches('-').count() == 4)
            .context("the collector did not name the endpoint that it certified")?
            .to_owned();
        self.prepare_collector(port)?;
        // No trial meets another agent's socket, unless it asks for one of its own.
        let context = match extra.contains("[context]") {
            true => "",
            false => "\n[context]\nsocket = \"\"\n",
        };
        // The collector's port is known once it listens; until then the agent's config lacks it.
        let agent = format!(
            "[identity]\nendpoint = \"{endpoint}\"\n\
             certificate = \"certificates/endpoint-this-machine.pem\"\nkey = \"certificates/endpoint-this-machine.key\"\n\
             ca = \"certificates/ca.pem\"\n\n[spool]\ndirectory = \"spool\"\n{extra}{context}"
        );
        fs::write(self.state.join("agent.toml"), agent)?;
        Ok(())
    }

    /// Writes the collector's config; port 0 lets the kernel choose.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn prepare_collector(&self, port: u16) -> Result<()> {
        let collector = format!(
            "[listen]\naddress = \"127.0.0.1:{port}\"\n\n\
             [tls]\ncertificate = \"certificates/collector.pem\"\nkey = \"certificates/collector.key\"\n\
             client_ca = \"certificates/ca.pem\"\n\n[store]\ndirectory = \"store\"\n"
        );
        fs::write(self.state.join("collector.toml"), collector)?;
        Ok(())
    }

    /// Starts the collector; returns it and the address that it listens on.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub fn start_collector(&self) -> Result<(Running, String)> {
        let mut command = self.program("roomtone-collector");
        command.arg("serve").arg("--config").arg(self.state.join("collector.toml"));
        let mut collector =
            Running::start("the collector", &mut command, &self.state.join("collector.log"))?;
        let line = collector.wait_for(COLLECTOR_READY, READY_WITHIN)?;
        let address = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("address="))
            .context("the collector's ready line names no address")?
            .to_owned();
        Ok((collector, address))
    }

    /// Starts the agent; returns it with its tap open. `linked` waits for the collector's welcome too.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub fn start_agent(&self, collector: &str, linked: bool) -> Result<Running> {
        let file = self.state.join("agent.toml");
        let rest = fs::read_to_string(&file)?;
        let rest = rest.split_once("[identity]").map_or("", |(_, rest)| rest);
        fs::write(&file, format!("[collector]\naddress = \"{collector}\"\n\n[identity]{rest}"))?;
        let mut command = self.program("roomtone-agent");
        command.arg("run").arg("--config").arg(&file);
        let mut agent = Running::start("the agent", &mut command, &self.state.join("agent.log"))?;
        agent.wait_for(AGENT_READY, READY_WITHIN)?;
        if linked {
            agent.wait_for(AGENT_LINKED, READY_WITHIN)?;
        }
        Ok(agent)
    }
}

/// A program of ours that lies beside this one, or in the folder above, as for cargo's tests.
///
/// # Errors
/// Where it was not built.
pub fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("a running program has a path")?;
    let mut folders = own.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    folders.find(|path| path.is_file()).with_context(|| {
        format!("no {name} beside {}: run `cargo build --workspace` first", own.display())
    })
}
