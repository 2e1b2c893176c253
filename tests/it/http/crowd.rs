//! Many connections at once: R13, R19, R23.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Conn, Daemon, Home, Request, cpu_ticks, eventually, rss_kib, within};

/// A build for tests is larger than one for people; the benchmark has the
/// figures of the latter (30 MiB idle, 64 KiB a subscriber).
const IDLE_KIB: u64 = 60 * 1024;
const SUBSCRIBER_KIB: u64 = 96;

#[test]
fn r13_an_idle_daemon_is_small_and_so_is_a_subscriber() {
    let daemon = Daemon::start();
    let idle = rss_kib(daemon.pid());
    assert!(idle <= IDLE_KIB, "{idle} KiB idle");
    let streams: Vec<_> = (0..300).map(|_| daemon.events("types=task.*")).collect();
    let each = rss_kib(daemon.pid()).saturating_sub(idle) / streams.len() as u64;
    println!("memory: {idle} KiB idle, {each} KiB a subscriber");
    assert!(each <= SUBSCRIBER_KIB, "{each} KiB a subscriber");
}

#[test]
fn r19_three_hundred_silent_connections_delay_nobody_and_give_way() {
    let daemon = Daemon::start();
    // Some say nothing, some half a head, some a head and half a body.
    let said = [
        "",
        "GET /healthz HTTP/1.1\r\nHo",
        "POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n",
    ];
    let silent: Vec<_> = (0..300)
        .map(|n| {
            let mut conn = daemon.connect();
            conn.write(said[n % 3].as_bytes()).expect("sent");
            conn
        })
        .collect();
    let mut times: Vec<_> = (0..100)
        .map(|_| {
            let begun = Instant::now();
            assert_eq!(daemon.get("/healthz").status, 200);
            begun.elapsed()
        })
        .collect();
    times.sort();
    println!("beside 300 silent connections: p99 {:?}", times[98]);
    assert!(times[98] < Duration::from_millis(200), "p99 {:?}", times[98]);
    let text = daemon.get("/metrics").text();
    let line = text.lines().find(|line| line.contains("state=\"unauthenticated\""));
    let strangers = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    assert!(strangers.is_some_and(|count| count <= 64), "{line:?}");
    assert!(daemon.metric("fleetd_http_evicted_total") >= 236.0);
    // Those that were let stay are closed within ten seconds.
    let begun = Instant::now();
    for mut conn in silent {
        let left = Duration::from_secs(10).saturating_sub(begun.elapsed());
        assert!(conn.closes_within(left.max(Duration::from_millis(1))), "still open");
    }
}

#[test]
fn r23_without_descriptors_the_owners_socket_is_served_and_nothing_spins() {
    let home = Home::new();
    let mut command = home.command("prlimit");
    command.args(["--nofile=64:64", env!("CARGO_BIN_EXE_fleetd")]);
    let daemon = Daemon::start_as(home, command);
    let port = daemon.port();
    let crowd: Vec<_> =
        (0..200).filter_map(|_| TcpStream::connect(("127.0.0.1", port)).ok()).collect();
    let before = cpu_ticks(daemon.pid());
    let begun = Instant::now();
    // Asked a few times a second, while an idle connection measures the time.
    let mut pace = daemon.connect_unix();
    let request = Request::new("GET", "/metrics").host("localhost");
    while begun.elapsed() < Duration::from_secs(2) {
        let answer = daemon.connect_unix().exchange(&request);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(!pace.closes_within(Duration::from_millis(100)), "an idle owner was cut");
    }
    // A fifth of two seconds is 40 ticks.
    let used = cpu_ticks(daemon.pid()) - before;
    println!("200 connections on 64 descriptors: {used} ticks of CPU in two seconds");
    assert!(used < 40, "{used} ticks of CPU in two seconds");
    drop(crowd);
    let health = Request::new("GET", "/healthz").host(&daemon.host());
    within(Duration::from_secs(2), "an answer over TCP", || {
        let answer = Conn::try_tcp(port).ok()?.try_exchange(&health).ok()?;
        (answer.status == 200).then_some(())
    });
    eventually("no descriptor is kept", || daemon.metric("fleetd_subscriptions") < 1.0);
}
