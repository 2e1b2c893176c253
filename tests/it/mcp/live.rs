//! The same over real sockets: what shutting down and being killed do to it.

use std::time::Duration;

use serde_json::{Value, json};

use super::rig::MODERN;
use crate::support::{Daemon, Faults, Home, Request, Stream, distinct_id, eventually, reply};

fn with_tasks(mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {
            "extensions": { "io.modelcontextprotocol/tasks": {} },
        },
    });
    params
}

fn ask(daemon: &Daemon, method: &str, name: &str, params: Value) -> Request {
    let message =
        json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": with_tasks(params) });
    let request = daemon
        .request("POST", "/mcp")
        .header("Accept", "application/json, text/event-stream")
        .header("MCP-Protocol-Version", MODERN)
        .header("Mcp-Method", method)
        .json(&message);
    if name.is_empty() { request } else { request.header("Mcp-Name", name) }
}

#[test]
fn s55_a_graceful_stop_completes_what_listens() {
    let daemon = Daemon::start();
    let filter = json!({ "notifications": { "resourceSubscriptions": ["fleet://events"] } });
    let request = ask(&daemon, "subscriptions/listen", "", filter);
    let mut stream = Stream::open(daemon.connect(), &request);
    let ack = stream.next().json();
    assert_eq!(ack["method"], "notifications/subscriptions/acknowledged");
    let (_home, _exit) = daemon.terminate(Duration::from_secs(10));
    let mut last = stream.next().json();
    while last["method"] == "notifications/resources/updated" {
        last = stream.next().json();
    }
    assert_eq!(last["result"]["resultType"], "complete", "{last}");
    assert!(stream.ends_within(Duration::from_secs(2)));
}

/// Opens a listening stream and reads its acknowledgement.
fn listen(daemon: &Daemon) -> Stream {
    let filter = json!({ "notifications": { "resourceSubscriptions": ["fleet://events"] } });
    let request = ask(daemon, "subscriptions/listen", "", filter);
    let mut stream = Stream::open(daemon.connect(), &request);
    assert_eq!(stream.next().json()["method"], "notifications/subscriptions/acknowledged");
    stream
}

/// Reads what followed `cursor`, and the cursor to go on with.
fn followed(daemon: &Daemon, cursor: &str) -> (Vec<String>, String) {
    let uri = format!("fleet://events?since={cursor}");
    let read = ask(daemon, "resources/read", &uri, json!({ "uri": uri }));
    let answer = reply(&daemon.send(&read));
    let text =
        answer["result"]["contents"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"));
    let content: Value = serde_json::from_str(text).unwrap();
    let events = content["events"].as_array().unwrap().iter();
    let own = events.filter(|event| event["type"] == "custom.counted");
    let ids = own.map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    (ids, content["cursor"].as_str().unwrap().to_owned())
}

#[test]
fn s55_who_listens_again_after_kill_9_and_reads_by_cursor_misses_nothing() {
    let mut daemon = Daemon::start();
    let (_, mut cursor) = followed(&daemon, "0");
    let (mut published, mut seen) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let mut stream = listen(&daemon);
        for n in 0..5 {
            let id = format!("counted-{round}-{n}");
            daemon.publish("custom.counted", &id, json!({}));
            published.push(id);
            // Told, read; and in each round the last ones are neither.
            if n < 3 {
                assert_eq!(stream.next().json()["params"]["uri"], "fleet://events");
                let (ids, next) = followed(&daemon, &cursor);
                (cursor, seen) = (next, [seen, ids].concat());
            }
        }
        daemon = daemon.restart_after_kill9();
        let _again = listen(&daemon);
        let (ids, next) = followed(&daemon, &cursor);
        (cursor, seen) = (next, [seen, ids].concat());
    }
    assert_eq!(seen, published, "each once, in order");
}

