//! What all parts need: a bus in a directory of its own, events, medians.

use std::time::Duration;

use fleetd::bus::{Bus, Delivery, Feed, Subscription};
use fleetd::model::{NewEvent, Project, Severity, Timestamp, Topic};
use fleetd::store::{Durability, Retention, Store, StoreOptions};
use fleetd::wire::{EncodedEvent, encode_event};
use serde_json::json;
use tempfile::TempDir;

const SOURCE: &str = "fleetd/bench";

/// Bytes that the ring may hold, as in the default configuration.
pub const RING: usize = 16 * 1024 * 1024;

/// A bus over a store in a directory that ends with it.
pub struct World {
    pub bus: Bus,
    pub dir: TempDir,
}

impl World {
    pub fn open(dir: TempDir, durability: Durability, ring: usize) -> Self {
        let feed = Feed::new(ring);
        let age = Duration::from_secs(30 * 24 * 3600);
        let retention = Retention { rows: 10_000_000, bytes: 1 << 40, age };
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            source: SOURCE.into(),
            retention,
            durability,
        };
        let (store, _) = Store::open(options, feed.hook()).expect("a store");
        Self { bus: Bus::new(feed, store), dir }
    }

    pub fn new(durability: Durability) -> Self {
        Self::open(dir(), durability, RING)
    }
}

/// Below the target directory, on a disk as the journal's is; `/tmp` may be memory.
pub fn dir() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// An event of some 450 bytes.
pub fn event(topic: &str) -> EncodedEvent {
    let event = NewEvent {
        id: uuid::Uuid::now_v7().to_string(),
        topic: Topic::parse(topic).expect("a topic"),
        subject: String::from("bench/1"),
        project: Project::default_project(),
        severity: Severity::Info,
        time: Timestamp::now(),
        data: json!({ "text": "x".repeat(200) }),
        publisher: None,
        extensions: serde_json::Map::new(),
    };
    encode_event(event, SOURCE).expect("an event")
}

/// Reads `count` events; returns the bytes of their frames.
pub async fn read(subscription: &mut Subscription, count: usize) -> usize {
    let (mut events, mut bytes) = (0, 0);
    while events < count {
        if let Delivery::Events(chunk) = subscription.next().await.expect("events") {
            events += chunk.events().count();
            bytes += chunk.frames().map(|frame| frame.len()).sum::<usize>();
        }
    }
    bytes
}

/// A state directory with `count` events, its store cleanly closed.
pub async fn filled(count: usize) -> TempDir {
    let World { bus, dir } = World::new(Durability::Normal);
    for _ in 0..count / 1000 {
        let events = (0..1000).map(|_| event("custom.bench")).collect();
        bus.store().publish(events).await.expect("published");
    }
    bus.store().close().await;
    dir
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
