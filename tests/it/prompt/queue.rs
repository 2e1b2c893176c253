//! Who waits for whom.

use serde_json::json;

use super::rig::Rig;
use crate::support::eventually;

#[test]
fn two_prompts_in_one_folder_run_one_after_the_other() {
    let rig = Rig::configured("[tasks]\nprompts = 4\n");
    let fresh = json!({ "resume": false });
    let first = rig.begin("HOLD one", fresh.clone());
    rig.asked(1);
    // The same folder by another name, and one within it.
    let link = rig.daemon.home().path().join("link");
    std::os::unix::fs::symlink(rig.work(), &link).unwrap();
    let inner = rig.work().join("inner");
    let other = rig.daemon.home().path().join("other");
    for folder in [&inner, &other] {
        std::fs::create_dir(folder).unwrap();
    }
    let second = rig.begin("two", json!({ "resume": false, "run_from": link }));
    let third = rig.begin("three", json!({ "resume": false, "run_from": inner }));
    assert_eq!(rig.monitor(&second)["state"], "queued");
    assert_eq!(rig.monitor(&third)["state"], "queued");
    // Neither a prompt elsewhere nor a command waits behind them.
    let elsewhere = rig.begin("four", json!({ "resume": false, "run_from": other }));
    assert_eq!(rig.end(&elsewhere)["state"], "completed");
    assert_eq!(rig.daemon.tool("execute_command", json!({ "command": "true" }))["exitCode"], 0);
    // The next daemon knows who holds what.
    let rig = rig.restart();
    assert_eq!(rig.monitor(&second)["state"], "queued");
    let fifth = rig.begin("five", fresh);
    assert_eq!(rig.monitor(&fifth)["state"], "queued");
    rig.model.release();
    for id in [&first, &second, &third, &fifth] {
        assert_eq!(rig.end(id)["state"], "completed");
    }
    let ended = |id: &str| rig.monitor(id)["ended"].as_str().unwrap().to_owned();
    let started = |id: &str| rig.monitor(id)["started"].as_str().unwrap().to_owned();
    assert!(ended(&first) <= started(&second) && ended(&second) <= started(&third));
}

#[test]
fn a_member_runs_one_prompt_at_a_time_unless_told_otherwise() {
    let rig = Rig::new();
    let other = rig.daemon.home().path().join("other");
    std::fs::create_dir(&other).unwrap();
    let first = rig.begin("HOLD one", json!({ "resume": false }));
    let second = rig.begin("HOLD two", json!({ "resume": false, "run_from": other }));
    rig.asked(1);
    assert_eq!(rig.monitor(&second)["state"], "queued");
    rig.daemon.tool("stop_prompt", json!({ "stream_id": first }));
    eventually("the second runs", || rig.monitor(&second)["state"] == "running");
    rig.model.release();
    assert_eq!(rig.end(&second)["state"], "completed");
}
