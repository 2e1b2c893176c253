//! A store that goes back in time begins a new epoch and hands out no position twice (R05).

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::model::Cursor;
use crate::store::testing::{Fixture, crashed_copy, event, open};
use crate::store::{Regression, Resume};

/// A store with events 1 to 50 in the database and 51 to 80 in the WAL, then crashed.
async fn crashed() -> (TempDir, Cursor) {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    fixture.publish("e", 50).await;
    fixture.store.close().await;
    drop(fixture);
    let fixture = open(&dir);
    fixture.publish("f", 30).await;
    let head = fixture.store.head();
    assert_eq!(head.seq, 80);
    // A copy has other inodes, so the mark is told of the new one.
    let copy = crashed_copy(dir.path());
    adopt(copy.path());
    (copy, head)
}

/// Makes a copied database pass for the original.
fn adopt(dir: &Path) {
    use crate::store::highwater::{HighWater, Mark};
    use std::os::unix::fs::MetadataExt;
    let high = HighWater::open(&dir.join("journal.mark")).unwrap();
    let inode = fs::metadata(dir.join("journal.db")).unwrap().ino();
    let mark = high.read().unwrap();
    high.write(Mark { inode, ..mark }).unwrap();
}

/// Checks that `fixture` is in a new epoch, goes on after 80 and tells old cursors.
async fn assert_regressed(fixture: &Fixture, head: Cursor, held: u64) {
    let Regression { from, to, previous } = fixture.report.regressed.clone().unwrap();
    assert_eq!((from, to, previous), (held + 1, 80, Some(head.epoch)));
    assert_ne!(fixture.store.head().epoch, head.epoch);
    let published = fixture.store.publish(vec![event("new")]).await.unwrap();
    assert_eq!(published[0].cursor.seq, 81, "a position was handed out twice");
    let now = fixture.store.head();
    // Where nothing is held, there is nothing to go back for.
    let to = Cursor { seq: if held == 0 { 80 } else { held }, ..now };
    assert_eq!(fixture.store.resume(head), Resume::Gap { from: head, to, reason: "epoch" });
    // Ids of what was lost can be stored again, ids of what was kept cannot.
    let again = fixture.store.publish(vec![event("f29")]).await.unwrap();
    assert_eq!(again[0].duplicate, held == 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_alone_keeps_the_epoch() {
    let (dir, head) = crashed().await;
    let fixture = open(&dir);
    assert_eq!((fixture.report.head, fixture.report.unclean), (head, true));
    assert_eq!(fixture.report.regressed, None);
    assert_eq!(fixture.held().await.len(), 80);
    fixture.store.close().await;
    drop(fixture);
    let fixture = open(&dir);
    assert!(!fixture.report.unclean);
    assert_eq!(fixture.report.regressed, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_wal_begins_a_new_epoch() {
    let (dir, head) = crashed().await;
    fs::remove_file(dir.path().join("journal.db-wal")).unwrap();
    let fixture = open(&dir);
    assert_regressed(&fixture, head, 50).await;
    fixture.store.close().await;
    drop(fixture);
    let fixture = open(&dir);
    assert_eq!(fixture.report.regressed, None, "told once");
    assert_eq!(fixture.store.head().seq, 82);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_wal_begins_a_new_epoch() {
    let (dir, head) = crashed().await;
    fs::write(dir.path().join("journal.db-wal"), b"").unwrap();
    assert_regressed(&open(&dir), head, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_wal_keeps_what_is_whole() {
    let (dir, head) = crashed().await;
    let wal = dir.path().join("journal.db-wal");
    let length = fs::metadata(&wal).unwrap().len();
    fs::File::options().write(true).open(&wal).unwrap().set_len(length / 2 + 7).unwrap();
    let fixture = open(&dir);
    let held = fixture.held().await.len() as u64;
    assert!((51..80).contains(&held), "{held} events are left");
    assert_regressed(&fixture, head, held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_shm_is_nothing() {
    let (dir, head) = crashed().await;
    fs::remove_file(dir.path().join("journal.db-shm")).unwrap();
    let fixture = open(&dir);
    assert_eq!((fixture.report.head, fixture.report.regressed.clone()), (head, None));
    assert_eq!(fixture.held().await.len(), 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_begins_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = open(&dir);
    fixture.publish("e", 20).await;
    fixture.store.close().await;
    drop(fixture);
    let backup = fs::read(dir.path().join("journal.db")).unwrap();
    let fixture = open(&dir);
    fixture.publish("f", 60).await;
    let head = fixture.store.head();
    fixture.store.close().await;
    drop(fixture);
    // In place, so that not even the inode tells.
    fs::write(dir.path().join("journal.db"), backup).unwrap();
    assert_regressed(&open(&dir), head, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_elsewhere_begins_a_new_epoch() {
    let (dir, head) = crashed().await;
    let copy = crashed_copy(dir.path());
    let fixture = open(&copy);
    let lost = fixture.report.regressed.clone().unwrap();
    assert!(lost.from > lost.to, "nothing is known to be lost");
    assert_ne!(fixture.store.head().epoch, head.epoch);
    assert_eq!(fixture.store.head().seq, 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_mark_nothing_is_believed() {
    for mark in [None, Some(b"garbage".as_slice())] {
        let (dir, head) = crashed().await;
        let path = dir.path().join("journal.mark");
        match mark {
            None => fs::remove_file(path).unwrap(),
            Some(bytes) => fs::write(path, bytes).unwrap(),
        }
        let fixture = open(&dir);
        assert!(fixture.report.regressed.is_some());
        assert_ne!(fixture.store.head().epoch, head.epoch);
        let now = fixture.store.head();
        let same_place = Cursor { seq: 80, ..now };
        let resumed = fixture.store.resume(head);
        assert_eq!(resumed, Resume::Gap { from: head, to: same_place, reason: "epoch" });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_or_emptied_database_is_told_and_its_remains_kept() {
    for emptied in [false, true] {
        let (dir, head) = crashed().await;
        let database = dir.path().join("journal.db");
        match emptied {
            true => fs::write(&database, b"").unwrap(),
            false => fs::remove_file(&database).unwrap(),
        }
        let wal = fs::read(dir.path().join("journal.db-wal")).unwrap();
        let fixture = open(&dir);
        let kept = fixture.report.set_aside.clone().unwrap();
        assert_eq!(fs::read(kept.join("journal.db-wal")).unwrap(), wal);
        assert_regressed(&fixture, head, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_was_cut_short_is_no_regression() {
    // Everything that the first start writes, in its order, and a stop after each step.
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    let mark = fs::read(dir.path().join("journal.mark")).unwrap();
    for step in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        if step >= 1 {
            fs::write(dir.path().join("journal.mark"), &mark).unwrap();
        }
        if step >= 2 {
            fs::write(dir.path().join("journal.db"), b"").unwrap();
        }
        let fixture = open(&dir);
        assert_eq!(fixture.report.regressed, None);
        assert_eq!(fixture.store.head().seq, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_regressions_in_a_row_lose_track_of_nothing() {
    let (dir, first) = crashed().await;
    fs::remove_file(dir.path().join("journal.db-wal")).unwrap();
    let fixture = open(&dir);
    fixture.publish("g", 20).await;
    let second = fixture.store.head();
    assert_eq!(second.seq, 100);
    let copy = crashed_copy(dir.path());
    drop(fixture);
    fs::remove_file(copy.path().join("journal.db-wal")).unwrap();
    adopt(copy.path());
    let fixture = open(&copy);
    let lost = fixture.report.regressed.clone().unwrap();
    assert_eq!(lost.to, 100);
    assert_eq!(fixture.store.publish(vec![event("h")]).await.unwrap()[0].cursor.seq, 101);
    for cursor in [first, second] {
        assert!(matches!(fixture.store.resume(cursor), Resume::Gap { reason: "epoch", .. }));
    }
}
