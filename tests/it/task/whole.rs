//! Tasks through the whole product: a real daemon, its tools, its routes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Daemon, Program, Request, is_alive, living_in, reply, tool_request, within};

/// Starts a command and returns its id.
pub fn start(daemon: &Daemon, line: &str) -> String {
    let arguments = json!({"command": line, "async": true, "timeout_s": 0});
    let started = daemon.tool("execute_command", arguments);
    started["stream_id"].as_str().unwrap().to_owned()
}

/// The task as `monitor_task` shows it.
pub fn look(daemon: &Daemon, id: &str) -> Value {
    daemon.tool("monitor_task", json!({"task_id": id}))["tasks"][0].take()
}

/// The task once it has ended.
pub fn end(daemon: &Daemon, id: &str) -> Value {
    within(Duration::from_secs(40), "the task has ended", || {
        let task = look(daemon, id);
        let open = ["queued", "starting", "running"].contains(&task["state"].as_str().unwrap());
        (!open).then_some(task)
    })
}

/// The events about a task, oldest first.
pub fn topics(daemon: &Daemon, id: &str) -> Vec<String> {
    let about = json!({"subject": format!("task/{id}"), "since": "0", "limit": 1000});
    let listed = daemon.tool("list_events", about);
    let events = listed["events"].as_array().unwrap();
    events.iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn r33_every_byte_comes_back_exact_and_text_says_when_it_is_not() {
    let daemon = Daemon::start();
    let bytes: Vec<u8> =
        (0..=255).chain(*b"\xff\xfe\xc3(\xed\xa0\x80 a\rb\r\nc\n\0\0").chain(0..=255).collect();
    let octal: String = bytes.iter().map(|byte| format!("\\0{byte:03o}")).collect();
    let id = start(&daemon, &format!("printf '%b' '{octal}' | tee /dev/stderr"));
    let task = end(&daemon, &id);
    for stream in ["stdout", "stderr"] {
        let answer = daemon.get(&format!("/tasks/{id}/output?stream={stream}"));
        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
        assert!(answer.body == bytes, "{stream}: {:?}", answer.body);
        assert_eq!(task[stream]["exact"], false, "{task}");
    }
    let part = daemon.get(&format!("/tasks/{id}/output?offset=254"));
    assert_eq!(part.body, bytes[254..]);
    let waited = json!({"command": format!("printf '%b' '{octal}'")});
    let lossy = daemon.tool("execute_command", waited);
    assert_eq!(lossy["exact"], false, "{lossy}");
    let waited =
        daemon.tool("execute_command", json!({"command": "printf 'a\\rb \\342\\202\\254'"}));
    assert_eq!((&waited["exact"], &waited["stdout"]), (&json!(true), &json!("a\rb €")));
}

#[test]
fn r30_a_stop_leaves_no_process_behind() {
    let daemon = Daemon::configured("[tasks]\nstop_grace_s = 1\n");
    // Deaf to TERM; in sessions of their own; orphaned; a fork that outruns.
    let line = "trap '' TERM HUP
        setsid sh -c 'trap \"\" TERM HUP; echo $$; while :; do sleep 0.2; done' &
        (setsid setsid sh -c 'trap \"\" TERM HUP; echo $$; while :; do sleep 0.2; done' &)
        (nohup sleep 300 >/dev/null 2>&1 & echo $!)
        sh -c 'sleep 301 & echo $!; wait' &
        echo $$
        while :; do sleep 0.2; done";
    let id = start(&daemon, line);
    let pids: Vec<u32> = within(Duration::from_secs(10), "all five are there", || {
        let text = daemon.get(&format!("/tasks/{id}/output")).text();
        let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        (pids.len() == 5).then_some(pids)
    });
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    let begun = Instant::now();
    let stopped = daemon.tool("stop_task", json!({"task_id": id}));
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert_eq!(stopped["task"]["state"], "cancelled", "{stopped}");
    let left: Vec<_> = pids.into_iter().filter(|pid| is_alive(*pid)).collect();
    assert!(left.is_empty(), "{left:?} are left");
    let mine = living_in(daemon.home().path());
    assert_eq!(mine, [daemon.pid()], "only the daemon is left");
}

#[test]
fn r36_a_cut_connection_ends_the_wait_and_not_the_task() {
    let daemon = Daemon::start();
    for era in ["2025-11-25", "2026-07-28"] {
        let gate = daemon.home().path().join(era);
        let line = format!("while [ ! -e '{}' ]; do sleep 0.02; done; exit 4", gate.display());
        let arguments = json!({"command": line, "on_cancel": "stop"});
        let call = if era == "2026-07-28" {
            tool_request(&daemon, "execute_command", arguments)
        } else {
            in_a_session(&daemon, era, "execute_command", arguments)
        };
        let mut conn = daemon.connect();
        conn.write(&call.bytes()).unwrap();
        let id = within(Duration::from_secs(10), "it runs", || {
            let listed = daemon.tool("list_tasks", json!({"states": ["running"]}));
            Some(listed["tasks"][0]["task_id"].as_str()?.to_owned())
        });
        drop(conn);
        within(Duration::from_secs(10), "the daemon has seen the cut", || {
            let open = daemon.metric("fleetd_http_connections");
            (open <= 1.0).then_some(())
        });
        assert_eq!(look(&daemon, &id)["state"], "running", "{era}");
        std::fs::write(&gate, "").unwrap();
        let task = end(&daemon, &id);
        assert_eq!((&task["state"], &task["exit_code"]), (&json!("failed"), &json!(4)), "{era}");
    }
}

/// A call in a session of its own, as clients of `revision` make it.
fn in_a_session(daemon: &Daemon, revision: &str, tool: &str, arguments: Value) -> Request {
    let post = |message: &Value| {
        let request = daemon.request("POST", "/mcp").json(message);
        request.header("Accept", "application/json, text/event-stream")
    };
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": revision, "capabilities": {},
        "clientInfo": {"name": "fleetd-tests", "version": "0"},
    }});
    let answer = daemon.send(&post(&hello));
    let session = answer.header("mcp-session-id").expect("a session").to_owned();
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": {"name": tool, "arguments": arguments}});
    post(&call).header("Mcp-Session-Id", &session).header("MCP-Protocol-Version", revision)
}

