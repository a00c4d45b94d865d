//! What the agent costs, and a measure that makes an emulated processor comparable with a real one.
//!
//! The same work is done by the same program on the host and in the guest: of the kind that watching is, which reads
//! small files and takes their text apart. Emulation slows the kernel and a program by different factors (a tight loop
//! of arithmetic hardly at all); a cost is scaled by the smaller of the two, which makes it look dearer.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// CPU time that fixed pieces of work took, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gauge {
    /// Making a text like a status file's and taking it apart.
    pub text_ns: u64,
    /// Reading a small file of `/proc`.
    pub reading_ns: u64,
}

/// What one thread used since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// On a processor, in nanoseconds.
    pub cpu_ns: u64,
    /// How often it went to sleep by itself, and so was woken.
    pub sleeps: u64,
}

impl Gauge {
    /// Measures here.
    ///
    /// # Errors
    /// Where there is no `/proc`.
    pub fn take() -> Result<Self> {
        /// Some tens of ms on a real processor: long against a clock's step, short against a trial.
        const TEXTS: u64 = 50_000;
        const READINGS: u32 = 5_000;
        let started = cpu_ns();
        for at in 0..TEXTS {
            let text = format!("Name:\tdevices\nVmRSS:\t {at} kB\nhw_ptr: {at}\n");
            std::hint::black_box(value_of(std::hint::black_box(&text), "hw_ptr"));
        }
        let between = cpu_ns();
        for _ in 0..READINGS {
            std::hint::black_box(fs::read("/proc/self/schedstat").context("no /proc is here")?);
        }
        Ok(Self { text_ns: between - started, reading_ns: cpu_ns() - between })
    }

    /// How much slower than `host` this machine is: for texts, and for reading files.
    #[must_use]
    pub fn slower_than(self, host: Self) -> (f64, f64) {
        let ratio = |own: u64, other: u64| own as f64 / other.max(1) as f64;
        (ratio(self.text_ns, host.text_ns), ratio(self.reading_ns, host.reading_ns))
    }
}

/// CPU time of the calling thread.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// What the threads of a process used, each with its name.
///
/// # Errors
/// Where the process is gone.
pub fn usage(pid: u32) -> Result<Vec<(String, Usage)>> {
    let tasks = format!("/proc/{pid}/task");
    let mut used = Vec::new();
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot list {tasks}"))? {
        let task = task?.path();
        let read = |name: &str| fs::read_to_string(task.join(name));
        // A thread may end while its folder is read.
        if let (Ok(name), Ok(schedstat), Ok(status)) =
            (read("comm"), read("schedstat"), read("status"))
        {
            used.push((name.trim().to_owned(), parse(&schedstat, &status)?));
        }
    }
    Ok(used)
}

fn parse(schedstat: &str, status: &str) -> Result<Usage> {
    let cpu_ns = schedstat.split_whitespace().next().and_then(|word| word.parse().ok());
    let sleeps = value_of(status, "voluntary_ctxt_switches");
    Ok(Usage {
        cpu_ns: cpu_ns.context("schedstat has no time")?,
        sleeps: sleeps.context("status counts no switches")?,
    })
}

/// The memory of a process that is in RAM, in KiB: all of it, and what of it is the process's own and no file's.
///
/// # Errors
/// Where the process is gone.
pub fn resident_kib(pid: u32) -> Result<(u64, u64)> {
    let file = format!("/proc/{pid}/status");
    let status =
        fs::read_to_string(Path::new(&file)).with_context(|| format!("cannot read {file}"))?;
    let both = value_of(&status, "VmRSS").zip(value_of(&status, "RssAnon"));
    both.context("status tells no VmRSS and RssAnon")
}

fn value_of(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_as_the_kernel_writes_it() {
        let status = "Name:\tdevices\nVmRSS:\t    9120 kB\nvoluntary_ctxt_switches:\t41\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(
            parse("123456 789 50\n", status).unwrap(),
            Usage { cpu_ns: 123_456, sleeps: 41 }
        );
        assert_eq!(value_of(status, "VmRSS"), Some(9_120));
        assert!(parse("", status).is_err());
    }

    #[test]
    fn work_that_took_twice_as_long_is_a_factor_of_two() {
        let host = Gauge { text_ns: 10, reading_ns: 100 };
        let guest = Gauge { text_ns: 20, reading_ns: 700 };
        assert_eq!(guest.slower_than(host), (2.0, 7.0));
    }
}
