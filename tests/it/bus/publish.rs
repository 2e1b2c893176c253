//! What may be published, and what comes out.

use serde_json::{Value, json};

use crate::support::{Daemon, custom_event, distinct_id};

#[test]
fn a_published_event_comes_out_as_it_went_in() {
    let daemon = Daemon::start();
    let mut live = daemon.events("types=custom.*");
    let mut event = custom_event("custom.deploy_done", "deploy-7", json!({ "ok": true, "n": 1.5 }));
    event["subject"] = "pr/owner/repo#7".into();
    event["severity"] = "notice".into();
    event["time"] = "2026-11-20T08:00:00Z".into();
    let answer = daemon.post_event(&event);
    assert_eq!(answer.status, 200, "{answer:?}");
    let result = answer.json()["results"][0].clone();
    assert_eq!((&result["id"], &result["duplicate"]), (&json!("deploy-7"), &json!(false)));

    let out = live.next();
    assert_eq!(out.name, "custom.deploy_done");
    assert_eq!(result["cursor"], out.id.as_str(), "the position that was answered");
    let seen = out.json();
    assert_eq!(seen["sequence"], out.seq().to_string().as_str());
    for attribute in ["specversion", "id", "type", "subject", "severity", "data"] {
        assert_eq!(seen[attribute], event[attribute], "{attribute}");
    }
    // Replayed, it is the same to the byte.
    let again = daemon.events("types=custom.*&since=0&signals=0").next();
    assert_eq!(again, out);
}

#[test]
fn s09_who_published_is_the_daemons_to_say() {
    let daemon = Daemon::start();
    let mut event = custom_event("custom.x", "forged", json!({}));
    let claims = json!({
        "sequence": "1",
        "publisher": "somebody-else",
        "source": "fleetd/forged",
    });
    for (name, value) in claims.as_object().expect("an object") {
        event[name] = value.clone();
    }
    assert_eq!(daemon.post_event(&event).status, 200);
    let seen = daemon.events("types=custom.*&since=0&signals=0").next().json();
    assert_ne!(seen["publisher"], "somebody-else");
    assert!(seen["publisher"].is_string(), "{seen}");
    assert_ne!(seen["source"], "fleetd/forged");
    assert_ne!(seen["sequence"], "1", "fleet.started stands there");
}

#[test]
fn one_id_is_stored_once_and_answered_with_its_first_position() {
    let daemon = Daemon::start();
    let event = custom_event("custom.x", "twice", json!({ "n": 1 }));
    let first = daemon.post_event(&event).json()["results"][0].clone();
    let other = custom_event("custom.x", "twice", json!({ "n": 2 }));
    let second = daemon.post_event(&other).json()["results"][0].clone();
    assert_eq!((&first["duplicate"], &second["duplicate"]), (&json!(false), &json!(true)));
    assert_eq!(first["cursor"], second["cursor"]);
    let daemon = daemon.restart_after_kill9();
    let third = daemon.post_event(&event).json()["results"][0].clone();
    assert_eq!((&third["duplicate"], &third["cursor"]), (&json!(true), &first["cursor"]));
    let mut replay = daemon.events("types=custom.*&since=0&signals=0");
    assert_eq!(replay.next().json()["data"]["n"], 1);
    assert_eq!(replay.next_within(std::time::Duration::from_millis(200)), None);
}

#[test]
fn a_publisher_cannot_swallow_the_end_of_a_task() {
    let daemon = Daemon::start();
    let go = daemon.home().path().join("go");
    let command = format!("until test -e '{}'; do sleep 0.05; done; exit 3", go.display());
    let task = daemon.tool("execute_command", json!({ "command": command, "async": true }));
    let id = task["stream_id"].as_str().expect("an id");
    daemon.publish("custom.x", &format!("{id}.ended"), json!({}));
    let mut stream = daemon.events(&format!("task={id}&since=0&signals=0"));
    std::fs::write(go, "").expect("written");
    assert_eq!(stream.next_named("task.failed").json()["data"]["exit_code"], 3);
}

#[test]
fn a_batch_is_stored_whole_or_not_at_all() {
    let daemon = Daemon::start();
    let post = |batch: &Value| {
        let request = daemon.request("POST", "/events");
        let body = batch.to_string();
        daemon.send(&request.body("application/cloudevents-batch+json", body.as_bytes()))
    };
    let good: Vec<Value> =
        (0..5).map(|n| custom_event("custom.batch", &format!("good-{n}"), json!(n))).collect();
    let mut bad = vec![custom_event("custom.batch", "lost", json!(0))];
    bad.push(custom_event("task.completed", "reserved", json!(0)));
    let refusal = post(&bad.into());
    assert_eq!((refusal.status, refusal.error_code().as_str()), (400, "invalid_argument"));
    assert!(refusal.text().contains("task.completed"), "{}", refusal.text());
    assert_eq!(post(&good.into()).status, 200);
    let mut replay = daemon.events("types=custom.*&since=0&signals=0");
    let ids: Vec<Value> = replay.take(5).iter().map(|event| event.json()["id"].clone()).collect();
    assert_eq!(ids, ["good-0", "good-1", "good-2", "good-3", "good-4"]);
    assert_eq!(replay.next_within(std::time::Duration::from_millis(200)), None);
}

#[test]
fn what_cannot_be_published_is_refused_by_name_and_nothing_is_stored() {
    let daemon = Daemon::start();
    let good = || custom_event("custom.x", &distinct_id("refused"), json!({}));
    let with = |name: &str, value: Value| {
        let mut event = good();
        event[name] = value;
        event
    };
    let without = |name: &str| {
        let mut event = good();
        event.as_object_mut().expect("an object").remove(name);
        event
    };
    let cases = [
        (without("id"), "id"),
        (without("type"), "type"),
        (without("source"), "source"),
        (without("specversion"), "specversion"),
        (with("specversion", "2.0".into()), "specversion"),
        (with("type", "task.completed".into()), "task.completed"),
        (with("type", "custom.A".into()), "custom.A"),
        (with("type", "custom".into()), "custom"),
        (with("id", "".into()), "id"),
        (with("id", 7.into()), "id"),
        (with("severity", "loud".into()), "severity"),
        (with("time", "yesterday".into()), "time"),
        (with("project", "../x".into()), "project"),
        (with("UPPER", "x".into()), "UPPER"),
    ];
    for (event, named) in cases {
        let answer = daemon.post_event(&event);
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "invalid_argument"));
        assert!(answer.text().contains(named), "'{named}' is not named: {}", answer.text());
    }
    let large = custom_event("custom.x", "large", "a".repeat(256 * 1024).into());
    let answer = daemon.post_event(&large);
    assert_eq!((answer.status, answer.error_code().as_str()), (413, "too_large"));
    for (kind, body) in [("application/json", "{}"), ("text/plain", "x")] {
        let request = daemon.request("POST", "/events").body(kind, body.as_bytes());
        assert_eq!(daemon.send(&request).status, 415, "{kind}");
    }
    let mut replay = daemon.events("types=custom.%3E&since=0&signals=0");
    assert_eq!(replay.next_within(std::time::Duration::from_millis(200)), None);
}
