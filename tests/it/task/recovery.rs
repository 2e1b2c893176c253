//! The daemon goes and comes back; so may everything else.

use std::time::Duration;

use fleetd::config;
use fleetd::fleet::{Recovery, Stdin};
use fleetd::model::{Exit, OutputStream, Task, TaskState};
use fleetd::store::StoreError;

use super::rig::{Rig, eventually, kill, owner, sh, supervisor_of};

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_goes_on_and_is_told_once() {
    let rig = Rig::new().await;
    let gate = rig.dir.path().join("gate");
    let line = |code| {
        format!(
            "echo before; while [ ! -e '{}' ]; do sleep 0.01; done; echo after; exit {code}",
            gate.display()
        )
    };
    let mut tasks = Vec::new();
    for code in 0..10 {
        tasks.push(rig.begin(sh(&line(code))).await);
    }
    let rig = rig.restart().await;
    assert_eq!(rig.recovery, Recovery { adopted: 10, settled: 0, unknown: 0 });
    assert_eq!(rig.row(tasks[3].id).await.state, TaskState::Running);
    std::fs::write(&gate, "").unwrap();
    for (code, task) in (0..).zip(&tasks) {
        let task = rig.end(task.id).await;
        assert_eq!((task.exit, task.stdout_bytes), (Some(Exit::Code(code)), 13));
        assert_eq!(rig.topics(task.id).await.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_meanwhile_is_settled_with_its_real_status() {
    let rig = Rig::new().await;
    let task = rig.begin(sh("sleep 0.3; echo bye; exit 42")).await;
    let status = rig.run_dir(&task).join("status");
    let (dir, settings) = rig.down().await;
    eventually("it has ended", async || status.exists()).await;
    let rig = Rig::up(dir, settings).await;
    assert_eq!(rig.recovery, Recovery { adopted: 0, settled: 1, unknown: 0 });
    let ended = rig.row(task.id).await;
    assert_eq!((ended.state, ended.exit), (TaskState::Failed, Some(Exit::Code(42))));
    assert_eq!(rig.topics(task.id).await, ["task.started", "task.failed"]);
    let rig = rig.restart().await;
    assert_eq!(rig.recovery, Recovery::default());
    assert_eq!(rig.topics(task.id).await.len(), 2, "told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_supervisor_leaves_an_unknown_end() {
    let rig = Rig::new().await;
    let task = rig.begin(sh("exec sleep 60")).await;
    kill(supervisor_of(&rig.run_dir(&task)));
    let ended = rig.end(task.id).await;
    assert_eq!((ended.state, ended.exit), (TaskState::Unknown, None));
    let reason = ended.reason.unwrap();
    assert!(reason.contains(&task.pid.unwrap().to_string()), "{reason}");
    assert_eq!(rig.topics(task.id).await, ["task.started", "task.unknown"]);
    kill(task.pid.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_supervisor_is_found_by_the_next_daemon() {
    let rig = Rig::new().await;
    let task = rig.begin(sh("exec sleep 60")).await;
    let run_dir = rig.run_dir(&task);
    let (dir, settings) = rig.down().await;
    kill(supervisor_of(&run_dir));
    let rig = Rig::up(dir, settings).await;
    assert_eq!(rig.recovery.adopted + rig.recovery.unknown, 1);
    assert_eq!(rig.end(task.id).await.state, TaskState::Unknown);
    kill(task.pid.unwrap());
}

/// Writes a row as a daemon would have left it at some point of its crash.
async fn leave(rig: &Rig, task: Task) {
    let stored: Result<(), StoreError> = rig.store.write(move |tx| tx.put_task(&task)).await;
    stored.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_without_a_start_never_starts() {
    let rig = Rig::new().await;
    let marker = rig.dir.path().join("ran");
    let mut task = rig.run(sh(&format!("echo x >> '{}'", marker.display()))).await;
    // As if the daemon had died between its intent and the dispatch.
    task.id = fleetd::model::TaskId::random();
    task.run = Some(fleetd::model::RunId::random());
    task.state = TaskState::Starting;
    (task.ended, task.started, task.exit, task.pid) = (None, None, None, None);
    std::fs::create_dir(rig.run_dir(&task)).unwrap();
    std::fs::write(rig.run_dir(&task).join("plan"), "never read").unwrap();
    leave(&rig, task.clone()).await;
    let rig = rig.restart().await;
    assert_eq!(rig.recovery, Recovery { adopted: 0, settled: 1, unknown: 0 });
    let ended = rig.row(task.id).await;
    assert_eq!((ended.state, ended.exit), (TaskState::Failed, None));
    assert!(ended.reason.unwrap().contains("never started"));
    assert!(rig.run_dir(&task).join("spec").exists(), "the fence stands");
    assert_eq!(std::fs::read_to_string(marker).unwrap(), "x\n", "only the first one ran");
    assert_eq!(rig.topics(task.id).await, ["task.failed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_run_directory_is_not_told_as_never_started() {
    let rig = Rig::new().await;
    let task = rig.begin(sh("exec sleep 60")).await;
    let run_dir = rig.run_dir(&task);
    let (dir, settings) = rig.down().await;
    kill(supervisor_of(&run_dir));
    kill(task.pid.unwrap());
    std::fs::remove_dir_all(&run_dir).unwrap();
    let rig = Rig::up(dir, settings).await;
    assert_eq!(rig.recovery, Recovery { adopted: 0, settled: 0, unknown: 1 });
    let ended = rig.row(task.id).await;
    assert_eq!(ended.state, TaskState::Unknown, "{ended:?}");
    assert!(ended.reason.unwrap().contains("is gone"));
    assert_eq!(rig.topics(task.id).await, ["task.started", "task.unknown"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_was_stored_is_done_by_the_next_daemon() {
    let rig = Rig::new().await;
    let task = rig.begin(sh("exec sleep 60")).await;
    // As if the daemon had died between the row and the file.
    let mut row = rig.row(task.id).await;
    row.stop_requested = true;
    leave(&rig, row).await;
    let rig = rig.restart().await;
    assert_eq!(rig.recovery.adopted, 1);
    assert_eq!(rig.end(task.id).await.state, TaskState::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_a_record_is_found() {
    let rig = Rig::new().await;
    let task = rig.begin(sh("sleep 0.5; exit 5")).await;
    // As if the daemon had died before it recorded the start.
    let mut row = rig.row(task.id).await;
    row.state = TaskState::Starting;
    (row.started, row.pid) = (None, None);
    let (dir, settings) = {
        leave(&rig, row).await;
        rig.down().await
    };
    let rig = Rig::up(dir, settings).await;
    let ended = rig.end(task.id).await;
    assert_eq!(ended.exit, Some(Exit::Code(5)));
    assert_eq!(ended.pid, task.pid);
    assert_eq!(rig.topics(task.id).await, ["task.started", "task.failed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_without_a_supervisor_is_unknown() {
    let rig = Rig::new().await;
    let mut task = rig.run(sh("true")).await;
    task.id = fleetd::model::TaskId::random();
    task.run = Some(fleetd::model::RunId::random());
    task.state = TaskState::Starting;
    let run_dir = rig.run_dir(&task);
    std::fs::create_dir(&run_dir).unwrap();
    std::fs::write(run_dir.join("spec"), "{}").unwrap();
    leave(&rig, task.clone()).await;
    let rig = rig.restart().await;
    assert_eq!(rig.end(task.id).await.state, TaskState::Unknown);
    assert!(run_dir.join("stop").exists(), "a late supervisor is told not to begin");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_boot_makes_an_end_unknown() {
    let rig = Rig::new().await;
    let mut task = rig.begin(sh("sleep 60")).await;
    rig.fleet.stop(&owner(), task.id).await.unwrap();
    let old = rig.run_dir(&task);
    task.id = fleetd::model::TaskId::random();
    task.run = Some(fleetd::model::RunId::random());
    task.state = TaskState::Running;
    let new = rig.run_dir(&task);
    std::fs::create_dir(&new).unwrap();
    std::fs::write(new.join("spec"), "{}").unwrap();
    let pids = std::fs::read_to_string(old.join("pid")).unwrap();
    let mut pids: serde_json::Value = serde_json::from_str(&pids).unwrap();
    pids["boot"]["id"] = "another".into();
    std::fs::write(new.join("pid"), pids.to_string()).unwrap();
    leave(&rig, task.clone()).await;
    let rig = rig.restart().await;
    assert_eq!(rig.recovery, Recovery { adopted: 0, settled: 0, unknown: 1 });
    let reason = rig.row(task.id).await.reason.unwrap();
    assert!(reason.contains("rebooted"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_survives_with_its_order_and_input() {
    let settings = config::Tasks { concurrency: 1, stop_grace_s: 1, ..config::Tasks::default() };
    let rig = Rig::with(settings).await;
    let first = rig.begin(sh("sleep 60")).await;
    let log = rig.dir.path().join("log");
    let mut tasks = Vec::new();
    for name in ["a", "b", "c"] {
        let mut spec = sh(&format!("cat >> '{}'; echo $SECRET", log.display()));
        spec.stdin = Stdin::Bytes(format!("{name}\n").into());
        spec.env.insert(String::from("SECRET"), String::from("s3cret"));
        tasks.push(rig.begin(spec).await);
    }
    let rig = rig.restart().await;
    assert_eq!(rig.recovery.adopted, 4);
    assert_eq!(rig.row(tasks[2].id).await.state, TaskState::Queued);
    rig.fleet.stop(&owner(), first.id).await.unwrap();
    for task in &tasks {
        assert_eq!(rig.end(task.id).await.state, TaskState::Completed);
        assert_eq!(rig.stdout(task.id).await, "s3cret\n");
    }
    assert_eq!(std::fs::read_to_string(log).unwrap(), "a\nb\nc\n");
    // What may hold secrets is gone with the end; the fence is still there.
    let run_dir = rig.run_dir(&tasks[0]);
    assert!(!run_dir.join("stdin").exists() && !run_dir.join("plan").exists());
    assert_eq!(std::fs::metadata(run_dir.join("spec")).unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_reaches_a_task_that_was_adopted() {
    let rig = Rig::new().await;
    let task = rig.begin(sh("sleep 60")).await;
    let rig = rig.restart().await;
    let owner = owner();
    let stop = rig.fleet.stop(&owner, task.id);
    let stopped = tokio::time::timeout(Duration::from_secs(6), stop).await.unwrap().unwrap();
    assert_eq!(stopped.state, TaskState::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new().await;
    let mut spec = sh("echo hi; head -c 9 /dev/zero");
    spec.stdin = Stdin::Open;
    let task = rig.begin(spec).await;
    rig.fleet.input(&owner(), task.id, 0, "x".into(), true).await.ok();
    rig.end(task.id).await;
    let run_dir = rig.run_dir(&task);
    assert_eq!(std::fs::metadata(&run_dir).unwrap().permissions().mode() & 0o777, 0o700);
    for file in std::fs::read_dir(run_dir).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_output_goes_and_new_output_stays() {
    let settings = config::Tasks { keep_mib: 1, ..config::Tasks::default() };
    let rig = Rig::with(settings).await;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(rig.run(sh("head -c 600000 /dev/zero")).await);
    }
    let mut ancient = rig.run(sh("true")).await;
    ancient.ended = Some(fleetd::model::Timestamp::from_millis(1));
    leave(&rig, ancient.clone()).await;
    let running = rig.begin(sh("head -c 600000 /dev/zero; sleep 60")).await;
    let rig = rig.restart().await;
    let kept = async || {
        let mut kept = Vec::new();
        for task in &tasks {
            kept.push(rig.run_dir(task).exists());
        }
        kept
    };
    eventually("the oldest two are gone", async || kept().await == [false, false, false]).await;
    assert!(rig.run_dir(&running).exists(), "what runs is never swept");
    let gone = rig.fleet.task(&owner(), ancient.id).await;
    assert!(gone.is_err() && !rig.run_dir(&ancient).exists());
    let page = rig.fleet.output(&owner(), tasks[0].id, OutputStream::Stdout, 0, 9).await.unwrap();
    assert!(page.bytes.is_empty() && page.ended);
    rig.fleet.stop(&owner(), running.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_terminal_or_a_shutdown_sends_does_not_end_a_supervisor() {
    use nix::sys::signal::Signal;
    let rig = Rig::new().await;
    let gate = rig.dir.path().join("gate");
    let line = format!("while [ ! -e '{}' ]; do sleep 0.01; done; exit 6", gate.display());
    let task = rig.begin(sh(&line)).await;
    let supervisor = i32::try_from(supervisor_of(&rig.run_dir(&task))).unwrap();
    let supervisor = nix::unistd::Pid::from_raw(supervisor);
    assert_eq!(nix::unistd::getsid(Some(supervisor)).unwrap(), supervisor, "its own session");
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
        nix::sys::signal::kill(supervisor, signal).unwrap();
    }
    std::fs::write(gate, "").unwrap();
    assert_eq!(rig.end(task.id).await.exit, Some(Exit::Code(6)));
}
