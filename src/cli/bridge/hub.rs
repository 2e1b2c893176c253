//! What the parts of the bridge share: the client's state, the daemon's session,
//! and the way to standard output.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::local;
use super::relay::{self, Call};
use crate::client::{Client, McpSession};

/// Resources that a session of the daemon watches at most.
const MOST_WATCHED: usize = 64;

/// A line for the client.
pub struct Word {
    pub text: String,
    /// Told when the client's pipe has taken it.
    pub written: Option<oneshot::Sender<()>>,
}

/// The way to standard output; full means that the client does not read.
#[derive(Clone)]
pub struct Words(mpsc::Sender<Word>);

/// What the client said when it began.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Its `initialize`, as it stands.
    pub message: Value,
}

/// The daemon's session, as far as the bridge has one.
#[derive(Clone, Debug, Default)]
pub enum Upstream {
    /// Not yet, or not any more.
    #[default]
    Down,
    Up(Arc<McpSession>),
}

impl Upstream {
    fn is(&self, session: &Arc<McpSession>) -> bool {
        matches!(self, Self::Up(current) if Arc::ptr_eq(current, session))
    }
}

pub struct Hub {
    pub client: Client,
    pub words: Words,
    /// Whether events go into the channel, and the client is told so.
    pub channel: bool,
    pub hello: watch::Sender<Option<Hello>>,
    /// The client has said that it is ready: it may be told things.
    pub ready: watch::Sender<bool>,
    pub upstream: watch::Sender<Upstream>,
    /// The channel knows from where on it tells; true as well if there is none.
    pub begun: watch::Sender<bool>,
    /// The client's last `logging/setLevel`, said again to every new session.
    pub level: Mutex<Option<Bytes>>,
    /// What the client watches and how it said so, said again likewise.
    pub watched: Mutex<BTreeMap<String, Bytes>>,
    /// The client was refused its list of tools: it has to be told of the real one.
    pub owes_list: Mutex<bool>,
    calls: Mutex<HashMap<String, CancellationToken>>,
    requests: TaskTracker,
}

impl Words {
    pub fn new(to: mpsc::Sender<Word>) -> Self {
        Self(to)
    }

    /// Says `text`, one line of JSON. A client that has gone is noticed by the writer.
    pub async fn say(&self, text: String) {
        let _ = self.0.send(Word { text, written: None }).await;
    }

    /// Says `text` and returns whether the client's pipe has taken it.
    pub async fn say_surely(&self, text: String) -> bool {
        let (written, taken) = oneshot::channel();
        let word = Word { text, written: Some(written) };
        self.0.send(word).await.is_ok() && taken.await.is_ok()
    }
}

impl Hub {
    pub fn new(client: Client, words: Words, channel: bool) -> Self {
        Self {
            client,
            words,
            channel,
            hello: watch::Sender::default(),
            ready: watch::Sender::default(),
            upstream: watch::Sender::default(),
            begun: watch::Sender::new(!channel),
            level: Mutex::default(),
            watched: Mutex::default(),
            owes_list: Mutex::default(),
            calls: Mutex::default(),
            requests: TaskTracker::new(),
        }
    }

    /// Takes one line of the client.
    pub async fn take(self: &Arc<Self>, line: Vec<u8>) {
        let message = match serde_json::from_slice::<Value>(&line) {
            Ok(message) => message,
            Err(error) => {
                let text = format!("the line is not JSON: {error}");
                return self.words.say(local::error(None, local::PARSE_ERROR, &text)).await;
            }
        };
        match message.get("method").and_then(Value::as_str) {
            _ if message.is_array() => self.relay(Bytes::from(line), &message),
            Some(method) if message.get("id").is_some() => {
                self.request(method, &message, Bytes::from(line)).await;
            }
            Some(method) => self.notified(method, &message, Bytes::from(line)),
            // An answer: nothing here asks a client for anything.
            None if message.get("result").is_some() || message.get("error").is_some() => {}
            None => {
                let text = "a message is an object with a method";
                let id = message.get("id");
                self.words.say(local::error(id, local::INVALID_REQUEST, text)).await;
            }
        }
    }

