//! One channel to a member on which a script speaks: lines first, then bytes.

use bytes::{Bytes, BytesMut};

use super::report::{Word, mark, parse};
use crate::reach::{Chunk, End, Exec, ReachError};

/// Bytes that login files may print before the script's first line.
const NOISE: usize = 256 * 1024;

/// What came.
#[derive(Debug)]
pub enum Said {
    Word(Word),
    Stdout(Bytes),
    Stderr(Bytes),
}

/// A script that runs. Dropping it closes the channel.
pub struct Talk {
    exec: Exec,
    run: String,
    /// Bytes follow the first line, whatever it says.
    short: bool,
    lines: BytesMut,
    raw: bool,
    noise: Option<BytesMut>,
    pending: Option<Said>,
}

impl Talk {
    /// `short`: the script says one line before the bytes. Otherwise they follow
    /// the line with the run's end.
    pub fn new(exec: Exec, run: String, short: bool) -> Self {
        let noise = Some(BytesMut::new());
        Self { exec, run, short, lines: BytesMut::new(), raw: false, noise, pending: None }
    }

    /// The next that it says; `None` when both streams have ended. Cancelling
    /// loses nothing.
    pub async fn next(&mut self) -> Option<Said> {
        loop {
            if let Some(said) = self.pending.take().or_else(|| self.line()) {
                return Some(said);
            }
            match self.exec.next().await? {
                Chunk::Stdout(bytes) if self.raw => return Some(Said::Stdout(bytes)),
                Chunk::Stdout(bytes) if self.lines.len() + bytes.len() <= NOISE => {
                    self.lines.extend_from_slice(&bytes);
                }
                Chunk::Stdout(_) => return None,
                Chunk::Stderr(bytes) => {
                    if let Some(bytes) = self.quiet(bytes) {
                        return Some(Said::Stderr(bytes));
                    }
                }
            }
        }
    }

    /// How the script ended. What is still to come of its output is dropped.
    pub async fn end(self) -> Result<End, ReachError> {
        self.exec.end().await
    }

    /// The next line that is ours among those that came whole.
    fn line(&mut self) -> Option<Said> {
        while !self.raw {
            let at = self.lines.iter().position(|byte| *byte == b'\n')?;
            let line = self.lines.split_to(at + 1);
            let Some(word) = parse(&String::from_utf8_lossy(&line), &self.run) else { continue };
            if self.short || matches!(word, Word::End(_)) {
                self.raw = true;
                let rest = self.lines.split().freeze();
                self.pending = Some(Said::Stdout(rest)).filter(|said| !said.is_empty());
            }
            return Some(Said::Word(word));
        }
        None
    }

    /// Stderr without what comes before the script's own mark.
    fn quiet(&mut self, bytes: Bytes) -> Option<Bytes> {
        let Some(noise) = &mut self.noise else { return Some(bytes) };
        noise.extend_from_slice(&bytes);
        let mark = format!("{}\n", mark(&self.run));
        let found = noise.windows(mark.len()).position(|window| window == mark.as_bytes());
        match found {
            Some(at) => {
                let rest = noise.split_off(at + mark.len()).freeze();
                self.noise = None;
                Some(rest).filter(|rest| !rest.is_empty())
            }
            None => {
                // Only the end of it can still be the beginning of the mark.
                let keep = noise.len().min(NOISE);
                *noise = noise.split_off(noise.len() - keep);
                None
            }
        }
    }
}

impl Said {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Stdout(bytes) | Self::Stderr(bytes) if bytes.is_empty())
    }
}
