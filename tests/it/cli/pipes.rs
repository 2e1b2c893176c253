//! `fleetctl run` between other programs.

use crate::support::{Daemon, run, within};
use std::time::Duration;

#[test]
fn standard_input_passes_through_byte_for_byte() {
    let daemon = Daemon::start();
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let ran = daemon.home().fleetctl_with(&["run", "--", "od", "-An", "-v", "-tx1"], &bytes).ok();
    let hex = ran.stdout.split_whitespace().map(|word| u8::from_str_radix(word, 16).unwrap());
    assert!(hex.eq(bytes), "the command read something else");
    let ran = daemon.home().fleetctl_with(&["run", "--", "cat"], b"no newline").ok();
    assert_eq!(ran.stdout, "no newline");
}

#[test]
fn a_command_that_does_not_read_on_is_no_error() {
    let daemon = Daemon::start();
    let much = vec![b'x'; 8_000_000];
    let ran = daemon.home().fleetctl_with(&["run", "--", "head", "-c", "1"], &much);
    assert_eq!((ran.code(), &*ran.stdout, &*ran.stderr), (0, "x", ""));
    let line = "exec <&-; sleep 1; echo deaf; exit 3";
    let ran = daemon.home().fleetctl_with(&["run", "--", "sh", "-c", line], &much);
    assert_eq!((ran.code(), &*ran.stdout, &*ran.stderr), (3, "deaf\n", ""));
}

#[test]
fn whoever_writes_to_a_deaf_command_hears_of_it_before_the_command_ends() {
    let daemon = Daemon::start();
    let gate = daemon.home().path().join("writer-ended");
    // The command waits for the end of the writer: it hangs unless its closed
    // input becomes a closed pipe here.
    let line = format!(
        "(yes; echo ended > '{gate}') | {fleetctl} run -- sh -c \
         'exec <&-; while [ ! -e {gate} ]; do sleep 0.02; done; echo heard'",
        gate = gate.display(),
        fleetctl = env!("CARGO_BIN_EXE_fleetctl"),
    );
    let mut command = daemon.home().command("sh");
    command.args(["-c", &line]);
    let ran = run(command, b"", Duration::from_secs(20));
    assert_eq!((ran.code(), &*ran.stdout), (0, "heard\n"), "{ran:?}");
}

#[test]
fn a_reader_that_has_gone_ends_the_command() {
    let daemon = Daemon::start();
    let mut command = daemon.home().command("sh");
    let fleetctl = env!("CARGO_BIN_EXE_fleetctl");
    command.args(["-c", &format!("{fleetctl} run -- yes | head -n 1")]);
    let ran = run(command, b"", Duration::from_secs(20));
    assert_eq!((&*ran.stdout, &*ran.stderr), ("y\n", ""));
    within(Duration::from_secs(10), "the task has ended", || {
        let tasks = daemon.tool("list_tasks", serde_json::json!({}));
        (tasks["tasks"][0]["state"] == "cancelled").then_some(())
    });
}
