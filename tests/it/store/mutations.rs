//! R50, R05: somebody has been at the files of a stopped daemon. It recovers and
//! says what is gone, or refuses and says where the damaged files are; it never
//! starts empty or short as if nothing had happened.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use super::past::{IN_DATABASE, IN_LOG, Past, STORAGE, assert_sound, recovered, works_from_now_on};
use crate::support::{Daemon, PATIENCE, run};

/// Overwrites a part of a file with what nobody wrote.
fn garble(path: &Path, offset: u64, length: usize) {
    let garbage: Vec<u8> = (0..length).map(|at| (at * 7 + 13) as u8).collect();
    let file = File::options().write(true).open(path).expect("the file");
    file.write_all_at(&garbage, offset).expect("garbage is written");
}

fn cut(path: &Path, length: u64) {
    File::options().write(true).open(path).expect("the file").set_len(length).expect("cut");
}

fn length(path: &Path) -> u64 {
    path.metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display())).len()
}

/// A journal whose log holds its newest events.
fn with_log() -> (Past, std::path::PathBuf) {
    let past = Past::crashed();
    let log = past.file("journal.db-wal");
    assert!(length(&log) > 4096, "nothing is in the log: void");
    (past, log)
}

#[test]
fn r50_a_cut_log_costs_what_was_cut() {
    let (past, log) = with_log();
    cut(&log, length(&log) / 2 + 7);
    let (lost, daemon) = past.recovers();
    // The events in the log were published at once: all or none.
    assert_eq!(lost, IN_LOG);
    assert_sound(daemon.home());
}

#[test]
fn r50_r05_an_emptied_log_is_noticed() {
    let (past, log) = with_log();
    cut(&log, 0);
    assert_eq!(past.recovers().0, IN_LOG);
}

#[test]
fn r50_r05_a_deleted_log_is_noticed() {
    let (past, log) = with_log();
    std::fs::remove_file(log).expect("deleted");
    assert_eq!(past.recovers().0, IN_LOG);
}

#[test]
fn r50_a_deleted_index_of_the_log_costs_nothing() {
    let (past, _) = with_log();
    std::fs::remove_file(past.file("journal.db-shm")).expect("deleted");
    let daemon = Daemon::start_in(past.home);
    assert_eq!(recovered(&daemon)["reason"], "unclean_stop");
    works_from_now_on(daemon, &past.acked);
}

#[test]
fn r50_a_garbled_header_is_refused_with_a_copy() {
    let past = Past::closed();
    garble(&past.file("journal.db"), 0, 100);
    past.refuses();
}

#[test]
fn r50_garbled_pages_are_refused_with_a_copy() {
    // Where a start looks, and where it does not.
    for part in [1, 2] {
        let past = Past::closed();
        let database = past.file("journal.db");
        let pages = length(&database) / 4096;
        garble(&database, pages * part / 3 * 4096, 3 * 4096);
        past.refuses();
    }
}

#[test]
fn r50_an_emptied_database_is_told_and_its_log_kept() {
    let (past, _) = with_log();
    cut(&past.file("journal.db"), 0);
    let all = past.acked.len();
    let acked = past.acked.clone();
    let daemon = Daemon::start_in(past.home);
    let told = recovered(&daemon);
    let kept = told["set_aside"].as_str().unwrap_or_else(|| panic!("no place in {told}"));
    assert!(length(&Path::new(kept).join("journal.db-wal")) > 4096);
    let again = Past { home: daemon.kill9(), acked, backup: Vec::new() };
    // The new journal stands beside the mark of the old one only once.
    let daemon = Daemon::start_in(again.home);
    assert_eq!(recovered(&daemon)["reason"], "unclean_stop");
    assert_eq!(all, IN_DATABASE + IN_LOG);
    works_from_now_on(daemon, &again.acked);
}

#[test]
fn r50_a_newer_journal_is_refused_and_left_alone() {
    let past = Past::closed();
    let sql = |statement: &str| {
        let mut sqlite = Command::new("sqlite3");
        sqlite.arg(past.file("journal.db")).arg(statement);
        run(sqlite, b"", PATIENCE).ok().stdout.trim().to_owned()
    };
    let own = sql("pragma user_version");
    sql("pragma user_version = 99");
    let sums = || {
        let mut sum = Command::new("sha256sum");
        sum.arg(past.file("journal.db")).arg(past.file("journal.mark"));
        run(sum, b"", PATIENCE).ok().stdout
    };
    let before = sums();
    let output = run(past.home.fleetd(), b"", PATIENCE);
    assert_eq!(output.code(), STORAGE, "{output:?}");
    assert!(
        output.stderr.contains("schema 99") && output.stderr.contains("journal.db"),
        "{output:?}"
    );
    assert_eq!(sums(), before);
    assert!(!past.file("quarantine").exists());

    sql(&format!("pragma user_version = {own}"));
    works_from_now_on(Daemon::start_in(past.home), &past.acked);
}

#[test]
fn r05_a_restored_backup_begins_a_new_epoch() {
    // Over the old file, so that not even its inode tells; and in its place.
    for in_place in [true, false] {
        let past = Past::closed();
        let database = past.file("journal.db");
        if !in_place {
            std::fs::remove_file(&database).expect("deleted");
        }
        std::fs::write(&database, &past.backup).expect("restored");
        assert_eq!(past.recovers().0, IN_LOG);
    }
}

#[test]
fn r05_a_deleted_mark_begins_a_new_epoch() {
    let past = Past::closed();
    std::fs::remove_file(past.file("journal.mark")).expect("deleted");
    let (lost, daemon) = past.recovers();
    assert_eq!(lost, 0);
    assert_sound(daemon.home());
}

#[test]
fn r05_a_truncated_database_is_refused_with_a_copy() {
    let past = Past::closed();
    let database = past.file("journal.db");
    cut(&database, length(&database) / 2 / 4096 * 4096);
    past.refuses();
}

#[test]
fn r05_a_deleted_database_begins_a_new_epoch() {
    let past = Past::closed();
    std::fs::remove_file(past.file("journal.db")).expect("deleted");
    assert_eq!(past.recovers().0, IN_DATABASE + IN_LOG);
}
