//! What changes when a person sits there.

use crate::support::{Daemon, Program, eventually};

fn at_terminal(daemon: &Daemon, line: &str) -> Program {
    Program::start(daemon.home().fleetctl_at_terminal(line))
}

#[test]
fn control_c_is_typed_once_to_stop_the_task() {
    let daemon = Daemon::start();
    let mut ran = at_terminal(&daemon, "run -- sh -c 'echo up; exec sleep 60'");
    ran.says("up");
    ran.write(b"\x03");
    ran.says("stopping the task");
    let (code, ..) = ran.end();
    assert_eq!(code, 143);
}

#[test]
fn a_second_control_c_leaves_the_task_alone() {
    let daemon = Daemon::start();
    let mut ran = at_terminal(&daemon, "run -- sh -c 'trap \"\" TERM; echo up; sleep 3; sleep 3'");
    ran.says("up");
    ran.write(b"\x03");
    ran.says("stopping the task");
    ran.write(b"\x03");
    let (code, said, _) = ran.end();
    assert_eq!(code, 130, "{said}");
    assert!(said.contains("left task"), "{said}");
}

#[test]
fn what_is_typed_is_passed_on_only_when_asked() {
    let daemon = Daemon::start();
    let mut ran = at_terminal(&daemon, "run -i -- sh -c 'echo ready; read line; echo got:$line'");
    ran.says("ready");
    ran.write(b"hello\n");
    ran.says("got:hello");
    assert_eq!(ran.end().0, 0);
    let ran = at_terminal(&daemon, "run -- sh -c 'readlink /proc/self/fd/0'");
    ran.says("/dev/null");
    assert_eq!(ran.end().0, 0);
}

#[test]
fn the_command_s_own_output_may_speak_to_the_terminal() {
    let daemon = Daemon::start();
    let (_, said, _) = at_terminal(&daemon, "run -- printf '\\033[1mbold'").end();
    assert!(said.contains("\u{1b}[1mbold"), "{said:?}");
}

#[test]
fn following_shows_people_lines() {
    let daemon = Daemon::start();
    let mut follower = at_terminal(&daemon, "events --follow --types 'custom.>'");
    eventually("the follower is there", || daemon.metric("fleetd_subscriptions") >= 1.0);
    daemon.publish("custom.seen", "one", serde_json::json!({"n": 1}));
    follower.says("custom.seen");
    follower.write(b"\x03");
    follower.says("^C");
    assert_eq!(follower.end().0, 130);
}
