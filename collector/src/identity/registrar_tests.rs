//! The registrar over a real file: what one endpoint may cost, and who waits for whom.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::super::pace::HELLOS;
use super::super::standing::{KeyFingerprint, Shown};
use super::*;

const OSLO: EndpointId = EndpointId([1; 16]);

fn registrar(folder: &tempfile::TempDir) -> Registrar {
    let registry = Registry::open(&folder.path().join("identity.sqlite")).unwrap();
    let settings =
        Settings { authority: None, required: Required::No, server_name: "localhost".to_owned() };
    Registrar::new(settings, registry, Arc::default(), || 7)
}

fn identity(endpoint: EndpointId) -> Identity {
    let shown = Shown { key: KeyFingerprint([2; 32]), not_after_us: u64::MAX };
    Identity { endpoint, name: "oslo-4".to_owned(), serial: vec![1], shown }
}

#[test]
fn endpoint_that_comes_back_for_ever_is_told_to_wait_and_another_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (registrar, start) = (registrar(&folder), Instant::now());
    let greet = |endpoint: u8, boot: u8, now| {
        let remote = "192.0.2.1:50000".parse().unwrap();
        let identity = identity(EndpointId([endpoint; 16]));
        registrar.greet(&identity, Some(BootId([boot; 16])), remote, None, now)
    };
    for boot in 0..HELLOS.0 {
        assert_eq!(greet(1, boot as u8, start), Ok(()));
    }
    let denied = greet(1, 99, start).unwrap_err();
    assert_eq!(denied, Denied::Refused(Refusal::TooMany));
    assert_eq!(denied.told().0, RefuseReason::Busy);
    assert_eq!(registrar.refusals().count(Refusal::TooMany), 1);
    assert_eq!(greet(2, 0, start), Ok(()));
    assert_eq!(greet(1, 99, start + HELLOS.1), Ok(()));
    assert!(greet(1, 99, start + HELLOS.1).is_err());
}

/// A step that waits for a disk holds the lock for as long as that takes.
#[test]
fn who_only_reads_does_not_wait_for_a_step_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let registrar = Arc::new(registrar(&folder));
    let under_way = lock(&registrar.registry);
    let (told, answer) = mpsc::channel();
    let asking = {
        let registrar = registrar.clone();
        thread::spawn(move || {
            let admitted = registrar.admit(&identity(OSLO)).is_ok();
            told.send((admitted, registrar.recheck(OSLO))).unwrap();
        })
    };
    let answer = answer.recv_timeout(Duration::from_secs(30));
    drop(under_way);
    assert_eq!(answer, Ok((true, Ok(false))));
    asking.join().unwrap();
}
