//! What a session asked for, after a restart of which its client knows nothing.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::rig::{Rig, read, request};
use crate::support::eventually_async;

async fn ask(rig: &Rig, session: &str, method: &str, params: Value) {
    let answer = rig.post(Some(session), &request(3, method, params)).await;
    assert_eq!(answer.json()["result"], json!({}), "{method}");
}

#[tokio::test]
async fn what_is_watched_is_told_of_after_a_restart() {
    let rig = Rig::new();
    let session = rig.session("2025-06-18").await;
    ask(&rig, &session, "logging/setLevel", json!({"level": "emergency"})).await;
    ask(&rig, &session, "resources/subscribe", json!({"uri": "fleet://tasks"})).await;
    ask(&rig, &session, "resources/subscribe", json!({"uri": "fleet://events"})).await;
    ask(&rig, &session, "resources/unsubscribe", json!({"uri": "fleet://events"})).await;
    let rig = rig.restart().await;
    let mut stream = rig.listen(&session, None).await;
    rig.publish("custom.n", "error").await;
    assert!(stream.is_silent().await, "neither the level nor the end of a watch is forgotten");
    rig.tool("execute_command", json!({"command": "true"})).await;
    let (_, told) = stream.message().await;
    assert_eq!(told["method"], "notifications/resources/updated");
    assert_eq!(told["params"]["uri"], "fleet://tasks");
    // What is taken back stays taken back.
    drop(stream);
    ask(&rig, &session, "resources/unsubscribe", json!({"uri": "fleet://tasks"})).await;
    let rig = rig.restart().await;
    let mut stream = rig.listen(&session, None).await;
    rig.tool("execute_command", json!({"command": "true"})).await;
    assert!(stream.is_silent().await, "nobody watches any more");
}

#[tokio::test]
async fn a_change_while_the_daemon_was_away_is_told_too() {
    let rig = Rig::new();
    let session = rig.session("2025-06-18").await;
    ask(&rig, &session, "logging/setLevel", json!({"level": "emergency"})).await;
    ask(&rig, &session, "resources/subscribe", json!({"uri": "fleet://events"})).await;
    rig.publish("custom.n", "info").await;
    let rig = rig.restart().await;
    let mut stream = rig.listen(&session, None).await;
    assert_eq!(stream.message().await.1["params"]["uri"], "fleet://events");
    assert!(stream.is_silent().await);
    drop(stream);
    // In a new life of the journal nobody knows what changed: it is told as changed.
    let rig = rig.restart_in_new_epoch().await;
    let mut stream = rig.listen(&session, None).await;
    assert_eq!(stream.message().await.1["params"]["uri"], "fleet://events");
}

/// A session that watches every event and hears nothing else.
async fn watching(rig: &Rig) -> String {
    let session = rig.session("2025-06-18").await;
    ask(rig, &session, "logging/setLevel", json!({"level": "emergency"})).await;
    ask(rig, &session, "resources/subscribe", json!({"uri": "fleet://events"})).await;
    session
}

#[tokio::test]
async fn however_much_was_missed_it_is_one_notice_and_only_once() {
    let rig = Rig::new();
    let session = watching(&rig).await;
    ask(&rig, &session, "resources/subscribe", json!({"uri": "fleet://tasks"})).await;
    // Some megabytes, most of which only the database still has.
    rig.publish_many("custom.much", 20_000).await;
    let mut stream = rig.listen(&session, None).await;
    assert_eq!(stream.message().await.1["params"]["uri"], "fleet://events");
    assert!(stream.is_silent().await, "one notice, and none of what was not touched");
    drop(stream);
    let mut stream = rig.listen(&session, None).await;
    assert!(stream.is_silent().await, "it was told already");
    // Nor does one that stalls get more than one.
    rig.publish_many("custom.more", 20_000).await;
    rig.publish("custom.last", "info").await;
    assert_eq!(stream.message().await.1["params"]["uri"], "fleet://events");
    assert!(stream.is_silent().await);
}

/// The place from which the only session is told what it watches, as it is stored.
async fn place(rig: &Rig) -> Value {
    let rows = rig.bus.store().read(|snapshot| snapshot.sessions()).await.unwrap();
    serde_json::from_str::<Value>(&rows[0].settings).unwrap()["watched_since"].take()
}

#[tokio::test]
async fn what_was_told_is_not_told_again_by_every_daemon() {
    let rig = Rig::new();
    let session = watching(&rig).await;
    let first = place(&rig).await;
    rig.publish_many("custom.n", 100).await;
    let mut stream = rig.listen(&session, None).await;
    assert_eq!(stream.message().await.1["params"]["uri"], "fleet://events");
    assert!(stream.is_silent().await);
    drop(stream);
    drop(rig.listen(&session, None).await);
    eventually_async("the place moves on", async || place(&rig).await != first).await;
    let rig = rig.restart().await;
    let mut stream = rig.listen(&session, None).await;
    assert!(stream.is_silent().await, "nothing was missed");
    rig.publish("custom.n", "info").await;
    assert_eq!(stream.message().await.1["params"]["uri"], "fleet://events");
}

#[tokio::test]
async fn an_ended_session_stays_ended_after_a_restart() {
    let rig = Rig::new();
    let session = rig.session("2025-06-18").await;
    let headers = [("mcp-session-id", session.as_str())];
    assert_eq!(read(rig.send(Method::DELETE, &headers, "").await).await.status, 204);
    let rig = rig.restart().await;
    let ping = rig.post(Some(&session), &request(2, "ping", json!({}))).await;
    assert_eq!(ping.status, StatusCode::NOT_FOUND);
    assert_eq!(read(rig.send(Method::DELETE, &headers, "").await).await.status, 404);
    let stream = [("accept", "text/event-stream"), headers[0]];
    assert_eq!(read(rig.send(Method::GET, &stream, "").await).await.status, 404);
}

/// What is kept of how clients can be woken.
async fn wakes(rig: &Rig) -> Vec<Value> {
    let rows = rig.bus.store().read(|snapshot| snapshot.sessions()).await.unwrap();
    rows.into_iter().map(|row| serde_json::to_value(row.wake).unwrap()).collect()
}

#[tokio::test]
async fn how_a_client_can_be_woken_is_kept_with_its_session() {
    let rig = Rig::new();
    let session = rig.session("2025-11-25").await;
    assert_eq!(wakes(&rig).await, Vec::<Value>::new(), "a handshake alone leaves nothing");
    // Codex says with every call which thread it comes from.
    let call = json!({"name": "version", "arguments": {}, "_meta": {"threadId": "0199-ab"}});
    rig.post(Some(&session), &request(2, "tools/call", call)).await;
    assert_eq!(wakes(&rig).await, [json!({"codex_thread": "0199-ab"})]);
    let bad = json!({"name": "version", "arguments": {}, "_meta": {"threadId": "a\nb"}});
    rig.post(Some(&session), &request(2, "tools/call", bad)).await;
    let rig = rig.restart().await;
    assert_eq!(wakes(&rig).await, [json!({"codex_thread": "0199-ab"})]);
    // It goes with the session.
    read(rig.send(Method::DELETE, &[("mcp-session-id", &session)], "").await).await;
    assert_eq!(wakes(&rig).await, [json!({})]);
}
