//! What publishers were told, held against what the journal has.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Conn, Daemon, Request, custom_event, distinct_id};

/// The topic of everything the gates publish.
pub const TOPIC: &str = "custom.gate";

/// Publishes over one kept connection, and knows nothing of the daemon but its
/// port and token: it goes on over the daemon's deaths.
pub struct Publisher {
    port: u16,
    token: String,
    conn: Option<Conn>,
}

/// The answer, or that there was none: then the outcome is not known.
pub type Outcome = Result<Acked, Unknown>;

/// An acknowledged event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acked {
    pub cursor: String,
    pub duplicate: bool,
}

#[derive(Debug)]
pub struct Unknown;

impl Publisher {
    pub fn of(daemon: &Daemon) -> Self {
        Self::at(daemon.port(), daemon.token())
    }

    pub fn at(port: u16, token: String) -> Self {
        Self { port, token, conn: None }
    }

    /// Publishes `id` once.
    pub fn publish(&mut self, id: &str, data: Value) -> Outcome {
        let body = custom_event(TOPIC, id, data).to_string();
        let answer = self.post("application/cloudevents+json", &body)?;
        let result = &answer["results"][0];
        assert_eq!(result["id"], id, "{answer}");
        let cursor = result["cursor"].as_str().expect("a cursor").to_owned();
        Ok(Acked { cursor, duplicate: result["duplicate"] == true })
    }

    /// Publishes a batch once.
    pub fn publish_batch(&mut self, events: &[Value]) -> Result<(), Unknown> {
        let body = Value::from(events.to_vec()).to_string();
        self.post("application/cloudevents-batch+json", &body).map(drop)
    }

    /// Any refusal is a failure of the test: the daemon is healthy or gone.
    fn post(&mut self, kind: &str, body: &str) -> Result<Value, Unknown> {
        let request = Request::new("POST", "/events")
            .host(&format!("127.0.0.1:{}", self.port))
            .bearer(&self.token)
            .body(kind, body.as_bytes());
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => Conn::try_tcp(self.port).map_err(|_| Unknown)?,
        };
        let conn = self.conn.insert(conn);
        match conn.try_exchange(&request) {
            Ok(answer) if answer.status == 200 => Ok(answer.json()),
            // A daemon that is being stopped says so; nothing was promised.
            Ok(answer) if answer.status == 503 => {
                self.conn = None;
                Err(Unknown)
            }
            Ok(answer) => panic!("{}: {}", answer.status, answer.text()),
            Err(_) => {
                self.conn = None;
                Err(Unknown)
            }
        }
    }
}

/// What was acknowledged, and what was sent without an answer.
#[derive(Default)]
pub struct Ledger {
    pub acked: HashMap<String, String>,
    pub unknown: Vec<String>,
}

impl Ledger {
    /// One published event more.
    pub fn note(&mut self, id: String, outcome: Outcome) {
        match outcome {
            Ok(acked) => drop(self.acked.insert(id, acked.cursor)),
            Err(Unknown) => self.unknown.push(id),
        }
    }

    /// `count` publishers, each until its daemon dies, `stop` is set or it has
    /// published `most`.
    pub fn publish(daemon: &Daemon, count: usize, most: usize, stop: &AtomicBool) -> Self {
        let parts = std::thread::scope(|scope| {
            let publishers: Vec<_> = (0..count)
                .map(|_| {
                    let publisher = Publisher::of(daemon);
                    scope.spawn(move || Self::of_one(publisher, most, stop))
                })
                .collect();
            publishers.into_iter().map(|one| one.join().expect("a publisher")).collect::<Vec<_>>()
        });
        let mut all = Self::default();
        for part in parts {
            all.acked.extend(part.acked);
            all.unknown.extend(part.unknown);
        }
        all
    }

    fn of_one(mut publisher: Publisher, most: usize, stop: &AtomicBool) -> Self {
        let mut own = Self::default();
        let padding = "x".repeat(100);
        while own.acked.len() < most && !stop.load(Ordering::Relaxed) {
            let id = distinct_id("gate");
            match publisher.publish(&id, json!({ "padding": padding })) {
                Ok(acked) => {
                    assert!(!acked.duplicate, "{id} was there before it was sent");
                    own.acked.insert(id, acked.cursor);
                }
                Err(Unknown) => {
                    own.unknown.push(id);
                    break;
                }
            }
        }
        own
    }

    /// Holds the ledger against `daemon`, from position `since` on: every
    /// acknowledged id is there once, where it was said to be; every other at
    /// most once. Returns how many were stored without an acknowledgement.
    pub fn check(&self, daemon: &Daemon, since: &str) -> usize {
        let stored = stored(daemon, since);
        let mut positions = HashMap::new();
        for (id, cursor) in &stored {
            let before = positions.insert(id.as_str(), cursor.as_str());
            assert_eq!(before, None, "{id} is stored twice: {before:?} and {cursor}");
        }
        let lost: Vec<_> =
            self.acked.keys().filter(|id| !positions.contains_key(id.as_str())).collect();
        assert!(lost.is_empty(), "{} acknowledged events are lost: {lost:?}", lost.len());
        for (id, cursor) in &self.acked {
            assert_eq!(positions[id.as_str()], cursor, "{id} has moved");
        }
        self.unknown.iter().filter(|id| positions.contains_key(id.as_str())).count()
    }

    /// Sends every id without an answer again; afterwards there is none.
    pub fn resend(&mut self, daemon: &Daemon) {
        let mut publisher = Publisher::of(daemon);
        for id in self.unknown.drain(..) {
            let acked = publisher.publish(&id, json!({ "again": true }));
            self.acked.insert(id, acked.expect("the daemon is up").cursor);
        }
    }

    pub fn absorb(&mut self, other: Self) {
        self.acked.extend(other.acked);
        self.unknown.extend(other.unknown);
    }
}

/// Id and position of every stored event of the gates after `since`, whose
/// positions rise.
pub fn stored(daemon: &Daemon, since: &str) -> Vec<(String, String)> {
    // What was published last ends the replay.
    let end = distinct_id("end");
    daemon.publish(TOPIC, &end, json!({}));
    let mut replay = daemon.events(&format!("types={TOPIC}&since={since}&signals=0"));
    let (mut found, mut last) = (Vec::new(), 0);
    loop {
        let event = replay.next_within(Duration::from_secs(20)).expect("the replay goes on");
        assert_ne!(event.name, "gap", "{event:?}");
        assert!(event.seq() > last, "position {} after {last}", event.seq());
        last = event.seq();
        let id = event.json()["id"].as_str().expect("an id").to_owned();
        if id == end {
            return found;
        }
        found.push((id, event.id));
    }
}

/// Checks the whole journal once more: as many rows as ids.
pub fn check_distinct(daemon: &Daemon) -> usize {
    let stored = stored(daemon, "0");
    let distinct: HashSet<_> = stored.iter().map(|(id, _)| id).collect();
    assert_eq!(distinct.len(), stored.len(), "an id is stored twice");
    stored.len()
}
