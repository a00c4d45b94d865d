//! Certificates for a developer's own machine: an authority, a collector, and one endpoint per name.
//!
//! ```text
//! ca.pem, ca.key                         the authority; keep ca.key away from anything real
//! collector.pem, collector.key           for localhost, 127.0.0.1 and ::1
//! endpoint-<name>.pem, endpoint-<name>.key
//! ```
//! Existing files are kept as they are, so a second run changes nothing and a further name joins the same authority.
//! Enrolment with tokens is what rooms get; these certificates last [`VALID_DAYS`] days and revoke nothing.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use roomtone_protocol::id::EndpointId;

use crate::ingest::certificate::{self, NAME_CHARACTERS_MAX, URN_PREFIX};
use crate::{clock, private_file};

/// How long they are valid, counted in whole years of 365 days from the year's beginning.
pub const VALID_DAYS: u32 = 3_650;

/// Why certificates were not made.
#[derive(Debug, thiserror::Error)]
pub enum DevCertificatesError {
    /// A file cannot be read or written.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An endpoint name that cannot be a file name and a common name.
    #[error(
        "{name:?} is no endpoint name: use 1 to {NAME_CHARACTERS_MAX} letters, digits, dots, hyphens or underscores"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A file is there, and is not what this made. Remove it, or choose another directory.
    #[error("{} is not a development certificate ({reason}): remove it or choose another directory", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system gives no random numbers, or a certificate cannot be signed.
    #[error("cannot make a certificate: {reason}")]
    Make {
        /// Why.
        reason: String,
    },
}

/// What was done for one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The certificate's file.
    pub path: PathBuf,
    /// The endpoint that it names, if it names one.
    pub endpoint: Option<EndpointId>,
    /// Whether it was there before.
    pub existed: bool,
}

/// Makes what is missing in `directory`.
///
/// # Errors
/// [`DevCertificatesError`]; files made before it stay.
pub fn make(directory: &Path, endpoints: &[String]) -> Result<Vec<Made>, DevCertificatesError> {
    for name in endpoints {
        check_name(name)?;
    }
    fs::create_dir_all(directory).map_err(|source| file_error(directory, source))?;
    let (issuer, authority) = authority(directory)?;
    let mut made = vec![authority];
    made.push(leaf(directory, "collector", &issuer, || {
        let mut params =
            params("roomtone development collector", ExtendedKeyUsagePurpose::ServerAuth);
        params.subject_alt_names = vec![
            SanType::DnsName(ia5("localhost")?),
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        ];
        Ok(params)
    })?);
    for name in endpoints {
        let mut endpoint = leaf(directory, &format!("endpoint-{name}"), &issuer, || {
            let mut params = params(name, ExtendedKeyUsagePurpose::ClientAuth);
            let mut id = [0; 16];
            getrandom::fill(&mut id).map_err(make_error)?;
            params.subject_alt_names =
                vec![SanType::URI(ia5(&format!("{URN_PREFIX}{}", EndpointId(id)))?)];
            Ok(params)
        })?;
        endpoint.endpoint = Some(endpoint_of(&endpoint.path)?);
        made.push(endpoint);
    }
    Ok(made)
}

fn check_name(name: &str) -> Result<(), DevCertificatesError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.len() > NAME_CHARACTERS_MAX || !name.chars().all(is_plain) {
        return Err(DevCertificatesError::Name { name: name.to_owned() });
    }
    Ok(())
}

