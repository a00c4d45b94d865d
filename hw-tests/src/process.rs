//! Child processes that end with their owner, and whose log lines can be waited for.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A running program of ours; asked to end by SIGTERM when dropped, and killed if it does not.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

/// How long a program may take to end when asked.
const END_WITHIN: Duration = Duration::from_secs(10);
/// Log lines that wait to be looked at; a program that gets ready says ten.
const LINES_MAX: usize = 1_024;
/// How often a program is looked after that is waited for.
const LOOKED_AFTER: Duration = Duration::from_millis(20);

impl Running {
    /// Starts a program; its stderr goes, line by line, to `log` and to those who wait for a line.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let mut file =
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut child = spawn(command.stderr(Stdio::piped()))?;
        let stderr = child.stderr.take().context("stderr was asked for")?;
        let (sender, lines) = mpsc::sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                use std::io::Write;
                // A log that cannot be written is no reason to stop the program that writes it.
                let _ = writeln!(file, "{line}");
                // Where nobody waits for a line, the file has it.
                let _ = sender.try_send(line);
            }
        });
        Ok(Self { name: name.to_owned(), child, lines, log: log.to_owned() })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a log line that contains `text` and returns it.
    ///
    /// # Errors
    /// Where the program ends first, or `within` is over.
    pub fn wait_for(&mut self, text: &str, within: Duration) -> Result<String> {
        let until = Instant::now() + within;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return Ok(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "{} did not say {text:?} within {within:?}; see {}",
                        self.name,
                        self.log.display()
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{} ended: {}", self.name, self.last_word())
                }
            }
        }
    }

    /// Sees whether it still runs.
    ///
    /// # Errors
    /// Where it has ended, with its last word.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}): {}", self.name, self.last_word()),
        }
    }

    fn last_word(&self) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        said.lines().last().unwrap_or("without a word").to_owned()
    }

    /// Kills it without warning, as a crash would.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end and waits for that.
    ///
    /// # Errors
    /// Where it does not end in time; it is killed then.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.end()
    }

    fn end(&mut self) -> Result<ExitStatus> {
        end(&mut self.child, &self.name)
    }
}

/// A child that is killed when dropped: for programs that have nothing to bring to an end.
#[derive(Debug)]
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // One that ended already is what was wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nobody is left to tell; a program that had ended already is what was wanted.
        let _ = self.end();
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    let child = command.stdin(Stdio::null()).spawn();
    child.with_context(|| format!("cannot start {:?}", command.get_program()))
}

/// Asks a child to end by SIGTERM, waits, and kills it where that does not help.
fn end(child: &mut Child, name: &str) -> Result<ExitStatus> {
    if let Some(status) = child.try_wait()? {
        return Ok(status);
    }
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::TERM)?;
    }
    let until = Instant::now() + END_WITHIN;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(LOOKED_AFTER);
    }
    child.kill()?;
    child.wait()?;
    bail!("{name} did not end within {END_WITHIN:?} and was killed")
}

/// Runs a program to its end, or, as soon as `meanwhile` says so, to the end that it is asked for. What it prints
/// into a pipe is passed on line by line.
///
/// # Errors Where it cannot be started or `meanwhile` fails; it has ended then.
pub fn run_while(
    command: &mut Command,
    mut meanwhile: impl FnMut() -> Result<bool>,
) -> Result<ExitStatus> {
    let mut child = spawn(command)?;
    let name = command.get_program().to_string_lossy().into_owned();
    if let Some(mut printed) = child.stdout.take() {
        // Ends with the child.
        std::thread::spawn(move || std::io::copy(&mut printed, &mut std::io::stdout()));
    }
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        match meanwhile() {
            Ok(true) => std::thread::sleep(LOOKED_AFTER),
            Ok(false) => return end(&mut child, &name),
            Err(error) => {
                end(&mut child, &name)?;
                return Err(error);
            }
        }
    }
}

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// Where it cannot be started or fails; the error has its last line on stderr.
pub fn output<S: AsRef<OsStr>>(
    command: &mut Command,
    arguments: impl IntoIterator<Item = S>,
) -> Result<String> {
    let done = command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!(
            "{:?} failed: {}",
            command.get_program(),
            said.lines().last().unwrap_or("without a word")
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
