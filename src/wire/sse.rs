//! Server-sent events (WHATWG HTML, section 9.2): frames out, and a parser that
//! the client and the tests read them back with.

use std::collections::VecDeque;

use crate::model::Cursor;

/// Appends one event: `id`, `event`, `data`. `body` is one line of JSON, whose
/// strings escape CR and LF, so no content can end a frame.
pub fn push_event(out: &mut Vec<u8>, cursor: Option<Cursor>, topic: &str, body: &[u8]) {
    debug_assert!(!body.contains(&b'\n') && !body.contains(&b'\r'));
    if let Some(cursor) = cursor {
        push_id(out, cursor);
    }
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    out.extend_from_slice(body);
    out.extend_from_slice(b"\n\n");
}

/// Appends a bookmark: an `id` without data moves the reader's cursor and shows it nothing.
pub fn push_bookmark(out: &mut Vec<u8>, cursor: Cursor) {
    push_id(out, cursor);
    out.push(b'\n');
}

/// Appends the notice that events between two cursors are no longer held.
/// Its id is where the reader goes on from.
pub fn push_gap(out: &mut Vec<u8>, from: Cursor, to: Cursor, reason: &str) {
    let body = serde_json::json!({ "from": from, "to": to, "reason": reason }).to_string();
    push_event(out, Some(to), "gap", body.as_bytes());
}

/// Appends a comment, which clients ignore. `text` has to be one line.
pub fn push_comment(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b": ");
    out.extend(text.bytes().filter(|b| *b != b'\n' && *b != b'\r'));
    out.extend_from_slice(b"\n\n");
}

/// Appends how many milliseconds a client should wait before it connects again.
pub fn push_retry(out: &mut Vec<u8>, millis: u64) {
    out.extend_from_slice(format!("retry: {millis}\n\n").as_bytes());
}

fn push_id(out: &mut Vec<u8>, cursor: Cursor) {
    out.extend_from_slice(format!("id: {cursor}\n").as_bytes());
}

/// What a parser hands out. A frame without `data` is a bookmark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseFrame {
    /// The last `id` seen on the stream, if any came with this frame.
    pub id: Option<String>,
    /// The event's name; empty means `message`.
    pub event: String,
    /// `None` if the frame had no `data` line at all.
    pub data: Option<String>,
}

/// The most bytes of one line the parser keeps: an event has at most 256 KiB,
/// and a peer must not be able to make us hold more than a few of them.
const MAX_LINE: usize = 4 * 1024 * 1024;

/// An incremental parser: bytes in as they come, frames out as they end.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    after_cr: bool,
    overlong: bool,
    frame: SseFrame,
    touched: bool,
    ready: VecDeque<SseFrame>,
}

impl SseParser {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream. Lines end at LF, CR or CR LF.
    pub fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let follows_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if follows_cr => {}
                b'\n' | b'\r' => self.end_line(),
                _ if self.line.len() < MAX_LINE => self.line.push(byte),
                _ => self.overlong = true,
            }
        }
    }

    /// The next whole frame, if one has ended.
    pub fn next_frame(&mut self) -> Option<SseFrame> {
        self.ready.pop_front()
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.overlong) {
            // A cut line would be a lie; the frame goes on without it.
            return;
        }
        if line.is_empty() {
            let frame = std::mem::take(&mut self.frame);
            if std::mem::take(&mut self.touched) {
                self.ready.push_back(frame);
            }
            return;
        }
        let line = String::from_utf8_lossy(&line);
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" if !value.contains('\0') => self.frame.id = Some(value.to_owned()),
            "event" => self.frame.event = value.to_owned(),
            "data" => match &mut self.frame.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.frame.data = Some(value.to_owned()),
            },
            _ => return,
        }
        self.touched = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Epoch;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Vec<SseFrame> {
        let mut parser = SseParser::new();
        parser.push(bytes);
        std::iter::from_fn(|| parser.next_frame()).collect()
    }

    #[test]
    fn a_bookmark_has_an_id_and_no_data() {
        let mut out = Vec::new();
        push_comment(&mut out, "hello\nid: forged");
        push_bookmark(&mut out, Cursor { epoch: Epoch(1), seq: 4 });
        let frames = parse(&out);
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].id.as_deref(), Some("00000001:4"));
        assert_eq!(frames[0].data, None);
    }

    #[test]
    fn lines_end_at_cr_lf_or_both() {
        let frames = parse(b"event: a\r\ndata: 1\r\rdata: 2\n\n");
        assert_eq!(frames.len(), 2);
        assert_eq!(frames[0].data.as_deref(), Some("1"));
        assert_eq!(frames[1].data.as_deref(), Some("2"));
    }

    proptest! {
        #[test]
        fn no_text_can_forge_or_break_a_frame(text in "\\PC*|[\\r\\n\\x00:id dat\u{2028}]{0,40}", cut in 0usize..64) {
            let body = serde_json::json!({ "data": text }).to_string();
            let mut out = Vec::new();
            push_event(&mut out, Some(Cursor { epoch: Epoch(1), seq: 9 }), "custom.x", body.as_bytes());
            let mut parser = SseParser::new();
            let (head, tail) = out.split_at(cut.min(out.len()));
            parser.push(head);
            parser.push(tail);
            let frame = parser.next_frame().unwrap();
            prop_assert!(parser.next_frame().is_none());
            let back: serde_json::Value = serde_json::from_str(frame.data.as_deref().unwrap()).unwrap();
            prop_assert_eq!(back["data"].as_str().unwrap(), text);
            prop_assert_eq!(frame.id.as_deref(), Some("00000001:9"));
        }
    }
}
