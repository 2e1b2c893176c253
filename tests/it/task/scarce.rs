//! Too few descriptors: a shortage of the daemon is no fact about a task.

use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::json;

use super::whole::{look, start, topics};
use crate::support::{Daemon, eventually, signal};

/// More than the daemon below has descriptors for: each task it follows takes three.
const TASKS: usize = 16;

#[test]
fn a_task_that_cannot_be_looked_at_is_not_given_up() {
    let daemon = Daemon::configured(&format!("[tasks]\nconcurrency = {TASKS}\n"));
    let gate = daemon.home().path().join("gate");
    let line = format!("until [ -e '{}' ]; do sleep 0.2; done; exit 5", gate.display());
    let ids: Vec<String> = (0..TASKS).map(|_| start(&daemon, &line)).collect();
    let runs = daemon.home().state().join("runs");
    let home = daemon.kill9();

    let before = home.logs().len();
    let mut poor = home.command("prlimit");
    poor.args(["--nofile=72:72", env!("CARGO_BIN_EXE_fleetd")]);
    let stderr = std::fs::File::create(home.path().join("stderr")).expect("a file for stderr");
    let poor = poor.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let mut poor = poor.spawn().expect("a daemon with few descriptors");
    eventually("it is short of them", || home.logs()[before..].contains("Too many open files"));
    std::fs::write(&gate, "").expect("the gate is open");
    eventually("all commands have ended", || {
        let ended = |run: std::fs::DirEntry| run.path().join("status").exists();
        std::fs::read_dir(&runs).expect("runs").flatten().all(ended)
    });
    signal(poor.id(), Signal::SIGKILL);
    poor.wait().expect("it was killed");

    let daemon = Daemon::start_in(home);
    for id in ids {
        let task = look(&daemon, &id);
        assert_eq!((&task["state"], &task["exit_code"]), (&json!("failed"), &json!(5)), "{task}");
        assert_eq!(topics(&daemon, &id), ["task.started", "task.failed"]);
    }
}
