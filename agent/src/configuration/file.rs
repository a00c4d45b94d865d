//! What the collector sets here, on disk beside the spool: whole or not at all.
//!
//! A file that is of no use is set aside as `configuration.damaged`, one at most: the machine's own file holds alone
//! until the collector has sent its text again.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::{KEPT_BYTES_MAX, Kept};

/// The file's name.
pub const FILE: &str = "configuration.json";

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// What a process before kept; nothing where the collector never set anything.
    Kept(Kept),
    /// Something of no use, and why.
    Useless(String),
}

/// Looks at what lies there, and changes nothing.
#[must_use]
pub fn look(path: &Path) -> Found {
    let mut bytes = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(KEPT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
    match read.map(|_| Kept::decode(&bytes)) {
        Ok(Ok(kept)) => Found::Kept(kept),
        Ok(Err(error)) => Found::Useless(error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Kept(Kept::default()),
        Err(error) => Found::Useless(error.to_string()),
    }
}

/// The file of a running agent.
#[derive(Debug)]
pub struct KeptFile {
    path: PathBuf,
}

impl KeptFile {
    /// Reads what the process before left; what is of no use is set aside and said once.
    #[must_use]
    pub fn open(path: PathBuf) -> (Self, Kept) {
        let kept = match look(&path) {
            Found::Kept(kept) => kept,
            Found::Useless(why) => {
                tracing::warn!(%why, "what the collector set is of no use and set aside");
                if let Err(error) = fs::rename(&path, path.with_extension("damaged")) {
                    tracing::debug!(%error, "it stays where it is until it is replaced");
                }
                Kept::default()
            }
        };
        (Self { path }, kept)
    }

    /// Keeps it, durably: a trial that crashes the machine must be remembered.
    ///
    /// # Errors
    /// [`io::Error`]: what was kept before still is.
    pub fn keep(&self, kept: &Kept) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&kept.encode())?;
        file.sync_data()?;
        fs::rename(&new, &self.path)?;
        let folder = self.path.parent().filter(|it| !it.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::configuration::Configuration;

    use super::*;
    use crate::clock::Moment;
    use crate::configuration::{Keeper, Verdict, hash};

    #[test]
    fn next_life_finds_what_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let (file, kept) = KeptFile::open(path.clone());
        let mut keeper = Keeper::begin(kept);
        let text = "log.level = 'warn'";
        let configuration = Configuration { hash: hash(text), text: text.try_into().unwrap() };
        keeper.handle_arrival(configuration, Verdict::Same, Moment::ORIGIN);
        file.keep(keeper.kept()).unwrap();
        assert_eq!(KeptFile::open(path).1, *keeper.kept());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn damaged_and_later_files_are_set_aside_and_nobody_must_delete_anything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        for useless in [&b""[..], b"\xff\0", br#"{"version":9}"#, &[b'x'; 2 * KEPT_BYTES_MAX]] {
            fs::write(&path, useless).unwrap();
            assert!(matches!(look(&path), Found::Useless(_)));
            let (file, kept) = KeptFile::open(path.clone());
            assert_eq!(kept, Kept::default());
            assert_eq!(fs::read(folder.path().join("configuration.damaged")).unwrap(), useless);
            file.keep(&kept).unwrap();
            assert_eq!(look(&path), Found::Kept(Kept::default()));
        }
    }

    #[test]
    fn disk_that_refuses_is_an_error_and_the_file_before_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (file, kept) = KeptFile::open(folder.path().join("absent").join(FILE));
        assert!(file.keep(&kept).is_err());
    }
}
