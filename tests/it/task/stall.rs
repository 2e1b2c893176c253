//! Stalled runs, from real silence: told once, alive again, ended by policy only.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::whole::{end, look, start, topics};
use crate::support::{Daemon, Stream, eventually, within};

const SOON: &str = "[tasks]\nstall_after_s = 1\nstop_grace_s = 1\n";

/// Blocks until somebody writes into the pipe of this name, and uses nothing meanwhile.
fn wait_for(pipe: &str) -> String {
    format!("mkfifo {pipe}; read x <{pipe}")
}

/// Lets a command go on that waits for this pipe.
fn let_go(daemon: &Daemon, pipe: &str) {
    std::fs::write(daemon.home().path().join(pipe), "go\n").expect("it is being read");
}

/// The data of the next event of this type about `id`.
fn next(stream: &mut Stream, topic: &str, id: &str) -> Value {
    loop {
        let mut event = stream.next_named(topic).json();
        if event["subject"] == format!("task/{id}") {
            return event["data"].take();
        }
    }
}

fn signals(daemon: &Daemon) -> Stream {
    daemon.events("types=task.*&signals=0")
}

#[test]
fn a_silent_run_is_told_once_shown_everywhere_and_told_when_it_lives() {
    let daemon = Daemon::configured(SOON);
    let mut events = signals(&daemon);
    let line = format!("echo first; {}; echo second; {}", wait_for("a"), wait_for("b"));
    let id = start(&daemon, &line);
    let told = next(&mut events, "task.stalled", &id);
    assert_eq!((&told["last_lines"], &told["action"]), (&json!(["first"]), &json!("tell")));
    assert_eq!((&told["stdout_offset"], &told["stderr_offset"]), (&json!(6), &json!(0)));
    assert!(told["silent_s"].as_u64().unwrap() >= 1 && told["cpu_s"].as_f64().unwrap() < 0.5);

    let task = look(&daemon, &id);
    assert_eq!(task["state"], "running");
    let since = task["stalled_since"].as_str().expect("it says since when");
    assert!(since > task["started"].as_str().unwrap(), "{task}");
    let listed = daemon.tool("list_tasks", json!({}));
    assert_eq!(listed["tasks"][0]["stalled_since"], since, "{listed}");
    let status = daemon.tool("fleet_status", json!({}));
    assert_eq!(status["members"][0]["tasks"][0]["stalled_since"], since, "{status}");
    for words in [&["tasks"][..], &["tasks", "show", &id], &["status"]] {
        let shown = daemon.fleetctl(words).ok().stdout;
        assert!(shown.contains("stalled ") && !shown.contains("running"), "{shown}");
    }

    let written = Instant::now();
    let_go(&daemon, "a");
    let lives = next(&mut events, "task.resumed", &id);
    assert_eq!(lives["after"], "stalled", "{lives}");
    println!("told {:?} after its first byte", written.elapsed());
    assert_eq!(look(&daemon, &id)["stalled_since"], Value::Null);
    next(&mut events, "task.stalled", &id);
    let_go(&daemon, "b");
    assert_eq!(end(&daemon, &id)["stalled_since"], Value::Null);
    let expected = ["started", "stalled", "resumed", "stalled"].map(|name| format!("task.{name}"));
    let told = topics(&daemon, &id);
    assert_eq!(told[..4], expected, "{told:?}");
    // Its end may come before the look that would have told of life.
    assert_eq!(told.last().unwrap(), "task.completed", "{told:?}");
}

