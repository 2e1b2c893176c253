//! What the first page promises, from a fresh HOME to a killed daemon.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Home, Program, eventually, is_alive, signal};

fn pid(home: &Home) -> u32 {
    let status = home.fleetctl(&["status", "--json"]).ok();
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    u32::try_from(status["pid"].as_u64().unwrap()).unwrap()
}

/// The events that a follower has printed whole.
fn events(follower: &Program) -> Vec<Value> {
    let said = follower.stdout();
    let whole = &said[..said.rfind('\n').map_or(0, |at| at + 1)];
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of_type<'a>(events: &'a [Value], topic: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == topic).collect()
}

/// A command that speaks, waits for a file, and ends.
fn line(gate: &str, code: i32) -> String {
    format!("echo hello; while [ ! -e {gate} ]; do sleep 0.02; done; echo x >> {gate}; exit {code}")
}

#[test]
fn up_and_down_are_not_confused_by_a_daemon_that_is_just_dying() {
    let home = Home::new();
    for round in 0..20 {
        home.fleetctl(&["up"]).ok();
        signal(pid(&home), Signal::SIGKILL);
        // At once: its lock and its sockets may still be there.
        if round % 2 == 0 {
            let up = home.fleetctl(&["up"]).ok();
            assert!(up.stdout.contains("http://127.0.0.1:"), "{up:?}");
        }
        home.fleetctl(&["down"]).ok();
    }
}

#[test]
fn a_killed_daemon_tells_the_true_end_exactly_once() {
    let home = Home::new();
    let up = home.fleetctl(&["up"]).ok();
    assert!(up.stdout.contains("fleetctl run") && up.stdout.contains("mcp-config"), "{up:?}");
    let follower =
        Program::start(home.fleetctl_command(&["events", "--follow", "--json", "--since", "0"]));
    let run = |gate, code| {
        let args = ["run", "--detach", "--", "sh", "-c", &line(gate, code)];
        home.fleetctl(&args).ok().stdout.trim().to_owned()
    };
    // One ends while the daemon is away, one after it is back.
    let (away, back) = (run("away", 0), run("back", 5));
    for id in [&away, &back] {
        eventually("start and output are seen", || {
            let seen = events(&follower);
            let about = |topic| of_type(&seen, topic).iter().any(|e| e["data"]["task_id"] == **id);
            about("task.started") && about("task.output")
        });
    }
    assert_eq!(of_type(&events(&follower), "task.output")[0]["data"]["text"], "hello\n");

    let killed = pid(&home);
    signal(killed, Signal::SIGKILL);
    eventually("the daemon is dead", || !is_alive(killed));
    std::fs::write(home.path().join("away"), "").unwrap();
    eventually("the command has ended without its daemon", || {
        let runs = std::fs::read_dir(home.state().join("runs")).unwrap();
        runs.flatten().any(|run| run.path().join("status").exists())
    });
    home.fleetctl(&["up"]).ok();
    assert_ne!(pid(&home), killed);
    std::fs::write(home.path().join("back"), "").unwrap();
    follower.until("the last end", |said| said.contains("task.failed").then_some(()));
    home.fleetctl(&["publish", "custom.last"]).ok();
    follower.says("custom.last");

    let seen = events(&follower);
    let recovered = of_type(&seen, "fleet.recovered");
    assert_eq!(recovered.len(), 1);
    let data = &recovered[0]["data"];
    assert_eq!(data["reason"], "unclean_stop");
    assert_eq!((&data["adopted_tasks"], &data["settled_tasks"]), (&json!(1), &json!(1)));
    let completed = of_type(&seen, "task.completed");
    assert_eq!(completed.len(), 1, "exactly once");
    assert_eq!(completed[0]["data"]["task_id"], away);
    assert_eq!(completed[0]["data"]["exit_code"], 0);
    let failed = of_type(&seen, "task.failed");
    assert_eq!(failed.len(), 1, "exactly once");
    assert_eq!(
        (&failed[0]["data"]["task_id"], &failed[0]["data"]["exit_code"]),
        (&json!(back), &json!(5))
    );
    // Each ran once.
    assert_eq!(std::fs::read_to_string(home.path().join("away")).unwrap(), "x\n");
    assert_eq!(std::fs::read_to_string(home.path().join("back")).unwrap(), "x\n");
    home.fleetctl(&["down"]).ok();
}
