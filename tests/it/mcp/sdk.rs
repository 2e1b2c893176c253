//! A client that others wrote: the official TypeScript SDK, with nothing but
//! what `fleetctl mcp-config` prints.

use std::path::Path;

use serde_json::{Value, json};

use super::clients::Script;
use crate::support::{Daemon, eventually};

/// The SDK's client; also one of those in `clients.rs`.
pub const SOURCE: &str = include_str!("client.mjs");

/// Pushed events of `topic` about the task `id`.
fn pushed(client: &Script, topic: &str, id: &str) -> Vec<Value> {
    let about = |value: &Value| value["event"]["data"]["task_id"] == id;
    client.pushed(topic).into_iter().filter(about).collect()
}

/// Starts `line` and returns the task's id.
fn start(client: &mut Script, line: &str) -> String {
    let started = |client: &Script| {
        client.said().into_iter().filter_map(|mut v| v.get_mut("started").map(Value::take))
    };
    let before = started(client).count();
    client.program().write(format!("run {line}\n").as_bytes());
    let mut found = None;
    eventually("the answer", || {
        found = started(client).nth(before);
        found.is_some()
    });
    let started = found.unwrap();
    assert_eq!(started["status"], "started", "{started}");
    started["stream_id"].as_str().unwrap().to_owned()
}

#[test]
fn the_typescript_sdk_lists_calls_and_hears_exactly_once_through_kill_9() {
    let daemon = Daemon::start();
    let mut client = Script::node(&daemon, SOURCE);
    let tools = &client.said()[0];
    assert_eq!(tools["tools"].as_array().unwrap().len(), 12, "{tools}");
    assert_eq!(tools["revision"], "2025-11-25");

    let quick = start(&mut client, "echo hello");
    eventually("task.completed is pushed", || pushed(&client, "task.completed", &quick).len() == 1);
    let event = pushed(&client, "task.completed", &quick).remove(0);
    assert_eq!(
        (&event["level"], &event["event"]["data"]["exit_code"]),
        (&json!("info"), &json!(0))
    );

    let (away, back) = (daemon.home().path().join("away"), daemon.home().path().join("back"));
    let line = |gate: &Path| format!("while [ ! -e '{}' ]; do sleep 0.02; done", gate.display());
    let ends_away = start(&mut client, &line(&away));
    let ends_back = start(&mut client, &line(&back));
    let home = daemon.kill9();
    std::fs::write(&away, "").unwrap();
    eventually("the first has ended without its daemon", || {
        let runs = std::fs::read_dir(home.state().join("runs")).unwrap();
        runs.flatten().filter(|run| run.path().join("status").exists()).count() == 2
    });
    let daemon = Daemon::start_in(home);
    std::fs::write(&back, "").unwrap();
    eventually("both ends are pushed", || {
        [&ends_away, &ends_back].iter().all(|id| !pushed(&client, "task.completed", id).is_empty())
    });
    // The session goes on with the new daemon, and nothing comes twice.
    let last = start(&mut client, "exit 6");
    eventually("the last end is pushed", || !pushed(&client, "task.failed", &last).is_empty());
    for id in [&quick, &ends_away, &ends_back] {
        assert_eq!(pushed(&client, "task.started", id).len(), 1, "{:#?}", client.said());
        assert_eq!(pushed(&client, "task.completed", id).len(), 1, "{:#?}", client.said());
    }
    assert_eq!(client.pushed("fleet.recovered").len(), 1);
    assert_eq!(client.end(), 0);
    drop(daemon);
}
