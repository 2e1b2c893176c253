//! What the bus promises, with a ring so small that the database is read as well.

mod histories;
mod reading;
mod schedules;

use std::time::Duration;

use tempfile::TempDir;

use super::{Bus, Delivery, Feed, Start, Subscription};
use crate::model::{Cursor, Filter};
use crate::store::testing::{KEEP, event_of, options};
use crate::store::{Retention, Store};

/// A bus over a store in a directory of its own.
struct World {
    bus: Bus,
    _dir: TempDir,
}

impl World {
    fn new(ring_bytes: usize, retention: Retention) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let feed = Feed::new(ring_bytes);
        let (store, _) = Store::open(options(dir.path(), retention), feed.hook()).unwrap();
        Self { bus: Bus::new(feed, store), _dir: dir }
    }

    fn small() -> Self {
        Self::new(4096, KEEP)
    }

    /// Publishes one event of `topic` and returns its position.
    async fn publish(&self, topic: &str) -> u64 {
        let id = uuid::Uuid::now_v7().to_string();
        let event = event_of(&id, topic, "", "default");
        self.bus.store().publish(vec![event]).await.unwrap()[0].cursor.seq
    }

    fn subscribe(&self, types: &str, start: Start) -> Subscription {
        let filter = Filter::default().with_types(types).unwrap();
        self.bus.subscribe(filter, start, false).unwrap()
    }

    fn at(&self, seq: u64) -> Cursor {
        Cursor { seq, ..self.bus.head() }
    }
}

/// The next positions, of events only.
async fn next_seqs(subscription: &mut Subscription) -> Vec<u64> {
    let next = tokio::time::timeout(Duration::from_secs(10), subscription.next());
    match next.await.expect("nothing arrives").unwrap() {
        Delivery::Events(chunk) => chunk.events().map(|event| event.cursor.seq).collect(),
        other => panic!("not events: {other:?}"),
    }
}

/// Reads until `count` events have come.
async fn read(subscription: &mut Subscription, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    while seqs.len() < count {
        seqs.extend(next_seqs(subscription).await);
    }
    seqs
}
