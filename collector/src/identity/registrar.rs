//! What connections ask about identity: who is heard, who is enrolled, what is renewed, who was revoked.
//!
//! Every call may wait for the disk: call it where that is allowed. Names, addresses, tokens and keys stay out of the
//! log but for DEBUG; each refusal is counted by its reason.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use roomtone_protocol::enroll::{
    BootId, EnrollRefusal, EnrollReply, EnrollRequest, RenewRefusal, RenewReply,
};
use roomtone_protocol::hello::RefuseReason;
use roomtone_protocol::id::EndpointId;

use super::authority::{Authority, Issued};
use super::digest::sha256;
use super::pace::{self, Pace};
use super::refusal::{Refusal, Refusals};
use super::registry::{Greeting, NewCertificate, Registry, RegistryError, RegistryReader};
use super::standing::{self, Admission, Boot, Live, Machine, Required};
use super::token;
use crate::ingest::certificate::{Identity, NAME_CHARACTERS_MAX};

/// What the registrar works with.
#[derive(Debug)]
pub struct Settings {
    /// The collector's own authority; without one nobody is enrolled and nothing renewed.
    pub authority: Option<Authority>,
    /// Whether endpoints must be in the registry.
    pub required: Required,
    /// The name in the collector's certificate that endpoints look for.
    pub server_name: String,
}

/// Why somebody is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// By a rule.
    Refused(Refusal),
    /// The registry cannot be read now.
    Unavailable,
}

/// Who is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// What it may do.
    pub admission: Admission,
    /// Its display name: that of the registry, else that of the certificate.
    pub name: String,
    /// Its site; empty for none.
    pub site: String,
}

/// Keeps and judges identities.
#[derive(Debug)]
pub struct Registrar {
    settings: Settings,
    registry: Mutex<Registry>,
    /// For those who only read: a step under way may wait for the disk or for another process.
    reader: RegistryReader,
    refusals: Arc<Refusals>,
    enrolments: Mutex<Pace<IpAddr>>,
    renewals: Mutex<Pace<EndpointId>>,
    hellos: Mutex<Pace<EndpointId>>,
    /// Those that were revoked while this ran; at most as many as the registry has.
    revoked: Mutex<HashSet<EndpointId>>,
    wall_us: fn() -> u64,
}

impl Registrar {
    /// A registrar over an open registry; `wall_us` is the collector's clock.
    #[must_use]
    pub fn new(
        settings: Settings,
        registry: Registry,
        refusals: Arc<Refusals>,
        wall_us: fn() -> u64,
    ) -> Self {
        Self {
            settings,
            reader: registry.reader(),
            registry: Mutex::new(registry),
            refusals,
            enrolments: Mutex::new(Pace::of_enrolments()),
            renewals: Mutex::new(Pace::of_renewals()),
            hellos: Mutex::new(Pace::of_hellos()),
            revoked: Mutex::default(),
            wall_us,
        }
    }

    /// The counters of refusals.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Whether machines can be enrolled here.
    #[must_use]
    pub fn is_enrolling(&self) -> bool {
        self.settings.authority.is_some()
    }

    /// Whether a peer with a certificate of a known authority is heard.
    ///
    /// # Errors
    /// [`Denied`]; a refusal is counted.
    pub fn admit(&self, identity: &Identity) -> Result<Admitted, Denied> {
        let known = self.stepped(self.reader.endpoint(identity.endpoint))?;
        let now_us = (self.wall_us)();
        let admission =
            standing::admit(known.as_ref(), self.settings.required, identity.shown, now_us)
                .map_err(|refusal| self.deny(refusal))?;
        let (name, site) = known.map(|it| (it.name, it.site)).unwrap_or_default();
        let name = if name.is_empty() { identity.name.clone() } else { name };
        Ok(Admitted { admission, name, site })
    }

