//! What the keepalive sees, told as events.

use std::time::{Duration, Instant};

use serde_json::json;

use super::rig::Rig;
use crate::support::{Daemon, PATIENCE, Sshd, descendants, eventually};

const FLIPS: &[&str] =
    &["member.offline", "member.online", "member.hostkey_changed", "member.rebooted"];

#[test]
fn a_member_that_goes_and_comes_is_told_once_each_time() {
    let mut rig = Rig::with_web();
    rig.until("web", "online");
    rig.sshd.stop();
    rig.until("web", "offline");
    eventually("the flip is told", || rig.topics(FLIPS) == ["member.offline"]);
    let (_, data) = rig.events(FLIPS).remove(0);
    assert_eq!(data["member"], "web");
    assert!(data["reason"].is_string() && data["cause"].is_string(), "{data}");
    let status = rig.daemon.tool("fleet_status", json!({}));
    assert!(status["members"][1]["last_error"].is_string(), "{status}");
    // The next daemon finds it as it was: no flip, no event.
    rig.daemon = rig.daemon.restart_after_kill9();
    rig.until("web", "offline");
    rig.sshd.restart();
    rig.until("web", "online");
    eventually("the flip is told", || rig.topics(FLIPS) == ["member.offline", "member.online"]);
    let (_, data) = rig.events(&["member.online"]).remove(0);
    assert!(data["offline_ms"].as_u64().is_some_and(|ms| ms > 0), "{data}");
}

/// Lesson 48: a changed host key was taken without a word.
#[test]
fn a_changed_host_key_is_an_event_and_is_trusted_by_command_alone() {
    let mut rig = Rig::with_web();
    rig.until("web", "online");
    let before = rig.detail("web")["fingerprint"].clone();
    rig.sshd.swap_host_key();
    eventually("the changed key is told", || !rig.topics(&["member.hostkey_changed"]).is_empty());
    rig.until("web", "offline");
    let (_, data) = rig.events(&["member.hostkey_changed"]).remove(0);
    let offered = data["offered"].as_str().unwrap().to_owned();
    assert!(data["known"].as_str().unwrap().contains(before.as_str().unwrap()), "{data}");
    // --accept-new is for unknown keys, and no tool re-pins one.
    let refused = rig.add("other", "other", &["--accept-new"]);
    assert_eq!(refused.code(), 7, "{refused:?}");
    // Another name of the machine does not get round it either.
    for more in [json!({"host": "localhost"}), json!({"host": "localhost", "accept_new": true})] {
        let mut moved = more.clone();
        moved["member_name"] = json!("web");
        let asked = crate::support::tool_request(&rig.daemon, "update_member", moved);
        let reply = crate::support::reply(&rig.daemon.send(&asked));
        let said = reply.to_string();
        assert!(said.contains("localhost") || said.contains("accept_new"), "{said}");
        assert_eq!(rig.detail("web")["host"], "127.0.0.1", "{more}: {said}");
    }
    let wrong = ["members", "trust", "web", "--fingerprint", before.as_str().unwrap()];
    let wrong = rig.daemon.fleetctl(&wrong);
    assert_eq!(wrong.code(), 7, "{wrong:?}");
    assert!(wrong.stderr.contains(before.as_str().unwrap()), "both are shown: {wrong:?}");
    let blind = rig.daemon.fleetctl(&["members", "trust", "web"]);
    assert_eq!(blind.code(), 2, "{blind:?}");
    assert_eq!(rig.detail("web")["fingerprint"], before);
    let fingerprint = offered.split(' ').next_back().unwrap();
    rig.daemon.fleetctl(&["members", "trust", "web", "--fingerprint", fingerprint]).ok();
    rig.until("web", "online");
    assert_eq!(rig.detail("web")["fingerprint"], fingerprint);
    eventually("it is told to be back", || rig.topics(FLIPS).contains(&"member.online".to_owned()));
    assert_eq!(rig.topics(&["member.hostkey_changed"]).len(), 1, "told once");
}

/// The boot id alone does not change in a container: its first process does.
#[test]
fn a_machine_that_booted_says_so() {
    let daemon = Daemon::start();
    let mut rig = Rig { daemon, sshd: Sshd::contained() };
    rig.add("web", "work", &["--accept-new"]).ok();
    rig.until("web", "online");
    rig.sshd.restart();
    eventually("the boot is told", || rig.topics(FLIPS).len() == 3);
    // A restart of the same machine's sshd alone is none: see the first test.
    assert_eq!(rig.topics(FLIPS), ["member.offline", "member.online", "member.rebooted"]);
}

/// A frozen machine closes nothing: only the keepalive can tell.
#[test]
fn a_silent_member_is_offline_within_the_budget() {
    let daemon = Daemon::configured("[members]\nkeepalive_s = 1\noffline_after_s = 3\n");
    let rig = Rig { daemon, sshd: Sshd::start() };
    rig.add("web", "work", &["--accept-new"]).ok();
    rig.until("web", "online");
    let mut stream = rig.daemon.events("types=member.offline");
    rig.sshd.freeze();
    let since = Instant::now();
    let event = stream.next_within(PATIENCE).expect("the flip is told");
    let took = since.elapsed();
    println!("told offline after {took:?}, with a budget of 3 s");
    assert_eq!(event.json()["data"]["cause"], "lost", "{event:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    rig.sshd.thaw();
    rig.until("web", "online");
}

#[test]
fn a_removed_member_is_let_go_of() {
    let rig = Rig::with_web();
    rig.until("web", "online");
    rig.daemon.fleetctl(&["members", "rm", "web"]).ok();
    assert_eq!(rig.topics(&["member.removed"]), ["member.removed"]);
    let sessions = || descendants(rig.sshd.pid()).len();
    eventually("its connection is closed", || sessions() == 0);
    assert_eq!(rig.members().len(), 1);
}
