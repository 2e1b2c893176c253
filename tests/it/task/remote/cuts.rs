//! Links that are cut, daemons that are killed, machines that boot: a task ends
//! once, as it really did, or is said to be unknown.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::rig::{
    SETTINGS, bytes, end, gated, join, look, open, pair, runs, start_on, there, topics,
    until_state, until_told,
};
use crate::support::{Daemon, PATIENCE, Random, Sshd, in_own_network, is_alive, run, within};

/// R26: the session is killed, the command goes on.
#[test]
fn r26_a_killed_session_is_no_end() {
    let (daemon, mut sshd) = pair();
    let (counter, gate) = (sshd.path("counter"), sshd.path("gate"));
    let id = start_on(&daemon, "m", &gated(&counter, &gate, "echo whole; exit 255"));
    until_state(&daemon, &id, "running");
    sshd.kill_sessions();
    within(PATIENCE, "it is found again", || {
        let online = daemon.tool("list_members", json!({})).to_string();
        online.contains("online").then_some(())
    });
    assert_eq!(look(&daemon, &id)["state"], "running");
    open(&gate);
    let task = end(&daemon, &id);
    assert_eq!((&task["exit_code"], &task["stdout"]["text"]), (&json!(255), &json!("whole\n")));
    assert_eq!(runs(&counter), 1);
    let told = topics(&daemon, &id);
    assert_eq!(
        (told.first().unwrap().as_str(), told.last().unwrap().as_str()),
        ("task.started", "task.failed"),
        "{told:?}"
    );
    sshd.stop();
}

fn iptables(rule: &str, port: u16) {
    for side in ["--dport", "--sport"] {
        let mut command = Command::new("iptables");
        let port = port.to_string();
        command.args([rule, "INPUT", "-p", "tcp", side, &port, "-j", "DROP"]);
        run(command, b"", PATIENCE).ok();
    }
}

/// R25 and the second half of R30: packets vanish for a while.
#[test]
fn r25_a_silent_link_is_told_once_and_the_task_goes_on() {
    in_own_network(
        "task::remote::cuts::r25_a_silent_link_is_told_once_and_the_task_goes_on",
        || {
            let (daemon, sshd) = pair();
            let (counter, gate) = (sshd.path("counter"), sshd.path("gate"));
            let id = start_on(&daemon, "m", &gated(&counter, &gate, "echo whole; exit 4"));
            let deaf = start_on(&daemon, "m", "trap '' TERM; while :; do sleep 0.1; done");
            let pid = until_state(&daemon, &deaf, "running")["pid"].as_u64().unwrap();
            until_state(&daemon, &id, "running");
            iptables("-A", sshd.port());
            let cut = Instant::now();
            until_told(&daemon, &id, "task.unreachable");
            assert!(cut.elapsed() < Duration::from_secs(3 + 2), "{:?}", cut.elapsed());
            let cut_off = look(&daemon, &id);
            assert_eq!(cut_off["state"], "running", "no false failure");
            assert!(cut_off["unreachable_since"].is_string(), "{cut_off}");
            let listed = daemon.fleetctl(&["tasks"]).ok().stdout;
            assert_eq!(listed.matches("unreachable").count(), 2, "{listed}");
            let asked = daemon.tool("stop_task", json!({"task_id": deaf}));
            assert_eq!(asked["task"]["stop_requested"], true, "{asked}");
            assert_eq!(asked["task"]["state"], "running", "what cannot be known is not told");
            let daemon = daemon.restart_after_kill9();
            assert!(is_alive(u32::try_from(pid).unwrap()));
            iptables("-D", sshd.port());
            let stopped = end(&daemon, &deaf);
            assert_eq!(
                (&stopped["state"], &stopped["signal_possible"]),
                (&json!("cancelled"), &json!(9))
            );
            assert!(!is_alive(u32::try_from(pid).unwrap()));
            until_told(&daemon, &id, "task.resumed");
            within(PATIENCE, "it is reachable", || {
                look(&daemon, &id)["unreachable_since"].is_null().then_some(())
            });
            open(&gate);
            let task = end(&daemon, &id);
            assert_eq!(
                (&task["exit_code"], &task["stdout"]["text"]),
                (&json!(4), &json!("whole\n"))
            );
            assert_eq!(
                topics(&daemon, &id),
                ["task.started", "task.unreachable", "task.resumed", "task.failed"]
            );
            assert_eq!(runs(&counter), 1);
        },
    );
}

