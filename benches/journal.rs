//! What the journal and the bus can do, each figure beside a floor that was
//! measured in the same run: `cargo bench --bench journal`.
//!
//! A floor does the same work with the least that could do it: the same
//! publishers and channels over a bare file with `fdatasync`, the same readers
//! on a broadcast channel. Figures are medians of [`RUNS`] runs, the two kinds
//! taking turns, so that whatever else the machine does meets both.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark fails by a panic and shows its figures"
)]

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fleetd::bus::{Bus, Delivery, Feed, Start, Subscription};
use fleetd::model::{Filter, NewEvent, Project, Severity, Timestamp, Topic};
use fleetd::store::{Durability, Retention, Store, StoreOptions};
use fleetd::wire::{EncodedEvent, encode_event};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;

const RUNS: usize = 5;
const PUBLISHERS: usize = 64;
const SOURCE: &str = "fleetd/bench";

/// Bytes that the ring may hold, as in the default configuration.
const RING: usize = 16 * 1024 * 1024;

fn main() {
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        println!("journal and bus; medians of {RUNS} runs\n");
        durable_publish().await;
        fan_out().await;
        idle_subscriptions().await;
        replay().await;
    });
}

struct World {
    bus: Bus,
    dir: TempDir,
}

impl World {
    fn open(dir: TempDir, durability: Durability, ring: usize) -> Self {
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

    fn new(durability: Durability) -> Self {
        Self::open(dir(), durability, RING)
    }
}

/// Below the target directory, on a disk as the journal's is; `/tmp` may be memory.
fn dir() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

/// An event of some 450 bytes.
fn event(topic: &str) -> EncodedEvent {
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Events per second and the two quantiles of the answer, in milliseconds.
#[derive(Default)]
struct Rates {
    rate: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Rates {
    fn add(&mut self, count: usize, took: Duration, mut answers: Vec<Duration>) {
        answers.sort_unstable();
        let at = |part: usize| answers[answers.len() * part / 100].as_secs_f64() * 1e3;
        self.rate.push(count as f64 / took.as_secs_f64());
        self.p50.push(at(50));
        self.p99.push(at(99));
    }

    fn print(self, name: &str) -> f64 {
        let rate = median(self.rate);
        let (p50, p99) = (median(self.p50), median(self.p99));
        println!("  {name:<44} {rate:>10.0} events/s   p50 {p50:>6.2} ms   p99 {p99:>6.2} ms");
        rate
    }
}

async fn durable_publish() {
    println!("durable publish, {PUBLISHERS} publishers, every answer after its fsync");
    let (mut ours, mut floor) = (Rates::default(), Rates::default());
    for _ in 0..RUNS {
        let world = World::new(Durability::Full);
        let store = world.bus.store().clone();
        measure(&mut ours, move |event| {
            let store = store.clone();
            async move { drop(store.publish(vec![event]).await.expect("published")) }
        })
        .await;
        let file = dir();
        let appender = appender(File::create(file.path().join("log")).expect("a file"));
        measure(&mut floor, move |event| {
            let appender = appender.clone();
            async move { append(&appender, event.body(1)).await }
        })
        .await;
    }
    let floor = floor.print("floor: bare file, group commit, fdatasync");
    let ours = ours.print("fleetd");
    println!("  {:.2} of the floor\n", ours / floor);
}

/// Publishes from all publishers for a while, each waiting for its answer.
async fn measure<F, R>(rates: &mut Rates, publish: F)
where
    F: Fn(EncodedEvent) -> R + Clone + Send + 'static,
    R: Future<Output = ()> + Send,
{
    const EACH: usize = 1500;
    let begun = Instant::now();
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let publish = publish.clone();
        publishers.spawn(async move {
            let mut answers = Vec::with_capacity(EACH);
            for _ in 0..EACH {
                let event = event("custom.bench");
                let sent = Instant::now();
                publish(event).await;
                answers.push(sent.elapsed());
            }
            answers
        });
    }
    let answers: Vec<_> = publishers.join_all().await.into_iter().flatten().collect();
    rates.add(answers.len(), begun.elapsed(), answers);
}

type Append = (Vec<u8>, oneshot::Sender<()>);

/// A thread that appends whatever waits and answers after one `fdatasync`.
fn appender(mut file: File) -> mpsc::Sender<Append> {
    let (sender, mut waiting) = mpsc::channel::<Append>(1024);
    std::thread::spawn(move || {
        let mut group = Vec::new();
        let mut bytes = Vec::new();
        while waiting.blocking_recv_many(&mut group, 512) > 0 {
            bytes.clear();
            group.iter().for_each(|(body, _)| bytes.extend_from_slice(body));
            file.write_all(&bytes).expect("written");
            file.sync_data().expect("synced");
            for (_, reply) in group.drain(..) {
                let _ = reply.send(());
            }
        }
    });
    sender
}

async fn append(appender: &mpsc::Sender<Append>, body: Vec<u8>) {
    let (reply, answer) = oneshot::channel();
    appender.send((body, reply)).await.expect("an appender");
    answer.await.expect("an answer");
}

const SUBSCRIBERS: usize = 100;
const FANNED: usize = 8000;
const IN_FLIGHT: usize = 16;

async fn fan_out() {
    println!(
        "fan-out of durable events to {SUBSCRIBERS} subscriptions, {IN_FLIGHT} publishes in flight"
    );
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(fan_out_of_ours().await);
        floor.push(fan_out_of_floor().await);
    }
    let (ours, floor) = (median(ours), median(floor));
    println!("  floor: bare file and a broadcast channel     {floor:>10.0} deliveries/s");
    println!("  fleetd                                       {ours:>10.0} deliveries/s");
    println!("  {:.2} of the floor\n", ours / floor);
}

async fn fan_out_of_ours() -> f64 {
    let world = World::new(Durability::Full);
    let mut readers = JoinSet::new();
    for _ in 0..SUBSCRIBERS {
        let filter = Filter::default().with_types("custom.>").expect("a filter");
        let mut subscription = world.bus.subscribe(filter, Start::Now, false).expect("subscribed");
        readers.spawn(async move { read(&mut subscription, FANNED).await });
    }
    let begun = Instant::now();
    let store = world.bus.store().clone();
    publish_in_flight(move |event| {
        let store = store.clone();
        async move { drop(store.publish(vec![event]).await.expect("published")) }
    })
    .await;
    readers.join_all().await;
    (FANNED * SUBSCRIBERS) as f64 / begun.elapsed().as_secs_f64()
}

async fn fan_out_of_floor() -> f64 {
    let file = dir();
    let appender = appender(File::create(file.path().join("log")).expect("a file"));
    let (sender, _) = broadcast::channel::<Arc<[u8]>>(FANNED);
    let mut readers = JoinSet::new();
    for _ in 0..SUBSCRIBERS {
        let mut receiver = sender.subscribe();
        readers.spawn(async move {
            let mut bytes = 0;
            for _ in 0..FANNED {
                bytes += receiver.recv().await.expect("a frame").len();
            }
            bytes
        });
    }
    let begun = Instant::now();
    publish_in_flight(move |event| {
        let (appender, sender) = (appender.clone(), sender.clone());
        async move {
            let body = event.body(1);
            append(&appender, body.clone()).await;
            let _ = sender.send(body.into());
        }
    })
    .await;
    readers.join_all().await;
    (FANNED * SUBSCRIBERS) as f64 / begun.elapsed().as_secs_f64()
}

async fn publish_in_flight<F, R>(publish: F)
where
    F: Fn(EncodedEvent) -> R + Clone + Send + 'static,
    R: Future<Output = ()> + Send,
{
    let mut publishers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let publish = publish.clone();
        publishers.spawn(async move {
            for _ in 0..FANNED / IN_FLIGHT {
                publish(event("custom.bench")).await;
            }
        });
    }
    publishers.join_all().await;
}

