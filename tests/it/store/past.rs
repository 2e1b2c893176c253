//! A journal with a past: events in the database, more in the write-ahead log,
//! a crash; and what has to hold when somebody has been at its files.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::gate::ledger::{Publisher, TOPIC};
use crate::support::{Daemon, Home, PATIENCE, custom_event, run};

/// The exit code for a journal that cannot be used.
pub const STORAGE: i32 = 5;

/// Events in the database itself, and after the crash in the log beside it.
pub const IN_DATABASE: usize = 300;
pub const IN_LOG: usize = 100;

/// Most events of its own that a daemon says after the last of ours.
const OWN: u64 = 4;

/// A stopped daemon's HOME, and what its journal acknowledged.
pub struct Past {
    pub home: Home,
    /// Ids in their order, with their cursors.
    pub acked: Vec<(String, String)>,
    /// The database as it was when it was closed, before the last events.
    pub backup: Vec<u8>,
}

impl Past {
    /// Lives, closes, lives again and is killed.
    pub fn crashed() -> Self {
        let mut acked = Vec::new();
        let daemon = Daemon::start();
        publish(&daemon, "a", IN_DATABASE, &mut acked);
        let (home, exit) = daemon.terminate(PATIENCE);
        assert!(exit.status.success(), "{exit:?}");
        let backup = std::fs::read(home.state().join("journal.db")).expect("a journal");
        let daemon = Daemon::start_in(home);
        publish(&daemon, "b", IN_LOG, &mut acked);
        Self { home: daemon.kill9(), acked, backup }
    }

    /// The same, closed in order after its last event.
    pub fn closed() -> Self {
        let past = Self::crashed();
        let (home, exit) = Daemon::start_in(past.home).terminate(PATIENCE);
        assert!(exit.status.success(), "{exit:?}");
        Self { home, ..past }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.home.state().join(name)
    }

    /// The daemon starts again by itself, says what it lost, hands out no
    /// position twice and tells every old cursor. Returns how many of the
    /// acknowledged events are gone, and the daemon.
    pub fn recovers(self) -> (usize, Daemon) {
        let daemon = Daemon::start_in(self.home);
        let lost = regressed(&daemon, &self.acked);
        (lost, works_from_now_on(daemon, &self.acked))
    }

    /// The daemon refuses to go on: exit code 5, a message that names the
    /// copy, and a new journal that says what is missing with the next start.
    pub fn refuses(self) -> Daemon {
        let (home, before) = (self.home, self.acked.len());
        let command = home.fleetd();
        let (home, status) = match Daemon::try_start_as(home, command) {
            Ok(daemon) => daemon.outlived(PATIENCE),
            Err(ended) => ended,
        };
        assert_eq!(status.code(), Some(STORAGE), "{}", home.story());
        let said = home.stderr();
        let copy = said.split('\'').find(|part| part.contains("/quarantine/"));
        let copy = PathBuf::from(copy.unwrap_or_else(|| panic!("names no copy: {said}")));
        assert!(copy.join("journal.db").metadata().is_ok_and(|meta| meta.len() > 0), "{copy:?}");
        assert!(!home.state().join("journal.db").exists());

        let daemon = Daemon::start_in(home);
        assert_eq!(regressed(&daemon, &self.acked), before, "a new journal holds nothing old");
        works_from_now_on(daemon, &self.acked)
    }
}

/// Publishes `count` events at once, so that the log stays short.
fn publish(daemon: &Daemon, prefix: &str, count: usize, acked: &mut Vec<(String, String)>) {
    let event = |n: usize| custom_event(TOPIC, &format!("{prefix}-{n}"), json!({ "n": n }));
    let body = Value::from((0..count).map(event).collect::<Vec<_>>()).to_string();
    let request = daemon.request("POST", "/events");
    let answer = daemon.send(&request.body("application/cloudevents-batch+json", body.as_bytes()));
    assert_eq!(answer.status, 200, "{answer:?}");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let results = answer.json()["results"].as_array().expect("results").clone();
    acked.extend(results.iter().map(|one| (text(&one["id"]), text(&one["cursor"]))));
}

pub fn position(cursor: &str) -> u64 {
    cursor.split_once(':').and_then(|(_, seq)| seq.parse().ok()).expect("a cursor")
}

pub fn epoch(cursor: &str) -> &str {
    cursor.split_once(':').expect("a cursor").0
}

