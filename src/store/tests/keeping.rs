//! Retention in rows, bytes and age; named cursors; the WAL's length.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::model::Timestamp;
use crate::store::retention::drop_unused;
use crate::store::testing::{KEEP, event, eventually, open, try_open};
use crate::store::{Retention, Snapshot, StoreError};

async fn held_after_tick(retention: Retention, published: usize) -> (u64, u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let fixture = try_open(dir.path(), retention).unwrap();
    let events: Vec<_> = (0..published).map(|number| event(&format!("e{number}"))).collect();
    for chunk in events.chunks(500) {
        fixture.store.publish(chunk.to_vec()).await.unwrap();
    }
    fixture.store.tick().await.unwrap();
    let store = &fixture.store;
    eventually("trimming ends", || {
        store.events() <= retention.rows && store.bytes() <= retention.bytes
    })
    .await;
    let held = fixture.held().await;
    assert_eq!(held.len() as u64, store.events());
    assert_eq!(held.first().map_or(store.head().seq + 1, |first| first.0), store.oldest());
    let read = store.read(|snapshot| {
        let mut bytes = 0;
        snapshot.scan(0, |row| {
            bytes += row.body.len() as u64;
            ControlFlow::Continue(())
        })?;
        Ok(bytes)
    });
    assert_eq!(read.await.unwrap(), store.bytes());
    (store.oldest(), store.events(), store.bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_so_many_rows() {
    let (oldest, events, _) = held_after_tick(Retention { rows: 700, ..KEEP }, 5000).await;
    assert_eq!((oldest, events), (4301, 700));
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_so_many_bytes() {
    let (_, events, bytes) = held_after_tick(Retention { bytes: 100_000, ..KEEP }, 3000).await;
    assert!(bytes <= 100_000, "{bytes} bytes are held");
    assert!(bytes > 99_000, "only {bytes} bytes in {events} events are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_so_long() {
    let dir = tempfile::tempdir().unwrap();
    let age = Duration::from_millis(300);
    let fixture = try_open(dir.path(), Retention { age, ..KEEP }).unwrap();
    fixture.publish("old", 20).await;
    let stored = Instant::now();
    fixture.store.tick().await.unwrap();
    if stored.elapsed() < Duration::from_millis(100) {
        assert_eq!(fixture.store.events(), 20);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while fixture.store.events() > 0 {
        assert!(Instant::now() < deadline, "old events are kept");
        fixture.store.tick().await.unwrap();
    }
    assert!(stored.elapsed() >= Duration::from_millis(250), "trimmed too early");
    assert_eq!(fixture.store.oldest(), 21);
    fixture.publish("new", 1).await;
    assert_eq!(fixture.store.head().seq, 21);
    // An empty journal goes on where it was, in the same epoch.
    let epoch = fixture.store.head().epoch;
    fixture.store.close().await;
    drop(fixture);
    let fixture = open(&dir);
    assert_eq!((fixture.report.head.epoch, fixture.report.regressed), (epoch, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_hold_between_ticks() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = try_open(dir.path(), Retention { rows: 100, ..KEEP }).unwrap();
    for batch in 0..40 {
        let events = (0..100).map(|number| event(&format!("{batch}-{number}"))).collect();
        fixture.store.publish(events).await.unwrap();
    }
    let store = &fixture.store;
    eventually("trimmed without a tick", || store.events() <= 1200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishers_get_in_between_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    for batch in 0..200 {
        let events = (0..500).map(|number| event(&format!("{batch}-{number}"))).collect();
        fixture.store.publish(events).await.unwrap();
    }
    fixture.store.close().await;
    drop(fixture);
    let fixture = try_open(dir.path(), Retention { rows: 10, ..KEEP }).unwrap();
    fixture.store.tick().await.unwrap();
    let mut during = 0;
    while fixture.store.events() > 10 + 1 {
        fixture.store.publish(vec![event(&format!("during{during}"))]).await.unwrap();
        during += 1;
        assert!(during < 10_000, "trimming does not get on");
    }
    assert!(during > 1, "a publisher waited for all the trimming");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_store_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    fixture.publish("e", 10).await;
    fixture.store.tick().await.unwrap();
    let wal = dir.path().join("journal.db-wal");
    let length = || std::fs::metadata(&wal).unwrap().len();
    let modified = || std::fs::metadata(&wal).unwrap().modified().unwrap();
    let before = (length(), modified());
    for _ in 0..20 {
        fixture.store.tick().await.unwrap();
    }
    assert_eq!((length(), modified()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_wal_is_cut_when_idle() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    fixture.publish("e", 400).await;
    let wal = dir.path().join("journal.db-wal");
    assert!(std::fs::metadata(&wal).unwrap().len() > 1024 * 1024);
    fixture.store.tick().await.unwrap();
    assert_eq!(std::fs::metadata(&wal).unwrap().len(), 0);
    assert_eq!(fixture.held().await.len(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wal_stays_short_while_publishing() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    fixture.publish("e", 3000).await;
    let wal = std::fs::metadata(dir.path().join("journal.db-wal")).unwrap().len();
    assert!(wal < 12 * 1024 * 1024, "the WAL has {wal} bytes");
}

/// Reads, and does not end before the next reading has begun, or 20 ms.
fn overlapping(snapshot: &Snapshot<'_>, begun: &AtomicUsize) -> Result<(), StoreError> {
    snapshot.scan(0, |_| {
        let (own, since) = (begun.fetch_add(1, Ordering::SeqCst) + 1, Instant::now());
        while begun.load(Ordering::SeqCst) == own && since.elapsed() < Duration::from_millis(20) {
            std::thread::yield_now();
        }
        ControlFlow::Break(())
    })?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_without_a_pause_do_not_let_the_wal_grow() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    fixture.publish("first", 1).await;
    let (begun, done) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (store, done, begun) = (fixture.store.clone(), done.clone(), Arc::clone(&begun));
        readers.spawn(async move {
            while !done.is_cancelled() {
                let begun = Arc::clone(&begun);
                store.read(move |snapshot| overlapping(snapshot, &begun)).await.unwrap();
            }
        });
    }
    let wal = dir.path().join("journal.db-wal");
    let mut longest = 0;
    for batch in 0..200 {
        let events = (0..500).map(|number| event(&format!("{batch}-{number}"))).collect();
        fixture.store.publish(events).await.unwrap();
        for single in 0..16 {
            fixture.publish(&format!("{batch}-single-{single}-"), 1).await;
        }
        longest = longest.max(std::fs::metadata(&wal).unwrap().len());
    }
    done.cancel();
    readers.join_all().await;
    assert!(longest < 44 << 20, "the WAL had {longest} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_cursor_is_at_least_once_and_forgotten_after_90_days() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    fixture.publish("e", 10).await;
    let head = fixture.store.head();
    let at = move |seq| crate::model::Cursor { seq, ..head };
    let begin = |name: &'static str, seen| {
        let store = fixture.store.clone();
        async move {
            let start = at(0);
            store.write(move |tx| tx.begin_named("owner", name, seen, start)).await.unwrap()
        }
    };
    assert_eq!(begin("a", None).await, at(0));
    assert_eq!(begin("a", None).await, at(0), "nothing was handed out");
    let handed = fixture.store.write(move |tx| tx.hand_named("owner", "a", at(7)));
    handed.await.unwrap();
    assert_eq!(begin("a", None).await, at(7), "calling again says it was seen");
    assert_eq!(begin("a", Some(at(5))).await, at(5), "or exactly what the caller says");
    let new = crate::model::Cursor { epoch: crate::model::Epoch(!head.epoch.0), seq: 2 };
    for (handed, kept) in [(new, new), (crate::model::Cursor { seq: 1, ..new }, new)] {
        let hand = fixture.store.write(move |tx| tx.hand_named("owner", "a", handed));
        hand.await.unwrap();
        assert_eq!(begin("a", None).await, kept, "another epoch counts, going back does not");
    }
    assert_eq!(begin("b", None).await, at(0));
    let age = fixture.store.write(|tx| {
        let old = Timestamp::now().millis() - 91 * 24 * 3600 * 1000;
        tx.connection.execute("UPDATE cursor SET used = ?1 WHERE name = 'a'", [old])?;
        Ok::<_, StoreError>(drop_unused(tx.connection, Timestamp::now())?)
    });
    assert_eq!(age.await.unwrap(), 1);
    let names = fixture.store.read(|snapshot| {
        Ok((snapshot.named_cursor("owner", "a")?, snapshot.named_cursor("owner", "b")?))
    });
    let (a, b) = names.await.unwrap();
    assert_eq!((a, b), (None, Some(at(0))));
}
