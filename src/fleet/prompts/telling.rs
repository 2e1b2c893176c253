//! Telling a prompt's text and tools while they come.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::super::providers::{Parser, Piece, ToolNews};
use super::super::rundir::RunDir;
use crate::model::OutputStream;

/// Read at once.
const PIECE: usize = 64 * 1024;

/// Untold text beyond this is skipped; who wants it reads it back by its offset.
const BEHIND: usize = 64 * 1024;

/// Something to be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Bytes of text before it, and the text.
    Text(u64, String),
    Tool(ToolNews),
}

/// How far a prompt's output was read and told.
pub struct Telling {
    file: Option<File>,
    parser: Parser,
    read: u64,
    /// What comes before this was written before anybody could be told.
    silent: u64,
    /// Bytes of text that were told or skipped.
    text: u64,
    pending: VecDeque<Piece>,
    ended: bool,
}

impl Telling {
    /// `None` if the run is a command's.
    pub fn of(dir: &RunDir) -> Option<Self> {
        let prompt = dir.prompt()?;
        Some(Self {
            file: File::open(dir.file(OutputStream::Stdout.as_str())).ok(),
            parser: Parser::new(prompt.format),
            read: 0,
            silent: 0,
            text: 0,
            pending: VecDeque::new(),
            ended: false,
        })
    }

    /// What was written before now is read, but not told.
    pub fn skip_to_now(&mut self) {
        let length = self.file.as_ref().and_then(|file| file.metadata().ok());
        self.silent = length.map_or(0, |about| about.len());
    }

    /// The next thing to tell, with at most `most` bytes of text. `ended`: the
    /// run has, and no more will be written.
    pub fn next(&mut self, most: usize, ended: bool) -> Option<Told> {
        loop {
            match self.pending.pop_front() {
                Some(Piece::Text(text)) => return Some(self.tell(text, most)),
                Some(Piece::Tool(news)) => return Some(Told::Tool(news)),
                Some(Piece::Session(_)) => {}
                None if !self.read_on(ended) => return None,
                None => {}
            }
        }
    }

    fn tell(&mut self, mut text: String, most: usize) -> Told {
        // What came close together is told together.
        while let Some(Piece::Text(more)) = self.pending.front() {
            text.push_str(more);
            self.pending.pop_front();
        }
        if text.len() > BEHIND {
            let skip = text.ceil_char_boundary(text.len() - most);
            self.text += skip as u64;
            text.drain(..skip);
        }
        let rest = text.split_off(text.floor_char_boundary(most.min(text.len())));
        if !rest.is_empty() {
            self.pending.push_front(Piece::Text(rest));
        }
        let offset = self.text;
        self.text += text.len() as u64;
        Told::Text(offset, text)
    }

    /// Whether there is something new to look at.
    fn read_on(&mut self, ended: bool) -> bool {
        let mut bytes = vec![0; PIECE];
        let most = match usize::try_from(self.silent.saturating_sub(self.read)) {
            Ok(left @ 1..PIECE) => left,
            _ => PIECE,
        };
        let read = self.file.as_ref().map(|file| file.read_at(&mut bytes[..most], self.read));
        let pieces = match read {
            Some(Ok(count @ 1..)) => {
                self.read += count as u64;
                self.parser.feed(&bytes[..count])
            }
            _ if ended && !std::mem::replace(&mut self.ended, true) => self.parser.end(),
            _ => return false,
        };
        if self.read <= self.silent {
            let length = |piece: &Piece| match piece {
                Piece::Text(text) => text.len() as u64,
                _ => 0,
            };
            self.text += pieces.iter().map(length).sum::<u64>();
        } else {
            self.pending.extend(pieces);
        }
        true
    }
}
