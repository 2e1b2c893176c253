//! Too few descriptors, no room on the disk: a shortage is no fact about a task.

use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::json;

use super::rig::{self, Rig, lives, sh};
use super::whole::{look, start, topics};
use crate::support::{Daemon, eventually, signal};
use fleetd::model::{Exit, TaskState};

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
    // It may even be too short of them to become ready.
    let said = || home.stderr() + &home.logs()[before..];
    eventually("it is short of them", || said().contains("Too many open files"));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_cannot_be_written_yet_is_told_later() {
    let rig = Rig::new().await;
    let gate = rig.dir.path().join("gate");
    let line = format!("until [ -e '{}' ]; do sleep 0.02; done; exit 7", gate.display());
    let task = rig.begin(sh(&line)).await;
    // Stands where the status is written first, as a full disk would.
    let obstacle = rig.run_dir(&task).join("status.new");
    std::fs::create_dir(&obstacle).unwrap();
    std::fs::write(gate, "").unwrap();
    let pid = task.pid.unwrap();
    rig::eventually("the command has ended", async || !lives(pid)).await;
    std::fs::remove_dir(obstacle).unwrap();
    let ended = rig.end(task.id).await;
    assert_eq!((ended.state, ended.exit), (TaskState::Failed, Some(Exit::Code(7))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_kept_is_not_begun() {
    let rig = Rig::new().await;
    let ran = rig.dir.path().join("ran");
    let task = rig.begin(sh(&format!("echo x >> '{}'; sleep 60", ran.display()))).await;
    rig::eventually("it runs", async || ran.exists()).await;
    let other = rig.dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(rig.run_dir(&task).join("spec"), other.join("spec")).unwrap();
    std::fs::write(other.join("stdout"), "").unwrap();
    let mut supervisor = std::process::Command::new(env!("CARGO_BIN_EXE_fleetd"));
    supervisor.arg("--supervise").arg(&other).stdin(Stdio::null());
    assert!(supervisor.status().unwrap().success());
    let status = std::fs::read(other.join("status")).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["cause"], "not_started", "{status}");
    rig.fleet.stop(&rig::owner(), task.id).await.unwrap();
    assert_eq!(std::fs::read_to_string(ran).unwrap(), "x\n", "only the first one ran");
}
