//! Numbers out of what the kernel tells of the whole machine: `/proc/stat`, `/proc/meminfo`, `/proc/pressure/*`, the
//! counters of heat.
//!
//! A core: bytes in, numbers out. A text that has not the figure gives `None`, never 0; what is too much of one kind is
//! left out by its bound.

/// Cores that are told apart; the busiest is looked for among these.
pub const CORES_MAX: usize = 256;

/// CPU time since boot, in ticks of the kernel, whose length does not matter here: only shares are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ticks {
    /// Of work, and taken by the hypervisor.
    pub busy: u64,
    /// Of anything.
    pub whole: u64,
}

/// CPU time of a machine since boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CpuTimes {
    /// All cores together.
    pub all: Ticks,
    /// Each core with its number, ascending as the kernel tells them, [`CORES_MAX`] at most.
    pub cores: Vec<(u16, Ticks)>,
}

/// Reads `/proc/stat` (proc_stat(5)); `None` where the first line is not there.
#[must_use]
pub fn cpu_times(stat: &[u8]) -> Option<CpuTimes> {
    let mut times = None;
    for line in lines(stat) {
        let mut words = line.split_ascii_whitespace();
        let Some(number) = words.next().and_then(|name| name.strip_prefix("cpu")) else {
            // The lines of cores are the first ones.
            break;
        };
        let Some(ticks) = ticks(words) else { continue };
        if number.is_empty() {
            times = Some(CpuTimes { all: ticks, cores: Vec::new() });
        } else if let Some(times) = &mut times
            && let Ok(number) = number.parse()
            && times.cores.len() < CORES_MAX
        {
            times.cores.push((number, ticks));
        }
    }
    times
}

/// user nice system idle iowait irq softirq steal, and guests, whose time is in user already.
fn ticks<'a>(words: impl Iterator<Item = &'a str>) -> Option<Ticks> {
    let mut ticks = Ticks::default();
    let mut count = 0;
    for word in words.take(8) {
        let number: u64 = word.parse().ok()?;
        ticks.whole = ticks.whole.checked_add(number)?;
        // A core that waits for a disk is free to work.
        if !(3..=4).contains(&count) {
            ticks.busy += number;
        }
        count += 1;
    }
    // Before 2.5.41 there were four, which this agent's tap does not run on anyway.
    (count >= 4).then_some(ticks)
}

/// Memory in use, 0..=1000 of all, from `/proc/meminfo`: what is neither free nor can be had at once (proc_meminfo(5),
/// `MemAvailable`).
#[must_use]
pub fn memory_permille(meminfo: &[u8]) -> Option<u16> {
    let (mut total, mut available) = (None, None);
    for line in lines(meminfo) {
        let Some((name, value)) = line.split_once(':') else { continue };
        let slot = match name {
            "MemTotal" => &mut total,
            "MemAvailable" => &mut available,
            _ => continue,
        };
        *slot = value.trim().strip_suffix("kB").and_then(|kib| kib.trim().parse::<u64>().ok());
        if total.is_some() && available.is_some() {
            break;
        }
    }
    let total = total?;
    permille(total.checked_sub(available?)?, total)
}

/// Microseconds since boot in which some task waited, from a file of `/proc/pressure`
/// (Documentation/accounting/psi.rst).
#[must_use]
pub fn pressure_total_us(pressure: &[u8]) -> Option<u64> {
    let some = lines(pressure).find_map(|line| line.strip_prefix("some "))?;
    some.split_ascii_whitespace().find_map(|word| word.strip_prefix("total="))?.parse().ok()
}

/// A file with one number.
#[must_use]
pub fn number(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.trim().parse().ok()
}

/// The hottest of these, in 0.1 degrees; what no room's machine can be is a broken sensor and left out.
#[must_use]
pub fn hottest(celsius: impl IntoIterator<Item = f32>) -> Option<i16> {
    let plausible = celsius.into_iter().filter(|it| (CELSIUS_MIN..=CELSIUS_MAX).contains(it));
    plausible.map(|it| (it * 10.0).round() as i16).max()
}

/// The range of industrial parts begins at -40; processors shut themselves off at 100 to 125. A sensor that is not
/// connected reads below or above, or exactly 0, which is no room's.
const CELSIUS_MIN: f32 = 0.1;
const CELSIUS_MAX: f32 = 125.0;

