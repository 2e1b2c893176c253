//! A store in a directory of its own, for the tests of this component and the bus.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use super::{
    CommitHook, CommittedEvent, Durability, OpenReport, Retention, Store, StoreError, StoreOptions,
};
use crate::model::{NewEvent, Project, Severity, Timestamp, Topic};
use crate::wire::{EncodedEvent, encode_event};

/// Retention that keeps whatever a test writes.
pub const KEEP: Retention =
    Retention { rows: u64::MAX, bytes: u64::MAX, age: Duration::from_secs(u32::MAX as u64) };

/// An open store and everything its hook was told.
pub struct Fixture {
    pub store: Store,
    pub report: OpenReport,
    pub told: Arc<Mutex<Vec<CommittedEvent>>>,
}

pub fn options(dir: &Path, retention: Retention) -> StoreOptions {
    StoreOptions {
        dir: dir.to_owned(),
        source: String::from("fleetd/test"),
        retention,
        durability: Durability::Normal,
    }
}

pub fn try_open(dir: &Path, retention: Retention) -> Result<Fixture, StoreError> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let of_hook = Arc::clone(&told);
    let hook: CommitHook = Arc::new(move |batch| of_hook.lock().unwrap().extend(batch.events));
    let (store, report) = Store::open(options(dir, retention), hook)?;
    Ok(Fixture { store, report, told })
}

pub fn open(dir: &TempDir) -> Fixture {
    try_open(dir.path(), KEEP).unwrap()
}

/// An event under `custom.test` with `id` and a body of a few hundred bytes.
pub fn event(id: &str) -> EncodedEvent {
    event_of(id, "custom.test", "", "default")
}

pub fn event_of(id: &str, topic: &str, subject: &str, project: &str) -> EncodedEvent {
    event_with(id, topic, subject, project, 64)
}

/// An event whose text has `length` bytes.
pub fn event_with(
    id: &str,
    topic: &str,
    subject: &str,
    project: &str,
    length: usize,
) -> EncodedEvent {
    let event = NewEvent {
        id: id.to_owned(),
        topic: Topic::parse(topic).unwrap(),
        subject: subject.to_owned(),
        project: Project::parse(project).unwrap(),
        severity: Severity::Info,
        time: Timestamp::now(),
        data: json!({ "text": "x".repeat(length) }),
        publisher: None,
        extensions: serde_json::Map::new(),
    };
    encode_event(event, "fleetd/test").unwrap()
}

impl Fixture {
    /// Publishes `count` events one after the other, ids `<prefix>0` and up.
    pub async fn publish(&self, prefix: &str, count: usize) {
        for number in 0..count {
            self.store.publish(vec![event(&format!("{prefix}{number}"))]).await.unwrap();
        }
    }

    /// Positions and ids of all held events, in order.
    pub async fn held(&self) -> Vec<(u64, String)> {
        let read = self.store.read(|snapshot| {
            let mut held = Vec::new();
            snapshot.scan(0, |row| {
                let body: serde_json::Value = serde_json::from_slice(row.body).unwrap();
                held.push((row.seq, body["id"].as_str().unwrap().to_owned()));
                std::ops::ControlFlow::Continue(())
            })?;
            Ok(held)
        });
        read.await.unwrap()
    }
}

/// Copies the state directory as a crash would leave it: nothing is closed.
pub fn crashed_copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
        }
    }
    to
}

/// Waits until `condition` holds; panics with `what` after ten seconds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
