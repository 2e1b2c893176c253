//! The daemon's life: reload, revocation, the service manager, the log.

use std::io::{Read, Write};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::live::{Live, eventually};

/// Opens a stream and reads until its first comment is there.
fn stream(live: &Live) -> std::net::TcpStream {
    let mut stream = live.connect();
    stream.write_all((live.head("GET", "/events") + "\r\n").as_bytes()).unwrap();
    let (mut seen, mut part) = (Vec::new(), [0; 1024]);
    while !String::from_utf8_lossy(&seen).contains("retry:") {
        let read = stream.read(&mut part).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&part[..read]);
    }
    stream
}

/// Writes `content` the way a command would: beside, then over.
fn replace(path: &std::path::Path, content: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&beside, private).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

#[test]
fn s07_a_new_token_ends_old_streams_within_a_second_and_a_broken_one_changes_nothing() {
    let mut live = Live::start(&[]);
    let mut open = stream(&live);
    let token = live.state().join("token");
    replace(&token, "not a token");
    live.signal(Signal::SIGHUP);
    let log = live.state().join("log/fleetd.log");
    eventually("the refusal in the log", || {
        std::fs::read_to_string(&log).unwrap().contains("kept the old configuration").then_some(())
    });
    assert!(live.get("/metrics").starts_with("HTTP/1.1 200 "));
    let new = "ab".repeat(32);
    replace(&token, &new);
    live.signal(Signal::SIGHUP);
    let begun = Instant::now();
    let mut rest = Vec::new();
    open.read_to_end(&mut rest).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    // A clean end, not a cut: the last chunk of the body.
    assert!(rest.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&rest));
    assert!(live.get("/metrics").starts_with("HTTP/1.1 401 "));
    live.token = new;
    assert!(live.get("/metrics").starts_with("HTTP/1.1 200 "));
}

#[test]
fn the_service_manager_hears_ready_watchdog_and_stopping() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "400000")];
    let mut live = Live::start_with(&[], &variables);
    let hear = |wanted: &str| {
        let mut message = [0; 4096];
        loop {
            let read = manager.recv(&mut message).unwrap();
            let text = String::from_utf8_lossy(&message[..read]).into_owned();
            if text.contains(wanted) {
                return text;
            }
        }
    };
    assert!(hear("READY=1").contains("STATUS=serving http://127.0.0.1:"));
    let begun = Instant::now();
    for _ in 0..5 {
        hear("WATCHDOG=1");
    }
    // Twice as often as the manager looks.
    assert!(begun.elapsed() < Duration::from_millis(400 * 5), "{:?}", begun.elapsed());
    live.signal(Signal::SIGTERM);
    hear("STOPPING=1");
    assert_eq!(live.ended(), 0);
    assert!(!live.home.path().join(".fleetd/fleetd.json").exists());
    assert!(!live.socket().exists());
}

#[test]
fn r45_a_deleted_or_moved_log_is_begun_anew() {
    let live = Live::start(&[]);
    let log = live.state().join("log/fleetd.log");
    eventually("the first line", || {
        std::fs::read_to_string(&log).ok().filter(|text| text.contains("ready"))
    });
    std::fs::remove_file(&log).unwrap();
    let said = || {
        live.signal(Signal::SIGHUP);
        std::fs::read_to_string(&log).ok().filter(|text| text.contains("configuration anew"))
    };
    let begun = Instant::now();
    eventually("a new log", said);
    std::fs::rename(&log, log.with_extension("old")).unwrap();
    eventually("another new log", said);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
