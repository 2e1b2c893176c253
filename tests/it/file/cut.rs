//! Cuts, stops, kills and damage in the middle of a transfer.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::rig::{Rig, begin, home, look, noise, parts, start, until_ended, work};
use crate::support::{Stream, eventually};

const BIG: usize = 64 << 20;

/// Waits until so many bytes have arrived and the transfer still goes on.
#[track_caller]
fn until_under_way(stream: &mut Stream, bytes: u64) {
    loop {
        let event = stream.next_within(Duration::from_secs(30)).expect("progress");
        assert_eq!(event.name, "transfer.progressed", "void: it was too fast: {event:?}");
        if event.json()["data"]["bytes"].as_u64().unwrap() >= bytes {
            return;
        }
    }
}

/// The least that had arrived when bytes moved for the first time.
fn first_bytes(progress: &[Value]) -> u64 {
    let bytes = progress.iter().map(|data| data["bytes"].as_u64().unwrap());
    bytes.filter(|bytes| *bytes > 0).min().unwrap_or(0)
}

fn send(text: &str) -> Value {
    json!({ "local_paths": [text], "member_name": "web" })
}

fn receive(text: &str) -> Value {
    json!({ "remote_paths": ["big"], "member_name": "web", "local_dest_dir": text })
}

#[test]
fn a_cut_connection_is_gone_on_from_both_ways() {
    let rig = start();
    let bytes = noise(BIG);
    let (from, text) = home(&rig, "big");
    fs::write(&from, &bytes).unwrap();
    let mut stream = rig.daemon.events("types=transfer.*");
    begin(&rig, "send_files", send(&text));
    until_under_way(&mut stream, 8 << 20);
    rig.sshd.kill_sessions();
    let (topic, data, progress) = until_ended(&mut stream);
    assert_eq!(topic, "transfer.completed", "{data}");
    let waited = progress.iter().position(|data| !data["waiting"].is_null());
    let waited = waited.expect("the cut is told");
    let went_on = first_bytes(&progress[waited..]);
    assert!(went_on >= 1 << 20, "it began again: {went_on}");
    assert!(fs::read(work(&rig).join("big")).unwrap() == bytes);

    let (back, text) = home(&rig, "back");
    begin(&rig, "receive_files", receive(&text));
    until_under_way(&mut stream, 8 << 20);
    rig.sshd.kill_sessions();
    let (topic, data, progress) = until_ended(&mut stream);
    assert_eq!(topic, "transfer.completed", "{data}");
    let waited = progress.iter().position(|data| !data["waiting"].is_null());
    assert!(first_bytes(&progress[waited.unwrap()..]) >= 1 << 20, "it began again");
    assert!(fs::read(back.join("big")).unwrap() == bytes);
}

#[test]
fn a_killed_daemon_tells_it_once_and_the_same_call_goes_on() {
    let mut rig = start();
    let bytes = noise(BIG);
    let (from, text) = home(&rig, "big");
    fs::write(&from, &bytes).unwrap();
    let (back, dest) = home(&rig, "back");
    for (tool, arguments) in [("send_files", send(&text)), ("receive_files", receive(&dest))] {
        let mut stream = rig.daemon.events("types=transfer.*");
        let id = begin(&rig, tool, arguments.clone());
        until_under_way(&mut stream, 8 << 20);
        let Rig { daemon, sshd } = rig;
        rig = Rig { daemon: daemon.restart_after_kill9(), sshd };
        let told = |rig: &Rig| {
            let events = rig.events(&["transfer.completed", "transfer.failed"]);
            let mine = events.into_iter().filter(|(_, data)| data["task_id"] == json!(id));
            mine.collect::<Vec<_>>()
        };
        let events = told(&rig);
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0].0, "transfer.failed");
        assert_eq!(events[0].1["reason"], "interrupted");
        let shown = look(&rig, &id);
        assert_eq!(shown["state"], "failed", "{shown}");
        rig.until("web", "online");
        let mut stream = rig.daemon.events("types=transfer.*");
        begin(&rig, tool, arguments);
        let (topic, data, progress) = until_ended(&mut stream);
        assert_eq!(topic, "transfer.completed", "{data}");
        assert!(first_bytes(&progress) >= 1 << 20, "it began again: {progress:?}");
        // And not told again by a further start.
        let Rig { daemon, sshd } = rig;
        rig = Rig { daemon: daemon.restart_after_kill9(), sshd };
        assert_eq!(told(&rig).len(), 1);
        rig.until("web", "online");
    }
    assert!(fs::read(work(&rig).join("big")).unwrap() == bytes);
    assert!(fs::read(back.join("big")).unwrap() == bytes);
    assert!(parts(&rig).is_empty());
    assert_eq!(fs::read_dir(&back).unwrap().count(), 1);
}

