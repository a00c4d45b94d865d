//! Renews the server's certificate before it ends, where it is of the collector's own authority.
//!
//! For the same key and the same names, so that one file changes, and whole. What other authorities issued is left
//! alone. Whatever goes wrong is told and tried again; until then the certificate at hand goes on being shown.

use std::fs;

use super::authority::{Authority, SERVER_RENEW_US};
use crate::config::Config;
use crate::ingest::certificate::{self, ServerNames};
use crate::ingest::tls::{ServerCertificate, TlsFiles};
use crate::private_file;

/// A server's certificate that is ours to renew.
#[derive(Debug)]
pub struct ServerRenewal {
    authority: Authority,
    config: Config,
    shown: ServerCertificate,
}

impl ServerRenewal {
    /// `None` where the certificate that is shown is not of this authority.
    #[must_use]
    pub fn new(authority: Authority, config: &Config, shown: ServerCertificate) -> Option<Self> {
        let names = certificate::server_names(&shown.leaf(), authority.der()).ok()?;
        let is_ours = names.is_of_authority && !names.names.is_empty();
        is_ours.then(|| Self { authority, config: config.clone(), shown })
    }

    /// Renews the certificate if it ends soon.
    pub fn look(&mut self, now_us: u64) {
        match certificate::server_names(&self.shown.leaf(), self.authority.der()) {
            Ok(names) if now_us.saturating_add(SERVER_RENEW_US) >= names.not_after_us => {
                match self.renew(&names, now_us) {
                    Ok(()) => tracing::info!("renewed the server's certificate"),
                    Err(error) => {
                        tracing::error!(%error, "the server's certificate is not renewed and ends soon");
                    }
                }
            }
            Ok(_) | Err(_) => {}
        }
    }

    fn renew(&self, names: &ServerNames, now_us: u64) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let Config { certificate, key, client_ca, .. } = &self.config;
        let key_pem = fs::read_to_string(key).map_err(|error| text(&error))?;
        let next = self
            .authority
            .issue_server(Some(&key_pem), &names.names, now_us)
            .map_err(|error| text(&error))?;
        private_file::write(certificate, &next.certificate, 0o644).map_err(|error| text(&error))?;
        let files = TlsFiles { certificate, key, client_ca };
        self.shown.reload(files, Some(self.authority.der())).map_err(|error| text(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::clock;
    use crate::dev_certificates;
    use crate::identity::init::{self, Layout, Plan};

    const DAY_US: u64 = 86_400_000_000;

    fn renewal(directory: &Path, made_us: u64) -> ServerRenewal {
        let reach = "rooms.example.test:4433".parse().unwrap();
        let names = vec!["192.0.2.7".to_owned()];
        init::init(
            &Layout::in_folder(directory),
            &Plan { reach, names, store: "store".to_owned() },
            made_us,
        )
        .unwrap();
        let config = Config::load(&directory.join(init::CONFIG)).unwrap();
        open(&config).unwrap()
    }

    fn open(config: &Config) -> Option<ServerRenewal> {
        let Config { certificate, key, client_ca, .. } = config;
        let files = TlsFiles { certificate, key, client_ca };
        let authority_key = client_ca.with_extension("key");
        let authority = Authority::load(client_ca, &authority_key).unwrap();
        let shown = ServerCertificate::load(files, Some(authority.der())).unwrap();
        ServerRenewal::new(authority, config, shown)
    }

    fn end(renewal: &ServerRenewal) -> ServerNames {
        certificate::server_names(&renewal.shown.leaf(), renewal.authority.der()).unwrap()
    }

    /// Made for 90 days: on day 59 it has 31 left, on day 60 it has 30.
    #[test]
    fn certificate_is_renewed_thirty_days_before_its_end_for_the_same_names() {
        let directory = tempfile::tempdir().unwrap();
        let made_us = clock::wall_us() / DAY_US * DAY_US;
        let mut renewal = renewal(directory.path(), made_us);
        let first = end(&renewal);
        assert_eq!(first.not_after_us, made_us + 90 * DAY_US);
        renewal.look(made_us + 59 * DAY_US);
        assert_eq!(end(&renewal), first);
        renewal.look(made_us + 60 * DAY_US);
        let second = end(&renewal);
        assert_eq!(second.not_after_us, made_us + 150 * DAY_US);
        assert_eq!(second.names, ["rooms.example.test", "192.0.2.7"]);
        // What is on disk is what is shown.
        assert_eq!(end(&open(&renewal.config).unwrap()), second);
    }

    #[test]
    fn certificate_of_another_authority_is_left_alone() {
        let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ours = renewal(directory.path(), clock::wall_us());
        dev_certificates::make(other.path(), &[]).unwrap();
        let config = Config {
            certificate: other.path().join("collector.pem"),
            key: other.path().join("collector.key"),
            ..ours.config
        };
        assert!(open(&config).is_none());
    }
}
