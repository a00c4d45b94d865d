//! Runs a guest under QEMU, in software: no KVM, no network, no rights. Bounded in time, and gone with its owner.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::packages::Packages;

/// A guest that can be run.
#[derive(Debug)]
pub struct Machine {
    command: Command,
    serial: PathBuf,
}

/// The size of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Emulated processors.
    pub processors: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
}

/// A running guest; killed when dropped.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    serial: PathBuf,
    until: Instant,
}

/// The port at which the guest's first process leaves its exit status.
pub const EXIT_PORT: u16 = 0x501;

/// How often a guest is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Machine {
    /// A machine that boots `kernel` with `image` and sees `share` as a 9p file system of that name.
    ///
    /// # Errors
    /// Where QEMU is missing.
    pub fn new(
        packages: &Packages,
        size: Size,
        kernel: &Path,
        image: &Path,
        share: &Path,
    ) -> Result<Self> {
        let serial = share.join("serial.log");
        let mut command = Command::new(packages.find("usr/bin/qemu-system-x86_64")?);
        command
            .env("LD_LIBRARY_PATH", packages.libraries())
            .env("QEMU_MODULE_DIR", packages.find("usr/lib/x86_64-linux-gnu/qemu")?)
            .arg("-L")
            .arg(packages.find("usr/share/qemu")?)
            .arg("-L")
            .arg(packages.find("usr/share/seabios")?)
            .args(["-accel", "tcg,thread=multi", "-cpu", "max"])
            .args(["-smp", &size.processors.to_string(), "-m", &size.memory_mib.to_string()])
            .args(["-nodefaults", "-no-reboot", "-display", "none"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(image)
            .args(["-append", "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off nokaslr"])
            .args(["-audiodev", "none,id=sound", "-device", "intel-hda"])
            .args(["-device", "hda-duplex,audiodev=sound"])
            .arg("-serial")
            .arg(format!("file:{}", serial.display()))
            .arg("-virtfs")
            .arg(format!("local,path={},mount_tag=share,security_model=none", share.display()))
            .args(["-device", &format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=2")]);
        Ok(Self { command, serial })
    }

    /// Boots it; it may take `within` for all that it does.
    ///
    /// # Errors
    /// Where QEMU cannot be started.
    pub fn boot(mut self, within: Duration) -> Result<Guest> {
        let child = self
            .command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start QEMU")?;
        Ok(Guest { child, serial: self.serial, until: Instant::now() + within })
    }
}

impl Guest {
    /// Waits for its end, calling `look` meanwhile; returns what its first process left as exit status.
    ///
    /// # Errors
    /// Where it takes too long, panics, or QEMU refuses; the error has the last line of its console.
    pub fn wait(mut self, mut look: impl FnMut()) -> Result<u8> {
        let status = loop {
            look();
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if Instant::now() > self.until {
                bail!("the guest did not end in time and was killed; {}", self.last_words());
            }
            std::thread::sleep(LOOK_EVERY);
        };
        look();
        // isa-debug-exit ends QEMU with twice the status and one; everything else is even, 1 with words, or a signal.
        match status.code() {
            Some(code) if code % 2 == 1 => {
                let said = self.refusal();
                if !said.is_empty() {
                    bail!("QEMU refused: {said}");
                }
                u8::try_from(code / 2).context("an exit status is a byte")
            }
            Some(_) => bail!("the guest ended without a result; {}", self.last_words()),
            None => bail!("QEMU was killed ({status})"),
        }
    }

    /// What QEMU itself said last; it warns of nothing in a healthy run.
    fn refusal(&mut self) -> String {
        use std::io::Read;
        let mut said = String::new();
        if let Some(stderr) = self.child.stderr.take() {
            // QEMU has ended: what it said is all there and short.
            let _ = stderr.take(10_000).read_to_string(&mut said);
        }
        let mut lines = said.lines().filter(|line| !line.contains("warning:"));
        lines.next_back().unwrap_or_default().to_owned()
    }

    fn last_words(&self) -> String {
        let said = fs::read(&self.serial).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
        format!(
            "its console ends with {:?}, see {}",
            last.unwrap_or("nothing"),
            self.serial.display()
        )
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // One that has ended already is what was wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
