//! Tools about tasks, with tasks that really run.

use std::time::{Duration, Instant};

use fleetd::model::Principal;
use http::Method;
use serde_json::{Value, json};

use super::rig::{Reader, Rig, read, request};
use super::schema;

/// Polls until `look` finds something.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::task::yield_now().await;
    }
}

async fn state(rig: &Rig, id: &str) -> String {
    let shown = rig.tool("monitor_task", json!({"task_id": id})).await;
    shown["structuredContent"]["tasks"][0]["state"].as_str().unwrap().to_owned()
}

/// The newest task, once there is one that runs.
async fn running(rig: &Rig) -> String {
    until("a running task", async || {
        let listed = rig.tool("list_tasks", json!({"states": ["running"]})).await;
        Some(listed["structuredContent"]["tasks"][0]["task_id"].as_str()?.to_owned())
    })
    .await
}

fn legacy_headers(session: &str) -> [(&str, &str); 3] {
    [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-session-id", session),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_result_about_tasks_fits_its_schema() {
    let rig = Rig::new();
    let tools = rig.modern("tools/list", json!({})).await.json()["result"]["tools"].take();
    let call = async |name: &str, arguments: Value| {
        let result = rig.tool(name, arguments).await;
        assert_eq!(result["isError"], false, "{name}: {result}");
        let tool = tools.as_array().unwrap().iter().find(|tool| tool["name"] == name).unwrap();
        schema::check(&tool["outputSchema"], &result["structuredContent"], name);
        result["structuredContent"].clone()
    };
    let mut ids = Vec::new();
    for (line, status) in [
        ("echo out; echo err >&2", "completed"),
        ("exit 7", "failed"),
        ("kill -KILL $$", "failed"),
        ("printf '\\377'", "completed"),
    ] {
        let result = call("execute_command", json!({ "command": line })).await;
        assert_eq!(result["status"], status, "{line}: {result}");
        ids.push(result["stream_id"].clone());
    }
    let started = call("execute_command", json!({"command": "sleep 60", "async": true})).await;
    assert_eq!((&started["status"], &started["exitCode"]), (&json!("started"), &Value::Null));
    ids.push(started["stream_id"].clone());
    let odd = json!({"command": "cd /nowhere", "run_from": "/nowhere", "async": true});
    ids.push(call("execute_command", odd).await["stream_id"].clone());
    let monitored = call("monitor_task", json!({ "task_ids": ids })).await;
    assert_eq!(monitored["tasks"].as_array().unwrap().len(), ids.len());
    let listed = call("list_tasks", json!({})).await;
    assert_eq!(listed["tasks"].as_array().unwrap().len(), ids.len());
    let fleet = call("fleet_status", json!({})).await;
    assert_eq!(fleet["members"][0]["running"], 1, "{fleet}");
    assert_eq!(fleet["members"][0]["tasks"][0]["task_id"], started["stream_id"]);
    let stopped = call("stop_task", json!({"task_id": started["stream_id"]})).await;
    assert_eq!(stopped["task"]["state"], "cancelled");
    call("stop_task", json!({"task_id": ids[0]})).await;
    let events = call("list_events", json!({"since": "0", "types": ["task.*"]})).await;
    assert!(events["events"].as_array().unwrap().len() >= 9, "{events}");
    call(
        "wait_for_events",
        json!({"since": "0", "subject": format!("task/{}", ids[0].as_str().unwrap())}),
    )
    .await;
    call("publish_event", json!({"type": "custom.a"})).await;
    call("version", json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_reads_as_text_too() {
    let rig = Rig::new();
    let text = async |arguments: Value| {
        let result = rig.tool("execute_command", arguments).await;
        result["content"][0]["text"].as_str().unwrap().to_owned()
    };
    let line = "echo out; echo err >&2; exit 3";
    assert_eq!(text(json!({ "command": line })).await, "Exit code: 3\nout\n\n[stderr]\nerr\n");
    assert_eq!(text(json!({"command": "cat", "stdin": "given"})).await, "Exit code: 0\ngiven");
    assert_eq!(text(json!({"command": "kill -TERM $$"})).await, "Ended by signal 15");
    let silent = text(json!({"command": "sleep 60", "timeout_s": 1})).await;
    assert!(silent.starts_with("Ended by signal 15 (") && silent.contains("1 s"), "{silent}");
    let much = text(json!({"command": "head -c 1000000 /dev/zero | tr '\\0' x"})).await;
    assert!(
        much.len() < 300_000 && much.contains("bytes not shown; monitor_task"),
        "{}",
        &much[..200]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn r36_a_cancelled_call_stops_its_task_only_if_that_was_asked() {
    let rig = Rig::new();
    for revision in ["2025-06-18", "2025-11-25"] {
        for (on_cancel, expected) in [("continue", "running"), ("stop", "cancelled")] {
            let session = rig.session(revision).await;
            let arguments = json!({"command": "sleep 60", "on_cancel": on_cancel});
            let call = json!({"name": "execute_command", "arguments": arguments});
            let call = request(9, "tools/call", call).to_string();
            let response = rig.send(Method::POST, &legacy_headers(&session), &call).await;
            let mut stream = Reader::new(response.into_body());
            let id = running(&rig).await;
            let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
                "params": {"requestId": 9}});
            rig.post(Some(&session), &cancel).await;
            // Nothing but the priming event may come before the end.
            while let Some(frame) = stream.next().await {
                assert_eq!(frame.data.unwrap_or_default(), "", "no reply follows a cancel");
            }
            until("what was asked", async || (state(&rig, &id).await == expected).then_some(()))
                .await;
            rig.tool("stop_task", json!({"task_id": id})).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r36_a_lost_stream_never_ends_its_task_and_the_result_is_its_owners() {
    let rig = Rig::new();
    let gate = tempfile::tempdir().unwrap();
    for (n, era) in ["2025-11-25", "2026-07-28"].into_iter().enumerate() {
        let file = gate.path().join(n.to_string());
        let line =
            format!("while [ ! -e '{}' ]; do sleep 0.01; done; echo told; exit 4", file.display());
        // Even with `stop`: a lost connection asks for nothing.
        let arguments = json!({"command": line, "on_cancel": "stop"});
        let call = json!({"name": "execute_command", "arguments": arguments});
        let response = if era == "2026-07-28" {
            rig.modern_response("tools/call", call).await
        } else {
            let session = rig.session(era).await;
            let call = request(9, "tools/call", call).to_string();
            rig.send(Method::POST, &legacy_headers(&session), &call).await
        };
        let id = running(&rig).await;
        drop(response);
        std::fs::write(&file, "").unwrap();
        until("its own end", async || (state(&rig, &id).await == "failed").then_some(())).await;
        let shown = rig.tool("monitor_task", json!({"task_id": id})).await;
        let task = &shown["structuredContent"]["tasks"][0];
        assert_eq!((&task["exit_code"], &task["stdout"]["text"]), (&json!(4), &json!("told\n")));
        foreigners_see_nothing(&rig, &id).await;
    }
}

/// A principal with every scope but the owner's name and powers over others.
async fn foreigners_see_nothing(rig: &Rig, id: &str) {
    let mut other = Principal { id: "other".into(), ..Principal::owner() };
    other.scopes = [fleetd::model::Scope::Read, fleetd::model::Scope::Run].into_iter().collect();
    let session = read(
        rig.send_as(
            other.clone(),
            Method::POST,
            &[("content-type", "application/json")],
            &super::rig::initialize("2025-11-25").to_string(),
        )
        .await,
    )
    .await
    .session
    .unwrap();
    let absent = "00000000-0000-4000-8000-000000000000";
    for tool in ["monitor_task", "stop_task"] {
        let mut said = Vec::new();
        for id in [id, absent] {
            let call = json!({"name": tool, "arguments": {"task_id": id}});
            let call = request(3, "tools/call", call).to_string();
            let headers = legacy_headers(&session);
            let answer =
                read(rig.send_as(other.clone(), Method::POST, &headers, &call).await).await;
            let result = answer.json()["result"].take();
            assert_eq!(result["isError"], true, "{tool}: {result}");
            said.push(result.to_string().replace(id, "ID"));
        }
        assert_eq!(said[0], said[1], "foreign and absent look the same");
    }
    let call = request(4, "tools/call", json!({"name": "list_tasks", "arguments": {}})).to_string();
    let headers = legacy_headers(&session);
    let answer = read(rig.send_as(other.clone(), Method::POST, &headers, &call).await).await;
    assert_eq!(answer.json()["result"]["structuredContent"]["tasks"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_call_tells_its_progress() {
    let rig = Rig::new();
    let params = json!({
        "name": "execute_command",
        "arguments": {"command": "sleep 60", "timeout_s": 0},
        "_meta": {"progressToken": "p"},
    });
    let response = rig.modern_response("tools/call", params).await;
    let mut stream = Reader::new(response.into_body());
    let id = running(&rig).await;
    let begun = Instant::now();
    let progress = tokio::time::timeout(Duration::from_secs(25), async {
        loop {
            if let Ok((_, message)) =
                tokio::time::timeout(Duration::from_secs(1), stream.message()).await
            {
                return message;
            }
        }
    })
    .await
    .expect("progress in time");
    println!("progress after {:?}", begun.elapsed());
    assert_eq!(progress["method"], "notifications/progress");
    assert_eq!(progress["params"]["progressToken"], "p");
    assert!(progress["params"]["message"].as_str().unwrap().contains(&id), "{progress}");
    rig.tool("stop_task", json!({"task_id": id})).await;
    let (_, reply) = stream.message().await;
    assert_eq!(reply["result"]["structuredContent"]["status"], "cancelled", "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_is_woken_within_100_ms_of_a_publish() {
    let rig = Rig::new();
    let mut took = Vec::new();
    for _ in 0..20 {
        let wait = rig.tool("wait_for_events", json!({"types": ["custom.*"], "timeout_s": 20}));
        let publish = async {
            until("the waiter waits", async || (rig.bus.stats().subscriptions > 0).then_some(()))
                .await;
            rig.publish("custom.now", "info").await;
            Instant::now()
        };
        let (result, published) = tokio::join!(async { (wait.await, Instant::now()) }, publish);
        assert_eq!(result.0["structuredContent"]["events"].as_array().unwrap().len(), 1);
        took.push(result.1.saturating_duration_since(published));
    }
    took.sort();
    println!("woken: p50 {:?} max {:?}", took[10], took[19]);
    assert!(took[19] <= Duration::from_millis(100), "{took:?}");
}
