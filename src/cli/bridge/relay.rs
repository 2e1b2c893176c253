//! One message of the client, carried to the daemon, and what it says to it.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::hub::{Hub, Upstream, lock};
use super::local;
use crate::client::{Backoff, ClientError, McpAnswer};

/// How long a request waits for a daemon that is away: longer than a restart
/// takes, shorter than a client waits for the tools of a server that it starts.
const PATIENCE: Duration = Duration::from_secs(8);

/// Tools that change nothing, so that a call that was cut may be made again.
const READING: [&str; 6] =
    ["fleet_status", "list_events", "list_tasks", "monitor_task", "version", "wait_for_events"];

/// A message under way.
pub struct Call {
    line: Bytes,
    /// Ids of requests in it that are not answered yet.
    pub owed: Vec<Value>,
    /// The client does not want the answer any more.
    pub cancelled: CancellationToken,
    repeatable: bool,
    lists_tools: bool,
}

/// What became of one attempt.
enum Attempt {
    Done,
    /// Nothing was done, or it may be done again.
    Again,
    Failed(String),
}

impl Call {
    /// `message` is what `line` says: one message or a batch.
    pub fn new(line: Bytes, message: &Value) -> Self {
        let single = std::slice::from_ref(message);
        let messages = message.as_array().map_or(single, Vec::as_slice);
        let request = |message: &Value| message.get("method").and(message.get("id")).cloned();
        let method = message.get("method").and_then(Value::as_str);
        Self {
            line,
            owed: messages.iter().filter_map(request).collect(),
            cancelled: CancellationToken::new(),
            repeatable: messages.iter().all(is_repeatable),
            lists_tools: method == Some("tools/list"),
        }
    }

    /// Notes that `answer` was said.
    fn settle(&mut self, answer: &Value) {
        if answer.get("method").is_none()
            && let Some(id) = answer.get("id")
        {
            self.owed.retain(|owed| owed != id);
        }
    }
}

/// Whether the message may be said twice. A place that is kept under a name
/// moves with every call, so a second one would pass over what the first found.
fn is_repeatable(message: &Value) -> bool {
    if message.get("method").and_then(Value::as_str) != Some("tools/call") {
        return true;
    }
    let tool = message.pointer("/params/name").and_then(Value::as_str).unwrap_or_default();
    READING.contains(&tool) && message.pointer("/params/arguments/name").is_none()
}

/// Carries `call` to the daemon and everything that is said to it back.
pub async fn relay(hub: &Hub, mut call: Call) {
    let cancelled = call.cancelled.clone();
    let failure = tokio::select! {
        biased;
        failure = attempts(hub, &mut call) => failure,
        // Nothing is said any more to whom asked for silence.
        () = cancelled.cancelled() => None,
    };
    let Some(failure) = failure else { return };
    if call.lists_tools {
        *lock(&hub.owes_list) = true;
    }
    for id in &call.owed {
        hub.words.say(local::error(Some(id), local::INTERNAL, &failure)).await;
    }
}

/// Tries until it is done; otherwise why it is not.
async fn attempts(hub: &Hub, call: &mut Call) -> Option<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut backoff = Backoff::default();
    loop {
        match attempt(hub, call, deadline).await {
            Attempt::Done => return None,
            Attempt::Failed(failure) => return Some(failure),
            Attempt::Again if Instant::now() > deadline => {
                return Some(ClientError::NotRunning.to_string());
            }
            Attempt::Again => {
                backoff.grow();
                backoff.wait().await;
            }
        }
    }
}

async fn attempt(hub: &Hub, call: &mut Call, deadline: Instant) -> Attempt {
    let mut upstream = hub.upstream.subscribe();
    let up = upstream.wait_for(|upstream| matches!(upstream, Upstream::Up(_)));
    let session = match tokio::time::timeout_at(deadline, up).await {
        Ok(Ok(upstream)) => match &*upstream {
            Upstream::Up(session) => std::sync::Arc::clone(session),
            Upstream::Down => return Attempt::Again,
        },
        _ => return Attempt::Failed(ClientError::NotRunning.to_string()),
    };
    let mut answer = match hub.client.post_mcp(Some(&session), call.line.clone()).await {
        Ok(answer) => answer,
        Err(error) => return of_error(call, &error),
    };
    // The token was made anew, or the session ended: nothing was done.
    if answer.status == http::StatusCode::NOT_FOUND {
        hub.forget(&session);
        return Attempt::Again;
    }
    match carry_back(hub, call, &mut answer).await {
        Ok(()) if call.owed.is_empty() => Attempt::Done,
        Ok(()) => of_error(call, &ClientError::Ended),
        Err(error) => of_error(call, &error),
    }
}

/// Says what the daemon says, line by line.
async fn carry_back(hub: &Hub, call: &mut Call, answer: &mut McpAnswer) -> Result<(), ClientError> {
    while let Some(frame) = answer.next().await? {
        let Some(text) = frame.data.filter(|data| !data.is_empty()) else { continue };
        let Ok(message) = serde_json::from_str::<Value>(&text) else { continue };
        let single = std::slice::from_ref(&message);
        for message in message.as_array().map_or(single, Vec::as_slice) {
            call.settle(message);
        }
        hub.words.say(text).await;
    }
    Ok(())
}

fn of_error(call: &Call, error: &ClientError) -> Attempt {
    if error.is_unknown() && !call.repeatable {
        let text = format!("{error}; whether it was done is not known: look before you repeat it");
        return Attempt::Failed(text);
    }
    if error.is_passing() { Attempt::Again } else { Attempt::Failed(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_changes_nothing_is_said_twice() {
        let call = |name: &str, arguments: Value| {
            is_repeatable(&json!({"id": 1, "method": "tools/call",
                "params": {"name": name, "arguments": arguments}}))
        };
        assert!(call("list_tasks", json!({})));
        assert!(!call("execute_command", json!({"command": "true"})));
        assert!(!call("wait_for_events", json!({"name": "me"})));
        assert!(is_repeatable(&json!({"id": 1, "method": "tools/list"})));
    }

    #[test]
    fn every_request_of_a_batch_is_owed_an_answer() {
        let batch =
            json!([{"id": 1, "method": "ping"}, {"method": "n"}, {"id": "b", "method": "x"}]);
        let mut call = Call::new(Bytes::new(), &batch);
        assert_eq!(call.owed, [json!(1), json!("b")]);
        call.settle(&json!({"id": 1, "result": {}}));
        assert_eq!(call.owed, [json!("b")]);
    }
}
