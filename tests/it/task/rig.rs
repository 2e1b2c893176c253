//! A fleet on throw-away directories, and what tests ask it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleetd::bus::{Bus, Delivery, Feed, Start, Subscription};
use fleetd::config;
use fleetd::fleet::{CommandSpec, Fleet, FleetOptions, Program, Recovery, RosterOptions, Stdin};
use fleetd::model::{Filter, OutputStream, Principal, Project, Task, TaskId};
use fleetd::reach::{Reach, ReachOptions};
use fleetd::store::{Durability, Retention, Store, StoreOptions};
use serde_json::Value;
use tempfile::TempDir;

pub use crate::support::eventually_async as eventually;

/// Everything one daemon has of tasks; `restart` is the next daemon.
pub struct Rig {
    pub dir: TempDir,
    pub store: Store,
    pub bus: Bus,
    pub fleet: Fleet,
    pub recovery: Recovery,
    pub settings: config::Tasks,
}

pub fn owner() -> Principal {
    Principal::owner()
}

/// A command line for `sh -c`, without limits.
pub fn sh(line: &str) -> CommandSpec {
    spec(Program::Shell(line.to_owned()))
}

pub fn argv(words: &[&str]) -> CommandSpec {
    spec(Program::Argv(words.iter().map(|word| (*word).to_owned()).collect()))
}

fn spec(program: Program) -> CommandSpec {
    CommandSpec {
        member: None,
        program,
        run_from: Some(String::from("/")),
        env: BTreeMap::new(),
        stdin: Stdin::Closed,
        inactivity: None,
        total: None,
        stall_after: None,
        transcript: None,
        retries: 0,
        restart: None,
        project: Project::default_project(),
        prompt: None,
    }
}

/// A roster that reaches nobody before it is told to.
pub fn roster(place: &Path) -> RosterOptions {
    let options = ReachOptions::new(place, place.join("known_hosts"), "nobody");
    RosterOptions { reach: Reach::new(options).unwrap(), keys: place.join("keys") }
}

impl Rig {
    pub async fn new() -> Self {
        Self::with(config::Tasks { stop_grace_s: 1, ..config::Tasks::default() }).await
    }

    pub async fn with(settings: config::Tasks) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("runs")).unwrap();
        Self::open(dir, settings).await
    }

    async fn open(dir: TempDir, settings: config::Tasks) -> Self {
        let feed = Feed::new(1 << 20);
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            source: String::from("fleetd/test"),
            retention: Retention {
                rows: 1_000_000,
                bytes: 1 << 30,
                age: Duration::from_secs(86_400),
            },
            durability: Durability::Full,
        };
        let (store, _) = Store::open(options, feed.hook()).unwrap();
        let bus = Bus::new(feed, store.clone());
        let options = FleetOptions {
            runs: dir.path().join("runs"),
            supervisor: PathBuf::from(env!("CARGO_BIN_EXE_fleetd")),
            tasks: settings.clone(),
            providers: config::Providers::built_in(),
            transfers: Default::default(),
            roster: roster(dir.path()),
        };
        let fleet = Fleet::new(options, bus.clone());
        let recovery = fleet.recover().await.unwrap();
        Self { dir, store, bus, fleet, recovery, settings }
    }

    /// The daemon goes, tasks stay, and a new daemon comes on the same directories.
    pub async fn restart(self) -> Self {
        let (dir, settings) = self.down().await;
        Self::open(dir, settings).await
    }

    pub async fn down(self) -> (TempDir, config::Tasks) {
        self.fleet.close().await;
        self.store.close().await;
        (self.dir, self.settings)
    }

    pub async fn up(dir: TempDir, settings: config::Tasks) -> Self {
        Self::open(dir, settings).await
    }

    pub async fn begin(&self, spec: CommandSpec) -> Task {
        self.fleet.execute(&owner(), spec).await.unwrap()
    }

    /// Waits at most thirty seconds for the end.
    pub async fn end(&self, id: TaskId) -> Task {
        let owner = owner();
        let wait = self.fleet.wait(&owner, id);
        tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap().unwrap()
    }

    pub async fn run(&self, spec: CommandSpec) -> Task {
        let task = self.begin(spec).await;
        self.end(task.id).await
    }

    pub async fn row(&self, id: TaskId) -> Task {
        self.fleet.task(&owner(), id).await.unwrap()
    }

    /// All of a stream that is kept.
    pub async fn output(&self, id: TaskId, stream: OutputStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let offset = bytes.len() as u64;
            let page = self.fleet.output(&owner(), id, stream, offset, 64 * 1024).await.unwrap();
            if page.bytes.is_empty() {
                return bytes;
            }
            bytes.extend_from_slice(&page.bytes);
        }
    }

    pub async fn stdout(&self, id: TaskId) -> String {
        String::from_utf8_lossy(&self.output(id, OutputStream::Stdout).await).into_owned()
    }

    pub fn run_dir(&self, task: &Task) -> PathBuf {
        self.dir.path().join("runs").join(task.run.unwrap().to_string())
    }

    pub fn subscribe(&self, start: Start) -> Subscription {
        self.bus.subscribe(Filter::default(), start, true).unwrap()
    }

    /// Types and data of all events about a task so far.
    pub async fn events(&self, id: TaskId) -> Vec<(String, Value)> {
        let mut subscription = self.bus.subscribe(Filter::default(), Start::Oldest, false).unwrap();
        let head = self.bus.head();
        let mut found = Vec::new();
        while subscription.cursor() != head {
            let Delivery::Events(chunk) = subscription.next().await.unwrap() else { continue };
            for event in chunk.events() {
                if event.subject == id.subject() {
                    let body: Value = serde_json::from_slice(&event.body).unwrap();
                    found.push((event.topic.to_owned(), body["data"].clone()));
                }
            }
        }
        found
    }

    pub async fn topics(&self, id: TaskId) -> Vec<String> {
        self.events(id).await.into_iter().map(|(topic, _)| topic).collect()
    }
}

/// Whether a process is there and not a zombie.
pub fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.starts_with(" Z"))
}

/// The supervisor that a run directory names.
pub fn supervisor_of(run_dir: &Path) -> u32 {
    let text = std::fs::read(run_dir.join("pid")).unwrap();
    let pids: Value = serde_json::from_slice(&text).unwrap();
    u32::try_from(pids["supervisor"]["pid"].as_u64().unwrap()).unwrap()
}

/// Kills one process that this test made.
pub fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}