#[test]
fn work_is_life_and_so_is_a_process_that_works_far_below() {
    let daemon = Daemon::configured(SOON);
    let mut events = signals(&daemon);
    let burn = "timeout 4 sh -c 'while :; do :; done'";
    let busy = start(&daemon, &format!("(setsid sh -c \"{burn}; true\"); echo done"));
    let waits = start(&daemon, &format!("{}; {burn}; echo done", wait_for("a")));
    next(&mut events, "task.stalled", &waits);
    let_go(&daemon, "a");
    next(&mut events, "task.resumed", &waits);
    assert_eq!(look(&daemon, &waits)["stdout_bytes"], 0, "its CPU use was enough");
    assert_eq!(end(&daemon, &busy)["state"], "completed");
    assert_eq!(topics(&daemon, &busy), ["task.started", "task.completed"]);
    end(&daemon, &waits);
    let expected = ["task.started", "task.stalled", "task.resumed", "task.completed"];
    assert_eq!(topics(&daemon, &waits), expected);
}

#[test]
fn a_caller_that_waits_loses_nothing_by_it() {
    let daemon = Daemon::configured(SOON);
    let run = |more: Value| {
        let mut arguments = json!({"command": "sleep 3; echo late", "timeout_s": 0});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let result = daemon.tool("execute_command", arguments);
        assert_eq!((&result["status"], &result["stdout"]), (&json!("completed"), &json!("late\n")));
        topics(&daemon, result["stream_id"].as_str().unwrap())
    };
    let told = run(json!({}));
    assert_eq!(told[..2], ["task.started", "task.stalled"], "{told:?}");
    assert_eq!(run(json!({"stall_after_s": 0})), ["task.started", "task.completed"]);
    assert_eq!(run(json!({"stall_after_s": 60})), ["task.started", "task.completed"]);
    // What writes is left alone, however long it takes.
    let line = "for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done";
    let id = start(&daemon, line);
    end(&daemon, &id);
    assert_eq!(topics(&daemon, &id), ["task.started", "task.completed"]);
}

#[test]
fn only_the_policy_ends_a_stalled_run_and_says_so() {
    let daemon = Daemon::configured(&format!("{SOON}stall_action = \"stop\"\n"));
    let result = daemon.tool("execute_command", json!({"command": "sleep 60", "timeout_s": 0}));
    assert_eq!(result["status"], "failed", "{result}");
    let reason = result["reason"].as_str().unwrap();
    assert_eq!(reason, "stalled: no sign of life for 1 s");
    let id = result["stream_id"].as_str().unwrap();
    assert_eq!(topics(&daemon, id), ["task.started", "task.stalled", "task.failed"]);
    assert_eq!(look(&daemon, id)["stop_requested"], false, "nobody asked for it");

    // It is a failure: who asked for another try gets it.
    let tries = json!({"command": "echo x >>tries; sleep 60", "long_running": true, "max_retries": 1,
        "restart_command": "echo x >>tries"});
    let id = daemon.tool("execute_command", tries)["stream_id"].as_str().unwrap().to_owned();
    assert_eq!(end(&daemon, &id)["state"], "completed");
    let tries = std::fs::read_to_string(daemon.home().path().join("tries")).unwrap();
    assert_eq!(tries, "x\nx\n");
}

#[test]
fn the_next_daemon_tells_neither_twice_nor_misses_what_came() {
    let daemon = Daemon::configured(SOON);
    let mut events = signals(&daemon);
    let silent =
        start(&daemon, &format!("echo first; {}; echo second; exec sleep 60", wait_for("a")));
    let writes = start(&daemon, &format!("{}; echo now; exec sleep 60", wait_for("b")));
    let told = [&silent, &writes].map(|id| {
        within(Duration::from_secs(20), "both are stalled", || {
            look(&daemon, id)["stalled_since"].as_str().map(str::to_owned)
        })
    });
    next(&mut events, "task.stalled", &silent);
    let home = daemon.kill9();
    let runs: Vec<PathBuf> = std::fs::read_dir(home.state().join("runs"))
        .unwrap()
        .map(|entry| entry.unwrap().path().join("stdout"))
        .collect();
    std::fs::write(home.path().join("b"), "go\n").unwrap();
    eventually("it has written while nobody watched", || {
        runs.iter().any(|path| std::fs::read(path).is_ok_and(|bytes| bytes == b"now\n"))
    });
    let daemon = Daemon::start_in(home);
    let mut events = daemon.events("types=task.*&signals=0&since=0");
    assert_eq!(next(&mut events, "task.resumed", &writes)["after"], "stalled");
    // Several looks later the other is as silent as before, and told already.
    daemon.tool("execute_command", json!({"command": "sleep 3"}));
    let task = look(&daemon, &silent);
    assert_eq!((&task["state"], &task["stalled_since"]), (&json!("running"), &json!(told[0])));
    assert_eq!(topics(&daemon, &silent), ["task.started", "task.stalled"]);
    let_go(&daemon, "a");
    next(&mut events, "task.resumed", &silent);
    let expected = ["task.started", "task.stalled", "task.resumed"];
    assert_eq!(topics(&daemon, &silent)[..3], expected);
}

