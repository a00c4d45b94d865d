//! What the kernel showed of a direction over time: evidence for whoever asks why the agent judged as it did.
//!
//! A thread reads the files that the agent reads, five times as often, and notes how long each reading took: a
//! reading that blocks would blind the agent too.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::sound::Status;
use super::wall_ms;

/// A running trace; ended when dropped.
#[derive(Debug)]
pub struct Trace {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How often it reads.
const READ_EVERY: Duration = Duration::from_millis(50);

impl Trace {
    /// Traces the files of `folder`, such as `/proc/asound/Card/pcm0c/sub0`, into `file`.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn start(folder: PathBuf, file: &Path) -> Result<Self> {
        let out = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        let mut out = BufWriter::new(out);
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("trace".to_owned()).spawn(move || {
            let _ = writeln!(out, "wall ms: state owner pointer; hw_params; ms of both readings");
            let mut due = Instant::now();
            loop {
                let _ = writeln!(out, "{}", look(&folder));
                due = (due + READ_EVERY).max(Instant::now());
                let wait = due.saturating_duration_since(Instant::now());
                if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            let _ = out.flush();
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // A closed channel is the word to end.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Nothing of value is lost with a trace.
            let _ = thread.join();
        }
    }
}

/// One line.
fn look(folder: &Path) -> String {
    let at = wall_ms();
    let (status, status_ms) = timed(&folder.join("status"));
    let (params, params_ms) = timed(&folder.join("hw_params"));
    let status = match status {
        None => "gone - -".to_owned(),
        Some(text) => {
            let Status { state, pointer, owner } = Status::parse(&text);
            let owner = owner.map_or("-".to_owned(), |owner| owner.to_string());
            format!("{state} {owner} {pointer}")
        }
    };
    let params = params.as_deref().and_then(|text| text.lines().next()).unwrap_or("gone");
    format!("{at:.1}: {status}; {params}; {status_ms:.1} {params_ms:.1}")
}

fn timed(file: &Path) -> (Option<String>, f64) {
    let started = Instant::now();
    let text = fs::read_to_string(file).ok();
    (text, started.elapsed().as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_tells_what_the_kernel_showed_and_that_a_card_left() {
        let folder = tempfile::tempdir().unwrap();
        let sub = folder.path().join("sub0");
        assert!(look(&sub).contains(": gone - -; gone; "));
        fs::create_dir(&sub).unwrap();
        fs::write(sub.join("status"), "state: RUNNING\nowner_pid   : 7\nhw_ptr      : 480\n")
            .unwrap();
        fs::write(sub.join("hw_params"), "access: MMAP_INTERLEAVED\nformat: S16_LE\n").unwrap();
        assert!(look(&sub).contains(": RUNNING 7 480; access: MMAP_INTERLEAVED; "));
    }

    #[test]
    fn trace_is_whole_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trace.txt");
        drop(Trace::start(folder.path().to_owned(), &file).unwrap());
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.lines().count() >= 2 && text.ends_with('\n'));
    }
}
