//! The edge under pressure: floods, stalls, and no descriptors left.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::live::{Live, eventually, exchange};

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}

#[test]
fn r19_three_hundred_silent_connections_delay_nobody_and_give_way() {
    let live = Live::start(&[]);
    let mut silent = Vec::new();
    for n in 0..300 {
        let mut stream = live.connect();
        // Some say nothing, some half a head, some a head and half a body.
        let said = match n % 3 {
            0 => "",
            1 => "GET /healthz HTTP/1.1\r\nHo",
            _ => "POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n",
        };
        stream.write_all(said.as_bytes()).unwrap();
        silent.push(stream);
    }
    let times = (0..100).map(|_| {
        let begun = Instant::now();
        assert!(live.get("/healthz").starts_with("HTTP/1.1 200 "));
        begun.elapsed()
    });
    let p99 = p99(times.collect());
    assert!(p99 < Duration::from_millis(200), "p99 {p99:?}");
    let text = live.get("/metrics");
    let line = text.lines().find(|line| line.contains("state=\"unauthenticated\"")).unwrap();
    let strangers: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(strangers <= 64, "{strangers} connections without a token");
    assert!(live.metric("fleetd_http_evicted_total") >= 236);
    // Those that were let stay are closed within ten seconds.
    let begun = Instant::now();
    for mut stream in silent {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn r20_ten_thousand_requests_without_a_token_leave_nothing_behind() {
    let live = Live::start(&[]);
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 2\r\n\r\n{{}}",
        live.port
    );
    let flood = |connections: usize| {
        for _ in 0..connections {
            // A hundred on one connection, one after the other.
            let mut stream = live.connect();
            for _ in 0..100 {
                stream.write_all(request.as_bytes()).unwrap();
                let mut answer = [0; 1024];
                let read = stream.read(&mut answer).unwrap();
                assert!(answer[..read].starts_with(b"HTTP/1.1 401 "));
            }
        }
    };
    flood(5);
    let before = live.memory("VmRSS:");
    flood(100);
    let grown = live.memory("VmRSS:").saturating_sub(before);
    assert!(grown <= 5 * 1024, "grew by {grown} KiB");
}

#[test]
fn r16_a_reader_that_takes_nothing_is_cut_with_a_reason_and_resumes() {
    let live = Live::start(&[]);
    let mut stalled = {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], live.port));
        socket.connect(&address.into()).unwrap();
        TcpStream::from(socket)
    };
    stalled.write_all((live.head("GET", "/events?since=0") + "\r\n").as_bytes()).unwrap();
    eventually("the subscription", || (live.metric("fleetd_subscriptions") == 1).then_some(()));
    let begun = Instant::now();
    // More than the kernel's buffers on both sides can hold.
    for n in 0..40 {
        live.publish(&format!("e{n}"), 200 * 1024);
    }
    eventually("the cut", || (live.metric("fleetd_http_readers_cut_total") >= 1).then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    eventually("its end", || (live.metric("fleetd_subscriptions") == 0).then_some(()));
    let log = live.home.path().join(".local/state/fleetd/log/fleetd.log");
    eventually("the reason in the log", || {
        std::fs::read_to_string(&log).unwrap().contains("reason=\"stalled\"").then_some(())
    });
    // Nothing was lost: whoever comes back is given all of it.
    let mut again = live.connect();
    again
        .write_all((live.head("GET", "/events?since=0&types=custom.load") + "\r\n").as_bytes())
        .unwrap();
    let (mut seen, mut part) = (Vec::new(), [0; 65536]);
    while !String::from_utf8_lossy(&seen[seen.len().saturating_sub(300 * 1024)..])
        .contains("\"id\":\"e39\"")
    {
        let read = again.read(&mut part).unwrap();
        assert!(read > 0, "the stream ended");
        seen.extend_from_slice(&part[..read]);
    }
    let text = String::from_utf8_lossy(&seen);
    for n in 0..40 {
        assert_eq!(text.matches(&format!("\"id\":\"e{n}\"")).count(), 1, "e{n}");
    }
}

#[test]
fn r23_without_descriptors_the_owners_socket_is_served_and_nothing_spins() {
    let live = Live::start(&["prlimit", "--nofile=64:64"]);
    let crowd: Vec<_> =
        (0..200).filter_map(|_| TcpStream::connect(("127.0.0.1", live.port)).ok()).collect();
    let before = live.cpu();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        let unix = UnixStream::connect(live.socket()).unwrap();
        let answer =
            exchange(unix, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        // Ten looks a second are work enough to be fair.
        std::thread::park_timeout(Duration::from_millis(100));
    }
    // Ticks are 10 ms: a fifth of two seconds is 40.
    let used = live.cpu() - before;
    assert!(used < 40, "{used} ticks of CPU in two seconds");
    drop(crowd);
    let freed = Instant::now();
    eventually("an answer over TCP", || {
        live.get("/healthz").starts_with("HTTP/1.1 200 ").then_some(())
    });
    assert!(freed.elapsed() < Duration::from_secs(2), "{:?}", freed.elapsed());
}

#[test]
fn a_named_cursor_goes_on_where_the_name_was_last_handed_something() {
    let live = Live::start(&[]);
    let read = |until: &str| {
        let mut stream = live.connect();
        let target = "/events?as=me&since=0&types=custom.load";
        let target = if until == "first" { target } else { "/events?as=me&types=custom.load" };
        stream.write_all((live.head("GET", target) + "\r\n").as_bytes()).unwrap();
        let (mut seen, mut part) = (String::new(), [0; 4096]);
        while !seen.contains(&format!("\"id\":\"{until}\"")) {
            let read = stream.read(&mut part).unwrap();
            assert!(read > 0, "the stream ended: {seen}");
            seen.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        seen
    };
    live.publish("first", 1);
    read("first");
    eventually("the end of the stream", || {
        (live.metric("fleetd_subscriptions") == 0).then_some(())
    });
    live.publish("second", 1);
    let seen = read("second");
    assert!(!seen.contains("\"id\":\"first\""), "{seen}");
}
