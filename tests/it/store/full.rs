//! R48, R10, R04: the disk is full. What adds is refused by name, everything else
//! goes on, and so does publishing when there is room again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::past::{STORAGE, assert_sound, epoch, head};
use crate::gate::ledger::{TOPIC, stored};
use crate::support::{
    Answer, Daemon, Home, PATIENCE, SmallDisk, custom_event, distinct_id, reply, tool_request,
    within,
};

/// KiB of the disk, and of the larger one it becomes.
const SMALL: u64 = 12 * 1024;
const LARGE: u64 = 64 * 1024;

/// The product's promise (R48).
const RESUMES: Duration = Duration::from_secs(5);

/// What was acknowledged, by id, and what was refused.
#[derive(Default)]
struct Told {
    acked: HashMap<String, String>,
    refused: Vec<String>,
}

impl Told {
    /// Publishes one large event. `true` if it was taken.
    fn publish(&mut self, daemon: &Daemon, id: &str) -> bool {
        let data = json!({ "padding": "x".repeat(32 * 1024) });
        let answer = daemon.post_event(&custom_event(TOPIC, id, data));
        if answer.status == 200 {
            let result = answer.json()["results"][0].clone();
            let cursor = result["cursor"].as_str().expect("a cursor").to_owned();
            self.acked.insert(id.to_owned(), cursor);
            return true;
        }
        full(&answer);
        self.refused.push(id.to_owned());
        false
    }

    fn until_refused(&mut self, daemon: &Daemon) {
        let refused = || (!self.publish(daemon, &distinct_id("full"))).then_some(());
        within(Duration::from_secs(60), "the disk is full", refused);
    }

    /// Publishing goes on by itself within [`RESUMES`].
    fn resumes(&mut self, daemon: &Daemon) {
        let taken = || self.publish(daemon, &distinct_id("room")).then_some(());
        within(RESUMES, "publishing goes on", taken);
    }

    /// What was acknowledged is there; what was refused is absent or there once,
    /// and once when it was sent again.
    fn check(&mut self, daemon: &Daemon) {
        let there = by_id(daemon);
        for (id, cursor) in &self.acked {
            assert_eq!(there.get(id), Some(cursor), "{id}");
        }
        let present = self.refused.iter().filter(|id| there.contains_key(*id)).count();
        println!(
            "full: {} acknowledged, 0 lost, {} refused, {present} of them stored",
            self.acked.len(),
            self.refused.len()
        );
        for id in std::mem::take(&mut self.refused) {
            let result = daemon.post_event(&custom_event(TOPIC, &id, json!({}))).json();
            let result = &result["results"][0];
            assert_eq!(result["duplicate"] == true, there.contains_key(&id), "{result}");
            let cursor = result["cursor"].as_str().expect("a cursor").to_owned();
            self.acked.insert(id, cursor);
        }
        assert_eq!(by_id(daemon), self.acked, "every id once, and no other");
    }
}

fn by_id(daemon: &Daemon) -> HashMap<String, String> {
    let stored = stored(daemon, "0");
    let ended = |id: &String| id.starts_with("end-");
    let rows = stored.len();
    let ids: HashMap<_, _> = stored.into_iter().collect();
    assert_eq!(ids.len(), rows, "an id is there twice");
    ids.into_iter().filter(|(id, _)| !ended(id)).collect()
}

