//! An orderly end: R41.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Conn, Daemon, distinct_id, eventually};

#[test]
fn r41_sigterm_ends_fifty_streams_and_exits_with_0_within_a_second() {
    let daemon = Daemon::start();
    let mut streams: Vec<_> = (0..50).map(|_| daemon.events("")).collect();
    let id = distinct_id("last");
    daemon.publish("custom.last", &id, json!({}));
    let port = daemon.port();
    let (home, exit) = daemon.terminate(Duration::from_secs(5));
    assert!(exit.status.success(), "{exit:?}");
    assert!(exit.took < Duration::from_secs(1), "{exit:?}");
    println!("exit 0 after {:?} with 50 streams", exit.took);
    for stream in &mut streams {
        assert_eq!(stream.next().json()["id"], id.as_str());
        assert!(stream.ends_within(Duration::from_secs(1)), "a stream was not ended");
    }
    assert!(Conn::try_tcp(port).is_err(), "still accepts");
    assert!(!home.pointer().exists(), "the pointer is left behind");
    assert!(!home.socket().exists(), "the socket is left behind");

    // What it was told is there, and the end was an orderly one.
    let daemon = Daemon::start_in(home);
    let topics: Vec<String> = std::iter::from_fn({
        let mut replay = daemon.events("since=0&signals=0");
        move || replay.next_within(Duration::from_millis(300)).map(|event| event.name)
    })
    .collect();
    assert_eq!(topics, ["fleet.started", "custom.last", "fleet.stopping", "fleet.started"]);
}

#[test]
fn r41_a_second_signal_exits_at_once() {
    let mut daemon = Daemon::start();
    // A stream that is not read keeps an orderly end busy; the second signal does not wait.
    let _stalled = daemon.events("since=0");
    let begun = Instant::now();
    daemon.signal(Signal::SIGTERM);
    daemon.signal(Signal::SIGINT);
    assert!(daemon.ended(Duration::from_secs(2)).is_some(), "still there");
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn r41_tasks_go_on_without_the_daemon() {
    let daemon = Daemon::start();
    let mark = daemon.home().path().join("mark");
    let release = daemon.home().path().join("release");
    let command = format!(
        "until test -e {}; do sleep 0.05; done; echo done > {}",
        release.display(),
        mark.display()
    );
    let arguments = json!({ "command": command, "async": true, "timeout_s": 0 });
    let task = daemon.tool("execute_command", arguments)["stream_id"].clone();
    let (home, exit) = daemon.terminate(Duration::from_secs(5));
    assert!(exit.status.success(), "{exit:?}");
    std::fs::write(&release, "").expect("the task is released");
    eventually("the task ends without a daemon", || mark.exists());
    let daemon = Daemon::start_in(home);
    let task = task.as_str().expect("an id");
    let mut events = daemon.events(&format!("since=0&signals=0&stream_id={task}"));
    let end = events.next_named("task.completed").json();
    assert_eq!(end["data"]["exit_code"], 0, "{end}");
}