/// Appends `line` to `file` again and again for `time`.
fn grow(file: &Path, line: &str, time: Duration) {
    let mut file = OpenOptions::new().append(true).create(true).open(file).unwrap();
    let (begun, mut last) = (Instant::now(), None::<Instant>);
    eventually("it has grown for a while", || {
        if last.is_none_or(|last| last.elapsed() > Duration::from_millis(100)) {
            writeln!(file, "{line}").unwrap();
            last = Some(Instant::now());
        }
        begun.elapsed() > time
    });
}

#[test]
fn a_transcript_that_grows_is_life_and_a_declared_tool_call_has_its_time() {
    let daemon = Daemon::configured(SOON);
    let home = daemon.home().path();
    let session = "1d0c1f5e-6d34-4c0e-8a4e-9a3c0d1c8f11";
    let folder = home.join(".claude/projects/-home-me");
    std::fs::create_dir_all(&folder).unwrap();
    let transcript = folder.join(format!("{session}.jsonl"));
    // A program of that name that only waits: what it would write, the test writes.
    let program = home.join("claude");
    std::fs::write(&program, format!("#!/bin/sh\n{}\n", wait_for("a"))).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    let mut events = signals(&daemon);
    let id = start(&daemon, &format!("./claude -p --session-id {session}"));
    grow(&transcript, r#"{"type":"assistant"}"#, Duration::from_secs(3));
    let call = json!({"type": "assistant", "message": {"content": [{"type": "tool_use", "id": "t",
        "name": "Bash", "input": {"command": "make", "timeout": 120_000}}]}});
    grow(&transcript, &call.to_string(), Duration::ZERO);
    daemon.tool("execute_command", json!({"command": "sleep 4"}));
    assert_eq!(topics(&daemon, &id), ["task.started"]);
    let result = json!({"type": "user", "message": {"content": [{"type": "tool_result",
        "tool_use_id": "t", "content": "done"}]}});
    grow(&transcript, &result.to_string(), Duration::ZERO);
    next(&mut events, "task.stalled", &id);
    grow(&transcript, r#"{"type":"assistant"}"#, Duration::ZERO);
    next(&mut events, "task.resumed", &id);
    let_go(&daemon, "a");
    end(&daemon, &id);
}

#[test]
fn r42_a_stopped_daemon_finds_nobody_stalled_when_it_goes_on() {
    let daemon = Daemon::configured("[tasks]\nstall_after_s = 3\n");
    let talks = start(&daemon, "for i in $(seq 40); do echo $i; sleep 0.2; done");
    let silent = start(&daemon, "exec sleep 60");
    let mut events = signals(&daemon);
    daemon.signal(Signal::SIGSTOP);
    assert_eq!(events.next_within(Duration::from_secs(6)), None, "a stopped daemon speaks");
    daemon.signal(Signal::SIGCONT);
    // It has been silent for longer, but nobody looked.
    let told = next(&mut events, "task.stalled", &silent);
    assert!(told["silent_s"].as_u64().unwrap() < 6, "{told}");
    assert_eq!(end(&daemon, &talks)["state"], "completed");
    assert_eq!(topics(&daemon, &talks), ["task.started", "task.completed"]);
}
