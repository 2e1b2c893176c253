//! An MCP server on standard input and output, and a client that is patient.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::process::wait_for;
use super::wait::PATIENCE;

/// A server that was started as clients do it. Dropping it kills it.
pub struct Pipe {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    /// Notifications that came while a reply was waited for.
    pub told: Vec<Value>,
    next_id: u64,
}

impl Pipe {
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (to, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    break;
                }
            }
        });
        let stdin = child.stdin.take();
        Self { child, stdin, lines, told: Vec::new(), next_id: 1 }
    }

    /// Sends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("the server reads");
    }

    pub fn send(&mut self, message: &Value) {
        self.raw(format!("{message}\n").as_bytes());
    }

    pub fn notify(&mut self, method: &str) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method }));
    }

    /// The next line, which may hold several messages.
    #[track_caller]
    pub fn any(&mut self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("the server says something");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The next message, whatever it is. Every line has to be JSON-RPC.
    #[track_caller]
    pub fn message(&mut self) -> Value {
        let message = self.any();
        assert_eq!(message["jsonrpc"], "2.0", "{message}");
        message
    }

    /// The next message, if it comes within `limit`.
    pub fn silent_for(&mut self, limit: Duration) -> Option<Value> {
        let line = self.lines.recv_timeout(limit).ok()?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// Sends a request and returns its reply; notifications on the way are kept.
    #[track_caller]
    pub fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        self.reply(&json!(id))
    }

    #[track_caller]
    pub fn reply(&mut self, id: &Value) -> Value {
        loop {
            let message = self.message();
            if message.get("method").is_none() {
                assert_eq!(&message["id"], id, "{message}");
                return message;
            }
            self.told.push(message);
        }
    }

    /// Shakes hands as a client of `revision` and says that it is ready.
    #[track_caller]
    pub fn greet(&mut self, revision: &str) -> Value {
        let reply = self.hello(revision);
        self.notify("notifications/initialized");
        reply
    }

    /// Only the first half of it.
    #[track_caller]
    pub fn hello(&mut self, revision: &str) -> Value {
        let params = json!({ "protocolVersion": revision, "capabilities": {},
            "clientInfo": { "name": "pipe", "version": "0" } });
        self.request("initialize", params)
    }

    /// Calls a tool that has to succeed.
    #[track_caller]
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let reply = self.request("tools/call", json!({ "name": tool, "arguments": arguments }));
        let result = &reply["result"];
        assert!(result.is_object() && result["isError"] != true, "{tool}: {reply}");
        result["structuredContent"].clone()
    }

    /// The next notification of `method`; others are passed over.
    #[track_caller]
    pub fn notification(&mut self, method: &str) -> Value {
        loop {
            let message = match self.told.is_empty() {
                true => self.message(),
                false => self.told.remove(0),
            };
            if message["method"] == method {
                return message["params"].clone();
            }
        }
    }

    /// Ends the server's input and waits for its end.
    pub fn finish(mut self, limit: Duration) -> (ExitStatus, Duration) {
        drop(self.stdin.take());
        let begun = Instant::now();
        let status = wait_for(&mut self.child, limit);
        (status.unwrap_or_else(|| panic!("still there {limit:?} after EOF")), begun.elapsed())
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
