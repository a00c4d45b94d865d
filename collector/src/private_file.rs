//! Files that others must not see or that must be whole: written under another name, synced, then renamed.
//!
//! What root makes belongs to the owner of its folder, so that a service whose folder it is can read it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

/// Writes `text` to `path` with the rights `mode`, in place of what was there; never leaves half of it.
///
/// # Errors
/// [`io::Error`] of the first step that went wrong; what was there before is still there.
pub fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Err(_) | Ok(()) => {}
    }
    let mut file: File = File::options().write(true).create_new(true).mode(mode).open(&partial)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    give_to_folder_owner(&partial)?;
    fs::rename(&partial, path)
}

/// Makes a folder where it is missing, closed to others as the store's is.
///
/// # Errors
/// [`io::Error`] where it cannot be made.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o750).create(folder) {
        Ok(()) => give_to_folder_owner(folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes a file or folder that root made its folder's owner's.
///
/// # Errors
/// [`io::Error`] where the owner cannot be read or set.
pub fn give_to_folder_owner(path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let owner = fs::metadata(folder)?;
    chown(path, Some(owner.uid()), Some(owner.gid()))
}

/// Renames a damaged database and its companions out of the way and returns its new name.
///
/// # Errors
/// [`io::Error`] of the first rename that went wrong.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let named = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let free = (1..=ASIDE_MAX).map(|it| format!(".damaged-{it}")).find(|it| !named(it).exists());
    let aside = free.unwrap_or_else(|| ".damaged-1".to_owned());
    for companion in ["-wal", "-shm"] {
        match fs::rename(named(companion), named(&format!("{aside}{companion}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => {}
        }
    }
    fs::rename(path, named(&aside))?;
    Ok(named(&aside))
}

/// The most damaged databases of one name that are kept; the oldest name is used again.
const ASIDE_MAX: u32 = 8;
