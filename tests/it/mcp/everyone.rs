//! Statement 57: one event, every kind of client, each told exactly once. Clients
//! that others wrote are in `clients.rs`.

use std::time::Duration;

use fleetd::model::Principal;
use http::Method;
use serde_json::{Value, json};

use super::rig::{Lines, MODERN, Reader, Rig, initialize, read, request};

/// The topic that everybody waits for.
const TOPIC: &str = "custom.everyone";

fn listen() -> Value {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let filter = json!({ "resourceSubscriptions": ["fleet://events"] });
    request(5, "subscriptions/listen", json!({ "notifications": filter, "_meta": meta }))
}

fn ready() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/initialized"})
}

async fn sse(rig: &Rig) -> Reader {
    let headers = [("accept", "text/event-stream")];
    let owner = Principal::owner;
    let response = rig.send_to("/sse", owner(), Method::GET, &headers, "").await;
    let mut stream = Reader::new(response.into_body());
    let endpoint = stream.next().await.unwrap().data.unwrap();
    let json = [("content-type", "application/json")];
    for message in [initialize("2024-11-05"), ready()] {
        let body = message.to_string();
        let posted = rig.send_to(&endpoint, owner(), Method::POST, &json, &body).await;
        assert_eq!(read(posted).await.status, 202);
    }
    assert_eq!(stream.message().await.1["id"], 1);
    stream
}

/// Reads by the cursor that was noted before, as one does who was notified.
async fn reads_it(rig: &Rig, before: &str) {
    let uri = format!("fleet://events?since={before}");
    let answer = rig.modern("resources/read", json!({ "uri": uri })).await.json();
    let text = answer["result"]["contents"][0]["text"].as_str().unwrap();
    let content: Value = serde_json::from_str(text).unwrap();
    let events = content["events"].as_array().unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["type"], TOPIC);
}

#[tokio::test]
async fn s57_one_event_reaches_six_kinds_of_client_exactly_once() {
    let rig = Rig::new();
    let before = rig.bus.head().to_string();
    let mut oldest = sse(&rig).await;
    let session = rig.session("2025-11-25").await;
    let mut session_stream = rig.listen(&session, None).await;
    session_stream.next().await.unwrap();
    let headers = [
        ("content-type", "application/json"),
        ("accept", "text/event-stream"),
        ("mcp-protocol-version", MODERN),
        ("mcp-method", "subscriptions/listen"),
    ];
    let listened = rig.send(Method::POST, &headers, &listen().to_string()).await;
    let mut listener = Reader::new(listened.into_body());
    listener.message().await;
    let mut legacy_lines = Lines::new(&rig);
    legacy_lines.say(initialize("2025-06-18")).await;
    assert_eq!(legacy_lines.next().await["id"], 1);
    legacy_lines.say(ready()).await;
    // Answered behind it, so it is ready by then.
    legacy_lines.say(request(2, "ping", json!({}))).await;
    assert_eq!(legacy_lines.next().await["id"], 2);
    let mut modern_lines = Lines::new(&rig);
    modern_lines.say(listen()).await;
    modern_lines.next().await;
    let waiting = rig.tool("wait_for_events", json!({ "types": [TOPIC], "since": before }));
    let publishing = rig.publish(TOPIC, "notice");
    let (waited, at) = tokio::join!(waiting, publishing);

    for stream in [&mut oldest, &mut session_stream] {
        let (_, told) = stream.message().await;
        assert_eq!(told["params"]["data"]["sequence"], at.seq.to_string());
        assert!(stream.is_silent().await);
    }
    assert_eq!(legacy_lines.next().await["params"]["data"]["sequence"], at.seq.to_string());
    assert!(legacy_lines.is_silent().await);
    assert_eq!(listener.message().await.1["params"]["uri"], "fleet://events");
    assert!(listener.is_silent().await);
    assert_eq!(modern_lines.next().await["params"]["uri"], "fleet://events");
    assert!(modern_lines.is_silent().await);
    reads_it(&rig, &before).await;
    let events = waited["structuredContent"]["events"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{waited}");
    assert_eq!(events[0]["sequence"], at.seq.to_string());
}

#[tokio::test]
async fn s54_two_hundred_listeners_are_told_within_a_second_while_one_never_reads() {
    let rig = Rig::new();
    let mut listeners = Vec::new();
    for _ in 0..200 {
        let mut listener = Lines::new(&rig);
        listener.say(listen()).await;
        listener.next().await;
        listeners.push(listener);
    }
    // The first is not read from while events come; the others are.
    for _ in 0..300 {
        rig.publish("custom.flood", "info").await;
    }
    let drains = listeners[1..].iter_mut().map(drain);
    let told = futures_util::future::join_all(drains).await;
    assert!(told.iter().all(|told| *told > 0));
    let begun = std::time::Instant::now();
    rig.publish(TOPIC, "info").await;
    for listener in &mut listeners[1..] {
        assert_eq!(listener.next().await["params"]["uri"], "fleet://events");
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    // Told what its pipe held, and of all that came while it was full once.
    let told = drain(&mut listeners[0]).await;
    assert!((1..100).contains(&told), "{told} notices of 301 events");
}

/// Reads notices until none comes; how many there were.
async fn drain(listener: &mut Lines) -> usize {
    let mut told = 0;
    while !listener.is_silent().await {
        told += 1;
    }
    told
}
