//! People's way to run something on a member.

use serde_json::json;

use super::rig::{pair, run_on, start_on, topics};

#[test]
fn fleetctl_runs_on_a_member_as_if_it_were_here() {
    let (daemon, _sshd) = pair();
    let home = daemon.home();
    let done = home.fleetctl_with(
        &["run", "--on", "m", "--", "sh", "-c", "tr a-z A-Z; echo err >&2; exit 3"],
        b"some\ninput",
    );
    assert_eq!((done.code(), done.stdout.as_str()), (3, "SOME\nINPUT"), "{done:?}");
    assert!(done.stderr.contains("err"), "{done:?}");
    let many: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let done = home.fleetctl_with(&["run", "--on", "m", "--", "sha256sum"], &many);
    assert!(done.stdout.starts_with(&sha256(&many)), "{done:?}");
    let done = home.fleetctl(&["run", "--on", "nobody", "--", "true"]);
    assert!(done.code() != 0 && done.stderr.contains("nobody"), "{done:?}");
}

fn sha256(bytes: &[u8]) -> String {
    let sum = crate::support::run(
        std::process::Command::new("sha256sum"),
        bytes,
        crate::support::PATIENCE,
    );
    sum.ok().stdout.split_whitespace().next().unwrap().to_owned()
}

/// D3 of the peer's defects: whoever went away lost the result.
#[test]
fn a_result_outlives_whoever_asked_for_it() {
    let (daemon, sshd) = pair();
    let gate = sshd.path("gate");
    let line = super::rig::gated(&sshd.path("counter"), &gate, "echo result; exit 5");
    let arguments = json!({"command": line, "member_name": "m"});
    let mut conn = daemon.connect();
    let request = crate::support::tool_request(&daemon, "execute_command", arguments);
    conn.write(&request.bytes()).unwrap();
    let id = crate::support::within(crate::support::PATIENCE, "it runs", || {
        let listed = daemon.tool("list_tasks", json!({"states": ["running"]}));
        Some(listed["tasks"][0]["task_id"].as_str()?.to_owned())
    });
    drop(conn);
    super::rig::open(&gate);
    let task = super::rig::end(&daemon, &id);
    assert_eq!((&task["exit_code"], &task["stdout"]["text"]), (&json!(5), &json!("result\n")));
}

#[test]
fn secrets_are_on_no_command_line() {
    let (daemon, sshd) = pair();
    let gate = sshd.path("gate");
    let line = super::rig::gated(&sshd.path("counter"), &gate, "cat");
    let arguments = json!({"command": line, "member_name": "m", "async": true,
        "env": {"SECRET": "canary-in-env"}, "stdin": "canary-in-stdin"});
    let id = daemon.tool("execute_command", arguments)["stream_id"].as_str().unwrap().to_owned();
    super::rig::until_state(&daemon, &id, "running");
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        assert!(!line.contains("canary-in-"), "{line}");
    }
    super::rig::open(&gate);
    super::rig::end(&daemon, &id);
    let there = super::rig::there(&daemon, &sshd, &id);
    let holds = |file: &std::fs::DirEntry| {
        let text = std::fs::read(file.path()).unwrap_or_default();
        file.file_name() != "stdout" && String::from_utf8_lossy(&text).contains("canary")
    };
    crate::support::eventually("only its output is left on the member", || {
        let mut files = std::fs::read_dir(&there).unwrap().flatten();
        // The end of a pipe that nobody writes to would be waited for.
        !files.any(|file| file.file_type().unwrap().is_file() && holds(&file))
    });
}

#[test]
fn a_name_that_no_shell_can_set_is_refused() {
    let (daemon, _sshd) = pair();
    let answer = crate::support::reply(&daemon.send(&crate::support::tool_request(
        &daemon,
        "execute_command",
        json!({"command": "true", "member_name": "m", "env": {"a.b": "1"}}),
    )));
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    assert!(answer.to_string().contains("a.b"), "{answer}");
    let told = run_on(&daemon, json!({"command": "echo $A", "env": {"A": "1"}}));
    assert_eq!(told["stdout"], "1\n");
    let id = start_on(&daemon, "m", "true");
    super::rig::end(&daemon, &id);
    assert_eq!(topics(&daemon, &id).len(), 2);
}
