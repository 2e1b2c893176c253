//! R22: what a command writes is bounded in memory and on disk, and hurts nobody else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::whole::{look, start};
use crate::support::{Daemon, rss_kib, within};

/// What floods may add to the daemon's memory.
const ROOM_KIB: u64 = 32 * 1024;

/// Highest memory and slowest calls while `busy`.
fn watch(daemon: &Daemon, busy: &AtomicBool) -> (u64, Vec<Duration>) {
    let (mut most, mut took) = (0, Vec::new());
    let mut conn = daemon.connect();
    while busy.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answer = conn.exchange(&daemon.request("GET", "/metrics"));
        took.push(begun.elapsed());
        assert_eq!(answer.status, 200);
        let begun = Instant::now();
        daemon.tool("fleet_status", json!({}));
        took.push(begun.elapsed());
        most = most.max(rss_kib(daemon.pid()));
    }
    took.sort();
    (most, took)
}

/// Runs `line` to its end while others call, with a live follower of its
/// events, and holds it to R22's figures.
fn flood(daemon: &Daemon, line: &str) -> String {
    let base = rss_kib(daemon.pid());
    let busy = AtomicBool::new(true);
    let (id, (most, took)) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(daemon, &busy));
        let mut follower = daemon.events("types=task.*");
        let id = start(daemon, line);
        follower.next_named("task.started");
        within(Duration::from_secs(120), "the flood has ended", || {
            follower.next_within(Duration::from_millis(50));
            (look(daemon, &id)["state"] == "completed").then_some(())
        });
        busy.store(false, Ordering::Relaxed);
        (id, watcher.join().expect("the watcher"))
    });
    let p99 = took[took.len() * 99 / 100];
    println!("r22: {line}: +{} KiB, {} calls, p99 {p99:?}", most.saturating_sub(base), took.len());
    assert!(most < base + ROOM_KIB, "memory rose from {base} to {most} KiB");
    assert!(took.len() > 50, "only {} calls: void", took.len());
    assert!(p99 < Duration::from_millis(200), "p99 {p99:?} of {} calls", took.len());
    id
}

#[test]
fn r22_one_line_of_10_mb_is_kept_whole_and_shown_in_part() {
    let daemon = Daemon::start();
    // Once for what the first run of anything costs.
    daemon.tool("execute_command", json!({"command": "echo warm"}));
    let id = flood(&daemon, "head -c 10000000 /dev/zero | tr '\\0' x; sleep 1");
    let task = look(&daemon, &id);
    assert_eq!(task["stdout_bytes"], 10_000_000);
    assert!(task["stdout"]["text"].as_str().unwrap().len() <= 16 * 1024);
    let whole = daemon.get(&format!("/tasks/{id}/output"));
    assert_eq!(whole.header("fleetd-cut"), Some("0"));
    assert!(whole.body.len() == 10_000_000 && whole.body.iter().all(|byte| *byte == b'x'));
}

#[test]
fn r22_a_stream_of_a_gigabyte_is_capped_and_says_what_it_dropped() {
    let daemon = Daemon::configured("[tasks]\nmax_output_mib = 8\n");
    daemon.tool("execute_command", json!({"command": "echo warm"}));
    let id = flood(&daemon, "head -c 1073741824 /dev/zero | tr '\\0' '\\n'");
    let (whole, cap) = (1_u64 << 30, 8_u64 << 20);
    assert_eq!(look(&daemon, &id)["stdout_bytes"], whole);
    let kept = daemon.get(&format!("/tasks/{id}/output"));
    assert_eq!(kept.body.len() as u64, cap);
    assert_eq!(kept.header("fleetd-kept"), Some(&*cap.to_string()));
    assert_eq!(kept.header("fleetd-cut"), Some(&*(whole - cap).to_string()));
    let ran = daemon.fleetctl(&["tasks", "show", &id]).ok();
    assert!(ran.stdout.contains("1065353216") || ran.stderr.contains("1065353216"), "{ran:?}");
}
