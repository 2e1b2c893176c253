//! Streams on which nothing happens (statement 56). Time is paused: it passes as
//! soon as everybody waits for it.

use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::time::Instant;

use super::rig::{MODERN, Reader, Rig, request};
use fleetd::mcp::McpBody;
use fleetd::model::Principal;

/// Clients and what stands between give up on silence after as long as this.
const WITHIN: Duration = Duration::from_secs(15);

/// The next bytes of a stream on which nothing happens, and after how long.
async fn idle(body: &mut McpBody) -> (String, Duration) {
    tokio::time::pause();
    let begun = Instant::now();
    let next = tokio::time::timeout(WITHIN * 4, body.frame()).await;
    let took = begun.elapsed();
    tokio::time::resume();
    let bytes = next.expect("silence").expect("the end").unwrap().into_data().unwrap();
    (String::from_utf8(bytes.to_vec()).unwrap(), took)
}

async fn shows_that_it_lives(what: &str, mut body: McpBody) {
    for _ in 0..3 {
        let (text, took) = idle(&mut body).await;
        assert!(took <= WITHIN, "{what}: {text:?} after {took:?}");
        assert!(text.starts_with(": keep-alive\n"), "{what}: {text:?}");
        let rest = text.trim_start_matches(": keep-alive\n");
        assert!(!rest.contains("event: message"), "{what} says nothing by it: {text:?}");
    }
}

/// The stream after what it says at first.
async fn begun(mut reader: Reader, frames: usize) -> McpBody {
    for _ in 0..frames {
        reader.next().await.unwrap();
    }
    reader.into_body()
}

#[tokio::test]
async fn s56_every_idle_stream_shows_that_it_lives_within_15_s() {
    let rig = Rig::new();
    for revision in ["2025-03-26", "2025-11-25"] {
        let session = rig.session(revision).await;
        let mut reader = rig.listen(&session, None).await;
        assert!(reader.is_silent().await || reader.is_silent().await);
        shows_that_it_lives(revision, reader.into_body()).await;
    }
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let filter = json!({ "resourceSubscriptions": ["fleet://tasks"] });
    let listen = json!({ "notifications": filter, "_meta": meta });
    let listening = rig.modern_response("subscriptions/listen", listen).await;
    shows_that_it_lives("listen", begun(Reader::new(listening.into_body()), 1).await).await;
    let wait = json!({"name": "wait_for_events", "arguments": {"timeout_s": 50}});
    let mut waiting =
        Reader::new(rig.modern_response("tools/call", wait.clone()).await.into_body());
    assert!(waiting.is_silent().await);
    shows_that_it_lives("a modern call", waiting.into_body()).await;
    let session = rig.session("2025-11-25").await;
    let headers = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-session-id", session.as_str()),
    ];
    let called = request(9, "tools/call", wait).to_string();
    let called = rig.send(Method::POST, &headers, &called).await;
    shows_that_it_lives("a call", begun(Reader::new(called.into_body()), 1).await).await;
    let accept = [("accept", "text/event-stream")];
    let sse = rig.send_to("/sse", Principal::owner(), Method::GET, &accept, "").await;
    shows_that_it_lives("HTTP+SSE", begun(Reader::new(sse.into_body()), 1).await).await;
}
