//! Six clients that others wrote, all connected to one daemon: each is pushed a
//! real event, and each again after `kill -9`.
//!
//! "Pushed" is the best that each of them has:
//!
//! | client | how | after `kill -9` |
//! |---|---|---|
//! | TypeScript SDK 1 | log messages on the session's stream | the SDK resumes the stream |
//! | rmcp | the same, over the Unix socket | the same |
//! | TypeScript SDK 2 | `subscriptions/listen`, then a read by cursor | the script listens again |
//! | Python SDK 2 | the same | the script makes a new `Client`; the old one cannot be used again |
//! | `mcp-inspector --cli` | a call that is answered when it happens | is told that the answer is lost, and made again with the same cursor |
//! | `mcpdo resources/subscribe` | `resources/updated`, a line each | ends with the stream, and is run again on the same connection |

mod handshake;
mod inspector;
mod installed;
mod rust;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Daemon, Home, eventually, living_in};
use inspector::{Call, Watch};
use rust::Rust;

pub use installed::Script;

/// Streams of the clients that stay connected: all but `mcp-inspector --cli`.
const STREAMS: f64 = 5.0;

/// A task that ends when it is told to.
struct Gated {
    id: String,
    gate: PathBuf,
}

impl Gated {
    fn start(daemon: &Daemon, name: &str) -> Self {
        let gate = daemon.home().path().join(name);
        let line = format!("while [ ! -e '{}' ]; do sleep 0.02; done", gate.display());
        let started = daemon.tool("execute_command", json!({ "command": line, "async": true }));
        Self { id: started["stream_id"].as_str().unwrap().to_owned(), gate }
    }

    fn finish(&self) {
        std::fs::write(&self.gate, "").unwrap();
    }
}

/// The clients that stay, through everything.
struct Crowd {
    resuming: Script,
    listening: [Script; 2],
    rust: Rust,
}

impl Crowd {
    fn connect(daemon: &Daemon) -> Self {
        Self {
            resuming: Script::node(daemon, super::sdk::SOURCE),
            listening: [
                Script::node(daemon, include_str!("clients/v2.mjs")),
                Script::python(daemon, include_str!("clients/client.py")),
            ],
            rust: Rust::connect(daemon),
        }
    }

    /// They speak both eras and see the same tools.
    fn agree(&self) {
        let tools = json!(self.rust.tools());
        let scripts = std::iter::once(&self.resuming).chain(&self.listening);
        let connected = scripts.map(|script| script.said().swap_remove(0));
        for (said, revision) in connected.zip(["2025-11-25", "2026-07-28", "2026-07-28"]) {
            assert_eq!(said, json!({ "tools": tools, "revision": revision }));
        }
    }

    /// Waits until every listener stands the `nth` time.
    fn stands(&self, nth: usize) {
        eventually("both listen", || {
            self.listening.iter().all(|script| {
                script.said().iter().filter(|value| value["listening"] == true).count() == nth
            })
        });
    }

    /// Who heard of `topic`, with every event, by name.
    fn pushed(&self, topic: &str) -> [(&'static str, Vec<Value>); 4] {
        let event = |mut value: Value| value["event"].take();
        let events = |script: &Script| script.pushed(topic).into_iter().map(event).collect();
        [
            ("TypeScript SDK 1", events(&self.resuming)),
            ("TypeScript SDK 2", events(&self.listening[0])),
            ("Python SDK", events(&self.listening[1])),
            ("rmcp", self.rust.pushed(topic)),
        ]
    }

    /// Waits until every one of them has heard of `topic` in general.
    fn hear(&self, topic: &str) {
        eventually(topic, || self.pushed(topic).iter().all(|(_, events)| !events.is_empty()));
    }

    /// Waits until every one of them has heard of the end of `task`.
    fn hear_end_of(&self, task: &Gated) {
        eventually("everybody hears the end", || {
            let all = self.pushed("task.completed");
            all.iter().all(|(_, events)| events.iter().any(|e| e["data"]["task_id"] == *task.id))
        });
    }

    /// How the listeners came to know of the end of `task`.
    fn how(&self, task: &Gated) -> Vec<Value> {
        let ends = self.listening.iter().flat_map(|script| script.pushed("task.completed"));
        let mine = ends.filter(|value| value["event"]["data"]["task_id"] == *task.id);
        mine.map(|mut value| value["by"].take()).collect()
    }
}

/// `mcp-inspector --cli` and `mcpdo`, both waiting for the end of one task.
struct Waiting {
    call: Call,
    watch: Watch,
}

impl Waiting {
    /// Once both wait in the daemon, which the number of its subscriptions tells.
    fn begin(daemon: &Daemon, task: &Gated, cursor: &str) -> Self {
        let home: &Home = daemon.home();
        let watch = inspector::mcpdo_subscribe(home, &format!("fleet://tasks/{}", task.id));
        let there_are = |count| daemon.metric("fleetd_subscriptions") == count;
        eventually("all streams and the resource", || there_are(STREAMS + 1.0));
        let call = Call::wait_for(home, &task.id, cursor);
        eventually("the call's session and the call", || there_are(STREAMS + 3.0));
        Self { call, watch }
    }

