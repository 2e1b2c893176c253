//! The Events extension (SEP-3415, draft): off unless switched on, poll and push
//! over the journal's cursors.

use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};

use super::rig::{Reader, Rig, request};
use crate::support::{
    Daemon, Home, Pipe, Request, Stream, eventually, eventually_async, reply, rpc,
};

const ID: &str = "io.modelcontextprotocol/subscriptionId";
const EXTENSION: &str = "io.modelcontextprotocol/events";
const ON: &str = "[mcp]\nevents_extension = true\n";

fn ask(daemon: &Daemon, method: &str, params: Value) -> Value {
    reply(&daemon.send(&rpc(daemon, method, None, params)))
}

/// Polls for the ends of commands after `cursor`: their outputs, and the answer.
fn poll(daemon: &Daemon, cursor: &Value) -> (Vec<String>, Value) {
    let params = json!({ "name": "task.completed", "cursor": cursor });
    let answer = ask(daemon, "events/poll", params)["result"].take();
    assert_eq!(answer["resultType"], "complete", "{answer}");
    let events = answer["events"].as_array().unwrap();
    let words = events.iter().map(|event| {
        assert_eq!(event["name"], "task.completed");
        assert_eq!(event["data"]["type"], "task.completed");
        assert_eq!(event["eventId"], event["data"]["id"]);
        assert!(event["timestamp"].is_string() && event.get("cursor").is_none(), "{event}");
        event["data"]["data"]["last_lines"].to_string()
    });
    (words.collect(), answer.clone())
}

fn run(daemon: &Daemon, word: &str) {
    let ran = daemon.tool("execute_command", json!({ "command": format!("echo {word}") }));
    assert_eq!(ran["exitCode"], 0, "{ran}");
}

fn stream(daemon: &Daemon, params: Value) -> Stream {
    Stream::open(daemon.connect(), &rpc(daemon, "events/stream", None, params))
}

#[test]
fn nothing_of_it_is_there_unless_it_is_switched_on() {
    let daemon = Daemon::start();
    let found = ask(&daemon, "server/discover", json!({}))["result"].take();
    assert!(found["capabilities"]["extensions"].get(EXTENSION).is_none(), "{found}");
    for method in ["events/list", "events/poll", "events/stream", "events/subscribe"] {
        let request = rpc(&daemon, method, None, json!({ "name": "task.completed" }));
        let answer = daemon.send(&request);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!(-32601)));
    }
}

#[test]
fn what_is_listed_can_be_polled_once_each_also_after_kill_9() {
    let daemon = Daemon::configured(ON);
    let found = ask(&daemon, "server/discover", json!({}))["result"].take();
    assert_eq!(found["capabilities"]["extensions"][EXTENSION], json!({}), "{found}");
    let listed = ask(&daemon, "events/list", json!({}))["result"].take();
    assert_eq!(listed["resultType"], "complete");
    let kinds = listed["events"].as_array().unwrap();
    let ended = kinds.iter().find(|kind| kind["name"] == "task.completed").unwrap();
    assert_eq!(ended["delivery"], json!(["poll", "push"]));
    assert_eq!(ended["inputSchema"]["additionalProperties"], false);
    assert!(ended["payloadSchema"]["properties"]["data"]["properties"]["exit_code"].is_object());
    assert!(kinds.iter().all(|kind| kind["name"] != "task.output"), "a signal has no place");

    run(&daemon, "early");
    let (none, begun) = poll(&daemon, &Value::Null);
    assert!(none.is_empty(), "null is from now on: {begun}");
    run(&daemon, "one");
    let (first, answer) = poll(&daemon, &begun["cursor"]);
    assert!(first.len() == 1 && first[0].contains("one"), "{answer}");
    assert_eq!((&answer["truncated"], &answer["hasMore"]), (&json!(false), &json!(false)));
    assert!(answer["nextPollMs"].as_u64().unwrap() >= 1000);

    let daemon = daemon.restart_after_kill9();
    run(&daemon, "two");
    let (second, next) = poll(&daemon, &answer["cursor"]);
    assert!(second.len() == 1 && second[0].contains("two"), "{next}");
    assert_eq!(poll(&daemon, &next["cursor"]).0, Vec::<String>::new());
    // The same place is the same events, by their ids too.
    let (again, both) = poll(&daemon, &begun["cursor"]);
    assert_eq!(again.len(), 2, "{both}");
    assert_eq!(both["events"][0]["eventId"], answer["events"][0]["eventId"]);
    // Page by page.
    let some = json!({ "name": "task.completed", "cursor": begun["cursor"], "maxEvents": 1 });
    let page = ask(&daemon, "events/poll", some)["result"].take();
    assert_eq!((page["events"].as_array().unwrap().len(), &page["hasMore"]), (1, &json!(true)));
    assert_eq!(poll(&daemon, &page["cursor"]).0, second);
}

