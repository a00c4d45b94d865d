//! The fleet's book on a real file: what it keeps, what two processes do to it, and what it refuses.

use std::fs;

use std::os::unix::fs::PermissionsExt;

use roomtone_protocol::configuration::{ConfigurationHash, Outcome};

use super::*;
use crate::fleet::heartbeat::tests::health;
use crate::fleet::heartbeat::{CpuShare, Heartbeat};
use crate::fleet::settings;

const OSLO: EndpointId = EndpointId([1; 16]);

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    (folder, path)
}

fn deed(percent: u8) -> Deed {
    Deed { percent, who: "anna (1000)".to_owned(), note: "why".to_owned(), now_us: 7 }
}

fn set(book: &mut Book, percent: u8, argument: &str) -> Option<u32> {
    let new = Settings::from_arguments([argument]).unwrap();
    book.revise(&Scope::Fleet, &deed(percent), |now| Ok(now.merged(&new))).unwrap()
}

fn row(heartbeat: Option<Heartbeat>) -> HeardRow {
    let heard = Heard {
        endpoint: OSLO,
        name: "Oslo 4".to_owned(),
        site: "oslo".to_owned(),
        agent_version: "0.1.0".to_owned(),
        connected_us: 5,
        ended_us: None,
        heartbeat,
    };
    HeardRow { heard, effective: None }
}

#[test]
fn file_is_its_owners_and_what_is_no_book_is_refused_and_left_alone() {
    let (folder, path) = folder();
    Book::open(&path, Use::Command).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    for (pragma, said) in [
        ("application_id = 7", "it is no book of roomtone"),
        ("user_version = 2", "it is no book of roomtone"),
    ] {
        let other = folder.path().join(pragma);
        Connection::open(&other).unwrap().execute_batch(&format!("PRAGMA {pragma}")).unwrap();
        let error = Book::open_or_set_aside(&other).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert!(other.exists());
    }
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
    let error = Book::open_or_set_aside(&path).unwrap_err().to_string();
    assert!(error.ends_with("it is of version 9, use a newer collector"), "{error}");
}

#[test]
fn damaged_file_is_set_aside_by_serve_and_by_nobody_else() {
    let (_folder, path) = folder();
    for round in 1..=2 {
        fs::write(&path, vec![0x5a; 4_096]).unwrap();
        assert!(matches!(Book::open(&path, Use::Command), Err(BookError::Damaged { .. })));
        let (book, aside) = Book::open_or_set_aside(&path).unwrap();
        let aside = aside.unwrap();
        assert!(aside.ends_with(format!("fleet.sqlite.damaged-{round}")), "{}", aside.display());
        assert_eq!(fs::read(aside).unwrap(), vec![0x5a; 4_096]);
        assert_eq!(book.plan().unwrap(), Plan::default());
    }
    // A page in the middle, as a failing disk leaves it.
    let mut book = Book::open(&path, Use::Command).unwrap();
    for number in 0..200 {
        set(&mut book, 100, &format!("spool.inodes_min={number}"));
    }
    drop(book);
    let mut bytes = fs::read(&path).unwrap();
    assert!(bytes.len() > 5 * 4_096);
    for page in 2..5 {
        bytes[page * 4_096..(page + 1) * 4_096].fill(0x5a);
    }
    fs::write(&path, bytes).unwrap();
    assert!(Book::open_or_set_aside(&path).unwrap().1.is_some());
}

