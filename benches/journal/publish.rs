//! Durable publishing beside a bare file.

use std::fs::File;
use std::time::{Duration, Instant};

use fleetd::store::Durability;
use fleetd::wire::EncodedEvent;
use tokio::task::JoinSet;

use super::RUNS;
use super::floor::{append, appender};
use super::world::{World, dir, event, median};

const PUBLISHERS: usize = 64;

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

pub async fn durable() {
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
