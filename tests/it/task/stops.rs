//! Stopping: everything that a task started is gone afterwards.

use std::time::{Duration, Instant};

use fleetd::config;
use fleetd::fleet::Stdin;
use fleetd::model::{Exit, TaskState};

use super::rig::{Rig, eventually, kill, lives, owner, sh};

#[tokio::test(flavor = "multi_thread")]
async fn a_polite_command_ends_by_term() {
    let rig = Rig::new().await;
    let task = rig.begin(sh("exec sleep 60")).await;
    let since = Instant::now();
    let stopped = rig.fleet.stop(&owner(), task.id).await.unwrap();
    assert!(since.elapsed() < Duration::from_millis(900), "{:?}", since.elapsed());
    assert_eq!((stopped.state, stopped.exit), (TaskState::Cancelled, Some(Exit::Signal(15))));
    assert_eq!(rig.topics(task.id).await, ["task.started", "task.cancelled"]);
    let again = rig.fleet.stop(&owner(), task.id).await.unwrap();
    assert_eq!(again, stopped, "a second stop changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_ignore_term_or_slip_away_are_killed() {
    let rig = Rig::new().await;
    let line = "trap '' TERM
        setsid sh -c 'trap \"\" TERM HUP; echo $$; while :; do sleep 1; done' &
        (setsid sh -c 'echo $$; exec sleep 60' &)
        echo $$
        while :; do sleep 1; done";
    let task = rig.begin(sh(line)).await;
    eventually("all three are there", async || rig.stdout(task.id).await.lines().count() == 3)
        .await;
    let pids: Vec<u32> =
        rig.stdout(task.id).await.lines().map(|line| line.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| lives(*pid)));
    let since = Instant::now();
    let stopped = rig.fleet.stop(&owner(), task.id).await.unwrap();
    let took = since.elapsed();
    assert_eq!((stopped.state, stopped.exit), (TaskState::Cancelled, Some(Exit::Signal(9))));
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(6), "{took:?}");
    let left: Vec<_> = pids.into_iter().filter(|pid| lives(*pid)).collect();
    assert!(left.is_empty(), "{left:?} are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_in_the_queue_never_begins() {
    let settings = config::Tasks { concurrency: 1, stop_grace_s: 1, ..config::Tasks::default() };
    let rig = Rig::with(settings).await;
    let first = rig.begin(sh("sleep 60")).await;
    let mut never = sh("echo never");
    never.stdin = Stdin::Bytes("secret".into());
    let second = rig.begin(never).await;
    assert_eq!(second.state, TaskState::Queued);
    let stopped = rig.fleet.stop(&owner(), second.id).await.unwrap();
    assert_eq!(stopped.state, TaskState::Cancelled);
    assert_eq!(rig.topics(second.id).await, ["task.queued", "task.cancelled"]);
    let third = rig.begin(sh("echo third")).await;
    rig.fleet.stop(&owner(), first.id).await.unwrap();
    assert_eq!(rig.end(third.id).await.state, TaskState::Completed);
    let run_dir = rig.run_dir(&second);
    assert!(!run_dir.join("stdout").exists());
    // What may hold secrets is gone with it.
    assert!(!run_dir.join("stdin").exists() && !run_dir.join("plan").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_to_stop_is_durable_before_the_end() {
    let settings = config::Tasks { stop_grace_s: 60, ..config::Tasks::default() };
    let rig = Rig::with(settings).await;
    let task = rig.begin(sh("trap '' TERM; echo up; while :; do sleep 0.1; done")).await;
    eventually("it is up", async || rig.stdout(task.id).await == "up\n").await;
    rig.fleet.ask_stop(&owner(), task.id).await.unwrap();
    let row = rig.row(task.id).await;
    assert_eq!((row.state, row.stop_requested), (TaskState::Running, true));
    assert!(rig.run_dir(&task).join("stop").exists());
    kill(task.pid.unwrap());
    assert_eq!(rig.end(task.id).await.state, TaskState::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_further_attempts_too() {
    let rig = Rig::new().await;
    let mut spec = sh("trap 'exit 1' TERM; echo up; while :; do sleep 0.01; done");
    spec.retries = 5;
    let task = rig.begin(spec).await;
    eventually("it is up", async || rig.stdout(task.id).await == "up\n").await;
    let stopped = rig.fleet.stop(&owner(), task.id).await.unwrap();
    assert_eq!(stopped.state, TaskState::Cancelled);
    assert_eq!(rig.topics(task.id).await, ["task.started", "task.cancelled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_dropped_does_not_stop_the_task() {
    let rig = Rig::new().await;
    let mut spec = sh("read line; echo got $line");
    spec.stdin = Stdin::Open;
    let task = rig.begin(spec).await;
    let owner = owner();
    let wait = rig.fleet.wait(&owner, task.id);
    assert!(tokio::time::timeout(Duration::from_millis(50), wait).await.is_err());
    rig.fleet.input(&owner, task.id, 0, "it\n".into(), true).await.unwrap();
    assert_eq!(rig.end(task.id).await.state, TaskState::Completed);
    assert_eq!(rig.stdout(task.id).await, "got it\n");
}