/// `part` of `whole` in permille, to the nearest; `None` where there is no whole.
#[must_use]
pub fn permille(part: u64, whole: u64) -> Option<u16> {
    let (part, whole) = (u128::from(part.min(whole)), u128::from(whole));
    let rounded = (part * 1_000 + whole / 2).checked_div(whole)?;
    // No more than 1,000: the part is at most the whole.
    u16::try_from(rounded).ok()
}

/// The lines that are text; what the kernel writes here is ASCII.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| str::from_utf8(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &[u8] = b"cpu  10 1 5 100 20 2 3 4 7 0\ncpu0 6 1 3 40 10 1 2 2 7 0\n\
        cpu2 4 0 2 60 10 1 1 2 0 0\nintr 123 0 0\ncpu9 1 1 1 1\n";

    /// Busy: 10 + 1 + 5 + 2 + 3 + 4 = 25; with 100 idle and 20 waiting for a disk 145. Guests are in user already.
    #[test]
    fn waiting_for_a_disk_is_not_work_and_the_hypervisors_share_is() {
        let times = cpu_times(STAT).unwrap();
        assert_eq!(times.all, Ticks { busy: 25, whole: 145 });
        // 6+1+3+1+2+2 = 15 of 65; 4+0+2+1+1+2 = 10 of 80. What follows another line is no core.
        let cores = [(0, Ticks { busy: 15, whole: 65 }), (2, Ticks { busy: 10, whole: 80 })];
        assert_eq!(times.cores, cores);
    }

    #[test]
    fn cores_beyond_the_bound_are_left_out() {
        let mut text = b"cpu 1 1 1 1\n".to_vec();
        for core in 0..CORES_MAX + 10 {
            text.extend_from_slice(format!("cpu{core} 1 1 1 1\n").as_bytes());
        }
        assert_eq!(cpu_times(&text).unwrap().cores.len(), CORES_MAX);
    }

    #[test]
    fn memory_that_can_be_had_at_once_is_not_in_use() {
        let text = b"MemTotal:        8000 kB\nMemFree:  100 kB\nMemAvailable:    6000 kB\n";
        // 2,000 of 8,000.
        assert_eq!(memory_permille(text), Some(250));
        assert_eq!(memory_permille(b"MemTotal: 8000 kB\nMemFree: 100 kB\n"), None);
        assert_eq!(memory_permille(b"MemTotal: 0 kB\nMemAvailable: 0 kB\n"), None);
        assert_eq!(memory_permille(b"MemTotal: 5 kB\nMemAvailable: 6 kB\n"), None);
    }

    #[test]
    fn pressure_is_the_total_of_some() {
        let text = b"some avg10=0.00 avg60=0.12 avg300=0.05 total=1234567\n\
            full avg10=0.00 avg60=0.00 avg300=0.00 total=99\n";
        assert_eq!(pressure_total_us(text), Some(1_234_567));
        assert_eq!(pressure_total_us(b"full avg10=0.00 total=99\n"), None);
        assert_eq!(pressure_total_us(b"some total=-1\n"), None);
    }

    #[test]
    fn sensor_that_is_not_connected_is_not_the_hottest() {
        assert_eq!(hottest([41.25, 65_261.8, -273.0, 38.0, f32::NAN, 0.0]), Some(413));
        assert_eq!(hottest([0.0, f32::NAN]), None);
        assert_eq!(hottest([125.0, 125.1]), Some(1_250));
    }

    #[test]
    fn share_of_nothing_is_unknown_and_no_share_exceeds_its_whole() {
        assert_eq!(permille(0, 0), None);
        assert_eq!(permille(7, 3), Some(1_000));
        // 0.5 permille rounds up: 1 of 2,000.
        assert_eq!(permille(1, 2_000), Some(1));
        assert_eq!(permille(u64::MAX, u64::MAX), Some(1_000));
    }

    #[test]
    fn texts_without_the_figure_give_none() {
        for text in [b"".as_slice(), b"\n", b"cpu\n", b"cpu 1 2 3\n", b"cpu x\n", b"\xff\xfe\n"] {
            assert_eq!(cpu_times(text), None, "{text:?}");
            assert_eq!(memory_permille(text), None);
            assert_eq!(pressure_total_us(text), None);
            assert_eq!(number(text), None);
        }
        let beyond = format!("cpu {} 1 1 1\n", u64::MAX);
        assert_eq!(cpu_times(beyond.as_bytes()), None);
    }
}
