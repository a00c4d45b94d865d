//! The collector's side of mutual TLS: TLS 1.3 only, ring, every client shows a certificate of our authority.
//!
//! No tickets and no early data: a resumed session would skip the look at the client's certificate (RFC 8446 section
//! 2.2), and handshakes are rare here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

/// The ALPN protocol of the frames in this crate's [`roomtone_protocol`].
pub const ALPN: &[u8] = b"roomtone/1";

/// Why TLS cannot be set up. Each names the file to look at.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no such thing. Check its path, its rights and that it is PEM.
    #[error("cannot read {what} from {}: {reason} (see tls.{key} in the config)", path.display())]
    File {
        /// What was looked for.
        what: &'static str,
        /// The config key that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The files are readable and do not fit together, as a key of another certificate.
    #[error("the certificates cannot be used: {reason}")]
    Unusable {
        /// Why.
        reason: String,
    },
}

/// Reads certificate chain, key and client authority (all PEM) and builds the configuration.
///
/// # Errors
/// [`TlsError`] naming the file at fault.
pub fn server_config(
    certificate: &Path,
    key: &Path,
    client_ca: &Path,
) -> Result<ServerConfig, TlsError> {
    let chain = certificates(certificate, "certificate")?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::File {
        what: "a private key",
        key: "key",
        path: key.to_owned(),
        reason: describe(&error),
    })?;
    let mut roots = RootCertStore::empty();
    for authority in certificates(client_ca, "client_ca")? {
        roots.add(authority).map_err(unusable)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(unusable)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

fn certificates(path: &Path, key: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error =
        |reason| TlsError::File { what: "certificates", key, path: path.to_owned(), reason };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|source| error(describe(&source)))?;
    if found.is_empty() { Err(error("there is none in it".to_owned())) } else { Ok(found) }
}

/// The library says "I/O error: ..." and shows absence as a debug form; a person needs the plain reason.
fn describe(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    if let Error::Io(error) = error {
        error.to_string()
    } else if matches!(error, Error::NoItemsFound) {
        "there is none in it".to_owned()
    } else {
        error.to_string()
    }
}

fn unusable(error: impl std::fmt::Display) -> TlsError {
    TlsError::Unusable { reason: error.to_string() }
}
