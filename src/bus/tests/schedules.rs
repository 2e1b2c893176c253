//! Random schedules of publishing, reading, cancelling and trimming, step by
//! step: no wake is lost, nothing comes twice, nothing is skipped unsaid.
//!
//! The commit hook is held back at will, so that the database is ahead of the
//! bus for as long as a schedule likes: in life, that is a matter of microseconds.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::bus::{Bus, Delivery, Feed, Start, Subscription};
use crate::model::{Cursor, Filter, Severity};
use crate::store::testing::{KEEP, event_with, options};
use crate::store::{CommitHook, CommittedBatch, Retention, Store};

const TOPICS: [&str; 3] = ["custom.a", "custom.b", "custom.c"];
/// Bytes of text by topic: of the large ones a few fill a chunk, so that readers
/// stop in the middle of the ring.
const LENGTHS: [usize; 3] = [64, 50_000, 20_000];
const FILTERS: [&str; 4] = ["", "custom.a", "custom.b,custom.c", "custom.*"];
const READERS: usize = 4;

#[derive(Clone, Debug)]
enum Op {
    /// Stores events of these topics in one commit.
    Publish(Vec<usize>),
    /// Tells the bus of the oldest commits that it has not been told of.
    Release(usize),
    /// Polls once and drops the future.
    Poll(usize),
    /// Reads for a moment.
    Read(usize),
    /// Looks at the bookmark.
    Bookmark(usize),
    /// Cuts the reader off; it resumes from its bookmark.
    Resume(usize),
    Trim,
}

fn op() -> impl Strategy<Value = Op> {
    let reader = 0..READERS;
    prop_oneof![
        4 => prop::collection::vec(0..TOPICS.len(), 1..6).prop_map(Op::Publish),
        4 => (1..4usize).prop_map(Op::Release),
        3 => reader.clone().prop_map(Op::Poll),
        3 => reader.clone().prop_map(Op::Read),
        2 => reader.clone().prop_map(Op::Bookmark),
        2 => reader.prop_map(Op::Resume),
        1 => Just(Op::Trim),
    ]
}

struct Reader {
    filter: Filter,
    subscription: Subscription,
    /// Positions that came, and those that a gap excused.
    seen: Vec<u64>,
    excused: Vec<(u64, u64)>,
}

struct Schedule {
    bus: Bus,
    hook: CommitHook,
    held_back: Arc<Mutex<VecDeque<CommittedBatch>>>,
    /// Topic by position, from 1.
    facts: Vec<usize>,
    readers: Vec<Reader>,
    _dir: TempDir,
}

impl Schedule {
    fn new(ring_bytes: usize, rows: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let feed = Feed::new(ring_bytes);
        let hook = feed.hook();
        let held_back = Arc::new(Mutex::new(VecDeque::new()));
        let of_store = Arc::clone(&held_back);
        let hold: CommitHook = Arc::new(move |batch| of_store.lock().unwrap().push_back(batch));
        let retention = Retention { rows, ..KEEP };
        let (store, _) = Store::open(options(dir.path(), retention), hold).unwrap();
        let bus = Bus::new(feed, store);
        let readers = FILTERS
            .iter()
            .map(|types| {
                let filter = Filter::default().with_types(types).unwrap();
                let subscription = bus.subscribe(filter.clone(), Start::Now, false).unwrap();
                Reader { filter, subscription, seen: Vec::new(), excused: Vec::new() }
            })
            .collect();
        Self { bus, hook, held_back, facts: Vec::new(), readers, _dir: dir }
    }

    async fn run(&mut self, op: Op) {
        match op {
            Op::Publish(topics) => self.publish(topics).await,
            Op::Release(count) => self.release(count),
            Op::Poll(number) => {
                let reader = &mut self.readers[number];
                if let Some(delivery) = reader.subscription.next().now_or_never() {
                    reader.take(delivery.unwrap(), &self.bus);
                }
            }
            Op::Read(number) => {
                let reader = &mut self.readers[number];
                let patience = Duration::from_millis(2);
                while let Ok(next) =
                    tokio::time::timeout(patience, reader.subscription.next()).await
                {
                    reader.take(next.unwrap(), &self.bus);
                }
            }
            Op::Bookmark(number) => {
                self.readers[number].bookmark();
            }
            Op::Resume(number) => {
                let reader = &mut self.readers[number];
                let start = Start::After(reader.bookmark());
                reader.subscription =
                    self.bus.subscribe(reader.filter.clone(), start, false).unwrap();
            }
            Op::Trim => self.bus.store().tick().await.unwrap(),
        }
    }

    async fn publish(&mut self, topics: Vec<usize>) {
        let events = topics
            .iter()
            .map(|topic| {
                let id = uuid::Uuid::now_v7().to_string();
                event_with(&id, TOPICS[*topic], "", "default", LENGTHS[*topic])
            })
            .collect();
        self.bus.store().publish(events).await.unwrap();
        self.facts.extend(topics);
    }

    fn release(&mut self, count: usize) {
        for _ in 0..count {
            let Some(batch) = self.held_back.lock().unwrap().pop_front() else { return };
            (self.hook)(batch);
        }
    }

    /// Lets everything arrive and compares with what was published.
    async fn settle(mut self) -> Result<(), TestCaseError> {
        // The last event concerns everybody but those who want something else:
        // for them, the bookmark has to reach it.
        self.release(usize::MAX);
        let head = self.facts.len() as u64;
        for reader in &mut self.readers {
            while !reader.subscription.is_caught_up() {
                let patience = Duration::from_millis(500);
                match tokio::time::timeout(patience, reader.subscription.next()).await {
                    Ok(next) => reader.take(next.unwrap(), &self.bus),
                    Err(_) => prop_assert!(
                        reader.subscription.is_caught_up(),
                        "asleep at {} of {head}",
                        reader.subscription.cursor().seq
                    ),
                }
            }
            let excused = |seq: u64| reader.excused.iter().any(|(a, b)| *a < seq && seq <= *b);
            let expected: Vec<u64> = (1..=head)
                .filter(|seq| {
                    let topic = TOPICS[self.facts[usize::try_from(seq - 1).unwrap()]];
                    reader.filter.admits(topic, "", "default", Severity::Info) && !excused(*seq)
                })
                .collect();
            prop_assert_eq!(&reader.seen, &expected, "filter {:?}", reader.filter.types);
        }
        Ok(())
    }
}

impl Reader {
    fn take(&mut self, delivery: Delivery, bus: &Bus) {
        match delivery {
            Delivery::Events(chunk) => {
                for event in chunk.events() {
                    assert!(event.cursor.seq <= bus.head().seq, "shown before it was told");
                    self.seen.push(event.cursor.seq);
                }
            }
            Delivery::Gap(gap) => {
                assert!(gap.to.seq < bus.store().oldest(), "{gap:?} excuses what is held");
                assert_eq!(gap.reason, "retention");
                self.excused.push((gap.from.seq, gap.to.seq));
            }
            Delivery::Signals(_) => panic!("none were sent"),
        }
    }

    fn bookmark(&mut self) -> Cursor {
        let at = self.subscription.cursor();
        assert!(self.seen.last().is_none_or(|seen| *seen <= at.seq), "a bookmark went back");
        at
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_repeated_or_skipped(
        ops in prop::collection::vec(op(), 1..60),
        ring_bytes in prop_oneof![Just(1usize), Just(2000), Just(1 << 20)],
        rows in prop_oneof![Just(u64::MAX), Just(8)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut schedule = Schedule::new(ring_bytes, rows);
            for op in ops {
                schedule.run(op).await;
            }
            schedule.settle().await
        })?;
    }
}
