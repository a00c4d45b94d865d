//! Looks at the machine: reads the kernel's files, and its sensors through the crate sysinfo.
//!
//! A shell: what cannot be read is not there, and [`super::figures`] knows what a text says. By hand but for the
//! sensors: of `/proc` sysinfo would read every core's clock and every process's state along with what is wanted here;
//! hwmon's folders, with chips that name and number their inputs each in a way of its own, are what it is good at.
//! Sensors are looked for once and read each time: one that is plugged in later is found at the next start.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sysinfo::Components;

use super::course::Look;
use super::figures::{cpu_times, hottest, memory_permille, number, pressure_total_us};

/// All cores of a large machine stand in the first 32 KiB of `/proc/stat`: 256 lines of at most 128 bytes.
const FILE_BYTES_MAX: u64 = 32 * 1024;
/// Cores whose counter of heat is read; those of one package slow down together.
const THROTTLES_MAX: u32 = 32;

/// See the head of this file.
pub struct Machine {
    root: PathBuf,
    /// `None` where the machine shows no sensors.
    components: Option<Components>,
    /// The counters of heat that this machine has.
    throttles: Vec<PathBuf>,
}

impl Machine {
    /// Looks for what does not change; `root` is `/` outside tests.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let counters = (0..THROTTLES_MAX).flat_map(|core| {
            let folder = root.join(format!("sys/devices/system/cpu/cpu{core}/thermal_throttle"));
            ["core_throttle_count", "package_throttle_count"].map(|name| folder.join(name))
        });
        Self {
            root: root.to_owned(),
            components: Components::new_with_refreshed_list().ok(),
            throttles: counters.filter(|file| file.is_file()).collect(),
        }
    }

    /// Everything but the Wi-Fi's signal, which is the network's to tell.
    pub fn look(&mut self) -> Look {
        let pressure = |of: &str| pressure_total_us(&self.read(&format!("proc/pressure/{of}")));
        Look {
            cpu: cpu_times(&self.read("proc/stat")),
            memory_permille: memory_permille(&self.read("proc/meminfo")),
            pressure_us: [pressure("cpu"), pressure("memory"), pressure("io")],
            temperature_deci_celsius: self.temperature(),
            throttles: self.throttles(),
            wifi_signal_dbm: None,
        }
    }

    fn temperature(&mut self) -> Option<i16> {
        // One by one: a refresh of the list would read names and limits, six files of each, along with the figure.
        let temperatures = self.components.as_mut()?.iter_mut().filter_map(|component| {
            component.refresh();
            component.temperature()
        });
        hottest(temperatures)
    }

    /// The sum of all counters; `None` where the machine has none.
    fn throttles(&self) -> Option<u64> {
        let counts = self.throttles.iter().filter_map(|file| number(&read(file)));
        counts.reduce(u64::saturating_add)
    }

    fn read(&self, file: &str) -> Vec<u8> {
        read(&self.root.join(file))
    }
}

fn read(file: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|it| it.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map(|_| bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn this_machine_tells_its_load() {
        let look = Machine::new(Path::new("/")).look();
        let cpu = look.cpu.unwrap();
        assert!(cpu.all.busy > 0 && cpu.all.busy <= cpu.all.whole && !cpu.cores.is_empty());
        assert!(look.memory_permille.is_some_and(|it| it > 0 && it <= 1_000));
    }

    #[test]
    fn machine_without_files_tells_nothing() {
        let root = tempfile::tempdir().unwrap();
        let mut look = Machine::new(root.path()).look();
        // Of sensors sysinfo knows one place only, this machine's own.
        look.temperature_deci_celsius = None;
        assert_eq!(look, Look::default());
    }

    #[test]
    fn counters_of_heat_are_summed_up() {
        let root = tempfile::tempdir().unwrap();
        for (core, count) in [(0, "3\n"), (2, "4\n")] {
            let folder = format!("sys/devices/system/cpu/cpu{core}/thermal_throttle");
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("core_throttle_count"), count).unwrap();
        }
        assert_eq!(Machine::new(root.path()).look().throttles, Some(7));
    }
}
