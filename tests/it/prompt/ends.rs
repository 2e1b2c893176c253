//! How prompts end: failed, stopped, cancelled, refused.

use serde_json::{Value, json};

use super::rig::Rig;
use crate::support::{eventually, living_in, reply, tool_request};

#[test]
fn a_failure_is_told_by_its_kind_and_never_run_again() {
    let rig = Rig::new();
    let id = rig.begin("FAIL:401", json!({}));
    let task = rig.end(&id);
    assert_eq!(
        (&task["state"], &task["prompt"]["reason"]),
        (&json!("failed"), &json!("auth")),
        "{task}"
    );
    let history = rig.history(&id);
    let (topic, data) = history.last().unwrap();
    assert_eq!((topic.as_str(), &data["prompt"]["reason"]), ("task.failed", &json!("auth")));
    assert_eq!(history.iter().filter(|(topic, _)| topic == "task.started").count(), 1);
}

/// Lesson D2: a prompt that was ended for its silence ran twice.
#[test]
fn silence_ends_a_prompt_once() {
    let rig = Rig::new();
    let id = rig.begin("HOLD", json!({ "timeout_s": 8 }));
    let task = rig.end(&id);
    assert_eq!(
        (&task["state"], &task["prompt"]["reason"]),
        (&json!("failed"), &json!("stalled")),
        "{task}"
    );
    // What it said until then is not lost.
    assert_eq!(task["prompt"]["text"], "Hel");
    assert_eq!(rig.model.asked().len(), 1);
}

/// Lesson 7: exit status 0 without a result is no success.
#[test]
fn silence_with_status_0_is_no_success() {
    let rig = Rig::new();
    let rows =
        "[mute]\ncommand = [\"true\"]\nformat = \"claude\"\n[gone]\ncommand = [\"/no/such\"]\n";
    let home = rig.daemon.kill9();
    std::fs::write(home.path().join(".config/fleetd/providers.toml"), rows).unwrap();
    let daemon = crate::support::Daemon::start_in(home);
    for (provider, reason) in [("mute", "empty_response"), ("gone", "dispatch_failed")] {
        let arguments = json!({ "prompt": "hi", "provider": provider });
        let reply = reply(&daemon.send(&tool_request(&daemon, "execute_prompt", arguments)));
        let result = &reply["result"];
        assert_eq!(result["isError"], true, "{reply}");
        assert_eq!(result["structuredContent"]["reason"], reason, "{reply}");
    }
}

#[test]
fn a_call_that_waits_returns_the_answer() {
    let rig = Rig::new();
    let mut arguments = rig.arguments("hello", json!({}));
    arguments["async"] = json!(false);
    let answer = rig.daemon.send(&tool_request(&rig.daemon, "execute_prompt", arguments));
    let result = reply(&answer)["result"].take();
    assert_eq!(result["isError"], false, "{result}");
    let text = result["content"][0]["text"].as_str().unwrap();
    let session = result["structuredContent"]["sessionId"].as_str().unwrap();
    let answer = crate::support::ANSWER;
    assert_eq!(text, format!("[RESULT] Response from local:\n{answer}\n---\nsession: {session}"));
}

/// Every process of the prompt, the tool's included.
#[test]
fn a_stop_ends_the_whole_tree() {
    let rig = Rig::new();
    let id = rig.begin("RUN:tail -s 4711 -f /dev/null", json!({}));
    let sleeps = || {
        let line = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
        let all = living_in(rig.daemon.home().path());
        all.iter().any(|pid| line(pid).is_ok_and(|line| line.contains("4711")))
    };
    eventually("the tool runs", sleeps);
    let waiting = rig.begin("hello", json!({ "resume": false }));
    let stopped = rig.daemon.tool("stop_prompt", json!({ "member_name": "local" }));
    let tasks = stopped["prompts"].as_array().unwrap();
    assert_eq!(tasks.len(), 2, "{stopped}");
    assert!(tasks.iter().all(|task| task["state"] == "cancelled"), "{stopped}");
    eventually("nothing of it is left", || !sleeps());
    assert_eq!(rig.monitor(&id)["prompt"]["reason"], "stopped");
    assert_eq!(rig.monitor(&waiting)["started"], Value::Null);
    let command = rig.daemon.tool("execute_command", json!({ "command": "true", "async": true }));
    let wrong = json!({ "stream_id": command["stream_id"] });
    let reply = reply(&rig.daemon.send(&tool_request(&rig.daemon, "stop_prompt", wrong)));
    assert_eq!(reply["result"]["isError"], true, "{reply}");
}

#[test]
fn what_cannot_be_asked_is_refused_by_name() {
    let rig = Rig::new();
    let unknown = "99999999-2222-4333-8444-555555555556";
    for (more, said) in [
        (json!({ "session_id": unknown }), unknown),
        (json!({ "session_id": "--last" }), "--last"),
        (json!({ "model": "--dangerous" }), "model"),
        (json!({ "agent": "../x" }), "agent"),
        (json!({ "provider": "nobody" }), "nobody"),
        (json!({ "provider": "custom" }), "custom"),
        (json!({ "prompt": "{{secure.KEY}}" }), "secret"),
        (json!({ "max_turns": 501 }), "max_turns"),
        (json!({ "context_size": "L", "expected_context_tokens": 2_000_000 }), "headroom"),
        (json!({ "sprint_id": "x" }), "sprint_id"),
        (json!({ "member_name": "nobody" }), "nobody"),
        (json!({ "substitutions": { "a": "1" }, "prompt": "{{b}}" }), "'b'"),
    ] {
        let arguments = rig.arguments("hi", more);
        let reply =
            reply(&rig.daemon.send(&tool_request(&rig.daemon, "execute_prompt", arguments)));
        let result = &reply["result"];
        assert_eq!(result["isError"], true, "{reply}");
        assert!(result["content"][0]["text"].as_str().unwrap().contains(said), "{said}: {reply}");
    }
    assert!(rig.model.asked().is_empty(), "nothing was launched");
}
