//! What the daemon tells about itself: `fleet.started`, `fleet.stopping`, `fleet.recovered`.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Daemon, eventually, signal};

/// All `fleet.*` events that are held, oldest first.
fn fleet_events(daemon: &Daemon) -> Vec<Value> {
    let list = daemon.tool("list_events", json!({ "types": ["fleet.*"], "since": "0" }));
    list["events"].as_array().expect("a list").clone()
}

#[test]
fn a_start_and_a_stop_say_who_and_why() {
    let daemon = Daemon::start();
    let (pid, instance) = (daemon.pid(), daemon.runtime()["instance"].clone());
    let events = fleet_events(&daemon);
    assert_eq!(events.len(), 1, "{events:?}");
    let started = &events[0];
    assert_eq!(started["type"], "fleet.started");
    assert_eq!(started["subject"], "fleet");
    assert_eq!(started["source"], format!("fleetd/{}", instance.as_str().expect("an instance")));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(started["data"], json!({ "version": version, "instance": instance, "pid": pid }));

    let long = json!({ "command": "sleep 600", "async": true, "timeout_s": 0 });
    daemon.tool("execute_command", long);
    let (home, _) = daemon.terminate(Duration::from_secs(5));
    let daemon = Daemon::start_in(home);
    let events = fleet_events(&daemon);
    let topics: Vec<_> = events.iter().map(|event| event["type"].as_str().expect("text")).collect();
    assert_eq!(topics, ["fleet.started", "fleet.stopping", "fleet.started"]);
    assert_eq!(events[1]["data"], json!({ "reason": "SIGTERM", "running_tasks": 1 }));
    assert_eq!(events[2]["data"]["instance"], instance, "an instance outlives its process");
}

#[test]
fn a_start_after_a_crash_says_what_became_of_the_tasks() {
    let daemon = Daemon::start();
    let begin = |command: &str| {
        let arguments = json!({ "command": command, "async": true, "timeout_s": 0 });
        let task = daemon.tool("execute_command", arguments)["stream_id"].clone();
        task.as_str().expect("an id").to_owned()
    };
    let gate = daemon.home().path().join("gate");
    let wait = format!("until test -e {}; do sleep 0.02; done", gate.display());
    // One goes on, one ends while nobody looks, one loses its supervisor as well.
    begin("sleep 600");
    let settled = begin(&wait);
    let lost = begin("sleep 601");
    eventually("all three run", || {
        let running = daemon.tool("list_tasks", json!({ "states": ["running"] }));
        running["tasks"].as_array().is_some_and(|tasks| tasks.len() == 3)
    });
    let shown = daemon.tool("monitor_task", json!({ "task_id": lost }));
    let command = shown["tasks"][0]["pid"].as_u64().expect("a pid");
    let command = u32::try_from(command).expect("a pid");
    let supervisor = parent_of(command);

    let home = daemon.kill9();
    signal(supervisor, Signal::SIGKILL);
    signal(command, Signal::SIGKILL);
    // Reaped, too: a zombie is still there for the daemon, which would look again later.
    let gone = |pid: u32| !std::path::Path::new(&format!("/proc/{pid}")).exists();
    eventually("both are gone", || gone(supervisor) && gone(command));
    std::fs::write(&gate, "").expect("the gate opens");
    let settled_dir = home.state().join("runs");
    eventually("it ended without a daemon", || ended_runs(&settled_dir) >= 1);
    let daemon = Daemon::start_in(home);
    let events = fleet_events(&daemon);
    let recovered = events.iter().find(|event| event["type"] == "fleet.recovered");
    let recovered = recovered.unwrap_or_else(|| panic!("not told: {events:?}"));
    assert_eq!(
        recovered["data"],
        json!({
            "reason": "unclean_stop", "lost_from": null, "lost_to": null, "set_aside": null,
            "adopted_tasks": 1, "settled_tasks": 1, "unknown_tasks": 1,
        })
    );
    let shown = daemon.tool("monitor_task", json!({ "task_ids": [settled, lost] }));
    let states: Vec<_> = (0..2).map(|at| shown["tasks"][at]["state"].clone()).collect();
    assert_eq!(states, ["completed", "unknown"]);
}

/// The parent of a process (proc(5), field 4).
fn parent_of(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let (_, rest) = stat.rsplit_once(") ").expect("a stat line");
    rest.split(' ').nth(1).and_then(|parent| parent.parse().ok()).expect("a parent")
}

/// Runs that have left how they ended.
fn ended_runs(runs: &std::path::Path) -> usize {
    let runs = std::fs::read_dir(runs).expect("runs").flatten();
    runs.filter(|run| run.path().join("status").exists()).count()
}
