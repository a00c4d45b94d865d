//! The identity on disk: `endpoint.pem` with the certificate and its key (mode 0600), `ca.pem` and `collector.toml`
//! beside it.
//!
//! Each file is whole or absent: written under another name, synced, renamed, and the folder synced. What root makes
//! belongs to the owner of the folder above, so that the service whose state folder that is can read and renew it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use super::certificate::Certificate;
use super::issuer::{self, Issuer};
use super::key::Key;
use super::pem;

/// Where an identity lies unless told otherwise.
pub const DIRECTORY: &str = "/var/lib/roomtone/identity";
/// The certificate and its key.
pub const ENDPOINT_FILE: &str = "endpoint.pem";
/// The authority.
pub const AUTHORITY_FILE: &str = "ca.pem";

/// A folder for one identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    directory: PathBuf,
    endpoint_file: PathBuf,
}

/// What lies in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No identity.
    Nothing,
    /// An identity.
    Identity(Certificate),
    /// A file that holds none, or cannot be read.
    Unusable(String),
}

impl Folder {
    /// Names a folder; nothing is touched.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        let endpoint_file = directory.join(ENDPOINT_FILE);
        Self { directory, endpoint_file }
    }

    /// The folder of a file with a certificate and its key, whatever that is called; nothing is touched.
    #[must_use]
    pub fn of_file(endpoint_file: PathBuf) -> Self {
        let above = endpoint_file.parent().filter(|it| !it.as_os_str().is_empty());
        let directory = above.unwrap_or(Path::new(".")).to_owned();
        Self { directory, endpoint_file }
    }

    /// The file with the certificate and the key.
    #[must_use]
    pub fn endpoint_file(&self) -> PathBuf {
        self.endpoint_file.clone()
    }

    /// The file with the authority.
    #[must_use]
    pub fn authority_file(&self) -> PathBuf {
        self.directory.join(AUTHORITY_FILE)
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Looks at what is there.
    #[must_use]
    pub fn find(&self) -> Found {
        match read_certificate(&self.endpoint_file()) {
            Ok(certificate) => Found::Identity(certificate),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
            Err(error) => Found::Unusable(error.to_string()),
        }
    }

    /// Makes the folder (mode 0700) where it is missing and tries a write, before anything that cannot be undone.
    ///
    /// # Errors
    /// [`io::Error`] where this process may not write there, or the disk is full.
    pub fn prepare(&self) -> io::Result<()> {
        if !self.directory.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
            give_to_owner_above(&self.directory)?;
        }
        let partial = partial(&self.endpoint_file);
        let tried = create(&partial).and_then(|mut file| {
            // As much as the certificate and key will take.
            file.write_all(&[0; 4096])?;
            file.sync_all()
        });
        remove(&partial)?;
        tried
    }

    /// Puts an identity in force: the certificate last, so that no moment has one that nobody here can use, and whoever
    /// waits for it finds all the rest.
    ///
    /// # Errors
    /// [`io::Error`] of the first step that went wrong; the certificate before is still there.
    pub fn keep(
        &self,
        certificate: &[u8],
        key: &Key,
        authority: &[u8],
        issuer: &Issuer,
    ) -> io::Result<()> {
        self.write(&self.authority_file(), &pem::certificate(authority))?;
        self.write(&self.directory.join(issuer::FILE), &issuer.text())?;
        self.keep_certificate(certificate, key)
    }

    /// Puts the next certificate in force.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    pub fn keep_certificate(&self, certificate: &[u8], key: &Key) -> io::Result<()> {
        self.write(&self.endpoint_file(), &(pem::certificate(certificate) + &key.pem()))
    }

    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let partial = partial(path);
        let renamed = create(&partial).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            give_to_owner_above(&partial)?;
            fs::rename(&partial, path)
        });
        if renamed.is_err() {
            // A disk that is full needs the room, and nobody needs half a key.
            let _ = remove(&partial);
        }
        renamed?;
        File::open(&self.directory)?.sync_all()
    }
}

/// What a file is called until it is whole.
fn partial(path: &Path) -> PathBuf {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    PathBuf::from(partial)
}

