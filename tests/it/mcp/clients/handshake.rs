//! Clients of the era with a handshake that `clients.rs` does not have: HTTP+SSE by
//! both official SDKs, the newest SDKs when they are told to shake hands, and curl.

use serde_json::{Value, json};

use super::Script;
use crate::support::{Daemon, eventually};

const TOPIC: &str = "custom.handshake";

fn all(daemon: &Daemon) -> [(&'static str, Script); 5] {
    let (sse, python) = (include_str!("sse.mjs"), include_str!("legacy.py"));
    [
        ("TypeScript SDK 1 over HTTP+SSE", Script::node_over(daemon, "sse", sse)),
        ("Python SDK over HTTP+SSE", Script::python_over(daemon, "sse", python)),
        ("TypeScript SDK 2, legacy", Script::node(daemon, include_str!("legacy.mjs"))),
        ("Python SDK, legacy", Script::python(daemon, python)),
        ("curl", Script::shell(daemon, include_str!("curl.sh"))),
    ]
}

/// The numbers of the events that were pushed.
fn numbers(script: &Script) -> Vec<u64> {
    let events = script.said().into_iter().filter_map(|mut said| {
        let event = match said.get("message").is_some() {
            true => said["message"]["params"]["data"].take(),
            false => said["event"].take(),
        };
        (event["type"] == TOPIC).then(|| event["data"]["n"].as_u64().unwrap())
    });
    events.collect()
}

/// Each of them has a stream, which is a subscription.
fn stand(daemon: &Daemon, scripts: &[(&str, Script)]) {
    eventually("all streams", || daemon.metric("fleetd_subscriptions") >= scripts.len() as f64);
}

fn publish(daemon: &Daemon, scripts: &[(&str, Script)], n: u64) {
    daemon.publish(TOPIC, &format!("handshake-{n}"), json!({ "n": n }));
    for (name, script) in scripts {
        eventually(&format!("{name} is pushed {n}"), || numbers(script).contains(&n));
    }
}

#[test]
fn s17_s67_clients_with_a_handshake_are_pushed_events_and_again_after_kill_9() {
    let daemon = Daemon::start();
    let scripts = all(&daemon);
    for (name, script) in &scripts {
        let first = script.said().swap_remove(0);
        assert_eq!(first["called"], true, "{name}: {first}");
        let tools = first["tools"].as_array().map_or(0, Vec::len);
        assert!(tools >= 10 || *name == "curl", "{name}: {first}");
    }
    stand(&daemon, &scripts);
    publish(&daemon, &scripts, 1);
    let port = daemon.port();
    let daemon = daemon.restart_after_kill9();
    assert_eq!(daemon.port(), port, "configured clients find it again");
    stand(&daemon, &scripts);
    publish(&daemon, &scripts, 2);
    // By the time of one more event, nothing has come twice.
    publish(&daemon, &scripts, 3);
    for (name, script) in &scripts {
        assert_eq!(numbers(script), [1, 2, 3], "{name}: {:#?}", script.said());
    }
    let again =
        |at: usize| scripts[at].1.said().iter().filter(|v: &&Value| v["called"] == true).count();
    assert_eq!([again(0), again(1)], [2, 2], "HTTP+SSE begins anew");
}
