//! The mark of the open call on disk, beside the spool: whole or not at all, and gone when no call is open.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;

use super::{MARK_BYTES_MAX, Mark};

/// The file, and what it holds.
#[derive(Debug)]
pub struct MarkFile {
    path: PathBuf,
    /// Whether something lies there.
    is_there: bool,
    held: Option<Mark>,
}

impl MarkFile {
    /// Reads what the process before left: the call that it was killed in, if it was.
    #[must_use]
    pub fn open(path: PathBuf) -> (Self, Option<Mark>) {
        let mut bytes = Vec::new();
        let read = File::open(&path)
            .and_then(|file| file.take(MARK_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
        let (is_there, left) = match read.map(|_| Mark::decode(&bytes)) {
            Ok(Ok(mark)) => (true, Some(mark)),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the mark of a call that was open is of no use: it stays open");
                (true, None)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (false, None),
            Err(error) => {
                tracing::warn!(%error, "the mark of a call that was open cannot be read");
                (true, None)
            }
        };
        (Self { path, is_there, held: left }, left)
    }

    /// Whether something lies there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.is_there
    }

    /// Makes the file hold this mark, or be gone.
    pub fn keep(&mut self, mark: Option<&Mark>) {
        let kept = match mark {
            Some(mark) if self.is_there && self.held.as_ref() == Some(mark) => Ok(()),
            Some(mark) => self.write(mark),
            None if self.is_there => self.remove(),
            None => Ok(()),
        };
        if let Err(error) = kept {
            tracing::debug!(%error, "the mark of the open call cannot be kept: a kill would leave it open");
        }
    }

    /// Synced, so that it closes the call after a power cut too: the records of its beginning are.
    fn write(&mut self, mark: &Mark) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&mark.encode())?;
        file.sync_data()?;
        fs::rename(&new, &self.path)?;
        (self.is_there, self.held) = (true, Some(*mark));
        Ok(())
    }

    fn remove(&mut self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        (self.is_there, self.held) = (false, None);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::id::CallId;
    use roomtone_protocol::time::Stamp;

    use super::*;

    #[test]
    fn what_is_kept_is_found_by_the_next_life_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.json");
        let (mut file, left) = MarkFile::open(path.clone());
        assert_eq!((left, file.is_there()), (None, false));
        let mark = Mark {
            call: CallId(7),
            legs: 1,
            last: Stamp { wall_us: 1_795_391_940_000_000, uptime_us: 5_000_000 },
        };
        file.keep(Some(&mark));
        let (mut file, left) = MarkFile::open(path.clone());
        assert_eq!((left, file.is_there()), (Some(mark), true));
        file.keep(None);
        let (_, left) = MarkFile::open(path);
        assert_eq!(left, None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn rubbish_is_no_call_and_gives_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.json");
        for rubbish in [&b""[..], b"\xff\0", &[b'x'; 4 * MARK_BYTES_MAX]] {
            fs::write(&path, rubbish).unwrap();
            let (mut file, left) = MarkFile::open(path.clone());
            assert_eq!(left, None);
            file.keep(None);
            assert!(!path.exists());
        }
    }
}
