//! R06: recorded histories of subscribers that are cut at random, and a daemon
//! that is killed meanwhile, held against the journal (after etcd's watch
//! checker: ordered, unique, reliable, resumable, filter-true).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::ledger::{Publisher, Unknown};
use super::size;
use crate::support::{
    Conn, Daemon, Event, Random, Request, Stream, custom_event, eventually, within,
};

const SUBSCRIBERS: usize = 20;
const TOPICS: [&str; 4] = ["custom.a", "custom.b.x", "custom.b.y", "custom.c.x.z"];
const SUBJECTS: [&str; 3] = ["pr/o/r#1", "pr/o/r#2", "build/7"];

/// A filter as a query, and as a rule of its own.
struct Watch {
    query: &'static str,
    admits: fn(&Value) -> bool,
}

/// `custom.end` ends every history, so every filter admits it.
const WATCHES: [Watch; 5] = [
    Watch { query: "types=custom.%3E", admits: |_| true },
    Watch { query: "types=custom.a,custom.end", admits: |event| event["type"] == "custom.a" },
    Watch {
        query: "types=custom.b.*,custom.end",
        admits: |event| event["type"].as_str().is_some_and(|t| t.starts_with("custom.b.")),
    },
    Watch {
        query: "types=custom.%3E&subject=build/7",
        admits: |event| event["subject"] == "build/7",
    },
    Watch {
        query: "types=custom.c.%3E,custom.end&severity=warning",
        admits: |event| {
            event["type"] == "custom.c.x.z"
                && (event["severity"] == "warning" || event["severity"] == "error")
        },
    },
];

/// What a reconnecting subscriber knows.
#[derive(Clone)]
struct Address {
    port: u16,
    token: String,
}

impl Address {
    fn of(daemon: &Daemon) -> Self {
        Self { port: daemon.port(), token: daemon.token() }
    }

    /// A stream behind `seen`, as soon as there is a daemon.
    fn open(&self, query: &str, seen: &str) -> Option<Stream> {
        let conn = Conn::try_tcp(self.port).ok()?;
        let request = Request::new("GET", &format!("/events?{query}&signals=0&since=0"))
            .host(&format!("127.0.0.1:{}", self.port))
            .bearer(&self.token);
        let request = if seen.is_empty() { request } else { request.header("Last-Event-ID", seen) };
        Stream::try_open(conn, &request).ok()
    }
}

/// Reads until `custom.end`, with cuts at random places.
fn record(
    address: &Address,
    watch: &Watch,
    mut random: Random,
    seen: &AtomicUsize,
) -> (Vec<Event>, usize) {
    let (mut history, mut last, mut cuts) = (Vec::<Event>::new(), String::new(), 0);
    loop {
        let mut stream = None;
        eventually("the daemon takes the subscriber", || {
            stream = address.open(watch.query, &last);
            stream.is_some()
        });
        let mut stream = stream.expect("just opened");
        let until = random.below(4000);
        for _ in 0..until {
            let Some(event) = stream.next_within(Duration::from_secs(20)) else { break };
            let ended = event.name == "custom.end";
            last.clone_from(&event.id);
            history.push(event);
            seen.fetch_add(1, Ordering::Relaxed);
            if ended {
                return (history, cuts);
            }
        }
        cuts += 1;
    }
}

fn publish_all(address: &Address, total: usize, random: &mut Random) {
    let mut publisher = Publisher::at(address.port, address.token.clone());
    let mut events = Vec::new();
    for n in 0..total {
        let mut event =
            custom_event(TOPICS[random.below(TOPICS.len())], &format!("h-{n}"), json!({ "n": n }));
        event["subject"] = (*random.pick(&SUBJECTS)).into();
        event["severity"] = (*random.pick(&["info", "warning", "error"])).into();
        events.push(event);
    }
    let mut end = custom_event("custom.end", "end", json!({}));
    end["subject"] = "build/7".into();
    end["severity"] = "error".into();
    events.push(end);
    for batch in events.chunks(20) {
        // No answer means unknown; the same ids again are stored once.
        eventually("the batch is taken", || {
            !matches!(publisher.publish_batch(batch), Err(Unknown))
        });
    }
}

/// The history of a subscriber against the whole journal.
fn check(journal: &[Event], history: &[Event], watch: &Watch) {
    let wanted: Vec<&Event> = journal
        .iter()
        .filter(|event| event.name == "custom.end" || (watch.admits)(&event.json()))
        .collect();
    for pair in history.windows(2) {
        assert!(pair[0].seq() < pair[1].seq(), "{}: {pair:?}", watch.query);
    }
    assert_eq!(history.len(), wanted.len(), "{}: incomplete", watch.query);
    for (seen, wanted) in history.iter().zip(wanted) {
        assert_eq!(seen, wanted, "{}", watch.query);
    }
}

#[test]
fn r06_histories_are_ordered_unique_complete_and_true_to_their_filter() {
    // About half of the events reach a subscriber on average.
    let (total, kills) = (size(100_000, 8_000), size(10, 2));
    let mut random = Random::fresh("history");
    let daemon = Daemon::start();
    let address = Address::of(&daemon);
    let seen = AtomicUsize::new(0);
    let (daemon, recorded) = std::thread::scope(|scope| {
        let mut daemon = daemon;
        let subscribers: Vec<_> = (0..SUBSCRIBERS)
            .map(|at| {
                let (address, seen) = (address.clone(), &seen);
                let random = Random::seeded(random.next());
                scope.spawn(move || record(&address, &WATCHES[at % WATCHES.len()], random, seen))
            })
            .collect();
        let mut choices = Random::seeded(random.next());
        let publisher = scope.spawn({
            let address = address.clone();
            move || publish_all(&address, total, &mut choices)
        });
        for kill in 1..=kills {
            let share = total * SUBSCRIBERS / 2 * kill / (kills + 2);
            within(Duration::from_secs(900), "deliveries go on", || {
                (seen.load(Ordering::Relaxed) >= share || publisher.is_finished()).then_some(())
            });
            daemon = daemon.restart_after_kill9();
            assert_eq!(daemon.port(), address.port, "the port stays");
        }
        publisher.join().expect("the publisher");
        let join = |one: ScopedJoinHandle<'_, _>| one.join().expect("a subscriber");
        (daemon, subscribers.into_iter().map(join).collect::<Vec<_>>())
    });

    let mut journal = Vec::new();
    let mut replay = daemon.events("types=custom.%3E&since=0&signals=0");
    while journal.last().is_none_or(|event: &Event| event.name != "custom.end") {
        journal.push(replay.next());
    }
    assert_eq!(journal.len(), total + 1, "every id is stored once");
    let (mut deliveries, mut cuts) = (0, 0);
    for (at, (history, own_cuts)) in recorded.iter().enumerate() {
        check(&journal, history, &WATCHES[at % WATCHES.len()]);
        (deliveries, cuts) = (deliveries + history.len(), cuts + own_cuts);
    }
    println!("history: {deliveries} deliveries, {cuts} cuts, {kills} kills, 0 violations");
    assert!(cuts >= SUBSCRIBERS / 2, "only {cuts} cuts: void");
}
