//! Lines of a byte stream, each within bounds: the framing of MCP over stdio
//! (one JSON message per line).

use std::collections::VecDeque;

/// The most bytes of one line. A tool's answer has far fewer; a peer that sends
/// more must not be able to make us hold it.
pub const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// What a splitter hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Without its end.
    Text(Vec<u8>),
    /// It had more than [`MAX_LINE_BYTES`] and was dropped.
    TooLong,
}

/// An incremental splitter: bytes in as they come, lines out as they end. Empty
/// lines are passed over.
#[derive(Debug, Default)]
pub struct LineSplitter {
    line: Vec<u8>,
    overlong: bool,
    ready: VecDeque<Line>,
}

impl LineSplitter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut parts = bytes.split(|byte| *byte == b'\n');
        // What follows the last line end belongs to a line that goes on.
        let rest = parts.next_back().unwrap_or_default();
        for part in parts {
            self.extend(part);
            self.end();
        }
        self.extend(rest);
    }

    /// The stream has ended; so has its last line, end or not.
    pub fn finish(&mut self) {
        self.end();
    }

    /// The next whole line.
    pub fn next_line(&mut self) -> Option<Line> {
        self.ready.pop_front()
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.overlong || self.line.len() + bytes.len() > MAX_LINE_BYTES {
            self.overlong = true;
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    fn end(&mut self) {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.overlong) {
            self.ready.push_back(Line::TooLong);
        } else if !line.trim_ascii().is_empty() {
            self.ready.push_back(Line::Text(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(splitter: &mut LineSplitter) -> Vec<Line> {
        std::iter::from_fn(|| splitter.next_line()).collect()
    }

    fn text(text: &str) -> Line {
        Line::Text(text.as_bytes().to_vec())
    }

    #[test]
    fn lines_come_whole_however_they_arrive() {
        let mut splitter = LineSplitter::new();
        for byte in b"one\n\n \r\ntwo\nthree" {
            splitter.push(&[*byte]);
        }
        assert_eq!(all(&mut splitter), [text("one"), text("two")]);
        splitter.finish();
        assert_eq!(all(&mut splitter), [text("three")]);
        splitter.finish();
        assert_eq!(all(&mut splitter), []);
    }

    #[test]
    fn an_overlong_line_is_dropped_and_the_next_one_is_not() {
        let mut splitter = LineSplitter::new();
        let chunk = vec![b'x'; 1024 * 1024];
        for _ in 0..20 {
            splitter.push(&chunk);
            assert!(splitter.line.len() <= MAX_LINE_BYTES);
        }
        splitter.push(b"\nok\n");
        assert_eq!(all(&mut splitter), [Line::TooLong, text("ok")]);
    }
}
