//! What this process takes and what it may take, read from the kernel; what the wall clock is worth, from the files of
//! whoever keeps it.
//!
//! By hand: resident memory and CPU time take 4 us and two lines, with the crate sysinfo 9 us and 110 kB of code.
//! adjtimex(2) is not asked: the service's own filter bars it with all calls that could set a clock. Whatever cannot
//! be read is unknown, never an error.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use roomtone_protocol::health::ClockState;

use super::Ceilings;
use crate::clock::system;

/// Resident memory of this process in KiB; 0 where /proc is not there.
#[must_use]
pub fn resident_kib() -> u32 {
    resident_in(&read(Path::new("/proc/self/status"))).unwrap_or(0)
}

/// CPU time of this process, all threads, in milliseconds.
#[must_use]
pub fn cpu_ms() -> u64 {
    u64::try_from(system::cpu_time().as_millis()).unwrap_or(u64::MAX)
}

/// Where the control group stops this process; of the service's unit where it says nothing.
#[must_use]
pub fn ceilings(root: &Path) -> Ceilings {
    let groups = read(&root.join("proc/self/cgroup"));
    let Some(group) = group_in(&groups) else {
        return Ceilings::default();
    };
    let folder = root.join("sys/fs/cgroup").join(group.trim_start_matches('/'));
    let limit = |name| number_in(&read(&folder.join(name)));
    let Ceilings { memory_bytes, cpu_mille } = Ceilings::default();
    Ceilings {
        memory_bytes: limit("memory.high").or_else(|| limit("memory.max")).unwrap_or(memory_bytes),
        cpu_mille: quota_in(&read(&folder.join("cpu.max"))).unwrap_or(cpu_mille),
    }
}

/// What systemd-timesyncd says; whether another daemon keeps the clock in step only its own tools tell.
#[must_use]
pub fn clock_state(root: &Path) -> ClockState {
    let folder = root.join("run/systemd/timesync");
    if folder.join("synchronized").exists() {
        ClockState::Synchronised
    } else if folder.is_dir() {
        ClockState::Unsynchronised
    } else {
        ClockState::Unknown
    }
}

/// `VmRSS:     9728 kB`, proc_pid_status(5).
fn resident_in(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// `0::/system.slice/roomtone-agent.service`, cgroups(7); only the second version has one such line.
fn group_in(cgroup: &str) -> Option<&str> {
    let group = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    (!group.split('/').any(|part| part == "..")).then_some(group)
}

/// A number, or `max` for none.
fn number_in(limit: &str) -> Option<u64> {
    limit.trim().parse().ok().filter(|number| *number > 0)
}

/// `20000 100000`: of each period, in microseconds, or `max 100000`.
fn quota_in(cpu: &str) -> Option<u64> {
    let (quota, period) = cpu.trim().split_once(' ')?;
    let (quota, period) = (number_in(quota)?, number_in(period)?);
    Some((quota.saturating_mul(1_000) / period).max(1))
}

/// At most 4 KiB of a file, which is all of each of these; nothing where it cannot be read.
fn read(path: &Path) -> String {
    let mut text = Vec::new();
    let file = File::open(path);
    let read = file.and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text));
    read.map(|_| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

const FILE_BYTES_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn this_process_has_memory_and_uses_cpu() {
        assert!(resident_kib() > 1_000);
        let before = cpu_ms();
        let mut sum = 0u64;
        while cpu_ms() < before + 20 {
            sum = sum.wrapping_add(std::hint::black_box(sum) ^ 1);
        }
    }

    #[test]
    fn ceilings_are_those_of_the_control_group_or_of_the_unit() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(ceilings(root.path()), Ceilings::default());
        let group = root.path().join("sys/fs/cgroup/system.slice/roomtone-agent.service");
        fs::create_dir_all(&group).unwrap();
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        let line = "0::/system.slice/roomtone-agent.service\n";
        fs::write(root.path().join("proc/self/cgroup"), line).unwrap();
        for (name, text) in
            [("memory.high", "max\n"), ("memory.max", "100663296\n"), ("cpu.max", "20000 100000\n")]
        {
            fs::write(group.join(name), text).unwrap();
        }
        let expected = Ceilings { memory_bytes: 96 << 20, cpu_mille: 200 };
        assert_eq!(ceilings(root.path()), expected);
        fs::write(group.join("memory.high"), "67108864\n").unwrap();
        fs::write(group.join("cpu.max"), "max 100000\n").unwrap();
        assert_eq!(ceilings(root.path()), Ceilings::default());
    }

    #[test]
    fn what_is_no_number_is_no_limit() {
        for text in ["", "max", "-1", "0", "1e9", "18446744073709551616"] {
            assert_eq!(number_in(text), None, "{text}");
        }
        for text in ["", "20000", "max 100000", "20000 0", "a b"] {
            assert_eq!(quota_in(text), None, "{text}");
        }
        assert_eq!(quota_in("150000 100000"), Some(1_500));
        assert_eq!(group_in("0::/../../etc\n"), None);
        assert_eq!(resident_in("VmRSS:\t    9728 kB\n"), Some(9_728));
        assert_eq!(resident_in("VmRSS:\t    99999999999 kB\n"), None);
    }

    #[test]
    fn clock_is_as_timesyncd_says() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(clock_state(root.path()), ClockState::Unknown);
        let folder = root.path().join("run/systemd/timesync");
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(clock_state(root.path()), ClockState::Unsynchronised);
        fs::write(folder.join("synchronized"), "").unwrap();
        assert_eq!(clock_state(root.path()), ClockState::Synchronised);
    }
}
