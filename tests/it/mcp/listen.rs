//! `subscriptions/listen`.

use http::StatusCode;
use serde_json::{Value, json};

use super::rig::{MODERN, Reader, Rig};

const ID: &str = "io.modelcontextprotocol/subscriptionId";

/// Opens a listening stream under the request id `id`.
async fn listen(rig: &Rig, id: Value, filter: Value) -> Reader {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {
            "extensions": { "io.modelcontextprotocol/tasks": {} },
        },
    });
    let params = json!({ "notifications": filter, "_meta": meta });
    let message =
        json!({"jsonrpc": "2.0", "id": id, "method": "subscriptions/listen", "params": params});
    let headers = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", MODERN),
        ("mcp-method", "subscriptions/listen"),
    ];
    let response = rig.send(http::Method::POST, &headers, &message.to_string()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    assert!(!response.headers().contains_key("mcp-session-id"));
    Reader::new(response.into_body())
}

#[tokio::test]
async fn what_was_accepted_comes_first_and_ids_keep_their_type() {
    let rig = Rig::new();
    let asked = json!({
        "toolsListChanged": true,
        "resourceSubscriptions": ["fleet://events", "fleet://nothing", "fleet://events"],
        "taskIds": ["01234567-89ab-4def-8123-456789abcdef"],
        "unheardOf": 7,
    });
    for id in [json!(1), json!("1"), json!("a")] {
        let mut stream = listen(&rig, id.clone(), asked.clone()).await;
        let (none, ack) = stream.message().await;
        assert_eq!(none, None);
        assert_eq!(ack["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(ack["params"]["_meta"][ID], id);
        let accepted = json!({ "resourceSubscriptions": ["fleet://events"] });
        assert_eq!(ack["params"]["notifications"], accepted);
        rig.publish("custom.n", "debug").await;
        let (_, told) = stream.message().await;
        assert_eq!(told["method"], "notifications/resources/updated");
        assert_eq!(told["params"], json!({ "uri": "fleet://events", "_meta": { ID: id } }));
        assert!(!stream.raw.contains("id: ") && !stream.raw.contains("retry"), "{}", stream.raw);
    }
}

#[tokio::test]
async fn two_streams_get_what_each_asked_for() {
    let rig = Rig::new();
    let mut events =
        listen(&rig, json!(1), json!({"resourceSubscriptions": ["fleet://events"]})).await;
    let mut tasks =
        listen(&rig, json!(2), json!({"resourceSubscriptions": ["fleet://tasks"]})).await;
    events.message().await;
    tasks.message().await;
    rig.publish("custom.n", "info").await;
    assert_eq!(events.message().await.1["params"]["_meta"][ID], 1);
    assert!(tasks.is_silent().await);
    for _ in 0..50 {
        rig.publish("custom.n", "info").await;
    }
    // The reader was away; what it missed is one notice.
    assert_eq!(events.message().await.1["params"]["uri"], "fleet://events");
    assert!(events.is_silent().await);
}

#[tokio::test]
async fn a_task_is_told_whole_with_its_result() {
    let rig = Rig::new();
    let begun =
        rig.tool("execute_command", json!({"command": "sleep 0.3; echo hi", "async": true})).await;
    let id = begun["structuredContent"]["stream_id"].as_str().unwrap().to_owned();
    let mut stream = listen(&rig, json!(9), json!({ "taskIds": [id] })).await;
    assert_eq!(stream.message().await.1["params"]["notifications"]["taskIds"], json!([id]));
    let ended = loop {
        let (_, told) = stream.message().await;
        assert_eq!(told["method"], "notifications/tasks");
        assert_eq!(
            (&told["params"]["taskId"], &told["params"]["_meta"][ID]),
            (&json!(id), &json!(9))
        );
        if told["params"]["status"] != "working" {
            break told;
        }
    };
    assert_eq!(ended["params"]["status"], "completed");
    assert_eq!(ended["params"]["result"]["structuredContent"]["stdout"], "hi\n");
    // Who listens too late is told at once.
    let mut late = listen(&rig, json!(10), json!({ "taskIds": [id] })).await;
    late.message().await;
    assert_eq!(late.message().await.1["params"]["status"], "completed");
}

#[tokio::test]
async fn a_stream_ends_with_its_result() {
    let rig = Rig::new();
    let mut stream =
        listen(&rig, json!("x"), json!({"resourceSubscriptions": ["fleet://events"]})).await;
    stream.message().await;
    rig.mcp.close();
    let (_, last) = stream.message().await;
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!("x"), &json!("complete")));
    assert_eq!(last["result"]["_meta"][ID], "x");
    assert_eq!(stream.next().await, None);
    // Nothing was accepted, so nothing will ever come.
    let rig = Rig::new();
    let mut stream = listen(&rig, json!(1), json!({"promptsListChanged": true})).await;
    assert_eq!(stream.message().await.1["params"]["notifications"], json!({}));
    assert_eq!(stream.message().await.1["result"]["resultType"], "complete");
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn a_filter_that_cannot_be_read_is_refused() {
    let rig = Rig::new();
    let many: Vec<_> = (0..65).map(|n| format!("fleet://{n}")).collect();
    for bad in [
        json!(null),
        json!({"toolsListChanged": 1}),
        json!({"resourceSubscriptions": "fleet://events"}),
        json!({"resourceSubscriptions": [1]}),
        json!({ "resourceSubscriptions": many }),
    ] {
        let answer = rig.modern("subscriptions/listen", json!({ "notifications": bad })).await;
        assert_eq!((answer.status, answer.error_code()), (StatusCode::BAD_REQUEST, -32602));
    }
}
