//! Which collector issued the identity: what `enroll` learnt from the token and the answer, beside the certificate.
//!
//! It is no part of the operator's config file, which no program of ours edits: an endpoint that is enrolled at another
//! collector goes there without anybody opening an editor.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The file's name.
pub const FILE: &str = "collector.toml";
/// Two names of 253 characters, and what is around them.
const BYTES_MAX: u64 = 4096;

/// Where a collector is reached, and who it proves to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// `HOST:PORT`, IPv6 in brackets.
    pub address: String,
    /// The name that its certificate carries.
    pub server_name: String,
}

impl Issuer {
    /// The file that belongs to a certificate.
    #[must_use]
    pub fn beside(certificate: &Path) -> PathBuf {
        certificate.with_file_name(FILE)
    }

    /// Reads the file; its values are checked by whoever uses them.
    ///
    /// # Errors
    /// [`io::Error`], of kind `InvalidData` where the file says something else.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut text = String::new();
        File::open(path)?.take(BYTES_MAX).read_to_string(&mut text)?;
        toml::from_str(&text).map_err(|error| {
            let problem = error.message().lines().next().unwrap_or("it is not TOML").to_owned();
            io::Error::new(io::ErrorKind::InvalidData, problem)
        })
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { address, server_name } = self;
        let [address, server_name] =
            [address, server_name].map(|it| toml::Value::from(it.as_str()));
        format!(
            "# Written by `roomtone-agent enroll`; the config file's [collector] goes before it.\n\
             address = {address}\nserver_name = {server_name}\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let certificate = folder.path().join("endpoint.pem");
        let path = Issuer::beside(&certificate);
        for (address, server_name) in
            [("rooms.example.test:4433", "rooms.example.test"), ("[2001:db8::1]:443", "a\"b\\c\n")]
        {
            let issuer =
                Issuer { address: address.to_owned(), server_name: server_name.to_owned() };
            std::fs::write(&path, issuer.text()).unwrap();
            assert_eq!(Issuer::read(&path).unwrap(), issuer);
        }
    }

    #[test]
    fn another_file_and_every_cut_of_a_name_is_told_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        for text in ["", "address = 5", "address = \"a:1\"", "\0\u{1}[[", "address"] {
            std::fs::write(&path, text).unwrap();
            let error = Issuer::read(&path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text:?}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
        std::fs::write(&path, vec![b'#'; 1 << 20]).unwrap();
        assert!(Issuer::read(&path).is_err());
    }
}
