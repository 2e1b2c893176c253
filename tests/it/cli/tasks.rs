//! `fleetctl tasks`.

use serde_json::Value;

use crate::support::{Daemon, Program};

#[test]
fn tasks_are_listed_shown_and_stopped() {
    let daemon = Daemon::start();
    assert_eq!(daemon.fleetctl(&["tasks"]).ok().stdout, "");
    daemon.fleetctl(&["run", "--", "sh", "-c", "echo said; exit 4"]);
    let long = daemon.fleetctl(&["run", "--detach", "--", "sleep", "60"]).ok();
    let id = long.stdout.trim();
    let table = daemon.fleetctl(&["tasks"]).ok().stdout;
    assert!(table.contains(id) && table.contains("running") && table.contains("sleep 60"));
    let all = daemon.fleetctl(&["tasks", "--json"]).ok();
    let all: Value = serde_json::from_str(&all.stdout).unwrap();
    let states: Vec<_> = all["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["running", "failed"]);
    let failed = all["tasks"][1]["task_id"].as_str().unwrap();
    // How the id begins is enough.
    let shown = daemon.fleetctl(&["tasks", "show", &failed[..13]]).ok().stdout;
    assert!(shown.contains(failed) && shown.contains("said") && shown.contains('4'), "{shown}");
    let shown = daemon.fleetctl(&["tasks", "show", failed, "--json"]).ok();
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["exit_code"], 4, "{shown}");
    let stopped = daemon.fleetctl(&["tasks", "stop", id, "--json"]).ok();
    let stopped: Value = serde_json::from_str(&stopped.stdout).unwrap();
    assert_eq!(stopped["state"], "cancelled", "{stopped}");
    // What has ended already stays as it is.
    daemon.fleetctl(&["tasks", "stop", failed]).ok();
    let shown = daemon.fleetctl(&["tasks", "show", failed]).ok().stdout;
    assert!(shown.contains("failed"), "{shown}");
}

#[test]
fn output_is_what_was_written_now_or_as_it_comes() {
    let daemon = Daemon::start();
    let gate = daemon.home().path().join("gate");
    let line = format!(
        "echo one; echo err >&2; while [ ! -e '{}' ]; do sleep 0.02; done; echo two",
        gate.display()
    );
    let ran = daemon.fleetctl(&["run", "--detach", "--", "sh", "-c", &line]).ok();
    let id = ran.stdout.trim();
    let follower = Program::start(daemon.home().fleetctl_command(&["tasks", "output", id, "-f"]));
    follower.says("one\n");
    assert_eq!(daemon.fleetctl(&["tasks", "output", id]).ok().stdout, "one\n");
    assert_eq!(daemon.fleetctl(&["tasks", "output", id, "--stderr"]).ok().stdout, "err\n");
    let daemon = daemon.restart_after_kill9();
    std::fs::write(&gate, "").unwrap();
    let (code, stdout, _) = follower.end();
    assert_eq!((code, &*stdout), (0, "one\ntwo\n"));
    drop(daemon);
}

#[test]
fn a_task_that_is_not_there_is_said_to_be_missing() {
    let daemon = Daemon::start();
    let absent = "00000000-0000-4000-8000-000000000000";
    for verb in ["stop", "show", "output"] {
        for id in [absent, "12345678"] {
            let ran = daemon.fleetctl(&["tasks", verb, id]);
            assert_eq!((ran.code(), &*ran.stdout), (1, ""), "{verb} {id}: {ran:?}");
            assert!(ran.stderr.contains(id), "{ran:?}");
        }
    }
}