pub fn head(daemon: &Daemon) -> String {
    let status = daemon.tool("fleet_status", json!({}));
    status["cursor"].as_str().expect("a cursor").to_owned()
}

/// `pragma integrity_check` by a program that is not ours.
pub fn assert_sound(home: &Home) {
    let database = home.state().join("journal.db");
    let mut sqlite = Command::new("sqlite3");
    sqlite.arg(format!("file:{}?mode=ro", database.display())).arg("pragma integrity_check");
    assert_eq!(run(sqlite, b"", PATIENCE).ok().stdout.trim(), "ok");
}

/// The newest `fleet.recovered`.
pub fn recovered(daemon: &Daemon) -> Value {
    let end = head(daemon);
    let mut stream = daemon.events("types=fleet.recovered,fleet.started&since=0&signals=0");
    let (mut newest, mut at) = (Value::Null, 0);
    // `fleet.started` is the last thing that a start says.
    while at < position(&end) {
        let event = stream.next();
        at = event.seq();
        if event.name == "fleet.recovered" {
            newest = event.json()["data"].clone();
        }
    }
    newest
}

/// Holds what is left against `acked`. Returns how much is gone.
fn regressed(daemon: &Daemon, acked: &[(String, String)]) -> usize {
    let last = position(&acked.last().expect("something").1);
    let told = recovered(daemon);
    assert_eq!(told["reason"], "store_regressed", "{told}");
    let held = held(daemon);
    let lost: Vec<u64> = acked
        .iter()
        .filter(|(id, _)| !held.contains_key(id))
        .map(|(_, cursor)| position(cursor))
        .collect();
    if let (Some(first), Some(newest)) = (lost.first(), lost.last()) {
        let bound = |name: &str| told[name].as_u64().unwrap_or_else(|| panic!("{name}: {told}"));
        assert!(bound("lost_from") <= *first && *newest <= bound("lost_to"), "{told}: {lost:?}");
        // The daemon's own events have positions too.
        assert!(bound("lost_to") <= last + OWN, "{told}");
    }
    for (id, cursor) in acked.iter().filter(|(id, _)| held.contains_key(id)) {
        assert_eq!(held[id], position(cursor), "{id} has moved");
    }
    for (_, cursor) in [&acked[acked.len() / 2], &acked[acked.len() - 1]] {
        let gap = daemon.events_after(&format!("types={TOPIC}&signals=0"), cursor).next();
        assert_eq!((gap.name.as_str(), &gap.json()["reason"]), ("gap", &json!("epoch")), "{gap:?}");
        assert_eq!(gap.json()["from"], cursor.as_str(), "{gap:?}");
    }
    assert_ne!(epoch(&head(daemon)), epoch(&acked[0].1));
    assert!(position(&head(daemon)) > last, "a position was handed out twice");
    lost.len()
}

/// What the journal holds: position by id. No position may come twice.
fn held(daemon: &Daemon) -> HashMap<String, u64> {
    let stored = crate::gate::ledger::stored(daemon, "0");
    let held: HashMap<_, _> =
        stored.iter().map(|(id, cursor)| (id.clone(), position(cursor))).collect();
    let positions: HashSet<_> = held.values().collect();
    assert_eq!((held.len(), positions.len()), (stored.len(), stored.len()), "something is twice");
    held
}

/// Publishing goes on, what is held is not stored twice, what is gone can be
/// sent again, and the next start finds nothing amiss.
pub fn works_from_now_on(daemon: Daemon, acked: &[(String, String)]) -> Daemon {
    let before = held(&daemon);
    let mut publisher = Publisher::of(&daemon);
    for (id, _) in acked {
        let again = publisher.publish(id, json!({})).expect("an answer");
        assert_eq!(again.duplicate, before.contains_key(id), "{id}");
    }
    let first = head(&daemon);
    let daemon = daemon.restart_after_kill9();
    assert_eq!(epoch(&head(&daemon)), epoch(&first), "a new epoch without a reason");
    assert_eq!(recovered(&daemon)["reason"], "unclean_stop");
    let after = held(&daemon);
    assert!(acked.iter().all(|(id, _)| after.contains_key(id)));
    let mut rest = daemon.events_after("types=fleet.*&signals=0", &first);
    assert_eq!(rest.next().name, "fleet.recovered", "goes on without a gap");
    daemon
}
