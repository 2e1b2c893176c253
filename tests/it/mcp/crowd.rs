//! Many clients at once: caps, and what abandoned sessions leave behind
//! (statements 10, 11 and 31).

use std::time::{Duration, Instant};

use fleetd::model::{Principal, Scope};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::rig::{MODERN, Reader, Rig, initialize, read, request};
use crate::support::{Conn, Daemon, Request, Stream, eventually, rss_kib};

fn token(name: &str) -> Principal {
    let scopes = vec![Scope::Read, Scope::Publish, Scope::Run];
    Principal { id: format!("token/{name}").into(), scopes, ..Principal::owner() }
}

async fn begin(rig: &Rig, who: &Principal) -> String {
    let headers = [("content-type", "application/json")];
    let hello = initialize("2025-06-18").to_string();
    let answer = read(rig.send_as(who.clone(), Method::POST, &headers, &hello).await).await;
    answer.session.unwrap()
}

/// Opens a stream of `who`: of a session, or a listening one.
async fn open(rig: &Rig, who: &Principal, listens: bool) -> Result<Reader, (StatusCode, i64)> {
    let response = if listens {
        let filter = json!({ "resourceSubscriptions": ["fleet://events"] });
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({ "notifications": filter, "_meta": meta });
        let headers = [
            ("content-type", "application/json"),
            ("accept", "text/event-stream"),
            ("mcp-protocol-version", MODERN),
            ("mcp-method", "subscriptions/listen"),
        ];
        let message = request(1, "subscriptions/listen", params).to_string();
        rig.send_as(who.clone(), Method::POST, &headers, &message).await
    } else {
        let session = begin(rig, who).await;
        let headers = [("accept", "text/event-stream"), ("mcp-session-id", session.as_str())];
        rig.send_as(who.clone(), Method::GET, &headers, "").await
    };
    if response.status().is_success() {
        return Ok(Reader::new(response.into_body()));
    }
    let answer = read(response).await;
    Err((answer.status, answer.error_code()))
}

#[tokio::test]
async fn s10_one_principal_cannot_use_up_the_streams_of_all() {
    let rig = Rig::new();
    let (greedy, other) = (token("greedy"), token("other"));
    let mut first = open(&rig, &greedy, false).await.unwrap();
    let mut streams = Vec::new();
    let refused = loop {
        match open(&rig, &greedy, streams.len() % 2 == 0).await {
            Ok(stream) => streams.push(stream),
            Err(refused) => break refused,
        }
        assert!(streams.len() < 2000, "no bound");
    };
    assert_eq!(refused, (StatusCode::SERVICE_UNAVAILABLE, -32603));
    println!("one principal has {} streams", streams.len() + 1);
    // Neither those that are open nor anybody else is disturbed.
    let mut others = open(&rig, &other, false).await.unwrap();
    assert!(open(&rig, &other, true).await.is_ok());
    let at = rig.publish("custom.n", "info").await;
    for stream in [&mut first, &mut others] {
        assert_eq!(stream.message().await.0, Some(format!("g-{at}")));
    }
    let session = begin(&rig, &greedy).await;
    let headers = [("content-type", "application/json"), ("mcp-session-id", session.as_str())];
    let ping = request(2, "ping", json!({})).to_string();
    let pong = read(rig.send_as(greedy.clone(), Method::POST, &headers, &ping).await).await;
    assert_eq!(pong.json()["result"], json!({}), "calls have places of their own");
    // What is given back is free again.
    streams.truncate(streams.len() - 1);
    assert!(open(&rig, &greedy, true).await.is_ok());
}

#[tokio::test]
async fn s10_all_tokens_together_leave_streams_to_the_owner_who_has_no_part() {
    let rig = Rig::new();
    let all_of = async |who: &Principal| {
        let mut streams = Vec::new();
        while let Ok(stream) = open(&rig, who, true).await {
            streams.push(stream);
            assert!(streams.len() < 10_000, "no bound");
        }
        streams
    };
    let mut crowd = Vec::new();
    for name in ["a", "b", "c", "d"] {
        crowd.push(all_of(&token(name)).await);
    }
    let part = crowd[0].len();
    assert_eq!(crowd.iter().map(Vec::len).collect::<Vec<_>>(), [part, part, part, 0]);
    assert_eq!(all_of(&Principal::owner()).await.len(), part, "theirs are left");
    drop(crowd);
    assert_eq!(all_of(&Principal::owner()).await.len(), 4 * part);
}

