//! Stalled runs on members: their silence is seen from here.

use serde_json::{Value, json};

use super::rig::{SETTINGS, end, join, look, start_on, topics, until_state, until_told};
use crate::support::{Daemon, Sshd};

fn soon(more: &str) -> (Daemon, Sshd) {
    let settings = format!("{SETTINGS}stall_after_s = 3\n{more}");
    let (daemon, sshd) = (Daemon::configured(&settings), Sshd::start());
    join(&daemon, "m", &sshd, json!({}));
    (daemon, sshd)
}

#[test]
fn silence_work_and_life_on_a_member_are_seen() {
    let (daemon, sshd) = soon("");
    let pipe = sshd.path("pipe");
    let shown = pipe.display();
    let line = format!("echo first; mkfifo '{shown}'; read x <'{shown}'; echo on; exec sleep 60");
    let silent = start_on(&daemon, "m", &line);
    let busy = start_on(&daemon, "m", "timeout 8 sh -c 'while :; do :; done'; echo done");
    until_told(&daemon, &silent, "task.stalled");
    let task = look(&daemon, &silent);
    assert!(task["state"] == "running" && task["stalled_since"].is_string(), "{task}");
    std::fs::write(&pipe, "go\n").unwrap();
    until_told(&daemon, &silent, "task.resumed");
    assert_eq!(end(&daemon, &busy)["state"], "completed");
    assert_eq!(topics(&daemon, &busy), ["task.started", "task.completed"]);

    // While nobody can look, nobody is judged.
    let cut = start_on(&daemon, "m", "exec sleep 120");
    until_state(&daemon, &cut, "running");
    sshd.freeze();
    until_told(&daemon, &cut, "task.unreachable");
    daemon.tool("execute_command", json!({"command": "sleep 5"}));
    assert_eq!(topics(&daemon, &cut), ["task.started", "task.unreachable"]);
    assert_eq!(look(&daemon, &cut)["stalled_since"], Value::Null);
    sshd.thaw();
    until_told(&daemon, &cut, "task.stalled");
    let expected = ["task.started", "task.unreachable", "task.resumed", "task.stalled"];
    assert_eq!(topics(&daemon, &cut), expected);
}

#[test]
fn the_policy_ends_a_stalled_run_on_a_member() {
    let (daemon, _sshd) = soon("stall_action = \"stop\"\n");
    let id = start_on(&daemon, "m", "exec sleep 120");
    let task = end(&daemon, &id);
    assert_eq!(task["state"], "failed", "{task}");
    assert_eq!(task["reason"], "stalled: no sign of life for 3 s");
    assert_eq!(topics(&daemon, &id), ["task.started", "task.stalled", "task.failed"]);
}
