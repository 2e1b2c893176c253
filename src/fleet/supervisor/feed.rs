//! Standard input that comes piece by piece: from the growing file `stdin`
//! into the command's pipe.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::poll::PollFlags;

use super::super::rundir::{RunDir, create};
use super::capture::nonblocking;

const CHUNK: usize = 64 * 1024;

/// The daemon appends to the file; we follow. How far we got stands in
/// `stdin.taken`, which bounds what the daemon lets pile up.
pub struct Feed {
    input: Input,
    pipe: File,
    /// Read from the file so far.
    offset: u64,
    /// Read, but not yet taken by the command.
    pending: Vec<u8>,
}

/// The files of an input, opened before the command begins.
pub struct Input {
    dir: RunDir,
    file: File,
    taken: File,
}

impl Input {
    pub fn open(dir: &RunDir) -> io::Result<Self> {
        Ok(Self {
            dir: dir.clone(),
            file: File::open(dir.file("stdin"))?,
            taken: create(&dir.file("stdin.taken"))?,
        })
    }
}

impl Feed {
    pub fn new(input: Input, pipe: OwnedFd) -> Option<Self> {
        Some(Self { input, pipe: nonblocking(pipe)?, offset: 0, pending: Vec::new() })
    }

    /// Moves what can be moved. `false`: the input is closed, drop this.
    pub fn push(&mut self) -> bool {
        let before = self.consumed();
        let open = self.advance();
        if self.consumed() != before {
            let line = format!("{:020}\n", self.consumed());
            let _ = self.input.taken.write_all_at(line.as_bytes(), 0);
        }
        if !open {
            let _ = self.input.dir.mark("stdin.closed");
        }
        open
    }

    /// What to wait for. Without pending bytes only the other end's closing.
    pub fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let flags = if self.pending.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        Some((self.pipe.as_fd(), flags))
    }

    fn consumed(&self) -> u64 {
        self.offset - self.pending.len() as u64
    }

    fn advance(&mut self) -> bool {
        loop {
            if self.pending.is_empty() {
                // Asked for before reading: the mark is made after the last byte.
                let ended = self.input.dir.has("stdin.end");
                match self.fill() {
                    Ok(0) => return !ended && !self.is_abandoned(),
                    Ok(_) => {}
                    Err(_) => return false,
                }
            }
            match self.pipe.write(&self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                // The command closed its input, which is its right.
                Err(_) => return false,
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.pending.resize(CHUNK, 0);
        let count = self.input.file.read_at(&mut self.pending, self.offset);
        self.pending.truncate(*count.as_ref().unwrap_or(&0));
        self.offset += self.pending.len() as u64;
        count
    }

    /// Whether the command closed its end while we had nothing for it.
    fn is_abandoned(&self) -> bool {
        let mut wait = [nix::poll::PollFd::new(self.pipe.as_fd(), PollFlags::empty())];
        let _ = nix::poll::poll(&mut wait, nix::poll::PollTimeout::ZERO);
        wait[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
    }
}
