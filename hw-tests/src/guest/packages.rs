//! The Debian packages that a guest is made of: found by apt, kept in the cache, unpacked, never installed.
//!
//! A tree in the cache is named by the check sums of its packages: the same packages are the same tree, and it is
//! used without asking anybody. What the host has installed already is used where it lies.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::output;

/// What the host may have and what is fetched, with all it needs, where it has not.
/// `xz-utils` because busybox knows no BCJ filter, with which kernels are packed; `irtt` because a path is measured by
/// another's word too.
const TOOLS: [&str; 5] = ["qemu-system-x86", "busybox-static", "alsa-utils", "xz-utils", "irtt"];
/// What is fetched even where the host has it: its files there may have been changed (`libasound2-plugins` makes
/// another default), or the host may have parts of it only.
const OWN: [&str; 4] = ["libasound2-data", SOUND_SERVER, "pulseaudio-utils", "libpulse0"];
/// The sound server of the guest. What it depends on is fetched as the tools are.
const SOUND_SERVER: &str = "pulseaudio";
/// What the sound server depends on by the package's word and no guest uses: plugins that bring all of ffmpeg.
const NOT_NEEDED: [&str; 1] = ["libasound2-plugins"];
/// The package that depends on the newest kernel.
const KERNEL: &str = "linux-image-amd64";

/// Where the sound server's modules lie, and the libraries that only they use; the version is Debian 12's.
pub const SERVER_MODULES: &str = "usr/lib/pulse-16.1+dfsg1/modules";

/// The unpacked packages.
#[derive(Debug)]
pub struct Packages {
    /// Their tree, as if installed there.
    pub root: PathBuf,
    /// The kernel's version, as in `lib/modules/VERSION`.
    pub kernel_version: String,
}

impl Packages {
    /// Finds, fetches and unpacks them into `cache`, as far as they are not there.
    ///
    /// # Errors
    /// Where this is no Debian of the right architecture, or apt cannot bring a package.
    pub fn fetch(cache: &Path) -> Result<Self> {
        let architecture = output(Command::new("dpkg").arg("--print-architecture"), [""; 0])
            .context("the virtual bench needs a Debian host")?;
        if architecture.trim() != "amd64" {
            bail!("the virtual bench knows amd64 only, this is {}", architecture.trim());
        }
        let kernel = match newest_kernel() {
            Ok(kernel) => kernel,
            // Images of Debian for containers come without lists of packages.
            Err(_) => {
                output(Command::new("apt-get").args(["update", "-qq"]), [""; 0])?;
                newest_kernel()?
            }
        };
        let mut names = vec![kernel.clone()];
        names.extend(OWN.map(str::to_owned));
        names.extend(missing_tools()?);
        // Some of the tools' needs may be fetched in any case.
        names.sort();
        names.dedup();
        let sources = sources(&names)?;

        let mut hasher = DefaultHasher::new();
        sources.hash(&mut hasher);
        let root = cache.join(format!("packages-{:016x}", hasher.finish()));
        if !root.is_dir() {
            unpack(&sources, &cache.join("debs"), &root)?;
            forget_others(cache, &sources, &root)?;
        }
        let kernel_version = kernel.trim_start_matches("linux-image-").to_owned();
        Ok(Self { root, kernel_version })
    }

    /// A file of the packages, or of the host where the package is installed there; `path` without a leading slash.
    ///
    /// # Errors
    /// Where neither has it.
    pub fn find(&self, path: &str) -> Result<PathBuf> {
        [self.root.join(path), Path::new("/").join(path)]
            .into_iter()
            .find(|found| found.exists())
            .with_context(|| format!("neither the packages nor the host have {path}"))
    }

    /// Where the packages' libraries lie, for `LD_LIBRARY_PATH`.
    #[must_use]
    pub fn libraries(&self) -> String {
        let folders = [
            "usr/lib/x86_64-linux-gnu",
            "lib/x86_64-linux-gnu",
            "usr/lib/x86_64-linux-gnu/pulseaudio",
            SERVER_MODULES,
        ];
        folders.map(|folder| self.root.join(folder).display().to_string()).join(":")
    }
}

fn newest_kernel() -> Result<String> {
    let said = output(Command::new("apt-cache").args(["depends", KERNEL]), [""; 0])?;
    said.lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .map(str::to_owned)
        .with_context(|| format!("apt knows no {KERNEL}"))
}

/// What an installation of the tools would bring; what it would remove does not matter here, as nothing is installed.
fn missing_tools() -> Result<Vec<String>> {
    let depends = output(Command::new("apt-cache").args(["depends", SOUND_SERVER]), [""; 0])?;
    let depends = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .filter(|name| !NOT_NEEDED.contains(name));
    let mut apt = Command::new("apt-get");
    apt.args(["install", "--simulate", "--yes", "--no-install-recommends"]).args(TOOLS);
    apt.args(depends);
    let said = output(&mut apt, [""; 0])?;
    let names = said.lines().filter_map(|line| line.strip_prefix("Inst "));
    Ok(names.filter_map(|rest| rest.split_whitespace().next()).map(str::to_owned).collect())
}

/// A package's file name and check sum.
fn sources(names: &[String]) -> Result<Vec<(String, String)>> {
    let mut apt = Command::new("apt-get");
    apt.args(["download", "--print-uris"]).args(names);
    let said = output(&mut apt, [""; 0])?;
    // 'URI' file size SHA256:sum
    let mut sources: Vec<_> = said
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let file = words.next()?.to_owned();
            Some((file, words.nth(1)?.to_owned()))
        })
        .collect();
    sources.sort();
    if sources.len() < names.len() {
        bail!("apt finds {} of {} packages: {}", sources.len(), names.len(), names.join(" "));
    }
    Ok(sources)
}

fn unpack(sources: &[(String, String)], debs: &Path, root: &Path) -> Result<()> {
    fs::create_dir_all(debs).with_context(|| format!("cannot make {}", debs.display()))?;
    let missing: Vec<_> =
        sources.iter().map(|(file, _)| file).filter(|file| !debs.join(file).is_file()).collect();
    if !missing.is_empty() {
        println!("guest      fetching {} Debian packages into {}", missing.len(), debs.display());
        // NAME_VERSION_ARCH.deb, the version with its colon as %3a.
        let names = missing.iter().map(|file| {
            let (name, rest) = file.split_once('_').unwrap_or((file, ""));
            let version = rest.split('_').next().unwrap_or_default().replace("%3a", ":");
            format!("{name}={version}")
        });
        let mut apt = Command::new("apt-get");
        // As root apt would hand the work to a user who may not write here.
        apt.args(["download", "-q", "-o", "APT::Sandbox::User=root"]).current_dir(debs);
        output(&mut apt, names)?;
    }
    // A tree becomes visible by its name when it is whole.
    let part = root.with_extension("part");
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(&part)?;
    for (file, _) in sources {
        output(Command::new("dpkg-deb").arg("--extract").arg(debs.join(file)).arg(&part), [""; 0])?;
    }
    fs::rename(&part, root).with_context(|| format!("cannot name {}", root.display()))?;
    Ok(())
}

/// Half a gigabyte a kernel: what no run will ask for again goes when a newer tree is there.
fn forget_others(cache: &Path, sources: &[(String, String)], root: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("packages-") && path != root {
            fs::remove_dir_all(&path)?;
        } else if name.starts_with("vmlinux-") {
            fs::remove_file(&path)?;
        }
    }
    for entry in fs::read_dir(cache.join("debs"))? {
        let path = entry?.path();
        if sources.iter().all(|(file, _)| path.file_name().is_none_or(|name| name != file.as_str()))
        {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
