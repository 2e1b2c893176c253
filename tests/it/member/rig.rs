//! A daemon and a machine that it may reach.

use serde_json::{Value, json};

use crate::support::{Daemon, Output, Sshd, eventually, reply, tool_request};

pub struct Rig {
    pub daemon: Daemon,
    pub sshd: Sshd,
}

impl Rig {
    pub fn start() -> Self {
        Self { daemon: Daemon::start(), sshd: Sshd::start() }
    }

    /// With `web` registered.
    pub fn with_web() -> Self {
        let rig = Self::start();
        rig.add("web", "work", &["--accept-new"]).ok();
        rig
    }

    /// A folder on the member.
    pub fn folder(&self, name: &str) -> String {
        self.sshd.path(name).display().to_string()
    }

    /// `fleetctl members add`, to work in `folder` of the machine's place.
    pub fn add(&self, name: &str, folder: &str, more: &[&str]) -> Output {
        let (port, key) = (self.sshd.port().to_string(), self.sshd.key());
        let (user, folder) = (self.sshd.user(), self.folder(folder));
        let key = key.to_str().unwrap();
        let mut args = vec!["members", "add", name, "--host", "127.0.0.1", "--port", &port];
        args.extend(["--user", &user, "--work-folder", &folder]);
        if !more.contains(&"--key") {
            args.extend(["--key", key]);
        }
        args.extend(more);
        self.daemon.fleetctl(&args)
    }

    /// The members by `list_members`.
    pub fn members(&self) -> Vec<Value> {
        let listed = self.daemon.tool("list_members", json!({}));
        listed["members"].as_array().unwrap().clone()
    }

    pub fn detail(&self, name: &str) -> Value {
        self.daemon.tool("member_detail", json!({ "member_name": name }))["member"].clone()
    }

    #[track_caller]
    pub fn until(&self, name: &str, state: &str) {
        eventually(state, || self.detail(name)["state"] == state);
    }

    /// What a tool says that has to fail.
    #[track_caller]
    pub fn refused(&self, tool: &str, arguments: Value) -> String {
        let reply = reply(&self.daemon.send(&tool_request(&self.daemon, tool, arguments)));
        assert_eq!(reply["result"]["isError"], true, "{tool}: {reply}");
        reply["result"]["content"][0]["text"].as_str().unwrap().to_owned()
    }

    /// The data of every event of these topics, oldest first.
    pub fn events(&self, topics: &[&str]) -> Vec<(String, Value)> {
        let asked = json!({ "types": topics, "since": "0", "limit": 1000 });
        let listed = self.daemon.tool("list_events", asked);
        let events = listed["events"].as_array().unwrap().iter();
        let plain =
            |event: &Value| (event["type"].as_str().unwrap().to_owned(), event["data"].clone());
        events.map(plain).collect()
    }

    pub fn topics(&self, topics: &[&str]) -> Vec<String> {
        self.events(topics).into_iter().map(|(topic, _)| topic).collect()
    }
}
