//! The Tasks extension: a command as a durable task.

use fleetd::model::{Principal, Scope};
use serde_json::{Value, json};

use super::rig::{MODERN, Rig, read, request};

fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {
            "extensions": { "io.modelcontextprotocol/tasks": {} },
        },
    })
}

async fn begin(rig: &Rig, command: &str) -> Value {
    let arguments = json!({ "command": command });
    let params = json!({ "name": "execute_command", "arguments": arguments, "_meta": meta() });
    let answer = rig.modern("tools/call", params).await.json();
    let task = answer["result"].clone();
    assert_eq!(task["resultType"], "task", "{answer}");
    task
}

async fn ask(rig: &Rig, method: &str, id: &str) -> Value {
    let mut params = json!({ "taskId": id, "_meta": meta() });
    if method == "tasks/update" {
        params["inputResponses"] = json!({});
    }
    rig.modern(method, params).await.json()
}

async fn ended(rig: &Rig, id: &str) -> Value {
    let types = ["task.completed", "task.failed", "task.cancelled"];
    let wait = json!({ "subject": format!("task/{id}"), "types": types, "since": "0" });
    rig.tool("wait_for_events", wait).await;
    ask(rig, "tasks/get", id).await["result"].take()
}

#[tokio::test]
async fn a_call_becomes_a_task_for_who_can_read_one() {
    let rig = Rig::new();
    let task = begin(&rig, "sleep 0.2; echo out; exit 3").await;
    let id = task["taskId"].as_str().unwrap();
    assert_eq!(task["status"], "working", "{task}");
    assert!(task["createdAt"].is_string() && task["pollIntervalMs"].is_u64(), "{task}");
    let now = ask(&rig, "tasks/get", id).await;
    assert_eq!(now["result"]["resultType"], "complete", "{now}");
    let done = ended(&rig, id).await;
    // A command that fails is a call that was answered.
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!(done["result"]["structuredContent"]["exitCode"], 3);
    assert_eq!(done["result"]["structuredContent"]["stdout"], "out\n");
    assert!(done["ttlMs"].as_u64().unwrap() > 3_600_000, "{done}");
    // Without the extension the same call waits, and the methods are refused.
    let plain = rig.tool("execute_command", json!({"command": "echo out"})).await;
    assert_eq!(
        (&plain["resultType"], &plain["structuredContent"]["exitCode"]),
        (&"complete".into(), &0.into())
    );
    let refused = rig.modern("tasks/get", json!({ "taskId": id })).await;
    assert_eq!((refused.status.as_u16(), refused.error_code()), (400, -32021));
}

#[tokio::test]
async fn a_task_is_there_after_a_restart_and_cancelling_twice_is_harmless() {
    let rig = Rig::new();
    let kept = begin(&rig, "echo kept").await["taskId"].as_str().unwrap().to_owned();
    ended(&rig, &kept).await;
    let stopped = begin(&rig, "sleep 60").await["taskId"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        let ack = ask(&rig, "tasks/cancel", &stopped).await;
        assert_eq!(ack["result"]["resultType"], "complete", "{ack}");
    }
    assert_eq!(ended(&rig, &stopped).await["status"], "cancelled");
    assert_eq!(ask(&rig, "tasks/update", &stopped).await["result"]["resultType"], "complete");
    let rig = rig.restart().await;
    let again = ask(&rig, "tasks/get", &kept).await;
    assert_eq!(again["result"]["result"]["structuredContent"]["stdout"], "kept\n", "{again}");
    for unknown in ["01234567-89ab-4def-8123-456789abcdef", "x"] {
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let answer = ask(&rig, method, unknown).await;
            assert_eq!(answer["error"]["code"], -32602, "{method} {unknown}: {answer}");
        }
    }
}

/// The same as [`ask`], for somebody else.
async fn ask_as(rig: &Rig, who: &Principal, method: &str, id: &str) -> Value {
    let mut params = json!({ "taskId": id, "_meta": meta() });
    if method == "tasks/update" {
        params["inputResponses"] = json!({});
    }
    let headers = [
        ("content-type", "application/json"),
        ("mcp-protocol-version", MODERN),
        ("mcp-method", method),
        ("mcp-name", id),
    ];
    let message = request(7, method, params).to_string();
    let answer = rig.send_as(who.clone(), http::Method::POST, &headers, &message).await;
    read(answer).await.json()
}

#[tokio::test]
async fn s60_anothers_task_is_none() {
    let rig = Rig::new();
    let id = begin(&rig, "sleep 60").await["taskId"].as_str().unwrap().to_owned();
    let other = Principal {
        id: "token/other".into(),
        projects: Vec::new(),
        scopes: vec![Scope::Read, Scope::Run],
        ..Principal::owner()
    };
    let absent = "01234567-89ab-4def-8123-456789abcdef";
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let foreign = ask_as(&rig, &other, method, &id).await;
        let gone = ask_as(&rig, &other, method, absent).await;
        assert_eq!(foreign["error"]["code"], -32602, "{method}: {foreign}");
        let alike = foreign.to_string().replace(&id, "ID");
        assert_eq!(alike, gone.to_string().replace(absent, "ID"), "{method}");
        assert!(ask_as(&rig, &Principal::owner(), "tasks/get", &id).await["error"].is_null());
    }
    // Listening for it tells as little as asking.
    let filter =
        json!({ "taskIds": [id], "resourceSubscriptions": [format!("fleet://tasks/{id}")] });
    let params = json!({ "notifications": filter, "_meta": meta() });
    let headers = [
        ("content-type", "application/json"),
        ("mcp-protocol-version", MODERN),
        ("mcp-method", "subscriptions/listen"),
    ];
    let listen = request(8, "subscriptions/listen", params).to_string();
    let heard = read(rig.send_as(other, http::Method::POST, &headers, &listen).await).await;
    assert!(!String::from_utf8_lossy(&heard.body).contains(&id), "{heard:?}");
    assert_eq!(heard.json()["result"]["resultType"], "complete", "there is nothing to hear");
    assert_eq!(ask(&rig, "tasks/get", &id).await["result"]["status"], "working");
    ask(&rig, "tasks/cancel", &id).await;
}
