//! `fleetctl run`: a command as if it ran here.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Daemon, Program, eventually, signal};

#[test]
fn streams_come_apart_and_the_status_is_the_command_s() {
    let daemon = Daemon::start();
    let ran = daemon.fleetctl(&["run", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((ran.code(), &*ran.stdout, &*ran.stderr), (7, "out\n", "err\n"));
    for (line, status) in
        [("exit 0", 0), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
    {
        let ran = daemon.fleetctl(&["run", "--", "sh", "-c", line]);
        assert_eq!((ran.code(), &*ran.stdout, &*ran.stderr), (status, "", ""), "{line}");
    }
    // Words stay words, whatever is in them.
    let words = ["run", "--", "printf", "%s|", "it's", "a  b", "$HOME", "", "*"];
    assert_eq!(daemon.fleetctl(&words).stdout, "it's|a  b|$HOME||*|");
}

#[test]
fn it_runs_in_this_folder_with_this_path() {
    let daemon = Daemon::start();
    let folder = daemon.home().path().join("my project");
    std::fs::create_dir(&folder).unwrap();
    let mut command = daemon.home().fleetctl_command(&["run", "--", "sh", "-c", "pwd; echo $PATH"]);
    command.current_dir(&folder).env("PATH", "/opt/mine:/usr/bin:/bin");
    let (code, stdout, _) = Program::start(command).end();
    assert_eq!(code, 0);
    assert_eq!(stdout, format!("{}\n/opt/mine:/usr/bin:/bin\n", folder.display()));
}

#[test]
fn what_cannot_run_fails_with_a_reason() {
    let daemon = Daemon::start();
    let ran = daemon.fleetctl(&["run", "--", "no-such-program-here"]);
    assert_eq!(ran.code(), 127);
    assert!(ran.stderr.contains("no-such-program-here"), "{ran:?}");
    let ran = daemon.fleetctl(&["run", "--on", "nowhere", "--", "true"]);
    assert_eq!(ran.code(), 1);
    assert!(ran.stderr.contains("no member 'nowhere'"), "{ran:?}");
    let ran = daemon.fleetctl(&["run", "--timeout", "1", "--", "sleep", "60"]);
    assert_eq!(ran.code(), 143);
    assert!(ran.stderr.contains("1 s without output"), "{ran:?}");
    let line = "while :; do echo tick; sleep 0.1; done";
    let ran =
        daemon.fleetctl(&["run", "--max-total", "1", "--timeout", "30", "--", "sh", "-c", line]);
    assert_eq!(ran.code(), 143);
    assert!(ran.stdout.starts_with("tick\n") && ran.stderr.contains("1 s"), "{ran:?}");
}

#[test]
fn detach_prints_the_id_and_json_prints_one_object() {
    let daemon = Daemon::start();
    let ran = daemon.fleetctl(&["run", "--detach", "--", "sh", "-c", "cat; echo done"]).ok();
    let id = ran.stdout.trim();
    assert_eq!((ran.stdout.lines().count(), id.len()), (1, 36), "{ran:?}");
    let output = daemon.fleetctl(&["tasks", "output", id, "--follow"]).ok();
    assert_eq!(output.stdout, "done\n");
    let ran = daemon.fleetctl(&["run", "--detach", "--json", "--", "true"]).ok();
    let started: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(started["status"], "started");
    assert_eq!(started["stream_id"].as_str().unwrap().len(), 36);
    let ran = daemon.fleetctl(&["run", "--json", "--", "sh", "-c", "echo o; echo e >&2; exit 3"]);
    let ended: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code(), &*ran.stderr), (3, ""));
    assert_eq!((&ended["status"], &ended["exitCode"]), (&"failed".into(), &3.into()));
    assert_eq!((&ended["stdout"], &ended["stderr"]), (&"o\n".into(), &"e\n".into()));
}

#[test]
fn an_interrupt_stops_the_task_and_a_hangup_only_leaves_it() {
    let daemon = Daemon::start();
    let line = "echo up; exec sleep 60";
    let ran = Program::start(daemon.home().fleetctl_command(&["run", "--", "sh", "-c", line]));
    ran.says("up");
    ran.signal(Signal::SIGINT);
    let (code, stdout, _) = ran.end();
    assert_eq!((code, &*stdout), (143, "up\n"));
    let tasks = daemon.tool("list_tasks", serde_json::json!({}));
    assert_eq!(tasks["tasks"][0]["state"], "cancelled");
    let ran = Program::start(daemon.home().fleetctl_command(&["run", "--", "sh", "-c", line]));
    ran.says("up");
    ran.signal(Signal::SIGHUP);
    assert_eq!(ran.end().0, 129);
    let tasks = daemon.tool("list_tasks", serde_json::json!({}));
    assert_eq!(tasks["tasks"][0]["state"], "running");
}

#[test]
fn a_killed_daemon_is_outlived() {
    let daemon = Daemon::start();
    let gate = daemon.home().path().join("gate");
    let line = format!(
        "echo before; while [ ! -e '{}' ]; do sleep 0.02; done; echo after; exit 5",
        gate.display()
    );
    let ran = Program::start(daemon.home().fleetctl_command(&["run", "--", "sh", "-c", &line]));
    ran.says("before");
    let daemon = daemon.restart_after_kill9();
    std::fs::write(&gate, "").unwrap();
    let (code, stdout, _) = ran.end();
    assert_eq!((code, &*stdout), (5, "before\nafter\n"));
    drop(daemon);
}

#[test]
fn an_end_that_nobody_saw_is_9() {
    let daemon = Daemon::start();
    let ran = Program::start(daemon.home().fleetctl_command(&[
        "run",
        "--",
        "sh",
        "-c",
        "echo up; exec sleep 60",
    ]));
    ran.says("up");
    let runs = std::fs::read_dir(daemon.home().state().join("runs")).unwrap();
    let run = runs.map(|entry| entry.unwrap().path()).next().unwrap();
    let mut supervisor = 0;
    eventually("the supervisor has said who it is", || {
        let text = std::fs::read(run.join("pid")).unwrap_or_default();
        let pids: Value = serde_json::from_slice(&text).unwrap_or_default();
        supervisor = pids["supervisor"]["pid"].as_u64().unwrap_or(0);
        supervisor > 0
    });
    signal(u32::try_from(supervisor).unwrap(), Signal::SIGKILL);
    let (code, _, stderr) = ran.end();
    assert_eq!(code, 9, "{stderr}");
    assert!(stderr.contains("unknown"), "{stderr}");
}
