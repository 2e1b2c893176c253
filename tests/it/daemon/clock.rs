//! Time that stands still and clocks that jump: R42 (short), R43.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::support::{Answer, Daemon, Home, Request, Stream};

/// Debian's faketime keeps its library beside the architecture's.
fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    libraries.into_iter().find(|path| path.exists()).expect("faketime is there (tests/setup)")
}

/// A daemon whose wall clock is off by what the file says, and its other clocks are true.
fn with_clock() -> (Daemon, PathBuf) {
    let home = Home::new();
    let clock = home.path().join("clock");
    set(&clock, "+0d");
    let mut command = home.fleetd();
    command.env("LD_PRELOAD", faketime()).env("FAKETIME_TIMESTAMP_FILE", &clock);
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    (Daemon::start_as(home, command), clock)
}

/// Renamed into place: a reader never sees half of it.
fn set(clock: &Path, offset: &str) {
    let beside = clock.with_extension("new");
    std::fs::write(&beside, format!("{offset}\n")).expect("written");
    std::fs::rename(beside, clock).expect("renamed");
}

/// Publishes `id` and returns the position at which `stream` shows it.
fn passes(daemon: &Daemon, stream: &mut Stream, id: &str) -> u64 {
    daemon.publish("custom.clock", id, json!({}));
    let event = stream.next_named("custom.clock");
    assert_eq!(event.json()["id"], id);
    event.seq()
}

/// The year in which a task is created now, as the daemon sees it.
fn year_of_a_task(daemon: &Daemon) -> u32 {
    let ended = daemon.tool("execute_command", json!({ "command": "true" }));
    let shown = daemon.tool("monitor_task", json!({ "task_id": ended["stream_id"] }));
    let created = shown["tasks"][0]["created"].as_str().expect("a time").to_owned();
    created[..4].parse().unwrap_or_else(|_| panic!("{created}"))
}

/// An MCP session of the older revisions, which lives on the server.
fn session(daemon: &Daemon) -> String {
    let params = json!({
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": { "name": "clock", "version": "0" },
    });
    let answer = legacy(daemon, None, "initialize", params);
    answer.header("mcp-session-id").unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

fn legacy(daemon: &Daemon, id: Option<&str>, method: &str, params: serde_json::Value) -> Answer {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let request: Request = daemon
        .request("POST", "/mcp")
        .header("Accept", "application/json, text/event-stream")
        .json(&body);
    daemon.send(&match id {
        Some(id) => request.header("Mcp-Session-Id", id),
        None => request,
    })
}

#[test]
fn r43_a_wall_clock_that_jumps_changes_neither_order_nor_sessions_nor_limits() {
    let (daemon, clock) = with_clock();
    let mut stream = daemon.events("signals=0");
    let session = session(&daemon);
    let mut seqs = vec![passes(&daemon, &mut stream, "before")];
    let mut years = Vec::new();
    for (offset, id) in [("-3d", "back"), ("+400d", "ahead"), ("+0d", "true-again")] {
        let limits = json!({ "command": "sleep 2", "async": true, "timeout_s": 30 });
        let task = daemon.tool("execute_command", limits)["stream_id"].clone();
        set(&clock, offset);
        seqs.push(passes(&daemon, &mut stream, id));
        years.push(year_of_a_task(&daemon));
        let subject = format!("task/{}", task.as_str().expect("an id"));
        let ends = std::iter::repeat_with(|| stream.next());
        let end = ends
            .map(|event| event.json())
            .find(|event| event["subject"] == subject.as_str() && event["type"] != "task.started");
        let end = end.expect("an endless iterator");
        assert_eq!(end["data"]["exit_code"], 0, "{offset}: {end}");
        let answer = legacy(&daemon, Some(&session), "ping", json!({}));
        assert_eq!(answer.status, 200, "{offset}: the session is gone: {answer:?}");
        assert!(!stream.ends_within(Duration::from_millis(1)), "{offset}: the stream ended");
    }
    assert!(seqs.is_sorted(), "{seqs:?}");
    // A day that never was has made nothing too old.
    let held = daemon.events("types=custom.clock&since=0&signals=0").take(seqs.len());
    assert_eq!(held.iter().map(|event| event.seq()).collect::<Vec<_>>(), seqs);
    // The test is void if the daemon saw no jump.
    println!("clock: tasks were created in {years:?}");
    assert!(years[1] > years[0] && years[2] < years[1], "{years:?}");
    assert!(!daemon.home().logs().contains("panicked"), "{}", daemon.home().logs());
    assert!(daemon.metric("fleetd_http_panics_total") < 1.0);
}
