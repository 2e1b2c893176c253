//! Positions, ids, undoing.

use std::collections::BTreeSet;

use crate::model::{Cursor, ErrorCode, NewEvent, Project};
use crate::store::testing::{KEEP, event, event_of, open, try_open};
use crate::store::{Resume, StoreError};

#[tokio::test(flavor = "multi_thread")]
async fn positions_rise_by_one_and_are_told_before_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    for expected in 1..=20 {
        let published = fixture.store.publish(vec![event(&format!("e{expected}"))]).await.unwrap();
        assert_eq!(published[0].cursor.seq, expected);
        assert_eq!(fixture.store.head(), published[0].cursor);
        assert_eq!(fixture.told.lock().unwrap().last().unwrap().seq, expected);
    }
    assert_eq!(fixture.store.events(), 20);
    let bytes: usize = fixture.told.lock().unwrap().iter().map(|event| event.body.len()).sum();
    assert_eq!(fixture.store.bytes(), bytes as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_stored_once_per_project() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    let twice = vec![event("a"), event("b"), event("a")];
    let published = fixture.store.publish(twice).await.unwrap();
    let flags: Vec<_> = published.iter().map(|p| (p.cursor.seq, p.duplicate)).collect();
    assert_eq!(flags, [(1, false), (2, false), (1, true)]);
    let other = event_of("a", "custom.test", "", "other");
    let published = fixture.store.publish(vec![other]).await.unwrap();
    assert_eq!((published[0].cursor.seq, published[0].duplicate), (3, false));
    fixture.store.close().await;
    drop(fixture);
    let fixture = open(&dir);
    let published = fixture.store.publish(vec![event("b")]).await.unwrap();
    assert_eq!((published[0].cursor.seq, published[0].duplicate), (2, true));
    assert!(fixture.told.lock().unwrap().is_empty(), "a duplicate is not told again");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_the_id_of_anothers_event() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    let of = |publisher: &str| {
        let mut event = event("task.ended");
        event.publisher = publisher.to_owned();
        event
    };
    for (seq, publisher) in [(1, "a-model"), (2, "another"), (3, "")] {
        let published = fixture.store.publish(vec![of(publisher)]).await.unwrap()[0];
        assert_eq!((published.cursor.seq, published.duplicate), (seq, false), "{publisher}");
    }
    let again = fixture.store.publish(vec![of("another")]).await.unwrap()[0];
    assert_eq!((again.cursor.seq, again.duplicate), (2, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_duplicates_get_one_position() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    for round in 0..50 {
        let mut racers = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let store = fixture.store.clone();
            racers.spawn(async move { store.publish(vec![event(&format!("r{round}"))]).await });
        }
        let published: Vec<_> =
            racers.join_all().await.into_iter().map(|p| p.unwrap()[0]).collect();
        let places: BTreeSet<_> = published.iter().map(|p| p.cursor.seq).collect();
        assert_eq!(places.len(), 1);
        assert_eq!(published.iter().filter(|p| !p.duplicate).count(), 1);
    }
    assert_eq!(fixture.store.events(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_change_leaves_nothing_and_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    let own = || NewEvent::own("fleet.started", "fleet", Project::default_project(), 1.into());
    let store = &fixture.store;
    let failing = store.write(move |tx| {
        tx.append(own().unwrap())?;
        Err::<(), _>(StoreError::NotFound { what: "task", name: String::from("x") })
    });
    let sound = store.write(move |tx| tx.append(own().unwrap()));
    let panicking = store.write(move |tx| -> Result<(), StoreError> {
        tx.append(own().unwrap())?;
        panic!("on purpose")
    });
    let (failed, kept, panicked) = tokio::join!(failing, sound, panicking);
    assert!(matches!(failed, Err(StoreError::NotFound { .. })));
    assert_eq!(kept.unwrap().cursor.seq, 1);
    let panicked = panicked.unwrap_err();
    assert!(matches!(panicked, StoreError::Panicked));
    assert_eq!(panicked.code(), ErrorCode::Internal);
    assert_eq!(fixture.held().await.len(), 1);
    let read = fixture.store.read(|_| -> Result<(), StoreError> { panic!("on purpose") }).await;
    assert!(matches!(read, Err(StoreError::Panicked)));
    fixture.publish("after", 3).await;
    assert_eq!(fixture.store.head().seq, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_resumes_or_is_told_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let rows = crate::store::Retention { rows: 10, ..KEEP };
    let fixture = try_open(dir.path(), rows).unwrap();
    fixture.publish("e", 30).await;
    fixture.store.tick().await.unwrap();
    let head = fixture.store.head();
    let at = |seq| Cursor { seq, ..head };
    assert_eq!(fixture.store.oldest(), 21);
    assert_eq!(fixture.store.resume(at(30)), Resume::After(30));
    assert_eq!(fixture.store.resume(at(20)), Resume::After(20));
    assert_eq!(
        fixture.store.resume(at(19)),
        Resume::Gap { from: at(19), to: at(20), reason: "retention" }
    );
    assert_eq!(fixture.store.resume(at(31)), Resume::Future);
    let foreign = Cursor { epoch: crate::model::Epoch(!head.epoch.0), seq: 25 };
    assert_eq!(
        fixture.store.resume(foreign),
        Resume::Gap { from: foreign, to: at(20), reason: "epoch" }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_every_handle_ends_the_threads() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    fixture.publish("e", 3).await;
    let hook = std::sync::Arc::downgrade(&fixture.told);
    drop(fixture);
    crate::store::testing::eventually("the writer lets go of its hook", || {
        hook.strong_count() == 0
    })
    .await;
    let fixture = open(&dir);
    assert!(fixture.report.unclean);
    assert_eq!((fixture.report.regressed.clone(), fixture.held().await.len()), (None, 3));
}