    /// Judges a Hello by its boot id; one endpoint says no more of them than [`pace::HELLOS`], for each may cost two
    /// syncs of a disk.
    ///
    /// # Errors
    /// [`Denied`]; a refusal is counted. After [`Refusal::InUse`] look whether the other connection lives, and if so
    /// call [`mark_cloned`](Self::mark_cloned).
    pub fn greet(
        &self,
        identity: &Identity,
        boot: Option<BootId>,
        remote: SocketAddr,
        live: Live,
        now: Instant,
    ) -> Result<(), Denied> {
        if !lock(&self.hellos).admits(identity.endpoint, now) {
            return Err(self.deny(Refusal::TooMany));
        }
        let remote = remote.ip().to_canonical().to_string();
        let greeting = Greeting { key: identity.shown.key, boot, remote: &remote, live };
        let now_us = (self.wall_us)();
        let judged = lock(&self.registry).greet(identity.endpoint, greeting, now_us);
        let verdict = match self.stepped(judged)? {
            // Nobody enrolled it: as ever, the newer connection replaces the older.
            None => return Ok(()),
            Some(judged) => judged.map_err(|refusal| self.deny(refusal))?,
        };
        match verdict {
            Boot::Holder | Boot::NewLife => Ok(()),
            Boot::InUse => Err(self.deny(Refusal::InUse)),
            Boot::SecondMachine => {
                tell_cloned(identity.endpoint);
                Err(self.deny(Refusal::Cloned))
            }
            Boot::Cloned => Err(self.deny(Refusal::Cloned)),
        }
    }

    /// Marks an endpoint whose two machines were seen at once: `boot`, from `remote`, was the second.
    pub fn mark_cloned(&self, endpoint: EndpointId, boot: BootId, remote: SocketAddr) {
        let now_us = (self.wall_us)();
        let remote = remote.ip().to_canonical().to_string();
        let second = Machine { boot, remote, first_us: now_us };
        let marked = lock(&self.registry).mark_cloned(endpoint, &second, now_us);
        if self.stepped(marked).is_ok() {
            tell_cloned(endpoint);
        }
    }

    /// Answers a request to be enrolled that came from `source`.
    #[must_use]
    pub fn enroll(&self, request: &EnrollRequest, source: IpAddr, now: Instant) -> EnrollReply {
        match self.try_enroll(request, source, now) {
            Ok(reply) => {
                tracing::info!("enrolled an endpoint");
                reply
            }
            Err(Denied::Refused(refusal)) => EnrollReply::Refused(token::answer(refusal)),
            Err(Denied::Unavailable) => EnrollReply::Refused(EnrollRefusal::Busy),
        }
    }

    fn try_enroll(
        &self,
        request: &EnrollRequest,
        source: IpAddr,
        now: Instant,
    ) -> Result<EnrollReply, Denied> {
        let Some(authority) = &self.settings.authority else {
            return Err(self.deny(Refusal::NotEnrolling));
        };
        if !lock(&self.enrolments).admits(pace::network(source), now) {
            return Err(self.deny(Refusal::TooMany));
        }
        if request.authority != authority.fingerprint() {
            return Err(self.deny(Refusal::TokenOfOtherCollector));
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| Denied::Unavailable)?;
        let endpoint = EndpointId(id);
        let name = display_name(&request.host_name);
        let now_us = (self.wall_us)();
        let bearer = (request.token, &sha256(&request.secret.0));
        let enrolled = lock(&self.registry).enroll(bearer, endpoint, &name, now_us, || {
            authority
                .issue_endpoint(&request.csr, endpoint, &name, now_us)
                .map(noted)
                .map_err(|_| Refusal::BadRequest)
        });
        let issued = self.stepped(enrolled)?.map_err(|refusal| self.deny(refusal))?;
        tracing::debug!(%endpoint, ?name, %source, token = %request.token, "enrolled");
        let server_name = self.settings.server_name.as_str();
        Ok(EnrollReply::Enrolled {
            endpoint,
            certificate: issued.der,
            authority: authority.der().clone(),
            server_name: server_name.try_into().unwrap_or_default(),
        })
    }

