//! Every refusal is JSON-RPC.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::rig::{Answer, MODERN, Rig, initialize, read, request};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn post(rig: &Rig, headers: &[(&str, &str)], body: &str) -> Answer {
    read(rig.send(Method::POST, headers, body).await).await
}

#[tokio::test]
async fn what_is_not_json_is_a_parse_error() {
    let rig = Rig::new();
    for bad in ["", "{", "ping", "\u{0}"] {
        let answer = post(&rig, &[JSON], bad).await;
        assert_eq!((answer.status, answer.error_code()), (StatusCode::BAD_REQUEST, -32700));
        assert!(answer.json().get("id").is_none());
    }
    let twice = r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"initialize"}"#;
    assert_eq!(post(&rig, &[JSON], twice).await.error_code(), -32600);
    let odd = r#"{"jsonrpc":"2.0","id":1,"Method":"ping"}"#;
    assert_eq!(post(&rig, &[JSON], odd).await.error_code(), -32600);
}

#[tokio::test]
async fn http_refusals_are_json_too() {
    let rig = Rig::new();
    let plain = post(&rig, &[("content-type", "text/plain")], "{}").await;
    assert_eq!((plain.status, plain.error_code()), (StatusCode::UNSUPPORTED_MEDIA_TYPE, -32600));
    let html = post(&rig, &[JSON, ("accept", "text/html")], "{}").await;
    assert_eq!((html.status, html.error_code()), (StatusCode::NOT_ACCEPTABLE, -32600));
    let put = read(rig.send(Method::PUT, &[JSON], "{}").await).await;
    assert_eq!((put.status, put.error_code()), (StatusCode::METHOD_NOT_ALLOWED, -32600));
    let accept = ("accept", "text/event-stream");
    let modern = [accept, ("mcp-protocol-version", MODERN)];
    let get = read(rig.send(Method::GET, &modern, "").await).await;
    assert_eq!((get.status, get.error_code()), (StatusCode::METHOD_NOT_ALLOWED, -32600));
    let nameless = [accept, ("mcp-protocol-version", "2025-06-18")];
    let get = read(rig.send(Method::GET, &nameless, "").await).await;
    assert_eq!((get.status, get.error_code()), (StatusCode::BAD_REQUEST, -32600));
}

#[tokio::test]
async fn a_modern_request_that_is_wrong_is_told_in_modern_terms() {
    let rig = Rig::new();
    for method in ["ping", "logging/setLevel", "resources/subscribe", "tasks/list", "initialize"] {
        let answer = rig.modern(method, json!({"level": "info", "uri": "fleet://events"})).await;
        assert_eq!(
            (answer.status, answer.error_code()),
            (StatusCode::NOT_FOUND, -32601),
            "{method}"
        );
        assert_eq!(answer.json()["id"], 7);
    }
    for method in ["fleet/dance", "prompts/list", "completion/complete"] {
        let answer = rig.modern(method, json!({})).await;
        assert_eq!(
            (answer.status, answer.error_code()),
            (StatusCode::NOT_FOUND, -32601),
            "{method}"
        );
    }
    let headers = [JSON, ("mcp-protocol-version", "2099-01-01")];
    let meta = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}});
    let future = post(&rig, &headers, &request(1, "tools/list", meta).to_string()).await;
    assert_eq!((future.status, future.error_code()), (StatusCode::BAD_REQUEST, -32022));
    let data = future.json()["error"]["data"].take();
    assert_eq!(data["requested"], "2099-01-01");
    assert_eq!(data["supported"][0], MODERN);
}

#[tokio::test]
async fn a_known_method_with_wrong_parameters_is_no_unknown_method() {
    let rig = Rig::new();
    let answer = rig.modern("tools/call", json!({"arguments": {}})).await;
    assert_eq!(answer.error_code(), -32602);
    let answer = rig.modern("tools/call", json!({"name": "fleet_statos"})).await;
    assert_eq!(answer.error_code(), -32602);
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains("fleet_status"), "{message}");
}

#[tokio::test]
async fn batches_belong_to_the_revision_that_had_them() {
    let rig = Rig::new();
    let older = rig.session("2025-03-26").await;
    let ping = |id| request(id, "ping", json!({}));
    let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let both = rig.post(Some(&older), &json!([ping(1), note, ping(2)])).await;
    assert_eq!(both.status, StatusCode::OK);
    let mut ids: Vec<_> =
        both.json().as_array().unwrap().iter().map(|r| r["id"].as_i64()).collect();
    ids.sort();
    assert_eq!(ids, [Some(1), Some(2)]);
    let notes = rig.post(Some(&older), &json!([note, note])).await;
    assert_eq!((notes.status, notes.body.len()), (StatusCode::ACCEPTED, 0));
    for bad in [json!([]), json!([ping(1), initialize("2025-03-26")]), json!([7])] {
        assert_eq!(rig.post(Some(&older), &bad).await.error_code(), -32600, "{bad}");
    }
    let newer = rig.session("2025-06-18").await;
    assert_eq!(rig.post(Some(&newer), &json!([ping(1)])).await.error_code(), -32600);
}

#[tokio::test]
async fn unknown_arguments_are_named_with_a_suggestion_in_every_era() {
    let rig = Rig::new();
    let call = json!({"name": "list_events", "arguments": {"tipes": ["task.*"]}});
    let session = rig.session("2025-03-26").await;
    let legacy = rig.post(Some(&session), &request(3, "tools/call", call.clone())).await.json();
    let modern = rig.modern("tools/call", call).await.json();
    for answer in [legacy, modern] {
        let result = &answer["result"];
        assert_eq!(result["isError"], true, "{answer}");
        assert_eq!(result["content"][0]["text"], "unknown argument 'tipes'; did you mean 'types'?");
        assert_eq!(result["_meta"]["fleetd/error"]["code"], "invalid_argument");
        assert!(result.get("structuredContent").is_none());
    }
    let typed = rig.tool("list_events", json!({"limit": "many"})).await;
    let text = typed["content"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("argument 'limit': invalid type"), "{text}");
    assert_eq!(typed["isError"], Value::Bool(true));
}
