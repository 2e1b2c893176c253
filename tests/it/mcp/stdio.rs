//! `fleetd --transport stdio`: both eras on a pipe (statements 63 to 66).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Home, Pipe};

const WITHIN: Duration = Duration::from_secs(2);

fn fleetd(home: &Home) -> Pipe {
    let mut command = home.fleetd();
    command.args(["--transport", "stdio"]);
    Pipe::start(command)
}

/// The parameters of a request of the stateless era.
fn modern(mut params: Value) -> Value {
    params["_meta"] = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {} });
    params
}

#[test]
fn m63_m64_both_eras_on_one_pipe_after_garbage_and_a_notification() {
    let home = Home::new();
    let mut pipe = fleetd(&home);
    pipe.raw(b"\xff garbage\n");
    assert_eq!(pipe.message()["error"]["code"], -32700);
    pipe.notify("notifications/initialized");
    let found = pipe.request("server/discover", modern(json!({})));
    assert!(found["result"]["supportedVersions"].is_array(), "{found}");
    let ran = modern(json!({ "name": "execute_command", "arguments": { "command": "echo one" } }));
    let ran = pipe.request("tools/call", ran);
    assert_eq!(ran["result"]["structuredContent"]["stdout"], "one\n", "{ran}");
    let greeting = pipe.greet("2025-06-18");
    assert_eq!(greeting["result"]["protocolVersion"], "2025-06-18", "{greeting}");
    let ran = pipe.call("execute_command", json!({ "command": "echo two" }));
    assert_eq!(ran["stdout"], "two\n");
    // A second process at the same time has a fleet of its own.
    let mut sibling = fleetd(&home);
    sibling.greet("2025-11-25");
    let tasks = sibling.call("list_tasks", json!({}));
    assert_eq!(tasks["tasks"], json!([]));
    for pipe in [pipe, sibling] {
        let (status, took) = pipe.finish(WITHIN);
        assert!(status.success() && took < WITHIN, "{status} after {took:?}");
    }
}

#[test]
fn m65_tasks_outlive_the_pipe_and_the_next_one_finds_them() {
    let home = Home::new();
    let mut pipe = fleetd(&home);
    pipe.greet("2025-11-25");
    let started = json!({ "command": "sleep 600", "async": true });
    let id = pipe.call("execute_command", started)["stream_id"].as_str().unwrap().to_owned();
    let wait = json!({ "name": "wait_for_events", "arguments": { "timeout_s": 40 } });
    pipe.send(&json!({ "jsonrpc": "2.0", "id": "long", "method": "tools/call", "params": wait }));
    let (status, took) = pipe.finish(WITHIN);
    assert!(status.success() && took < WITHIN, "{status} after {took:?}");
    let mut pipe = fleetd(&home);
    pipe.greet("2025-11-25");
    let shown = pipe.call("monitor_task", json!({ "task_id": id }));
    assert_eq!(shown["tasks"][0]["state"], "running", "{shown}");
    assert_eq!(pipe.call("stop_task", json!({ "task_id": id }))["task"]["state"], "cancelled");
}

#[test]
fn an_event_is_pushed_in_both_eras() {
    let home = Home::new();
    let mut pipe = fleetd(&home);
    pipe.greet("2025-11-25");
    pipe.call("publish_event", json!({ "type": "custom.pushed" }));
    let pushed = pipe.notification("notifications/message");
    assert_eq!(pushed["logger"], "custom.pushed", "what follows `initialized` is pushed");
    pipe.told.clear();
    let uris = json!({ "notifications": { "resourceSubscriptions": ["fleet://events"] } });
    let listen = json!({ "jsonrpc": "2.0", "id": "l", "method": "subscriptions/listen",
        "params": modern(uris) });
    pipe.send(&listen);
    let accepted = pipe.notification("notifications/subscriptions/acknowledged");
    let subscription = "io.modelcontextprotocol/subscriptionId";
    assert_eq!(accepted["_meta"][subscription], "l", "{accepted}");
}

#[test]
fn who_shakes_hands_again_is_told_everything_once() {
    let home = Home::new();
    let mut pipe = fleetd(&home);
    pipe.greet("2025-11-25");
    pipe.greet("2025-11-25");
    let event = json!({ "type": "custom.once", "data": {} });
    assert!(pipe.call("publish_event", event)["cursor"].is_string());
    assert_eq!(pipe.notification("notifications/message")["logger"], "custom.once");
    assert_eq!(pipe.silent_for(Duration::from_millis(500)), None);
    assert!(pipe.told.is_empty(), "{:?}", pipe.told);
}

#[test]
fn a_batch_does_not_keep_the_pipe_from_being_read() {
    let home = Home::new();
    let mut pipe = fleetd(&home);
    pipe.greet("2025-03-26");
    let call = |id: u64, tool: &str, arguments: Value| {
        let params = json!({ "name": tool, "arguments": arguments });
        json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
    };
    let until = json!({ "types": ["custom.go"], "timeout_s": 40 });
    let batch = json!([call(101, "version", json!({})), call(102, "wait_for_events", until)]);
    pipe.send(&batch);
    // Until the wait has begun it may miss what is published, so it is said until it is heard.
    let mut ids = Vec::new();
    while ids.len() < 2 {
        pipe.send(&call(200, "publish_event", json!({ "type": "custom.go" })));
        loop {
            let line: Value = pipe.any();
            let many = line.as_array().cloned().unwrap_or_else(|| vec![line]);
            ids.extend(many.iter().filter_map(|m| m["id"].as_u64()).filter(|id| *id != 200));
            if many.iter().any(|message| message["id"] == 200) {
                break;
            }
        }
    }
    ids.sort_unstable();
    assert_eq!(ids, [101, 102]);
}

#[test]
fn m66_an_overlong_line_is_an_error_and_the_next_one_is_served() {
    let home = Home::new();
    let mut pipe = fleetd(&home);
    let chunk = vec![b'x'; 1024 * 1024];
    for _ in 0..20 {
        pipe.raw(&chunk);
    }
    pipe.raw(b"\n");
    assert_eq!(pipe.message()["error"]["code"], -32600);
    pipe.greet("2025-11-25");
    assert!(pipe.call("version", json!({}))["version"].is_string());
}