#[test]
fn s60_a_task_is_there_after_kill_9() {
    let daemon = Daemon::start();
    let call = json!({ "name": "execute_command", "arguments": { "command": "sleep 1; echo on" } });
    let begun = daemon.send(&ask(&daemon, "tools/call", "execute_command", call));
    let begun = reply(&begun)["result"].take();
    assert_eq!(begun["resultType"], "task", "{begun}");
    let id = begun["taskId"].as_str().unwrap().to_owned();
    let daemon = daemon.restart_after_kill9();
    let mut task = Value::Null;
    eventually("the end of the task", || {
        let get = ask(&daemon, "tasks/get", &id, json!({ "taskId": id }));
        task = reply(&daemon.send(&get))["result"].take();
        task["status"] != "working"
    });
    assert_eq!(task["status"], "completed", "{task}");
    assert_eq!(task["result"]["structuredContent"]["stdout"], "on\n");
}

#[test]
fn s12_to_16_http_sse_over_tcp() {
    let daemon = Daemon::start();
    let get = daemon.request("GET", "/sse").header("Accept", "text/event-stream");
    let mut stream = Stream::open(daemon.connect(), &get);
    let endpoint = stream.next();
    assert_eq!(endpoint.name, "endpoint");
    let post = |message: &Value| daemon.send(&daemon.request("POST", &endpoint.data).json(message));
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2024-11-05",
        "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" },
    }});
    assert_eq!(post(&hello).status, 202);
    assert_eq!(stream.next().json()["result"]["protocolVersion"], "2024-11-05");
    let nobody = daemon.request("POST", &endpoint.data).json(&hello).without("Authorization");
    assert_eq!(daemon.send(&nobody).status, 401);
    drop(stream);
    eventually("the end of the session", || post(&hello).status == 404);
}

/// A session of the era with sessions.
fn session(daemon: &Daemon) -> String {
    let hello = daemon.request("POST", "/mcp").json(&super::rig::initialize("2025-11-25"));
    daemon.send(&hello).header("mcp-session-id").expect("a session").to_owned()
}

fn in_session(daemon: &Daemon, session: &str, method: &str, params: Value) -> Request {
    let id = distinct_id("call");
    let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    let post = daemon.request("POST", "/mcp").header("Accept", "text/event-stream");
    post.header("Mcp-Session-Id", session).json(&message)
}

#[test]
fn s10_the_end_of_a_session_ends_what_it_waits_for_and_no_task() {
    let daemon = Daemon::start();
    let session = session(&daemon);
    let before = daemon.metric("fleetd_subscriptions");
    let gate = daemon.home().path().join("gate");
    let command = format!("while [ ! -e '{}' ]; do sleep 0.02; done", gate.display());
    let call = |name: &str, arguments: Value| {
        let params = json!({ "name": name, "arguments": arguments });
        let request = in_session(&daemon, &session, "tools/call", params);
        Stream::open(daemon.connect(), &request)
    };
    let mut runs = call("execute_command", json!({ "command": command, "on_cancel": "stop" }));
    let mut waits = call("wait_for_events", json!({ "timeout_s": 40, "types": ["custom.>"] }));
    eventually("both wait", || daemon.metric("fleetd_subscriptions") >= before + 1.0);
    let delete = daemon.request("DELETE", "/mcp").header("Mcp-Session-Id", &session);
    assert_eq!(daemon.send(&delete).status, 204);
    for stream in [&mut runs, &mut waits] {
        assert!(stream.ends_within(Duration::from_secs(2)));
    }
    eventually("nobody waits", || daemon.metric("fleetd_subscriptions") <= before);
    std::fs::write(gate, "").unwrap();
    let mut ends = daemon.events("since=0&types=task.*");
    assert_eq!(ends.next_named("task.completed").json()["data"]["exit_code"], 0);
}

#[test]
fn r49_a_stream_opens_while_the_disk_does_not_answer() {
    let faults = Faults::new();
    let daemon = faults.start(Home::new());
    let session = session(&daemon);
    let level = in_session(&daemon, &session, "logging/setLevel", json!({ "level": "notice" }));
    assert_eq!(reply(&daemon.send(&level))["result"], json!({}));
    faults.hold();
    let get = daemon.request("GET", "/mcp").header("Accept", "text/event-stream");
    let get = get.header("Mcp-Session-Id", &session);
    let stream = Stream::try_open(daemon.connect(), &get);
    faults.release();
    drop(stream.expect("the stream"));
}