#[test]
fn revisions_count_up_per_scope_and_outlive_the_process() {
    let (_folder, path) = folder();
    let mut book = Book::open(&path, Use::Command).unwrap();
    assert_eq!(set(&mut book, 100, "log.level=info"), Some(1));
    assert_eq!(set(&mut book, 100, "log.level=info"), None, "it is so already");
    assert_eq!(set(&mut book, 10, "audio.levels=true"), Some(2));
    let site = Scope::Site("oslo".to_owned());
    let one = Settings::from_arguments(["log.level=warn"]).unwrap();
    let made = book.revise(&site, &deed(100), |_| Ok(one)).unwrap();
    assert_eq!(made, Some(1));
    drop(book);
    let book = Book::open(&path, Use::Serve).unwrap();
    let history = book.history(Some(&Scope::Fleet)).unwrap();
    assert_eq!(history.iter().map(|it| it.revision.number).collect::<Vec<_>>(), [2, 1]);
    let newest = &history[0];
    assert_eq!(
        newest.revision.settings.text(),
        "[audio]\nlevels = true\n[log]\nlevel = \"info\"\n"
    );
    assert_eq!(
        (newest.revision.percent, newest.who.as_str(), newest.note.as_str()),
        (10, "anna (1000)", "why")
    );
    assert_eq!(book.history(None).unwrap().len(), 3);
    let wanted = book.plan().unwrap().wanted(OSLO, "oslo").unwrap();
    assert_eq!(wanted.settings.value("log.level"), Some("\"warn\""));
}

#[test]
fn share_changes_for_the_current_revision_alone_and_is_remembered() {
    let (_folder, path) = folder();
    let mut book = Book::open(&path, Use::Command).unwrap();
    set(&mut book, 100, "log.level=info");
    set(&mut book, 10, "log.level=debug");
    assert!(!book.set_share(&Scope::Fleet, 1, &deed(0)).unwrap(), "another came in between");
    assert!(book.set_share(&Scope::Fleet, 2, &deed(50)).unwrap());
    assert!(book.set_share(&Scope::Fleet, 2, &deed(0)).unwrap());
    assert!(!book.set_share(&Scope::Fleet, 2, &deed(100)).unwrap(), "it was taken back");
    let newest = &book.history(None).unwrap()[0];
    assert_eq!(newest.steps.iter().map(|it| it.percent).collect::<Vec<_>>(), [50, 0]);
    assert_eq!(book.plan().unwrap().current(&Scope::Fleet).unwrap().number, 1);
    // The next is made of what is in force, and takes a number of its own.
    assert_eq!(set(&mut book, 100, "audio.levels=true"), Some(3));
    let text = book.plan().unwrap().wanted(OSLO, "").unwrap().settings.text();
    assert_eq!(text, "[audio]\nlevels = true\n[log]\nlevel = \"info\"\n");
}

/// As after a downgrade: key, value and syntax of a version to come.
#[test]
fn revisions_of_a_later_version_are_shown_and_reach_nobody_and_the_others_are_in_force() {
    let (_folder, path) = folder();
    let mut book = Book::open(&path, Use::Command).unwrap();
    let oslo = Scope::Site("oslo".to_owned());
    set(&mut book, 100, "log.level=info");
    let warn = Settings::from_arguments(["log.level=warn"]).unwrap();
    book.revise(&oslo, &deed(100), |_| Ok(warn)).unwrap();
    let later = "[video]\nwatch = true\n";
    let add = |book: &Book, scope: &Scope, number: u32, percent: u8, text: &str| {
        let row = params![scope.key(), number, text, percent, 9, "anna", ""];
        let sql = "INSERT INTO revision VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        book.connection.execute(sql, row).unwrap();
    };
    // Taken back long ago: of no consequence.
    add(&book, &Scope::Fleet, 2, 0, later);
    let plan = book.plan().unwrap();
    assert_eq!(plan.unread(), 0);
    assert_eq!(plan.wanted(OSLO, "").unwrap().settings.text(), "[log]\nlevel = \"info\"\n");
    // In force for one site: its endpoints keep what they have, the others what is wanted of them.
    add(&book, &oslo, 2, 100, "[log]\nlevel = [\"info\"]\n");
    let plan = book.plan().unwrap();
    assert_eq!((plan.unread(), plan.wanted(OSLO, "oslo")), (1, None));
    assert!(plan.wanted(OSLO, "bergen").is_some());
    let shown = &book.history(Some(&oslo)).unwrap()[0].revision;
    assert!(shown.settings.is_of_later_version());
    assert_eq!(
        (shown.number, shown.settings.text()),
        (2, "[log]\nlevel = [\"info\"]\n".to_owned())
    );
    // Nothing is built on what cannot be read; it can be taken back or replaced.
    let debug = Settings::from_arguments(["log.level=debug"]).unwrap();
    let built = book.revise(&oslo, &deed(100), |now| Ok(now.merged(&debug)));
    let said = built.unwrap_err().to_string();
    assert!(
        said.starts_with("site oslo, revision 2, is of a later version (`log.level`"),
        "{said}"
    );
    assert!(book.set_share(&oslo, 2, &deed(0)).unwrap());
    let level = |book: &Book| {
        let wanted = book.plan().unwrap().wanted(OSLO, "oslo").unwrap();
        wanted.settings.value("log.level").map(str::to_owned)
    };
    assert_eq!(level(&book).as_deref(), Some("\"warn\""));
    add(&book, &oslo, 3, 100, "[log");
    assert_eq!(book.revise(&oslo, &deed(100), |_| Ok(debug)).unwrap(), Some(4));
    assert_eq!(level(&book).as_deref(), Some("\"debug\""));
}

