//! Carries out what [`Renewal`] decides: makes the key and the request, and keeps what the answer brings.
//!
//! The order of steps: a trial write, so that nothing is asked for that could not be kept; a new key; the request; the
//! answer held against it; certificate and key on disk by one rename; only then are they used. A process that ends at
//! any step finds the one identity or the other, whole, and the collector takes both (WIRE.md section 7.6).

use std::io;

use roomtone_protocol::enroll::{Der, RenewRefusal, RenewReply};

use super::exchange::NoRenewal;
use crate::clock::Moment;
use crate::config::Identity;
use crate::identity::certificate::Certificate;
use crate::identity::folder::Folder;
use crate::identity::key::Key;
use crate::identity::renewal::Renewal;
use crate::show::rfc3339;

/// Renewals, with what they need of this machine.
#[derive(Debug)]
pub(super) struct Renewing {
    pub(super) core: Renewal,
    /// Where the identity lies; `None` where certificate and key are two files, which were not made here.
    folder: Option<Folder>,
    /// That of the request under way.
    key: Option<Key>,
    /// What the log was told last, so that it is told once.
    told: Option<String>,
}

/// Why there is no next certificate.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(
        "identity.certificate and identity.key are two files, which this agent did not make and does not replace: \
         whoever placed them must, or enrol this endpoint"
    )]
    NotOurs,
    #[error(
        "{path:?} cannot be written: {source}; make room, make it the agent's user's own, or have it replaced by \
         whoever placed it"
    )]
    Disk { path: std::path::PathBuf, source: io::Error },
    #[error(transparent)]
    Key(#[from] crate::identity::key::KeyError),
    #[error("the collector refused: {}", advice(*.0))]
    Refused(Option<RenewRefusal>),
    #[error(
        "the certificate that came is of no use: {0}; look at the collector's clock and authority"
    )]
    Useless(String),
}

impl Renewing {
    pub(super) fn new(identity: &Identity) -> Self {
        let is_one_file = identity.certificate == identity.key;
        Self {
            core: Renewal::new(),
            folder: is_one_file.then(|| Folder::of_file(identity.certificate.clone())),
            key: None,
            told: None,
        }
    }

    /// Makes a request for the next certificate.
    ///
    /// # Errors
    /// What the exchange is to be told; the next try is planned.
    pub(super) fn request(&mut self, random: u64, now: Moment) -> Result<Der, NoRenewal> {
        self.prepared().map_err(|problem| self.fail(&problem, random, now))
    }

    fn prepared(&mut self) -> Result<Der, Problem> {
        let folder = self.folder.as_ref().ok_or(Problem::NotOurs)?;
        folder.prepare().map_err(|source| disk(folder, source))?;
        let key = Key::generate()?;
        let csr = key.request()?;
        self.key = Some(key);
        self.core.handle_asked();
        Ok(csr)
    }

    /// Takes the answer; the certificate is in force where there is no error.
    ///
    /// # Errors
    /// What the exchange is to be told; the next try is planned.
    pub(super) fn handle_reply(
        &mut self,
        reply: Option<RenewReply>,
        random: u64,
        now: Moment,
    ) -> Result<(), NoRenewal> {
        let kept = self.keep(reply, now).map_err(|problem| self.fail(&problem, random, now))?;
        let until = rfc3339(kept.not_after_us);
        tracing::info!(%until, "the certificate was renewed");
        self.told = None;
        self.core.handle_kept(kept, now);
        Ok(())
    }

    fn keep(&mut self, reply: Option<RenewReply>, now: Moment) -> Result<Certificate, Problem> {
        let key = self.key.take();
        let der = match reply {
            Some(RenewReply::Renewed { certificate }) => certificate,
            Some(RenewReply::Refused(refusal)) => return Err(Problem::Refused(Some(refusal))),
            None => return Err(Problem::Refused(None)),
        };
        let (Some(folder), Some(key)) = (&self.folder, key) else { return Err(Problem::NotOurs) };
        let offered =
            Certificate::read(&der).map_err(|error| Problem::Useless(error.to_string()))?;
        self.core
            .judge(&offered, &key.public_key(), now)
            .map_err(|nonsense| Problem::Useless(nonsense.to_string()))?;
        folder.keep_certificate(&der, &key).map_err(|source| disk(folder, source))?;
        Ok(offered)
    }

    /// Plans the next try and tells why; a reason that lasts is one line.
    fn fail(&mut self, problem: &Problem, random: u64, now: Moment) -> NoRenewal {
        self.key = None;
        self.core.handle_failed(random, now);
        let reason = problem.to_string();
        if self.told.as_ref() == Some(&reason) {
            tracing::debug!(%reason, "the certificate was not renewed");
        } else {
            tracing::warn!(%reason, "the certificate was not renewed, trying again later");
            self.told = Some(reason);
        }
        match problem {
            Problem::Disk { source, .. } if !is_lasting(source) => NoRenewal::Later,
            Problem::Key(_) | Problem::Refused(Some(RenewRefusal::Busy)) => NoRenewal::Later,
            Problem::NotOurs | Problem::Disk { .. } | Problem::Refused(_) | Problem::Useless(_) => {
                NoRenewal::Unable
            }
        }
    }
}

fn disk(folder: &Folder, source: io::Error) -> Problem {
    Problem::Disk { path: folder.endpoint_file(), source }
}

/// Whether a folder stays closed until somebody opens it, where a disk that is full may not stay so.
fn is_lasting(error: &io::Error) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), NotFound | PermissionDenied | ReadOnlyFilesystem)
}

fn advice(refusal: Option<RenewRefusal>) -> &'static str {
    match refusal {
        Some(RenewRefusal::BadRequest) => {
            "it does not understand the request; bring both to the same version"
        }
        Some(RenewRefusal::UnknownEndpoint) => {
            "it did not enrol this endpoint; enrol it there, or replace the certificate as it was made"
        }
        Some(RenewRefusal::Revoked) => "this identity was revoked, enrol anew",
        Some(RenewRefusal::Busy) => "too many ask at once",
        Some(RenewRefusal::NotEnrolling) => {
            "it has no authority of its own; replace the certificate as it was made"
        }
        None => "for a reason that this version does not know, upgrade this agent",
    }
}
