//! Standard input that comes piece by piece, on its way to a member.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bytes::Bytes;

use super::place::{BRIEF, vague};
use super::report::{Word, parse};
use super::script::Script;
use crate::fleet::drive::blocking;
use crate::fleet::rundir::RunDir;
use crate::reach::{Limits, Link, ReachError};

/// The most of one piece.
const PIECE: u64 = 1024 * 1024;

/// Bytes that may lie unread on the member.
const UNREAD: u64 = 1024 * 1024;

/// What is known of a run's input over there.
#[derive(Default)]
pub struct Feed {
    /// Bytes the member holds without a hole; `None` until it was asked.
    held: Option<u64>,
    taken: u64,
    ended: bool,
    pub closed: bool,
}

impl Feed {
    /// After a cut only the member knows what has arrived.
    pub fn forget(&mut self) {
        self.held = None;
    }

    /// Sends what there is and may be sent. `true`: more waits for the command
    /// to read, so look again soon.
    pub async fn push(&mut self, link: &Link, dir: &RunDir) -> Result<bool, ReachError> {
        if self.closed {
            return Ok(false);
        }
        if self.held.is_none() {
            self.send(link, dir, None, false).await?;
        }
        loop {
            // Asked for before reading: the mark is made after the last byte.
            let end = dir.has("stdin.end");
            let held = self.held.unwrap_or(0);
            let Some(piece) = piece(dir, held).await else { return Ok(false) };
            let waiting = held.saturating_sub(self.taken) > UNREAD;
            if self.closed || (end && piece.is_empty() && self.ended) {
                return Ok(false);
            }
            // Whoever sends may wait for what was sent to be read: that is asked for
            // although there is nothing to send now.
            let unread = piece.is_empty() && !end;
            if unread && self.taken >= held {
                return Ok(false);
            }
            if waiting || unread {
                self.send(link, dir, None, false).await?;
                return Ok(true);
            }
            let last = end && (piece.len() as u64) < PIECE;
            self.send(link, dir, Some((held, piece)), last).await?;
            self.ended |= last && self.held.is_some_and(|now| now >= held);
        }
    }

    async fn send(
        &mut self,
        link: &Link,
        dir: &RunDir,
        piece: Option<(u64, Bytes)>,
        end: bool,
    ) -> Result<(), ReachError> {
        let run = dir.name();
        let (offset, bytes) = match piece {
            Some((offset, bytes)) => (offset.to_string(), bytes),
            None => (String::from("-"), Bytes::new()),
        };
        let (length, end) = (bytes.len().to_string(), if end { "1" } else { "0" });
        let command = Script::Input.command(&[&run, &offset, &length, end]);
        let limits = Limits { deadline: Duration::from_secs(120), ..BRIEF };
        // What the cut left over there is asked for before the next piece.
        self.held = None;
        let answer = link.ask(&command, bytes, limits).await?;
        let text = String::from_utf8_lossy(&answer.stdout);
        let word = text.lines().find_map(|line| parse(line, &run));
        let Some(Word::Held { held, taken, closed }) = word else { return Err(vague(link)) };
        self.held = Some(held);
        self.taken = taken;
        self.closed = closed;
        let of = dir.clone();
        // A sender that sees no progress waits; the next look mends it.
        let _ = blocking(move || {
            std::fs::write(of.file("stdin.taken"), format!("{taken:020}\n"))?;
            if closed { of.mark("stdin.closed") } else { Ok(()) }
        })
        .await;
        Ok(())
    }
}

/// Bytes of the local file from `offset` on. `None`: it is gone.
async fn piece(dir: &RunDir, offset: u64) -> Option<Bytes> {
    let path = dir.file("stdin");
    let read = blocking(move || {
        let file = File::open(path)?;
        let length = file.metadata()?.len().saturating_sub(offset).min(PIECE);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    });
    read.await.ok().map(Bytes::from)
}