/// Reads `count` events; returns the bytes of their frames.
async fn read(subscription: &mut Subscription, count: usize) -> usize {
    let (mut events, mut bytes) = (0, 0);
    while events < count {
        if let Delivery::Events(chunk) = subscription.next().await.expect("events") {
            events += chunk.events().count();
            bytes += chunk.frames().map(|frame| frame.len()).sum::<usize>();
        }
    }
    bytes
}

const IDLE: usize = 10_000;

/// From the publish to the arrival at the one subscription it concerns, one
/// event at a time: without fsync, or its noise would hide the rest.
async fn idle_subscriptions() {
    println!("an event's way to its subscription, with {IDLE} idle ones that want something else");
    let (mut alone, mut among) = (Vec::new(), Vec::new());
    for run in 0..2 * RUNS {
        let world = World::new(Durability::Normal);
        let idle: Vec<_> = if run % 2 == 0 { Vec::new() } else { idle(&world.bus) };
        let counted = Arc::new(AtomicU64::new(0));
        let mut waiting = JoinSet::new();
        for mut subscription in idle {
            let counted = Arc::clone(&counted);
            waiting.spawn(async move {
                let _ = subscription.next().await;
                counted.fetch_add(1, Ordering::Relaxed);
            });
        }
        let took = ways(&world.bus).await;
        assert_eq!(counted.load(Ordering::Relaxed), 0, "somebody was woken");
        if run % 2 == 0 { alone.push(took) } else { among.push(took) }
    }
    let (alone, among) = (median(alone), median(among));
    println!("  alone                                        {alone:>10.1} µs");
    println!("  among {IDLE}                                  {among:>10.1} µs");
    println!("  {:+.1} %\n", (among / alone - 1.0) * 100.0);
}

