//! What is done to a device: by the headset made of software, or by a person who is asked to.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{wait_for, wall_ms};
use crate::headset::serve;
use crate::pair;
use crate::process::Running;

/// Whose hands.
#[derive(Debug)]
pub struct Hands {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Software {
        socket: PathBuf,
        /// Ends with the stage.
        _headset: Running,
    },
    Person,
    Nobody,
}

/// Names of what a person can do, as [`Hands::tell`] knows them, and how to ask.
const PROMPTS: [(&str, &str); 3] = [
    ("unplug", "unplug the device now"),
    ("plug", "plug the device again now"),
    ("button", "press the mute button of the device now"),
];

/// How long the headset may take to serve.
const SERVES_WITHIN: Duration = Duration::from_secs(15);

impl Hands {
    /// Starts the headset under the name `product`.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn software(state: &Path, product: &str) -> Result<Self> {
        Self::on_port(state, product, "0", "headset")
    }

    /// Starts a second headset beside it.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn second(state: &Path, product: &str) -> Result<Self> {
        Self::on_port(state, product, "1", "second-headset")
    }

    fn on_port(state: &Path, product: &str, port: &str, name: &str) -> Result<Self> {
        let socket = state.join(name).with_extension("sock");
        // One that was killed left its socket.
        let _ = std::fs::remove_file(&socket);
        let mut command = Command::new(pair::beside("roomtone-headset")?);
        command.args(["serve", "--product", product, "--port", port, "--serial", name, "--socket"]);
        command.arg(&socket);
        let log = state.join(name).with_extension("log");
        let headset = Running::start("the headset", &mut command, &log)?;
        // The socket's name is there before it listens.
        wait_for("the headset's answer", SERVES_WITHIN, || Ok(serve::tell(&socket, "stat").ok()))?;
        Ok(Self { kind: Kind::Software { socket, _headset: headset } })
    }

    /// A person's hands, if there is one.
    #[must_use]
    pub fn persons(attended: bool) -> Self {
        Self { kind: if attended { Kind::Person } else { Kind::Nobody } }
    }

    /// Does something; returns the wall time at which it took effect, in ms.
    ///
    /// # Errors
    /// Where these hands cannot do that.
    pub fn tell(&mut self, command: &str) -> Result<f64> {
        match &self.kind {
            Kind::Software { socket, .. } => {
                serve::tell(socket, command)?["atMs"].as_f64().context("the headset told no time")
            }
            Kind::Person => {
                let prompt = PROMPTS.iter().find(|(name, _)| *name == command);
                let Some((_, prompt)) = prompt else { bail!("nobody can {command} by hand") };
                println!(">>> {prompt}, then press Enter");
                std::io::stdin().lock().read_line(&mut String::new())?;
                Ok(wall_ms())
            }
            Kind::Nobody => bail!("nobody is there to {command}"),
        }
    }

    /// The headset's counters; they begin anew.
    ///
    /// # Errors
    /// Where the device has no counters.
    pub fn stat(&mut self) -> Result<Value> {
        match &self.kind {
            Kind::Software { socket, .. } => serve::tell(socket, "stat"),
            Kind::Person | Kind::Nobody => bail!("a bought device does not tell what it got"),
        }
    }

    /// Ends all faults and mutes, and plugs what is unplugged.
    ///
    /// # Errors
    /// Where the headset does not obey.
    pub fn mend(&mut self) -> Result<()> {
        let Kind::Software { socket, .. } = &self.kind else { return Ok(()) };
        serve::tell(socket, "resume")?;
        serve::tell(socket, "tone")?;
        let stat = serve::tell(socket, "stat")?;
        if stat["captureMuted"] == true {
            serve::tell(socket, "button")?;
        }
        if stat["plugged"] == false {
            serve::tell(socket, "plug")?;
        }
        Ok(())
    }
}
