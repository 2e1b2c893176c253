//! Prompts on members: a real sshd, the real programs there, nothing of ours.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::providers::converse;
use super::rig::Rig;
use crate::support::{ANSWER, eventually, reply, tool_request};

#[test]
fn claude_on_a_member_streams_calls_a_tool_and_goes_on() {
    converse(&Rig::on_members(1, ""), "claude", true);
}

#[test]
fn codex_on_a_member_answers_calls_a_tool_and_goes_on() {
    converse(&Rig::on_members(1, ""), "codex", false);
}

#[test]
fn a_prompt_on_a_member_outlives_its_daemon_and_completes_once() {
    for ends_while_away in [false, true] {
        let rig = Rig::on_members(1, "");
        let id = rig.begin("HOLD on", json!({}));
        eventually("there is text", || rig.monitor(&id)["prompt"]["text"] == "Hel");
        let rig = if ends_while_away {
            let runs = rig.members[0].home().join(".fleetd/runs");
            rig.daemon.signal(Signal::SIGSTOP);
            rig.model.release();
            eventually("it has ended without its daemon", || {
                let runs = std::fs::read_dir(&runs).unwrap().flatten();
                runs.filter(|run| run.path().join("status").exists()).count() == 1
            });
            rig.restart()
        } else {
            let rig = rig.restart();
            rig.model.release();
            rig
        };
        let task = rig.end(&id);
        let answered = (&task["state"], &task["prompt"]["response"]);
        assert_eq!(answered, (&json!("completed"), &json!(ANSWER)), "{task}");
        let history = rig.history(&id);
        let ends: Vec<_> = history.iter().filter(|(topic, _)| topic == "task.completed").collect();
        assert_eq!(ends.len(), 1, "{history:?}");
        assert_eq!(ends[0].1["prompt"]["response"], ANSWER);
        assert_eq!(rig.model.asked().len(), 1, "it ran once");
    }
}

/// What a program sees there: the member's own login, and its own places to look in.
#[test]
fn nothing_of_the_daemons_environment_goes_to_a_member() {
    let rig = Rig::on_members(1, "");
    let task = rig.end(&rig.begin("x", json!({ "provider": "env" })));
    let env = task["prompt"]["response"].as_str().unwrap();
    let home = rig.members[0].home();
    assert!(env.contains(&format!("PATH={}/.local/bin:", home.display())), "{env}");
    for foreign in ["sk-not-a-secret", "CLAUDECODE", "leaked", "CLAUDE_CODE_SESSION_ID"] {
        assert!(!env.contains(foreign), "{foreign}: {env}");
    }
    let unknown = json!({ "member_name": "m0", "llm_provider": "cluade" });
    let request = tool_request(&rig.daemon, "update_member", unknown);
    let refused = reply(&rig.daemon.send(&request)).to_string();
    assert!(refused.contains("'cluade' is not known; there are "), "{refused}");
}

/// Two ways to one folder are one folder, and another member's is another.
#[test]
fn the_second_prompt_in_a_members_folder_waits_by_whichever_way() {
    let rig = Rig::on_members(2, "[tasks]\nprompts = 4\n");
    for sshd in &rig.members {
        std::os::unix::fs::symlink(sshd.home().join("work"), sshd.home().join("link")).unwrap();
    }
    let link = |member: usize| rig.members[member].home().join("link");
    let first = rig.begin("HOLD", json!({}));
    rig.asked(1);
    let same =
        rig.daemon.tool("execute_prompt", rig.arguments("x", json!({ "run_from": link(0) })));
    assert_eq!(same["status"], "queued", "{same}");
    let there = json!({ "member_name": "m1", "run_from": link(1), "provider": "cat" });
    let other: Value = rig.end(&rig.begin("x", there));
    assert_eq!(other["state"], "completed", "{other}");
    rig.model.release();
    for id in [first.as_str(), same["stream_id"].as_str().unwrap()] {
        assert_eq!(rig.end(id)["state"], "completed");
    }
}

/// Its caller has the id, and nothing of it had reached the member.
#[test]
fn a_prompt_whose_start_never_arrived_begins_with_the_next_daemon() {
    let rig = Rig::on_members(1, "");
    rig.members[0].freeze();
    let id = rig.begin("hello", json!({ "provider": "claude" }));
    let rig = rig.restart();
    rig.members[0].thaw();
    let task = rig.end(&id);
    let answered = (&task["state"], &task["prompt"]["response"]);
    assert_eq!(answered, (&json!("completed"), &json!(ANSWER)), "{task}");
    assert_eq!(rig.model.asked().len(), 1, "it ran once");
    let history = rig.history(&id);
    assert_eq!(history.iter().filter(|(topic, _)| topic == "task.completed").count(), 1);
}
