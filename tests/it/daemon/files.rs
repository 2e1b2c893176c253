//! What lies on the disk, and who may read it: R47, S05.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::support::{Daemon, Home, PATIENCE, run};

/// The exit code for a state directory that cannot be used.
const STATE_DIR: i32 = 4;

fn all_below(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        let kind = path.symlink_metadata().expect("its kind");
        if kind.is_dir() {
            all_below(&path, into);
        }
        into.push(path);
    }
}

/// Everything the daemon made.
fn made(home: &Home) -> Vec<PathBuf> {
    let mut found = vec![home.path().join(".fleetd"), home.state()];
    all_below(&home.path().join(".fleetd"), &mut found);
    all_below(&home.state(), &mut found);
    found
}

#[test]
fn s05_nothing_is_for_others_whatever_the_umask() {
    let home = Home::new();
    let mut command = home.command("sh");
    command.args(["-c", "umask 000; exec \"$0\"", env!("CARGO_BIN_EXE_fleetd")]);
    let daemon = Daemon::start_as(home, command);
    daemon.publish("custom.one", "one", json!({}));
    daemon.tool("execute_command", json!({ "command": "echo out; echo err >&2" }));
    let found = made(daemon.home());
    assert!(found.len() > 8, "{found:?}");
    for path in found {
        let meta = path.symlink_metadata().expect("its mode");
        if meta.file_type().is_symlink() {
            continue;
        }
        assert_eq!(meta.mode() & 0o077, 0, "{}: {:o}", path.display(), meta.mode());
        if meta.is_dir() {
            assert_eq!(meta.mode() & 0o777, 0o700, "{}", path.display());
        }
    }
}

#[test]
fn s05_files_are_private_from_the_first_moment() {
    let home = Home::new();
    let trace = home.path().join("trace");
    let mut command = home.command("strace");
    command.args(["-f", "-qq", "-e", "trace=openat,open,creat,chmod,fchmod,fchmodat", "-o"]);
    command.arg(&trace).args(["--", env!("CARGO_BIN_EXE_fleetd")]);
    let daemon = Daemon::start_as(home, command);
    daemon.publish("custom.one", "one", json!({}));
    let text = std::fs::read_to_string(&trace).expect("a trace");
    let created: Vec<&str> = text.lines().filter(|line| line.contains("O_CREAT")).collect();
    let private = |line: &&&str| line.contains(", 0600");
    let journal = created.iter().find(|line| line.contains("journal.db"));
    assert!(journal.is_some() && created.len() > 3, "{created:?}");
    // SQLite asks for 0644 and leaves the rest to the umask, which is 077.
    let sqlite = |line: &&str| line.contains("journal.db");
    let open: Vec<_> =
        created.iter().filter(|line| !sqlite(line)).filter(|l| !private(l)).collect();
    assert!(open.is_empty(), "created for others: {open:?}");
}

#[test]
fn s05_a_folder_of_somebody_else_is_refused() {
    type Prepare = fn(&Home);
    let cases: [(&str, Prepare); 3] = [
        ("open to all", |home| {
            std::fs::create_dir_all(home.state()).expect("a folder");
            std::fs::set_permissions(home.state(), Permissions::from_mode(0o777)).expect("a mode");
        }),
        ("a link", |home| {
            let real = home.path().join("elsewhere");
            std::fs::create_dir(&real).expect("a folder");
            std::fs::create_dir_all(home.state().parent().expect("a parent")).expect("a folder");
            symlink(real, home.state()).expect("a link");
        }),
        ("a file", |home| {
            std::fs::create_dir_all(home.state().parent().expect("a parent")).expect("a folder");
            std::fs::write(home.state(), "").expect("a file");
        }),
    ];
    for (what, prepare) in cases {
        let home = Home::new();
        prepare(&home);
        let output = run(home.fleetd(), b"", PATIENCE);
        assert_eq!(output.code(), STATE_DIR, "{what}: {output:?}");
        assert!(output.stderr.contains("fleetd"), "{what}: names the path: {output:?}");
        assert!(!home.state().join("token").exists(), "{what}: a token was written");
    }
}

#[test]
fn s05_a_token_that_is_a_link_or_open_to_others_is_refused() {
    let (home, _) = Daemon::start().terminate(Duration::from_secs(5));
    let token = home.state().join("token");
    std::fs::set_permissions(&token, Permissions::from_mode(0o644)).expect("a mode");
    let output = run(home.fleetd(), b"", PATIENCE);
    assert_eq!(output.code(), STATE_DIR, "{output:?}");

    let elsewhere = home.path().join("other-token");
    std::fs::rename(&token, &elsewhere).expect("moved");
    std::fs::set_permissions(&elsewhere, Permissions::from_mode(0o600)).expect("a mode");
    symlink(&elsewhere, &token).expect("a link");
    let output = run(home.fleetd(), b"", PATIENCE);
    assert_eq!(output.code(), STATE_DIR, "{output:?}");
}

#[test]
fn r47_an_unwritable_state_directory_is_said_and_nothing_is_left() {
    // Root may write anywhere, so the place is one where nobody can.
    let home = Home::new();
    std::fs::create_dir(home.path().join(".local")).expect("a folder");
    symlink("/proc/1/fd", home.path().join(".local/state")).expect("a link");
    let output = run(home.fleetd(), b"", PATIENCE);
    assert_eq!(output.code(), STATE_DIR, "{output:?}");
    assert!(output.stderr.contains(".local/state"), "{output:?}");
    assert!(!home.pointer().exists());
}

#[test]
fn the_runtime_file_says_who_is_there_and_holds_no_token() {
    let daemon = Daemon::start();
    let runtime = daemon.runtime();
    assert_eq!(runtime["schema"], 1);
    assert_eq!(runtime["url"], format!("http://{}", daemon.host()));
    for field in ["version", "instance", "started", "proof_key"] {
        assert!(runtime[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {runtime}");
    }
    assert!(!runtime.to_string().contains(&daemon.token()));
}
