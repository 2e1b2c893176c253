//! `fleetctl mcp`: the bridge (statements 63 to 66, and its channel).

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Home, PATIENCE, Pipe, distinct_id, eventually, run};

const CHANNEL: &str = "notifications/claude/channel";
const WITHIN: Duration = Duration::from_secs(2);

fn bridge(home: &Home, args: &[&str]) -> Pipe {
    let mut command = home.command(env!("CARGO_BIN_EXE_fleetctl"));
    command.arg("mcp").args(args);
    Pipe::start(command)
}

fn publish(daemon: &Daemon, n: u64) {
    daemon.publish("custom.bridge", &distinct_id("bridge"), json!({ "n": n }));
}

/// The number in the next event of the channel.
#[track_caller]
fn next_number(pipe: &mut Pipe) -> u64 {
    let params = pipe.notification(CHANNEL);
    assert_eq!(params["meta"]["type"], "custom.bridge", "{params}");
    let content: Value = serde_json::from_str(params["content"].as_str().unwrap()).unwrap();
    content["n"].as_u64().unwrap()
}

#[test]
fn m63_m64_a_probe_garbage_or_a_notification_first_then_everything_works() {
    let daemon = Daemon::start();
    let mut pipe = bridge(daemon.home(), &[]);
    pipe.raw(b"not json at all\n");
    assert_eq!(pipe.message()["error"]["code"], -32700);
    pipe.notify("notifications/initialized");
    let probe = pipe.request("server/discover", json!({}));
    assert_eq!(probe["error"]["code"], -32601);
    // A second one on the same daemon: a probe in a process of its own.
    let mut sibling = bridge(daemon.home(), &[]);
    assert_eq!(sibling.request("server/discover", json!({}))["error"]["code"], -32601);
    for revision in ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"] {
        let mut pipe = bridge(daemon.home(), &[]);
        let greeting = pipe.greet(revision)["result"].clone();
        assert_eq!(greeting["protocolVersion"], revision);
        assert_eq!(greeting["capabilities"]["experimental"]["claude/channel"], json!({}));
        assert_eq!(greeting["serverInfo"]["name"], "fleetd");
        assert!(greeting["instructions"].as_str().unwrap().contains("<channel>"));
        let listed = pipe.request("tools/list", json!({}));
        assert!(listed["result"]["tools"].as_array().unwrap().len() > 5, "{listed}");
        let ran = pipe.call("execute_command", json!({ "command": "echo over the bridge" }));
        assert_eq!(ran["stdout"], "over the bridge\n");
        let (status, took) = pipe.finish(WITHIN);
        assert!(status.success() && took < WITHIN, "{status} after {took:?}");
    }
    assert!(pipe.hello("2025-11-25")["result"].is_object());
    assert!(pipe.finish(WITHIN).0.success());
}

#[test]
fn m65_the_answers_to_what_was_sent_come_before_the_end() {
    let daemon = Daemon::start();
    let mut pipe = bridge(daemon.home(), &[]);
    pipe.greet("2025-11-25");
    let wait = json!({ "name": "wait_for_events", "arguments": { "timeout_s": 40 } });
    pipe.send(&json!({ "jsonrpc": "2.0", "id": "long", "method": "tools/call", "params": wait }));
    let version = json!({ "name": "version", "arguments": {} });
    pipe.send(&json!({ "jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": version }));
    assert!(pipe.reply(&json!(9))["result"].is_object());
    let (status, took) = pipe.finish(WITHIN);
    assert!(status.success() && took < WITHIN, "{status} after {took:?}");
}

#[test]
fn m66_an_overlong_line_is_an_error_and_the_next_one_is_served() {
    let daemon = Daemon::start();
    let mut pipe = bridge(daemon.home(), &[]);
    pipe.greet("2025-11-25");
    let chunk = vec![b'x'; 1024 * 1024];
    for _ in 0..40 {
        pipe.raw(&chunk);
    }
    pipe.raw(b"\n");
    let refusal = pipe.message();
    assert_eq!(refusal["error"]["code"], -32600, "{refusal}");
    assert!(pipe.call("version", json!({}))["version"].is_string());
}

