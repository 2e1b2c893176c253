//! An answer whose connection broke is delivered all the same, once.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::rig::{Answer, Reader, Rig, read, request};
use crate::support::eventually_async;

/// Calls a command that takes longer than a plain answer may, and opens its stream.
async fn slow_call(rig: &Rig, session: &str, id: i64, command: &str) -> Reader {
    let params = json!({
        "name": "execute_command",
        "arguments": { "command": command },
        "_meta": { "progressToken": "p" },
    });
    let response = send(rig, session, &request(id, "tools/call", params)).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    Reader::new(response.into_body())
}

async fn send(rig: &Rig, session: &str, message: &Value) -> http::Response<fleetd::mcp::McpBody> {
    let headers = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-session-id", session),
    ];
    rig.send(Method::POST, &headers, &message.to_string()).await
}

async fn refused(rig: &Rig, session: &str, last: &str) -> Answer {
    let headers =
        [("accept", "text/event-stream"), ("mcp-session-id", session), ("last-event-id", last)];
    read(rig.send(Method::GET, &headers, "").await).await
}

#[tokio::test]
async fn a_broken_answer_is_resumed_and_given_once() {
    let rig = Rig::new();
    let session = rig.session("2025-11-25").await;
    let mut posted = slow_call(&rig, &session, 5, "sleep 1; echo done").await;
    let primed = posted.next().await.unwrap();
    assert_eq!(primed.data.as_deref(), Some(""), "priming comes first: {}", posted.raw);
    assert!(posted.raw.contains("retry: "), "{}", posted.raw);
    drop(posted);
    // The command is not cancelled, and ends while nobody reads.
    eventually_async("the command has ended", async || {
        let tasks = rig.tool("list_tasks", json!({"states": ["completed"]})).await;
        tasks["structuredContent"]["tasks"].as_array().is_some_and(|tasks| tasks.len() == 1)
    })
    .await;
    let place = primed.id.unwrap();
    let mut resumed = rig.listen(&session, Some(&place)).await;
    let (id, reply) = resumed.message().await;
    assert_eq!(reply["id"], 5);
    assert_eq!(reply["result"]["structuredContent"]["stdout"], "done\n");
    assert_eq!(resumed.next().await, None, "the answer is over");
    // What was seen is not given again, and nothing can follow it.
    let again = refused(&rig, &session, &id.unwrap()).await;
    assert_eq!((again.status, again.error_code()), (StatusCode::BAD_REQUEST, -32600));
}

#[tokio::test]
async fn streams_of_a_session_do_not_mix() {
    let rig = Rig::new();
    let session = rig.session("2025-11-25").await;
    let mut one = slow_call(&rig, &session, 1, "sleep 0.8; echo one").await;
    let mut two = slow_call(&rig, &session, 2, "sleep 0.8; echo two").await;
    let first = one.next().await.unwrap().id.unwrap();
    let second = two.next().await.unwrap().id.unwrap();
    assert_ne!(first, second);
    drop((one, two));
    for (place, id, said) in [(second, 2, "two\n"), (first, 1, "one\n")] {
        let mut resumed = rig.listen(&session, Some(&place)).await;
        let (_, reply) = resumed.message().await;
        assert_eq!(reply["id"], id);
        assert_eq!(reply["result"]["structuredContent"]["stdout"], said);
        assert_eq!(resumed.next().await, None);
        let other = rig.session("2025-11-25").await;
        let foreign = refused(&rig, &other, &place).await;
        assert_eq!(foreign.status, StatusCode::BAD_REQUEST, "another session's stream");
    }
}

#[tokio::test]
async fn an_answer_that_went_with_its_daemon_is_an_error_and_no_endless_wait() {
    let rig = Rig::new();
    let session = rig.session("2025-11-25").await;
    let mut posted = slow_call(&rig, &session, 8, "sleep 1").await;
    let place = posted.next().await.unwrap().id.unwrap();
    drop(posted);
    let rig = rig.restart().await;
    let mut resumed = rig.listen(&session, Some(&place)).await;
    let (_, reply) = resumed.message().await;
    assert_eq!((&reply["id"], &reply["error"]["code"]), (&json!(8), &json!(-32603)));
    assert_eq!(reply["error"]["data"]["code"], "unknown_outcome");
    assert_eq!(resumed.next().await, None, "the answer is over");
    let other = rig.session("2025-11-25").await;
    assert_eq!(refused(&rig, &other, &place).await.error_code(), -32600);
    assert_eq!(refused(&rig, &session, "p1:0").await.error_code(), -32600);
}

#[tokio::test]
async fn older_revisions_get_ids_without_a_priming_event() {
    let rig = Rig::new();
    let session = rig.session("2025-03-26").await;
    let mut posted = slow_call(&rig, &session, 3, "sleep 0.8; echo done").await;
    let (id, reply) = posted.message().await;
    assert_eq!(reply["id"], 3);
    assert!(id.unwrap().starts_with('p'));
    assert!(!posted.raw.contains("retry:"), "{}", posted.raw);
}
