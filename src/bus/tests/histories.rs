//! Recorded histories of many subscribers with random cuts (R06): ordered,
//! unique, reliable, resumable, filter-true; and resuming while events come (R08).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{World, read};
use crate::bus::{Bus, Delivery, Start};
use crate::model::{Cursor, Filter, Project};
use crate::store::Retention;
use crate::store::testing::{KEEP, event_of};

const TOPICS: [&str; 4] = ["custom.a.x", "custom.a.y", "custom.b.x", "custom.c"];
const SUBJECTS: [&str; 3] = ["task/1", "task/2", ""];
const PROJECTS: [&str; 2] = ["default", "other"];

/// Xorshift: enough chance for a schedule, and the same again for the same seed.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// What was published: by position, what filters look at.
type Fact = (&'static str, &'static str, &'static str);

fn random_filter(dice: &mut Dice) -> Filter {
    let types = ["", "custom.>", "custom.a.*", "custom.*.x", "custom.c,custom.b.>", "custom.none"];
    let mut filter = Filter::default().with_types(dice.pick(&types)).unwrap();
    if dice.below(4) == 0 {
        filter = filter.with_subject(dice.pick(&SUBJECTS)).unwrap();
    }
    if dice.below(3) == 0 {
        filter.projects.push(Project::parse(dice.pick(&PROJECTS)).unwrap());
    }
    filter
}

/// Publishes batches of random events until `count` are stored; returns the facts
/// with their positions.
async fn publish(bus: Bus, seed: u64, count: usize) -> Vec<(u64, Fact)> {
    let mut dice = Dice::new(seed);
    let mut facts = Vec::new();
    while facts.len() < count {
        let batch: Vec<Fact> = (0..=dice.below(12))
            .map(|_| (dice.pick(&TOPICS), dice.pick(&SUBJECTS), dice.pick(&PROJECTS)))
            .collect();
        let events = batch
            .iter()
            .map(|(topic, subject, project)| {
                event_of(&uuid::Uuid::now_v7().to_string(), topic, subject, project)
            })
            .collect();
        let published = bus.store().publish(events).await.unwrap();
        facts.extend(published.iter().map(|p| p.cursor.seq).zip(batch));
        if dice.below(20) == 0 {
            tokio::task::yield_now().await;
        }
    }
    facts
}

/// Reads until position `last` has been passed, with random cuts; returns the
/// positions in the order they came.
async fn subscribe(bus: Bus, filter: Filter, seed: u64, last: Arc<AtomicU64>) -> Vec<u64> {
    let mut dice = Dice::new(seed);
    let mut history = Vec::new();
    let mut at = Cursor { seq: 0, ..bus.head() };
    loop {
        let mut subscription = bus.subscribe(filter.clone(), Start::After(at), false).unwrap();
        for _ in 0..=dice.below(15) {
            let patience = Duration::from_micros(dice.below(20_000));
            let next = tokio::time::timeout(patience, subscription.next()).await;
            match next {
                Ok(delivery) => match delivery.unwrap() {
                    Delivery::Events(chunk) => {
                        for event in chunk.events() {
                            let body: serde_json::Value =
                                serde_json::from_slice(&event.body).unwrap();
                            assert_eq!(body["sequence"], event.cursor.seq.to_string());
                            assert_eq!(body["type"], event.topic);
                            history.push(event.cursor.seq);
                        }
                    }
                    other => panic!("nothing was trimmed: {other:?}"),
                },
                // Cancelled in the middle: nothing may be lost by that.
                Err(_) => {
                    let before = at;
                    at = subscription.cursor();
                    assert!(at.seq >= before.seq, "a bookmark went back");
                }
            }
            if dice.below(3) == 0 {
                at = subscription.cursor();
            }
        }
        // Resume from a bookmark, which is never before what was handed out.
        at = subscription.cursor();
        assert!(history.last().is_none_or(|last| *last <= at.seq));
        if last.load(Ordering::Acquire) <= at.seq {
            return history;
        }
    }
}

async fn check_histories(seed: u64, ring_bytes: usize) {
    let world = World::new(ring_bytes, KEEP);
    let last = Arc::new(AtomicU64::new(u64::MAX));
    let mut dice = Dice::new(seed);
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..20 {
        let filter = random_filter(&mut dice);
        let (bus, last) = (world.bus.clone(), Arc::clone(&last));
        readers.spawn(async move {
            let history = subscribe(bus, filter.clone(), seed * 100 + number, last).await;
            (filter, history)
        });
    }
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..4 {
        writers.spawn(publish(world.bus.clone(), seed * 100 + 50 + number, 1500));
    }
    let mut facts: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    facts.sort_unstable_by_key(|(seq, _)| *seq);
    assert!(facts.iter().zip(1..).all(|((seq, _), expected)| *seq == expected));
    last.store(facts.len() as u64, Ordering::Release);
    for (filter, history) in readers.join_all().await {
        let expected: Vec<_> = facts
            .iter()
            .filter(|(_, (topic, subject, project))| {
                filter.admits(topic, subject, project, crate::model::Severity::Info)
            })
            .map(|(seq, _)| *seq)
            .collect();
        assert_eq!(history, expected, "seed {seed}, filter {filter:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_cut_subscribers_see_everything_once_in_order() {
    // A ring of one batch, of a few, and one that holds everything.
    for (seed, ring_bytes) in [(1, 1), (2, 4096), (3, 64 * 1024), (4, 64 << 20)] {
        check_histories(seed, ring_bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_resumes_while_events_come() {
    let world = World::new(8192, Retention { rows: 3000, ..KEEP });
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = {
        let (bus, stop) = (world.bus.clone(), Arc::clone(&stop));
        tokio::task::JoinSet::from_iter([async move {
            let mut pace = tokio::time::interval(Duration::from_millis(1));
            while !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                let id = uuid::Uuid::now_v7().to_string();
                let event = event_of(&id, "custom.a", "", "default");
                bus.store().publish(vec![event]).await.unwrap();
                if bus.head().seq % 100 == 0 {
                    bus.store().tick().await.unwrap();
                }
            }
        }])
    };
    let mut dice = Dice::new(7);
    let mut resumed = 0;
    while resumed < 200 {
        let head = world.bus.head().seq;
        if head < 50 {
            tokio::task::yield_now().await;
            continue;
        }
        let from = head - dice.below(50);
        let mut subscription = world.subscribe("custom.>", Start::After(world.at(from)));
        let wanted = usize::try_from(head - from).unwrap() + 5;
        let seqs = read(&mut subscription, wanted).await;
        let expected: Vec<_> = (from + 1..).take(seqs.len()).collect();
        assert_eq!(seqs, expected);
        resumed += 1;
    }
    stop.store(true, Ordering::Relaxed);
    publisher.join_all().await;
}
