//! One output stream of the command, on its way into its file.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::super::plan::Count;
use super::super::rundir::{RunDir, create};
use crate::model::OutputStream;

/// One read. A pipe holds 64 KiB unless somebody changed it.
const CHUNK: usize = 64 * 1024;

/// Reads in one turn, so that a flood on one stream does not starve the rest.
const TURN: usize = 16;

/// How often the marker of cut bytes is brought up to date while they flow.
const NOTE: Duration = Duration::from_millis(200);

/// Reads a pipe for as long as it is open. After the cap bytes are counted and
/// dropped: a command must never block on, or be killed by, what we keep.
pub struct Capture {
    pipe: Option<File>,
    file: File,
    cap: u64,
    count: Count,
    marker: Marker,
    buffer: Vec<u8>,
}

/// The file that says how many bytes were cut.
struct Marker {
    path: std::path::PathBuf,
    file: Option<(File, Instant)>,
}

impl Capture {
    /// Makes the file. Called before the command begins: it shall not run if
    /// there is nowhere to put what it says.
    pub fn new(dir: &RunDir, stream: OutputStream, cap: u64) -> io::Result<Self> {
        Ok(Self {
            pipe: None,
            file: create(&dir.file(stream.as_str()))?,
            cap,
            count: Count::default(),
            marker: Marker { path: dir.file(&format!("{}.cut", stream.as_str())), file: None },
            buffer: vec![0; CHUNK],
        })
    }

    /// Reads from `pipe` from now on.
    pub fn connect(&mut self, pipe: OwnedFd) {
        self.pipe = nonblocking(pipe);
    }

    /// Takes what is there, for one turn. Returns whether there was anything.
    pub fn pull(&mut self) -> bool {
        let mut any = false;
        for _ in 0..TURN {
            let Some(count) = self.read() else { break };
            self.keep(count);
            any = true;
        }
        any
    }

    /// Takes what is left in the pipe. One turn is as much as a pipe can hold by
    /// default limits (1 MiB), so a child that was left over and writes without
    /// end cannot keep us.
    pub fn pull_all(&mut self) {
        self.pull();
    }

    /// The other end was closed by everybody.
    pub fn is_closed(&self) -> bool {
        self.pipe.is_none()
    }

    pub fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Makes file and marker durable, as far as the disk lets us: how the command
    /// ended is told in any case.
    pub fn finish(&mut self) -> Count {
        if self.count.kept > 0 {
            let _ = self.file.sync_data();
        }
        self.marker.note(self.count.cut, true);
        self.count
    }

    /// Bytes read into the buffer; `None` if there are none now, or ever.
    fn read(&mut self) -> Option<usize> {
        loop {
            match self.pipe.as_mut()?.read(&mut self.buffer) {
                Ok(0) => {
                    self.pipe = None;
                    return None;
                }
                Ok(count) => return Some(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(_) => {
                    self.pipe = None;
                    return None;
                }
            }
        }
    }

    fn keep(&mut self, count: usize) {
        let room = usize::try_from(self.cap - self.count.kept).unwrap_or(usize::MAX);
        let mut kept = 0;
        while kept < count.min(room) {
            match self.file.write(&self.buffer[kept..count.min(room)]) {
                Ok(written) if written > 0 => kept += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The disk is full: what does not fit is cut, from here on, so
                // that offsets stay those of the stream.
                _ => {
                    self.cap = self.count.kept + kept as u64;
                    break;
                }
            }
        }
        self.count.kept += kept as u64;
        self.count.cut += (count - kept) as u64;
        self.marker.note(self.count.cut, false);
    }
}

impl Marker {
    /// Errors are let go: `status` says the same, and the command comes first.
    fn note(&mut self, cut: u64, now: bool) {
        if cut == 0 {
            return;
        }
        let due = self.file.as_ref().is_none_or(|(_, last)| last.elapsed() >= NOTE);
        if !due && !now {
            return;
        }
        if self.file.is_none() {
            self.file = create(&self.path).ok().map(|file| (file, Instant::now()));
        }
        if let Some((file, last)) = &mut self.file {
            let _ = file.write_all_at(format!("{cut:020}\n").as_bytes(), 0);
            *last = Instant::now();
        }
    }
}

/// Only our end: the command's is a file description of its own. `None` if the
/// system refuses, which it has no reason to; one that blocks would block us.
pub fn nonblocking(pipe: OwnedFd) -> Option<File> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(&pipe, FcntlArg::F_GETFL).ok()?);
    fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).ok()?;
    Some(File::from(pipe))
}
