//! The disk as the spool sees it: one directory of files, and the few calls whose order decides what outlives a crash.
//!
//! A shell that decides nothing. [`Disk`] is a trait so that the tests can stop the machine at every single call; the
//! one real implementation is [`FileDisk`].
//!
//! Names are relative to the spool's directory. Only the engine knows what they mean.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use roomtone_protocol::id::Epoch;
use rustix::fs::{FlockOperation, flock, statvfs};

use super::SpoolError;

/// The folder for files that were set aside, inside the spool's directory.
pub(super) const QUARANTINE: &str = "quarantine";
const LOCK: &str = "lock";
/// The most entries of a directory that are looked at: four times what the spool itself makes.
const ENTRIES_MAX: usize = 16_384;

/// The two folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Folder {
    /// The spool's directory.
    Spool,
    /// [`QUARANTINE`] in it.
    Quarantine,
}

/// A file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name within the folder.
    pub name: String,
    /// Its length, in bytes.
    pub bytes: u64,
}

/// What is left on the file system for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Free {
    /// Bytes.
    pub bytes: u64,
    /// Inodes, or `None` on file systems that make them as needed.
    pub inodes: Option<u64>,
}

/// What the spool asks of a disk. Each call fails as the system call behind it does.
pub(super) trait Disk {
    /// An open file; dropping closes it.
    type File;

    /// The files of a folder, in no order.
    fn list(&self, folder: Folder) -> io::Result<Vec<Entry>>;
    /// Makes a file that must not exist.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens a file to read and write.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, file: &Self::File, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all bytes into the page cache; on an error, any part of them may be written.
    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file.
    fn truncate(&self, file: &Self::File, bytes: u64) -> io::Result<()>;
    /// Makes a file's content and length durable. After an error the content counts as lost, whatever a repetition
    /// says: the kernel marks the pages clean and reports the error once.
    fn sync_data(&self, file: &Self::File) -> io::Result<()>;
    /// Makes names durable that were made, changed and removed.
    fn sync_directory(&self) -> io::Result<()>;
    /// Renames a file, over any other of that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// What is left.
    fn free(&self) -> io::Result<Free>;
    /// A random epoch, never 0, which stands for "none" on the wire.
    fn draw_epoch(&self) -> io::Result<Epoch>;
}

/// A directory, locked for this process.
#[derive(Debug)]
pub(super) struct FileDisk {
    root: PathBuf,
    /// Held, not used: the lock ends with it.
    _lock: File,
}

impl FileDisk {
    /// Makes the directory (mode 0700) where it is missing, and locks it.
    pub(super) fn open(root: &Path) -> Result<Self, SpoolError> {
        let at = |source| SpoolError::Directory { path: root.to_owned(), source };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(root).map_err(at)?;
        // An existing directory may be wider: records name calls and addresses.
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).map_err(at)?;
        builder.create(root.join(QUARANTINE)).map_err(at)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(root.join(LOCK)).map_err(at)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { root: root.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(SpoolError::Locked { path: root.to_owned() }),
            Err(errno) => Err(at(errno.into())),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

impl Disk for FileDisk {
    type File = File;

    fn list(&self, folder: Folder) -> io::Result<Vec<Entry>> {
        let path = match folder {
            Folder::Spool => self.root.clone(),
            Folder::Quarantine => self.path(QUARANTINE),
        };
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)?.take(ENTRIES_MAX) {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let name = entry.file_name();
            // Ours are ASCII; any other name cannot be one of ours.
            if let (true, Some(name)) = (metadata.is_file(), name.to_str())
                && !(folder == Folder::Spool && name == LOCK)
            {
                entries.push(Entry { name: name.to_owned(), bytes: metadata.len() });
            }
        }
        Ok(entries)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).open(self.path(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path(name))
    }

    fn read_at(&self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        file.set_len(bytes)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_directory(&self) -> io::Result<()> {
        // Opened each time: an error must not be retried on the descriptor that reported it.
        File::open(&self.root)?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn free(&self) -> io::Result<Free> {
        let stat = statvfs(&self.root)?;
        Ok(Free {
            bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            inodes: (stat.f_files > 0).then_some(stat.f_favail),
        })
    }

    fn draw_epoch(&self) -> io::Result<Epoch> {
        let drawn = getrandom::u32().map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Epoch(drawn.max(1)))
    }
}
