//! The registry on a real file: what two processes do to it at once, and what it keeps.

use std::os::unix::fs::PermissionsExt;

use super::*;

const OSLO: EndpointId = EndpointId([1; 16]);
const KEY: KeyFingerprint = KeyFingerprint([1; 32]);
const NEXT: KeyFingerprint = KeyFingerprint([2; 32]);

fn open() -> (tempfile::TempDir, Registry) {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&folder.path().join("identity.sqlite")).unwrap();
    (folder, registry)
}

fn token(uses_max: u32) -> TokenFacts {
    TokenFacts {
        id: TokenId([1; 8]),
        secret_hash: [7; 32],
        site: "oslo".to_owned(),
        uses_max,
        uses: 0,
        created_us: 1,
        expires_us: 100,
        revoked_us: None,
    }
}

fn certificate(key: KeyFingerprint) -> NewCertificate {
    NewCertificate { key, serial: vec![9], expires_us: 1_000 }
}

fn enroll(registry: &mut Registry, endpoint: EndpointId, now_us: u64) -> Result<(), Refusal> {
    let bearer = (TokenId([1; 8]), &[7; 32]);
    registry.enroll(bearer, endpoint, "Oslo 4", now_us, || Ok((certificate(KEY), ()))).unwrap()
}

fn greet(registry: &mut Registry, boot: u8, live: Live) -> Boot {
    let boot = Some(BootId([boot; 16]));
    let greeting = Greeting { key: KEY, boot, remote: "192.0.2.7", live };
    registry.greet(OSLO, greeting, 5).unwrap().unwrap().unwrap()
}

#[test]
fn file_is_its_owners_and_another_database_is_refused() {
    let (folder, _registry) = open();
    let path = folder.path().join("identity.sqlite");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let other = folder.path().join("other.sqlite");
    Connection::open(&other).unwrap().execute_batch("PRAGMA user_version = 7").unwrap();
    assert!(matches!(Registry::open(&other), Err(RegistryError::Open { .. })));
}

#[test]
fn token_is_used_up_with_its_endpoint_and_not_by_a_refusal() {
    let (_folder, mut registry) = open();
    registry.add_token(&token(1)).unwrap();
    let bearer = (TokenId([1; 8]), &[7; 32]);
    let refused = registry.enroll(bearer, OSLO, "x", 5, || Err::<(_, ()), _>(Refusal::BadRequest));
    assert_eq!(refused.unwrap(), Err(Refusal::BadRequest));
    assert_eq!(registry.tokens().unwrap()[0].uses, 0);
    assert_eq!(enroll(&mut registry, OSLO, 5), Ok(()));
    assert_eq!(enroll(&mut registry, EndpointId([2; 16]), 5), Err(Refusal::TokenUsed));
    let known = registry.endpoint(OSLO).unwrap().unwrap();
    assert_eq!((known.name.as_str(), known.site.as_str(), known.key), ("Oslo 4", "oslo", KEY));
    assert!(registry.endpoint(EndpointId([2; 16])).unwrap().is_none());
}

/// Two connections to one file, as two processes have.
#[test]
fn token_for_one_lets_in_one_of_many_that_ask_at_once() {
    let (folder, mut registry) = open();
    registry.add_token(&token(1)).unwrap();
    let path = folder.path().join("identity.sqlite");
    let tries: Vec<_> = (10..18u8)
        .map(|number| {
            let path = path.clone();
            std::thread::spawn(move || {
                enroll(&mut Registry::open(&path).unwrap(), EndpointId([number; 16]), 5)
            })
        })
        .collect();
    let results: Vec<_> = tries.into_iter().map(|it| it.join().unwrap()).collect();
    assert_eq!(results.iter().filter(|it| it.is_ok()).count(), 1, "{results:?}");
    assert_eq!(registry.endpoints().unwrap().len(), 1);
}

#[test]
fn key_before_is_the_last_one_that_was_shown() {
    let (_folder, mut registry) = open();
    registry.add_token(&token(1)).unwrap();
    enroll(&mut registry, OSLO, 5).unwrap();
    let renew = |registry: &mut Registry, key| {
        registry.renew(OSLO, 6, |_| Ok((certificate(key), ()))).unwrap().unwrap();
        let known = registry.endpoint(OSLO).unwrap().unwrap();
        (known.key, known.key_before, known.key_seen)
    };
    assert_eq!(renew(&mut registry, KEY), (KEY, None, false), "the same key");
    greet(&mut registry, 0xa, None);
    assert_eq!(renew(&mut registry, KEY), (KEY, None, true), "what was seen stays seen");
    assert_eq!(renew(&mut registry, NEXT), (NEXT, Some(KEY), false));
    let third = KeyFingerprint([3; 32]);
    assert_eq!(renew(&mut registry, third), (third, Some(KEY), false), "NEXT was never shown");
}

#[test]
fn boot_that_comes_back_marks_the_endpoint_and_an_operator_clears_it() {
    let (_folder, mut registry) = open();
    registry.add_token(&token(1)).unwrap();
    enroll(&mut registry, OSLO, 5).unwrap();
    assert_eq!(greet(&mut registry, 0xa, None), Boot::NewLife);
    assert_eq!(greet(&mut registry, 0xa, None), Boot::Holder);
    assert_eq!(greet(&mut registry, 0xb, None), Boot::NewLife);
    assert_eq!(greet(&mut registry, 0xa, None), Boot::SecondMachine);
    assert_eq!(greet(&mut registry, 0xa, None), Boot::Cloned);
    assert_eq!(greet(&mut registry, 0xb, None), Boot::Holder);
    assert_eq!(registry.machines(OSLO).unwrap().len(), 2);
    assert!(registry.endpoint(OSLO).unwrap().unwrap().cloned_us.is_some());
    assert!(registry.clear_endpoint(OSLO).unwrap());
    assert_eq!(greet(&mut registry, 0xa, None), Boot::NewLife);
}

#[test]
fn machines_are_bounded_and_the_holder_is_kept() {
    let (_folder, mut registry) = open();
    registry.add_token(&token(1)).unwrap();
    enroll(&mut registry, OSLO, 5).unwrap();
    greet(&mut registry, 1, None);
    for boot in 2..60 {
        let machine = Machine { boot: BootId([boot; 16]), remote: String::new(), first_us: 9 };
        registry.mark_cloned(OSLO, &machine, 9).unwrap();
    }
    let machines = registry.machines(OSLO).unwrap();
    assert_eq!(machines.len(), MACHINES_MAX + 1);
    assert_eq!(machines[0].boot, BootId([1; 16]));
}

#[test]
fn revoked_endpoint_is_told_at_its_hello_and_renews_nothing() {
    let (_folder, mut registry) = open();
    registry.add_token(&token(1)).unwrap();
    enroll(&mut registry, OSLO, 5).unwrap();
    assert!(registry.revoke_endpoint(OSLO, 7).unwrap());
    assert!(!registry.revoke_endpoint(EndpointId([2; 16]), 7).unwrap());
    let greeting = Greeting { key: KEY, boot: None, remote: "", live: None };
    assert_eq!(registry.greet(OSLO, greeting, 8).unwrap(), Some(Err(Refusal::Revoked)));
    let renewed = registry.renew(OSLO, 8, |_| Ok((certificate(KEY), ()))).unwrap();
    assert_eq!(renewed, Err(Refusal::Revoked));
}
