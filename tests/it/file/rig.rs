//! Trees of files, and a member to copy them to.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

pub use crate::member::rig::Rig;
use crate::support::{Daemon, Random, Sshd, Stream};

/// A daemon with `web` registered, whose work folder is [`work`].
pub fn start() -> Rig {
    Rig::with_web()
}

/// The same with a configuration.
pub fn configured(toml: &str) -> Rig {
    let rig = Rig { daemon: Daemon::configured(toml), sshd: Sshd::start() };
    rig.add("web", "work", &["--accept-new"]).ok();
    rig
}

/// The member's work folder.
pub fn work(rig: &Rig) -> PathBuf {
    rig.sshd.path("work")
}

/// A path in the home of the daemon, as text.
pub fn home(rig: &Rig, name: &str) -> (PathBuf, String) {
    let path = rig.daemon.home().path().join(name);
    let text = path.display().to_string();
    (path, text)
}

/// Bytes that repeat nowhere.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut random = Random::fresh("noise");
    (0..bytes.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(bytes).collect()
}

/// Names that careless programs trip over.
pub const ODD: &[&str] = &[
    "plain",
    "-rf",
    "with space",
    " both ends ",
    "two\nlines",
    "return\r",
    "tab\t",
    "quote'd",
    "double\"d",
    "back\\slash",
    "$(touch canary)",
    "`touch canary`",
    "a;b&c|d",
    "*",
    "[a-z]",
    "größe-日本語-🦀",
    "...",
    "~",
    "#x",
    "%s%n",
    "é",
];

/// A tree with all of them, all byte values, empty things and modes.
pub fn plant(at: &Path) {
    fs::create_dir_all(at.join("deep/er/and deeper\n")).unwrap();
    fs::create_dir_all(at.join("empty")).unwrap();
    let every: Vec<u8> = (0..=255).collect();
    fs::write(at.join("every byte"), every.repeat(300)).unwrap();
    fs::write(at.join("nothing"), b"").unwrap();
    fs::write(at.join("deep/er/and deeper\n/leaf"), b"leaf").unwrap();
    fs::write(at.join("run me"), b"#!/bin/sh\n").unwrap();
    fs::set_permissions(at.join("run me"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::write(at.join("big"), noise(2 * 1024 * 1024 + 17)).unwrap();
    for name in ODD {
        fs::write(at.join(name), format!("I am {name}")).unwrap();
    }
    fs::create_dir_all(at.join("odd folders")).unwrap();
    for name in ODD {
        fs::create_dir(at.join("odd folders").join(name)).unwrap();
        fs::write(at.join("odd folders").join(name).join("x"), name).unwrap();
    }
}

/// Every path below `at`, with its bytes, or none for a folder.
pub fn tree(at: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![at.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(at).unwrap().to_str().unwrap().to_owned();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                found.insert(name, None);
                folders.push(path);
            } else if meta.is_file() {
                found.insert(name, Some(fs::read(&path).unwrap()));
            } else {
                found.insert(name, Some(b"(neither file nor folder)".to_vec()));
            }
        }
    }
    found
}

/// Starts a transfer; its id.
#[track_caller]
pub fn begin(rig: &Rig, tool: &str, mut arguments: Value) -> String {
    arguments["async"] = json!(true);
    let begun = rig.daemon.tool(tool, arguments);
    assert_eq!(begun["status"], "started", "{begun}");
    begun["stream_id"].as_str().unwrap().to_owned()
}

/// How a transfer stands.
#[track_caller]
pub fn look(rig: &Rig, id: &str) -> Value {
    rig.daemon.tool("monitor_task", json!({ "task_id": id }))["tasks"][0].clone()
}

/// The data of the event that ends a transfer, and the progress before it.
#[track_caller]
pub fn until_ended(stream: &mut Stream) -> (String, Value, Vec<Value>) {
    let mut progress = Vec::new();
    loop {
        let event = stream.next_within(Duration::from_secs(60)).expect("a transfer ends");
        match event.name.as_str() {
            "transfer.progressed" => progress.push(event.json()["data"].clone()),
            "transfer.completed" | "transfer.failed" => {
                return (event.name.clone(), event.json()["data"].clone(), progress);
            }
            _ => {}
        }
    }
}

/// Parts that lie on the member, and those that lie in a folder here.
pub fn parts(rig: &Rig) -> Vec<PathBuf> {
    let entries = fs::read_dir(rig.sshd.home().join(".fleetd/incoming"));
    entries.map_or_else(|_| Vec::new(), |all| all.map(|entry| entry.unwrap().path()).collect())
}