    /// Tells the client that one of its lines was too long.
    pub async fn refuse_overlong(&self) {
        let text = "the line has more than 16 MiB";
        self.words.say(local::error(None, local::INVALID_REQUEST, text)).await;
    }

    /// Waits until the requests under way are answered, at most for `grace`.
    pub async fn settle(&self, grace: Duration) {
        self.requests.close();
        let _ = tokio::time::timeout(grace, self.requests.wait()).await;
        for call in lock(&self.calls).values() {
            call.cancel();
        }
    }

    /// Notes that the daemon does not know `session` any more; the keeper begins
    /// another. Said again of one that was given up already, it says nothing.
    pub fn forget(&self, session: &Arc<McpSession>) {
        self.upstream.send_if_modified(|upstream| {
            let is_this = upstream.is(session);
            if is_this {
                *upstream = Upstream::Down;
            }
            is_this
        });
    }

    /// Returns when `session` was given up.
    pub async fn forgotten(&self, session: &Arc<McpSession>) {
        let mut upstream = self.upstream.subscribe();
        // The sender is in here, so it is not gone.
        let _ = upstream.wait_for(|upstream| !upstream.is(session)).await;
    }

    /// Ends the daemon's session, if there is one: whoever it would wake has gone.
    pub async fn end_session(&self) {
        let session = match &*self.upstream.borrow() {
            Upstream::Up(session) => Arc::clone(session),
            Upstream::Down => return,
        };
        let _ = self.client.end_mcp(&session).await;
    }

    async fn request(self: &Arc<Self>, method: &str, message: &Value, line: Bytes) {
        if let Some(answer) = local::answer(method, message) {
            return self.words.say(answer).await;
        }
        if method == "initialize" {
            if self.hello.borrow().is_some() {
                let text = "the session has begun already";
                let id = message.get("id");
                return self.words.say(local::error(id, local::INVALID_REQUEST, text)).await;
            }
            self.hello.send_replace(Some(Hello { message: message.clone() }));
            return;
        }
        if self.hello.borrow().is_none() {
            let text = "initialize has to come first";
            let id = message.get("id");
            return self.words.say(local::error(id, local::INVALID_REQUEST, text)).await;
        }
        self.remember(method, message, &line);
        self.relay(line, message);
    }

    /// Notes what every new session has to be told again.
    fn remember(&self, method: &str, message: &Value, line: &Bytes) {
        let uri = || message.pointer("/params/uri").and_then(Value::as_str);
        match (method, uri()) {
            ("logging/setLevel", _) => *lock(&self.level) = Some(line.clone()),
            ("resources/subscribe", Some(uri)) => {
                let mut watched = lock(&self.watched);
                if watched.len() < MOST_WATCHED || watched.contains_key(uri) {
                    watched.insert(uri.to_owned(), line.clone());
                }
            }
            ("resources/unsubscribe", Some(uri)) => {
                lock(&self.watched).remove(uri);
            }
            _ => {}
        }
    }

    fn notified(self: &Arc<Self>, method: &str, message: &Value, line: Bytes) {
        match method {
            // The keeper says it to the daemon, once per session.
            "notifications/initialized" => {
                self.ready.send_replace(true);
            }
            _ if self.hello.borrow().is_none() => {}
            "notifications/cancelled" => {
                let id = message.pointer("/params/requestId").map(Value::to_string);
                if let Some(call) = id.and_then(|id| lock(&self.calls).get(&id).cloned()) {
                    call.cancel();
                }
                self.relay(line, message);
            }
            _ => self.relay(line, message),
        }
    }

    /// Relays a message in a loop of its own.
    fn relay(self: &Arc<Self>, line: Bytes, message: &Value) {
        let call = Call::new(line, message);
        let names: Vec<String> = call.owed.iter().map(Value::to_string).collect();
        for name in &names {
            lock(&self.calls).insert(name.clone(), call.cancelled.clone());
        }
        let hub = Arc::clone(self);
        self.requests.spawn(async move {
            relay::relay(&hub, call).await;
            let mut calls = lock(&hub.calls);
            for name in &names {
                calls.remove(name);
            }
        });
    }
}

/// A holder of these locks does not panic; one that did leaves sound values.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
