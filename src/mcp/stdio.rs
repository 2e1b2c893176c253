//! MCP over a pair of byte streams: one JSON message per line, both eras.
//!
//! The front speaks HTTP, so a line becomes the request that would have brought
//! it: the stateless era's headers repeat what its body says (2026-07-28,
//! transports), and a session's id is kept here. Every message decides for
//! itself, so a probe, garbage or a notification first spoils nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::headers::Piped;
use super::message::META_VERSION;
use super::refusal::Refusal;
use super::{Mcp, McpBody, headers};
use crate::model::{Principal, ToolSets};
use crate::wire::{Line, LineSplitter, SseParser};

/// Lines that wait for the client to read; then whoever speaks waits.
const QUEUE: usize = 64;

/// Time that requests get after the client's last word (statement 65: two
/// seconds for everything).
const GRACE: Duration = Duration::from_millis(800);

const CHUNK: usize = 64 * 1024;

impl Mcp {
    /// Serves one client until it has said its last word, or reads no more.
    ///
    /// # Errors
    /// If `input` cannot be read.
    pub async fn serve_lines<R, W>(
        &self,
        principal: Principal,
        offer: ToolSets,
        mut input: R,
        output: W,
    ) -> std::io::Result<()>
    where
        R: AsyncRead + Send + Unpin,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (words, lines) = mpsc::channel(QUEUE);
        let loops = TaskTracker::new();
        let gone = CancellationToken::new();
        let writer = loops.spawn(write(output, lines, gone.clone()));
        let pipe = Arc::new(Pipe {
            mcp: self.clone(),
            principal,
            address: format!("/mcp/x/{offer}"),
            words,
            session: Mutex::default(),
            calls: Mutex::default(),
            requests: TaskTracker::new(),
            streams: TaskTracker::new(),
            over: CancellationToken::new(),
        });
        let outcome = pipe.read(&mut input, gone).await;
        pipe.requests.close();
        let _ = tokio::time::timeout(GRACE, pipe.requests.wait()).await;
        pipe.over.cancel();
        let _ = tokio::time::timeout(GRACE / 2, pipe.end()).await;
        drop(pipe);
        let _ = tokio::time::timeout(GRACE / 2, writer).await;
        outcome
    }
}

struct Pipe {
    mcp: Mcp,
    principal: Principal,
    /// Which says what is offered.
    address: String,
    words: mpsc::Sender<Bytes>,
    /// Id and revision of the session, once `initialize` has begun one.
    session: Mutex<Option<(HeaderValue, HeaderValue)>>,
    /// Calls of the stateless era, by id: cancelling one is dropping it.
    calls: Mutex<HashMap<String, CancellationToken>>,
    requests: TaskTracker,
    /// Relays the session's own stream; nobody waits for its end.
    streams: TaskTracker,
    over: CancellationToken,
}

