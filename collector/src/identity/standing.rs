//! How an endpoint stands: whether its certificate is taken, and whether it is one machine or two.
//!
//! An expired certificate is taken for a renewal only: within [`GRACE_US`], for the key that was issued last, and not
//! for a revoked endpoint. The key before the last counts too while nobody has shown the last: the answer that brought
//! it may have been lost.
//!
//! Boot ids never come back on one machine. A, then B, then A again is two machines, as are A and B at once.

use roomtone_protocol::enroll::BootId;
use roomtone_protocol::id::EndpointId;

use super::refusal::Refusal;

/// How long a certificate of an endpoint lives: 30 days.
pub const CERTIFICATE_LIFE_US: u64 = 30 * DAY_US;
/// How long after its end a certificate may still be renewed: 90 days, a summer in a locked building.
pub const GRACE_US: u64 = 90 * DAY_US;
/// The most machines that are remembered of one endpoint; of a machine that boots daily, two weeks.
pub const MACHINES_MAX: usize = 16;

const DAY_US: u64 = 86_400_000_000;

/// The SHA-256 of a public key (its SubjectPublicKeyInfo in DER).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyFingerprint(pub [u8; 32]);

/// One endpoint, as the registry keeps it. Times are microseconds since 1970 by the collector's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointStanding {
    /// Its id.
    pub endpoint: EndpointId,
    /// Its display name. It came from a peer or an operator: escape before printing.
    pub name: String,
    /// Its site; empty for none.
    pub site: String,
    /// The key of the certificate that was issued last.
    pub key: KeyFingerprint,
    /// Whether somebody has connected with that key.
    pub key_seen: bool,
    /// The last key before it that somebody connected with.
    pub key_before: Option<KeyFingerprint>,
    /// The serial number of the certificate that was issued last.
    pub serial: Vec<u8>,
    /// When the endpoint was enrolled.
    pub enrolled_us: u64,
    /// When that certificate was issued.
    pub issued_us: u64,
    /// When it ends.
    pub expires_us: u64,
    /// When an operator revoked the endpoint.
    pub revoked_us: Option<u64>,
    /// The boot id of the machine that holds the identity.
    pub boot: Option<BootId>,
    /// When it was found that another machine uses it too.
    pub cloned_us: Option<u64>,
}

/// One life of a machine that spoke as the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its boot id.
    pub boot: BootId,
    /// The address that it came from.
    pub remote: String,
    /// When it first did, in microseconds since 1970.
    pub first_us: u64,
}

/// What a peer showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// The key of its certificate.
    pub key: KeyFingerprint,
    /// When the certificate ends, in microseconds since 1970.
    pub not_after_us: u64,
}

/// What an endpoint may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Everything.
    Full,
    /// Ask for a new certificate.
    RenewOnly,
}

/// Whether a peer with a certificate of our authority is heard. `known` is what the registry has.
///
/// # Errors
/// [`Refusal::Revoked`], [`Refusal::Expired`], [`Refusal::UnknownEndpoint`].
pub fn admit(
    known: Option<&EndpointStanding>,
    is_required: Required,
    shown: Shown,
    now_us: u64,
) -> Result<Admission, Refusal> {
    let is_over = now_us >= shown.not_after_us;
    let Some(known) = known else {
        return match is_required {
            Required::Yes => Err(Refusal::UnknownEndpoint),
            Required::No if is_over => Err(Refusal::Expired),
            Required::No => Ok(Admission::Full),
        };
    };
    if known.revoked_us.is_some() {
        return Err(Refusal::Revoked);
    }
    if !is_over {
        return Ok(Admission::Full);
    }
    let is_last = shown.key == known.key
        || (!known.key_seen && known.key_before.is_some_and(|before| before == shown.key));
    let is_forgiven = now_us - shown.not_after_us < GRACE_US;
    if is_last && is_forgiven { Ok(Admission::RenewOnly) } else { Err(Refusal::Expired) }
}

/// Whether endpoints must be in the registry (`identity.required`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Required {
    /// Others are refused.
    Yes,
    /// Others are taken, as with development certificates.
    No,
}

/// Another connection that the endpoint has now, with the boot id that it told.
pub type Live = Option<Option<BootId>>;

/// What a boot id says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// Nothing new: the machine that holds the identity, or one that tells no boot id.
    Holder,
    /// The machine, or the one that took its place, has booted: it holds the identity from now on.
    NewLife,
    /// Another machine is connected. Come back later, and meanwhile look whether it lives.
    InUse,
    /// A second machine, found just now: mark the endpoint.
    SecondMachine,
    /// A machine other than the one that keeps a cloned identity.
    Cloned,
}

