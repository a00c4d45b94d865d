//! What a token is to a collector, and when it lets somebody in.
//!
//! The secret is never kept, only its SHA-256: whoever reads the registry can enrol nobody.

use std::hint::black_box;

use roomtone_protocol::enroll::{EnrollRefusal, TokenId};

use super::refusal::Refusal;

/// The most uses of one token: two thousand rooms, and room to grow.
pub const USES_MAX: u32 = 100_000;
/// The longest life of a token, in days.
pub const LIFE_DAYS_MAX: u64 = 366;
/// The longest name of a site, in characters.
pub const SITE_CHARACTERS_MAX: usize = 64;

/// One token, as the registry keeps it. Times are microseconds since 1970 by the collector's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenFacts {
    /// Names it.
    pub id: TokenId,
    /// SHA-256 of its secret.
    pub secret_hash: [u8; 32],
    /// The site of the endpoints that it enrols; empty for none.
    pub site: String,
    /// How often it may be used.
    pub uses_max: u32,
    /// How often it was.
    pub uses: u32,
    /// When it was made.
    pub created_us: u64,
    /// When it ends.
    pub expires_us: u64,
    /// When an operator took it back.
    pub revoked_us: Option<u64>,
}

/// How a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    /// It lets in.
    Open,
    /// It was used as often as it may be.
    Used,
    /// Its time is over.
    Expired,
    /// An operator took it back.
    Revoked,
}

impl TokenFacts {
    /// How it stands at `now_us`.
    #[must_use]
    pub fn state(&self, now_us: u64) -> TokenState {
        if self.revoked_us.is_some() {
            TokenState::Revoked
        } else if self.uses >= self.uses_max {
            TokenState::Used
        } else if now_us >= self.expires_us {
            TokenState::Expired
        } else {
            TokenState::Open
        }
    }
}

/// Whether a bearer is let in. `found` is what the registry has under the id that the bearer gave.
///
/// How a token stands is told only to who knows its secret.
///
/// # Errors
/// [`Refusal`]: one of those of tokens.
pub fn judge(
    found: Option<&TokenFacts>,
    secret_hash: &[u8; 32],
    now_us: u64,
) -> Result<(), Refusal> {
    let token = found.ok_or(Refusal::TokenUnknown)?;
    if !is_same(&token.secret_hash, secret_hash) {
        return Err(Refusal::TokenWrongSecret);
    }
    match token.state(now_us) {
        TokenState::Open => Ok(()),
        TokenState::Used => Err(Refusal::TokenUsed),
        TokenState::Expired => Err(Refusal::TokenExpired),
        TokenState::Revoked => Err(Refusal::TokenRevoked),
    }
}

/// What the bearer is told; a wrong secret looks like an unknown token.
#[must_use]
pub fn answer(refusal: Refusal) -> EnrollRefusal {
    match refusal {
        Refusal::TokenUnknown | Refusal::TokenWrongSecret => EnrollRefusal::UnknownToken,
        Refusal::TokenExpired => EnrollRefusal::ExpiredToken,
        Refusal::TokenUsed => EnrollRefusal::UsedToken,
        Refusal::TokenRevoked => EnrollRefusal::RevokedToken,
        Refusal::TokenOfOtherCollector => EnrollRefusal::OtherCollector,
        Refusal::TooMany => EnrollRefusal::Busy,
        Refusal::NotEnrolling => EnrollRefusal::NotEnrolling,
        Refusal::WrongAuthority
        | Refusal::BadCertificate
        | Refusal::CertificateWithoutKey
        | Refusal::NoCertificate
        | Refusal::NoEndpoint
        | Refusal::Expired
        | Refusal::Revoked
        | Refusal::UnknownEndpoint
        | Refusal::Cloned
        | Refusal::InUse
        | Refusal::EndpointMismatch
        | Refusal::Garbage
        | Refusal::HandshakeFailed
        | Refusal::NotTrusted
        | Refusal::BadRequest => EnrollRefusal::BadRequest,
    }
}

/// Compares in a time that does not depend on where the two differ.
fn is_same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0u8, |all, (a, b)| black_box(all | (a ^ b)));
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> TokenFacts {
        TokenFacts {
            id: TokenId([1; 8]),
            secret_hash: [7; 32],
            site: String::new(),
            uses_max: 2,
            uses: 1,
            created_us: 0,
            expires_us: 100,
            revoked_us: None,
        }
    }

    #[test]
    fn token_lets_in_until_it_is_used_up_over_or_revoked() {
        assert_eq!(judge(Some(&token()), &[7; 32], 99), Ok(()));
        assert_eq!(judge(Some(&token()), &[7; 32], 100), Err(Refusal::TokenExpired));
        let used = TokenFacts { uses: 2, ..token() };
        assert_eq!(judge(Some(&used), &[7; 32], 99), Err(Refusal::TokenUsed));
        let revoked = TokenFacts { revoked_us: Some(1), ..used };
        assert_eq!(judge(Some(&revoked), &[7; 32], 200), Err(Refusal::TokenRevoked));
    }

    #[test]
    fn state_is_told_only_to_who_knows_the_secret() {
        let revoked = TokenFacts { revoked_us: Some(1), ..token() };
        for place in 0..32 {
            let mut wrong = [7; 32];
            wrong[place] = 6;
            let refused = judge(Some(&revoked), &wrong, 99).unwrap_err();
            assert_eq!(refused, Refusal::TokenWrongSecret);
            assert_eq!(answer(refused), answer(Refusal::TokenUnknown));
        }
        assert_eq!(judge(None, &[7; 32], 99), Err(Refusal::TokenUnknown));
    }
}
