//! Many subscriptions: those that an event concerns, and those that it does not.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fleetd::bus::{Bus, Start, Subscription};
use fleetd::model::Filter;
use fleetd::store::Durability;
use fleetd::wire::EncodedEvent;
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use super::RUNS;
use super::floor::{append, appender};
use super::world::{World, dir, event, median, read};

const SUBSCRIBERS: usize = 100;
const FANNED: usize = 8000;
const IN_FLIGHT: usize = 16;

pub async fn fan_out() {
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

const IDLE: usize = 10_000;

/// Blocks of events that each of the two buses carries.
const TURNS: usize = 4 * RUNS;

/// From the publish to the arrival at the one subscription it concerns, one
/// event at a time: without fsync, or its noise would hide the rest. Two buses
/// take turns, one with the idle subscriptions and one without.
pub async fn idle_subscriptions() {
    println!("an event's way to its subscription, with {IDLE} idle ones that want something else");
    let (alone, among) = (World::new(Durability::Normal), World::new(Durability::Normal));
    let woken = Arc::new(AtomicU64::new(0));
    let mut waiting = JoinSet::new();
    for mut subscription in idle(&among.bus) {
        let woken = Arc::clone(&woken);
        waiting.spawn(async move {
            let _ = subscription.next().await;
            woken.fetch_add(1, Ordering::Relaxed);
        });
    }
    let (mut of_alone, mut of_among) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        ways(&alone.bus, &mut of_alone).await;
        ways(&among.bus, &mut of_among).await;
    }
    assert_eq!(woken.load(Ordering::Relaxed), 0, "somebody was woken");
    let (alone, among) = (median(of_alone), median(of_among));
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

/// Measures some events' ways, in microseconds.
async fn ways(bus: &Bus, took: &mut Vec<f64>) {
    let filter = Filter::default().with_types("custom.bench").expect("a filter");
    let mut subscription = bus.subscribe(filter, Start::Now, false).expect("subscribed");
    for _ in 0..1000 {
        let event = event("custom.bench");
        let begun = Instant::now();
        bus.store().publish(vec![event]).await.expect("published");
        read(&mut subscription, 1).await;
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
}