    /// Answers a request of `endpoint` for its next certificate.
    #[must_use]
    pub fn renew(&self, endpoint: EndpointId, csr: &[u8], now: Instant) -> RenewReply {
        let Some(authority) = &self.settings.authority else {
            self.refusals.add(Refusal::NotEnrolling);
            return RenewReply::Refused(RenewRefusal::NotEnrolling);
        };
        if !lock(&self.renewals).admits(endpoint, now) {
            self.refusals.add(Refusal::TooMany);
            return RenewReply::Refused(RenewRefusal::Busy);
        }
        let now_us = (self.wall_us)();
        let renewed = lock(&self.registry).renew(endpoint, now_us, |known| {
            authority
                .issue_endpoint(csr, endpoint, &known.name, now_us)
                .map(noted)
                .map_err(|_| Refusal::BadRequest)
        });
        match self.stepped(renewed) {
            Ok(Ok(issued)) => {
                tracing::debug!(%endpoint, "renewed a certificate");
                RenewReply::Renewed { certificate: issued.der }
            }
            Ok(Err(refusal)) => {
                self.refusals.add(refusal);
                RenewReply::Refused(if refusal == Refusal::Revoked {
                    RenewRefusal::Revoked
                } else if refusal == Refusal::UnknownEndpoint {
                    RenewRefusal::UnknownEndpoint
                } else {
                    RenewRefusal::BadRequest
                })
            }
            Err(_) => RenewReply::Refused(RenewRefusal::Busy),
        }
    }

    /// Looks an endpoint up again; whether it is revoked. From then on [`is_revoked`](Self::is_revoked) knows.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] where the registry cannot be read.
    pub fn recheck(&self, endpoint: EndpointId) -> Result<bool, Denied> {
        let known = self.stepped(self.reader.endpoint(endpoint))?;
        let is_revoked = known.is_some_and(|it| it.revoked_us.is_some());
        if is_revoked {
            lock(&self.revoked).insert(endpoint);
        }
        Ok(is_revoked)
    }

    /// Whether an endpoint was revoked while this ran, without looking at the disk.
    #[must_use]
    pub fn is_revoked(&self, endpoint: EndpointId) -> bool {
        lock(&self.revoked).contains(&endpoint)
    }

    fn deny(&self, refusal: Refusal) -> Denied {
        self.refusals.add(refusal);
        Denied::Refused(refusal)
    }

    fn stepped<T>(&self, result: Result<T, RegistryError>) -> Result<T, Denied> {
        result.map_err(|error| {
            tracing::error!(%error, "an identity cannot be judged; agents come back later");
            Denied::Unavailable
        })
    }
}

impl Denied {
    /// What an agent is told in the answer to its Hello.
    #[must_use]
    pub fn told(self) -> (RefuseReason, &'static str) {
        match self {
            Self::Refused(Refusal::Revoked) => (RefuseReason::Revoked, "this identity was revoked"),
            Self::Refused(Refusal::Expired) => (
                RefuseReason::Expired,
                "the certificate expired too long ago or is not the last one issued",
            ),
            Self::Refused(Refusal::UnknownEndpoint) => {
                (RefuseReason::UnknownEndpoint, "this collector did not enrol this endpoint")
            }
            Self::Refused(Refusal::Cloned) => {
                (RefuseReason::Cloned, "another machine keeps this identity")
            }
            Self::Refused(Refusal::InUse) => {
                (RefuseReason::InUse, "another machine is connected with this identity")
            }
            Self::Refused(Refusal::TooMany) => {
                (RefuseReason::Busy, "this endpoint comes back too often, come back later")
            }
            Self::Refused(_) | Self::Unavailable => {
                (RefuseReason::Busy, "identities cannot be judged now, come back later")
            }
        }
    }
}

fn tell_cloned(endpoint: EndpointId) {
    tracing::warn!(%endpoint, "two machines use one identity, `endpoint show` names both");
}

fn noted(issued: Issued) -> (NewCertificate, Issued) {
    let certificate = NewCertificate {
        key: issued.identity.shown.key,
        serial: issued.identity.serial.clone(),
        expires_us: issued.identity.shown.not_after_us,
    };
    (certificate, issued)
}

/// What a machine calls itself, fit for a certificate.
fn display_name(host_name: &str) -> String {
    let plain = host_name.trim().chars().filter(|c| !c.is_control());
    let name: String = plain.take(NAME_CHARACTERS_MAX).collect();
    if name.is_empty() { "endpoint".to_owned() } else { name }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "registrar_tests.rs"]
mod tests;
