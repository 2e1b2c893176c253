//! What the makers' programs say, read as they say it.
//!
//! One reader per format, one way round for all: bytes go in as they come,
//! pieces (text, tools, the session) come out, and at the end one result. What
//! is not understood is passed over: a line of garbage, a line longer than any
//! that matters, an event of a later version. A reader never fails; a run that
//! said no result has none, and is no success (lesson 7).

mod claude;
mod codex;
mod copilot;
mod gemini;
mod lines;
mod opencode;
mod reason;
mod text;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::Format;

pub use reason::Reason;

use lines::Lines;

/// Bytes of an answer that are kept; the run's own output holds the rest.
pub const MOST_ANSWER: usize = 256 * 1024;

/// Characters of what is shown of a tool's call.
const SHOWN: usize = 200;

/// Something that was said.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Part of the model's text.
    Text(String),
    /// A tool was called, or has answered.
    Tool(ToolNews),
    /// The session that this is.
    Session(String),
}

/// A tool was called, or has answered; all of it is foreign text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolNews {
    pub id: String,
    /// Empty where only the id is said.
    pub name: String,
    /// What it was called with, for people.
    pub summary: String,
    /// `None`: it begins. Else whether it succeeded.
    pub done: Option<bool>,
}

/// What came of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PromptResult {
    /// The model's last answer, foreign text; cut at 256 KiB.
    pub response: String,
    /// Bytes of the answer, cut ones included.
    pub response_bytes: u64,
    /// Tokens as the provider counts them, cache and all.
    pub usage: Option<Value>,
    pub cost_usd: Option<f64>,
    pub session_id: Option<String>,
    pub turns: Option<u64>,
    pub is_error: bool,
    pub reason: Option<Reason>,
    /// What the provider says of its failure, foreign text.
    pub message: Option<String>,
}

/// Reads one run's standard output.
pub struct Parser {
    lines: Lines,
    reader: Reader,
    heard: Heard,
}

enum Reader {
    Claude(claude::Reader),
    Codex(codex::Reader),
    Copilot(copilot::Reader),
    Gemini(gemini::Reader),
    Opencode(opencode::Reader),
    Text(text::Reader),
}

/// What was heard so far; the readers fill it.
#[derive(Default)]
struct Heard {
    pieces: Vec<Piece>,
    session: Option<String>,
    answer: Answer,
    usage: Option<Value>,
    cost_usd: Option<f64>,
    turns: Option<u64>,
    /// The program said that it is done, and how.
    finished: Option<bool>,
    /// What it said last of a failure, and the HTTP status it met, if it said so.
    failure: Option<(Option<u16>, String)>,
    /// It said itself what kind of failure it is.
    reason: Option<Reason>,
    /// Some text was told, and what comes next is another message.
    apart: Apart,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Apart {
    /// Nothing was told yet.
    #[default]
    Nothing,
    Within,
    Between,
}

/// A text that may be longer than is kept.
#[derive(Default)]
struct Answer {
    text: String,
    bytes: u64,
}

impl Parser {
    pub fn new(format: Format) -> Self {
        let reader = match format {
            Format::Claude => Reader::Claude(claude::Reader::default()),
            Format::Codex => Reader::Codex(codex::Reader),
            Format::Copilot => Reader::Copilot(copilot::Reader::default()),
            Format::Gemini => Reader::Gemini(gemini::Reader),
            Format::Opencode => Reader::Opencode(opencode::Reader),
            Format::Text => Reader::Text(text::Reader::default()),
        };
        Self { lines: Lines::default(), reader, heard: Heard::default() }
    }

    /// Takes the next bytes, cut anywhere, and returns what they say.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let Self { lines, reader, heard } = self;
        if let Reader::Text(text) = reader {
            text.bytes(bytes, heard);
        } else {
            lines.feed(bytes, |line| read_line(reader, line, heard));
        }
        std::mem::take(&mut self.heard.pieces)
    }

    /// Takes the end: a last line without its newline counts.
    pub fn end(&mut self) -> Vec<Piece> {
        let Self { lines, reader, heard } = self;
        if let Reader::Text(text) = reader {
            text.end(heard);
        } else {
            lines.end(|line| read_line(reader, line, heard));
        }
        std::mem::take(&mut self.heard.pieces)
    }

