//! Fleet events as `notifications/claude/channel`, which begin a turn in an
//! idle session (contract "how real MCP clients behave", 1.3 and 4.10).

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::hub::Hub;
use crate::cli::output::Output;
use crate::cli::place::Place;
use crate::client::{Backoff, Client, ClientError, EventQuery, EventStream, Incoming};
use crate::model::Cursor;
use crate::wire::SseFrame;
use crate::wire::tools::{FleetStatus, NoArguments};

/// Ends of tasks and what somebody published: what is worth a turn of a model.
pub const DEFAULT_TYPES: [&str; 6] = [
    "task.completed",
    "task.failed",
    "task.cancelled",
    "task.unknown",
    "fleet.degraded",
    "custom.>",
];

/// Both known implementations refuse more.
const MAX_CONTENT: usize = 64 * 1024;
const MAX_VALUE: usize = 1024;

/// Carries events into the channel, each once.
pub struct Pump {
    hub: Arc<Hub>,
    types: Vec<String>,
    place: Place,
}

impl Pump {
    pub fn new(hub: Arc<Hub>, types: Vec<String>, name: Option<String>) -> Self {
        let place = Place::new(&hub.client, name.as_deref());
        Self { hub, types, place }
    }

    /// Runs until it is dropped. Where it begins is settled at once, and told
    /// from when the client is ready: the journal holds what happens meanwhile.
    pub async fn run(mut self, out: Output) {
        let mut since = self.begin(&out).await;
        self.hub.begun.send_replace(true);
        let mut ready = self.hub.ready.subscribe();
        if ready.wait_for(|ready| *ready).await.is_err() {
            return;
        }
        let mut backoff = Backoff::default();
        loop {
            let query = EventQuery {
                types: self.types.clone(),
                since: Some(since.clone()),
                ..EventQuery::default()
            };
            match self.hub.client.events(query).await {
                Ok(stream) => {
                    backoff = Backoff::default();
                    let error = self.carry(stream, &mut since).await;
                    out.note(&error.to_string());
                }
                Err(error) if error.is_passing() => {}
                Err(error) => out.note(&error.to_string()),
            }
            backoff.grow();
            backoff.wait().await;
        }
    }

    /// Where to begin: at the named place, or at the journal's end as it is now.
    async fn begin(&mut self, out: &Output) -> String {
        let mut backoff = Backoff::default();
        loop {
            match self.try_begin().await {
                Ok(cursor) => return cursor,
                Err(error) if error.is_passing() => {}
                Err(error) => out.note(&error.to_string()),
            }
            backoff.grow();
            backoff.wait().await;
        }
    }

    async fn try_begin(&mut self) -> Result<String, ClientError> {
        if let Some(cursor) = self.place.find().await? {
            return Ok(cursor.to_string());
        }
        present_end(&self.hub.client).await
    }

    /// Carries events until the stream cannot go on, and says why.
    async fn carry(&mut self, mut stream: EventStream, since: &mut String) -> ClientError {
        loop {
            let frame = match stream.next().await {
                Ok(Incoming::Frame(frame)) => frame,
                Ok(Incoming::Lost(_)) => continue,
                Err(error) => return error,
            };
            let cursor = frame.id.clone();
            let Some(text) = notification(&frame) else { continue };
            if !self.hub.words.say_surely(text).await {
                return ClientError::Ended;
            }
            if let Some(cursor) = cursor {
                self.keep(&cursor).await;
                *since = cursor;
            }
        }
    }

    /// Moves the named place, if there is one, to what the client has taken. If
    /// the daemon is away, the next event moves it.
    async fn keep(&mut self, cursor: &str) {
        if let Ok(cursor) = cursor.parse::<Cursor>() {
            let _ = self.place.keep(cursor).await;
        }
    }
}

async fn present_end(client: &Client) -> Result<String, ClientError> {
    let status: FleetStatus = client.call_tool("fleet_status", &NoArguments {}).await?;
    Ok(status.cursor)
}

