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