fn full(answer: &Answer) {
    assert_eq!((answer.status, answer.error_code().as_str()), (507, "storage_full"), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

fn task(daemon: &Daemon) -> String {
    let started = daemon.tool("execute_command", json!({ "command": "sleep 600", "async": true }));
    started["stream_id"].as_str().expect("an id").to_owned()
}

/// Events since the beginning can be read, without the gates' own end mark.
fn read_all(daemon: &Daemon, count: usize) {
    let mut stream = daemon.events(&format!("types={TOPIC}&since=0&signals=0"));
    assert_eq!(stream.take(count).len(), count);
}

#[test]
fn r48_a_full_disk_refuses_what_adds_and_goes_on_when_there_is_room() {
    let disk = SmallDisk::new(SMALL);
    let daemon = Daemon::start_in(Home::below(disk.path()));
    let (first, second) = (task(&daemon), task(&daemon));
    let begun = head(&daemon);
    let mut told = Told::default();
    told.until_refused(&daemon);

    // Alive, and it says what is wrong.
    assert_eq!(daemon.get("/healthz").json()["status"], "ok");
    assert_eq!(daemon.metric("fleetd_journal_full"), 1.0);
    let status = daemon.fleetctl(&["status"]).ok().stdout;
    assert!(status.contains("the disk is full"), "{status}");
    let publish = daemon.fleetctl(&["publish", "custom.gate"]);
    assert_eq!(publish.code(), STORAGE, "{publish:?}");
    assert!(publish.stderr.contains("full"), "{publish:?}");
    // Reading goes on, and so does ending what runs.
    read_all(&daemon, told.acked.len());
    let mut ends = daemon.events("types=task.cancelled&signals=0");
    daemon.fleetctl(&["tasks", "stop", &first]).ok();
    assert_eq!(ends.next().json()["subject"], format!("task/{first}"));
    told.publish(&daemon, &distinct_id("full"));

    // A start on the full disk: nothing is lost, stopping works again.
    let daemon = daemon.restart_after_kill9();
    assert_eq!(epoch(&head(&daemon)), epoch(&begun));
    read_all(&daemon, told.acked.len());
    let stopped = daemon.tool("stop_task", json!({ "task_id": second }));
    assert_eq!(stopped["task"]["state"], "cancelled", "{stopped}");
    told.until_refused(&daemon);

    disk.resize(LARGE);
    told.resumes(&daemon);
    assert_eq!(daemon.metric("fleetd_journal_full"), 0.0);
    told.check(&daemon);
    let (home, exit) = daemon.terminate(PATIENCE);
    assert!(exit.status.success(), "{exit:?}");
    assert_sound(&home);
}

#[test]
fn r48_trimming_goes_on_while_the_disk_is_full() {
    let disk = SmallDisk::new(SMALL);
    let daemon = Daemon::start_in(Home::below(disk.path()));
    let mut told = Told::default();
    told.until_refused(&daemon);
    let (home, _) = daemon.terminate(PATIENCE);
    home.configure("[journal]\nmax_events = 50\n");
    let daemon = Daemon::start_in(home);
    within(PATIENCE, "old events are trimmed", || {
        let held = daemon.tool("fleet_status", json!({}))["journal"]["events"].as_u64();
        (held <= Some(50)).then_some(())
    });
    disk.resize(LARGE);
    told.resumes(&daemon);
    assert_sound(daemon.home());
}

/// Takes all that is left, to the last byte.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("filler");
    let mut file = std::fs::File::create(&path).expect("a file");
    for size in [64 * 1024, 4096, 512] {
        while std::io::Write::write_all(&mut file, &vec![0; size]).is_ok() {}
    }
    path
}

#[test]
fn r48_a_start_on_a_disk_that_was_filled_meanwhile_uses_the_reserve() {
    let disk = SmallDisk::new(SMALL);
    let daemon = Daemon::start_in(Home::below(disk.path()));
    let mut told = Told::default();
    assert!(told.publish(&daemon, "before"));
    let (begun, running) = (head(&daemon), task(&daemon));
    let home = daemon.kill9();
    let filler = fill(disk.path());

    let daemon = Daemon::start_in(home);
    assert_eq!(epoch(&head(&daemon)), epoch(&begun));
    told.until_refused(&daemon);
    read_all(&daemon, told.acked.len());
    daemon.fleetctl(&["tasks", "stop", &running]).ok();
    std::fs::remove_file(filler).expect("deleted");
    told.resumes(&daemon);
    told.check(&daemon);
    assert_sound(daemon.home());
}

#[test]
fn r48_a_disk_that_somebody_else_filled_fails_a_task_clearly() {
    let disk = SmallDisk::new(SMALL);
    let daemon = Daemon::start_in(Home::below(disk.path()));
    let mut told = Told::default();
    assert!(told.publish(&daemon, "before"));
    let filler = fill(disk.path());

    let request = tool_request(&daemon, "execute_command", json!({ "command": "true" }));
    let failed = reply(&daemon.send(&request));
    let text = failed.to_string();
    assert!(text.contains("storage_full") || text.contains("No space left"), "{failed}");
    let run = daemon.fleetctl(&["run", "--", "true"]);
    assert_eq!(run.code(), STORAGE, "{run:?}");
    assert!(run.stderr.contains("No space left") || run.stderr.contains("is full"), "{run:?}");
    let runs = std::fs::read_dir(daemon.home().state().join("runs")).expect("a folder").count();
    assert_eq!(runs, 0, "a run directory of a task that never was");
    let open = daemon.tool("list_tasks", json!({}));
    assert_eq!(open["tasks"], Value::Array(Vec::new()), "{open}");

    told.until_refused(&daemon);
    let status = daemon.fleetctl(&["status"]).ok().stdout;
    assert!(status.contains("the disk is full"), "{status}");
    std::fs::remove_file(filler).expect("deleted");
    told.resumes(&daemon);
    daemon.fleetctl(&["run", "--", "true"]).ok();
    told.check(&daemon);
    assert_sound(daemon.home());
}