#[test]
fn heartbeat_is_kept_until_the_next_and_over_connections() {
    let (_folder, path) = folder();
    let (mut book, _) = Book::open_or_set_aside(&path).unwrap();
    let hash = ConfigurationHash([9; 8]);
    let cpu = Some(CpuShare { part_us: 1, whole_us: 2 });
    let heartbeat =
        Heartbeat { heard_us: 8, health: health(3, Some((hash, Outcome::Refused))), cpu };
    let mut first = row(Some(heartbeat.clone()));
    let text: roomtone_protocol::configuration::Text =
        "[log]\nlevel = \"info\"\n".try_into().unwrap();
    let effective = EffectiveConfiguration { hash: settings::hash(&text), text };
    first.effective = Some(effective.clone());
    assert_eq!(book.reported(OSLO).unwrap(), Reported::Unknown);
    book.write(&[first.clone()]).unwrap();
    // A connection that has not said anything yet.
    let mut second = row(None);
    second.heard.connected_us = 20;
    book.write(&[second]).unwrap();
    drop(book);
    let (mut book, aside) = Book::open_or_set_aside(&path).unwrap();
    assert_eq!(aside, None);
    let kept = Heard { connected_us: 20, ..first.heard };
    assert_eq!(book.heard().unwrap(), [kept]);
    assert_eq!(book.effective().unwrap(), [(OSLO, effective)]);
    assert_eq!(book.reported(OSLO).unwrap(), Reported::Latest(hash));
    book.end_all().unwrap();
    assert_eq!(book.heard().unwrap()[0].ended_us, Some(20));
}

#[test]
fn numbers_beyond_sqlite_and_a_heartbeat_of_a_later_version_are_no_error() {
    let (_folder, path) = folder();
    let mut book = Book::open(&path, Use::Serve).unwrap();
    let cpu = Some(CpuShare { part_us: u64::MAX, whole_us: u64::MAX });
    let mut absurd = health(u32::MAX, None);
    (absurd.cpu_ms, absurd.spool_bytes) = (u64::MAX, u64::MAX);
    book.write(&[row(Some(Heartbeat { heard_us: u64::MAX, health: absurd.clone(), cpu }))])
        .unwrap();
    let found = book.heard().unwrap()[0].heartbeat.clone().unwrap();
    assert_eq!((found.health, found.heard_us), (absurd, i64::MAX as u64));
    book.connection.execute("UPDATE endpoint SET heartbeat = x'00ff'", []).unwrap();
    assert_eq!(book.heard().unwrap()[0].heartbeat, None);
    assert_eq!(book.reported(OSLO).unwrap(), Reported::Unknown);
}

#[test]
fn other_processes_changes_are_noticed_and_own_ones_are_not() {
    let (_folder, path) = folder();
    let mut serve = Book::open(&path, Use::Serve).unwrap();
    let before = serve.data_version().unwrap();
    serve.write(&[row(None)]).unwrap();
    assert_eq!(serve.data_version().unwrap(), before);
    set(&mut Book::open(&path, Use::Command).unwrap(), 100, "log.level=info");
    assert_ne!(serve.data_version().unwrap(), before);
}
