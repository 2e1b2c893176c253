//! HTTP+SSE (2024-11-05).

use std::sync::Arc;

use fleetd::model::Principal;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::rig::{Reader, Rig, initialize, read, request};

/// A stream and the address to post to.
async fn open(rig: &Rig, address: &str) -> (Reader, String) {
    let headers = [("accept", "text/event-stream")];
    let owner = Principal::owner();
    let response = rig.send_to(address, owner, Method::GET, &headers, "").await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut stream = Reader::new(response.into_body());
    let first = stream.next().await.unwrap();
    assert_eq!(first.event, "endpoint");
    let endpoint = first.data.unwrap();
    assert!(endpoint.starts_with("/messages?sessionId="), "of the same origin: {endpoint}");
    (stream, endpoint)
}

async fn post_as(rig: &Rig, who: Principal, endpoint: &str, message: &Value) -> StatusCode {
    let headers = [("content-type", "application/json")];
    let body = message.to_string();
    read(rig.send_to(endpoint, who, Method::POST, &headers, &body).await).await.status
}

async fn post(rig: &Rig, endpoint: &str, message: &Value) {
    let status = post_as(rig, Principal::owner(), endpoint, message).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{message}");
}

async fn ready(rig: &Rig, stream: &mut Reader, endpoint: &str) {
    post(rig, endpoint, &initialize("2024-11-05")).await;
    let (none, reply) = stream.message().await;
    assert_eq!((none, &reply["id"]), (None, &json!(1)));
    assert_eq!(reply["result"]["protocolVersion"], "2024-11-05");
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    post(rig, endpoint, &ready).await;
}

#[tokio::test]
async fn everything_is_posted_and_said_on_the_stream() {
    let rig = Rig::new();
    for address in ["/sse", "/mcp"] {
        let (mut stream, endpoint) = open(&rig, address).await;
        rig.publish("custom.early", "info").await;
        assert!(stream.is_silent().await, "nothing before the client is ready");
        ready(&rig, &mut stream, &endpoint).await;
        let call = json!({"name": "execute_command", "arguments": {"command": "echo hi"}});
        post(&rig, &endpoint, &request(8, "tools/call", call)).await;
        let reply = loop {
            let (_, message) = stream.message().await;
            if message["id"] == 8 {
                break message;
            }
            assert_eq!(message["method"], "notifications/message", "{message}");
        };
        assert_eq!(reply["result"]["structuredContent"]["stdout"], "hi\n");
        let at = rig.publish("custom.pushed", "notice").await;
        let pushed = loop {
            let (id, message) = stream.message().await;
            assert_eq!(id, None, "this revision knows no ids");
            if message["params"]["logger"] == "custom.pushed" {
                break message;
            }
        };
        assert_eq!(pushed["params"]["data"]["sequence"], at.seq.to_string());
        let unknown = request(9, "fleet/dance", json!({}));
        post(&rig, &endpoint, &unknown).await;
        assert_eq!(stream.message().await.1["error"]["code"], -32601);
    }
}

#[tokio::test]
async fn a_batch_is_answered_together_on_the_stream() {
    let rig = Rig::new();
    let (mut stream, endpoint) = open(&rig, "/sse").await;
    ready(&rig, &mut stream, &endpoint).await;
    let batch = json!([request(4, "ping", json!({})), request(5, "ping", json!({}))]);
    post(&rig, &endpoint, &batch).await;
    assert_eq!(stream.message().await.1.as_array().map(Vec::len), Some(2));
    let owner = Principal::owner();
    assert_eq!(post_as(&rig, owner, &endpoint, &json!([])).await, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_watched_resource_is_told_of() {
    let rig = Rig::new();
    let (mut stream, endpoint) = open(&rig, "/sse").await;
    ready(&rig, &mut stream, &endpoint).await;
    let watch = request(3, "resources/subscribe", json!({"uri": "fleet://events"}));
    post(&rig, &endpoint, &watch).await;
    assert_eq!(stream.message().await.1["result"], json!({}));
    rig.publish("custom.n", "debug").await;
    let (_, told) = stream.message().await;
    assert_eq!(told["method"], "notifications/resources/updated");
    assert_eq!(told["params"]["uri"], "fleet://events");
}

#[tokio::test]
async fn an_address_is_worth_nothing_without_its_stream_and_principal() {
    let rig = Rig::new();
    let (stream, endpoint) = open(&rig, "/sse").await;
    let ping = request(1, "ping", json!({}));
    let stranger = Principal { id: Arc::from("stranger"), ..Principal::owner() };
    assert_eq!(post_as(&rig, stranger, &endpoint, &ping).await, StatusCode::NOT_FOUND);
    let owner = Principal::owner;
    let bad = post_as(&rig, owner(), "/messages", &ping).await;
    assert_eq!(bad, StatusCode::BAD_REQUEST, "the id is missing");
    let unknown = post_as(&rig, owner(), "/messages?sessionId=00", &ping).await;
    assert_eq!(unknown, StatusCode::NOT_FOUND);
    let unsound = post_as(&rig, owner(), &endpoint, &json!({"id": 1})).await;
    assert_eq!(unsound, StatusCode::BAD_REQUEST);
    assert_eq!(post_as(&rig, owner(), &endpoint, &ping).await, StatusCode::ACCEPTED);
    drop(stream);
    assert_eq!(post_as(&rig, owner(), &endpoint, &ping).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_transport_can_be_switched_off() {
    let rig = Rig::new();
    rig.mcp.set_legacy_sse(false);
    let headers = [("accept", "text/event-stream")];
    for (address, status) in [("/sse", 404), ("/mcp", 400)] {
        let owner = Principal::owner();
        let answer = rig.send_to(address, owner, Method::GET, &headers, "").await;
        assert_eq!(answer.status().as_u16(), status, "{address}");
    }
}
