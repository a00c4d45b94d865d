//! Whether the files of the identity are others than at the last look. What they hold is not read.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::config::Identity;

/// What the file system says of certificate, key and authority; absent files count too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    files: [Option<File>; 3],
}

/// A replaced file has another number; one that was written over has another time or length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct File {
    device: u64,
    number: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Seen {
    /// Looks.
    #[must_use]
    pub fn look(identity: &Identity) -> Self {
        let Identity { certificate, key, ca, .. } = identity;
        Self { files: [certificate, key, ca].map(|path| file(path)) }
    }
}

fn file(path: &Path) -> Option<File> {
    let found = fs::metadata(path).ok()?;
    Some(File {
        device: found.dev(),
        number: found.ino(),
        bytes: found.len(),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_and_vanished_files_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("endpoint.pem");
        let identity = Identity {
            endpoint: None,
            certificate: path.clone(),
            key: path.clone(),
            ca: folder.path().join("ca.pem"),
        };
        let nothing = Seen::look(&identity);
        fs::write(&path, "one").unwrap();
        let first = Seen::look(&identity);
        assert_ne!(first, nothing);
        assert_eq!(first, Seen::look(&identity));
        let partial = folder.path().join("endpoint.pem.partial");
        fs::write(&partial, "two").unwrap();
        fs::rename(&partial, &path).unwrap();
        assert_ne!(first, Seen::look(&identity), "of the same length, within the same second");
        fs::remove_file(&path).unwrap();
        assert_eq!(nothing, Seen::look(&identity));
    }
}
