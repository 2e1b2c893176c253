//! What callers without a token cost, and who needs none: R20, and the socket.

use crate::support::{Daemon, Request, custom_event, rss_kib};

#[test]
fn the_socket_needs_no_token_because_the_kernel_says_who_calls() {
    let daemon = Daemon::start();
    let event = custom_event("custom.x", "over-the-socket", serde_json::json!({}));
    let request = Request::new("POST", "/events")
        .host("localhost")
        .body("application/cloudevents+json", event.to_string().as_bytes());
    let answer = daemon.connect_unix().exchange(&request);
    assert_eq!(answer.status, 200, "{answer:?}");
    // A page cannot open a socket, but what looks like one is refused all the same.
    let page = request.header("Origin", "http://evil.example");
    assert_eq!(daemon.connect_unix().exchange(&page).status, 403);
}

#[test]
fn r20_ten_thousand_requests_without_a_token_leave_nothing_behind() {
    let daemon = Daemon::start();
    let stranger = Request::new("POST", "/mcp")
        .host(&daemon.host())
        .json(&serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize" }));
    let flood = |count: usize| {
        let mut conn = daemon.connect();
        for _ in 0..count {
            match conn.try_exchange(&stranger) {
                Ok(answer) => assert_eq!(answer.status, 401, "{answer:?}"),
                // A refused connection may be closed; a stranger comes again.
                Err(_) => conn = daemon.connect(),
            }
        }
    };
    flood(1000);
    let before = rss_kib(daemon.pid());
    flood(10_000);
    let grown = rss_kib(daemon.pid()).saturating_sub(before);
    println!("10,000 strangers: RSS {before} KiB and {grown} KiB more");
    assert!(grown <= 5 * 1024, "{grown} KiB more");
    assert!(daemon.metric("fleetd_subscriptions") < 1.0);
}

#[test]
fn an_open_stream_may_not_be_kept_by_anybody_on_the_way() {
    let daemon = Daemon::start();
    let stream = daemon.events("");
    assert_eq!(stream.answer.header("cache-control"), Some("no-store"), "{:?}", stream.answer);
    assert_eq!(stream.answer.header("x-accel-buffering"), Some("no"), "{:?}", stream.answer);
}