/// R29: a link that comes and goes, and 50 MB through it.
#[test]
fn r29_fifty_megabytes_come_byte_for_byte_over_a_flapping_link() {
    in_own_network(
        "task::remote::cuts::r29_fifty_megabytes_come_byte_for_byte_over_a_flapping_link",
        || {
            let (daemon, sshd) = pair();
            let line = "seq 1 7000000 | head -c 50000000 | tee copy; exit 9";
            let id = start_on(&daemon, "m", line);
            let mut received = 0;
            for _ in 0..4 {
                within(PATIENCE, "some of it comes", || {
                    let held = look(&daemon, &id)["stdout"]["next_offset"].as_u64().unwrap();
                    (held > received || held == 50_000_000).then(|| received = held)
                });
                iptables("-A", sshd.port());
                // The kernel sends again what was dropped; some cuts outlast us.
                within(PATIENCE, "a while of silence", {
                    let since = Instant::now();
                    move || (since.elapsed() > Duration::from_millis(1200)).then_some(())
                });
                iptables("-D", sshd.port());
            }
            sshd.kill_sessions();
            let task = end(&daemon, &id);
            assert_eq!(
                (&task["exit_code"], &task["stdout_bytes"]),
                (&json!(9), &json!(50_000_000))
            );
            let copy = std::fs::read(sshd.home().join("work/copy")).unwrap();
            assert!(bytes(&daemon, &id, "stdout") == copy, "not the same bytes");
        },
    );
}

/// R27, and D4 of the peer's defects: after a crash a second run was let in.
#[test]
fn r27_a_killed_daemon_adopts_what_runs_on_members() {
    let daemon = Daemon::configured(SETTINGS);
    let members: Vec<Sshd> = (0..3).map(|_| Sshd::start()).collect();
    for (at, sshd) in members.iter().enumerate() {
        join(&daemon, &format!("m{at}"), sshd, json!({}));
    }
    let mut tasks = Vec::new();
    for at in 0..10 {
        let sshd = &members[at % 3];
        let counter = sshd.path(&format!("counter{at}"));
        // Some end while nobody watches.
        let gate = sshd.path(if at < 5 { "early" } else { "late" });
        let line = gated(&counter, &gate, &format!("echo {at}; exit {at}"));
        tasks.push((start_on(&daemon, &format!("m{}", at % 3), &line), counter));
    }
    for (id, _) in &tasks {
        until_state(&daemon, id, "running");
    }
    let home = daemon.kill9();
    members.iter().for_each(|sshd| open(&sshd.path("early")));
    let daemon = Daemon::start_in(home);
    for (id, _) in &tasks[..5] {
        end(&daemon, id);
    }
    members.iter().for_each(|sshd| open(&sshd.path("late")));
    for (at, (id, counter)) in tasks.iter().enumerate() {
        let task = end(&daemon, id);
        assert_eq!(
            (&task["exit_code"], &task["stdout"]["text"]),
            (&json!(at), &json!(format!("{at}\n"))),
            "{task}"
        );
        assert_eq!(runs(counter), 1, "task {at}");
        let told = topics(&daemon, id);
        assert_eq!(told.iter().filter(|topic| *topic == "task.started").count(), 1, "{told:?}");
    }
}

