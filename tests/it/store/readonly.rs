//! R47: a state directory on a disk that takes nothing.

use crate::support::{Daemon, Home, PATIENCE, SmallDisk, run};

/// The exit code for a state directory that cannot be used.
const STATE_DIR: i32 = 4;

/// Every file below the state directory with its content.
fn content(home: &Home) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(home.state()).into_iter().flatten();
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = paths
        .filter(|path| path.is_file())
        .map(|p| (p.clone(), std::fs::read(p).expect("read")))
        .collect();
    files.sort();
    files
}

fn refused(home: &Home) {
    let output = run(home.fleetd(), b"", PATIENCE);
    assert_eq!(output.code(), STATE_DIR, "{output:?}");
    assert!(output.stderr.contains("ead-only file system"), "{output:?}");
    assert!(output.stderr.contains(".local/state"), "names the place: {output:?}");
    assert!(!home.pointer().exists(), "a runtime file of a daemon that is not there");
}

/// A HOME whose state lies on `disk`.
fn home_on(disk: &SmallDisk) -> Home {
    let home = Home::new();
    std::fs::create_dir(home.path().join(".local")).expect("a folder");
    std::os::unix::fs::symlink(disk.path(), home.path().join(".local/state")).expect("a link");
    home
}

#[test]
fn r47_a_read_only_disk_is_named_and_nothing_is_made() {
    let disk = SmallDisk::new(32 * 1024);
    disk.read_only();
    let home = home_on(&disk);
    refused(&home);
    assert_eq!(content(&home), []);
}

#[test]
fn r47_a_journal_on_a_read_only_disk_is_left_as_it_is() {
    let disk = SmallDisk::new(32 * 1024);
    let daemon = Daemon::start_in(home_on(&disk));
    daemon.publish("custom.x", "x", serde_json::json!({}));
    let (home, _) = daemon.terminate(PATIENCE);
    disk.read_only();
    let before = content(&home);
    assert!(before.len() > 3, "{before:?}");
    refused(&home);
    assert_eq!(content(&home), before);
}
