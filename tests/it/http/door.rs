//! Hosts, origins and tokens on every route: S01, S02, S03, S04, S06, S16.

use crate::support::{Answer, Conn, Daemon, Request, run};
use std::time::Duration;

use super::routes;

/// No answer ever invites another origin (S02).
#[track_caller]
fn uninviting(answer: &Answer) {
    let invites = answer
        .headers
        .iter()
        .any(|(name, _)| name.to_ascii_lowercase().starts_with("access-control-"));
    assert!(!invites, "{answer:?}");
}

#[track_caller]
fn refused(daemon: &Daemon, request: &Request, status: u16, code: &str) {
    let answer = daemon.send(request);
    assert_eq!(answer.status, status, "{request:?}\n{answer:?}");
    assert_eq!(answer.error_code(), code, "{request:?}");
    uninviting(&answer);
}

/// Reads only the head: some of these are streams.
fn status_of(mut conn: Conn, request: &Request) -> u16 {
    conn.write(&request.bytes()).expect("the request is sent");
    let (answer, _body) = conn.read_head("GET").expect("an answer");
    uninviting(&answer);
    answer.status
}

#[test]
fn s01_a_foreign_host_is_refused_on_every_route() {
    let daemon = Daemon::start();
    let port = daemon.port();
    let hosts = [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        "127.0.0.1".to_owned(),
        format!("127.0.0.1:{}", port ^ 1),
        format!("127.0.0.1.:{port}"),
        format!("localhost.:{port}"),
        format!("0.0.0.0:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("user@127.0.0.1:{port}"),
        format!("127.0.0.1:{port}@evil.example"),
        format!("127.0.0.1:0{port}"),
        format!("0x7f.1:{port}"),
        format!("2130706433:{port}"),
    ];
    for route in routes() {
        for host in &hosts {
            let request = route.request().host(host);
            refused(&daemon, &request.clone().bearer(&daemon.token()), 403, "forbidden");
            // Whether there is a token is not even looked at.
            refused(&daemon, &request, 403, "forbidden");
        }
    }
}

#[test]
fn s01_a_request_that_a_page_made_is_refused_on_every_route() {
    let daemon = Daemon::start();
    let port = daemon.port();
    let signs = [
        ("Origin", "http://evil.example".to_owned()),
        ("Origin", "null".to_owned()),
        ("Origin", format!("http://127.0.0.1:{}", port ^ 1)),
        ("Origin", format!("https://127.0.0.1:{port}")),
        ("Origin", format!("http://localhost.:{port}")),
        ("Origin", String::new()),
        ("Referer", "http://evil.example/page".to_owned()),
        ("Referer", format!("http://127.0.0.1:{}/", port ^ 1)),
        ("Referer", format!("http://127.0.0.1:{port}.evil.example/")),
        ("Sec-Fetch-Site", "cross-site".to_owned()),
        ("Sec-Fetch-Site", "same-site".to_owned()),
    ];
    for route in routes() {
        for (name, value) in &signs {
            let request =
                route.request().host(&daemon.host()).bearer(&daemon.token()).header(name, value);
            refused(&daemon, &request, 403, "forbidden");
        }
    }
}

#[test]
fn s01_our_own_names_and_origins_pass() {
    let daemon = Daemon::start();
    let port = daemon.port();
    for host in ["127.0.0.1", "localhost"] {
        let host = format!("{host}:{port}");
        let own = Request::new("GET", "/healthz").host(&host);
        assert_eq!(status_of(daemon.connect(), &own), 200, "{host}");
        let origin = own.header("Origin", &format!("http://{host}"));
        assert_eq!(status_of(daemon.connect(), &origin), 200, "{host}");
    }
}

#[test]
fn s01_the_refusal_comes_before_the_body() {
    let daemon = Daemon::start();
    let request = Request::new("POST", "/events")
        .host("evil.example")
        .bearer(&daemon.token())
        .header("Content-Length", "1000000");
    // Not one byte of the body is sent, and still there is an answer.
    assert_eq!(status_of(daemon.connect(), &request), 403);
}

#[test]
fn s02_no_answer_invites_another_origin_and_a_preflight_is_refused() {
    let daemon = Daemon::start();
    for route in routes() {
        let preflight = Request::new("OPTIONS", &route.path)
            .host(&daemon.host())
            .header("Origin", "http://evil.example")
            .header("Access-Control-Request-Method", &route.method)
            .header("Access-Control-Request-Headers", "authorization");
        assert_eq!(status_of(daemon.connect(), &preflight), 403, "{}", route.path);
        let bare = Request::new("OPTIONS", &route.path).host(&daemon.host());
        let status = status_of(daemon.connect(), &bare.bearer(&daemon.token()));
        assert_eq!(status, 405, "{}", route.path);
        // Successful answers too.
        let good = route.request().host(&daemon.host()).bearer(&daemon.token());
        status_of(daemon.connect(), &good);
    }
}

#[test]
fn s03_every_route_but_liveness_wants_the_token() {
    let daemon = Daemon::start();
    let token = daemon.token();
    let mut flipped = token.clone().into_bytes();
    flipped[0] ^= 1;
    let flipped = String::from_utf8(flipped).expect("a token is ASCII");
    let wrong = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {}", &token[..token.len() - 1]),
        format!("Bearer {token}0"),
        format!("Bearer {flipped}"),
        format!("Bearer {token} {token}"),
        format!("Basic {token}"),
        token.clone(),
        "Bearer undefined".to_owned(),
    ];
    let mut public = 0;
    for route in routes() {
        let request = route.request().host(&daemon.host());
        if route.public {
            public += 1;
            assert_eq!(status_of(daemon.connect(), &request), 200, "{}", route.path);
            continue;
        }
        refused(&daemon, &request, 401, "unauthorized");
        for value in &wrong {
            let request = request.clone().header("Authorization", value);
            refused(&daemon, &request, 401, "unauthorized");
        }
        let twice = request.clone().bearer(&token).header("Authorization", "Bearer x");
        let status = daemon.send(&twice).status;
        assert!(matches!(status, 400 | 401), "two tokens on {}: {status}", route.path);
        let right = request.bearer(&token);
        assert_ne!(status_of(daemon.connect(), &right), 401, "{}", route.path);
    }
    assert_eq!(public, 1, "only the bare liveness route is public");
}

