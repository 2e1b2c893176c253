//! Reading the past, and how long a long past holds up a start.

use std::time::Instant;

use fleetd::bus::Start;
use fleetd::model::Filter;
use fleetd::store::Durability;

use super::RUNS;
use super::world::{RING, World, event, filled, median, read};

const REPLAYED: usize = 100_000;

pub async fn replay() {
    println!("replay of {REPLAYED} events from the database, as ready-made frames");
    // Opened anew, the ring is empty: everything comes from the database.
    let world = World::open(filled(REPLAYED).await, Durability::Normal, RING);
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
    println!("  {:.2} of the floor\n", ours / floor);
}

const HELD: usize = 1_000_000;

/// No floor: what is compared is a journal of no events with one of many.
pub async fn open() {
    println!("opening the store, until it takes the first event");
    for count in [0, HELD] {
        let mut dir = filled(count).await;
        let mut took = Vec::new();
        for _ in 0..RUNS {
            let begun = Instant::now();
            let world = World::open(dir, Durability::Full, RING);
            let first = vec![event("custom.bench")];
            world.bus.store().publish(first).await.expect("published");
            took.push(begun.elapsed().as_secs_f64() * 1e3);
            // Not closed: the next one opens what a crash would have left.
            dir = world.dir;
        }
        println!("  with {count:>7} events                          {:>10.1} ms", median(took));
    }
}
