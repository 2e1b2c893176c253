//! Events encoded once for all their readers, and the cuts that readers take.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::model::{Cursor, Epoch, Filter, Project, Severity, Topic};
use crate::store::{CommittedBatch, EventRow};
use crate::wire::push_event;

/// Consecutive events as ready-made SSE frames in one piece of memory.
#[derive(Debug)]
pub struct Batch {
    epoch: Epoch,
    frames: Bytes,
    entries: Vec<Entry>,
}

/// Where an event stands in the frames, and what filters look at.
#[derive(Debug)]
struct Entry {
    seq: u64,
    topic: Topic,
    subject: Box<str>,
    project: Project,
    severity: Severity,
    /// Start of the frame; it ends where the next begins.
    start: usize,
    body: Range<usize>,
}

/// A signal's frame, made once.
#[derive(Debug)]
pub struct SignalFrame {
    topic: Topic,
    frame: Bytes,
    body: Range<usize>,
}

/// The part of one batch that a reader takes: entries `range`, all of them.
#[derive(Clone, Debug)]
struct Run {
    batch: Arc<Batch>,
    range: Range<usize>,
}

/// What a reader is given at once: events in order, shared with all other readers.
#[derive(Clone, Debug, Default)]
pub struct Chunk {
    runs: Vec<Run>,
    bytes: usize,
}

/// One event of a chunk.
#[derive(Clone, Debug)]
pub struct EventView<'a> {
    pub cursor: Cursor,
    pub topic: &'a str,
    pub subject: &'a str,
    pub project: &'a Project,
    pub severity: Severity,
    /// The CloudEvent, one line of JSON.
    pub body: Bytes,
}

/// Collects rows of the database into a batch.
pub struct BatchBuilder {
    epoch: Epoch,
    frames: Vec<u8>,
    entries: Vec<Entry>,
}

impl BatchBuilder {
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, frames: Vec::new(), entries: Vec::new() }
    }

    pub fn bytes(&self) -> usize {
        self.frames.len()
    }

    /// Appends a row that passed the filter. `None` if it is not an event that
    /// could have been written here.
    pub fn push(&mut self, row: &EventRow<'_>) -> Option<()> {
        let topic = match self.entries.last() {
            // Neighbours mostly share their topic: save the allocation.
            Some(entry) if entry.topic.as_str() == row.topic => entry.topic.clone(),
            _ => Topic::parse(row.topic).ok()?,
        };
        let project = match self.entries.last() {
            Some(entry) if entry.project.as_str() == row.project => entry.project.clone(),
            _ => Project::parse(row.project).ok()?,
        };
        self.append(row.seq, topic, row.subject.into(), project, row.severity, row.body);
        Some(())
    }

    fn append(
        &mut self,
        seq: u64,
        topic: Topic,
        subject: Box<str>,
        project: Project,
        severity: Severity,
        body: &[u8],
    ) {
        let start = self.frames.len();
        push_event(&mut self.frames, Some(Cursor { epoch: self.epoch, seq }), topic.as_str(), body);
        // The body is followed by the two line feeds that end the frame.
        let end = self.frames.len() - 2;
        let body = end - body.len()..end;
        self.entries.push(Entry { seq, topic, subject, project, severity, start, body });
    }

    pub fn finish(self) -> Batch {
        Batch { epoch: self.epoch, frames: Bytes::from(self.frames), entries: self.entries }
    }
}

impl Batch {
    /// Encodes what a commit appended.
    pub fn of(committed: &CommittedBatch) -> Self {
        let mut builder = BatchBuilder::new(committed.epoch);
        for event in &committed.events {
            builder.append(
                event.seq,
                event.topic.clone(),
                event.subject.as_str().into(),
                event.project.clone(),
                event.severity,
                &event.body,
            );
        }
        builder.finish()
    }

    pub fn first(&self) -> u64 {
        self.entries.first().map_or(0, |entry| entry.seq)
    }

    pub fn last(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.seq)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Memory held, roughly: the frames and what filters look at.
    pub fn bytes(&self) -> usize {
        self.frames.len() + self.entries.len() * (size_of::<Entry>() + 32)
    }

    /// The index of the first entry after position `after`.
    fn index_after(&self, after: u64) -> usize {
        self.entries.partition_point(|entry| entry.seq <= after)
    }

    fn admitted(&self, index: usize, filter: &Filter) -> bool {
        let entry = &self.entries[index];
        filter.admits(entry.topic.as_str(), &entry.subject, entry.project.as_str(), entry.severity)
    }

    fn frame_end(&self, index: usize) -> usize {
        self.entries.get(index + 1).map_or(self.frames.len(), |next| next.start)
    }

    fn frames(&self, range: &Range<usize>) -> Bytes {
        if range.is_empty() {
            return Bytes::new();
        }
        self.frames.slice(self.entries[range.start].start..self.frame_end(range.end - 1))
    }
}

impl Chunk {
    /// All of `batch`.
    pub fn whole(batch: Batch) -> Self {
        let range = 0..batch.len();
        let mut chunk = Self::default();
        chunk.push(&Arc::new(batch), range);
        chunk
    }

    /// What passes `filter` after position `after`, until the chunk has `most`
    /// bytes. Returns it with the last position looked at.
    pub fn cut(batches: &[Arc<Batch>], after: u64, filter: &Filter, most: usize) -> (Self, u64) {
        let mut chunk = Self::default();
        let mut at = after;
        let all = filter.admits_all();
        for batch in batches {
            for index in batch.index_after(at)..batch.len() {
                if all || batch.admitted(index, filter) {
                    chunk.push(batch, index..index + 1);
                }
                at = batch.entries[index].seq;
                if chunk.bytes >= most {
                    return (chunk, at);
                }
            }
        }
        (chunk, at)
    }

    /// Appends entries `range` of `batch`, joining them to the run before if they follow it.
    fn push(&mut self, batch: &Arc<Batch>, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        self.bytes += batch.frame_end(range.end - 1) - batch.entries[range.start].start;
        match self.runs.last_mut() {
            Some(run) if Arc::ptr_eq(&run.batch, batch) && run.range.end == range.start => {
                run.range.end = range.end;
            }
            _ => self.runs.push(Run { batch: Arc::clone(batch), range }),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes of SSE frames.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The frames as shared slices, one for each run of neighbours.
    pub fn frames(&self) -> impl Iterator<Item = Bytes> + '_ {
        self.runs.iter().map(|run| run.batch.frames(&run.range))
    }

    /// The events one by one.
    pub fn events(&self) -> impl Iterator<Item = EventView<'_>> {
        self.runs.iter().flat_map(|run| {
            run.batch.entries[run.range.clone()].iter().map(|entry| EventView {
                cursor: Cursor { epoch: run.batch.epoch, seq: entry.seq },
                topic: entry.topic.as_str(),
                subject: &entry.subject,
                project: &entry.project,
                severity: entry.severity,
                body: run.batch.frames.slice(entry.body.clone()),
            })
        })
    }
}

impl SignalFrame {
    pub fn new(topic: Topic, body: Vec<u8>) -> Self {
        let mut frame = Vec::with_capacity(body.len() + 64);
        push_event(&mut frame, None, topic.as_str(), &body);
        let end = frame.len() - 2;
        Self { topic, body: end - body.len()..end, frame: Bytes::from(frame) }
    }

    /// The SSE frame.
    pub fn frame(&self) -> Bytes {
        self.frame.clone()
    }

    pub fn topic(&self) -> &str {
        self.topic.as_str()
    }

    /// The envelope, one line of JSON.
    pub fn body(&self) -> Bytes {
        self.frame.slice(self.body.clone())
    }
}
