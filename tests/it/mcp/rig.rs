//! A daemon without sockets: what the http component would hand over, handed over.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleetd::bus::{Bus, Feed};
use fleetd::fleet::{Fleet, FleetOptions};
use fleetd::mcp::{Guest, Identity, Mcp, McpBody, SessionKey};
use fleetd::model::{Cursor, Principal, Timestamp, ToolSets};
use fleetd::store::{Durability, Retention, Store, StoreOptions};
use fleetd::wire::{SseFrame, SseParser, decode_event, encode_event};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex};
use tokio::task::JoinSet;

pub const MODERN: &str = "2026-07-28";

pub struct Rig {
    pub mcp: Mcp,
    pub bus: Bus,
    dir: tempfile::TempDir,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub session: Option<String>,
    pub kind: String,
    pub body: Bytes,
}

/// A stream that is being read.
pub struct Reader {
    body: McpBody,
    parser: SseParser,
    /// Everything read so far, as text.
    pub raw: String,
}

impl Rig {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::at(dir, None)
    }

    /// With somebody who serves more than fleetd does.
    pub fn with_guest(guest: impl Guest) -> Self {
        Self::at(tempfile::tempdir().unwrap(), Some(Arc::new(guest)))
    }

    fn at(dir: tempfile::TempDir, guest: Option<Arc<dyn Guest>>) -> Self {
        let feed = Feed::new(1024 * 1024);
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            source: String::from("fleetd/test"),
            retention: Retention {
                rows: 100_000,
                bytes: 1 << 30,
                age: Duration::from_secs(86_400),
            },
            durability: Durability::Normal,
        };
        let (store, _) = Store::open(options, feed.hook()).unwrap();
        let bus = Bus::new(feed, store);
        let runs = dir.path().join("runs");
        std::fs::create_dir_all(&runs).unwrap();
        let options = FleetOptions {
            runs,
            supervisor: env!("CARGO_BIN_EXE_fleetd").into(),
            tasks: fleetd::config::Tasks::default(),
            providers: fleetd::config::Providers::built_in(),
            transfers: Default::default(),
            roster: crate::task::rig::roster(dir.path()),
        };
        let fleet = Fleet::new(options, bus.clone());
        let identity = Identity {
            version: "0.0.0-test",
            instance: String::from("test"),
            started: Timestamp::now(),
            url: String::from("http://127.0.0.1:1"),
            session_key: SessionKey::new([7; 32]),
        };
        Self { mcp: Mcp::with_guest(identity, bus.clone(), fleet, guest), bus, dir }
    }

    /// The same state directory under a new daemon.
    pub async fn restart(self) -> Self {
        self.mcp.close();
        self.bus.store().close().await;
        Self::at(self.dir, None)
    }

    /// The same, after the store has lost the proof of its age.
    pub async fn restart_in_new_epoch(self) -> Self {
        self.mcp.close();
        self.bus.store().close().await;
        std::fs::remove_file(self.dir.path().join("journal.mark")).unwrap();
        Self::at(self.dir, None)
    }

    pub async fn send(
        &self,
        method: Method,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<McpBody> {
        self.send_as(Principal::owner(), method, headers, body).await
    }

    pub async fn send_as(
        &self,
        principal: Principal,
        method: Method,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<McpBody> {
        self.send_to("/mcp", principal, method, headers, body).await
    }

    /// The same for any address.
    pub async fn send_to(
        &self,
        address: &str,
        principal: Principal,
        method: Method,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<McpBody> {
        let mut request = Request::builder().method(method).uri(address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        self.mcp.handle(principal, request).await
    }

    /// Posts what a client of a session would.
    pub async fn post(&self, session: Option<&str>, message: &Value) -> Answer {
        let mut headers = vec![
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        ];
        headers.extend(session.map(|id| ("mcp-session-id", id)));
        read(self.send(Method::POST, &headers, &message.to_string()).await).await
    }

    /// Begins a session and returns its id.
    pub async fn session(&self, revision: &str) -> String {
        let answer = self.post(None, &initialize(revision)).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.session.unwrap()
    }

    /// A request of the stateless era, as a stream or whole.
    pub async fn modern_response(&self, method: &str, params: Value) -> Response<McpBody> {
        let mut params = params;
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "claude-code", "version": "1" },
        });
        for (key, value) in meta.as_object().unwrap() {
            // What a test sets itself stays.
            if params["_meta"][key].is_null() {
                params["_meta"][key] = value.clone();
            }
        }
        let name = ["name", "uri", "taskId"].iter().find_map(|key| params[*key].as_str());
        let name = name.unwrap_or_default().to_owned();
        let mut headers = vec![
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", MODERN),
            ("mcp-method", method),
        ];
        if !name.is_empty() {
            headers.push(("mcp-name", &name));
        }
        let message = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        self.send(Method::POST, &headers, &message.to_string()).await
    }

    pub async fn modern(&self, method: &str, params: Value) -> Answer {
        read(self.modern_response(method, params).await).await
    }

    /// Calls a tool and returns the result, which has to be one.
    pub async fn tool(&self, name: &str, arguments: Value) -> Value {
        let answer = self.modern("tools/call", json!({"name": name, "arguments": arguments})).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.json()["result"].take()
    }

    /// Publishes an event of its own and returns where it stands.
    pub async fn publish(&self, topic: &str, severity: &str) -> Cursor {
        let arguments = json!({"type": topic, "severity": severity, "data": {"n": 1}});
        let result = self.tool("publish_event", arguments).await;
        result["structuredContent"]["cursor"].as_str().unwrap().parse().unwrap()
    }

    /// Adds `count` events in batches, past the tools.
    pub async fn publish_many(&self, topic: &str, count: usize) {
        let event = |n: usize| {
            let event = json!({"specversion": "1.0", "id": format!("{topic}-{n}"), "source": "rig", "type": topic});
            let event = decode_event(event, &Principal::owner()).unwrap();
            encode_event(event, "fleetd/test").unwrap()
        };
        for from in (0..count).step_by(1000) {
            let batch = (from..count.min(from + 1000)).map(event).collect();
            self.bus.store().publish(batch).await.unwrap();
        }
    }

    /// Opens the session's own stream.
    pub async fn listen(&self, session: &str, last: Option<&str>) -> Reader {
        let mut headers = vec![("accept", "text/event-stream"), ("mcp-session-id", session)];
        headers.extend(last.map(|id| ("last-event-id", id)));
        let response = self.send(Method::GET, &headers, "").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        Reader::new(response.into_body())
    }
}

