//! The configuration as the daemon takes it: R57's exit code, and SIGHUP.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{Daemon, Home, PATIENCE, eventually, run};

#[test]
fn r57_a_wrong_file_is_refused_with_its_place_and_78() {
    let home = Home::new();
    home.configure("[server]\nport = 0\n\n[journal]\nmax_evnts = 5\n");
    let output = run(home.fleetd(), b"", PATIENCE);
    assert_eq!(output.code(), 78, "{output:?}");
    assert!(output.stderr.contains("fleetd.toml:5:1: "), "{output:?}");
    assert!(output.stderr.contains("max_evnts"), "{output:?}");
    assert!(!home.state().join("journal.db").exists(), "something was made before the refusal");
}

#[test]
fn a_file_that_a_person_named_has_to_be_there() {
    let home = Home::new();
    let mut command = home.fleetd();
    command.args(["--config", "no-such-file.toml"]);
    let output = run(command, b"", PATIENCE);
    assert_eq!(output.code(), 78, "{output:?}");
    assert!(output.stderr.contains("no-such-file.toml"), "{output:?}");
}

#[test]
fn r57_a_bad_reload_keeps_the_old_settings_and_says_so() {
    let daemon = Daemon::configured("[log]\nlevel = \"info\"\n");
    daemon.home().configure("[log]\nlevel = \"loud\"\n");
    daemon.signal(Signal::SIGHUP);
    eventually("the log names the place", || daemon.home().story().contains("fleetd.toml:2:9"));
    assert_eq!(daemon.get("/healthz").status, 200);
    let mut live = daemon.events("");
    daemon.publish("custom.after_reload", "after-reload", serde_json::json!({}));
    assert_eq!(live.next().json()["id"], "after-reload");
}

#[test]
fn s07_a_new_token_ends_the_streams_of_the_old_one_within_a_second() {
    let daemon = Daemon::start();
    let old = daemon.token();
    let mut stream = daemon.events("");
    daemon.fleetctl(&["token", "rotate"]).ok();
    assert_ne!(daemon.token(), old);
    // In order, not by a cut: the body has its end.
    assert!(stream.ends_within(Duration::from_secs(1)), "the stream goes on");
    let with_old =
        crate::support::Request::new("GET", "/metrics").host(&daemon.host()).bearer(&old);
    assert_eq!(daemon.send(&with_old).status, 401);
    assert_eq!(daemon.get("/metrics").status, 200);
}

#[test]
fn s07_a_broken_token_file_changes_nothing() {
    let daemon = Daemon::start();
    let good = daemon.token();
    let mut stream = daemon.events("");
    std::fs::write(daemon.home().state().join("token"), "not a token").expect("written");
    daemon.signal(Signal::SIGHUP);
    eventually("the refusal in the log", || {
        daemon.home().logs().contains("kept the old configuration")
    });
    let with_old =
        crate::support::Request::new("GET", "/metrics").host(&daemon.host()).bearer(&good);
    assert_eq!(daemon.send(&with_old).status, 200);
    assert!(!stream.ends_within(Duration::from_millis(200)), "the stream ended");
}