#[test]
fn a_stop_that_the_daemon_did_not_live_to_see_is_carried_out() {
    let daemon = Daemon::configured("[tasks]\nstop_grace_s = 1\n");
    let id = start(&daemon, "trap '' TERM; echo $$; while :; do sleep 0.2; done");
    let request = tool_request(&daemon, "stop_task", json!({"task_id": id}));
    let mut conn = daemon.connect();
    conn.write(&request.bytes()).unwrap();
    within(Duration::from_secs(10), "the wish is known", || {
        (look(&daemon, &id)["stop_requested"] == true).then_some(())
    });
    let daemon = daemon.restart_after_kill9();
    let task = end(&daemon, &id);
    assert_eq!((&task["state"], &task["signal"]), (&json!("cancelled"), &json!(9)), "{task}");
    assert_eq!(topics(&daemon, &id), ["task.started", "task.cancelled"]);
}

#[test]
fn silence_and_length_are_limits_of_their_own() {
    let daemon = Daemon::start();
    let run = |line: &str, silence: u64, total: Option<u64>| {
        let mut arguments = json!({"command": line, "timeout_s": silence});
        if let Some(total) = total {
            arguments["max_total_s"] = total.into();
        }
        daemon.tool("execute_command", arguments)
    };
    let talking = "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.3; done";
    assert_eq!(run(talking, 1, None)["status"], "completed");
    let silent = run("sleep 60", 1, None);
    assert_eq!((&silent["status"], &silent["signal"]), (&json!("failed"), &json!(15)));
    assert!(silent["reason"].as_str().unwrap().contains("without output"), "{silent}");
    let long = run("while :; do echo x; sleep 0.1; done", 30, Some(1));
    assert_eq!(long["status"], "failed");
    assert!(!long["reason"].as_str().unwrap().contains("without output"), "{long}");
}

#[test]
fn no_more_run_at_once_than_allowed_and_in_order() {
    let daemon = Daemon::configured("[tasks]\nconcurrency = 2\nmax_queued = 3\n");
    let folder = daemon.home().path().to_owned();
    let line = |n: usize| {
        format!(
            "cd '{}'; echo {n} >> order; while [ ! -e go{n} ]; do sleep 0.02; done",
            folder.display()
        )
    };
    let first = start(&daemon, &line(0));
    within(Duration::from_secs(20), "the first has begun", || {
        folder.join("order").exists().then_some(())
    });
    let rest = (1..5).map(|n| start(&daemon, &line(n)));
    let ids: Vec<_> = std::iter::once(first).chain(rest).collect();
    let full = json!({"command": "true", "async": true});
    let refused = reply(&daemon.send(&tool_request(&daemon, "execute_command", full)));
    assert_eq!(refused["result"]["isError"], true, "{refused}");
    assert_eq!(refused["result"]["_meta"]["fleetd/error"]["code"], "exhausted");
    let states = |daemon: &Daemon| -> Vec<String> {
        ids.iter().map(|id| look(daemon, id)["state"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(states(&daemon), ["running", "running", "queued", "queued", "queued"]);
    // The queue outlives its daemon, and its order too.
    let daemon = daemon.restart_after_kill9();
    for (n, id) in ids.iter().enumerate() {
        // That two of them run does not say which of them got to its first line.
        within(Duration::from_secs(20), "those whose turn it is have begun", || {
            let order = std::fs::read_to_string(folder.join("order")).unwrap_or_default();
            (order.lines().count() == (n + 2).min(5)).then_some(())
        });
        std::fs::write(folder.join(format!("go{n}")), "").unwrap();
        assert_eq!(end(&daemon, id)["state"], "completed");
    }
    assert_eq!(std::fs::read_to_string(folder.join("order")).unwrap(), "0\n1\n2\n3\n4\n");
}

#[test]
fn whoever_follows_a_task_sees_its_next_run_from_the_beginning() {
    let daemon = Daemon::start();
    let (gate, ran) = (daemon.home().path().join("gate"), daemon.home().path().join("ran"));
    let line = format!(
        "if [ -e '{ran}' ]; then echo 'the second run'; exit; fi; touch '{ran}'; echo first
        until [ -e '{gate}' ]; do sleep 0.05; done; exit 1",
        ran = ran.display(),
        gate = gate.display()
    );
    let arguments = json!({"command": line, "long_running": true, "max_retries": 1});
    let id = daemon.tool("execute_command", arguments)["stream_id"].as_str().unwrap().to_owned();
    let follow = ["tasks", "output", &id, "--follow"];
    let follower = Program::start(daemon.home().fleetctl_command(&follow));
    follower.says("first\n");
    let path = format!("/tasks/{id}/output");
    let first = daemon.get(&path);
    let run = first.header("fleetd-run").expect("a run").to_owned();
    assert_eq!(look(&daemon, &id)["stdout"]["run_id"], run.as_str());
    std::fs::write(gate, "").unwrap();
    assert_eq!(end(&daemon, &id)["state"], "completed");
    assert_ne!(daemon.get(&path).header("fleetd-run"), Some(&*run));
    assert_eq!(follower.end().1, "first\nthe second run\n");
}
