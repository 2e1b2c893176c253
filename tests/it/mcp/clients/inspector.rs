//! The Inspector's two command lines: `mcp-inspector --cli`, which makes one call
//! and ends, and `mcpdo`, whose connection is held by a process of its own.
//!
//! Neither expands variables in its configuration nor calls a helper, so the token
//! stands in that file, which only its owner can read. On the command line, the
//! other way they offer (`--header`), everybody could.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::installed::program;
use crate::support::{Daemon, Home, Program};

const PACKAGE: &str = "node_modules/@modelcontextprotocol/inspector/clients";

/// Writes the Inspector's configuration file, as a user of it would.
pub fn configure(daemon: &Daemon) {
    let config = daemon.fleetctl(&["mcp-config", "--with-token"]).ok().stdout;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path(daemon.home()));
    file.unwrap().write_all(config.as_bytes()).unwrap();
}

fn path(home: &Home) -> PathBuf {
    home.path().join("inspector.json")
}

fn node(home: &Home, script: &str) -> Command {
    let mut command = program(home, "node");
    // There is no keychain in a throw-away HOME, and nothing to keep in it.
    command.env("MCP_INSPECTOR_SECRET_STORE", "file");
    command.arg(super::installed::installed(&format!("{PACKAGE}/{script}")));
    command
}

/// `mcp-inspector --cli` with one call under way. It shows no notifications, so
/// the best it has is a call that is answered when the event happens.
pub struct Call(Program);

impl Call {
    /// Waits for the end of `task` behind `cursor`.
    pub fn wait_for(home: &Home, task: &str, cursor: &str) -> Self {
        let arguments = json!({
            "subject": format!("task/{task}"),
            "types": ["task.completed"],
            "since": cursor,
        });
        let mut command = node(home, "launcher/build/index.js");
        command.arg("--cli").arg("--config").arg(path(home));
        command.args(["--server", "fleet", "--format", "json", "--method", "tools/call"]);
        command.args(["--tool-name", "wait_for_events", "--tool-args-json"]);
        command.arg(arguments.to_string());
        Self(Program::start(command))
    }

    /// The answer's events and the cursor behind them.
    pub fn answer(self) -> (Vec<Value>, String) {
        let (code, stdout, stderr) = self.0.end();
        assert_eq!(code, 0, "{stdout}{stderr}");
        let said: Value = serde_json::from_str(&stdout).unwrap();
        let answer = &said["result"]["structuredContent"];
        assert_eq!(answer["timed_out"], false, "{said}");
        let cursor = answer["cursor"].as_str().unwrap().to_owned();
        (answer["events"].as_array().unwrap().clone(), cursor)
    }

    /// The exit status of a call whose daemon went away, and what it said.
    pub fn failure(self) -> (i32, String) {
        let (code, _, stderr) = self.0.end();
        (code, stderr)
    }
}

/// Makes `@fleet`, a connection of `mcpdo` that stays when this command has ended.
pub fn mcpdo_connect(home: &Home) {
    let mut command = node(home, "mcpdo/build/mcp-bin.js");
    command.arg("--config").arg(path(home)).args(["connect", "fleet"]);
    let (code, stdout, stderr) = Program::start(command).end();
    assert_eq!(code, 0, "{stdout}{stderr}");
}

/// `mcpdo resources/subscribe URI`, once the subscription stands.
pub fn mcpdo_subscribe(home: &Home, uri: &str) -> Watch {
    let mut command = node(home, "mcpdo/build/mcp-bin.js");
    command.args(["--format", "json", "@fleet", "resources/subscribe", uri]);
    let watch = Watch(Program::start(command));
    watch.0.says("\"subscribed\"");
    watch
}

/// A subscription that prints what is pushed.
pub struct Watch(Program);

impl Watch {
    /// The resources that it was told of.
    pub fn updated(&self) -> Vec<Value> {
        let text = self.0.stdout();
        let values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        // The last one may not be whole yet.
        let whole = values.map_while(Result::ok);
        whole
            .filter(|value| value["type"] == "resources/updated")
            .map(|mut v| v["uri"].take())
            .collect()
    }

    /// Waits for its end and returns its exit status.
    pub fn ended(self) -> i32 {
        self.0.end().0
    }
}
