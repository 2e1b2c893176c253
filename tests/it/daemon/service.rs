//! What the service manager hears, and when it hears nothing: R44.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Daemon, Home, PATIENCE, as_root, custom_event, distinct_id, eventually};

/// The next message with `wanted` in it.
fn hear(manager: &UnixDatagram, wanted: &str) -> String {
    let mut message = [0; 4096];
    loop {
        let read = manager.recv(&mut message).unwrap_or_else(|e| panic!("no {wanted}: {e}"));
        let text = String::from_utf8_lossy(&message[..read]).into_owned();
        if text.contains(wanted) {
            return text;
        }
    }
}

/// A daemon that notifies `manager`, which looks every 400 ms.
fn managed() -> (Daemon, UnixDatagram) {
    let home = Home::new();
    let path = home.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut command = home.fleetd();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    (Daemon::start_as(home, command), manager)
}

#[test]
fn the_service_manager_hears_ready_watchdog_and_stopping() {
    let (daemon, manager) = managed();
    let ready = hear(&manager, "READY=1");
    assert!(ready.contains(&format!("STATUS=serving http://{}", daemon.host())), "{ready}");
    let begun = Instant::now();
    for _ in 0..5 {
        hear(&manager, "WATCHDOG=1");
    }
    // Twice as often as the manager looks.
    assert!(begun.elapsed() < Duration::from_millis(400 * 5), "{:?}", begun.elapsed());
    let (_home, exit) = daemon.terminate(Duration::from_secs(5));
    hear(&manager, "STOPPING=1");
    assert!(exit.status.success(), "{exit:?}");
}

#[test]
fn r44_a_wedged_writer_silences_the_watchdog_until_it_goes_on() {
    let (daemon, manager) = managed();
    hear(&manager, "WATCHDOG=1");
    // A disk that takes four seconds for a sync, which the writer waits for.
    let mut strace = as_root("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
    strace.args([
        "-e",
        "inject=fsync,fdatasync:delay_enter=4000000",
        "-p",
        &daemon.pid().to_string(),
    ]);
    let mut strace = strace.spawn().expect("strace starts");
    let tasks = format!("/proc/{}/task", daemon.pid());
    eventually("every thread is traced", || {
        let threads = std::fs::read_dir(&tasks).expect("threads").flatten();
        let mut states =
            threads.map(|thread| std::fs::read_to_string(thread.path().join("status")));
        states.all(|state| state.is_ok_and(|text| !text.contains("TracerPid:\t0\n")))
    });
    let event = custom_event("custom.slow", &distinct_id("slow"), json!({})).to_string();
    let request = daemon.request("POST", "/events");
    let mut slow = daemon.connect();
    let request = request.body("application/cloudevents+json", event.as_bytes());
    slow.write(&request.bytes()).expect("sent");
    // What was on its way may still come; then there has to be silence for
    // longer than the manager bears.
    manager.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let begun = Instant::now();
    let mut message = [0; 4096];
    while manager.recv(&mut message).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(4), "the watchdog was fed all the time");
    }
    assert_eq!(daemon.get("/healthz").status, 200, "only the writer is wedged");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    hear(&manager, "WATCHDOG=1");
    assert_eq!(slow.read_answer("POST").expect("an answer").status, 200);
    drop(strace.kill());
    drop(strace.wait());
}
