//! Sessions: from the handshake to their end.

use fleetd::model::Principal;
use http::{Method, StatusCode};
use serde_json::json;

use super::rig::{Answer, Rig, initialize, read, request};

async fn delete(rig: &Rig, session: &str) -> Answer {
    read(rig.send(Method::DELETE, &[("mcp-session-id", session)], "").await).await
}

#[tokio::test]
async fn a_handshake_gets_the_revision_it_asks_for_or_our_newest() {
    let rig = Rig::new();
    for (asked, given) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let answer = rig.post(None, &initialize(asked)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let result = answer.json()["result"].take();
        assert_eq!(result["protocolVersion"], given, "{asked}");
        assert_eq!(result["serverInfo"]["name"], "fleetd");
        assert!(result["capabilities"]["tools"].is_object());
        assert!(result["capabilities"]["logging"].is_object());
        assert!(result["instructions"].as_str().unwrap().contains("wait_for_events"));
        let id = answer.session.unwrap();
        assert!(id.len() >= 32 && id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)), "{id}");
        let pong = rig.post(Some(&id), &request(2, "ping", json!({}))).await;
        assert_eq!(pong.json()["result"], json!({}), "{asked}");
    }
}

#[tokio::test]
async fn a_missing_id_is_400_and_an_unknown_one_404() {
    let rig = Rig::new();
    let ping = request(2, "ping", json!({}));
    let missing = rig.post(None, &ping).await;
    assert_eq!((missing.status, missing.error_code()), (StatusCode::BAD_REQUEST, -32600));
    assert_eq!(missing.json()["id"], 2);
    let id = rig.session("2025-06-18").await;
    for forged in ["nonsense", &id[1..], &format!("{id}0"), &id.replace(&id[4..5], "x")] {
        let unknown = rig.post(Some(forged), &ping).await;
        assert_eq!((unknown.status, unknown.error_code()), (StatusCode::NOT_FOUND, -32600));
    }
}

#[tokio::test]
async fn another_principals_session_is_none() {
    let rig = Rig::new();
    let id = rig.session("2025-06-18").await;
    let other = Principal { id: "other".into(), ..Principal::owner() };
    let headers = [("content-type", "application/json"), ("mcp-session-id", &id)];
    let ping = request(2, "ping", json!({})).to_string();
    let answer = read(rig.send_as(other, Method::POST, &headers, &ping).await).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_ended_session_stays_ended() {
    let rig = Rig::new();
    let id = rig.session("2025-06-18").await;
    let mut stream = rig.listen(&id, None).await;
    assert_eq!(delete(&rig, &id).await.status, StatusCode::NO_CONTENT);
    assert_eq!(stream.next().await, None, "its stream ends");
    assert_eq!(delete(&rig, &id).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        rig.post(Some(&id), &request(2, "ping", json!({}))).await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(delete(&rig, "unknown").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_id_survives_a_restart_of_the_daemon() {
    let rig = Rig::new();
    let id = rig.session("2025-06-18").await;
    let rig = rig.restart().await;
    let pong = rig.post(Some(&id), &request(2, "ping", json!({}))).await;
    assert_eq!(pong.status, StatusCode::OK);
}

#[tokio::test]
async fn notifications_and_answers_are_taken_without_a_body() {
    let rig = Rig::new();
    let id = rig.session("2025-06-18").await;
    for message in [
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 1, "result": {}}),
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}}),
    ] {
        let answer = rig.post(Some(&id), &message).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::ACCEPTED, 0));
    }
}