#[tokio::test]
async fn s10_one_principal_cannot_use_up_the_calls_of_all() {
    let rig = Rig::new();
    let (greedy, other) = (token("greedy"), token("other"));
    let wait = json!({"name": "wait_for_events", "arguments": {"timeout_s": 40}});
    let call = async |who: &Principal, session: &str, call: &Value| {
        // A stream at once: nobody waits for the answer.
        let headers = [
            ("content-type", "application/json"),
            ("accept", "text/event-stream"),
            ("mcp-session-id", session),
        ];
        let message = request(9, "tools/call", call.clone()).to_string();
        rig.send_as(who.clone(), Method::POST, &headers, &message).await
    };
    let (session, others) = (begin(&rig, &greedy).await, begin(&rig, &other).await);
    let mut waiting = Vec::new();
    let refused = loop {
        let response = call(&greedy, &session, &wait).await;
        if response.status() != StatusCode::OK {
            break response;
        }
        waiting.push(response);
        assert!(waiting.len() < 2000, "no bound");
    };
    println!("one principal has {} calls", waiting.len());
    let refused = read(refused).await;
    assert_eq!((refused.status.as_u16(), refused.error_code()), (503, -32603));
    let version = json!({"name": "version", "arguments": {}});
    let served = read(call(&other, &others, &version).await).await;
    assert_eq!(served.json()["result"]["isError"], false);
}

#[test]
fn s11_ten_thousand_handshakes_without_a_follow_up_leave_nothing() {
    let daemon = Daemon::start();
    let hello = daemon
        .request("POST", "/mcp")
        .header("Accept", "application/json, text/event-stream")
        .json(&initialize("2025-11-25"));
    let mut conn = daemon.connect();
    let mut begin = |count: usize| {
        for _ in 0..count {
            let answer = conn.exchange(&hello);
            assert!(answer.header("mcp-session-id").is_some(), "{answer:?}");
        }
    };
    begin(100);
    let before = rss_kib(daemon.pid());
    let begun = Instant::now();
    begin(10_000);
    let grown = rss_kib(daemon.pid()).saturating_sub(before);
    println!("10,000 handshakes in {:?}: {grown} KiB more", begun.elapsed());
    assert!(grown <= 10 * 1024, "{grown} KiB more");
}

fn session(daemon: &Daemon) -> String {
    let hello = daemon.request("POST", "/mcp").json(&initialize("2025-06-18"));
    daemon.send(&hello).header("mcp-session-id").unwrap().to_owned()
}

#[test]
fn s10_answers_that_were_streamed_do_not_pile_up() {
    let daemon = Daemon::start();
    let text = "x".repeat(200);
    for n in 0..1000 {
        daemon.publish("custom.pile", &format!("pile-{n}"), json!(text));
    }
    let call = json!({ "name": "list_events", "arguments": { "since": "0", "limit": 1000 } });
    let ask = |count: usize| {
        let mut said = 0;
        for _ in 0..count {
            // Sessions are free, so each call has one.
            let request = daemon.request("POST", "/mcp").header("Accept", "text/event-stream");
            let request = request.header("Mcp-Session-Id", &session(&daemon));
            let answer = daemon.send(&request.json(&request_of(&call)));
            assert_eq!(answer.status, 200);
            said += answer.body.len();
        }
        said
    };
    ask(50);
    let before = rss_kib(daemon.pid());
    let said = ask(150) / 1024;
    let grown = rss_kib(daemon.pid()).saturating_sub(before);
    println!("{said} KiB were said: {grown} KiB more");
    assert!(grown < 32 * 1024, "{grown} KiB more of {said} KiB that were said");
    assert!(said > 64 * 1024, "too little to tell: {said} KiB");
}

fn request_of(call: &Value) -> Value {
    request(5, "tools/call", call.clone())
}

fn stream_of(daemon: &Daemon, session: &str) -> Request {
    let request = daemon.request("GET", "/mcp").header("Accept", "text/event-stream");
    request.header("Mcp-Session-Id", session)
}

#[test]
fn s31_a_reader_that_stops_reading_delays_nobody() {
    let daemon = Daemon::start();
    let (first, second) = (session(&daemon), session(&daemon));
    // It reads nothing but the head, through a small window.
    let stalled = Stream::open(Conn::narrow(daemon.port()), &stream_of(&daemon, &first));
    let mut healthy = Stream::open(daemon.connect(), &stream_of(&daemon, &second));
    let text = "x".repeat(200 * 1024);
    // More than the kernel holds for both sides.
    for n in 0..40 {
        daemon.publish("custom.load", &format!("load-{n}"), json!(text));
        assert_eq!(healthy.next().json()["params"]["data"]["id"], format!("load-{n}"));
    }
    // The same session's calls, another session's, and what is pushed to it.
    for session in [&first, &second] {
        let ping = daemon.request("POST", "/mcp").header("Mcp-Session-Id", session);
        let begun = Instant::now();
        let pong = daemon.send(&ping.json(&request(7, "ping", json!({}))));
        assert_eq!(pong.json()["result"], json!({}));
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    let begun = Instant::now();
    daemon.publish("custom.last", "last", json!({}));
    assert_eq!(healthy.next().json()["params"]["data"]["id"], "last");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    drop(stalled);
    eventually("its subscription ends", || daemon.metric("fleetd_subscriptions") < 2.0);
}
