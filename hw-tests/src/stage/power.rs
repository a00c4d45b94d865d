//! Sleep of a machine, by the kernel's own test of suspending.
//!
//! What happens is a sleep that one device refuses after others have slept: the bus of the software headset does not
//! sleep with a device on it. A sleep that succeeds cannot be had in the guest, because its 9p transport does not
//! survive it (`9pnet_virtio` restores no queues). To a stream both are the same; to the kernel's statistics one is a
//! failure and the other a success.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result, bail};

/// Suspends devices, from the youngest on, until the bus refuses, and resumes them. Processors and clocks go on.
///
/// # Errors
/// Where the kernel has no such test (`CONFIG_PM_DEBUG`), or refuses for another reason.
pub fn sleep_devices() -> Result<()> {
    fs::write("/sys/power/pm_test", "devices").context("the kernel has no test of suspending")?;
    let slept = fs::write("/sys/power/state", "freeze");
    fs::write("/sys/power/pm_test", "none")?;
    match slept {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(()),
        Err(error) => bail!("the kernel did not suspend its devices: {error}"),
        Ok(()) => bail!("the machine slept although the headset's bus refuses"),
    }
}