impl Pipe {
    async fn read<R: AsyncRead + Unpin>(
        self: &Arc<Self>,
        input: &mut R,
        gone: CancellationToken,
    ) -> std::io::Result<()> {
        let mut splitter = LineSplitter::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = tokio::select! {
                read = input.read(&mut chunk) => read?,
                () = gone.cancelled() => return Ok(()),
            };
            splitter.push(&chunk[..read]);
            if read == 0 {
                splitter.finish();
            }
            while let Some(line) = splitter.next_line() {
                match line {
                    Line::Text(line) => self.take(line).await,
                    Line::TooLong => {
                        let refusal = Refusal::invalid_request("the line has more than 16 MiB");
                        self.say(refusal.body().into()).await;
                    }
                }
            }
            if read == 0 {
                return Ok(());
            }
        }
    }

    async fn take(self: &Arc<Self>, line: Vec<u8>) {
        // The front judges; this only has to know what to put into the headers.
        let message: Value = serde_json::from_slice(&line).unwrap_or_default();
        let method = message.get("method").and_then(Value::as_str).unwrap_or_default();
        let request = self.request(Method::POST, &message, Bytes::from(line));
        let id = message.get("id").map(Value::to_string);
        if message.is_array() {
            // Replies to all of it come together, which may take time.
            return self.carry_aside(request, message);
        }
        match (method, id) {
            // What follows belongs to the session that this begins.
            ("initialize", _) => self.carry(request, &message).await,
            (_, Some(id)) => {
                let cancelled = CancellationToken::new();
                lock(&self.calls).insert(id.clone(), cancelled.clone());
                let pipe = Arc::clone(self);
                self.requests.spawn(async move {
                    tokio::select! {
                        () = pipe.carry(request, &message) => {}
                        () = cancelled.cancelled() => {}
                        () = pipe.over.cancelled() => {}
                    }
                    lock(&pipe.calls).remove(&id);
                });
            }
            ("notifications/cancelled", None) => {
                self.carry(request, &message).await;
                let id = message.pointer("/params/requestId").map(Value::to_string);
                if let Some(call) = id.and_then(|id| lock(&self.calls).remove(&id)) {
                    call.cancel();
                }
            }
            ("notifications/initialized", None) => {
                self.carry(request, &message).await;
                self.listen().await;
            }
            _ => self.carry(request, &message).await,
        }
    }

    /// Ends the session: nobody knows its id but this pipe.
    async fn end(&self) {
        if lock(&self.session).is_some() {
            let request = self.request(Method::DELETE, &Value::Null, Bytes::new());
            self.mcp.handle(self.principal.clone(), request).await;
        }
    }

    /// Carries a request whose end nobody here waits for.
    fn carry_aside(self: &Arc<Self>, request: Request<Bytes>, message: Value) {
        let pipe = Arc::clone(self);
        self.requests.spawn(async move {
            tokio::select! {
                () = pipe.carry(request, &message) => {}
                () = pipe.over.cancelled() => {}
            }
        });
    }

    /// Relays the session's own stream. It is open before the next line is read, so
    /// whatever that leads to is pushed.
    async fn listen(self: &Arc<Self>) {
        if lock(&self.session).is_none() {
            return;
        }
        let pipe = Arc::clone(self);
        let request = self.request(Method::GET, &Value::Null, Bytes::new());
        let response = self.mcp.handle(self.principal.clone(), request).await;
        self.streams.spawn(async move {
            tokio::select! {
                () = pipe.relay(response, false) => {}
                () = pipe.over.cancelled() => {}
            }
        });
    }

    /// The request that would have brought `message` over HTTP.
    fn request(&self, method: Method, message: &Value, body: Bytes) -> Request<Bytes> {
        let mut request = Request::new(body);
        request.extensions_mut().insert(Piped);
        *request.method_mut() = method;
        // Names of sets are plain words, so this always is an address.
        *request.uri_mut() = self.address.parse().unwrap_or_default();
        let listens = request.method() == Method::GET;
        let headers = request.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        let accept =
            if listens { "text/event-stream" } else { "application/json, text/event-stream" };
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        let params = message.get("params");
        let claim = params.and_then(|params| params.get("_meta")?.get(META_VERSION)?.as_str());
        let Some(claim) = claim else {
            let begins = message.get("method").and_then(Value::as_str) == Some("initialize");
            if let Some((id, revision)) = lock(&self.session).clone().filter(|_| !begins) {
                headers.insert(headers::SESSION, id);
                headers.insert(headers::VERSION, revision);
            }
            return request;
        };
        let mut put = |name, value: &str| {
            if let Ok(value) = HeaderValue::from_str(&encoded(value)) {
                headers.insert(name, value);
            }
        };
        put(headers::VERSION, claim);
        put(headers::METHOD, message.get("method").and_then(Value::as_str).unwrap_or_default());
        let named = ["name", "uri", "taskId"];
        let named = named.iter().find_map(|name| params?.get(name)?.as_str());
        if let Some(named) = named {
            put(headers::NAME, named);
        }
        request
    }

    /// Has the front answer `request`, and says what it says.
    async fn carry(&self, request: Request<Bytes>, message: &Value) {
        let response = self.mcp.handle(self.principal.clone(), request).await;
        if let Some(id) = response.headers().get(headers::SESSION).cloned() {
            return self.begin(id, response).await;
        }
        // A notification is never answered, not even with a refusal, unless it
        // could not be told what it is.
        let silent = message.get("method").is_some() && message.get("id").is_none();
        self.relay(response, silent).await;
    }

    async fn begin(&self, id: HeaderValue, response: Response<McpBody>) {
        let Ok(body) = response.into_body().collect().await;
        let body = body.to_bytes();
        let text = first_data(&body).unwrap_or_else(|| body.clone());
        let result: Value = serde_json::from_slice(&text).unwrap_or_default();
        let revision = result.pointer("/result/protocolVersion").and_then(Value::as_str);
        let revision = revision.and_then(|revision| HeaderValue::from_str(revision).ok());
        if let Some(revision) = revision {
            // A client that begins anew has forgotten what was before, and must not be
            // told everything twice.
            self.end().await;
            *lock(&self.session) = Some((id, revision));
        }
        self.say(text).await;
    }

    async fn relay(&self, response: Response<McpBody>, silent: bool) {
        let kind = response.headers().get(header::CONTENT_TYPE);
        let streamed = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let mut body = response.into_body();
        if !streamed {
            let Ok(whole) = body.collect().await;
            let whole = whole.to_bytes();
            if !whole.is_empty() && !silent {
                self.say(whole).await;
            }
            return;
        }
        let mut parser = SseParser::new();
        while let Some(Ok(frame)) = body.frame().await {
            let Some(bytes) = frame.data_ref() else { continue };
            parser.push(bytes);
            while let Some(frame) = parser.next_frame() {
                if let Some(data) = frame.data.filter(|data| !data.is_empty()) {
                    self.say(data.into()).await;
                }
            }
        }
    }

    async fn say(&self, line: Bytes) {
        // A client that has gone is noticed by the writer.
        let _ = self.words.send(line).await;
    }
}

/// A value that fits into a header, encoded as the protocol says if need be.
fn encoded(value: &str) -> String {
    let plain = value.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    if plain && !value.starts_with("=?") {
        return value.to_owned();
    }
    format!("=?base64?{}?=", BASE64_STANDARD.encode(value))
}

/// The first message of a stream of events.
fn first_data(body: &[u8]) -> Option<Bytes> {
    let mut parser = SseParser::new();
    parser.push(body);
    let mut frames = std::iter::from_fn(|| parser.next_frame());
    frames.find_map(|frame| frame.data.filter(|data| data.starts_with('{'))).map(Bytes::from)
}

async fn write<W: AsyncWrite + Unpin>(
    mut output: W,
    mut lines: mpsc::Receiver<Bytes>,
    gone: CancellationToken,
) {
    while let Some(line) = lines.recv().await {
        let line = [&*line, b"\n"].concat();
        if output.write_all(&line).await.is_err() || output.flush().await.is_err() {
            break;
        }
    }
    gone.cancel();
}

/// A holder of these locks does not panic; one that did leaves sound values.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
