//! Waiting for events instead of polling.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::rig::{Reader, Rig, initialize, request};
use crate::support::eventually_async;

fn sequences(result: &Value) -> Vec<u64> {
    let events = result["structuredContent"]["events"].as_array().unwrap();
    events.iter().map(|event| event["sequence"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn a_wait_ends_when_the_event_happens() {
    let rig = Rig::new();
    let params = json!({
        "name": "wait_for_events",
        "arguments": {"types": ["custom.*"], "timeout_s": 30},
        "_meta": {"progressToken": "p"},
    });
    let response = rig.modern_response("tools/call", params).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = Reader::new(response.into_body());
    let (id, progress) = stream.message().await;
    assert_eq!(id, None, "the modern era has no ids");
    assert_eq!(progress["method"], "notifications/progress");
    assert_eq!(progress["params"]["progressToken"], "p");
    let at = rig.publish("custom.done", "info").await;
    let published = Instant::now();
    let (_, reply) = stream.message().await;
    assert!(published.elapsed() < Duration::from_millis(100), "{:?}", published.elapsed());
    let result = &reply["result"];
    assert_eq!(sequences(result), [at.seq]);
    assert_eq!(result["structuredContent"]["cursor"], at.to_string());
    assert_eq!(result["structuredContent"]["timed_out"], false);
    assert_eq!(stream.next().await, None, "the stream ends with the reply");
}

#[tokio::test]
async fn a_wait_shows_itself_soon_without_a_progress_token_too() {
    let rig = Rig::new();
    let began = Instant::now();
    let params = json!({"name": "wait_for_events", "arguments": {"timeout_s": 30}});
    let response = rig.modern_response("tools/call", params).await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let mut stream = Reader::new(response.into_body());
    assert!(stream.is_silent().await);
    assert_eq!(stream.raw, ": open\n");
}

#[tokio::test]
async fn what_happened_since_the_cursor_is_returned_at_once_as_json() {
    let rig = Rig::new();
    let first = rig.publish("custom.n", "info").await;
    let second = rig.publish("custom.n", "info").await;
    let result = rig.tool("wait_for_events", json!({"since": first.to_string()})).await;
    assert_eq!(sequences(&result), [second.seq]);
    let all = rig.tool("wait_for_events", json!({"since": "0", "limit": 1})).await;
    assert_eq!(sequences(&all), [first.seq]);
    assert_eq!(all["structuredContent"]["more"], true);
    assert_eq!(all["structuredContent"]["cursor"], first.to_string());
}

#[tokio::test]
async fn a_wait_that_times_out_says_how_to_go_on() {
    let rig = Rig::new();
    let at = rig.publish("custom.n", "info").await;
    let result = rig.tool("wait_for_events", json!({"types": ["task.*"], "timeout_s": 0})).await;
    assert_eq!(result["structuredContent"]["timed_out"], true);
    assert_eq!(result["structuredContent"]["cursor"], at.to_string());
    let text = result["content"][0]["text"].as_str().unwrap();
    assert!(text.contains(&at.to_string()) && text.contains("again"), "{text}");
}

#[tokio::test]
async fn a_cursor_from_the_future_is_refused_by_name() {
    let rig = Rig::new();
    let future = format!("{}:99", rig.bus.head().epoch);
    let wait = json!({"as": "me", "timeout_s": 0});
    for (tool, later) in [("wait_for_events", wait), ("list_events", json!({"as": "me"}))] {
        let result = rig.tool(tool, json!({"since": future})).await;
        assert_eq!(result["_meta"]["fleetd/error"]["code"], "cursor_in_future", "{result}");
        let named = rig.tool(tool, json!({"since": future, "as": "me"})).await;
        assert_eq!(named["_meta"]["fleetd/error"]["code"], "cursor_in_future", "{named}");
        let later = rig.tool(tool, later).await;
        assert!(later["structuredContent"].is_object(), "kept under the name: {later}");
        let unnamed = rig.tool(tool, json!({"as": "not a name"})).await;
        assert_eq!(unnamed["_meta"]["fleetd/error"]["code"], "invalid_argument");
        let result = rig.tool(tool, json!({"since": "yesterday"})).await;
        assert_eq!(result["_meta"]["fleetd/error"]["code"], "invalid_argument");
    }
}

#[tokio::test]
async fn a_name_keeps_the_place_until_the_next_call() {
    let rig = Rig::new();
    let wait = json!({"as": "hook", "timeout_s": 0, "limit": 1});
    let none = rig.tool("wait_for_events", wait.clone()).await;
    assert_eq!(none["structuredContent"]["timed_out"], true);
    let places = [rig.publish("custom.n", "info").await, rig.publish("custom.n", "info").await];
    assert_eq!(sequences(&rig.tool("wait_for_events", wait.clone()).await), [places[0].seq]);
    let rig = rig.restart().await;
    assert_eq!(sequences(&rig.tool("wait_for_events", wait.clone()).await), [places[1].seq]);
    let again = rig.tool("list_events", json!({"as": "hook"})).await;
    assert_eq!(sequences(&again), Vec::<u64>::new());
}

#[tokio::test]
async fn a_limit_of_nothing_only_moves_the_name() {
    let rig = Rig::new();
    let first = rig.publish("custom.n", "info").await;
    let second = rig.publish("custom.n", "info").await;
    let place = json!({"as": "hook", "limit": 0});
    let at = |result: &Value| result["structuredContent"]["cursor"].clone();
    let new = rig.tool("list_events", place.clone()).await;
    assert_eq!((at(&new), sequences(&new)), (second.to_string().into(), vec![]));
    let back = json!({"as": "hook", "limit": 0, "since": first.to_string()});
    let moved = rig.tool("list_events", back).await;
    assert_eq!((at(&moved), sequences(&moved)), (first.to_string().into(), vec![]));
    for _ in 0..2 {
        assert_eq!(at(&rig.tool("list_events", place.clone()).await), first.to_string());
    }
    assert_eq!(sequences(&rig.tool("list_events", json!({"as": "hook"})).await), [second.seq]);
    let unnamed = rig.tool("list_events", json!({"limit": 0})).await;
    assert_eq!(unnamed["_meta"]["fleetd/error"]["code"], "invalid_argument");
}

#[tokio::test]
async fn a_name_tells_a_new_epoch_once() {
    let rig = Rig::new();
    let list = json!({"as": "hook"});
    let first = rig.publish("custom.n", "info").await;
    assert_eq!(sequences(&rig.tool("list_events", list.clone()).await), [first.seq]);
    let rig = rig.restart_in_new_epoch().await;
    let gap = |result: &Value| result["structuredContent"]["gap"]["reason"].clone();
    assert_eq!(gap(&rig.tool("list_events", list.clone()).await), "epoch");
    let second = rig.publish("custom.n", "info").await;
    assert_ne!(second.epoch, first.epoch);
    let next = rig.tool("list_events", list).await;
    assert_eq!((gap(&next), sequences(&next)), (Value::Null, vec![second.seq]));
}

#[tokio::test]
async fn a_list_holds_the_newest() {
    let rig = Rig::new();
    let mut places = Vec::new();
    for n in 0..600 {
        let topic = if n < 3 { "custom.rare" } else { "custom.n" };
        places.push(rig.publish(topic, "info").await.seq);
    }
    let newest = rig.tool("list_events", json!({"limit": 2})).await;
    assert_eq!(sequences(&newest), places[598..]);
    let rare = rig.tool("list_events", json!({"limit": 2, "types": ["custom.rare"]})).await;
    assert_eq!(sequences(&rare), places[1..3]);
    let since = format!("{}:{}", rig.bus.head().epoch, places[1]);
    let after = rig.tool("list_events", json!({"since": since, "types": ["custom.rare"]})).await;
    assert_eq!(sequences(&after), places[2..3]);
    assert_eq!(after["structuredContent"]["cursor"], rig.bus.head().to_string());
}

#[tokio::test]
async fn a_list_finds_what_is_rare_far_back() {
    let rig = Rig::new();
    let rare = rig.publish("custom.rare", "info").await.seq;
    rig.publish_many("custom.n", 20_500).await;
    let found = rig.tool("list_events", json!({"limit": 2, "types": ["custom.rare"]})).await;
    assert_eq!(sequences(&found), [rare]);
    assert_eq!(found["structuredContent"]["cursor"], rig.bus.head().to_string());
}

#[tokio::test]
async fn an_answer_is_bounded_in_bytes() {
    let rig = Rig::new();
    for _ in 0..4 {
        let data = "x".repeat(100_000);
        rig.tool("publish_event", json!({"type": "custom.big", "data": data})).await;
    }
    let page = rig.tool("list_events", json!({"since": "0"})).await;
    assert_eq!(sequences(&page), [1, 2]);
    assert_eq!(page["structuredContent"]["more"], true);
    let newest = rig.tool("list_events", json!({})).await;
    assert_eq!(sequences(&newest), [3, 4]);
}

#[tokio::test]
async fn the_same_id_is_stored_once() {
    let rig = Rig::new();
    let event = json!({"type": "custom.n", "id": "one"});
    let first = rig.tool("publish_event", event.clone()).await;
    let second = rig.tool("publish_event", event).await;
    assert_eq!(first["structuredContent"]["duplicate"], false);
    assert_eq!(second["structuredContent"]["duplicate"], true);
    assert_eq!(first["structuredContent"]["cursor"], second["structuredContent"]["cursor"]);
    let ours = rig.tool("publish_event", json!({"type": "task.completed"})).await;
    assert!(ours["content"][0]["text"].as_str().unwrap().contains("custom."), "{ours}");
}

#[tokio::test]
async fn a_cancelled_call_falls_silent_and_a_lost_one_ends_its_wait() {
    let rig = Rig::new();
    let session = rig.session("2025-11-25").await;
    let headers = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-session-id", session.as_str()),
    ];
    let call = json!({"name": "wait_for_events", "arguments": {"timeout_s": 40}});
    let wait = request(9, "tools/call", call).to_string();
    let response = rig.send(Method::POST, &headers, &wait).await;
    let mut stream = Reader::new(response.into_body());
    assert_eq!(stream.next().await.unwrap().data.as_deref(), Some(""), "the priming event");
    assert!(stream.is_silent().await);
    assert_eq!(rig.bus.stats().subscriptions, 1);
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}});
    assert_eq!(rig.post(Some(&session), &cancel).await.status, StatusCode::ACCEPTED);
    assert_eq!(stream.next().await, None, "no reply follows");
    no_subscription(&rig).await;
    // Lost before there was a stream to resume.
    let lost = rig.send(Method::POST, &headers, &wait);
    assert!(tokio::time::timeout(Duration::from_millis(100), lost).await.is_err());
    no_subscription(&rig).await;
    // And in the era that has no resumption.
    drop(rig.modern_response("tools/call", json!({"name": "wait_for_events"})).await);
    no_subscription(&rig).await;
}

async fn no_subscription(rig: &Rig) {
    eventually_async("the wait ends", async || rig.bus.stats().subscriptions == 0).await;
}

#[tokio::test]
async fn a_client_that_takes_only_json_gets_json() {
    let rig = Rig::new();
    let headers = [("content-type", "application/json"), ("accept", "application/json")];
    let response = rig.send(Method::POST, &headers, &initialize("2025-06-18").to_string()).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let headers = [("content-type", "application/json"), ("accept", "text/event-stream")];
    let response = rig.send(Method::POST, &headers, &initialize("2025-06-18").to_string()).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert!(response.headers().contains_key("mcp-session-id"));
}