/// Every file below some folders.
fn files_below(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = folders.to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

/// Writes another number over the beginning of whatever appears there, again
/// and again, until told to end.
fn spoil(folders: &[PathBuf], end: &AtomicBool) {
    let mut number = 0_u64;
    while !end.load(Ordering::Relaxed) {
        number += 1;
        for path in files_below(folders) {
            if let Ok(file) = fs::OpenOptions::new().write(true).open(&path)
                && file.metadata().is_ok_and(|meta| meta.len() > 0)
            {
                let _ = file.write_at(&number.to_le_bytes(), 0);
            }
        }
        std::thread::yield_now();
    }
}

/// Runs `work` while what appears in `folders` is spoilt.
fn spoiling<T>(folders: &[PathBuf], work: impl FnOnce() -> T) -> T {
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| spoil(folders, &end));
        let result = work();
        end.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn damage_on_the_way_is_noticed_and_nothing_is_put_in_its_place() {
    let rig = start();
    let (from, text) = home(&rig, "big");
    fs::write(&from, noise(16 << 20)).unwrap();
    let stages = [rig.sshd.home().join(".fleetd/incoming")];
    let refused = spoiling(&stages, || rig.refused("send_files", send(&text)));
    assert!(refused.contains("another hash"), "{refused}");
    assert!(!work(&rig).join("big").exists() && parts(&rig).is_empty());
    let ended = rig.events(&["transfer.failed"]);
    assert_eq!(ended.last().unwrap().1["reason"], "mismatch", "{ended:?}");

    // What is read changes while it is read: the copy would be of no state at all.
    fs::write(work(&rig).join("big"), noise(32 << 20)).unwrap();
    let (back, text) = home(&rig, "back");
    let sources = [work(&rig)];
    let refused = spoiling(&sources, || rig.refused("receive_files", receive(&text)));
    assert!(refused.contains("another hash"), "{refused}");
    assert_eq!(fs::read_dir(&back).unwrap().count(), 0);
}

#[test]
fn a_stopped_transfer_ends_and_leaves_nothing() {
    let rig = start();
    let (from, text) = home(&rig, "big");
    fs::write(&from, noise(BIG)).unwrap();
    fs::write(work(&rig).join("old"), "old").unwrap();
    let mut stream = rig.daemon.events("types=transfer.*");
    let id = begin(&rig, "send_files", send(&text));
    until_under_way(&mut stream, 1 << 20);
    let stopped = rig.daemon.tool("stop_task", json!({ "task_id": id }))["task"].clone();
    assert_eq!(stopped["state"], "cancelled", "{stopped}");
    let (topic, data, _) = until_ended(&mut stream);
    assert_eq!((topic.as_str(), &data["reason"]), ("transfer.failed", &json!("stopped")));
    assert!(!work(&rig).join("big").exists());
    eventually("its parts are gone", || parts(&rig).is_empty());
    // Once more is no harm.
    let again = rig.daemon.tool("stop_task", json!({ "task_id": id }))["task"].clone();
    assert_eq!(again["state"], "cancelled");
}

#[test]
fn an_unreachable_member_is_told() {
    let mut rig = start();
    let (from, text) = home(&rig, "f");
    fs::write(&from, "x").unwrap();
    rig.sshd.stop();
    rig.until("web", "offline");
    let refused = rig.refused("send_files", send(&text));
    assert!(refused.contains("cannot be reached"), "{refused}");
    let missing = Path::new("/no/such/file").display().to_string();
    rig.sshd.restart();
    rig.until("web", "online");
    let refused = rig.refused("send_files", send(&missing));
    assert!(refused.contains("there is no '/no/such/file'"), "{refused}");
    rig.daemon.tool("send_files", send(&text));
}
