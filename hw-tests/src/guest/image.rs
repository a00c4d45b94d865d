//! The guest's files: an initramfs with busybox, kernel modules, sound tools and our programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cpio::{Archive, Runs};
use super::modules;
use super::packages::{self, Packages};
use crate::process::output;

/// The first process.
const INIT: &str = include_str!("../../guest/init.sh");

/// Modules in their order where it matters: the generic codec comes before the controller, which asks for it without
/// waiting.
const MODULES: [&str; 10] = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "vhci-hcd",
    "snd-usb-audio",
    "snd-aloop",
    "snd-hda-codec-generic",
    "snd-hda-intel",
    "veth",
    "sch_netem",
];

/// Programs of the host or the packages: where each lies and what it is called in the guest.
const TOOLS: [&str; 9] = [
    "usr/bin/amixer",
    "usr/bin/arecord",
    "usr/bin/aplay",
    "sbin/ip",
    "sbin/tc",
    "usr/bin/pulseaudio",
    "usr/bin/pactl",
    "usr/bin/pacat",
    "usr/bin/irtt",
];

/// What the sound server loads in the trials; the protocol and the mixer are libraries that the modules share.
const SERVER_MODULES: [&str; 3] =
    ["module-alsa-source", "module-native-protocol-unix", "module-suspend-on-idle"];
/// Where they lie in the guest, as the server is told.
pub const SERVER_MODULES_FOLDER: &str = "/opt/pulse";

/// Our programs, beside the running one.
const PROGRAMS: [&str; 4] =
    ["roomtone-agent", "roomtone-collector", "roomtone-headset", "roomtone-hw-tests"];

/// Where our programs lie in the guest.
pub const PROGRAMS_FOLDER: &str = "/opt/roomtone";

/// Makes the archive of our programs in `programs`.
///
/// # Errors
/// Where a file is missing.
pub fn build(packages: &Packages, programs: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in [
        "bin",
        "dev",
        "etc",
        "lib",
        "lib/x86_64-linux-gnu",
        "lib64",
        "modules",
        "opt",
        "opt/pulse",
        "opt/roomtone",
        "proc",
        "root",
        "run",
        "share",
        "sys",
        "tmp",
        "usr",
        "usr/share",
    ] {
        archive.directory(folder);
    }
    archive.device("dev/console", 5, 1);
    archive.file("init", Runs::Yes, INIT.as_bytes());

    let busybox = packages.find("bin/busybox")?;
    archive.file("bin/busybox", Runs::Yes, &read(&busybox)?);
    let applets = output(Command::new(&busybox).arg("--list"), [""; 0])?;
    let own = ["busybox", "ip", "tc"];
    for applet in applets.lines().filter(|applet| !own.contains(applet)) {
        archive.link(&format!("bin/{applet}"), "busybox");
    }

    let mut binaries: BTreeMap<String, PathBuf> = BTreeMap::new();
    for tool in TOOLS {
        let name = tool.rsplit('/').next().unwrap_or(tool);
        binaries.insert(format!("bin/{name}"), packages.find(tool)?);
    }
    for program in PROGRAMS {
        let path = programs.join(program);
        if !path.is_file() {
            bail!("no {}: run `cargo build --workspace` first", path.display());
        }
        binaries.insert(format!("opt/roomtone/{program}"), path);
    }
    for module in SERVER_MODULES {
        let path = packages.find(&format!("{}/{module}.so", packages::SERVER_MODULES))?;
        binaries.insert(format!("opt/pulse/{module}.so"), path);
    }
    let mut libraries = BTreeMap::new();
    for (name, path) in &binaries {
        archive.file(name, Runs::Yes, &read(path)?);
        libraries.extend(libraries_of(packages, path)?);
    }
    for (name, path) in libraries {
        archive.file(&name, Runs::Yes, &read(&path)?);
    }

    add_modules(&mut archive, packages)?;
    add_tree(&mut archive, &packages.root.join("usr/share/alsa"), "usr/share/alsa")?;
    archive.file(
        "etc/passwd",
        Runs::No,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    );
    archive.file("etc/group", Runs::No, b"root:x:0:\naudio:x:29:\nnogroup:x:65534:\n");
    archive.file("etc/hosts", Runs::No, b"127.0.0.1 localhost guest\n");
    Ok(archive.finish())
}

