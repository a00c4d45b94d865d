//! Reads `/proc/asound`: which cards there are, and how far each open device has come.
//!
//! A shell that decides nothing: [`parse`] understands the text, `inventory` makes devices of it. Everything is read
//! without opening a device, world-readable and 64 KiB at most per file. Reading a `status` makes the kernel ask the
//! hardware where it stands, so the figure is live. A device may leave between any two reads: then its files are gone
//! and the answer is [`Reading::Gone`], which is no fault of anybody's.

pub mod parse;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::inventory::{Inventory, Pcm, Place};
use parse::{Format, Progress, Status};

/// The most of a file that is read; the largest real one is a `cards` of 32 cards, 5 KiB.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The most entries of a folder that are looked at: a card has its devices and a dozen files of its driver.
const ENTRIES_MAX: usize = 1_024;

/// Where a machine's sound shows, below a root that is `/` outside tests.
#[derive(Debug, Clone)]
pub struct SoundFiles {
    root: PathBuf,
}

/// Why no device can be named.
#[derive(Debug, thiserror::Error)]
pub enum SoundError {
    /// The kernel has no sound, or hides it. Wait for a uevent.
    #[error(
        "this machine has no sound subsystem: no {}; if it should have one, load the driver of its card, and inside a \
         service leave ProcSubset unset", .path.display()
    )]
    Absent {
        /// The file that is missing.
        path: PathBuf,
    },
    /// The list of cards is there and cannot be read. Try again later.
    #[error("cannot read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Who holds a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process; the thread's own number where `/proc` hides the process.
    pub pid: u32,
    /// Its name; `None` where `/proc` hides it.
    pub name: Option<String>,
}

/// What a device's files say now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// They are gone.
    Gone,
    /// They cannot be read or understood this time.
    Unclear,
    /// Nobody has the device open.
    Closed,
    /// Somebody has.
    Open {
        /// Which sub-device.
        sub: u8,
        /// What it does.
        progress: Progress,
    },
}

impl SoundFiles {
    /// Looks below `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder of device nodes.
    #[must_use]
    pub fn nodes(&self) -> PathBuf {
        self.root.join("dev/snd")
    }

    /// Names all devices that are there.
    ///
    /// # Errors
    /// [`SoundError`]. A card that leaves meanwhile is left out.
    pub fn inventory(&self) -> Result<Inventory, SoundError> {
        let path = self.root.join("proc/asound/cards");
        let text = read(&path).map_err(|source| {
            let path = path.clone();
            if is_gone(&source) {
                SoundError::Absent { path }
            } else {
                SoundError::Unreadable { path, source }
            }
        })?;
        let cards = parse::cards(&text);
        let mut pcms = Vec::new();
        for card in &cards.cards {
            let folder = self.root.join(format!("proc/asound/card{}", card.index));
            for name in names(&folder) {
                let Some((pcm, capture)) = parse::pcm_folder(&name) else {
                    continue;
                };
                let place = Place { card: card.index, pcm, capture };
                let subs = names(&self.folder(place)).filter_map(|name| parse::sub_folder(&name));
                // Numbered from 0 without gaps: the highest tells how many there are.
                let subs = subs.max().map_or(0, |highest| highest.saturating_add(1));
                let info = read(&self.folder(place).join("info")).unwrap_or_default();
                pcms.push(Pcm { place, subs, name: parse::info_name(&info) });
            }
        }
        Ok(Inventory::build(&cards, pcms))
    }

    /// Reads how far a device has come. Where several sub-devices are open, `before` stays the one that is looked at.
    #[must_use]
    pub fn reading(&self, place: Place, subs: u8, before: Option<u8>) -> Reading {
        let mut reading = Reading::Closed;
        for sub in before.into_iter().chain(0..subs) {
            reading = match read(&self.sub(place, sub).join("status")) {
                Ok(text) => match parse::status(&text) {
                    Some(Status::Open(progress)) => return Reading::Open { sub, progress },
                    Some(Status::Closed) => reading,
                    None => Reading::Unclear,
                },
                Err(error) if is_gone(&error) => return Reading::Gone,
                Err(_) => Reading::Unclear,
            };
        }
        reading
    }

    /// The format that a device was opened with; `None` where none is agreed on yet.
    #[must_use]
    pub fn format(&self, place: Place, sub: u8) -> Option<Format> {
        parse::format(&read(&self.sub(place, sub).join("hw_params")).ok()?)
    }

    /// Names the process behind the thread that `status` calls the owner.
    #[must_use]
    pub fn holder(&self, owner: u32) -> Holder {
        let status =
            |id: u32| parse::process(&read(&self.root.join(format!("proc/{id}/status"))).ok()?);
        let Some((group, name)) = status(owner) else {
            return Holder { pid: owner, name: None };
        };
        // Threads have names of their own; people know the process's.
        let name = if group == owner { name } else { status(group).map_or(name, |(_, name)| name) };
        Holder { pid: group, name: Some(name) }
    }

    /// How often this machine put its devices to sleep and woke them; `None` where the kernel does not count.
    ///
    /// Sleeps that failed count too: where one device refuses, others have slept already and lost their streams.
    #[must_use]
    pub fn suspends(&self) -> Option<u64> {
        let count = |name: &str| {
            let text = read(&self.root.join("sys/power/suspend_stats").join(name)).ok()?;
            str::from_utf8(&text).ok()?.trim().parse::<u64>().ok()
        };
        Some(count("success")?.saturating_add(count("fail").unwrap_or(0)))
    }

    /// Whether this process may open the card's control device; `None` where there is no node.
    #[must_use]
    pub fn may_open(&self, card: u8) -> Option<bool> {
        let path = self.nodes().join(format!("controlC{card}"));
        match rustix::fs::access(&path, rustix::fs::Access::READ_OK) {
            Ok(()) => Some(true),
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Some(false),
            Err(_) => None,
        }
    }

    fn folder(&self, Place { card, pcm, capture }: Place) -> PathBuf {
        let side = if capture { 'c' } else { 'p' };
        self.root.join(format!("proc/asound/card{card}/pcm{pcm}{side}"))
    }

    fn sub(&self, place: Place, sub: u8) -> PathBuf {
        self.folder(place).join(format!("sub{sub}"))
    }
}

/// The kernel answers ENODEV where a device left under an open file.
fn is_gone(error: &io::Error) -> bool {
    const ENODEV: i32 = rustix::io::Errno::NODEV.raw_os_error();
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || error.raw_os_error() == Some(ENODEV)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// The names in a folder; none where it cannot be read.
fn names(folder: &Path) -> impl Iterator<Item = Vec<u8>> + use<> {
    use std::os::unix::ffi::OsStringExt;
    let entries = fs::read_dir(folder).into_iter().flatten().take(ENTRIES_MAX);
    entries.filter_map(|entry| Some(entry.ok()?.file_name().into_vec()))
}