impl Answer {
    /// The reply, whether it came whole or at the end of a stream.
    pub fn json(&self) -> Value {
        if self.kind == "text/event-stream" {
            let mut parser = SseParser::new();
            parser.push(&self.body);
            let frames = std::iter::from_fn(|| parser.next_frame());
            let last = frames.filter_map(|frame| frame.data).last().unwrap();
            return serde_json::from_str(&last).unwrap();
        }
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn error_code(&self) -> i64 {
        assert_eq!(self.kind, "application/json", "{self:?}");
        self.json()["error"]["code"].as_i64().unwrap()
    }
}

impl Reader {
    pub fn new(body: McpBody) -> Self {
        Self { body, parser: SseParser::new(), raw: String::new() }
    }

    /// The next frame, within two seconds; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<SseFrame> {
        tokio::time::timeout(Duration::from_secs(2), self.read()).await.expect("no frame in 2 s")
    }

    /// The rest of the stream, as bytes.
    pub fn into_body(self) -> McpBody {
        self.body
    }

    /// Nothing comes for a while.
    pub async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(150), self.read()).await.is_err()
    }

    /// The next message and the id that came with it.
    pub async fn message(&mut self) -> (Option<String>, Value) {
        loop {
            let frame = self.next().await.expect("the stream ended");
            if let Some(data) = frame.data.filter(|data| !data.is_empty()) {
                return (frame.id, serde_json::from_str(&data).unwrap());
            }
        }
    }

    async fn read(&mut self) -> Option<SseFrame> {
        loop {
            if let Some(frame) = self.parser.next_frame() {
                return Some(frame);
            }
            let bytes = self.body.frame().await?.unwrap().into_data().unwrap();
            self.raw.push_str(std::str::from_utf8(&bytes).unwrap());
            self.parser.push(&bytes);
        }
    }
}

pub fn initialize(revision: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": revision,
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }})
}

pub fn request(id: i64, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

pub async fn read(response: Response<McpBody>) -> Answer {
    let (parts, body) = response.into_parts();
    let text = |name| {
        parts.headers.get(name).map(|value: &http::HeaderValue| value.to_str().unwrap().to_owned())
    };
    let collected = tokio::time::timeout(Duration::from_secs(5), body.collect());
    Answer {
        status: parts.status,
        session: text("mcp-session-id"),
        kind: text("content-type").unwrap_or_default(),
        body: collected.await.expect("no end in 5 s").unwrap().to_bytes(),
    }
}

/// Bytes that a pipe holds: few, so that one that is not read is soon full.
const PIPE: usize = 4096;

/// A client over stdio: the very loop that a process would serve it with, with
/// pipes that do not leave this one.
pub struct Lines {
    to: DuplexStream,
    from: tokio::io::Lines<BufReader<DuplexStream>>,
    _served: JoinSet<()>,
}

impl Lines {
    pub fn new(rig: &Rig) -> Self {
        let ((to, input), (from, output)) = (duplex(PIPE), duplex(PIPE));
        let mcp = rig.mcp.clone();
        let mut served = JoinSet::new();
        served.spawn(async move {
            mcp.serve_lines(Principal::owner(), ToolSets::DEFAULT, input, output).await.unwrap();
        });
        Self { to, from: BufReader::new(from).lines(), _served: served }
    }

    pub async fn say(&mut self, message: Value) {
        self.to.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    pub async fn next(&mut self) -> Value {
        let next = tokio::time::timeout(Duration::from_secs(5), self.from.next_line()).await;
        serde_json::from_str(&next.expect("nothing in 5 s").unwrap().expect("the end")).unwrap()
    }

    pub async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(150), self.from.next_line()).await.is_err()
    }
}
