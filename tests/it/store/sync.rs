//! R49, R04, R10: a sync fails. Nothing is acknowledged before the journal has been
//! opened anew and verified; a second failure ends the daemon.

use std::time::Duration;

use serde_json::{Value, json};

use super::past::{STORAGE, assert_sound, epoch, head};
use crate::gate::ledger::{Ledger, Publisher, TOPIC};
use crate::support::{
    Answer, Daemon, Faults, Home, PATIENCE, custom_event, eventually, poll, within,
};

const DATABASE: &str = "journal.db";
const LOG: &str = "journal.db-wal";

fn health(daemon: &Daemon) -> Value {
    daemon.send(&daemon.request("GET", "/healthz").without("Authorization")).json()["status"]
        .clone()
}

fn degraded(answer: &Answer) {
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "storage_degraded"));
}

fn publish_some(daemon: &Daemon, prefix: &str, ledger: &mut Ledger) {
    let mut publisher = Publisher::of(daemon);
    for n in 0..20 {
        let id = format!("{prefix}-{n}");
        ledger.note(id.clone(), publisher.publish(&id, json!({})));
    }
    assert!(ledger.unknown.is_empty());
}

#[test]
fn r49_nothing_is_acknowledged_between_a_failed_sync_and_the_verified_reopening() {
    let faults = Faults::new();
    let daemon = faults.start(Home::new());
    let mut ledger = Ledger::default();
    publish_some(&daemon, "before", &mut ledger);
    let begun = head(&daemon);
    let mut fleet = daemon.events("types=fleet.*&signals=0");

    // The commit's sync fails; the reopening hangs at its own.
    faults.hold();
    faults.fail_one(LOG);
    degraded(&daemon.post_event(&custom_event(TOPIC, "failed", json!({}))));
    ledger.unknown.push("failed".to_owned());
    assert!(faults.has_failed(LOG));
    assert_eq!(health(&daemon), "degraded");
    let next = custom_event(TOPIC, "next", json!({}));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| daemon.post_event(&next));
        let early = poll(Duration::from_millis(700), || waiting.is_finished().then_some(()));
        assert_eq!(early, None, "acknowledged by a journal that nobody has verified");
        assert_eq!(health(&daemon), "degraded");
        assert_eq!(fleet.next_within(Duration::from_millis(1)), None);
        faults.release();
        let answer = waiting.join().expect("the publisher");
        assert_eq!(answer.status, 200, "{answer:?}");
        let cursor = answer.json()["results"][0]["cursor"].as_str().expect("a cursor").to_owned();
        ledger.acked.insert("next".to_owned(), cursor);
    });

    let told = fleet.next();
    assert_eq!(told.name, "fleet.degraded");
    let reason = told.json()["data"]["reason"].as_str().expect("a reason").to_owned();
    assert!(!reason.is_empty());
    eventually("the journal is sound again", || health(&daemon) == "ok");
    assert_eq!(epoch(&head(&daemon)), epoch(&begun));
    ledger.check(&daemon, "0");
    ledger.resend(&daemon);
    ledger.check(&daemon, "0");

    // The disk fails again: it is not to be trusted.
    faults.fail_one(LOG);
    degraded(&daemon.post_event(&custom_event(TOPIC, "failed again", json!({}))));
    let (home, status) = daemon.outlived(PATIENCE);
    assert_eq!(status.code(), Some(STORAGE));
    let said = home.stderr();
    assert!(said.contains("journal.db") && said.contains("check the disk"), "{said}");
    assert!(!home.pointer().exists(), "the runtime file is withdrawn");

    let daemon = Daemon::start_in(home);
    ledger.unknown.push("failed again".to_owned());
    ledger.check(&daemon, "0");
    ledger.resend(&daemon);
    ledger.check(&daemon, "0");
    assert_eq!(epoch(&head(&daemon)), epoch(&begun), "nothing was lost");
    assert_sound(daemon.home());
}

#[test]
fn r49_a_task_whose_row_was_in_doubt_runs_once_or_never_was() {
    let faults = Faults::new();
    let daemon = faults.start(Home::new());
    faults.fail_one(LOG);
    let counter = daemon.home().path().join("counter");
    let command = format!("echo ran >> {}", counter.display());
    let done = daemon.tool("execute_command", json!({ "command": command }));
    assert_eq!(done["status"], "completed", "{done}");
    assert!(faults.has_failed(LOG));
    let tasks = daemon.tool("list_tasks", json!({}))["tasks"].clone();
    assert_eq!(tasks.as_array().map(Vec::len), Some(1), "{tasks}");
    assert_eq!(tasks[0]["state"], "completed", "{tasks}");
    assert_eq!(std::fs::read_to_string(counter).expect("it ran"), "ran\n");
}

#[test]
fn r49_a_failed_sync_of_a_checkpoint_loses_nothing() {
    let faults = Faults::new();
    let daemon = faults.start(Home::new());
    let mut fleet = daemon.events("types=fleet.degraded&signals=0");
    faults.fail_one(DATABASE);
    // Until the log is long enough to be copied.
    let (mut publisher, mut ledger) = (Publisher::of(&daemon), Ledger::default());
    let padding = "x".repeat(100_000);
    within(Duration::from_secs(60), "a checkpoint", || {
        let id = crate::support::distinct_id("big");
        ledger.note(id.clone(), publisher.publish(&id, json!({ "padding": padding })));
        faults.has_failed(DATABASE).then_some(())
    });
    assert_eq!(fleet.next().name, "fleet.degraded");
    assert!(ledger.acked.len() > 10, "{}", ledger.acked.len());
    publish_some(&daemon, "after", &mut ledger);
    ledger.check(&daemon, "0");
    ledger.resend(&daemon);
    let daemon = daemon.restart_after_kill9();
    ledger.check(&daemon, "0");
    assert_sound(daemon.home());
}
