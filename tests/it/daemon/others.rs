//! Another user of the same machine: S05.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{Daemon, Home, PATIENCE, as_root, run};

/// The exit codes of a daemon that refuses its state, and its journal.
const REFUSALS: [i32; 2] = [4, 5];

/// `sh -c script HOME PID PORT` as the user nobody.
fn as_nobody(daemon: &Daemon, script: &str) -> crate::support::Output {
    let mut command: Command = as_root("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", script, "sh"]);
    command.arg(daemon.home().path()).arg(daemon.pid().to_string());
    command.arg(daemon.port().to_string()).current_dir("/");
    run(command, b"", PATIENCE)
}

/// Makes everything on the way readable, so that only fleetd's own care is left.
fn open_the_way(home: &Home) {
    for folder in ["", ".local", ".local/state"] {
        let path = home.path().join(folder);
        std::fs::create_dir_all(&path).expect("a folder");
        std::fs::set_permissions(path, Permissions::from_mode(0o755)).expect("a mode");
    }
    std::fs::write(home.path().join("open"), "readable").expect("a file");
}

#[test]
fn s05_another_user_can_read_and_use_nothing() {
    let home = Home::new();
    open_the_way(&home);
    let daemon = Daemon::start_in(home);
    daemon.tool("execute_command", serde_json::json!({ "command": "echo out" }));
    let control = as_nobody(&daemon, "id -u; cat \"$1/open\"; ls /proc/$2/cmdline");
    assert!(control.stdout.starts_with("65534\nreadable"), "void: {control:?}");
    let tries = [
        "ls $1/.fleetd",
        "ls $1/.local/state/fleetd",
        "cat $1/.local/state/fleetd/token",
        "cat $1/.local/state/fleetd/journal.db",
        "cat $1/.local/state/fleetd/log/fleetd.log",
        "cat $1/.fleetd/fleetd.json",
        "touch $1/.fleetd/x",
        "touch $1/.local/state/fleetd/x",
        "find $1/.fleetd $1/.local/state/fleetd -readable | grep .",
        "curl -sS --max-time 5 --unix-socket $1/.fleetd/fleetd.sock http://localhost/metrics",
        "curl -sS --max-time 5 --fail http://127.0.0.1:$3/metrics",
        "cat /proc/$2/environ",
        "cat /proc/$2/maps",
        "ls /proc/$2/fd",
        "kill -0 $2",
    ];
    for script in tries {
        let output = as_nobody(&daemon, script);
        assert!(!output.status.success(), "{script}: {output:?}");
        assert!(!output.stdout.contains(&daemon.token()), "{script} shows the token");
    }
}

#[test]
fn s05_the_socket_asks_the_kernel_who_calls_whatever_its_mode() {
    let home = Home::new();
    open_the_way(&home);
    let daemon = Daemon::start_in(home);
    let folder = daemon.home().path().join(".fleetd");
    std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("a mode");
    let socket = daemon.home().socket();
    std::fs::set_permissions(&socket, Permissions::from_mode(0o666)).expect("a mode");
    let ask = "curl -sS --max-time 5 --unix-socket $1/.fleetd/fleetd.sock http://localhost/healthz";
    let output = as_nobody(&daemon, ask);
    assert!(!output.status.success() && output.stdout.is_empty(), "answered: {output:?}");
    assert!(daemon.home().logs().contains("refused a connection of another user"));
    assert_eq!(daemon.connect_unix().exchange(&daemon.request("GET", "/healthz")).status, 200);
}

/// What a start does to a file behind one of our names.
fn trapped(name: &str, trap: fn(&Path, &Path)) {
    let (home, _) = Daemon::start().terminate(Duration::from_secs(5));
    let victim = home.path().join("victim");
    std::fs::write(&victim, "precious").expect("a victim");
    std::fs::set_permissions(&victim, Permissions::from_mode(0o644)).expect("a mode");
    let path = home.state().join(name);
    drop(std::fs::remove_file(&path));
    trap(&victim, &path);
    let mut child = home.fleetd().spawn().expect("fleetd starts");
    let ended = crate::support::poll(Duration::from_secs(3), || {
        if home.pointer().exists() {
            return Some(None);
        }
        child.try_wait().ok().flatten().map(Some)
    });
    if let Some(Some(status)) = ended {
        let code = status.code().expect("an exit");
        assert!(REFUSALS.contains(&code), "{name}: exit {code}");
    }
    drop(child.kill());
    drop(child.wait());
    let kept = std::fs::read_to_string(&victim).expect("the victim");
    assert_eq!(kept, "precious", "{name}: written through");
    let mode = std::fs::metadata(&victim).expect("the victim").permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "{name}: its mode was changed");
}

#[test]
fn s05_nothing_is_written_through_a_link_that_was_put_there() {
    for name in ["token", "port", "instance", "journal.db", "journal.mark", "log/fleetd.log"] {
        trapped(name, |victim, path| symlink(victim, path).expect("a link"));
    }
    for name in ["token", "port", "journal.db"] {
        trapped(name, |victim, path| std::fs::hard_link(victim, path).expect("a link"));
    }
}
