//! What must not touch: two eras of one client, and the streams of one session
//! (statements 24, 32 and 69).

use std::collections::HashSet;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::rig::{Reader, Rig, read, request};

#[tokio::test]
async fn s69_a_session_and_requests_of_the_stateless_era_share_nothing() {
    let rig = Rig::new();
    let wait =
        json!({"name": "wait_for_events", "arguments": {"types": ["custom.go"], "timeout_s": 40}});
    // The same principal and the same request id in both eras.
    let mut modern = Reader::new(rig.modern_response("tools/call", wait.clone()).await.into_body());
    let session = rig.session("2025-11-25").await;
    let headers = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-session-id", session.as_str()),
    ];
    let legacy = request(7, "tools/call", wait).to_string();
    let mut legacy = Reader::new(rig.send(Method::POST, &headers, &legacy).await.into_body());
    assert_eq!(legacy.next().await.unwrap().data.as_deref(), Some(""), "the priming event");
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}});
    rig.post(Some(&session), &cancel).await;
    assert_eq!(legacy.next().await, None, "the session's own call is cancelled");
    assert!(modern.is_silent().await, "the other one is not");
    // Neither the level nor what the session watches changes what is listened to.
    let level = request(8, "logging/setLevel", json!({"level": "emergency"}));
    rig.post(Some(&session), &level).await;
    let watch = request(9, "resources/subscribe", json!({"uri": "fleet://events"}));
    rig.post(Some(&session), &watch).await;
    let filter = json!({ "notifications": { "resourceSubscriptions": ["fleet://tasks"] } });
    let listening = rig.modern_response("subscriptions/listen", filter).await;
    let mut listening = Reader::new(listening.into_body());
    listening.message().await;
    rig.publish("custom.go", "info").await;
    assert!(listening.is_silent().await, "only what it asked for itself");
    let (_, reply) = modern.message().await;
    assert_eq!(reply["id"], 7);
    assert_eq!(reply["result"]["structuredContent"]["events"].as_array().unwrap().len(), 1);
}

/// Ids of everything a stream says until it is silent or ends.
async fn ids(stream: &mut Reader, most: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < most {
        let Some(frame) = stream.next().await else { break };
        ids.extend(frame.id);
    }
    ids
}

#[tokio::test]
async fn s24_ids_are_unique_over_all_streams_of_a_session() {
    let rig = Rig::new();
    let session = rig.session("2025-11-25").await;
    let mut all = Vec::new();
    let mut own = rig.listen(&session, None).await;
    // Two streams at the same place of the journal, one after the other.
    all.extend(ids(&mut own, 1).await);
    drop(own);
    let mut own = rig.listen(&session, None).await;
    for _ in 0..3 {
        rig.publish("custom.n", "info").await;
    }
    all.extend(ids(&mut own, 4).await);
    drop(own);
    let mut resumed = rig.listen(&session, all.last().map(String::as_str)).await;
    rig.publish("custom.n", "info").await;
    all.extend(ids(&mut resumed, 1).await);
    for id in [1, 2] {
        let headers = [
            ("content-type", "application/json"),
            ("accept", "text/event-stream"),
            ("mcp-session-id", session.as_str()),
        ];
        let call = request(id, "tools/call", json!({"name": "version", "arguments": {}}));
        let answer = rig.send(Method::POST, &headers, &call.to_string()).await;
        all.extend(ids(&mut Reader::new(answer.into_body()), 9).await);
    }
    assert!(all.len() >= 10, "{all:?}");
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "{all:?}");
}

#[tokio::test]
async fn s32_the_revision_s_header_may_be_missing_but_not_wrong() {
    let rig = Rig::new();
    for revision in ["2025-06-18", "2025-11-25"] {
        let session = rig.session(revision).await;
        let ping = async |version: Option<&str>| {
            let mut headers =
                vec![("content-type", "application/json"), ("mcp-session-id", session.as_str())];
            headers.extend(version.map(|version| ("mcp-protocol-version", version)));
            let ping = request(2, "ping", json!({})).to_string();
            read(rig.send(Method::POST, &headers, &ping).await).await
        };
        for good in [None, Some(revision)] {
            let pong = ping(good).await;
            assert_eq!((pong.status, pong.json()["result"].take()), (StatusCode::OK, json!({})));
        }
        let bad = ping(Some("1999-01-01")).await;
        assert_eq!(bad.status, StatusCode::BAD_REQUEST);
        assert!(bad.json()["error"]["code"].is_i64());
    }
    // A client that comes back after a restart of its own sends a former id along.
    let former = rig.session("2025-06-18").await;
    for stale in [former.as_str(), "nonsense"] {
        let begun = rig.post(Some(stale), &super::rig::initialize("2025-06-18")).await;
        assert_eq!(begun.status, StatusCode::OK);
        assert!(begun.session.as_deref().is_some_and(|id| id != stale));
        assert_eq!(begun.json()["result"]["protocolVersion"], Value::from("2025-06-18"));
    }
}
