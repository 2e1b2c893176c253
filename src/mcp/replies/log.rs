//! One answer's log: what was said, by position, and its one reader.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{KEEP, KEEP_READ, MISSED};

/// Bytes that wait for a reader. Beyond it the oldest notifications go, which
/// only say that a call goes on; a reply is the newest and stays.
const MOST_UNREAD: usize = 2 * 1024 * 1024;

/// What was said, from the first message on.
pub struct Log {
    /// Names the stream within its session.
    pub number: u64,
    /// The last part of its places; see `place`.
    mark: String,
    state: Mutex<State>,
    /// Tells that something was said, or another reader came.
    changed: watch::Sender<()>,
    /// It was read to its end.
    read: CancellationToken,
    /// It is not kept any more.
    gone: CancellationToken,
}

#[derive(Default)]
struct State {
    /// Position of the first entry that is held; the first ever is 1.
    first: u64,
    entries: VecDeque<Bytes>,
    bytes: usize,
    finished: bool,
    /// The number of the newest reader; older ones end.
    reader: u64,
    /// What that one reads next; `None` if it has gone.
    reads: Option<u64>,
    /// Only what is still to be read is held.
    let_go: bool,
}

/// The time for which a finished log is kept. It does not hold the log.
pub struct Time {
    read: CancellationToken,
    gone: CancellationToken,
}

/// Reads a log from a place on.
pub struct Reader {
    log: Arc<Log>,
    changed: watch::Receiver<()>,
    number: u64,
    next: u64,
}

impl Log {
    pub fn new(number: u64, mark: String) -> Self {
        let state = State { first: 1, ..State::default() };
        Self {
            number,
            mark,
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
            read: CancellationToken::new(),
            gone: CancellationToken::new(),
        }
    }

    /// The place behind its message `seq`, as an event's id.
    pub fn place(&self, seq: u64) -> String {
        format!("p{:x}:{seq}{}", self.number, self.mark)
    }

    pub fn push(&self, message: Bytes) {
        let mut state = self.lock();
        state.bytes += message.len();
        state.entries.push_back(message);
        while state.bytes > MOST_UNREAD && state.entries.len() > 1 {
            let gone = state.entries.pop_front().map_or(0, |entry| entry.len());
            state.bytes -= gone;
            state.first += 1;
        }
        state.trim();
        drop(state);
        self.changed.send_replace(());
    }

    /// Ends the reader; another may come for the rest.
    pub fn hang_up(&self) {
        let mut state = self.lock();
        state.reader += 1;
        state.reads = None;
        state.trim();
        drop(state);
        self.changed.send_replace(());
    }

    /// Holds from now on only what its reader, if it has one, is still to read.
    pub fn let_go(&self) {
        let mut state = self.lock();
        state.let_go = true;
        state.trim();
        drop(state);
        self.gone.cancel();
    }

    /// How long it is to be kept, from when it is finished.
    pub fn time(&self) -> Time {
        Time { read: self.read.clone(), gone: self.gone.clone() }
    }

    /// Nothing more will be said.
    pub fn finish(&self) {
        self.lock().finished = true;
        self.changed.send_replace(());
    }

    /// It was read to its end, so that it is not likely to be asked for again.
    pub fn is_read(&self) -> bool {
        self.read.is_cancelled()
    }

    pub fn is_finished(&self) -> bool {
        self.lock().finished
    }

    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// A reader of what follows `seq`; the one before ends. `None` if `seq` was
    /// never given out, or was the last word.
    pub fn read_after(self: &Arc<Self>, seq: u64) -> Option<Reader> {
        let mut state = self.lock();
        let end = state.first + state.entries.len() as u64;
        if seq >= end || (state.finished && seq + 1 == end) {
            return None;
        }
        state.reader += 1;
        let number = state.reader;
        state.reads = Some(seq + 1);
        drop(state);
        self.changed.send_replace(());
        let changed = self.changed.subscribe();
        Some(Reader { log: Arc::clone(self), changed, number, next: seq + 1 })
    }

    /// Returns when nobody has read for [`MISSED`]: who has not come back by then
    /// does not.
    pub async fn abandoned(&self) {
        loop {
            self.changed.closed().await;
            tokio::time::sleep(MISSED).await;
            if self.changed.receiver_count() == 0 {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Changed by whole steps only; a panic elsewhere cannot tear it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Drops what nobody reads any more, if nothing is kept for another reader.
    fn trim(&mut self) {
        let needed = self.reads.unwrap_or(u64::MAX);
        while self.let_go && self.first < needed {
            let Some(gone) = self.entries.pop_front() else { return };
            self.bytes -= gone.len();
            self.first += 1;
        }
    }
}

impl Time {
    /// Returns when it is over.
    pub async fn over(self) {
        let read = async {
            self.read.cancelled().await;
            tokio::time::sleep(KEEP_READ).await;
        };
        tokio::select! {
            () = tokio::time::sleep(KEEP) => {}
            () = read => {}
            () = self.gone.cancelled() => {}
        }
    }
}

impl Reader {
    /// The log that is read.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The next message and its position; `None` at the end, or when another
    /// reader has taken over.
    pub async fn next(&mut self) -> Option<(u64, Bytes)> {
        loop {
            {
                let mut state = self.log.lock();
                if state.reader != self.number {
                    return None;
                }
                // What went meanwhile were notifications.
                let at = self.next.max(state.first);
                let index = usize::try_from(at - state.first).unwrap_or(usize::MAX);
                if let Some(message) = state.entries.get(index).cloned() {
                    self.next = at + 1;
                    state.reads = Some(self.next);
                    state.trim();
                    return Some((at, message));
                }
                if state.finished {
                    self.log.read.cancel();
                    return None;
                }
            }
            self.changed.changed().await.ok()?;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.log.lock();
        if state.reader == self.number {
            state.reads = None;
            state.trim();
        }
    }
}