#[test]
fn a_stream_goes_on_exactly_where_kill_9_cut_it() {
    let daemon = Daemon::configured(ON);
    let mut before = stream(&daemon, json!({ "name": "task.completed" }));
    let active = before.next().json();
    assert_eq!(active["method"], "notifications/events/active");
    assert_eq!(
        (&active["params"]["truncated"], &active["params"]["_meta"][ID]),
        (&json!(false), &json!(1))
    );
    run(&daemon, "one");
    let told = before.next().json();
    assert_eq!(told["method"], "notifications/events/event", "{told}");
    assert_eq!(
        (&told["params"]["_meta"][ID], &told["params"]["name"]),
        (&json!(1), &json!("task.completed"))
    );
    assert!(told["params"]["data"]["data"]["last_lines"].to_string().contains("one"), "{told}");
    let daemon = daemon.restart_after_kill9();
    assert!(before.ends_within(Duration::from_secs(2)));
    run(&daemon, "two");
    let cursor = &told["params"]["cursor"];
    let mut after = stream(&daemon, json!({ "name": "task.completed", "cursor": cursor }));
    let active = after.next().json();
    assert_eq!(
        (&active["params"]["cursor"], &active["params"]["truncated"]),
        (cursor, &json!(false))
    );
    run(&daemon, "three");
    for word in ["two", "three"] {
        let told = after.next().json();
        assert!(told["params"]["data"]["data"]["last_lines"].to_string().contains(word), "{told}");
    }
    assert!(after.next_within(Duration::from_millis(200)).is_none(), "exactly once");
    let (_home, _exit) = daemon.terminate(Duration::from_secs(10));
    let last = after.next().json();
    assert_eq!(
        (&last["id"], &last["result"]["resultType"]),
        (&json!(1), &json!("complete")),
        "{last}"
    );
    assert!(after.ends_within(Duration::from_secs(2)));
}

#[test]
fn a_token_is_told_of_its_own_projects_and_no_longer_than_it_is_valid() {
    let daemon = Daemon::configured(ON);
    let token = |name: &str| {
        let made = daemon.fleetctl(&["token", "create", name, "--project", name]).ok().stdout;
        made.trim().to_owned()
    };
    let (red, blue) = (token("red"), token("blue"));
    let as_client = |request: Request, token: &str| request.without("Authorization").bearer(token);
    let call = |token: &str, method: &str, params: Value| {
        as_client(rpc(&daemon, method, None, params), token)
    };
    let begun = daemon.send(&call(&blue, "events/poll", json!({ "name": "task.completed" })));
    let cursor = reply(&begun)["result"]["cursor"].clone();
    let mut streams = [&red, &blue].map(|token| {
        let request = call(token, "events/stream", json!({ "name": "task.completed" }));
        let mut stream = Stream::open(daemon.connect(), &request);
        assert_eq!(stream.next().json()["method"], "notifications/events/active");
        stream
    });
    let params = json!({ "name": "execute_command", "arguments": { "command": "echo secret" } });
    let ran = rpc(&daemon, "tools/call", Some("execute_command"), params);
    assert_eq!(daemon.send(&as_client(ran, &red)).status, 200);
    assert!(streams[0].next().data.contains("secret"));
    assert!(streams[1].next_within(Duration::from_millis(300)).is_none());
    let params = json!({ "name": "task.completed", "cursor": cursor });
    let [theirs, own] = [&blue, &red].map(|token| {
        let answer = daemon.send(&call(token, "events/poll", params.clone()));
        reply(&answer)["result"]["events"].as_array().unwrap().len()
    });
    assert_eq!((theirs, own), (0, 1));
    daemon.fleetctl(&["token", "revoke", "red"]).ok();
    let [mut mine, mut other] = streams;
    assert!(mine.ends_within(Duration::from_secs(1)));
    assert!(!other.ends_within(Duration::from_millis(200)));
}

#[test]
fn a_reload_switches_it_on_and_off() {
    let daemon = Daemon::start();
    let is_on = || ask(&daemon, "events/list", json!({}))["result"]["events"].is_array();
    for (toml, on) in [(ON, true), ("", false)] {
        daemon.home().configure(toml);
        daemon.signal(nix::sys::signal::Signal::SIGHUP);
        eventually("the extension follows the file", || is_on() == on);
    }
}

#[test]
fn streams_share_a_pipe_by_the_ids_of_their_requests_until_they_are_cancelled() {
    let home = Home::new();
    home.configure(ON);
    let mut command = home.fleetd();
    command.args(["--transport", "stdio"]);
    let mut pipe = Pipe::start(command);
    pipe.greet("2025-11-25");
    for (id, name) in [("ends", "task.completed"), ("begins", "task.started")] {
        let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {} });
        let params = json!({ "name": name, "_meta": meta });
        let open =
            json!({ "jsonrpc": "2.0", "id": id, "method": "events/stream", "params": params });
        pipe.send(&open);
        assert_eq!(pipe.notification("notifications/events/active")["_meta"][ID], id);
    }
    pipe.call("execute_command", json!({ "command": "echo one" }));
    for (id, name) in [("begins", "task.started"), ("ends", "task.completed")] {
        let told = pipe.notification("notifications/events/event");
        assert_eq!((&told["_meta"][ID], &told["name"]), (&json!(id), &json!(name)), "{told}");
    }
    pipe.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": { "requestId": "begins" } }));
    pipe.call("execute_command", json!({ "command": "echo two" }));
    let told = pipe.notification("notifications/events/event");
    assert_eq!(told["_meta"][ID], "ends", "a cancelled stream says nothing: {told}");
    pipe.finish(Duration::from_secs(3));
}

