//! The daemon's session: opened, listened to, and opened again for ever.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::hub::{Hub, Upstream, lock};
use super::local;
use crate::cli::output::Output;
use crate::client::{Backoff, ClientError, McpSession};
use crate::model::ErrorCode;
use crate::wire::wake;

/// How long the client's `initialize` waits for a daemon before it is answered
/// without one: clients give up on servers that are slow to start.
const GREET_WITHIN: Duration = Duration::from_secs(5);

/// Why listening ended.
enum Break {
    /// The connection broke; the session may well live.
    Cut(ClientError),
    /// The daemon knows the session no more.
    Forgotten,
}

/// Keeps a session for as long as the bridge lives.
pub async fn keep(hub: Arc<Hub>, out: Output) {
    let mut hellos = hub.hello.subscribe();
    let Ok(hello) = hellos.wait_for(Option::is_some).await.map(|hello| hello.clone()) else {
        return;
    };
    let Some(hello) = hello else { return };
    let hello = surrounded(hello.message, |name| std::env::var(name).ok());
    let mut keeper = Keeper { hub, out, hello, greeted: false, last: None, listened: false };
    keeper.run().await;
}

/// Adds to the client's `initialize` what it put into the environment: the daemon
/// notes by it which of the client's sessions this one belongs to.
fn surrounded(mut hello: Value, look: impl Fn(&str) -> Option<String>) -> Value {
    let found = wake::ENVIRONMENT.into_iter().filter_map(|(variable, name)| {
        let value = look(variable).filter(|value| wake::is_address(value))?;
        Some((name.to_owned(), Value::from(value)))
    });
    let found: serde_json::Map<_, _> = found.collect();
    let Some(params) = hello.get_mut("params").and_then(Value::as_object_mut) else { return hello };
    if !found.is_empty() {
        params.entry("_meta").or_insert_with(|| json!({}));
    }
    if let Some(meta) = params.get_mut("_meta").and_then(Value::as_object_mut) {
        // Only what was found here counts, not what a client may claim to be.
        meta.remove(wake::META);
        if !found.is_empty() {
            meta.insert(wake::META.to_owned(), found.into());
        }
    }
    hello
}

struct Keeper {
    hub: Arc<Hub>,
    out: Output,
    /// The client's `initialize`; every session begins with it.
    hello: Value,
    /// The client's `initialize` was answered.
    greeted: bool,
    /// Where the stream goes on: ids are places in the journal, so they hold in
    /// every session.
    last: Option<String>,
    /// A stream of the session has stood.
    listened: bool,
}

impl Keeper {
    async fn run(&mut self) {
        let mut renewed = false;
        let mut backoff = Backoff::default();
        loop {
            let session = Arc::new(self.open().await);
            self.hub.upstream.send_replace(Upstream::Up(Arc::clone(&session)));
            if std::mem::take(&mut *lock(&self.hub.owes_list)) {
                let changed =
                    json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
                self.hub.words.say(changed.to_string()).await;
            }
            if std::mem::replace(&mut renewed, true) {
                self.tell_watched().await;
            }
            self.listen(&session).await;
            self.hub.forget(&session);
            if std::mem::take(&mut self.listened) {
                backoff = Backoff::default();
            }
            backoff.grow();
            backoff.wait().await;
        }
    }

    /// Between two sessions nobody watched: what changed is not known, so all of
    /// it is told as changed.
    async fn tell_watched(&self) {
        let watched: Vec<_> = lock(&self.hub.watched).keys().cloned().collect();
        for uri in watched {
            let method = "notifications/resources/updated";
            let told = json!({ "jsonrpc": "2.0", "method": method, "params": { "uri": uri } });
            self.hub.words.say(told.to_string()).await;
        }
    }

    /// Begins a session, however long that takes.
    async fn open(&mut self) -> McpSession {
        let late = tokio::time::Instant::now() + GREET_WITHIN;
        let mut backoff = Backoff::default();
        loop {
            match self.try_open().await {
                Ok((session, result)) => {
                    // What happens from the greeting on is told in the channel.
                    let mut begun = self.hub.begun.subscribe();
                    let begun = begun.wait_for(|begun| *begun);
                    let _ = tokio::time::timeout_at(late, begun).await;
                    self.greet(result).await;
                    return session;
                }
                Err(error) if !error.is_passing() => {
                    self.out.note(&error.to_string());
                    self.greet(local::result_alone(&self.hello)).await;
                }
                Err(_) if tokio::time::Instant::now() > late => {
                    self.greet(local::result_alone(&self.hello)).await;
                }
                Err(_) => {}
            }
            backoff.grow();
            backoff.wait().await;
        }
    }