/// Reads the first certificate of a PEM file.
///
/// # Errors
/// [`io::Error`], of kind `InvalidData` where the file holds none for an endpoint.
pub fn read_certificate(path: &Path) -> io::Result<Certificate> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Certificate::read_pem(&bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

fn create(path: &Path) -> io::Result<File> {
    // What a crash left, perhaps with other rights.
    remove(path)?;
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) | Ok(()) => Ok(()),
    }
}

fn give_to_owner_above(path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let above = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let owner = fs::metadata(above)?;
    chown(path, Some(owner.uid()), Some(owner.gid()))
}

/// Longer than any chain.
const FILE_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::identity::certificate::tests::certificate_for;

    fn issuer() -> Issuer {
        Issuer { address: "rooms.example.test:4433".to_owned(), server_name: "rooms".to_owned() }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn identity_is_found_again_and_nobody_else_reads_it() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::new(top.path().join("state/identity"));
        assert_eq!(folder.find(), Found::Nothing);
        folder.prepare().unwrap();
        assert_eq!((folder.find(), mode(folder.path())), (Found::Nothing, 0o700));
        let key = Key::generate().unwrap();
        let der = certificate_for(&key);
        folder.keep(&der, &key, b"authority", &issuer()).unwrap();
        assert_eq!(folder.find(), Found::Identity(Certificate::read(&der).unwrap()));
        assert_eq!((mode(&folder.endpoint_file()), mode(&folder.authority_file())), (0o600, 0o600));
        let text = fs::read_to_string(folder.endpoint_file()).unwrap();
        assert!(text.ends_with(&key.pem()), "the key is in the same file");
        assert_eq!(Issuer::read(&Issuer::beside(&folder.endpoint_file())).unwrap(), issuer());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing else is left");
    }

    #[test]
    fn what_a_crash_left_is_in_nobodys_way() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::new(top.path().to_owned());
        let partial = top.path().join("endpoint.pem.partial");
        fs::write(&partial, "half a ke").unwrap();
        assert_eq!(folder.find(), Found::Nothing);
        let key = Key::generate().unwrap();
        folder.keep(&certificate_for(&key), &key, b"authority", &issuer()).unwrap();
        assert!(matches!(folder.find(), Found::Identity(_)));
        assert!(!partial.exists());
    }

    #[test]
    fn next_certificate_takes_the_place_of_the_one_before_or_leaves_it() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::of_file(top.path().join("room.pem"));
        let (first, next) = (Key::generate().unwrap(), Key::generate().unwrap());
        folder.keep_certificate(&certificate_for(&first), &first).unwrap();
        let before = fs::read(folder.endpoint_file()).unwrap();
        // Nothing can be made here: the name is taken by a folder that is not empty.
        let partial = top.path().join("room.pem.partial");
        fs::create_dir_all(partial.join("x")).unwrap();
        assert!(folder.prepare().is_err());
        assert!(folder.keep_certificate(&certificate_for(&next), &next).is_err());
        assert_eq!(fs::read(folder.endpoint_file()).unwrap(), before);
        // The last step fails: what was written for it is not left.
        fs::remove_dir_all(&partial).unwrap();
        fs::remove_file(folder.endpoint_file()).unwrap();
        fs::create_dir_all(folder.endpoint_file().join("x")).unwrap();
        assert!(folder.keep_certificate(&certificate_for(&next), &next).is_err());
        assert!(!partial.exists());
        fs::remove_dir_all(folder.endpoint_file()).unwrap();
        folder.keep_certificate(&certificate_for(&next), &next).unwrap();
        let Found::Identity(found) = folder.find() else { panic!("an identity") };
        assert_eq!(found.public_key, next.public_key());
    }

    #[test]
    fn rubbish_and_every_cut_of_a_file_are_no_identity() {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::new(top.path().to_owned());
        let key = Key::generate().unwrap();
        folder.keep_certificate(&certificate_for(&key), &key).unwrap();
        let whole = fs::read(folder.endpoint_file()).unwrap();
        let certificate_end = String::from_utf8(whole.clone()).unwrap().find("-----END").unwrap();
        for length in 0..certificate_end {
            fs::write(folder.endpoint_file(), &whole[..length]).unwrap();
            assert!(matches!(folder.find(), Found::Unusable(_)), "{length}");
        }
    }
}