fn switched_on() -> Rig {
    let rig = Rig::new();
    rig.mcp.set_events_extension(true);
    rig
}

async fn open(rig: &Rig, params: Value) -> Reader {
    let response = rig.modern_response("events/stream", params).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    Reader::new(response.into_body())
}

#[tokio::test]
async fn what_is_no_longer_held_is_told_as_truncated() {
    let rig = switched_on();
    let old = rig.publish("custom.a", "info").await;
    rig.publish("custom.b", "info").await;
    let rig = rig.restart_in_new_epoch().await;
    rig.mcp.set_events_extension(true);
    let params = json!({ "name": "custom", "cursor": old });
    let polled = rig.modern("events/poll", params.clone()).await.json()["result"].take();
    assert_eq!(polled["truncated"], true, "{polled}");
    let after = json!({ "name": "custom", "cursor": polled["cursor"] });
    let after = rig.modern("events/poll", after).await.json()["result"].take();
    assert_eq!(after["truncated"], false, "told once: {after}");
    let mut stream = open(&rig, params).await;
    let (none, active) = stream.message().await;
    assert_eq!((none, &active["params"]["truncated"]), (None, &json!(true)), "{active}");
    assert_ne!(active["params"]["cursor"], json!(old));
}

#[tokio::test]
async fn a_bound_on_age_skips_what_is_older_and_says_so() {
    let rig = switched_on();
    let begun = rig.bus.head();
    rig.publish("custom.old", "info").await;
    let stored = Instant::now();
    eventually_async("the event is old", async || stored.elapsed() > Duration::from_millis(300))
        .await;
    rig.publish("custom.young", "info").await;
    let poll = async |age: u64| {
        let params = json!({ "name": "custom", "cursor": begun, "maxAgeMs": age });
        let polled = rig.modern("events/poll", params).await.json()["result"].take();
        let events = polled["events"].as_array().unwrap();
        let types = events.iter().map(|event| event["data"]["type"].as_str().unwrap().to_owned());
        (types.collect::<Vec<_>>(), polled["truncated"] == true)
    };
    let all = ["custom.old", "custom.young"].map(str::to_owned).to_vec();
    assert_eq!(poll(3_600_000).await, (all.clone(), false));
    assert_eq!(poll(200).await, (all[1..].to_vec(), true));
}

#[tokio::test]
async fn a_quiet_stream_tells_its_place_twice_in_thirty_seconds() {
    let rig = switched_on();
    let mut stream = open(&rig, json!({ "name": "task.completed" })).await;
    stream.message().await;
    // It moves on although nothing of this concerns it.
    let head = rig.publish("custom.other", "info").await;
    tokio::time::pause();
    for _ in 0..2 {
        tokio::time::advance(Duration::from_millis(15_100)).await;
        let (_, beat) = stream.message().await;
        assert_eq!(beat["method"], "notifications/events/heartbeat", "{beat}");
        assert_eq!(beat["params"], json!({ "cursor": head, "_meta": { ID: 7 } }));
    }
}

#[tokio::test]
async fn arguments_narrow_and_what_cannot_be_is_refused() {
    let rig = switched_on();
    let mut narrow =
        open(&rig, json!({ "name": "custom", "arguments": { "types": ["custom.ci.*"] } })).await;
    narrow.message().await;
    rig.publish("custom.other", "info").await;
    rig.publish("custom.ci.done", "info").await;
    let (_, told) = narrow.message().await;
    assert_eq!(
        (&told["params"]["name"], &told["params"]["data"]["type"]),
        (&json!("custom"), &json!("custom.ci.done"))
    );
    assert!(narrow.is_silent().await);
    let future = format!("{}9", rig.bus.head());
    for (method, params, code) in [
        ("events/poll", json!({ "name": "nothing" }), -32023),
        ("events/stream", json!({ "name": "task.complet" }), -32023),
        ("events/poll", json!({ "name": "custom", "arguments": { "type": [] } }), -32602),
        ("events/stream", json!({ "name": "custom", "arguments": { "type": [] } }), -32602),
        ("events/poll", json!({ "name": "custom", "cursor": future }), -32602),
        ("events/stream", json!({ "name": "custom", "cursor": future }), -32602),
        (
            "events/subscribe",
            json!({ "name": "custom", "delivery": { "url": "https://a" } }),
            -32026,
        ),
        ("events/dance", json!({}), -32601),
    ] {
        let answer = rig.modern(method, params.clone()).await;
        assert_eq!(answer.error_code(), code, "{method} {params}: {answer:?}");
        assert_eq!(answer.json()["id"], 7);
    }
    // A session's revision does not have it.
    let session = rig.session("2025-11-25").await;
    let listed = rig.post(Some(&session), &request(2, "events/list", json!({}))).await;
    assert_eq!(listed.error_code(), -32601);
}