#[test]
fn s03_an_unknown_path_tells_a_stranger_nothing() {
    let daemon = Daemon::start();
    let stranger = Request::new("GET", "/no/such/path").host(&daemon.host());
    let status = daemon.send(&stranger).status;
    assert_eq!(status, 401, "who has no token does not learn which paths there are");
    assert_eq!(daemon.get("/no/such/path").status, 404);
    assert_eq!(daemon.send(&daemon.request("PUT", "/events")).status, 405);
}

#[test]
fn s04_it_listens_on_loopback_only() {
    let daemon = Daemon::start();
    let mut ss = daemon.home().command("ss");
    ss.args(["-H", "-l", "-t", "-n", "-p"]);
    let listed = run(ss, b"", Duration::from_secs(10)).ok().stdout;
    let own = format!("pid={},", daemon.pid());
    let lines: Vec<&str> = listed.lines().filter(|line| line.contains(&own)).collect();
    let local = |line: &&str| line.split_whitespace().nth(3).map(str::to_owned);
    let addresses: Vec<String> = lines.iter().filter_map(local).collect();
    assert_eq!(addresses, [daemon.host()], "{listed}");
}

#[test]
fn s06_a_token_in_the_address_is_no_token_and_is_not_logged() {
    let daemon = Daemon::start();
    let token = daemon.token();
    for query in ["token", "access_token", "bearer", "authorization"] {
        let path = format!("/events?{query}={token}");
        let request = Request::new("GET", &path).host(&daemon.host());
        refused(&daemon, &request, 401, "unauthorized");
        // Refused with a valid token beside it too: an address gets into histories.
        let answer = daemon.get(&path);
        assert!(matches!(answer.status, 400 | 401), "{answer:?}");
        assert!(!answer.text().contains(&token), "the token was echoed");
    }
    assert!(!daemon.home().story().contains(&token), "the token was logged");
}

#[test]
fn s16_headers_of_proxies_grant_nothing() {
    let daemon = Daemon::start();
    let claims = [
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Host", "127.0.0.1"),
        ("X-Real-IP", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1;host=localhost"),
        ("X-Forwarded-User", "owner"),
        ("X-Remote-User", "root"),
    ];
    for (name, value) in claims {
        let request = Request::new("GET", "/metrics").host(&daemon.host()).header(name, value);
        refused(&daemon, &request, 401, "unauthorized");
    }
}