/// Judges the boot id of a Hello against what is known of the endpoint.
#[must_use]
pub fn judge_boot(
    known: &EndpointStanding,
    machines: &[Machine],
    boot: Option<BootId>,
    live: Live,
) -> Boot {
    if known.cloned_us.is_some() {
        return if boot.is_some() && boot == known.boot { Boot::Holder } else { Boot::Cloned };
    }
    let Some(boot) = boot else { return Boot::Holder };
    if known.boot == Some(boot) {
        return Boot::Holder;
    }
    if machines.iter().any(|it| it.boot == boot) {
        return Boot::SecondMachine;
    }
    match live {
        Some(Some(other)) if other != boot => Boot::InUse,
        Some(_) | None => Boot::NewLife,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: BootId = BootId([0xa; 16]);
    const B: BootId = BootId([0xb; 16]);
    const KEY: KeyFingerprint = KeyFingerprint([1; 32]);
    const OLDER: KeyFingerprint = KeyFingerprint([2; 32]);
    const END: u64 = 1_000 * DAY_US;

    fn known() -> EndpointStanding {
        EndpointStanding {
            endpoint: EndpointId([1; 16]),
            name: String::new(),
            site: String::new(),
            key: KEY,
            key_seen: true,
            key_before: Some(OLDER),
            serial: Vec::new(),
            enrolled_us: 0,
            issued_us: 0,
            expires_us: END,
            revoked_us: None,
            boot: Some(A),
            cloned_us: None,
        }
    }

    fn admitted(
        known: &EndpointStanding,
        key: KeyFingerprint,
        now_us: u64,
    ) -> Result<Admission, Refusal> {
        admit(Some(known), Required::Yes, Shown { key, not_after_us: END }, now_us)
    }

    #[test]
    fn certificate_is_full_until_its_end_and_renewable_for_ninety_days_more() {
        assert_eq!(admitted(&known(), KEY, END - 1), Ok(Admission::Full));
        assert_eq!(admitted(&known(), KEY, END), Ok(Admission::RenewOnly));
        assert_eq!(admitted(&known(), KEY, END + GRACE_US - 1), Ok(Admission::RenewOnly));
        assert_eq!(admitted(&known(), KEY, END + GRACE_US), Err(Refusal::Expired));
    }

    #[test]
    fn expired_certificate_of_an_older_key_is_forgiven_only_while_the_last_was_never_shown() {
        assert_eq!(
            admitted(&known(), OLDER, END - 1),
            Ok(Admission::Full),
            "it is good until its end"
        );
        assert_eq!(admitted(&known(), OLDER, END), Err(Refusal::Expired));
        let lost = EndpointStanding { key_seen: false, ..known() };
        assert_eq!(admitted(&lost, OLDER, END), Ok(Admission::RenewOnly));
        assert_eq!(admitted(&lost, KeyFingerprint([3; 32]), END), Err(Refusal::Expired));
    }

    #[test]
    fn revoked_endpoint_is_refused_whatever_it_shows() {
        let revoked = EndpointStanding { revoked_us: Some(1), ..known() };
        for now_us in [0, END, END + GRACE_US] {
            assert_eq!(admitted(&revoked, KEY, now_us), Err(Refusal::Revoked));
        }
    }

    #[test]
    fn unknown_endpoint_is_taken_only_where_the_registry_is_not_required() {
        let shown = Shown { key: KEY, not_after_us: END };
        assert_eq!(admit(None, Required::Yes, shown, 0), Err(Refusal::UnknownEndpoint));
        assert_eq!(admit(None, Required::No, shown, 0), Ok(Admission::Full));
        assert_eq!(admit(None, Required::No, shown, END), Err(Refusal::Expired));
    }

    fn machine(boot: BootId) -> Machine {
        Machine { boot, remote: String::new(), first_us: 0 }
    }

    #[test]
    fn reboot_is_a_new_life_and_a_boot_that_comes_back_is_a_second_machine() {
        let machines = [machine(A)];
        assert_eq!(judge_boot(&known(), &machines, Some(A), None), Boot::Holder);
        assert_eq!(judge_boot(&known(), &machines, Some(B), None), Boot::NewLife);
        let rebooted = EndpointStanding { boot: Some(B), ..known() };
        let machines = [machine(A), machine(B)];
        assert_eq!(judge_boot(&rebooted, &machines, Some(A), None), Boot::SecondMachine);
        assert_eq!(judge_boot(&rebooted, &machines, Some(A), Some(Some(B))), Boot::SecondMachine);
    }

    #[test]
    fn newcomer_waits_while_another_machine_is_connected() {
        let machines = [machine(A)];
        assert_eq!(judge_boot(&known(), &machines, Some(B), Some(Some(A))), Boot::InUse);
        // The same machine on a new path, and an old agent that tells nothing, replace as ever.
        assert_eq!(judge_boot(&known(), &machines, Some(A), Some(Some(A))), Boot::Holder);
        assert_eq!(judge_boot(&known(), &machines, None, Some(Some(A))), Boot::Holder);
        assert_eq!(judge_boot(&known(), &machines, Some(B), Some(None)), Boot::NewLife);
    }

    #[test]
    fn cloned_identity_stays_with_its_holder() {
        let cloned = EndpointStanding { cloned_us: Some(1), ..known() };
        assert_eq!(judge_boot(&cloned, &[], Some(A), None), Boot::Holder);
        for boot in [Some(B), None] {
            assert_eq!(judge_boot(&cloned, &[], boot, None), Boot::Cloned);
        }
    }
}
