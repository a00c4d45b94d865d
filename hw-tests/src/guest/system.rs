//! The files of a guest that is a whole Debian with systemd: what packages are installed on.
//!
//! ```text
//! mmdebstrap ─► tar ─► bsdtar ─► base.cpio (cache)      with what our packages depend on, and without them
//!                                    + overlay.cpio     kernel modules, both versions of our packages, the trials
//! ```
//! The kernel unpacks archives that follow each other into one file system.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::cpio::{Archive, Runs};
use super::image;
use super::packages::Packages;
use crate::process::output;

/// Debian 12, which is what both programs are built for.
const SUITE: &str = "bookworm";
/// What a room's machine has anyway, and what trials hold and watch devices with.
const INCLUDED: [&str; 7] =
    ["systemd-sysv", "udev", "dbus", "kmod", "alsa-utils", "iproute2", "procps"];
/// Nobody reads these in a guest, and they would be unpacked in emulation.
const LEFT_OUT: [&str; 3] = ["/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*"];
/// Our programs that are not in the packages.
const PROGRAMS: [&str; 2] = ["roomtone-headset", "roomtone-hw-tests"];
/// Where the guest has the packages to install first, and those to upgrade to.
pub const PACKAGES_FOLDERS: [&str; 2] = ["/debs/first", "/debs/next"];

const STAGE_UNIT: &str = include_str!("../../guest/stage.service");
const STAGE_SCRIPT: &str = include_str!("../../guest/stage.sh");
/// Units that only wait for somebody at a keyboard.
const MASKED: [&str; 3] = ["getty@tty1.service", "serial-getty@ttyS0.service", "apt-daily.timer"];

/// Both versions of our packages, on the host: `make deb` into a folder, the next revision into `next` in it.
#[derive(Debug)]
pub struct Debs([Vec<PathBuf>; 2]);

impl Debs {
    /// Finds them.
    ///
    /// # Errors
    /// Where one is missing.
    pub fn find(folder: &Path) -> Result<Self> {
        let of = |folder: PathBuf| -> Result<Vec<PathBuf>> {
            let debs: Vec<PathBuf> = image::entries(&folder)?
                .into_iter()
                .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
                .collect();
            if debs.len() != 2 {
                bail!(
                    "{} packages in {}, not two: run `make hw-test-fleet`",
                    debs.len(),
                    folder.display()
                );
            }
            Ok(debs)
        };
        Ok(Self([of(folder.to_owned())?, of(folder.join("next"))?]))
    }

    /// What they depend on.
    fn needs(&self) -> Result<Vec<String>> {
        let mut needs = Vec::new();
        for deb in &self.0[0] {
            let depends = output(Command::new("dpkg-deb").arg("--field").arg(deb), ["Depends"])?;
            let names = depends.split(',').filter_map(|one| one.split_whitespace().next());
            needs.extend(names.map(str::to_owned));
        }
        needs.sort();
        needs.dedup();
        Ok(needs)
    }
}

/// Writes the image for `debs` into `cache`, and returns its path.
///
/// # Errors
/// Where Debian's packages cannot be had or a file is missing.
pub fn build(packages: &Packages, programs: &Path, debs: &Debs, cache: &Path) -> Result<PathBuf> {
    let base = base(&debs.needs()?, cache)?;
    let image = cache.join("system.cpio");
    let mut file = File::create(&image)?;
    io::copy(&mut File::open(base)?, &mut file)?;
    io::copy(&mut overlay(packages, programs, debs)?.as_slice(), &mut file)?;
    Ok(image)
}

/// A Debian without our packages, by the list of what it has.
fn base(needs: &[String], cache: &Path) -> Result<PathBuf> {
    let mut include: Vec<&str> = INCLUDED.to_vec();
    include.extend(needs.iter().map(String::as_str));
    let include = include.join(",");
    let mut hasher = DefaultHasher::new();
    (SUITE, &include, LEFT_OUT).hash(&mut hasher);
    let base = cache.join(format!("system-{:016x}.cpio", hasher.finish()));
    if base.is_file() {
        return Ok(base);
    }
    println!("guest      making a Debian with systemd in {}", cache.display());
    let tree = cache.join("system.tar");
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--variant=minbase", &format!("--include={include}")]);
    mmdebstrap.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
    mmdebstrap.arg(SUITE).arg(&tree);
    // From where the host has its own packages.
    output(&mut mmdebstrap, sources()?)?;
    let part = base.with_extension("part");
    let mut bsdtar = Command::new("bsdtar");
    bsdtar.arg("--format=newc").arg("-cf").arg(&part);
    output(&mut bsdtar, [format!("@{}", tree.display())])?;
    fs::remove_file(&tree)?;
    fs::rename(&part, &base)?;
    Ok(base)
}

/// The host's lists of sources.
fn sources() -> Result<Vec<PathBuf>> {
    let mut found = image::entries(Path::new("/etc/apt/sources.list.d")).unwrap_or_default();
    found.retain(|path| {
        path.extension().is_some_and(|extension| extension == "list" || extension == "sources")
            && fs::read_to_string(path).is_ok_and(|text| text.contains(SUITE))
    });
    let list = PathBuf::from("/etc/apt/sources.list");
    found.extend(Some(list).filter(|path| fs::metadata(path).is_ok_and(|it| it.len() > 0)));
    if found.is_empty() {
        bail!("no list of sources in /etc/apt names {SUITE}");
    }
    Ok(found)
}

fn overlay(packages: &Packages, programs: &Path, debs: &Debs) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["debs", "debs/first", "debs/next", "modules", "opt/roomtone"] {
        archive.directory(folder);
    }
    archive.link("init", "/lib/systemd/systemd");
    for program in PROGRAMS {
        let path = programs.join(program);
        archive.file(&format!("opt/roomtone/{program}"), Runs::Yes, &image::read(&path)?);
    }
    archive.file("opt/roomtone/stage.sh", Runs::Yes, STAGE_SCRIPT.as_bytes());
    let units = "etc/systemd/system";
    archive.file(&format!("{units}/stage.service"), Runs::No, STAGE_UNIT.as_bytes());
    let wanted = format!("{units}/multi-user.target.wants");
    archive.directory(&wanted);
    archive.link(&format!("{wanted}/stage.service"), "../stage.service");
    for unit in MASKED {
        archive.link(&format!("{units}/{unit}"), "/dev/null");
    }
    archive.file("etc/hosts", Runs::No, b"127.0.0.1 localhost guest\n::1 localhost\n");
    for (debs, folder) in debs.0.iter().zip(PACKAGES_FOLDERS) {
        for deb in debs {
            let name = deb.file_name().unwrap_or_default().to_string_lossy();
            archive.file(&format!("{folder}/{name}"), Runs::No, &image::read(deb)?);
        }
    }
    image::add_modules(&mut archive, packages)?;
    Ok(archive.finish())
}