/// R28: killed anywhere between the wish and its record.
#[test]
fn r28_a_crash_on_the_way_never_runs_it_twice() {
    let (mut daemon, sshd) = pair();
    let mut random = Random::fresh("r28");
    for round in 0..6 {
        let counter = sshd.path(&format!("counter{round}"));
        let line = format!("echo ran >> '{}'; sleep 0.3", counter.display());
        let arguments = json!({"command": line, "member_name": "m", "async": true});
        let request = crate::support::tool_request(&daemon, "execute_command", arguments);
        let mut conn = daemon.connect();
        conn.write(&request.bytes()).unwrap();
        let wait = random.millis(0..40);
        let since = Instant::now();
        within(PATIENCE, "a moment", || (since.elapsed() >= wait).then_some(()));
        daemon = daemon.restart_after_kill9();
        let listed = daemon.tool("list_tasks", json!({}));
        let tasks: Vec<&Value> = listed["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|task| task["command"] == line)
            .collect();
        assert!(tasks.len() <= 1, "{listed}");
        let Some(task) = tasks.first() else {
            assert_eq!(runs(&counter), 0, "round {round}");
            continue;
        };
        let task = end(&daemon, task["task_id"].as_str().unwrap());
        let ran = runs(&counter);
        match task["state"].as_str().unwrap() {
            "completed" => assert_eq!(ran, 1, "{task}"),
            "failed" => assert_eq!(ran, 0, "never began: {task}"),
            _ => assert!(ran <= 1, "{task}"),
        }
    }
}

/// R31: the machine has booted; here its identity in the run directory is
/// another's, as it is when pid 1 started later.
#[test]
fn r31_a_member_that_booted_makes_the_end_unknown() {
    let (daemon, mut sshd) = pair();
    let id = start_on(&daemon, "m", "sleep 300");
    until_state(&daemon, &id, "running");
    let pid = there(&daemon, &sshd, &id).join("pid");
    let text = std::fs::read_to_string(&pid).unwrap();
    sshd.stop();
    let boot = text.split_whitespace().nth(2).unwrap();
    std::fs::write(&pid, text.replace(boot, "0f0e0d0c-0000/1")).unwrap();
    sshd.restart();
    let task = end(&daemon, &id);
    assert_eq!(task["state"], "unknown", "{task}");
    assert!(task["reason"].as_str().unwrap().contains("member rebooted"), "{task}");
}

/// "Never started" is an invitation to run it again.
#[test]
fn a_run_whose_directory_is_gone_is_unknown_and_not_unbegun() {
    let (daemon, sshd) = pair();
    let counter = sshd.path("counter");
    let line = format!("echo ran >> '{}'; exec sleep 300", counter.display());
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let id = start_on(&daemon, "m", &line);
            let pid = until_state(&daemon, &id, "running")["pid"].as_u64().unwrap();
            (there(&daemon, &sshd, &id), id, u32::try_from(pid).unwrap())
        })
        .collect();
    let instance = daemon.tool("fleet_status", json!({}))["instance"].as_str().unwrap().to_owned();
    assert!(tasks[0].0.join(format!("by.{instance}")).exists(), "it is this daemon's to sweep");
    let is_unknown = |daemon: &Daemon, at: usize| {
        let (_, id, pid) = &tasks[at];
        let task = end(daemon, id);
        assert_eq!(task["state"], "unknown", "{task}");
        assert!(task["reason"].as_str().unwrap().contains("is gone"), "{task}");
        assert!(is_alive(*pid));
        let mut kill = Command::new("kill");
        kill.arg(pid.to_string());
        run(kill, b"", PATIENCE).ok();
    };
    std::fs::remove_dir_all(&tasks[0].0).unwrap();
    sshd.kill_sessions();
    is_unknown(&daemon, 0);
    let home = daemon.kill9();
    std::fs::remove_dir_all(&tasks[1].0).unwrap();
    is_unknown(&Daemon::start_in(home), 1);
    assert_eq!(runs(&counter), 2, "none began again");
}

/// What runs would be looked for on the new machine, and not be found.
#[test]
fn a_member_with_tasks_stays_where_it_is() {
    let (daemon, sshd) = pair();
    let (counter, gate) = (sshd.path("counter"), sshd.path("gate"));
    let id = start_on(&daemon, "m", &gated(&counter, &gate, "true"));
    until_state(&daemon, &id, "running");
    let moved = json!({"member_name": "m", "username": ""});
    let asked = crate::support::tool_request(&daemon, "update_member", moved.clone());
    let refused = crate::support::reply(&daemon.send(&asked));
    assert!(refused.to_string().contains("open tasks (1)"), "{refused}");
    daemon.tool("update_member", json!({"member_name": "m", "tags": ["busy"]}));
    open(&gate);
    assert_eq!(end(&daemon, &id)["state"], "completed");
    daemon.tool("update_member", moved);
}

/// Statuses 8, and a reason that says what to do.
#[test]
fn a_member_that_is_offline_is_said_to_be() {
    let (daemon, mut sshd) = pair();
    sshd.stop();
    let answer = within(PATIENCE, "it is refused", || {
        let request = crate::support::tool_request(
            &daemon,
            "execute_command",
            json!({"command": "true", "member_name": "m", "async": true}),
        );
        let answer = crate::support::reply(&daemon.send(&request));
        (answer["result"]["isError"] == true).then_some(answer)
    });
    assert!(answer.to_string().contains("'m' is offline"), "{answer}");
    let refused = daemon.fleetctl(&["run", "--on", "m", "--", "true"]);
    assert_eq!(refused.code(), 8, "{refused:?}");
    sshd.swap_host_key();
    let refused = within(PATIENCE, "the new key is seen", || {
        let refused = daemon.fleetctl(&["run", "--on", "m", "--", "true"]);
        refused.stderr.contains("has changed").then_some(refused)
    });
    assert_eq!(refused.code(), 8, "{refused:?}");
    assert!(refused.stderr.contains("SHA256:"), "{refused:?}");
}
