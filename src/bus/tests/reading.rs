//! One subscription at a time: where it starts, what it is told, what wakes it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::json;

use super::{World, next_seqs, read};
use crate::bus::{Bus, BusError, Delivery, Feed, Gap, Start};
use crate::model::{Epoch, ErrorCode, Filter, Project, Severity, Signal, Topic};
use crate::store::testing::{KEEP, event, event_of, eventually, options};
use crate::store::{CommitHook, Resume, Retention, Store};

#[tokio::test(flavor = "multi_thread")]
async fn who_was_told_of_a_position_may_ask_for_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let feed = Feed::new(4096);
    let (bus, publish) = (Arc::new(OnceLock::<Bus>::new()), feed.hook());
    let (asked, during) = (Arc::new(Mutex::new(Vec::new())), Arc::clone(&bus));
    let answers = Arc::clone(&asked);
    // The store's own head moves only after its hook has returned.
    let hook: CommitHook = Arc::new(move |batch| {
        publish(batch);
        let bus = during.get().unwrap();
        let head = bus.head();
        let answer = (bus.store().resume(head), bus.resume(head), bus.place(Start::After(head)));
        answers.lock().unwrap().push(answer);
    });
    let (store, _) = Store::open(options(dir.path(), KEEP), hook).unwrap();
    assert!(bus.set(Bus::new(feed, store.clone())).is_ok());
    store.publish(vec![event_of("a", "custom.test", "", "default")]).await.unwrap();
    let answers = asked.lock().unwrap();
    let [(Resume::Future, Resume::After(1), Ok(_))] = answers.as_slice() else {
        panic!("{answers:?}");
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_where_it_is_told_to() {
    let world = World::small();
    for _ in 0..100 {
        world.publish("custom.a").await;
    }
    let mut now = world.subscribe("custom.>", Start::Now);
    let mut oldest = world.subscribe("custom.>", Start::Oldest);
    let mut after = world.subscribe("custom.>", Start::After(world.at(40)));
    assert!(now.next().now_or_never().is_none());
    assert!(now.is_caught_up());
    assert_eq!(read(&mut oldest, 100).await, (1..=100).collect::<Vec<_>>());
    assert_eq!(read(&mut after, 60).await, (41..=100).collect::<Vec<_>>());
    world.publish("custom.a").await;
    for subscription in [&mut now, &mut oldest, &mut after] {
        assert_eq!(next_seqs(subscription).await, [101]);
        assert_eq!(subscription.cursor().seq, 101);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_the_future_is_refused() {
    let world = World::small();
    world.publish("custom.a").await;
    let start = Start::After(world.at(2));
    let refused = world.bus.subscribe(Filter::default(), start, false).err().unwrap();
    assert!(matches!(refused, BusError::Future { .. }));
    assert_eq!(refused.code(), ErrorCode::CursorInFuture);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_is_told_with_both_bounds() {
    let world = World::new(4096, Retention { rows: 10, ..KEEP });
    for _ in 0..50 {
        world.publish("custom.a").await;
    }
    world.bus.store().tick().await.unwrap();
    let mut resumed = world.subscribe("custom.>", Start::After(world.at(5)));
    let Delivery::Gap(gap) = resumed.next().await.unwrap() else { panic!("no gap") };
    assert_eq!(gap, Gap { from: world.at(5), to: world.at(40), reason: "retention" });
    assert_eq!(read(&mut resumed, 10).await, (41..=50).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_overtaken_by_trimming_is_told() {
    let world = World::new(4096, Retention { rows: 10, ..KEEP });
    let mut slow = world.subscribe("custom.>", Start::Now);
    for _ in 0..50 {
        world.publish("custom.a").await;
    }
    world.bus.store().tick().await.unwrap();
    let Delivery::Gap(gap) = slow.next().await.unwrap() else { panic!("no gap") };
    assert_eq!((gap.from, gap.reason), (world.at(0), "retention"));
    assert!(gap.to.seq <= 40, "the gap covers what is still held");
    let rest = 50 - gap.to.seq;
    assert_eq!(read(&mut slow, usize::try_from(rest).unwrap()).await.last(), Some(&50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_epoch_is_told_and_goes_on() {
    let world = World::small();
    for _ in 0..5 {
        world.publish("custom.a").await;
    }
    let foreign = crate::model::Cursor { epoch: Epoch(!world.bus.head().epoch.0), seq: 900 };
    let mut resumed = world.subscribe("custom.>", Start::After(foreign));
    let Delivery::Gap(gap) = resumed.next().await.unwrap() else { panic!("no gap") };
    assert_eq!(gap, Gap { from: foreign, to: world.at(0), reason: "epoch" });
    assert_eq!(read(&mut resumed, 5).await, [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_filters_cursor_does_not_grow_old() {
    let world = World::small();
    let mut narrow = world.subscribe("custom.rare", Start::Now);
    assert!(narrow.next().now_or_never().is_none());
    for _ in 0..200 {
        world.publish("custom.common").await;
    }
    assert_eq!(narrow.cursor(), world.at(200));
    assert_eq!(world.publish("custom.rare").await, 201);
    assert_eq!(narrow.cursor(), world.at(200), "201 matches and has not been handed out");
    assert_eq!(next_seqs(&mut narrow).await, [201]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_costs_nothing_and_loses_nothing() {
    let world = World::new(64 * 1024, KEEP);
    let mut stopped: Vec<_> = (0..50).map(|_| world.subscribe("custom.>", Start::Now)).collect();
    let mut healthy = world.subscribe("custom.>", Start::Now);
    for batch in 0..40 {
        let events = (0..100).map(|number| event(&format!("{batch}-{number}"))).collect();
        world.bus.store().publish(events).await.unwrap();
        assert_eq!(read(&mut healthy, 100).await.len(), 100);
        let held = world.bus.stats().ring_bytes;
        assert!(held <= 128 * 1024, "the ring holds {held} bytes");
    }
    for subscription in &mut stopped {
        assert_eq!(read(subscription, 4000).await, (1..=4000).collect::<Vec<_>>());
    }
}

struct CountedWaker(AtomicUsize);

impl Wake for CountedWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_whom_an_event_interests_are_woken() {
    let world = World::new(1024 * 1024, KEEP);
    let wakes = Arc::new(CountedWaker(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&wakes));
    let filter = |number: usize| match number % 3 {
        0 => Filter::default().with_types(&format!("custom.t{number}.*")).unwrap(),
        1 => Filter::default().with_subject(format!("task/{number}")).unwrap(),
        _ => Filter {
            projects: vec![Project::parse(&format!("p{number}")).unwrap()],
            ..Filter::default()
        },
    };
    let mut idle: Vec<_> = (0..10_000)
        .map(|number| world.bus.subscribe(filter(number), Start::Now, true).unwrap())
        .collect();
    let mut waiting: Vec<_> = idle.iter_mut().map(|one| Box::pin(one.next())).collect();
    for next in &mut waiting {
        assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    let mut interested = world.subscribe("custom.other", Start::Now);
    for number in 1..=100 {
        world.publish("custom.other").await;
        assert_eq!(next_seqs(&mut interested).await, [number]);
    }
    assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    drop(waiting);
    drop(idle);
    assert_eq!(world.bus.stats().subscriptions, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_pass_and_the_oldest_gives_way() {
    let world = World::small();
    let signal = |text: usize| Signal {
        topic: Topic::known("task.output").unwrap(),
        subject: String::from("task/1"),
        project: Project::default_project(),
        severity: Severity::Debug,
        data: json!({ "text": text }),
    };
    // Filed twice in the index, told once.
    let filter = Filter::default().with_types("task.*,task.output").unwrap();
    let mut listening = world.bus.subscribe(filter.clone(), Start::Now, true).unwrap();
    let mut deaf = world.bus.subscribe(filter, Start::Now, false).unwrap();
    for number in 0..100 {
        world.bus.signal(&signal(number));
    }
    let Delivery::Signals(passed) = listening.next().await.unwrap() else { panic!("no signals") };
    let texts: Vec<u64> = passed
        .iter()
        .map(|frame| {
            let body: serde_json::Value = serde_json::from_slice(&frame.body()).unwrap();
            body["data"]["text"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(texts, (36..100).collect::<Vec<_>>());
    assert!(listening.next().now_or_never().is_none());
    assert!(deaf.next().now_or_never().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_ended_subscription_leaves_no_trace() {
    let world = World::small();
    let mut churn = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let bus = world.bus.clone();
        churn.spawn(async move {
            for number in 0..300 {
                let filter = Filter::default().with_types(&format!("custom.w{worker}.*")).unwrap();
                let mut one = bus.subscribe(filter, Start::Oldest, true).unwrap();
                if number % 3 == 0 {
                    let _ = tokio::time::timeout(Duration::from_micros(200), one.next()).await;
                }
            }
        });
    }
    for _ in 0..100 {
        world.publish("custom.w1.x").await;
    }
    churn.join_all().await;
    let stats = || world.bus.stats();
    eventually("all have left", || stats().subscriptions == 0).await;
    assert_eq!(stats().published, 100);
}