    /// Both are told of the end of `task`, once. Returns the cursor behind it.
    fn hear_end_of(self, task: &Gated) -> String {
        let (events, cursor) = self.call.answer();
        let ids: Vec<&Value> = events.iter().map(|event| &event["data"]["task_id"]).collect();
        assert_eq!(ids, [&*task.id], "{events:?}");
        let uri = format!("fleet://tasks/{}", task.id);
        eventually("mcpdo is told", || !self.watch.updated().is_empty());
        assert_eq!(self.watch.updated(), [&*uri]);
        cursor
    }

    /// Both end, since their daemon did; neither has heard anything.
    fn broken(self) {
        assert_eq!(self.watch.updated(), [] as [Value; 0]);
        assert_eq!(self.watch.ended(), 0);
        let (code, stderr) = self.call.failure();
        assert_ne!(code, 0, "{stderr}");
    }
}

/// Command lines can be read by every user of the machine.
fn no_command_line_shows_the_token(daemon: &Daemon) {
    let token = daemon.token();
    let processes = living_in(daemon.home().path());
    // The daemon, three scripts, mcpdo twice, the Inspector.
    assert!(processes.len() >= 7, "{processes:?}");
    for pid in processes {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains(&token), "process {pid}");
    }
}

#[test]
fn six_clients_are_pushed_events_exactly_once_and_again_after_kill_9() {
    let daemon = Daemon::start();
    inspector::configure(&daemon);
    let crowd = Crowd::connect(&daemon);
    inspector::mcpdo_connect(daemon.home());
    crowd.stands(1);
    crowd.agree();

    let start = daemon.tool("list_events", json!({}))["cursor"].as_str().unwrap().to_owned();
    let [first, away, second] = ["first", "away", "second"].map(|n| Gated::start(&daemon, n));
    let waiting = Waiting::begin(&daemon, &first, &start);
    no_command_line_shows_the_token(&daemon);
    first.finish();
    crowd.hear_end_of(&first);
    assert_eq!(crowd.how(&first), ["push", "push"]);
    let cursor = waiting.hear_end_of(&first);

    let waiting = Waiting::begin(&daemon, &second, &cursor);
    let port = daemon.port();
    let home = daemon.kill9();
    away.finish();
    let daemon = Daemon::start_in(home);
    waiting.broken();
    assert_eq!(daemon.port(), port, "configured clients find it again");
    crowd.stands(2);
    crowd.hear("fleet.recovered");
    // What ended while nobody could be told is told by the cursor.
    crowd.hear_end_of(&away);

    let waiting = Waiting::begin(&daemon, &second, &cursor);
    second.finish();
    crowd.hear_end_of(&second);
    assert_eq!(crowd.how(&second), ["push", "push"]);
    waiting.hear_end_of(&second);

    // By the time of one more event for all, nothing has come twice.
    let last = Gated::start(&daemon, "last");
    last.finish();
    crowd.hear_end_of(&last);
    for (name, ends) in crowd.pushed("task.completed") {
        let ids: Vec<_> = ends.iter().map(|end| end["data"]["task_id"].as_str().unwrap()).collect();
        assert_eq!(ids, [&first, &away, &second, &last].map(|task| &*task.id), "{name}");
    }
    for topic in ["fleet.recovered", "fleet.started"] {
        for (name, events) in crowd.pushed(topic) {
            assert_eq!(events.len(), 1, "{name}: {events:#?}");
        }
    }
}
