//! What the service manager hears.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::support::{Daemon, Home, PATIENCE};

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

#[test]
fn the_service_manager_hears_ready_watchdog_and_stopping() {
    let home = Home::new();
    let path = home.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut command = home.fleetd();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    let daemon = Daemon::start_as(home, command);
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