    /// What came of it. `exit_zero`: the program ended with status 0; `complaint`
    /// is what it said elsewhere, for when it said nothing here.
    pub fn result(self, exit_zero: bool, complaint: &str) -> PromptResult {
        let heard = self.heard;
        let said_text = matches!(self.reader, Reader::Text(_));
        let finished = heard.finished.unwrap_or(said_text && heard.answer.bytes > 0 && exit_zero);
        let is_error = !(finished && exit_zero) || heard.answer.bytes == 0;
        let (status, message) = match heard.failure {
            Some((status, message)) => (status, message),
            None => (None, complaint.to_owned()),
        };
        let reason = is_error.then(|| {
            heard.reason.or_else(|| reason::of(status, &message)).unwrap_or(match exit_zero {
                true => Reason::EmptyResponse,
                false => Reason::NonzeroExit,
            })
        });
        PromptResult {
            response: heard.answer.text,
            response_bytes: heard.answer.bytes,
            usage: heard.usage,
            cost_usd: heard.cost_usd,
            session_id: heard.session,
            turns: heard.turns,
            is_error,
            reason,
            message: (is_error && !message.is_empty())
                .then(|| message.chars().take(2000).collect()),
        }
    }
}

fn read_line(reader: &mut Reader, line: &[u8], heard: &mut Heard) {
    // A warning, a half line, bytes that are no text: not for us.
    let Ok(value) = serde_json::from_slice::<Value>(line) else { return };
    match reader {
        Reader::Claude(reader) => reader.event(&value, heard),
        Reader::Codex(reader) => reader.event(&value, heard),
        Reader::Copilot(reader) => reader.event(&value, heard),
        Reader::Gemini(reader) => reader.event(&value, heard),
        Reader::Opencode(reader) => reader.event(&value, heard),
        Reader::Text(_) => {}
    }
}

impl Heard {
    /// Tells text. Messages are told apart by an empty line.
    fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let apart = if self.apart == Apart::Between { "\n\n" } else { "" };
        self.apart = Apart::Within;
        self.pieces.push(Piece::Text(format!("{apart}{text}")));
    }

    /// What text comes next belongs to another message.
    fn message_ends(&mut self) {
        if self.apart == Apart::Within {
            self.apart = Apart::Between;
        }
    }

    fn session(&mut self, id: &Value) {
        let Some(id) = id.as_str().filter(|id| is_session_id(id)) else { return };
        if self.session.as_deref() != Some(id) {
            self.session = Some(id.to_owned());
            self.pieces.push(Piece::Session(id.to_owned()));
        }
    }

    fn tool(&mut self, id: &Value, name: &Value, input: &Value, done: Option<bool>) {
        let short = |value: &Value| value.as_str().unwrap_or_default().chars().take(64).collect();
        let summary = summary(input);
        self.message_ends();
        let news = ToolNews { id: short(id), name: short(name), summary, done };
        self.pieces.push(Piece::Tool(news));
    }

    fn fails(&mut self, status: &Value, message: &Value) {
        let status = status.as_u64().and_then(|status| u16::try_from(status).ok());
        let message = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
        self.failure = Some((status, message.chars().take(2000).collect()));
    }
}

impl Answer {
    fn set(&mut self, text: &str) {
        *self = Self::default();
        self.add(text);
    }

    fn add(&mut self, text: &str) {
        self.bytes += text.len() as u64;
        let room = MOST_ANSWER.saturating_sub(self.text.len());
        self.text.push_str(&text[..text.floor_char_boundary(room.min(text.len()))]);
    }
}

/// Whether a session id may stand on a command line and in our own records.
pub fn is_session_id(id: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=128).contains(&id.len()) && !id.starts_with(['-', '.']) && id.chars().all(plain)
}

/// The part of a tool's input that says most, for people.
fn summary(input: &Value) -> String {
    const TELLING: [&str; 8] =
        ["command", "cmd", "file_path", "path", "pattern", "query", "url", "description"];
    let told = TELLING.iter().find_map(|key| input[key].as_str());
    let any = || input.as_object()?.values().find_map(Value::as_str);
    let text = input.as_str().or(told).or_else(any).unwrap_or_default();
    text.lines().next().unwrap_or_default().chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests;
