//! What a command wrote: pages of it, its last lines, and live frames.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::prompts::{Telling, Told};
use super::rundir::RunDir;
use crate::bus::Bus;
use crate::model::{OutputStream, Project, RunId, Severity, Signal, TaskId, Topic};

const STREAMS: [OutputStream; 2] = [OutputStream::Stdout, OutputStream::Stderr];

/// A part of a stream's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPage {
    /// Whose bytes these are; the next run of a task begins at 0 again.
    pub run: RunId,
    pub bytes: Bytes,
    /// Position of the first byte in the stream.
    pub offset: u64,
    /// Bytes the command wrote so far that are kept.
    pub kept: u64,
    /// Bytes dropped because of the cap.
    pub cut: u64,
    /// The task has ended: no more will come.
    pub ended: bool,
}

/// Least time between two frames of one task: 20 a second.
const SPACING: Duration = Duration::from_millis(50);

/// Bytes of text in one frame.
const FRAME: usize = 16 * 1024;

/// How far frames may be behind the files before they skip ahead.
const BEHIND: u64 = 4 * FRAME as u64;

/// Bounds of `last_lines` in the terminal event.
const LAST_BYTES: u64 = 4 * 1024;
const LAST_LINES: usize = 20;

/// Reads at most `most` bytes of a stream from `offset`. A run that has no
/// such file (not begun, or swept) has an empty stream.
pub fn page(
    dir: &RunDir,
    run: RunId,
    stream: OutputStream,
    offset: u64,
    most: usize,
    ended: bool,
) -> io::Result<OutputPage> {
    let (kept, cut) = dir.counts(stream);
    let length = usize::try_from(kept.saturating_sub(offset)).unwrap_or(usize::MAX).min(most);
    let bytes = match File::open(dir.file(stream.as_str())) {
        Ok(file) => read_at(&file, offset, length)?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(OutputPage { run, bytes: Bytes::from(bytes), offset, kept, cut, ended })
}

/// The end of what was said: of stderr if `failed` and it has any, else of
/// stdout, else of the other.
pub fn last_lines(dir: &RunDir, failed: bool) -> Vec<String> {
    let order = if failed {
        [OutputStream::Stderr, OutputStream::Stdout]
    } else {
        [OutputStream::Stdout, OutputStream::Stderr]
    };
    order.into_iter().map(|stream| tail(dir, stream)).find(|t| !t.is_empty()).unwrap_or_default()
}

/// The last lines of one stream.
pub fn tail(dir: &RunDir, stream: OutputStream) -> Vec<String> {
    let (kept, _) = dir.counts(stream);
    let from = kept.saturating_sub(LAST_BYTES);
    let length = usize::try_from(kept - from).unwrap_or(0);
    let bytes = File::open(dir.file(stream.as_str())).and_then(|file| read_at(&file, from, length));
    let bytes = bytes.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    if from > 0 && lines.len() > 1 {
        // Begins in the middle of a line.
        lines.remove(0);
    }
    let skip = lines.len().saturating_sub(LAST_LINES);
    lines.into_iter().skip(skip).map(str::to_owned).collect()
}

fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Makes `task.output` signals of one run from its files.
pub struct Frames {
    task: TaskId,
    run: String,
    project: Project,
    topic: Topic,
    streams: [Tail; 2],
    /// Of a prompt, what its stdout says is told in place of its bytes.
    prompt: Option<Telling>,
    progress: Topic,
    /// Whose turn it is when both have news.
    turn: usize,
}

/// One stream and how far it was told.
struct Tail {
    stream: OutputStream,
    file: Option<File>,
    told: u64,
}

impl Frames {
    /// `None` if the topic is not in the table, which a test of the table forbids.
    pub fn new(task: TaskId, project: Project, dir: &RunDir) -> Option<Self> {
        let streams = STREAMS.map(|stream| Tail {
            stream,
            file: File::open(dir.file(stream.as_str())).ok(),
            told: 0,
        });
        let topic = Topic::known("task.output").ok()?;
        let progress = Topic::known("task.progress").ok()?;
        let prompt = Telling::of(dir);
        Some(Self { task, run: dir.name(), project, topic, streams, prompt, progress, turn: 0 })
    }

    /// What was written before this daemon came is read back by offset, not told.
    pub fn skip_to_now(&mut self) {
        for tail in &mut self.streams {
            tail.told = tail.length();
        }
        if let Some(prompt) = &mut self.prompt {
            prompt.skip_to_now();
        }
    }

    /// Tells what comes for as long as it is polled.
    pub async fn serve(&mut self, bus: &Bus, mut changed: watch::Receiver<()>) {
        loop {
            changed.mark_unchanged();
            if self.tell_one(bus) {
                tokio::time::sleep(SPACING).await;
            } else if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Tells the rest; the run has ended.
    pub fn finish(&mut self, bus: &Bus) {
        for at in 0..self.streams.len() {
            while self.tell(bus, at, true) {}
        }
    }

    fn tell_one(&mut self, bus: &Bus) -> bool {
        for _ in 0..self.streams.len() {
            let at = self.turn;
            self.turn = (at + 1) % self.streams.len();
            if self.tell(bus, at, false) {
                return true;
            }
        }
        false
    }

    /// Tells the next frame of one stream, if there is one.
    fn tell(&mut self, bus: &Bus, at: usize, ended: bool) -> bool {
        let stream = self.streams[at].stream;
        let told = match &mut self.prompt {
            Some(prompt) if stream == OutputStream::Stdout => prompt.next(FRAME, ended),
            _ => {
                let Some((offset, text)) = self.streams[at].next(ended) else { return false };
                self.output(bus, stream.as_str(), offset, &text);
                return true;
            }
        };
        match told {
            Some(Told::Text(offset, text)) => self.output(bus, "text", offset, &text),
            Some(Told::Tool(news)) => {
                let done = news.done.map(|good| if good { "done" } else { "failed" });
                let data = json!({
                    "tool_id": news.id,
                    "tool": news.name,
                    "summary": news.summary,
                    "state": done.unwrap_or("begun"),
                });
                self.signal(bus, &self.progress, data);
            }
            None => return false,
        }
        true
    }

    fn output(&self, bus: &Bus, stream: &str, offset: u64, text: &str) {
        let data = json!({ "stream": stream, "offset": offset, "text": text });
        self.signal(bus, &self.topic, data);
    }

    fn signal(&self, bus: &Bus, topic: &Topic, mut data: Value) {
        data["task_id"] = json!(self.task);
        data["run_id"] = json!(self.run);
        bus.signal(&Signal {
            topic: topic.clone(),
            subject: self.task.subject(),
            project: self.project.clone(),
            severity: Severity::Debug,
            data,
        });
    }
}

impl Tail {
    fn length(&self) -> u64 {
        self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len())
    }

    /// The next frame's offset and text, if there is news.
    fn next(&mut self, ended: bool) -> Option<(u64, String)> {
        let length = self.length();
        let skip = length.saturating_sub(self.told) > BEHIND;
        if skip {
            self.told = length - FRAME as u64;
        }
        let most = usize::try_from(length - self.told).unwrap_or(FRAME).min(FRAME);
        let bytes = read_at(self.file.as_ref()?, self.told, most).ok()?;
        let begin = if skip { continuation(&bytes) } else { 0 };
        self.told += begin as u64;
        let (text, used) = readable(&bytes[begin..], ended);
        if used == 0 {
            return None;
        }
        let offset = self.told;
        self.told += used as u64;
        Some((offset, text))
    }
}

/// Bytes at the beginning that belong to a character which began earlier.
fn continuation(bytes: &[u8]) -> usize {
    bytes.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count()
}

/// Text of at most [`FRAME`] bytes, and how many of `bytes` it stands for. An
/// incomplete character at the end waits for its rest, unless there is none.
fn readable(bytes: &[u8], ended: bool) -> (String, usize) {
    let mut text = String::new();
    let mut used = 0;
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        let room = FRAME - text.len();
        if valid.len() > room {
            let cut = valid.floor_char_boundary(room);
            text.push_str(&valid[..cut]);
            return (text, used + cut);
        }
        text.push_str(valid);
        used += valid.len();
        let invalid = chunk.invalid();
        let at_end = used + invalid.len() == bytes.len();
        let room = FRAME - text.len() >= 3;
        if invalid.is_empty() || !room || (at_end && !ended && may_go_on(invalid)) {
            break;
        }
        text.push(char::REPLACEMENT_CHARACTER);
        used += invalid.len();
    }
    (text, used)
}

/// Whether more bytes could make a character of these.
fn may_go_on(invalid: &[u8]) -> bool {
    std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_never_cut() {
        let euro = "a€".as_bytes();
        assert_eq!(readable(&euro[..3], false), (String::from("a"), 1));
        assert_eq!(readable(&euro[..3], true), (String::from("a\u{fffd}"), 3));
        assert_eq!(readable(b"a\xffb", false), (String::from("a\u{fffd}b"), 3));
        let long = "€".repeat(FRAME);
        let (text, used) = readable(long.as_bytes(), false);
        assert!(text.len() == used && used <= FRAME && used > FRAME - 3);
    }

    #[test]
    fn text_of_wild_bytes_stays_small() {
        let (text, used) = readable(&[0xff; FRAME], true);
        assert!(text.len() <= FRAME && used == text.len() / 3);
    }

    #[test]
    fn a_skip_begins_at_a_character() {
        assert_eq!(continuation(&"€x".as_bytes()[1..]), 2);
        assert_eq!(continuation(b"plain"), 0);
    }
}
