//! A daemon with members, and what these tests ask of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Daemon, Sshd, within};

pub use super::super::whole::{end, look, topics};

/// Keepalive and grace short enough for a test.
pub const SETTINGS: &str = "[members]\nkeepalive_s = 1\noffline_after_s = 3\nconnect_timeout_s = 5\n\
     [tasks]\nstop_grace_s = 1\n";

/// A daemon with one member, `m`.
pub fn pair() -> (Daemon, Sshd) {
    let (daemon, sshd) = (Daemon::configured(SETTINGS), Sshd::start());
    join(&daemon, "m", &sshd, json!({}));
    (daemon, sshd)
}

/// Registers `sshd` as a member of this name.
pub fn join(daemon: &Daemon, name: &str, sshd: &Sshd, more: Value) {
    let mut arguments = json!({
        "friendly_name": name, "host": "127.0.0.1", "port": sshd.port(), "username": sshd.user(),
        "key_path": sshd.key(), "accept_new": true, "work_folder": sshd.home().join("work"),
    });
    arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    daemon.tool("register_member", arguments);
}

/// Starts a command on a member and returns its id.
pub fn start_on(daemon: &Daemon, member: &str, line: &str) -> String {
    let arguments = json!({"command": line, "member_name": member, "async": true, "timeout_s": 0});
    let started = daemon.tool("execute_command", arguments);
    started["stream_id"].as_str().unwrap().to_owned()
}

/// Runs a command on `m` to its end.
pub fn run_on(daemon: &Daemon, more: Value) -> Value {
    let mut arguments = json!({"member_name": "m"});
    arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    daemon.tool("execute_command", arguments)
}

pub fn until_state(daemon: &Daemon, id: &str, state: &str) -> Value {
    within(Duration::from_secs(20), &format!("the task is {state}"), || {
        let task = look(daemon, id);
        (task["state"] == state).then_some(task)
    })
}

pub fn until_told(daemon: &Daemon, id: &str, topic: &str) {
    within(Duration::from_secs(30), topic, || {
        topics(daemon, id).iter().any(|told| told == topic).then_some(())
    });
}

/// A command that counts its runs and goes on until `gate` is there.
pub fn gated(counter: &Path, gate: &Path, rest: &str) -> String {
    let (counter, gate) = (counter.display(), gate.display());
    format!("echo ran >> '{counter}'; until [ -e '{gate}' ]; do sleep 0.05; done; {rest}")
}

pub fn runs(counter: &Path) -> usize {
    std::fs::read_to_string(counter).unwrap_or_default().lines().count()
}

pub fn open(gate: &Path) {
    std::fs::write(gate, "").unwrap();
}

/// The run's directory on the member.
pub fn there(daemon: &Daemon, sshd: &Sshd, id: &str) -> PathBuf {
    let run = look(daemon, id)["stdout"]["run_id"].as_str().unwrap().to_owned();
    sshd.home().join(".fleetd/runs").join(run)
}

/// The bytes of a whole stream.
pub fn bytes(daemon: &Daemon, id: &str, stream: &str) -> Vec<u8> {
    daemon.get(&format!("/tasks/{id}/output?stream={stream}")).body
}
