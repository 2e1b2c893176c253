//! How commands on members end, and what comes back of them.

use std::time::Duration;

use serde_json::json;

use super::rig::{
    bytes, end, gated, join, look, open, pair, run_on, runs, start_on, there, topics, until_state,
};
use crate::support::{is_alive, within};

#[test]
fn a_command_on_a_member_is_like_one_here() {
    let (daemon, sshd) = pair();
    let line = "echo out; echo err >&2; echo $WORD; pwd; cat; exit 7";
    let told = run_on(
        &daemon,
        json!({"command": line, "env": {"WORD": "it's $x\n"}, "stdin": "line 1\nline 2"}),
    );
    let work = sshd.home().join("work");
    let wanted = format!("out\nit's $x\n{}\nline 1\nline 2", work.display());
    assert_eq!(told["stdout"], wanted, "{told}");
    assert_eq!((&told["stderr"], &told["exitCode"]), (&json!("err\n"), &json!(7)));
    let id = told["stream_id"].as_str().unwrap();
    assert_eq!(topics(&daemon, id), ["task.started", "task.failed"]);
    assert_eq!(look(&daemon, id)["member"], "m");
    let told = run_on(&daemon, json!({"command": "true", "run_from": "/nowhere"}));
    assert!(told["reason"].as_str().unwrap().contains("/nowhere"), "{told}");
    let told = run_on(&daemon, json!({"command": "no-such-program"}));
    assert_eq!(told["exitCode"], 127, "{told}");
}

/// R26, and D5 of the peer's defects: a missing status became 0 there.
#[test]
fn a_status_is_the_command_s_own_or_none() {
    let (daemon, _sshd) = pair();
    let told = run_on(&daemon, json!({"command": "exit 255"}));
    assert_eq!((&told["status"], &told["exitCode"]), (&json!("failed"), &json!(255)), "{told}");
    let told = run_on(&daemon, json!({"command": "echo partial; kill -9 $$"}));
    assert_eq!((&told["status"], &told["exitCode"]), (&json!("failed"), &json!(137)), "{told}");
    assert_eq!((&told["signal"], &told["signal_possible"]), (&json!(null), &json!(9)), "{told}");
    assert_eq!(told["stdout"], "partial\n");
    let id = told["stream_id"].as_str().unwrap();
    let daemon = daemon.restart_after_kill9();
    let task = look(&daemon, id);
    assert_eq!((&task["exit_code"], &task["signal_possible"]), (&json!(137), &json!(9)), "{task}");
}

#[test]
fn r33_every_byte_comes_back_from_a_member() {
    let (daemon, _sshd) = pair();
    let all: Vec<u8> = (0..=255).chain(*b"\xff\xfe\xc3(\0\r\n\r").collect();
    let octal: String = all.iter().map(|byte| format!("\\0{byte:03o}")).collect();
    let id = start_on(&daemon, "m", &format!("printf '%b' '{octal}' | tee /dev/stderr; sleep 0.6"));
    let task = end(&daemon, &id);
    for stream in ["stdout", "stderr"] {
        assert_eq!(bytes(&daemon, &id, stream), all, "{stream}");
        assert_eq!(task[stream]["exact"], false);
    }
}

#[test]
fn output_comes_while_it_is_written() {
    let (daemon, sshd) = pair();
    let gate = sshd.path("gate");
    let line = gated(&sshd.path("counter"), &gate, "echo two");
    let id = start_on(&daemon, "m", &format!("echo one; {line}"));
    within(Duration::from_secs(10), "the first line is here", || {
        (look(&daemon, &id)["stdout"]["text"] == "one\n").then_some(())
    });
    assert_eq!(look(&daemon, &id)["state"], "running");
    open(&gate);
    assert_eq!(end(&daemon, &id)["stdout"]["text"], "one\ntwo\n");
}

#[test]
fn r30_a_stop_leaves_no_process_on_the_member() {
    let (daemon, sshd) = pair();
    let line = "trap '' TERM HUP
        setsid sh -c 'trap \"\" TERM HUP; echo $$; while :; do sleep 0.2; done' &
        (setsid setsid sh -c 'trap \"\" TERM HUP; echo $$; while :; do sleep 0.2; done' &)
        (nohup sleep 300 >/dev/null 2>&1 & echo $!)
        echo $$
        while :; do sleep 0.2; done";
    let id = start_on(&daemon, "m", line);
    let pids: Vec<u32> = within(Duration::from_secs(10), "all four are there", || {
        let text = String::from_utf8(bytes(&daemon, &id, "stdout")).unwrap();
        let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        (pids.len() == 4).then_some(pids)
    });
    // D1: other commands on the member do not take the handle of this one away.
    assert_eq!(run_on(&daemon, json!({"command": "true"}))["exitCode"], 0);
    daemon.tool("fleet_status", json!({}));
    let stopped = daemon.tool("stop_task", json!({"task_id": id}));
    assert_eq!(stopped["task"]["state"], "cancelled", "{stopped}");
    let left: Vec<_> = pids.into_iter().filter(|pid| is_alive(*pid)).collect();
    assert!(left.is_empty(), "{left:?} are left");
    assert!(there(&daemon, &sshd, &id).join("status").exists());
}

/// D2 of the peer's defects: what was killed for its silence ran twice.
#[test]
fn silence_is_a_limit_and_not_a_reason_to_run_again() {
    let (daemon, sshd) = pair();
    let counter = sshd.path("counter");
    let line = format!("echo ran >> '{}'; sleep 60", counter.display());
    let told = run_on(&daemon, json!({"command": line, "timeout_s": 1}));
    assert_eq!(told["status"], "failed", "{told}");
    assert!(told["reason"].as_str().unwrap().contains("without output"), "{told}");
    assert_eq!(runs(&counter), 1);
    let told = run_on(
        &daemon,
        json!({"command": "while :; do echo x; sleep 0.1; done",
        "max_total_s": 1}),
    );
    assert!(told["reason"].as_str().unwrap().contains("in all"), "{told}");
}

/// Only five runs of a member have a follower; the rest are looked at.
#[test]
fn silence_is_a_limit_of_runs_that_nobody_follows_too() {
    let (daemon, sshd) = pair();
    join(&daemon, "wide", &sshd, json!({"concurrency": 8, "work_folder": sshd.path("wide")}));
    let ids: Vec<String> = (0..8)
        .map(|_| {
            let silent = json!({"command": "sleep 300", "member_name": "wide", "async": true,
                "timeout_s": 2});
            let started = daemon.tool("execute_command", silent);
            started["stream_id"].as_str().unwrap().to_owned()
        })
        .collect();
    for id in ids {
        let task = end(&daemon, &id);
        assert!(task["reason"].as_str().unwrap().contains("without output"), "{task}");
    }
}

#[test]
fn every_member_has_a_queue_of_its_own() {
    let (daemon, sshd) = pair();
    join(&daemon, "narrow", &sshd, json!({"concurrency": 1, "work_folder": sshd.path("narrow")}));
    let gate = sshd.path("gate");
    let first = start_on(&daemon, "narrow", &gated(&sshd.path("counter"), &gate, "true"));
    until_state(&daemon, &first, "running");
    let second = start_on(&daemon, "narrow", "echo second");
    assert_eq!(look(&daemon, &second)["state"], "queued");
    assert_eq!(run_on(&daemon, json!({"command": "true"}))["exitCode"], 0, "m is free");
    open(&gate);
    assert_eq!(end(&daemon, &second)["stdout"]["text"], "second\n");
    assert_eq!(topics(&daemon, &second), ["task.queued", "task.started", "task.completed"]);
}
