//! What was said in answer to a POST, kept for a reader whose connection broke.
//!
//! The calls of a session speak into a log, and the POST's stream is a reader of
//! it. A reader that was cut comes back with the last id it saw (`GET` with
//! `Last-Event-ID`) and is given exactly what followed on that stream. Logs are
//! bounded in number, in bytes and in time, and end with the daemon; of what is gone
//! the client is told that it is, never answered with an empty stream, which would
//! make it ask for ever.

mod log;
mod place;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::session::Nonce;

pub use log::{Log, Reader};
pub use place::Place;

/// How long a finished answer is kept.
pub const KEEP: Duration = Duration::from_secs(300);

/// How long calls go on waiting without a reader: clients come back within
/// seconds, and a wait that nobody waits for has no point.
pub const MISSED: Duration = Duration::from_secs(30);

/// Answers kept for one session, and bytes of them.
const MOST_OF_SESSION: usize = 64;
const MOST_BYTES_OF_SESSION: usize = 4 * 1024 * 1024;

/// Bytes of answers kept in all.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// The logs of all sessions.
pub struct Replies {
    logs: Mutex<VecDeque<Kept>>,
    next: AtomicU64,
}

/// What there is for a reader that comes back.
pub enum Resumed {
    Reader(Reader),
    /// Nothing can follow, or it is not this reader's.
    Nothing,
    /// No such answer is held, or not any more.
    Gone,
}

/// One log and whose it is, in order of their coming.
struct Kept {
    session: Nonce,
    log: Arc<Log>,
}

impl Replies {
    /// `seed` tells this daemon's streams from those before a restart.
    pub fn new(seed: u64) -> Self {
        Self { logs: Mutex::default(), next: AtomicU64::new(seed) }
    }

    /// Begins a log in `session`, for the answer to the request `asked` if it is
    /// to only one.
    pub fn begin(&self, session: Nonce, asked: Option<&Value>) -> Arc<Log> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let log = Arc::new(Log::new(number, place::mark(&session, asked)));
        let mut logs = self.lock();
        logs.push_back(Kept { session, log: Arc::clone(&log) });
        make_room(&mut logs, session);
        log
    }

    /// A reader in `session` of what followed `place`.
    pub fn resume(&self, session: Nonce, place: &Place) -> Resumed {
        let logs = self.lock();
        match logs.iter().find(|kept| kept.log.number == place.stream) {
            Some(kept) if kept.session == session => {
                kept.log.read_after(place.seq).map_or(Resumed::Nothing, Resumed::Reader)
            }
            Some(_) => Resumed::Nothing,
            None => Resumed::Gone,
        }
    }

    /// Forgets one log, when its time is over.
    pub fn forget(&self, log: &Arc<Log>) {
        self.lock().retain(|kept| !Arc::ptr_eq(&kept.log, log));
    }

    /// Forgets everything of a session that has ended.
    pub fn end(&self, session: Nonce) {
        self.lock().retain(|kept| kept.session != session);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        // Changed by whole steps only; a panic elsewhere cannot tear it.
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops the oldest finished logs until the bounds hold. Those whose calls go on
/// are bounded already, by how many calls may.
fn make_room(logs: &mut VecDeque<Kept>, session: Nonce) {
    let of_session = |kept: &Kept| kept.session == session;
    let bytes = |logs: &VecDeque<Kept>| logs.iter().map(|kept| kept.log.bytes()).sum::<usize>();
    let (mut count, mut own) = (0, 0);
    for kept in logs.iter().filter(|kept| of_session(kept)) {
        count += 1;
        own += kept.log.bytes();
    }
    while count > MOST_OF_SESSION || own > MOST_BYTES_OF_SESSION {
        let oldest = logs.iter().position(|kept| of_session(kept) && kept.log.is_finished());
        let Some(gone) = oldest.and_then(|at| logs.remove(at)) else { break };
        count -= 1;
        own -= gone.log.bytes();
    }
    let mut all = bytes(logs);
    while all > MOST_BYTES {
        let oldest = logs.iter().position(|kept| kept.log.is_finished());
        let Some(gone) = oldest.and_then(|at| logs.remove(at)) else { break };
        all -= gone.log.bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const SESSION: Nonce = [1; 16];

    fn resume(replies: &Replies, session: Nonce, stream: u64, seq: u64) -> Option<Reader> {
        let place = Place::parse(&format!("p{stream:x}:{seq}")).unwrap();
        match replies.resume(session, &place) {
            Resumed::Reader(reader) => Some(reader),
            Resumed::Nothing | Resumed::Gone => None,
        }
    }

    #[tokio::test]
    async fn what_followed_is_given_once_and_only_in_its_session() {
        let replies = Replies::new(40);
        let log = replies.begin(SESSION, None);
        log.push(Bytes::from_static(b"a"));
        log.push(Bytes::from_static(b"b"));
        log.finish();
        assert!(resume(&replies, [2; 16], 40, 1).is_none(), "another session's");
        assert!(resume(&replies, SESSION, 41, 1).is_none(), "another stream");
        assert!(resume(&replies, SESSION, 40, 9).is_none(), "never said");
        let mut reader = resume(&replies, SESSION, 40, 1).unwrap();
        assert_eq!(reader.next().await, Some((2, Bytes::from_static(b"b"))));
        assert_eq!(reader.next().await, None);
        assert!(resume(&replies, SESSION, 40, 2).is_none(), "nothing can follow");
    }

    #[tokio::test]
    async fn a_newer_reader_takes_over() {
        let replies = Replies::new(0);
        let log = replies.begin(SESSION, None);
        let mut older = log.read_after(0).unwrap();
        let mut newer = resume(&replies, SESSION, 0, 0).unwrap();
        log.push(Bytes::from_static(b"a"));
        assert_eq!(older.next().await, None);
        assert_eq!(newer.next().await, Some((1, Bytes::from_static(b"a"))));
    }

    #[test]
    fn memory_is_bounded() {
        let replies = Replies::new(0);
        let big = Bytes::from(vec![b'x'; 1024 * 1024]);
        for _ in 0..10 {
            let log = replies.begin(SESSION, None);
            log.push(big.clone());
            log.finish();
        }
        assert!(resume(&replies, SESSION, 0, 0).is_none(), "the oldest went");
        assert!(resume(&replies, SESSION, 9, 0).is_some());
        let logs = replies.lock();
        let held: usize = logs.iter().map(|kept| kept.log.bytes()).sum();
        assert!(held <= MOST_BYTES_OF_SESSION + big.len(), "{held}");
    }
}
