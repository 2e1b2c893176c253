//! The proof of the issue: eight members, thirty-two prompts, the daemon killed in
//! the middle. Each completes once, with its text.
//!
//! One prompt on each member is the real claude's. The others are a script's that
//! speaks its format, since thirty-two of those programs at once need more
//! processors than a developer's machine has.

use std::path::Path;

use serde_json::{Value, json};

use super::rig::Rig;
use crate::support::{ANSWER, eventually};

const MEMBERS: usize = 8;
const EACH: usize = 4;

/// Says the first part, waits for `gate`, and says the rest: its own prompt. It
/// counts its runs.
const SCRIPT: &str = r#"
read -r prompt
echo "$prompt" >>~/ran
delta() {
    printf '{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"text_delta","text":"%s"}}}\n' "$1"
}
printf '{"type":"system","subtype":"init","session_id":"s-%s"}\n' "$prompt"
delta 'said '
until [ -e ~/gate ]; do sleep 0.2; done
delta "$prompt"
printf '{"type":"result","subtype":"success","is_error":false,"num_turns":1,"result":"said %s","session_id":"s-%s","total_cost_usd":0.25,"usage":{"input_tokens":3,"output_tokens":4}}\n' "$prompt" "$prompt"
"#;

/// Dispatches them all: id, and what is to be answered.
fn dispatch(rig: &Rig) -> Vec<(String, String)> {
    let mut prompts = Vec::new();
    for number in 0..EACH {
        for (member, sshd) in rig.members.iter().enumerate() {
            let folder = sshd.home().join(format!("work/{number}"));
            std::fs::create_dir_all(&folder).unwrap();
            let (text, provider, answer) = match number {
                0 => (String::from("HOLD"), "claude", String::from(ANSWER)),
                _ => (format!("p{member}-{number}"), "script", format!("said p{member}-{number}")),
            };
            let more = json!({ "member_name": format!("m{member}"), "run_from": folder,
                "provider": provider });
            prompts.push((rig.begin(&text, more), answer));
        }
    }
    prompts
}

fn count(rig: &Rig, is: impl Fn(&Value) -> bool, prompts: &[(String, String)]) -> usize {
    prompts.iter().filter(|(id, _)| is(&rig.monitor(id))).count()
}

fn ran(home: &Path) -> usize {
    std::fs::read_to_string(home.join("ran")).unwrap_or_default().lines().count()
}

#[test]
fn eight_members_and_thirty_two_prompts_survive_a_killed_daemon() {
    // One of each member's four waits for another: the queue survives as well.
    let rig = Rig::on_members(MEMBERS, "[tasks]\nprompts = 3\n");
    for sshd in &rig.members {
        std::fs::write(sshd.home().join("script"), SCRIPT).unwrap();
    }
    let prompts = dispatch(&rig);
    crate::support::within(std::time::Duration::from_secs(120), "they have begun", || {
        let told = count(&rig, |task| task["prompt"]["text"] != "", &prompts);
        (told == MEMBERS * (EACH - 1)).then_some(())
    });
    assert_eq!(count(&rig, |task| task["state"] == "queued", &prompts), MEMBERS);
    // Half of them end while nobody looks, the others afterwards.
    let rig = rig.restart_after(|rig| {
        for sshd in &rig.members[..MEMBERS / 2] {
            std::fs::write(sshd.home().join("gate"), "").unwrap();
        }
    });
    for sshd in &rig.members[MEMBERS / 2..] {
        std::fs::write(sshd.home().join("gate"), "").unwrap();
    }
    rig.model.release();
    for (id, answer) in &prompts {
        let task = rig.end(id);
        assert_eq!(
            (&task["state"], &task["prompt"]["response"]),
            (&json!("completed"), &json!(answer)),
            "{task}"
        );
        let history = rig.history(id);
        let ends = ["task.completed", "task.failed", "task.cancelled", "task.unknown"];
        let ends: Vec<_> =
            history.iter().filter(|(topic, _)| ends.contains(&topic.as_str())).collect();
        assert_eq!(ends.len(), 1, "{history:?}");
        assert_eq!(ends[0].1["prompt"]["response"], *answer);
    }
    assert_eq!(rig.model.asked().len(), MEMBERS, "each ran once");
    eventually("each script ran once", || {
        rig.members.iter().all(|sshd| ran(&sshd.home()) == EACH - 1)
    });
}