#[test]
fn events_wait_until_the_client_is_ready_and_survive_a_killed_daemon() {
    let daemon = Daemon::start();
    let mut pipe = bridge(daemon.home(), &["--types", "custom.>"]);
    pipe.hello("2025-11-25");
    // What happens from here on is told once it is ready.
    publish(&daemon, 1);
    publish(&daemon, 2);
    // The answer comes behind whatever the daemon has let it say by now.
    assert!(pipe.call("version", json!({}))["version"].is_string());
    assert_eq!(pipe.silent_for(Duration::from_millis(300)), None);
    assert!(pipe.told.is_empty(), "{:?}", pipe.told);
    pipe.notify("notifications/initialized");
    assert_eq!((next_number(&mut pipe), next_number(&mut pipe)), (1, 2));
    let home = daemon.kill9();
    // Asked while there is no daemon: it waits for the next one.
    let version = json!({ "name": "version", "arguments": {} });
    pipe.send(&json!({ "jsonrpc": "2.0", "id": 77, "method": "tools/call", "params": version }));
    let daemon = Daemon::start_in(home);
    assert!(pipe.reply(&json!(77))["result"].is_object());
    publish(&daemon, 3);
    assert_eq!(next_number(&mut pipe), 3);
    assert!(pipe.call("version", json!({}))["version"].is_string());
    publish(&daemon, 4);
    assert_eq!(next_number(&mut pipe), 4);
}

#[test]
fn a_kept_place_outlives_the_bridge() {
    let daemon = Daemon::start();
    let args = ["--types", "custom.>", "--as", "kept"];
    let mut pipe = bridge(daemon.home(), &args);
    pipe.greet("2025-11-25");
    publish(&daemon, 1);
    assert_eq!(next_number(&mut pipe), 1);
    // The next event shows that the place of the one before was kept.
    publish(&daemon, 2);
    assert_eq!(next_number(&mut pipe), 2);
    assert!(pipe.finish(WITHIN).0.success());
    publish(&daemon, 3);
    let mut pipe = bridge(daemon.home(), &args);
    pipe.greet("2025-11-25");
    // At least once: the last one may come again.
    let first = next_number(&mut pipe);
    assert!(first == 2 || first == 3, "{first}");
    if first == 2 {
        assert_eq!(next_number(&mut pipe), 3);
    }
}

#[test]
fn without_a_daemon_it_greets_and_serves_as_soon_as_there_is_one() {
    let home = Home::new();
    let mut pipe = bridge(&home, &[]);
    let greeting = pipe.greet("2025-06-18")["result"].clone();
    assert_eq!(greeting["protocolVersion"], "2025-06-18");
    assert!(greeting["instructions"].as_str().unwrap().contains("fleetctl up"));
    assert_eq!(pipe.request("ping", json!({}))["result"], json!({}));
    let refused = pipe.request("tools/list", json!({}));
    assert!(refused["error"]["message"].as_str().unwrap().contains("not running"), "{refused}");
    let daemon = Daemon::start_in(home);
    pipe.notification("notifications/tools/list_changed");
    assert!(pipe.request("tools/list", json!({}))["result"]["tools"].is_array());
    publish(&daemon, 1);
}

#[test]
fn asked_to_it_starts_the_daemon() {
    let home = Home::new();
    let mut pipe = bridge(&home, &["--start"]);
    pipe.greet("2025-11-25");
    assert!(pipe.call("version", json!({}))["version"].is_string());
    assert!(pipe.finish(WITHIN).0.success());
    // It outlives whoever started it.
    home.fleetctl(&["status"]).ok();
}

#[test]
fn a_new_token_ends_the_session_and_the_bridge_begins_another() {
    let daemon = Daemon::start();
    let mut pipe = bridge(daemon.home(), &["--types", "custom.>"]);
    pipe.greet("2025-11-25");
    daemon.fleetctl(&["token", "rotate"]).ok();
    let home = daemon.kill9();
    let daemon = Daemon::start_in(home);
    // Ids of sessions were made under the old token.
    assert!(pipe.call("version", json!({}))["version"].is_string());
    publish(&daemon, 1);
    assert_eq!(next_number(&mut pipe), 1);
}