    async fn try_open(&self) -> Result<(McpSession, Value), ClientError> {
        let odd = |what: &str| ClientError::Protocol(format!("the handshake has no {what}"));
        let message = Bytes::from(self.hello.to_string());
        let mut answer = self.hub.client.post_mcp(None, message).await?;
        let mut result = None;
        while let Some(frame) = answer.next().await? {
            let message = frame.data.and_then(|data| serde_json::from_str::<Value>(&data).ok());
            result = message.and_then(|mut message| Some(message.get_mut("result")?.take()));
            if result.is_some() {
                break;
            }
        }
        let result = result.ok_or_else(|| odd("result"))?;
        let revision = result["protocolVersion"].as_str().ok_or_else(|| odd("revision"))?;
        let id = answer.session.ok_or_else(|| odd("session"))?;
        let session = McpSession { id, revision: revision.to_owned() };
        let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let level = lock(&self.hub.level).clone();
        let watched: Vec<_> = lock(&self.hub.watched).values().cloned().collect();
        let ready = std::iter::once(Bytes::from(ready.to_string()));
        for message in ready.chain(level).chain(watched) {
            self.hub.client.post_mcp(Some(&session), message).await?;
        }
        Ok((session, result))
    }

    /// Answers the client's `initialize`, once. What was settled with the client
    /// holds for every later session.
    async fn greet(&mut self, result: Value) {
        if std::mem::replace(&mut self.greeted, true) {
            return;
        }
        self.hello["params"]["protocolVersion"] = result["protocolVersion"].clone();
        let greeting = local::greeting(&self.hello["id"], result, self.hub.channel);
        self.hub.words.say(greeting).await;
    }

    /// Relays the session's own stream until the daemon has forgotten the session.
    async fn listen(&mut self, session: &Arc<McpSession>) {
        let hub = Arc::clone(&self.hub);
        let mut ready = hub.ready.subscribe();
        tokio::select! {
            // Before that the client must not be told anything.
            ready = ready.wait_for(|ready| *ready) => if ready.is_err() { return },
            () = hub.forgotten(session) => return,
        }
        let mut backoff = Backoff::default();
        loop {
            let broken = tokio::select! {
                broken = self.relay(session, &mut backoff) => broken,
                () = hub.forgotten(session) => return,
            };
            match broken {
                Break::Forgotten => return,
                Break::Cut(error) if error.is_passing() => {}
                Break::Cut(error) => self.out.note(&error.to_string()),
            }
            backoff.grow();
            backoff.wait().await;
        }
    }

    async fn relay(&mut self, session: &McpSession, backoff: &mut Backoff) -> Break {
        let mut stream = match self.hub.client.listen_mcp(session, self.last.as_deref()).await {
            Ok(stream) if stream.status.is_success() => stream,
            Ok(stream) if stream.status == StatusCode::NOT_FOUND => return Break::Forgotten,
            Ok(stream) => {
                // A place in a journal that is not there any more: from now on, then.
                if stream.status == StatusCode::BAD_REQUEST {
                    self.last = None;
                }
                return Break::Cut(refused(stream.status));
            }
            Err(error) => return Break::Cut(error),
        };
        self.listened = true;
        *backoff = Backoff::default();
        loop {
            match stream.next().await {
                Ok(Some(frame)) => {
                    self.last = frame.id.or(self.last.take());
                    if let Some(text) = frame.data.filter(|data| !data.is_empty()) {
                        self.hub.words.say(text).await;
                    }
                }
                Ok(None) => return Break::Cut(ClientError::Ended),
                Err(error) => return Break::Cut(error),
            }
        }
    }
}

/// The daemon has the session, but does not give its stream now.
fn refused(status: StatusCode) -> ClientError {
    let message = format!("the stream of the session was refused ({status})");
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return ClientError::Refused { code: ErrorCode::Unavailable, message };
    }
    ClientError::Refused { code: ErrorCode::InvalidArgument, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_tells_what_the_environment_says_and_nothing_else() {
        let hello = json!({"method": "initialize", "params": {"capabilities": {},
            "_meta": {"a": 1, "fleetd/wake": {"opencode_pid": "forged"}}}});
        let look = |name: &str| match name {
            "CLAUDE_CODE_SESSION_ID" => Some(String::from("0af2")),
            "OPENCODE_PID" => Some(String::from("a\nb")),
            _ => None,
        };
        let told = surrounded(hello.clone(), look);
        let expected = json!({"a": 1, "fleetd/wake": {"claude_code_session": "0af2"}});
        assert_eq!(told["params"]["_meta"], expected);
        let told = surrounded(hello, |_| None);
        assert_eq!(told["params"]["_meta"], json!({"a": 1}));
    }
}
