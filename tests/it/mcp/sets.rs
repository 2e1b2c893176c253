//! Sets of tools: by address, by header, by token; in every era and transport.

use std::time::Duration;

use fleetd::model::Principal;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::rig::{Answer, MODERN, Reader, Rig, initialize, read, request};
use crate::support::{Daemon, Home, PATIENCE, Pipe, Request, reply, rpc, run};

const EVENT: [&str; 3] = ["list_events", "wait_for_events", "publish_event"];
const TASK: [&str; 6] =
    ["execute_command", "monitor_task", "list_tasks", "stop_task", "execute_prompt", "stop_prompt"];

fn names(answer: &Value) -> Vec<&str> {
    let tools = answer["result"]["tools"].as_array().unwrap_or_else(|| panic!("{answer}"));
    tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

/// A header that names sets, or none.
type Header<'a> = Option<(&'a str, &'a str)>;

async fn post(rig: &Rig, address: &str, extra: &[(&str, &str)], message: &Value) -> Answer {
    let mut headers = vec![
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    headers.extend(extra);
    let owner = Principal::owner();
    read(rig.send_to(address, owner, Method::POST, &headers, &message.to_string()).await).await
}

/// A request of the stateless era.
async fn modern(rig: &Rig, at: &str, sets: Header<'_>, method: &str, mut params: Value) -> Answer {
    params["_meta"] = json!({ "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {} });
    let name = params["name"].as_str().unwrap_or("none").to_owned();
    let mut headers =
        vec![("mcp-protocol-version", MODERN), ("mcp-method", method), ("mcp-name", name.as_str())];
    headers.extend(sets);
    post(rig, at, &headers, &request(7, method, params)).await
}

#[tokio::test]
async fn the_default_set_is_small_and_every_tool_explains_itself() {
    let rig = Rig::new();
    let listed = modern(&rig, "/mcp", None, "tools/list", json!({})).await;
    let compact = listed.json()["result"]["tools"].to_string();
    assert!(compact.len() < 25_000, "{} bytes of every client's context", compact.len());
    assert!(listed.body.len() < 25_000, "{}", listed.body.len());
    assert!(names(&listed.json()).len() <= 15);
    let everything = modern(&rig, "/mcp/x/all", None, "tools/list", json!({})).await.json();
    for tool in everything["result"]["tools"].as_array().unwrap() {
        let name = tool["name"].as_str().unwrap();
        assert!(tool["title"].as_str().is_some_and(|title| !title.is_empty()), "{name}");
        assert!(tool["description"].as_str().is_some_and(|text| text.len() > 20), "{name}");
        assert_eq!(tool["annotations"]["title"], tool["title"], "{name}");
        for hint in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
            assert!(tool["annotations"][hint].is_boolean(), "{name} {hint}");
        }
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{name}");
        assert_eq!(tool["outputSchema"]["type"], "object", "{name}");
    }
    // The same bytes from another daemon: nothing of it depends on a hash.
    let other = modern(&Rig::new(), "/mcp/x/all", None, "tools/list", json!({})).await.json();
    assert_eq!(everything["result"]["tools"].to_string(), other["result"]["tools"].to_string());
    let found = modern(&rig, "/mcp", None, "server/discover", json!({})).await.json();
    let instructions = found["result"]["instructions"].as_str().unwrap().to_owned();
    assert!(instructions.contains("Never poll") && instructions.contains("wait_for_events"));
}

#[tokio::test]
async fn an_address_or_a_header_chooses_in_the_stateless_era() {
    let rig = Rig::new();
    let list = async |at: &str, sets: Header<'_>| {
        modern(&rig, at, sets, "tools/list", json!({})).await.json()
    };
    assert_eq!(names(&list("/mcp/x/event", None).await), EVENT);
    assert_eq!(names(&list("/mcp", Some(("fleetd-tools", "event"))).await), EVENT);
    let both = [TASK.as_slice(), &EVENT].concat();
    assert_eq!(names(&list("/mcp/x/event,task", None).await), both);
    assert_eq!(names(&list("/mcp/x/event", Some(("fleetd-tools", "task"))).await), both);
    // What is not offered is not called either, and said where it is.
    let call = json!({ "name": "list_tasks", "arguments": {} });
    let refused = modern(&rig, "/mcp/x/event", None, "tools/call", call.clone()).await;
    assert_eq!(refused.error_code(), -32602, "{refused:?}");
    let said = refused.json()["error"]["message"].to_string();
    assert!(said.contains("'list_tasks'") && said.contains("/mcp/x/task"), "{said}");
    let called = modern(&rig, "/mcp/x/task", None, "tools/call", call).await.json();
    assert_eq!(called["result"]["isError"], false, "{called}");
}

#[tokio::test]
async fn an_unknown_set_is_refused_with_what_there_is() {
    let rig = Rig::new();
    let header = Some(("fleetd-tools", "tsk"));
    for (at, sets, status) in [("/mcp/x/tsk", None, 404), ("/mcp", header, 400)] {
        for answer in [
            modern(&rig, at, sets, "tools/list", json!({})).await,
            post(&rig, at, sets.as_slice(), &initialize("2025-11-25")).await,
        ] {
            assert_eq!(answer.status.as_u16(), status, "{answer:?}");
            let error = answer.json();
            assert!(error["id"].is_u64(), "{error}");
            let message = error["error"]["message"].as_str().unwrap();
            assert!(message.contains("'tsk'") && message.contains("did you mean 'task'?"));
            assert_eq!(error["error"]["data"]["sets"][0], "default", "{error}");
        }
    }
}

#[tokio::test]
async fn a_session_keeps_the_sets_it_began_with() {
    let mut rig = Rig::new();
    let header = Some(("fleetd-tools", "event"));
    for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        for (at, sets) in [("/mcp/x/event", None), ("/mcp", header)] {
            let begun = post(&rig, at, sets.as_slice(), &initialize(revision)).await;
            let session = begun.session.unwrap();
            rig = rig.restart().await;
            let listed = rig.post(Some(&session), &request(2, "tools/list", json!({}))).await;
            assert_eq!(names(&listed.json()), EVENT, "{revision} {at}");
            let call = request(3, "tools/call", json!({ "name": "version", "arguments": {} }));
            // Whatever its later requests say.
            let headers = [("mcp-session-id", session.as_str())];
            let refused = post(&rig, "/mcp/x/all", &headers, &call).await;
            assert_eq!(refused.error_code(), -32602, "{refused:?}");
        }
    }
}

#[tokio::test]
async fn http_sse_has_sets_too() {
    let rig = Rig::new();
    let header = Some(("fleetd-tools", "event"));
    for (at, sets) in [("/sse/x/event", None), ("/mcp/x/event", None), ("/sse", header)] {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(sets);
        let owner = Principal::owner();
        let response = rig.send_to(at, owner, Method::GET, &headers, "").await;
        assert_eq!(response.status(), StatusCode::OK, "{at}");
        let mut stream = Reader::new(response.into_body());
        let endpoint = stream.next().await.unwrap().data.unwrap();
        for message in [initialize("2024-11-05"), request(2, "tools/list", json!({}))] {
            assert_eq!(post(&rig, &endpoint, &[], &message).await.status, StatusCode::ACCEPTED);
        }
        assert_eq!(stream.message().await.1["id"], 1);
        assert_eq!(names(&stream.message().await.1), EVENT, "{at}");
    }
}

#[test]
fn programs_that_serve_stdio_are_told_their_sets() {
    let (home, daemon) = (Home::new(), Daemon::start());
    let mut own = home.fleetd();
    own.args(["--transport", "stdio", "--tools", "event"]);
    let bridge = daemon.home().fleetctl_command(&["mcp", "--no-channel", "--tools", "event"]);
    for command in [own, bridge] {
        let mut pipe = Pipe::start(command);
        pipe.greet("2025-11-25");
        assert_eq!(names(&pipe.request("tools/list", json!({}))), EVENT);
        pipe.finish(Duration::from_secs(3));
    }
    let mut over_http = home.fleetd();
    over_http.args(["--tools", "event"]);
    let refused = run(over_http, b"", PATIENCE);
    assert!(refused.code() == 2 && refused.stderr.contains("/mcp/x/SET"), "{refused:?}");
    let configured = |args: &[&str]| {
        let all = [&["mcp-config", "--client", "claude", "--tools", "task,event"], args].concat();
        let text = daemon.fleetctl(&all).ok().stdout;
        serde_json::from_str::<Value>(&text).unwrap()["mcpServers"]["fleet"].take()
    };
    let url = configured(&[])["url"].as_str().unwrap().to_owned();
    assert!(url.ends_with("/mcp/x/task,event"), "{url}");
    let url = configured(&["--transport", "sse"])["url"].as_str().unwrap().to_owned();
    assert!(url.ends_with("/sse/x/task,event"), "{url}");
    let args = configured(&["--transport", "stdio"])["args"].take();
    assert_eq!(args, json!(["mcp", "--tools", "task,event"]));
    // And the address that was written is one.
    let path = url.strip_prefix(&format!("http://{}", daemon.host())).unwrap();
    let get = daemon.request("GET", path).header("Accept", "text/event-stream");
    let stream = crate::support::Stream::open(daemon.connect(), &get);
    drop(stream);
    assert_eq!(daemon.fleetctl(&["token", "create", "x", "--tools", "tasks"]).code(), 2);
}

fn create(daemon: &Daemon, args: &[&str]) -> String {
    let all = [&["token", "create"], args].concat();
    daemon.fleetctl(&all).ok().stdout.trim().to_owned()
}

#[test]
fn a_token_of_some_sets_sees_and_calls_no_other_tools() {
    let daemon = Daemon::start();
    // What it started when it could do more is its own, and stays so.
    let more = create(&daemon, &["watcher"]);
    let run = json!({ "name": "execute_command",
        "arguments": { "command": "sleep 600", "async": true, "open_stdin": true } });
    let run = rpc(&daemon, "tools/call", Some("execute_command"), run);
    let own = reply(&daemon.send(&run.without("Authorization").bearer(&more)));
    let own = own["result"]["structuredContent"]["stream_id"].as_str().unwrap().to_owned();
    daemon.fleetctl(&["token", "revoke", "watcher"]).ok();
    let token = create(&daemon, &["watcher", "--tools", "event", "--tools", "fleet"]);
    let daemon = daemon.restart_after_kill9();
    let call = |method: &str, name: Option<&str>, params: Value| -> Value {
        let request: Request = rpc(&daemon, method, name, params);
        reply(&daemon.send(&request.without("Authorization").bearer(&token)))
    };
    let seen = call("tools/list", None, json!({}));
    let all = [EVENT.as_slice(), &["fleet_status", "version"]].concat();
    assert_eq!(names(&seen), all);
    for tool in TASK {
        let params = json!({ "name": tool, "arguments": {} });
        let refused = call("tools/call", Some(tool), params);
        assert_eq!(refused["result"]["isError"], true, "{refused}");
        assert_eq!(refused["result"]["_meta"]["fleetd/error"]["code"], "forbidden", "{refused}");
    }
    let params = json!({ "name": "version", "arguments": {} });
    assert_eq!(call("tools/call", Some("version"), params)["result"]["isError"], false);
    // No other way leads to what its tools cannot do.
    let path = format!("/tasks/{own}/input?offset=0&end=1");
    let input = daemon.request("POST", &path).without("Authorization").bearer(&token);
    assert_eq!(daemon.send(&input.body("application/octet-stream", b"")).status, 403);
    let task = |method: &str| {
        let message = request(
            1,
            method,
            json!({ "taskId": own, "_meta": {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {
                "extensions": { "io.modelcontextprotocol/tasks": {} } } } }),
        );
        let post = daemon.request("POST", "/mcp").without("Authorization").bearer(&token);
        let post = post.header("MCP-Protocol-Version", MODERN).header("Mcp-Method", method);
        let post = post.header("Accept", "application/json, text/event-stream");
        reply(&daemon.send(&post.header("Mcp-Name", &own).json(&message)))
    };
    assert_eq!(task("tasks/get")["result"]["status"], "working");
    let refused = task("tasks/cancel")["error"].take();
    assert_eq!(refused["code"], -32602, "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("may not stop"), "{refused}");
    assert_eq!(task("tasks/get")["result"]["status"], "working");
    let listed = daemon.fleetctl(&["token", "list"]).ok().stdout;
    let row = listed.lines().find(|line| line.starts_with("watcher")).unwrap();
    assert!(
        row.contains("event fleet") && row.contains("read publish") && !row.contains("run"),
        "{row}"
    );
    let reader = create(&daemon, &["looker", "--tools", "fleet"]);
    let publish = daemon.request("POST", "/events").without("Authorization").bearer(&reader);
    let event = json!({ "specversion": "1.0", "type": "custom.x", "source": "t", "id": "1" });
    let body = event.to_string();
    let publish = publish.body("application/cloudevents+json", body.as_bytes());
    assert_eq!(daemon.send(&publish).status, 403);
}

#[test]
fn s08_fleet_status_counts_only_what_its_caller_may_see() {
    let daemon = Daemon::start();
    let blue = create(&daemon, &["blue", "--project", "blue"]);
    let call = |token: &str, tool: &str, arguments: Value| {
        let params = json!({ "name": tool, "arguments": arguments });
        let request = rpc(&daemon, "tools/call", Some(tool), params);
        let answer = daemon.send(&request.without("Authorization").bearer(token));
        reply(&answer)["result"]["structuredContent"].take()
    };
    let long = json!({ "command": "sleep 600", "async": true });
    daemon.tool("execute_command", long.clone());
    let before = call(&blue, "fleet_status", json!({}));
    let member = &before["members"][0];
    assert_eq!((&member["running"], &member["queued"]), (&json!(0), &json!(0)), "{before}");
    for hidden in ["/subscriptions", "/journal/events", "/journal/bytes", "/members/0/load_1m"] {
        assert_eq!(before.pointer(hidden), Some(&Value::Null), "{hidden}: {before}");
    }
    call(&blue, "execute_command", long);
    let after = call(&blue, "fleet_status", json!({}));
    assert_eq!(after["members"][0]["running"], 1, "{after}");
    assert_eq!(after["members"][0]["tasks"].as_array().unwrap().len(), 1);
    let all = daemon.tool("fleet_status", json!({}));
    assert_eq!(all["members"][0]["running"], 2, "{all}");
    assert!(all["journal"]["events"].is_u64() && all["subscriptions"].is_u64(), "{all}");
}
