//! What must hold for any text that the kernel could tell of a machine, before and after an interval: no share exceeds
//! its whole, and what is not told is not 0.

use roomtone_agent::clock::{Moment, WallOffset};
use roomtone_agent::host::course::{Course, Look};
use roomtone_agent::host::figures::{
    CORES_MAX, cpu_times, hottest, memory_permille, number, pressure_total_us,
};
use roomtone_agent::network::carrier::{devtype, speed_mbps};

/// Input: a file before and one after, each in place of all files, parted by a zero.
pub(crate) fn body(input: &[u8]) {
    let at = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (before, after) = (&input[..at], input.get(at + 1..).unwrap_or_default());
    let mut course = Course::default();
    let (early, late) = (Moment::ORIGIN, Moment::from_nanos(10_000_000_000));
    assert_eq!(course.handle_look(look(before), early, WallOffset::NONE), None);
    let seen = look(after);
    let (is_told, cores) = (seen.cpu.is_some() && seen.memory_permille.is_some(), &seen.cpu);
    assert!(cores.as_ref().is_none_or(|cpu| cpu.cores.len() <= CORES_MAX));
    let Some(interval) = course.handle_look(seen.clone(), late, WallOffset::NONE) else { return };
    assert!(is_told && interval.cpu_permille <= 1_000 && interval.memory_permille <= 1_000);
    let detail = interval.detail.expect("this agent tells details");
    let shares = [
        interval.cpu_pressure_permille,
        detail.busiest_core_permille,
        detail.memory_pressure_permille,
        detail.io_pressure_permille,
    ];
    assert!(shares.into_iter().flatten().all(|share| share <= 1_000));
    assert_eq!(detail.is_throttled.is_some(), number(before).is_some() && number(after).is_some());
}

fn look(file: &[u8]) -> Look {
    assert!(devtype(file).len() <= file.len());
    assert_ne!(speed_mbps(file), Some(0));
    let of_float = file.first_chunk().map(|bytes| f32::from_le_bytes(*bytes));
    Look {
        cpu: cpu_times(file),
        memory_permille: memory_permille(file),
        pressure_us: [pressure_total_us(file); 3],
        temperature_deci_celsius: hottest(of_float),
        throttles: number(file),
        wifi_signal_dbm: None,
    }
}
