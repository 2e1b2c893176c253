//! Malformed and hostile HTTP: R21, R53.

use std::time::Duration;

use crate::support::{Conn, Daemon, custom_event, distinct_id, rss_kib, run};

/// What one oddity led to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Refused(u16),
    Closed,
}

fn sent(daemon: &Daemon, bytes: &[u8]) -> Outcome {
    let mut conn = daemon.connect();
    // The daemon may hang up while we still write. The sending side stays open:
    // a half-closed connection would be given up for that alone.
    drop(conn.write(bytes));
    match conn.read_answer("POST") {
        Ok(answer) => Outcome::Refused(answer.status),
        Err(_) => Outcome::Closed,
    }
}

/// The `POST /events` whose head ends in `extra` and whose body publishes `id`.
fn publish(daemon: &Daemon, id: &str, extra: &str, body: &str) -> Vec<u8> {
    let host = daemon.host();
    let token = daemon.token();
    let event = custom_event("custom.smuggled", id, serde_json::json!({})).to_string();
    let text = format!(
        "POST /events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/cloudevents+json\r\n{extra}\r\n\r\n{body}"
    );
    text.replace("EVENT", &event).replace("LENGTH", &event.len().to_string()).into_bytes()
}

#[test]
fn r53_no_oddity_reaches_a_handler() {
    let daemon = Daemon::start();
    let chunked = "Transfer-Encoding: chunked";
    let oddities = [
        ("two lengths", "Content-Length: LENGTH\r\nContent-Length: 5", "EVENT"),
        ("a list of lengths", "Content-Length: LENGTH, 5", "EVENT"),
        ("a negative length", "Content-Length: -1", "EVENT"),
        ("a signed length", "Content-Length: +LENGTH", "EVENT"),
        ("length and chunks", "Content-Length: LENGTH\r\nTransfer-Encoding: chunked", "EVENT"),
        ("an unknown coding", "Transfer-Encoding: xchunked", "EVENT"),
        ("chunked not last", "Transfer-Encoding: chunked, gzip", "0\r\n\r\n"),
        ("two codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        ("a bad chunk size", chunked, "zz\r\nEVENT\r\n0\r\n\r\n"),
        ("a huge chunk size", chunked, "fffffffffffffffff\r\nEVENT\r\n0\r\n\r\n"),
        ("a chunk without its end", chunked, "5\r\nEVENT\r\n0\r\n\r\n"),
        ("two hosts", "Host: evil.example\r\nContent-Length: LENGTH", "EVENT"),
        ("a folded header", "X-A: b\r\n c: d\r\nContent-Length: LENGTH", "EVENT"),
        ("a blank before the colon", "Content-Length : LENGTH", "EVENT"),
        ("NUL in a header", "X-A: b\0c\r\nContent-Length: LENGTH", "EVENT"),
        ("CR in a header", "X-A: b\rX: c\r\nContent-Length: LENGTH", "EVENT"),
        ("a compressed body", "Content-Encoding: gzip\r\nContent-Length: LENGTH", "EVENT"),
    ];
    let mut ids = Vec::new();
    for (what, extra, body) in oddities {
        let id = distinct_id("smuggled");
        let outcome = sent(&daemon, &publish(&daemon, &id, extra, body));
        let refused = matches!(outcome, Outcome::Refused(400..=499) | Outcome::Closed);
        assert!(refused, "{what}: {outcome:?}");
        ids.push(id);
    }
    let id = distinct_id("cut");
    let mut cut = daemon.connect();
    cut.write(&publish(&daemon, &id, "Content-Length: 100000", "EVENT")).expect("sent");
    cut.finish_writing();
    assert!(cut.closes_within(Duration::from_secs(11)), "a body that was cut");
    ids.push(id);
    // The same request without an oddity is taken: the table tests what it says.
    let id = distinct_id("plain");
    let outcome = sent(&daemon, &publish(&daemon, &id, "Content-Length: LENGTH", "EVENT"));
    assert_eq!(outcome, Outcome::Refused(200));
    let stored = daemon.events("types=custom.*&since=0&signals=0").next();
    assert_eq!(stored.json()["id"], id.as_str(), "one of {ids:?} was stored");
}

#[test]
fn r53_odd_request_lines_are_refused() {
    let daemon = Daemon::start();
    let (host, token) = (daemon.host(), daemon.token());
    let rest = format!("Host: {host}\r\nAuthorization: Bearer {token}\r\n\r\n");
    let lines = [
        format!("GET http://evil.example/metrics HTTP/1.1\r\n{rest}"),
        "GET /metrics HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET /metrics HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n"),
        format!("GET /metrics HTTP/9.9\r\n{rest}"),
        format!("GET  /metrics HTTP/1.1\r\n{rest}"),
        format!("GET /met\0rics HTTP/1.1\r\n{rest}"),
        format!("G\u{e9}T /metrics HTTP/1.1\r\n{rest}"),
        format!("CONNECT evil.example:443 HTTP/1.1\r\n{rest}"),
        format!("GET /../metrics HTTP/1.1\r\n{rest}"),
        format!("GET //metrics HTTP/1.1\r\n{rest}"),
        format!("GET /%6detrics HTTP/1.1\r\n{rest}"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}".to_owned(),
    ];
    for line in lines {
        let outcome = sent(&daemon, line.as_bytes());
        let refused = matches!(outcome, Outcome::Refused(400..=505) | Outcome::Closed);
        assert!(refused, "{line:?}: {outcome:?}");
    }
}

