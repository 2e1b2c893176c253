//! Full disks, failed writes, damaged files.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::ffi;
use sha2::{Digest, Sha256};

use crate::model::{ErrorCode, NewEvent, Project};
use crate::store::testing::{Fixture, KEEP, event, open, try_open};
use crate::store::{OpenReport, StoreError};

fn io_error() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), None)
}

/// Lets SQLite say "full" at its present size, or gives it room again.
async fn limit(fixture: &Fixture, pages: Option<i64>) {
    let change = fixture.store.write(move |tx| {
        // SQLite does not go below what there is.
        let pages = pages.unwrap_or(1_000_000_000);
        tx.connection.pragma_update(None, "max_page_count", pages)?;
        Ok::<_, StoreError>(())
    });
    change.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_adds_and_goes_on_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    let ballast = dir.path().join("journal.ballast");
    fixture.store.tick().await.unwrap();
    assert_eq!(ballast.metadata().unwrap().len(), 8 << 20, "there is no reserve");
    fixture.publish("e", 50).await;
    limit(&fixture, Some(1)).await;
    let mut stored = Vec::new();
    let refused = loop {
        let id = format!("f{}", stored.len());
        match fixture.store.publish(vec![event(&id)]).await {
            Ok(_) => stored.push(id),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Full { .. }), "{refused:?}");
    assert_eq!(refused.code(), ErrorCode::StorageFull);
    assert!(fixture.store.is_full() && !fixture.store.is_degraded());
    assert!(!ballast.exists(), "the reserve was not given back");
    // Reading and deleting go on.
    assert_eq!(fixture.held().await.len(), 50 + stored.len());
    let deleted = fixture
        .store
        .write(|tx| Ok::<_, StoreError>(tx.connection.execute("DELETE FROM cursor", [])?));
    deleted.await.unwrap();
    limit(&fixture, None).await;
    let room = Instant::now();
    let id = format!("f{}", stored.len());
    while fixture.store.publish(vec![event(&id)]).await.is_err() {
        assert!(room.elapsed() < Duration::from_secs(5), "publishing does not go on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!fixture.store.is_full());
    assert!(ballast.exists(), "the reserve was not made again");
    assert_eq!(fixture.held().await.len(), 51 + stored.len(), "refused means absent");
    let sound = fixture.store.read(|s| Ok(crate::store::database::quick_check(s.connection())?));
    sound.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_write_the_journal_is_reopened_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    fixture.publish("e", 30).await;
    let failing = fixture.store.write(|tx| {
        tx.append_encoded(&event("undone"))?;
        *tx.fault = Some(io_error());
        Ok::<_, StoreError>(())
    });
    let error = failing.await.unwrap_err();
    assert!(matches!(error, StoreError::Degraded));
    assert_eq!(error.code(), ErrorCode::StorageDegraded);
    // The next publish waits for the reopening and follows its event.
    let next = fixture.store.publish(vec![event("next")]).await.unwrap();
    assert_eq!(next[0].cursor.seq, 32);
    assert!(!fixture.store.is_degraded());
    let told: Vec<_> =
        fixture.told.lock().unwrap().iter().map(|e| (e.seq, e.topic.to_string())).collect();
    assert_eq!(told[30], (31, String::from("fleet.degraded")));
    let seqs: Vec<_> = told.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, (1..=32).collect::<Vec<_>>());
    let held = fixture.held().await;
    assert!(held.iter().all(|(_, id)| id != "undone"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_although_its_write_failed_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    fixture.publish("e", 5).await;
    let failing = fixture.store.write(|tx| {
        tx.append_encoded(&event("unknown"))?;
        // As if the fsync had failed after the frames had reached the file.
        tx.journal.save(tx.connection, false)?;
        tx.connection.execute_batch("RELEASE job; COMMIT")?;
        *tx.fault = Some(io_error());
        Ok::<_, StoreError>(())
    });
    assert!(matches!(failing.await, Err(StoreError::Degraded)));
    let again = fixture.store.publish(vec![event("unknown")]).await.unwrap();
    assert_eq!((again[0].cursor.seq, again[0].duplicate), (6, true));
    let told: Vec<_> = fixture.told.lock().unwrap().iter().map(|e| e.seq).collect();
    assert_eq!(told, [1, 2, 3, 4, 5, 6, 7], "6 is the unknown one, 7 says degraded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_failed_write_ends_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    fixture.publish("e", 5).await;
    for _ in 0..2 {
        let failing = fixture.store.write(|tx| {
            *tx.fault = Some(io_error());
            Ok::<_, StoreError>(())
        });
        assert!(matches!(failing.await, Err(StoreError::Degraded)));
    }
    let failed = fixture.store.failed().await;
    assert!(matches!(failed, StoreError::Failed { .. }), "{failed:?}");
    assert!(fixture.store.is_degraded());
    let refused = fixture.store.publish(vec![event("x")]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Degraded), "{refused:?}");
    drop(fixture);
    let fixture = open(&dir);
    assert_eq!(fixture.report.regressed, None);
    assert_eq!(fixture.held().await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_hook_ends_the_store_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = crate::store::testing::options(dir.path(), KEEP);
    let (store, _) =
        crate::store::Store::open(options, std::sync::Arc::new(|_| panic!("on purpose"))).unwrap();
    assert!(store.publish(vec![event("a")]).await.is_err());
    assert!(matches!(store.failed().await, StoreError::Failed { .. }));
    drop(store);
    assert_eq!(open(&dir).held().await.len(), 1);
}

/// A cleanly closed store with 2,000 events.
async fn closed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    for batch in 0..4 {
        let events = (0..500).map(|number| event(&format!("{batch}-{number}"))).collect();
        fixture.store.publish(events).await.unwrap();
    }
    fixture.store.close().await;
    dir
}

fn garble(path: &Path, offset: u64, length: usize) {
    let garbage: Vec<u8> = (0..length).map(|at| (at * 7 + 13) as u8).collect();
    fs::File::options().write(true).open(path).unwrap().write_all_at(&garbage, offset).unwrap();
}

/// Opens a damaged journal: it is set aside whole and unchanged, and the next
/// start begins a new one that says so.
async fn assert_quarantined(dir: &Path, found: Result<OpenReport, StoreError>, before: &[u8]) {
    let Err(StoreError::Corrupt { quarantined, .. }) = found else {
        panic!("not refused: {found:?}")
    };
    assert!(quarantined.starts_with(dir.join("quarantine")));
    assert_eq!(fs::read(quarantined.join("journal.db")).unwrap(), before);
    assert!(!dir.join("journal.db").exists());
    let fixture = try_open(dir, KEEP).unwrap();
    let lost = fixture.report.regressed.clone().unwrap();
    assert_eq!((lost.from, lost.to), (1, 2000));
    assert_eq!(fixture.store.publish(vec![event("n")]).await.unwrap()[0].cursor.seq, 2001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_garbled_header_is_refused_and_set_aside() {
    let dir = closed().await;
    let database = dir.path().join("journal.db");
    garble(&database, 0, 100);
    let before = fs::read(&database).unwrap();
    let found = try_open(dir.path(), KEEP).map(|fixture| fixture.report);
    assert_quarantined(dir.path(), found, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_garbled_tail_is_refused_and_set_aside() {
    let dir = closed().await;
    let database = dir.path().join("journal.db");
    let mut before = fs::read(&database).unwrap();
    // One digit inside the newest event's body: SQLite would not notice.
    let needle = b"\"sequence\":\"2000\"";
    let at = before.windows(needle.len()).rposition(|window| window == needle).unwrap();
    before[at + 12] = b'9';
    fs::write(&database, &before).unwrap();
    let found = try_open(dir.path(), KEEP).map(|fixture| fixture.report);
    assert_quarantined(dir.path(), found, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbled_pages_are_found_in_the_background() {
    let dir = closed().await;
    let database = dir.path().join("journal.db");
    let length = fs::metadata(&database).unwrap().len();
    // Pages in the middle, which opening does not read.
    garble(&database, length / 2 / 4096 * 4096, 3 * 4096);
    let before = fs::read(&database).unwrap();
    let found = match try_open(dir.path(), KEEP) {
        Ok(fixture) => {
            fixture.store.tick().await.unwrap();
            let failed = tokio::time::timeout(Duration::from_secs(10), fixture.store.failed());
            Err(failed.await.expect("the damage was not found"))
        }
        Err(error) => Err(error),
    };
    let Err(StoreError::Corrupt { quarantined, .. }) = &found else { panic!("{found:?}") };
    let kept = fs::read(quarantined.join("journal.db")).unwrap();
    assert_eq!(kept.len(), before.len());
    assert_quarantined(dir.path(), found, &kept).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_finds_damage_ends_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    fixture.publish("e", 5).await;
    let read = fixture.store.read(|_| -> Result<(), StoreError> {
        Err(crate::store::fault::damage("on purpose").into())
    });
    assert_eq!(read.await.unwrap_err().code(), ErrorCode::StorageDegraded);
    let failed = fixture.store.failed().await;
    let StoreError::Corrupt { quarantined, .. } = failed else { panic!("{failed:?}") };
    assert!(quarantined.join("journal.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_journal_is_left_untouched() {
    // Once in the file's header, once only in the WAL.
    for in_wal in [false, true] {
        let dir = closed().await;
        let database = dir.path().join("journal.db");
        let connection = rusqlite::Connection::open(&database).unwrap();
        connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let copy = crate::store::testing::crashed_copy(dir.path());
        drop(connection);
        let dir = if in_wal { copy } else { dir };
        let sums = || {
            ["journal.db", "journal.db-wal", "journal.mark"].map(|name| {
                fs::read(dir.path().join(name)).ok().map(|bytes| Sha256::digest(bytes).to_vec())
            })
        };
        let before = sums();
        let refused = try_open(dir.path(), KEEP).map(|fixture| fixture.report);
        assert!(matches!(refused, Err(StoreError::Newer { found: 99, .. })), "{refused:?}");
        assert_eq!(sums(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_directory_is_named_and_left_clean() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let Err(StoreError::Io { path, .. }) = try_open(&missing, KEEP).map(|f| f.report) else {
        panic!("a missing directory was accepted")
    };
    assert!(path.starts_with(&missing));
    assert!(!missing.exists());
    // Not even root may write here.
    let refused = try_open(Path::new("/proc/self"), KEEP).map(|fixture| fixture.report);
    assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
    fs::create_dir(dir.path().join("journal.db")).unwrap();
    let refused = try_open(dir.path(), KEEP).map(|fixture| fixture.report);
    assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_place_of_the_journal_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("other.db");
    fs::write(&target, b"").unwrap();
    std::os::unix::fs::symlink(&target, dir.path().join("journal.db")).unwrap();
    let refused = try_open(dir.path(), KEEP).map(|fixture| fixture.report);
    assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
    assert_eq!(fs::read(&target).unwrap(), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_on_the_way_to_the_directory_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
    fs::create_dir(dir.path().join("real/state")).unwrap();
    let fixture = try_open(&dir.path().join("link/state"), KEEP).unwrap();
    fixture.publish("e", 3).await;
    assert_eq!(fixture.held().await.len(), 3);
    assert!(dir.path().join("real/state/journal.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn own_events_are_recorded_while_the_disk_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    limit(&fixture, Some(1)).await;
    while fixture.store.publish(vec![event(&uuid::Uuid::now_v7().to_string())]).await.is_ok() {}
    // There is room in the reserve for what the daemon itself has to say.
    limit(&fixture, None).await;
    let own = NewEvent::own("fleet.stopping", "fleet", Project::default_project(), 1.into());
    let told = fixture.store.write(move |tx| tx.append(own.unwrap())).await;
    assert!(told.is_ok(), "{told:?}");
}
