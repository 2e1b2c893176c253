//! The daemon's own log: R45, and what must never be in it.

use std::fs::File;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Daemon, eventually, within};

/// Makes the daemon log, until the file at `log` has what it says.
fn says_again(daemon: &Daemon, log: &Path) {
    let begun = Instant::now();
    eventually("a line in the log", || {
        daemon.signal(Signal::SIGHUP);
        std::fs::read_to_string(log).is_ok_and(|text| text.contains("configuration anew"))
    });
    println!("the log was back after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn r45_a_log_that_is_moved_cut_or_deleted_is_begun_anew() {
    let daemon = Daemon::start();
    let log = daemon.home().state().join("log/fleetd.log");
    says_again(&daemon, &log);
    std::fs::rename(&log, log.with_extension("moved")).expect("moved");
    says_again(&daemon, &log);
    std::fs::remove_file(&log).expect("deleted");
    says_again(&daemon, &log);
    File::options().write(true).open(&log).and_then(|file| file.set_len(0)).expect("cut");
    says_again(&daemon, &log);
    std::fs::remove_dir_all(log.parent().expect("its folder")).expect("the folder deleted");
    daemon.publish("custom.no_log", "no-log", json!({}));
    assert_eq!(daemon.get("/healthz").status, 200);
}

#[test]
fn r45_under_load_the_log_stays_below_its_cap() {
    let daemon = Daemon::configured("[log]\nlevel = \"debug\"\nmax_mib = 1\nfiles = 2\n");
    let folder = daemon.home().state().join("log");
    let size = || -> u64 {
        let files = std::fs::read_dir(&folder).expect("the folder").flatten();
        files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    };
    let mut conn = daemon.connect();
    let request = daemon.request("GET", "/metrics");
    within(Duration::from_secs(60), "the log was rotated", || {
        (0..200).for_each(|_| assert_eq!(conn.exchange(&request).status, 200));
        assert!(size() <= 2 * 1024 * 1024, "{} bytes", size());
        folder.join("fleetd.log.1").exists().then_some(())
    });
}

#[test]
fn nothing_that_callers_say_is_logged_even_at_trace() {
    let daemon = Daemon::configured("[log]\nlevel = \"trace\"\n");
    let canary = "canary-5b1e7c";
    daemon.tool(
        "execute_command",
        json!({ "command": format!("echo {canary}"), "env": { "SECRET": canary }, "stdin": canary }),
    );
    daemon.publish("custom.x", "an-event", json!({ "secret": canary }));
    daemon.request("GET", &format!("/events?subject={canary}"));
    let (home, _) = daemon.terminate(Duration::from_secs(5));
    let logs = home.logs();
    assert!(logs.contains("stopped"), "void: {logs}");
    assert!(!logs.contains(canary), "{logs}");
    assert!(!logs.contains(&home.token()), "the token is in the log");
}
