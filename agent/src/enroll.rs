//! Enrolment: a token becomes a key, a certificate and a place in the collector's fleet.
//!
//! The order of steps is what makes a single-use token safe: everything that can be wrong on this machine is tried
//! before the token is shown to anybody, and the token is shown to nobody who did not prove to have the authority that
//! the token names. What comes back is checked before it is kept.

pub mod quic;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use roomtone_protocol::enroll::{EnrollRefusal, EnrollReply, EnrollRequest};
use roomtone_protocol::id::EndpointId;
use roomtone_protocol::limits::{HOST_NAME_BYTES_MAX, VERSION_BYTES_MAX};
use roomtone_protocol::token::{Token, TokenError};

use crate::identity::certificate::{Age, Certificate};
use crate::identity::digest::sha256;
use crate::identity::folder::{Folder, Found};
use crate::identity::issuer::Issuer;
use crate::identity::key::{Key, KeyError};
use crate::show::rfc3339;

/// How long each of the collector's addresses may take to complete a handshake, and the collector to answer: ten
/// round trips to a geostationary satellite.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether an identity that is there may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and there is no enrolment.
    Keep,
    /// It is replaced.
    Replace,
}

/// What an enrolment brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Who this endpoint is from now on.
    pub endpoint: EndpointId,
    /// Until when the certificate is good, in microseconds since 1970.
    pub not_after_us: u64,
    /// Where it reports to.
    pub issuer: Issuer,
    /// What this machine's clock makes of the new certificate.
    pub age: Age,
}

/// Why there is no enrolment; each message is one line with what to do.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The text is no token. Nothing was sent.
    #[error("this is no token: {0}")]
    Token(#[from] TokenError),
    /// There is an identity. Nothing was sent.
    #[error(
        "this machine is enrolled already, as {endpoint} until {until}; \
         give --force to replace that identity",
        until = rfc3339(*not_after_us)
    )]
    Exists {
        /// As whom.
        endpoint: EndpointId,
        /// Until when, in microseconds since 1970.
        not_after_us: u64,
    },
    /// There is a file that is no identity. Nothing was sent.
    #[error("{path:?} is there and of no use ({reason}); give --force to replace it", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The identity cannot be kept. Before the token is sent, and after it: the folder's disk may fill between.
    #[error("the identity cannot be kept in {path:?}: {source}; run this as root, or name another --directory", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// No key can be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The collector cannot be reached, or is another one.
    #[error(transparent)]
    Reach(#[from] quic::ReachError),
    /// The collector does not enrol this machine.
    #[error("the collector refused: {}", advice(*.0))]
    Refused(EnrollRefusal),
    /// The collector's answer makes no identity. Nothing was kept.
    #[error("the collector's answer is of no use: {0}; is it of a later version than this agent?")]
    Answer(String),
}

/// Enrols this machine; blocks until it is done or told why not.
///
/// `wall_us` is the wall clock, in microseconds since 1970.
///
/// # Errors
/// [`EnrollError`]. Up to `Key` nothing was sent; after `Refused` the token is as it was.
pub fn enroll(
    token: &str,
    folder: &Folder,
    existing: Existing,
    wall_us: u64,
) -> Result<Enrolled, EnrollError> {
    let token = Token::parse(token)?;
    match (folder.find(), existing) {
        (Found::Nothing, Existing::Keep | Existing::Replace)
        | (Found::Identity(_) | Found::Unusable(_), Existing::Replace) => {}
        (Found::Identity(Certificate { endpoint, not_after_us, .. }), Existing::Keep) => {
            return Err(EnrollError::Exists { endpoint, not_after_us });
        }
        (Found::Unusable(reason), Existing::Keep) => {
            return Err(EnrollError::Unusable { path: folder.endpoint_file(), reason });
        }
    }
    let in_folder = |source| EnrollError::Folder { path: folder.path().to_owned(), source };
    folder.prepare().map_err(in_folder)?;
    let key = Key::generate()?;
    let request = EnrollRequest {
        token: token.id,
        secret: token.secret,
        authority: token.authority,
        csr: key.request()?,
        host_name: host_name(),
        agent_version: agent_version(),
    };
    match quic::ask(&token, request, ATTEMPT_TIMEOUT)? {
        EnrollReply::Refused(refusal) => Err(EnrollError::Refused(refusal)),
        EnrollReply::Enrolled { endpoint, certificate, authority, server_name } => {
            let read = check(&token, &key, endpoint, &certificate, &authority)
                .map_err(EnrollError::Answer)?;
            let issuer = Issuer {
                address: quic::target(&token),
                server_name: server_name.as_str().to_owned(),
            };
            folder.keep(&certificate, &key, &authority, &issuer).map_err(in_folder)?;
            Ok(Enrolled {
                endpoint,
                not_after_us: read.not_after_us,
                issuer,
                age: read.age(wall_us),
            })
        }
    }
}

/// Holds an answer against what was asked.
fn check(
    token: &Token,
    key: &Key,
    endpoint: EndpointId,
    certificate: &[u8],
    authority: &[u8],
) -> Result<Certificate, String> {
    if sha256(authority) != token.authority.0 {
        return Err("it comes with another authority than the token's".to_owned());
    }
    let read = Certificate::read(certificate).map_err(|error| error.to_string())?;
    if read.endpoint != endpoint {
        return Err("the certificate names another endpoint than the answer".to_owned());
    }
    if read.public_key != key.public_key() {
        return Err("the certificate is for another key".to_owned());
    }
    Ok(read)
}

fn advice(refusal: EnrollRefusal) -> &'static str {
    match refusal {
        EnrollRefusal::UnknownToken => {
            "it knows no such token; copy the token again, or make a new one there"
        }
        EnrollRefusal::ExpiredToken => "the token's time is over; make a new one there",
        EnrollRefusal::UsedToken => {
            "the token has been used as often as it may be; make a new one there"
        }
        EnrollRefusal::RevokedToken => "the token was revoked; make a new one there",
        EnrollRefusal::BadRequest => {
            "it does not understand this agent's request; bring both to the same version"
        }
        EnrollRefusal::Busy => "too many endpoints enrol at once; try again in a minute",
        EnrollRefusal::OtherCollector => {
            "the token was made by another collector; make a new one at this one"
        }
        EnrollRefusal::NotEnrolling => {
            "it has no authority of its own and enrols nobody; run its `init` first"
        }
    }
}

/// What this machine calls itself, cut at a character's end to what the wire takes.
fn host_name() -> heapless::String<HOST_NAME_BYTES_MAX> {
    let mut name = heapless::String::new();
    for character in rustix::system::uname().nodename().to_string_lossy().chars() {
        if name.push(character).is_err() {
            break;
        }
    }
    name
}

fn agent_version() -> heapless::String<VERSION_BYTES_MAX> {
    env!("CARGO_PKG_VERSION").chars().take(VERSION_BYTES_MAX).filter(char::is_ascii).collect()
}