fn authority(directory: &Path) -> Result<(Issuer<'static, KeyPair>, Made), DevCertificatesError> {
    let (path, key_path) = (directory.join("ca.pem"), directory.join("ca.key"));
    let existed = path.exists();
    let (pem, key) = if existed {
        let key = read(&key_path)?;
        (read(&path)?, KeyPair::from_pem(&key).map_err(|error| foreign(&key_path, error))?)
    } else {
        let key = KeyPair::generate().map_err(make_error)?;
        let mut params = CertificateParams::default();
        valid_long(&mut params);
        params.distinguished_name.push(DnType::CommonName, "roomtone development authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).map_err(make_error)?.pem();
        write_key(&key_path, &key)?;
        write(&path, &pem, 0o644)?;
        (pem, key)
    };
    let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(|error| foreign(&path, error))?;
    Ok((issuer, Made { path, endpoint: None, existed }))
}

fn leaf(
    directory: &Path,
    name: &str,
    issuer: &Issuer<'static, KeyPair>,
    params: impl FnOnce() -> Result<CertificateParams, DevCertificatesError>,
) -> Result<Made, DevCertificatesError> {
    let path = directory.join(format!("{name}.pem"));
    let key_path = directory.join(format!("{name}.key"));
    if path.exists() && key_path.exists() {
        return Ok(Made { path, endpoint: None, existed: true });
    }
    let key = KeyPair::generate().map_err(make_error)?;
    let certificate = params()?.signed_by(&key, issuer).map_err(make_error)?;
    // The key first: a certificate without its key would count as made.
    write_key(&key_path, &key)?;
    write(&path, &certificate.pem(), 0o644)?;
    Ok(Made { path, endpoint: None, existed: false })
}

fn params(name: &str, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    valid_long(&mut params);
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    params
}

/// From the beginning of this year, so that a clock that is a little behind still accepts it.
fn valid_long(params: &mut CertificateParams) {
    let years = clock::wall_us() / (365 * 86_400_000_000);
    let year = 1970 + i32::try_from(years).unwrap_or(0).min(7_000);
    params.not_before = date_time_ymd(year - 1, 1, 1);
    params.not_after = date_time_ymd(year + i32::try_from(VALID_DAYS / 365).unwrap_or(10), 1, 1);
}

fn endpoint_of(path: &Path) -> Result<EndpointId, DevCertificatesError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let der = CertificateDer::from_pem_file(path).map_err(|error| foreign(path, error))?;
    Ok(certificate::identity(&der).map_err(|error| foreign(path, error))?.endpoint)
}

fn write_key(path: &Path, key: &KeyPair) -> Result<(), DevCertificatesError> {
    write(path, &key.serialize_pem(), 0o600)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), DevCertificatesError> {
    private_file::write(path, text, mode).map_err(|source| file_error(path, source))
}

fn read(path: &Path) -> Result<String, DevCertificatesError> {
    fs::read_to_string(path).map_err(|source| file_error(path, source))
}

fn ia5(text: &str) -> Result<Ia5String, DevCertificatesError> {
    Ia5String::try_from(text).map_err(make_error)
}

fn file_error(path: &Path, source: io::Error) -> DevCertificatesError {
    DevCertificatesError::File { path: path.to_owned(), source }
}

fn foreign(path: &Path, reason: impl std::fmt::Display) -> DevCertificatesError {
    DevCertificatesError::Foreign { path: path.to_owned(), reason: reason.to_string() }
}

fn make_error(reason: impl std::fmt::Display) -> DevCertificatesError {
    DevCertificatesError::Make { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn second_run_keeps_everything_and_adds_the_new_name() {
        let directory = tempfile::tempdir().unwrap();
        let first = make(directory.path(), &["oslo-4".to_owned()]).unwrap();
        assert!(first.iter().all(|it| !it.existed));
        let read = |name: &str| fs::read(directory.path().join(name)).unwrap();
        let before = (read("ca.pem"), read("collector.pem"), read("endpoint-oslo-4.pem"));
        let second = make(directory.path(), &["oslo-4".to_owned(), "tromso-1".to_owned()]).unwrap();
        assert_eq!(before, (read("ca.pem"), read("collector.pem"), read("endpoint-oslo-4.pem")));
        assert_eq!(second[2].endpoint, first[2].endpoint);
        assert_ne!(second[3].endpoint, first[2].endpoint);
        let existed: Vec<_> = second.iter().map(|it| it.existed).collect();
        assert_eq!(existed, [true, true, true, false]);
    }

    #[test]
    fn keys_are_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        make(directory.path(), &["oslo-4".to_owned()]).unwrap();
        for name in ["ca.key", "collector.key", "endpoint-oslo-4.key"] {
            let mode = fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["", "../x", "a/b", "a b", "\u{1b}[0m", &"x".repeat(65)] {
            let made = make(directory.path(), &[name.to_owned()]);
            assert!(matches!(made, Err(DevCertificatesError::Name { .. })), "{name:?}");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn foreign_authority_is_named_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), "mine").unwrap();
        fs::write(directory.path().join("ca.key"), "mine").unwrap();
        let made = make(directory.path(), &[]);
        assert!(matches!(made, Err(DevCertificatesError::Foreign { .. })), "{made:?}");
        assert_eq!(fs::read(directory.path().join("ca.pem")).unwrap(), b"mine");
    }
}
