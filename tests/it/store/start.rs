//! R39: how long a start takes after a crash, however much is held.

use std::time::Duration;

use serde_json::{Value, json};

use crate::gate::ledger::{Publisher, TOPIC};
use crate::support::{Daemon, custom_event};

/// A million are tried by `benches/service`.
const EVENTS: usize = 100_000;

/// Unoptimised code shares a busy machine.
const LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 500 });

fn fill(daemon: &Daemon) {
    let mut publisher = Publisher::of(daemon);
    let event = |n: usize| custom_event(TOPIC, &format!("e-{n}"), json!({ "n": n }));
    for from in (0..EVENTS).step_by(500) {
        let events: Vec<Value> = (from..from + 500).map(event).collect();
        publisher.publish_batch(&events).expect("an answer");
    }
}

#[test]
fn r39_a_start_after_a_crash_does_not_read_the_whole_journal() {
    let mut daemon = Daemon::start();
    fill(&daemon);
    let mut took = Vec::new();
    for round in 0..3 {
        // Each crash leaves something in the write-ahead log.
        daemon.publish(TOPIC, &format!("last-{round}"), json!({}));
        daemon = daemon.restart_after_kill9();
        took.push(daemon.ready_after);
    }
    took.sort();
    println!("r39: {EVENTS} events, ready {took:?} after a crash");
    assert!(took[1] <= LIMIT, "{took:?}");
    let held = daemon.tool("fleet_status", json!({}))["journal"]["events"].as_u64();
    assert!(held >= Some(EVENTS as u64 + 3), "{held:?}");
}