/// The kernel as QEMU likes it best: unpacked, which saves the guest 2 to 3 s of emulated decompression. Kept in
/// `cache`.
///
/// # Errors Where the package has no kernel or the cache cannot be written.
pub fn kernel(packages: &Packages, cache: &Path) -> Result<PathBuf> {
    /// What an xz stream begins with (The .xz File Format 2.1.1.1).
    const XZ: &[u8] = b"\xfd7zXZ\0";
    let packed = packages.root.join(format!("boot/vmlinuz-{}", packages.kernel_version));
    let tree = packages.root.file_name().unwrap_or_default().to_string_lossy();
    let unpacked = cache.join(format!("vmlinux-{tree}"));
    if unpacked.is_file() {
        return Ok(unpacked);
    }
    let bytes = read(&packed)?;
    let Some(at) = bytes.windows(XZ.len()).position(|window| window == XZ) else {
        // Packed otherwise: the guest unpacks it itself.
        return Ok(packed);
    };
    let part = unpacked.with_extension("part");
    let stream = unpacked.with_extension("xz");
    fs::write(&stream, &bytes[at..])?;
    // What follows the stream in the file is no xz: it is reported as an error, behind the last byte of the kernel.
    Command::new(packages.find("usr/bin/xz")?)
        .env("LD_LIBRARY_PATH", packages.libraries())
        .args(["--decompress", "--stdout", "--quiet"])
        .arg(&stream)
        .stdout(fs::File::create(&part)?)
        .stderr(std::process::Stdio::null())
        .status()
        .context("cannot start xz")?;
    fs::remove_file(&stream)?;
    if !read(&part)?.starts_with(b"\x7fELF") {
        fs::remove_file(&part)?;
        return Ok(packed);
    }
    fs::rename(&part, &unpacked)?;
    Ok(unpacked)
}

/// Shared libraries of a program, and its loader, by their place in the guest.
fn libraries_of(packages: &Packages, program: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut ldd = Command::new("ldd");
    ldd.env("LD_LIBRARY_PATH", packages.libraries()).arg(program);
    let said = output(&mut ldd, [""; 0])?;
    let mut found = Vec::new();
    for line in said.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [name, "=>", "not", "found"] => {
                bail!("{} needs {name}, which this host lacks", program.display())
            }
            [name, "=>", path, ..] => {
                found.push((format!("lib/x86_64-linux-gnu/{name}"), PathBuf::from(path)));
            }
            [path, ..] if path.starts_with('/') => {
                found.push((path.trim_start_matches('/').to_owned(), PathBuf::from(path)));
            }
            // The kernel's own, which is no file.
            _ => {}
        }
    }
    Ok(found)
}

/// Adds the modules that trials need, named in the order of loading.
pub(super) fn add_modules(archive: &mut Archive, packages: &Packages) -> Result<()> {
    let folder = packages.root.join("lib/modules").join(&packages.kernel_version).join("kernel");
    let mut files = BTreeMap::new();
    collect_modules(&folder, &mut files)?;
    let order = modules::load_order(&MODULES, |name| {
        files.get(name).and_then(|path| fs::read(path).ok()).map(|bytes| modules::needs(&bytes))
    })?;
    for (at, name) in order.iter().enumerate() {
        let path = &files[name];
        archive.file(&format!("modules/{at:03}-{name}.ko"), Runs::No, &read(path)?);
    }
    Ok(())
}

fn collect_modules(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for path in entries(folder)? {
        if path.is_dir() {
            collect_modules(&path, files)?;
        } else if let Some(name) = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(".ko"))
        {
            files.insert(modules::canonical(name), path);
        }
    }
    Ok(())
}

/// ALSA's configuration without what no guest reads: profiles and topologies are most of it.
fn add_tree(archive: &mut Archive, folder: &Path, name: &str) -> Result<()> {
    archive.directory(name);
    for path in entries(folder)? {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let inner = format!("{name}/{file}");
        if path.is_dir() {
            if !["ucm", "ucm2", "topology"].contains(&file.as_str()) {
                add_tree(archive, &path, &inner)?;
            }
        } else if path.is_file() {
            archive.file(&inner, Runs::No, &read(&path)?);
        }
    }
    Ok(())
}

pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = listed.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
