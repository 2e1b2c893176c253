//! The session's own stream.

use fleetd::model::Principal;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::rig::{Reader, Rig, initialize, read, request};

#[tokio::test]
async fn an_event_is_pushed_as_a_log_message() {
    let rig = Rig::new();
    let session = rig.session("2025-06-18").await;
    rig.publish("custom.before", "error").await;
    let mut stream = rig.listen(&session, None).await;
    let at = rig.publish("custom.deploy_done", "notice").await;
    let (id, message) = stream.message().await;
    assert_eq!(id, Some(format!("g-{at}")));
    assert_eq!(message["method"], "notifications/message");
    assert_eq!(message["params"]["level"], "notice");
    assert_eq!(message["params"]["logger"], "custom.deploy_done");
    let event = &message["params"]["data"];
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["sequence"], at.seq.to_string());
    assert!(stream.is_silent().await, "nothing from before, and nothing twice");
}

#[tokio::test]
async fn resuming_gives_exactly_what_followed() {
    let rig = Rig::new();
    let session = rig.session("2025-11-25").await;
    let mut stream = rig.listen(&session, None).await;
    let mut places = Vec::new();
    for _ in 0..5 {
        places.push(rig.publish("custom.n", "info").await);
    }
    let (second, _) = {
        stream.message().await;
        stream.message().await
    };
    drop(stream);
    let rig = rig.restart().await;
    let mut stream = rig.listen(&session, second.as_deref()).await;
    for place in &places[2..] {
        let (id, message) = stream.message().await;
        assert_eq!(id, Some(format!("g-{place}")));
        assert_eq!(message["params"]["data"]["sequence"], place.seq.to_string());
    }
    assert!(stream.is_silent().await);
}

#[tokio::test]
async fn a_priming_event_comes_first_where_clients_know_it() {
    let rig = Rig::new();
    let session = rig.session("2025-11-25").await;
    let mut stream = rig.listen(&session, None).await;
    let primed = stream.next().await.unwrap();
    let id = primed.id.unwrap();
    assert_eq!(primed.data.as_deref(), Some(""));
    assert!(stream.raw.contains("retry: 3000\n"), "{}", stream.raw);
    drop(stream);
    let at = rig.publish("custom.n", "info").await;
    let mut stream = rig.listen(&session, Some(&id)).await;
    assert_eq!(stream.message().await.0, Some(format!("g-{at}")));
    let older = rig.session("2025-06-18").await;
    let mut stream = rig.listen(&older, None).await;
    assert!(stream.is_silent().await);
    assert_eq!(stream.raw, ": open\n");
}

#[tokio::test]
async fn an_id_of_another_stream_is_refused() {
    let rig = Rig::new();
    let session = rig.session("2025-06-18").await;
    for bad in ["7", "p1-0", "00000001:1", "g-"] {
        let headers = [
            ("accept", "text/event-stream"),
            ("mcp-session-id", session.as_str()),
            ("last-event-id", bad),
        ];
        let answer = read(rig.send(Method::GET, &headers, "").await).await;
        assert_eq!((answer.status, answer.error_code()), (StatusCode::BAD_REQUEST, -32600));
    }
    let future = format!("g-{}:99", rig.bus.head().epoch);
    let headers = [
        ("accept", "text/event-stream"),
        ("mcp-session-id", session.as_str()),
        ("last-event-id", future.as_str()),
    ];
    let answer = read(rig.send(Method::GET, &headers, "").await).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_cursor_of_another_epoch_is_told_as_a_gap() {
    let rig = Rig::new();
    let session = rig.session("2025-06-18").await;
    rig.publish("custom.n", "info").await;
    let mut epoch = rig.bus.head().epoch;
    epoch.0 ^= 1;
    let mut stream = rig.listen(&session, Some(&format!("g-{epoch}:1"))).await;
    let (_, message) = stream.message().await;
    assert_eq!(message["params"]["logger"], "gap");
    assert_eq!(message["params"]["data"]["reason"], "epoch");
}

#[tokio::test]
async fn the_level_is_honoured_and_can_change_while_the_stream_is_open() {
    let rig = Rig::new();
    let session = rig.session("2025-06-18").await;
    let mut stream = rig.listen(&session, None).await;
    rig.publish("custom.quiet", "debug").await;
    let loud = rig.publish("custom.loud", "info").await;
    assert_eq!(stream.message().await.0, Some(format!("g-{loud}")));
    let set = async |level: &str| {
        rig.post(Some(&session), &request(5, "logging/setLevel", json!({"level": level})))
            .await
            .json()
    };
    assert_eq!(set("error").await["result"], json!({}));
    rig.publish("custom.loud", "warning").await;
    let error = rig.publish("custom.loud", "error").await;
    assert_eq!(stream.message().await.0, Some(format!("g-{error}")));
    assert_eq!(set("critical").await["result"], json!({}));
    rig.publish("custom.loud", "error").await;
    assert!(stream.is_silent().await);
    assert_eq!(set("debug").await["result"], json!({}));
    let debug = rig.publish("custom.quiet", "debug").await;
    assert_eq!(stream.message().await.0, Some(format!("g-{debug}")));
    assert_eq!(set("loud").await["error"]["code"], Value::from(-32602));
}

#[tokio::test]
async fn one_event_reaches_one_stream_of_a_session() {
    let rig = Rig::new();
    let session = rig.session("2025-06-18").await;
    let mut older = rig.listen(&session, None).await;
    let mut newer = rig.listen(&session, None).await;
    let mut other = rig.listen(&rig.session("2025-03-26").await, None).await;
    let at = rig.publish("custom.n", "info").await;
    assert_eq!(older.next().await, None, "the older stream ends");
    assert_eq!(newer.message().await.0, Some(format!("g-{at}")));
    assert_eq!(other.message().await.0, Some(format!("g-{at}")));
    assert!(newer.is_silent().await);
}

#[tokio::test]
async fn a_stream_says_what_it_wants_to_hear_of() {
    let rig = Rig::new();
    let session = rig.session("2025-06-18").await;
    let mut wanted = vec![
        ("accept", "text/event-stream"),
        ("mcp-session-id", session.as_str()),
        ("fleetd-types", "custom.a, custom.b.>"),
    ];
    for address in ["/mcp", "/sse"] {
        let owner = Principal::owner();
        let response = rig.send_to(address, owner, Method::GET, &wanted, "").await;
        let mut stream = Reader::new(response.into_body());
        if address == "/sse" {
            let endpoint = stream.next().await.unwrap().data.unwrap();
            let json = [("content-type", "application/json")];
            let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
            for message in [initialize("2024-11-05"), ready] {
                let owner = Principal::owner();
                let body = message.to_string();
                rig.send_to(&endpoint, owner, Method::POST, &json, &body).await;
            }
            assert_eq!(stream.message().await.1["id"], 1);
        }
        for topic in ["custom.other", "custom.a", "custom.b", "custom.b.c"] {
            rig.publish(topic, "info").await;
        }
        for topic in ["custom.a", "custom.b.c"] {
            assert_eq!(stream.message().await.1["params"]["logger"], topic);
        }
        assert!(stream.is_silent().await);
    }
    wanted[2].1 = "custom..a";
    let refused = read(rig.send(Method::GET, &wanted, "").await).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{refused:?}");
}

#[tokio::test]
async fn closing_ends_every_stream() {
    let rig = Rig::new();
    let session = rig.session("2025-06-18").await;
    let mut stream = rig.listen(&session, None).await;
    rig.mcp.close();
    assert_eq!(stream.next().await, None);
}