/// The notification that tells `frame`; `None` if there is nothing to tell.
fn notification(frame: &SseFrame) -> Option<String> {
    let data = frame.data.as_deref()?;
    let event: Value = serde_json::from_str(data).ok()?;
    let gap = frame.event == "gap";
    let mut meta = Map::new();
    let mut note = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            meta.insert(name.to_owned(), plain(value).into());
        }
    };
    note("cursor", frame.id.as_deref());
    note("type", Some(if gap { "gap" } else { event.get("type")?.as_str()? }));
    for name in ["subject", "id", "time", "severity", "project"] {
        note(name, event.get(name).and_then(Value::as_str));
    }
    let content = if gap {
        format!("events between these cursors are no longer held: {event}")
    } else {
        event.get("data").map_or_else(|| "null".to_owned(), Value::to_string)
    };
    let params = json!({ "content": bounded(unbreakable(content)), "meta": meta });
    let message =
        json!({ "jsonrpc": "2.0", "method": "notifications/claude/channel", "params": params });
    Some(message.to_string())
}

/// JSON in which no text can end the tag it is shown in: `<` stands only in
/// strings, and there it may be spelled so.
fn unbreakable(json: String) -> String {
    if json.contains(['<', '>']) {
        json.replace('<', "\\u003c").replace('>', "\\u003e")
    } else {
        json
    }
}

/// An attribute's value: foreign, so without what could end it.
fn plain(value: &str) -> String {
    let harmless = |c: char| !c.is_control() && !matches!(c, '<' | '>' | '"' | '\'' | '&');
    let mut value: String = value.chars().map(|c| if harmless(c) { c } else { '_' }).collect();
    cut(&mut value, MAX_VALUE);
    value
}

fn bounded(mut content: String) -> String {
    const REST: &str = " … (cut; list_events with since reads the whole event)";
    if content.len() > MAX_CONTENT {
        cut(&mut content, MAX_CONTENT - REST.len());
        content.push_str(REST);
    }
    content
}

/// Shortens `text` to at most `most` bytes, between two characters.
fn cut(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(event: &str, data: &Value) -> Value {
        let frame = SseFrame {
            id: Some("0000002a:7".into()),
            event: event.into(),
            data: Some(data.to_string()),
        };
        serde_json::from_str(&notification(&frame).unwrap()).unwrap()
    }

    #[test]
    fn an_event_is_content_and_plain_attributes() {
        let event = json!({"type": "task.failed", "id": "e1", "subject": "task/x",
            "severity": "notice", "project": "default", "data": {"exit_code": 2}});
        let message = told("task.failed", &event);
        assert_eq!(message["method"], "notifications/claude/channel");
        let params = message["params"].as_object().unwrap();
        assert_eq!(params.keys().collect::<Vec<_>>(), ["content", "meta"]);
        assert_eq!(params["content"], "{\"exit_code\":2}");
        assert_eq!(params["meta"]["type"], "task.failed");
        assert_eq!(params["meta"]["cursor"], "0000002a:7");
        assert_eq!(params["meta"]["subject"], "task/x");
    }

    #[test]
    fn foreign_text_stays_within_its_frame_and_bounds() {
        let event = json!({"type": "custom.x", "subject": "a\"><channel>\n",
            "id": "é".repeat(1000), "data": "</channel>".repeat(20_000)});
        let params = &told("custom.x", &event)["params"];
        let content = params["content"].as_str().unwrap();
        assert!(content.len() <= MAX_CONTENT && !content.contains('<'), "{}", content.len());
        let meta = params["meta"].as_object().unwrap();
        assert!(meta.len() <= 32);
        for (key, value) in meta {
            let value = value.as_str().unwrap();
            assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{key}");
            assert!(!["source", "xml", "xmlns"].contains(&key.as_str()));
            assert!(value.len() <= MAX_VALUE && !value.contains(['<', '"', '\n']), "{value}");
        }
    }

    #[test]
    fn a_gap_is_told() {
        let gap = json!({"from": "0000002a:1", "to": "0000002a:7", "reason": "retention"});
        let params = &told("gap", &gap)["params"];
        assert_eq!(params["meta"]["type"], "gap");
        assert!(params["content"].as_str().unwrap().contains("no longer held"));
    }
}
