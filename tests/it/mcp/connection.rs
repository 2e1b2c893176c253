//! A client on a connection of its own, as stdio has one: lines in, lines out.

use std::time::Duration;

use bytes::Bytes;
use fleetd::model::Principal;
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};

use super::rig::{MODERN, Rig, initialize, request};

async fn line(said: &mut (impl Stream<Item = Bytes> + Unpin)) -> Value {
    let next = tokio::time::timeout(Duration::from_secs(5), said.next()).await;
    let bytes = next.expect("nothing said in 5 s").expect("the connection ended");
    let text = std::str::from_utf8(&bytes).unwrap();
    let one = text.strip_suffix('\n').unwrap();
    assert!(!one.contains('\n'), "one message a line: {text}");
    serde_json::from_str(one).unwrap()
}

fn modern(id: Value, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

#[tokio::test]
async fn both_eras_on_one_connection() {
    let rig = Rig::new();
    let (connection, said) = rig.mcp.connect(Principal::owner()).unwrap();
    let mut said = Box::pin(said);
    // Neither a notification nor garbage first ends it.
    let note = json!({"jsonrpc": "2.0", "method": "notifications/whatever"});
    connection.accept(note).await.unwrap();
    connection.accept(json!("garbage")).await.unwrap_err();
    connection.accept(modern(json!(1), "server/discover", json!({}))).await.unwrap();
    assert_eq!(line(&mut said).await["result"]["supportedVersions"][0], MODERN);
    connection.accept(initialize("2025-06-18")).await.unwrap();
    assert_eq!(line(&mut said).await["result"]["protocolVersion"], "2025-06-18");
    connection.accept(modern(json!("p"), "ping", json!({}))).await.unwrap();
    assert_eq!(line(&mut said).await["error"]["code"], -32601);
    connection.accept(request(2, "ping", json!({}))).await.unwrap();
    assert_eq!(line(&mut said).await["result"], json!({}));
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    connection.accept(ready).await.unwrap();
    rig.publish("custom.n", "info").await;
    assert_eq!(line(&mut said).await["params"]["logger"], "custom.n");
    let filter = json!({"notifications": {"resourceSubscriptions": ["fleet://tasks"]}});
    connection.accept(modern(json!("l"), "subscriptions/listen", filter)).await.unwrap();
    assert_eq!(line(&mut said).await["method"], "notifications/subscriptions/acknowledged");
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "l"}});
    connection.accept(cancel).await.unwrap();
    drop(connection);
    assert_eq!(said.next().await, None, "the stream ends with its connection");
}

#[tokio::test]
async fn batches_belong_to_the_revision_that_had_them() {
    let rig = Rig::new();
    let (connection, said) = rig.mcp.connect(Principal::owner()).unwrap();
    let mut said = Box::pin(said);
    connection.accept(initialize("2025-03-26")).await.unwrap();
    assert_eq!(line(&mut said).await["result"]["protocolVersion"], "2025-03-26");
    let note = json!({"jsonrpc": "2.0", "method": "notifications/whatever"});
    let version = json!({"name": "version", "arguments": {}});
    let level = request(3, "logging/setLevel", json!({"level": "error"}));
    let calls =
        json!([request(1, "ping", json!({})), note, request(2, "tools/call", version), level]);
    connection.accept(calls).await.unwrap();
    let replies = line(&mut said).await;
    let mut ids: Vec<_> =
        replies.as_array().unwrap().iter().map(|reply| reply["id"].as_i64()).collect();
    ids.sort();
    assert_eq!(ids, [Some(1), Some(2), Some(3)], "{replies}");
    // Nothing is said to notifications.
    connection.accept(json!([note, note])).await.unwrap();
    // What was cancelled is not in the array.
    let wait = json!({"name": "wait_for_events", "arguments": {"timeout_s": 40}});
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 4}});
    let both = json!([request(4, "tools/call", wait), request(5, "ping", json!({}))]);
    connection.accept(both).await.unwrap();
    connection.accept(cancel).await.unwrap();
    let rest = line(&mut said).await;
    assert_eq!(rest, json!([{"jsonrpc": "2.0", "id": 5, "result": {}}]));
    for bad in [json!([]), json!([initialize("2025-03-26")]), json!([7])] {
        let refusal = connection.accept(bad.clone()).await.unwrap_err();
        assert_eq!(
            serde_json::from_slice::<Value>(&refusal.body()).unwrap()["error"]["code"],
            -32600
        );
    }
    connection.accept(initialize("2025-06-18")).await.unwrap();
    line(&mut said).await;
    connection.accept(json!([request(6, "ping", json!({}))])).await.unwrap_err();
}