#[test]
fn the_session_that_it_was_started_by_is_kept() {
    let daemon = Daemon::start();
    let mut command = daemon.home().command(env!("CARGO_BIN_EXE_fleetctl"));
    command.arg("mcp").env("CLAUDE_CODE_SESSION_ID", "5e1c-77").env("SECRET", "not this");
    let mut pipe = Pipe::start(command);
    pipe.greet("2025-11-25");
    assert!(pipe.call("version", json!({}))["version"].is_string());
    let expected = r#"{"claude_code_session":"5e1c-77","client":"pipe"}"#;
    assert_eq!(wakes(&daemon), expected);
    let daemon = daemon.restart_after_kill9();
    assert_eq!(wakes(&daemon), expected);
    assert!(pipe.call("version", json!({}))["version"].is_string());
    // When the client goes in order, there is nobody left to be woken.
    assert!(pipe.finish(WITHIN).0.success());
    eventually("the session has ended", || wakes(&daemon).is_empty());
}

/// How whoever speaks in sessions can be woken, as it is stored.
fn wakes(daemon: &Daemon) -> String {
    let mut look = daemon.home().command("sqlite3");
    look.arg("-readonly").arg(daemon.home().state().join("journal.db"));
    look.arg("SELECT wake FROM session WHERE NOT ended AND principal = 'owner'");
    run(look, b"", PATIENCE).ok().stdout.trim().to_owned()
}

/// Waits for the notice that `uri` has changed.
fn updated(pipe: &mut Pipe, uri: &str) {
    let told = pipe.notification("notifications/resources/updated");
    assert_eq!(told["uri"], uri);
}

/// Passes over what is told until nothing more is, so that the next thing has a cause
/// that comes later.
fn quiet(pipe: &mut Pipe) {
    while pipe.silent_for(Duration::from_millis(300)).is_some() {}
    pipe.told.clear();
}

#[test]
fn what_the_client_watches_and_cancels_goes_through_restarts_and_new_sessions() {
    const EVENTS: &str = "fleet://events";
    let daemon = Daemon::start();
    let mut pipe = bridge(daemon.home(), &["--no-channel"]);
    pipe.greet("2025-11-25");
    let level = pipe.request("logging/setLevel", json!({ "level": "emergency" }));
    assert_eq!(level["result"], json!({}));
    let watch = pipe.request("resources/subscribe", json!({ "uri": EVENTS }));
    assert_eq!(watch["result"], json!({}));
    quiet(&mut pipe);
    publish(&daemon, 1);
    updated(&mut pipe, EVENTS);
    // The session goes on with the next daemon, and so does what it watches.
    let daemon = daemon.restart_after_kill9();
    updated(&mut pipe, EVENTS);
    quiet(&mut pipe);
    publish(&daemon, 2);
    updated(&mut pipe, EVENTS);
    // Under a new token it is another session; the client does not notice.
    daemon.fleetctl(&["token", "rotate"]).ok();
    let daemon = Daemon::start_in(daemon.kill9());
    assert!(pipe.call("version", json!({}))["version"].is_string());
    updated(&mut pipe, EVENTS);
    // That may have been said by the bridge itself; the rest only if it is watched.
    for n in 3..6 {
        quiet(&mut pipe);
        publish(&daemon, n);
        updated(&mut pipe, EVENTS);
    }
    // A call that the client cancels ends there too, and is not answered.
    let wait = json!({ "name": "wait_for_events", "arguments": { "timeout_s": 40 } });
    let before = daemon.metric("fleetd_subscriptions");
    pipe.send(&json!({ "jsonrpc": "2.0", "id": "long", "method": "tools/call", "params": wait }));
    eventually("the wait", || daemon.metric("fleetd_subscriptions") > before);
    pipe.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": { "requestId": "long" } }));
    eventually("its end", || daemon.metric("fleetd_subscriptions") <= before);
    assert!(pipe.call("version", json!({}))["version"].is_string());
    assert!(pipe.told.iter().all(|told| told["method"] != "notifications/message"));
}
