//! The fleet of a running `serve` over a real book: what goes down, what is written, and what a flood changes.

use std::path::PathBuf;

use roomtone_protocol::configuration::Outcome;

use super::*;
use crate::fleet::book::{Deed, FILE, Use};
use crate::fleet::heartbeat::tests::health;
use crate::fleet::scope::Scope;
use crate::fleet::settings::Settings;
use crate::ingest::downlink::{Down, Downlink};
use crate::ingest::request::EndpointClock;

const OSLO: EndpointId = EndpointId([1; 16]);

struct World {
    _folder: tempfile::TempDir,
    path: PathBuf,
    downlinks: Downlinks,
    fleet: Arc<Fleet>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let downlinks = Downlinks::default();
        let (book, _) = Book::open_or_set_aside(&path).unwrap();
        let fleet = Arc::new(Fleet::new(book, downlinks.clone(), || 1_000).unwrap());
        Self { _folder: folder, path, downlinks, fleet }
    }

    fn set(&self, scope: &Scope, argument: &str) {
        let mut book = Book::open(&self.path, Use::Command).unwrap();
        let new = Settings::from_arguments([argument]).unwrap();
        let deed = Deed { percent: 100, who: String::new(), note: String::new(), now_us: 1 };
        book.revise(scope, &deed, |now| Ok(now.merged(&new))).unwrap();
    }

    fn connect(&self, endpoint: EndpointId, site: &str) -> (Downlink, Presence) {
        let clock = EndpointClock { uptime_us: 0, at: Instant::now() };
        let line = self.downlinks.connect(endpoint, clock);
        let arrival = Arrival {
            endpoint,
            name: "Oslo 4".to_owned(),
            site: site.to_owned(),
            agent_version: "0.1.0".to_owned(),
            reported: self.fleet.recall(endpoint),
        };
        (line, self.fleet.connect(arrival, Instant::now()).unwrap())
    }

    fn kept(&self) -> Vec<Heard> {
        Book::open(&self.path, Use::Command).unwrap().heard().unwrap()
    }
}

/// What waits on a line.
async fn down(line: &mut Downlink) -> Option<String> {
    match tokio::time::timeout(Duration::ZERO, line.next()).await {
        Ok(Some(Down::Configuration(it))) => Some(it.text.as_str().to_owned()),
        Ok(other) => panic!("a configuration, found {other:?}"),
        Err(_) => None,
    }
}

#[tokio::test]
async fn change_goes_to_those_of_its_scope_and_not_twice() {
    let world = World::new();
    let oslo = Scope::Site("oslo".to_owned());
    world.set(&oslo, "log.level=info");
    assert_eq!(world.fleet.reload().unwrap(), 0, "nobody is connected");
    let (mut line, presence) = world.connect(OSLO, "oslo");
    let (mut other, _other) = world.connect(EndpointId([2; 16]), "bergen");
    let text = down(&mut line).await.unwrap();
    assert_eq!(text, "[log]\nlevel = \"info\"\n");
    assert_eq!(down(&mut other).await, None);
    let hash = settings::hash(&text);
    presence.handle_health(health(1, Some((hash, Outcome::OnTrial))), Instant::now());
    assert_eq!((down(&mut line).await, world.fleet.reload().unwrap()), (None, 0));

    // It reconnects at once, and after its connection was written.
    for _ in 0..2 {
        let (mut again, _presence) = world.connect(OSLO, "oslo");
        assert_eq!(down(&mut again).await, None, "it has it");
        world.fleet.write().unwrap();
    }
    let (mut line, _presence) = world.connect(OSLO, "oslo");
    world.set(&oslo, "log.level=debug");
    assert_eq!(world.fleet.reload().unwrap(), 1);
    assert_eq!(down(&mut line).await.unwrap(), "[log]\nlevel = \"debug\"\n");
    assert_eq!(down(&mut other).await, None);
}

#[test]
fn flood_of_heartbeats_is_one_row_and_is_counted() {
    let world = World::new();
    let (_line, presence) = world.connect(OSLO, "");
    let now = Instant::now();
    for running_s in 0..1_000 {
        presence.handle_health(health(running_s, None), now);
    }
    world.fleet.write().unwrap();
    let kept = world.kept();
    assert_eq!((kept.len(), kept[0].heartbeat.as_ref().unwrap().health.running_s), (1, 9));
    let counts = world.fleet.counts();
    assert_eq!((counts.reports, counts.excess), (10, 990));
}

#[test]
fn text_that_is_not_what_its_hash_says_is_not_kept() {
    let world = World::new();
    let (_line, presence) = world.connect(OSLO, "");
    let text: roomtone_protocol::configuration::Text = "[log]\n".try_into().unwrap();
    let wrong = EffectiveConfiguration { hash: settings::hash(""), text: text.clone() };
    presence.handle_effective(wrong, Instant::now());
    world.fleet.write().unwrap();
    let book = || Book::open(&world.path, Use::Command).unwrap();
    assert_eq!(book().effective().unwrap(), []);
    assert_eq!(world.fleet.counts().malformed, 1);
    let right = EffectiveConfiguration { hash: settings::hash(&text), text };
    presence.handle_effective(right.clone(), Instant::now());
    world.fleet.write().unwrap();
    assert_eq!(book().effective().unwrap(), [(OSLO, right)]);
}

#[test]
fn end_of_an_older_connection_is_not_that_of_the_newer_and_memory_holds_what_is_connected() {
    let world = World::new();
    let (_older_line, older) = world.connect(OSLO, "");
    older.handle_health(health(5, None), Instant::now());
    let (_newer_line, newer) = world.connect(OSLO, "");
    drop(older);
    world.fleet.write().unwrap();
    let kept = world.kept();
    assert_eq!(kept[0].ended_us, None);
    assert!(kept[0].heartbeat.is_some(), "what the older said in the last second is kept");
    drop(newer);
    world.fleet.write().unwrap();
    assert_eq!(world.kept()[0].ended_us, Some(1_000));
    assert!(lock(&world.fleet.shared).entries.is_empty());
}

#[test]
fn book_that_cannot_be_written_costs_no_more_than_what_has_gone() {
    let world = World::new();
    let (_line, presence) = world.connect(OSLO, "");
    let (_gone_line, gone) = world.connect(EndpointId([2; 16]), "");
    drop(gone);
    let beside = rusqlite::Connection::open(&world.path).unwrap();
    let block =
        "CREATE TRIGGER block BEFORE INSERT ON endpoint BEGIN SELECT RAISE(ABORT, 'full'); END";
    beside.execute_batch(block).unwrap();
    assert!(world.fleet.write().is_err());
    beside.execute_batch("DROP TRIGGER block").unwrap();
    world.fleet.write().unwrap();
    let kept = world.kept();
    assert_eq!(kept.iter().map(|it| it.endpoint).collect::<Vec<_>>(), [OSLO]);
    drop(presence);
}
