//! Server-sent events as the protocol's transports frame them.
//!
//! Event ids name the stream and the position in it. `g-1a2b3c4d:17` stands for
//! "the session's own stream (`g`), up to event 17 of the journal", the same for
//! all sessions, since the journal is. Those of answers begin with `p`, and
//! `replies` makes and reads them.

use crate::model::{Cursor, Severity};

/// Milliseconds after which a client should come back to a stream that ended.
const RETRY_MS: u64 = 3000;

/// A comment that keeps the connection alive. One line and no blank one: some
/// clients' parsers take a blank line after an earlier id for an empty message.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n";

/// The first bytes of every stream, so that a client sees it open at once.
pub const OPEN: &[u8] = b": open\n";

const HEAD: &[u8] = b"event: message\ndata: ";
const TAIL: &[u8] = b"\n\n";

/// How events of the journal travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// With ids, from which a broken stream is resumed.
    Resumable,
    /// Without ids: 2024-11-05.
    Plain,
}

/// Appends a JSON-RPC message without an id.
pub fn push_message(out: &mut Vec<u8>, message: &[u8]) {
    out.extend_from_slice(HEAD);
    out.extend_from_slice(message);
    out.extend_from_slice(TAIL);
}

/// Appends an event of the journal as `notifications/message` (2025-11-25,
/// logging): `logger` is the topic, `data` the CloudEvent.
pub fn push_log(
    out: &mut Vec<u8>,
    form: Form,
    cursor: Cursor,
    level: Severity,
    topic: &str,
    body: &[u8],
) {
    if form == Form::Resumable {
        push_id(out, cursor);
    }
    push_signal(out, level, topic, body);
}

/// Appends what passes as `notifications/message`: without id, never replayed.
pub fn push_signal(out: &mut Vec<u8>, level: Severity, topic: &str, body: &[u8]) {
    out.extend_from_slice(HEAD);
    out.extend_from_slice(
        b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"",
    );
    out.extend_from_slice(level.as_str().as_bytes());
    out.extend_from_slice(b"\",\"logger\":\"");
    // A topic is dotted words of a-z 0-9 _: nothing in it needs an escape.
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(b"\",\"data\":");
    out.extend_from_slice(body);
    out.extend_from_slice(b"}}");
    out.extend_from_slice(TAIL);
}

/// `notifications/resources/updated`. Without an id when framed: it is derived
/// anew from wherever a stream resumes.
pub fn updated(uri: &str) -> Vec<u8> {
    let message = serde_json::json!({
        "jsonrpc": "2.0",
        "method": "notifications/resources/updated",
        "params": { "uri": uri },
    });
    message.to_string().into_bytes()
}

/// Appends a priming event (2025-11-25, transports): an id to resume from, and
/// empty data. `number` makes the id another one than the event's at this place.
pub fn push_priming(out: &mut Vec<u8>, cursor: Cursor, number: u64) {
    let text = format!("id: g-{cursor}-{number}\nretry: {RETRY_MS}\ndata:\n\n");
    out.extend_from_slice(text.as_bytes());
}

/// Appends a bookmark: the reader's place moves on while nothing concerns it.
pub fn push_bookmark(out: &mut Vec<u8>, cursor: Cursor) {
    push_id(out, cursor);
    out.extend_from_slice(b"data:\n\n");
}

/// Appends a message of an answer's log, whose place in it is `id`.
pub fn push_reply(out: &mut Vec<u8>, id: &str, message: &[u8]) {
    out.extend_from_slice(format!("id: {id}\n").as_bytes());
    push_message(out, message);
}

/// Appends the priming event of an answer: from `id` on it can be resumed.
pub fn push_reply_priming(out: &mut Vec<u8>, id: &str) {
    let text = format!("id: {id}\nretry: {RETRY_MS}\ndata:\n\n");
    out.extend_from_slice(text.as_bytes());
}

/// The position that a `Last-Event-ID` of a session's own stream stands for.
pub fn parse_id(id: &str) -> Option<Cursor> {
    let place = id.strip_prefix("g-")?;
    let place = match place.split_once('-') {
        Some((place, number)) => number.parse::<u64>().ok().map(|_| place)?,
        None => place,
    };
    place.parse().ok()
}

fn push_id(out: &mut Vec<u8>, cursor: Cursor) {
    out.extend_from_slice(format!("id: g-{cursor}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Epoch;

    const AT: Cursor = Cursor { epoch: Epoch(7), seq: 17 };

    #[test]
    fn ids_are_read_back() {
        assert_eq!(parse_id("g-00000007:17"), Some(AT));
        assert_eq!(parse_id("g-00000007:17-3"), Some(AT));
        for bad in ["", "00000007:17", "p-00000007:17", "g-", "g-7:17", "g-00000007:17-x"] {
            assert_eq!(parse_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_event_is_a_log_message() {
        let mut out = Vec::new();
        push_log(&mut out, Form::Resumable, AT, Severity::Notice, "task.failed", br#"{"n":1}"#);
        let text = String::from_utf8(out).unwrap();
        let data = text.strip_prefix("id: g-00000007:17\nevent: message\ndata: ").unwrap();
        let message: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(message["method"], "notifications/message");
        assert_eq!(message["params"]["level"], "notice");
        assert_eq!(message["params"]["logger"], "task.failed");
        assert_eq!(message["params"]["data"]["n"], 1);
    }
}