fn idle(bus: &Bus) -> Vec<Subscription> {
    let filter = |number: usize| match number % 2 {
        0 => Filter::default().with_types(&format!("custom.other.t{number}.*")),
        _ => Filter::default().with_subject(format!("task/{number}")),
    };
    (0..IDLE)
        .map(|number| {
            bus.subscribe(filter(number).expect("a filter"), Start::Now, true).expect("subscribed")
        })
        .collect()
}

/// The mean time of an event's way, in microseconds.
async fn ways(bus: &Bus) -> f64 {
    const WAYS: usize = 4000;
    let filter = Filter::default().with_types("custom.bench").expect("a filter");
    let mut subscription = bus.subscribe(filter, Start::Now, false).expect("subscribed");
    let mut took = Duration::ZERO;
    for _ in 0..WAYS {
        let event = event("custom.bench");
        let begun = Instant::now();
        bus.store().publish(vec![event]).await.expect("published");
        read(&mut subscription, 1).await;
        took += begun.elapsed();
    }
    took.as_secs_f64() * 1e6 / WAYS as f64
}

const REPLAYED: usize = 100_000;

async fn replay() {
    println!("replay of {REPLAYED} events from the database, as ready-made frames");
    let world = World::new(Durability::Normal);
    for _ in 0..REPLAYED / 1000 {
        let events = (0..1000).map(|_| event("custom.bench")).collect();
        world.bus.store().publish(events).await.expect("published");
    }
    world.bus.store().close().await;
    // Opened anew, the ring is empty: everything comes from the database.
    let World { bus, dir } = world;
    drop(bus);
    let world = World::open(dir, Durability::Normal, RING);
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let begun = Instant::now();
        let filter = Filter::default().with_types("custom.>").expect("a filter");
        let mut subscription =
            world.bus.subscribe(filter, Start::Oldest, false).expect("subscribed");
        read(&mut subscription, REPLAYED).await;
        ours.push(REPLAYED as f64 / begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        let scanned = world.bus.store().read(|snapshot| {
            let mut bytes = 0;
            snapshot.scan(0, |row| {
                bytes += row.body.len();
                std::ops::ControlFlow::Continue(())
            })?;
            Ok(bytes)
        });
        assert!(scanned.await.expect("scanned") > REPLAYED);
        floor.push(REPLAYED as f64 / begun.elapsed().as_secs_f64());
    }
    let (ours, floor) = (median(ours), median(floor));
    println!("  floor: reading the rows and nothing else     {floor:>10.0} events/s");
    println!("  fleetd                                       {ours:>10.0} events/s");
    println!("  {:.2} of the floor", ours / floor);
    drop(world.dir);
}
