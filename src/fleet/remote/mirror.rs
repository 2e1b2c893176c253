//! The local run directory as the mirror of the member's.
//!
//! Offsets are lengths: what is held here of a stream is where the next channel
//! begins to send, so a cut costs nothing and repeats nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use bytes::Bytes;

use super::report::Ending;
use crate::fleet::drive::blocking;
use crate::fleet::plan::{Cause, Count, Status};
use crate::fleet::rundir::RunDir;
use crate::model::{Exit, OutputStream, Timestamp};

const STREAMS: [OutputStream; 2] = [OutputStream::Stdout, OutputStream::Stderr];

/// What is held here of a run's output.
pub struct Mirror {
    dir: RunDir,
    streams: [Stream; 2],
}

struct Stream {
    file: Arc<File>,
    held: u64,
    /// No more than this is kept; lowered when the disk is full.
    cap: u64,
}

impl Mirror {
    /// Opens what an earlier daemon may have begun.
    pub fn open(dir: &RunDir, cap: u64) -> io::Result<Self> {
        let open = |stream: OutputStream| {
            let mut options = OpenOptions::new();
            let file =
                options.append(true).create(true).mode(0o600).open(dir.file(stream.as_str()))?;
            let held = file.metadata()?.len();
            Ok::<_, io::Error>(Stream { file: Arc::new(file), held, cap })
        };
        Ok(Self { dir: dir.clone(), streams: [open(STREAMS[0])?, open(STREAMS[1])?] })
    }

    /// Where the next bytes begin, for a script: `-` if none are wanted.
    pub fn offset(&self, at: usize) -> String {
        let stream = &self.streams[at];
        if stream.held >= stream.cap { String::from("-") } else { stream.held.to_string() }
    }

    /// Takes the next bytes of a stream, up to the cap. A full disk cuts them,
    /// from here on.
    pub async fn take(&mut self, at: usize, bytes: Bytes) {
        let stream = &mut self.streams[at];
        let room = usize::try_from(stream.cap - stream.held.min(stream.cap)).unwrap_or(usize::MAX);
        let bytes = bytes.slice(..bytes.len().min(room));
        if bytes.is_empty() {
            return;
        }
        let (file, length) = (Arc::clone(&stream.file), bytes.len() as u64);
        if blocking(move || (&*file).write_all(&bytes)).await.is_ok() {
            stream.held += length;
        } else {
            stream.held = stream.file.metadata().map_or(stream.held, |meta| meta.len());
            stream.cap = stream.held;
        }
    }

    /// Bytes that are still to be fetched of a run that ended so.
    pub fn missing(&self, end: &Ending) -> u64 {
        let missing = |at: usize| {
            end.kept[at].min(self.streams[at].cap).saturating_sub(self.streams[at].held)
        };
        missing(0) + missing(1)
    }

    /// The status of a run whose output is here, to be written.
    pub fn settling(&self, end: &Ending, pid: Option<u32>) -> Settling {
        let ended = Timestamp::now();
        let count = |at: usize| {
            let held = self.streams[at].held;
            Count { kept: held, cut: (end.kept[at] + end.cut[at]).saturating_sub(held) }
        };
        let begun = end.outlived.is_some() || end.code.is_some() && !end.missing;
        let duration = i64::try_from(end.duration_ms).unwrap_or(i64::MAX);
        let status = Status {
            exit: end.code.filter(|_| !end.missing).map(Exit::of_shell),
            cause: if end.missing { Some(Cause::NotStarted) } else { end.cause },
            detail: end
                .missing
                .then(|| String::from("there is no such program on the PATH of the member")),
            pid: end.outlived.or(pid).filter(|_| begun),
            started_ms: begun.then(|| ended.millis().saturating_sub(duration)),
            ended_ms: ended.millis(),
            duration_ms: end.duration_ms,
            stdout: count(0),
            stderr: count(1),
        };
        Settling { dir: self.dir.clone(), status }
    }
}

/// A status that is not written yet.
pub struct Settling {
    dir: RunDir,
    status: Status,
}

impl Settling {
    /// Writes and returns it; that waits for the disk.
    pub fn write(&self) -> io::Result<Status> {
        let status = &self.status;
        for (at, cut) in [status.stdout.cut, status.stderr.cut].into_iter().enumerate() {
            if cut > 0 {
                let name = format!("{}.cut", STREAMS[at].as_str());
                std::fs::write(self.dir.file(&name), format!("{cut:020}\n"))?;
            }
        }
        self.dir.write_status(status)?;
        Ok(status.clone())
    }
}
