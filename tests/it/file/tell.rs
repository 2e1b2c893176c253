//! What is told of a transfer, and to whom.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::rig::{begin, home, look, noise, start, until_ended, work};
use crate::support::{Request, reply};

#[test]
fn progress_is_pushed_and_the_end_comes_once() {
    let rig = start();
    let (from, text) = home(&rig, "big");
    fs::write(&from, noise(48 << 20)).unwrap();
    let mut stream = rig.daemon.events("types=transfer.*");
    let begun = Instant::now();
    let id = begin(&rig, "send_files", json!({ "local_paths": [text], "member_name": "web" }));
    let shown = look(&rig, &id);
    assert_eq!((&shown["state"], &shown["member"]), (&json!("running"), &json!("web")));
    let listed = rig.daemon.tool("list_tasks", json!({ "states": ["running"] }));
    assert_eq!(listed["tasks"][0]["task_id"], json!(id), "{listed}");
    let (topic, data, progress) = until_ended(&mut stream);
    let most = begun.elapsed().as_millis() / 50 + 3;
    assert_eq!(topic, "transfer.completed");
    assert!(progress.len() >= 3, "{} signals", progress.len());
    assert!(progress.len() as u128 <= most, "{} signals, {most} at most", progress.len());
    let bytes: Vec<_> = progress.iter().map(|data| data["bytes"].as_u64().unwrap()).collect();
    assert!(bytes.is_sorted(), "{bytes:?}");
    let last = progress.last().unwrap();
    assert_eq!((&last["bytes"], &last["files"]), (&json!(48 << 20), &json!(1)));
    assert!(progress.iter().all(|data| data["task_id"] == json!(id) && data["member"] == "web"));
    assert_eq!((&data["files"], &data["total_bytes"]), (&json!(1), &json!(48 << 20)), "{data}");
    assert!(data.get("reason").is_none() && data["duration_ms"].as_u64().unwrap() > 0);
    assert_eq!(rig.topics(&["transfer.*"]), ["transfer.completed"]);
    // One stream follows one transfer.
    let query = format!("stream_id={id}&since=0");
    let mut narrow = rig.daemon.events(&query);
    assert_eq!(narrow.next_named("transfer.completed").json()["subject"], format!("task/{id}"));
    let shown = look(&rig, &id);
    assert_eq!(
        (&shown["state"], &shown["transfer"]["done"]["files"]),
        (&json!("completed"), &json!(1))
    );
}

#[test]
fn fleetctl_says_what_became_of_it() {
    let rig = start();
    let (from, text) = home(&rig, "f");
    fs::write(&from, "x").unwrap();
    let out = rig.daemon.fleetctl(&["cp", "--json", &text, "web:in"]).ok();
    let view: Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!(
        (&view["state"], &view["transfer"]["done"]["bytes"]),
        (&json!("completed"), &json!(1))
    );
    let out = rig.daemon.fleetctl(&["cp", "--detach", &text, "web:in"]).ok();
    let listed = rig.daemon.fleetctl(&["tasks", "show", out.stdout.trim()]).ok();
    assert!(listed.stdout.contains("send "), "{listed:?}");
    let failed = rig.daemon.fleetctl(&["cp", "/no/such", "web:in"]);
    assert_eq!(failed.code(), 1);
    assert!(failed.stderr.contains("there is no '/no/such'"), "{failed:?}");
    let usage = rig.daemon.fleetctl(&["cp", &text, "nobody:in"]);
    assert_ne!(usage.code(), 0);
    assert!(usage.stderr.contains("no member 'nobody'"), "{usage:?}");
    // A relative path is of the folder that fleetctl runs in, a pattern too.
    rig.daemon.fleetctl(&["cp", "f*", "web:rel"]).ok();
    assert_eq!(fs::read_to_string(work(&rig).join("rel/f")).unwrap(), "x");
    // On a terminal there is a bar.
    fs::write(&from, noise(32 << 20)).unwrap();
    let shown = crate::support::run(
        rig.daemon.home().fleetctl_at_terminal("cp f web:bar"),
        b"",
        Duration::from_secs(60),
    );
    assert!(shown.stdout.contains("MiB") && shown.stdout.contains('%'), "{shown:?}");
}

#[test]
fn a_token_copies_only_what_it_may() {
    let rig = start();
    let (from, text) = home(&rig, "f");
    fs::write(&from, "x").unwrap();
    let id = begin(&rig, "send_files", json!({ "local_paths": [text], "member_name": "web" }));
    rig.daemon.fleetctl(&["members", "update", "web", "--project", "red"]).ok();
    let token = |args: &[&str]| {
        let all = [&["token", "create"], args].concat();
        rig.daemon.fleetctl(&all).ok().stdout.trim().to_owned()
    };
    let blue = token(&["blue", "--project", "blue"]);
    let reader = token(&["reader", "--project", "red", "--read-only"]);
    let red = token(&["red", "--project", "red"]);
    let call = |token: &str, tool: &str, arguments: Value| {
        let params = json!({ "name": tool, "arguments": arguments, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "t", "version": "0" },
            "io.modelcontextprotocol/clientCapabilities": {} } });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        let request = Request::new("POST", "/mcp/x/all").host(&rig.daemon.host()).bearer(token);
        let request = request
            .header("Accept", "application/json, text/event-stream")
            .header("MCP-Protocol-Version", "2026-07-28")
            .header("Mcp-Method", "tools/call")
            .header("Mcp-Name", tool);
        reply(&rig.daemon.send(&request.json(&body)))["result"].clone()
    };
    let sending = || json!({ "local_paths": [text], "member_name": "web" });
    let said =
        |result: &Value| result["content"][0]["text"].as_str().unwrap_or_default().to_owned();
    let refused = call(&blue, "send_files", sending());
    assert!(said(&refused).contains("no member 'web'"), "{refused}");
    let refused = call(&reader, "send_files", sending());
    assert!(refused["isError"] == true && said(&refused).contains("may not call"), "{refused}");
    let sent = call(&red, "send_files", sending());
    assert_eq!(sent["structuredContent"]["status"], "completed", "{sent}");
    for tool in ["monitor_task", "stop_task"] {
        let refused = call(&red, tool, json!({ "task_id": id }));
        assert!(said(&refused).contains("no task"), "{tool}: {refused}");
    }
}