#[test]
fn r53_pipelined_requests_are_answered_each_by_itself() {
    let daemon = Daemon::start();
    let good = daemon.request("GET", "/healthz").bytes();
    let stranger = crate::support::Request::new("GET", "/metrics").host(&daemon.host()).bytes();
    let mut conn = daemon.connect();
    conn.write(&[good.clone(), stranger, good].concat()).expect("sent");
    let mut statuses = Vec::new();
    while let Ok(answer) = conn.read_answer("GET") {
        statuses.push(answer.status);
        if statuses.len() == 3 {
            break;
        }
    }
    // A refusal may end the connection; a token never carries over.
    assert!(statuses == [200, 401, 200] || statuses == [200, 401], "{statuses:?}");
}

#[test]
fn r21_what_is_too_large_is_refused_at_once_and_by_name() {
    let daemon = Daemon::start();
    let within = |conn: &mut Conn| conn.read_answer("POST").expect("an answer");

    // Announced: refused without the body.
    let request = daemon.request("POST", "/events").header("Content-Length", "4194305");
    let mut conn = daemon.connect();
    let typed = request.header("Content-Type", "application/cloudevents+json");
    conn.write(&typed.bytes()).expect("sent");
    let answer = within(&mut conn);
    assert_eq!((answer.status, answer.error_code().as_str()), (413, "too_large"));

    // Not announced: refused when the limit is passed.
    let request = daemon.request("POST", "/events").header("Transfer-Encoding", "chunked");
    let typed = request.header("Content-Type", "application/cloudevents+json");
    let mut conn = daemon.connect();
    conn.write(&typed.bytes()).expect("sent");
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..65 {
        if conn.write(&chunk).is_err() {
            break;
        }
    }
    let answer = within(&mut conn);
    assert_eq!((answer.status, answer.error_code().as_str()), (413, "too_large"));

    let long = daemon.request("GET", "/healthz").header("X-Long", &"a".repeat(17 * 1024));
    let answer = daemon.send(&long);
    assert_eq!((answer.status, answer.error_code().as_str()), (431, "too_large"));
    let long = daemon.request("GET", &format!("/metrics?{}", "a".repeat(17 * 1024)));
    let answer = daemon.send(&long);
    assert_eq!((answer.status, answer.error_code().as_str()), (431, "too_large"));
    let raw = daemon.get("/events?types=task.>");
    assert_eq!((raw.status, raw.error_code().as_str()), (400, "invalid_argument"));
    assert!(raw.text().contains("%3E"), "says how to write it: {}", raw.text());
    assert_eq!(daemon.events("types=task.%3E").answer.status, 200);

    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let request = daemon.request("POST", "/events");
    let answer = daemon.send(&request.body("application/cloudevents+json", deep.as_bytes()));
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "invalid_argument"));
}

