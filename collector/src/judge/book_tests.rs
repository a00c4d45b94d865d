//! The book of verdicts: what is written is read, what is damaged set aside.

use std::collections::BTreeMap;

use super::*;
use crate::classify::inputs::{Seen, Standing};
use crate::classify::place::Place;
use crate::classify::rules::{Bound, Colour, Metric, Relation};
use crate::classify::verdict::{CallVerdict, Finding, Item, Judgement, Reason, Subject, Why};

const KEY: CallKey = (EndpointId([9; 16]), CallId(0xf00d_0000_0000_0001));

fn rules() -> RulesName {
    RulesName { id: "seed-1".to_owned(), version: 1, hash: "0123456789abcdef".to_owned() }
}

fn good() -> Judgement {
    Judgement { rating: Rating::Good, why: None, reasons: Vec::new(), items: Vec::new() }
}

fn poor() -> Judgement {
    let finding = Finding {
        metric: Metric::Loss,
        subject: Subject::Direction(Seen::Received),
        steps: 120_000,
        bound: Bound { relation: Relation::Above, steps: 100_000 },
        source: "CQD".to_owned(),
    };
    let device = Subject::Device("mic \u{1b}[2J".to_owned());
    Judgement {
        rating: Rating::Poor,
        why: None,
        reasons: vec![
            Reason::Setup { code: 22, source: "the seed".to_owned() },
            Reason::Bound(finding.clone()),
        ],
        items: vec![
            Item { colour: Colour::Red, finding: finding.clone() },
            Item { colour: Colour::Yellow, finding: Finding { subject: device, ..finding } },
        ],
    }
}

fn call(judgement: Judgement) -> Judged {
    let unrated = Judgement { rating: Rating::Unavailable, why: Some(Why::TapDrops), ..good() };
    let place =
        Place { file: 3, subnet: Some("10.1.0.0/16".to_owned()), building: None, is_inside: true };
    Judged {
        endpoint: KEY.0,
        call: KEY.1,
        started_us: 1_000,
        facts_us: 2_000,
        verdict: CallVerdict {
            rules: rules(),
            standing: Standing::Closed,
            is_rehearsal: true,
            call: judgement.clone(),
            legs: vec![(0, judgement), (65_535, unrated)],
        },
        places: BTreeMap::from([(65_535, place)]),
        ends: Vec::new(),
    }
}

fn book() -> (tempfile::TempDir, Book) {
    let folder = tempfile::tempdir().unwrap();
    let book = Book::open(&folder.path().join(FILE)).unwrap();
    (folder, book)
}

#[test]
fn what_is_written_is_read_and_told_as_a_change() {
    let (_folder, mut book) = book();
    assert_eq!(book.write(&call(poor()), 5).unwrap(), Change::First);
    assert_eq!(book.verdict(KEY, "seed-1").unwrap(), Some(call(poor())));
    assert_eq!(book.write(&call(poor()), 6).unwrap(), Change::Same);
    let mut elsewhere = call(poor());
    elsewhere.places.clear();
    assert_eq!(book.write(&elsewhere, 7).unwrap(), Change::Findings);
    let change = Change::Rating { from: Rating::Poor, to: Rating::Good };
    assert_eq!(book.write(&call(good()), 8).unwrap(), change);
    // A leg that is no more goes with the verdict that had it.
    let mut short = call(good());
    short.verdict.legs.truncate(1);
    short.places.clear();
    assert_eq!(book.write(&short, 9).unwrap(), Change::Findings);
    assert_eq!(book.verdict(KEY, "seed-1").unwrap(), Some(short));
}

#[test]
fn rule_sets_stand_beside_each_other_and_other_contents_are_no_verdict() {
    let (_folder, mut book) = book();
    book.write(&call(poor()), 5).unwrap();
    assert_eq!(book.verdict(KEY, "cqd-current-1").unwrap(), None);
    assert_eq!(book.facts_us(KEY, &rules()).unwrap(), Some(2_000));
    let changed = RulesName { hash: "fedcba9876543210".to_owned(), ..rules() };
    assert_eq!(book.facts_us(KEY, &changed).unwrap(), None);
    book.set_mark(Mark::Closed, &rules(), 7).unwrap();
    let marks = [Mark::Closed, Mark::Silent].map(|it| book.mark(it, &rules()).unwrap());
    assert_eq!((marks, book.mark(Mark::Closed, &changed).unwrap()), ([7, 0], 0));
}

#[test]
fn verdicts_go_with_the_days_that_they_were_made_of() {
    let (_folder, mut book) = book();
    book.write(&call(poor()), 5).unwrap();
    assert_eq!(book.expire(2_000).unwrap(), 0);
    assert_eq!(book.expire(2_001).unwrap(), 3);
    assert_eq!(book.verdict(KEY, "seed-1").unwrap(), None);
}

#[test]
fn damaged_book_is_set_aside_and_foreign_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    std::fs::write(&path, vec![0x55; 9_000]).unwrap();
    assert!(matches!(Book::open(&path), Err(BookError::Damaged { .. })));
    let (book, aside) = Book::open_or_set_aside(&path).unwrap();
    assert_eq!(aside, Some(folder.path().join("verdicts.sqlite.damaged-1")));
    assert_eq!(book.mark(Mark::Closed, &rules()).unwrap(), 0);
    drop(book);
    let other = Connection::open(&path).unwrap();
    other.pragma_update(None, "user_version", 2).unwrap();
    drop(other);
    let error = Book::open(&path).unwrap_err().to_string();
    assert!(error.contains("of version 2, use a newer collector"), "{error}");
}

#[test]
fn poor_meetings_are_found_newest_first_and_rehearsals_are_none() {
    let (_folder, mut book) = book();
    for (call_id, started_us, is_rehearsal, judgement) in [
        (1, 10, false, poor()),
        (2, 30, false, poor()),
        (3, 20, false, good()),
        (4, 40, true, poor()),
        (5, 5, false, poor()),
    ] {
        let mut it = call(judgement);
        (it.call, it.started_us) = (CallId(call_id), started_us);
        it.verdict.is_rehearsal = is_rehearsal;
        book.write(&it, 50).unwrap();
    }
    let found = |since_us, limit| -> Vec<u64> {
        let keys = book.poor_calls(&rules(), since_us, limit).unwrap();
        keys.into_iter().map(|(_, call)| call.0).collect()
    };
    assert_eq!(found(10, 9), [2, 1]);
    assert_eq!(found(0, 1), [2]);
}