#[test]
fn m07_m08_a_body_at_the_limit_is_read_and_a_bad_one_harms_nobody() {
    const LIMIT: usize = 4 * 1024 * 1024;
    let daemon = Daemon::start();
    let hello = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let post =
        |body: &[u8]| daemon.send(&daemon.request("POST", "/mcp").body("application/json", body));
    let full = [hello.as_bytes(), &vec![b' '; LIMIT - hello.len()]].concat();
    let begun = post(&full);
    assert_eq!(begun.status, 200, "{begun:?}");
    let session = begun.header("mcp-session-id").expect("a session").to_owned();
    let over = [full.as_slice(), b" "].concat();
    let over = daemon.request("POST", "/mcp").body("application/json", &over);
    let mut conn = daemon.connect();
    // It is refused by its head, so not all of it may be taken.
    drop(conn.write(&over.bytes()));
    let over = conn.read_answer("POST").expect("an answer");
    assert_eq!((over.status, over.error_code().as_str()), (413, "too_large"));
    for bad in [b"{".as_slice(), b"\xff\xfe", b"[1,", b"nonsense"] {
        let answer = post(bad);
        assert_eq!((answer.status, answer.header("content-type")), (400, Some("application/json")));
        assert_eq!(answer.json()["error"]["code"], -32700, "{answer:?}");
    }
    let ping = daemon.request("POST", "/mcp").header("Mcp-Session-Id", &session);
    let ping = ping.body("application/json", br#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#);
    assert_eq!(daemon.send(&ping).json()["result"], serde_json::json!({}));
}

#[test]
fn r19_a_slow_request_is_cut_in_ten_seconds() {
    let daemon = Daemon::start();
    let mut silent = daemon.connect();
    let mut half = daemon.connect();
    half.write(b"GET /healthz HTTP/1.1\r\nHost:").expect("sent");
    let mut body = daemon.connect();
    let request = daemon.request("POST", "/events").header("Content-Length", "10");
    body.write(&request.header("Content-Type", "application/cloudevents+json").bytes())
        .expect("sent");
    for (what, conn) in [("silent", &mut silent), ("half", &mut half), ("body", &mut body)] {
        assert!(conn.closes_within(Duration::from_secs(11)), "{what} was not cut");
    }
    assert_eq!(daemon.get("/healthz").status, 200);
}

#[test]
fn r21_a_compressed_body_is_refused_before_it_can_unfold() {
    let daemon = Daemon::start();
    let mut gzip = std::process::Command::new("sh");
    let bomb = daemon.home().path().join("bomb.gz");
    gzip.args(["-c", "head -c 200000000 /dev/zero | gzip > \"$0\""]).arg(&bomb);
    run(gzip, b"", Duration::from_secs(60)).ok();
    let bytes = std::fs::read(bomb).expect("the bomb");
    assert!(bytes.len() < 1_000_000, "void: no bomb, {} bytes", bytes.len());
    let before = rss_kib(daemon.pid());
    for path in ["/events", "/mcp"] {
        let request = daemon.request("POST", path).header("Content-Encoding", "gzip");
        let begun = std::time::Instant::now();
        let answer = daemon.send(&request.body("application/json", &bytes));
        assert_eq!((answer.status, answer.error_code().as_str()), (415, "invalid_argument"));
        assert!(begun.elapsed() < Duration::from_secs(1), "{path}: {:?}", begun.elapsed());
        // Without the header it is what it is: bytes that are no JSON.
        let answer = daemon.send(&daemon.request("POST", path).body("application/json", &bytes));
        assert!((400..=415).contains(&answer.status), "{path}: {answer:?}");
    }
    let grown = rss_kib(daemon.pid()).saturating_sub(before);
    assert!(grown <= 8 * 1024, "{grown} KiB more");
}
