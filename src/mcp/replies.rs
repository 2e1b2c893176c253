//! What was said in answer to a POST, kept for a reader whose connection broke.
//!
//! The calls of a session speak into a log, and the POST's stream is a reader of
//! it. A reader that was cut comes back with the last id it saw (`GET` with
//! `Last-Event-ID`) and is given exactly what followed on that stream. Logs are
//! bounded in number, in bytes and in time, and end with the daemon; of what is gone
//! the client is told that it is, never answered with an empty stream, which would
//! make it ask for ever.
//!
//! What is let go is freed: a log that is not kept holds what its reader has not
//! read yet, and nothing when there is none.

mod log;
mod place;
mod shelf;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::session::Nonce;
use crate::model::PrincipalId;
use shelf::Shelf;

pub use log::{Log, Reader};
pub use place::Place;

/// How long a finished answer is kept.
pub const KEEP: Duration = Duration::from_secs(300);

/// How long it is kept once it was read to its end: the last words may have been
/// lost on a connection that broke just then.
pub const KEEP_READ: Duration = Duration::from_secs(30);

/// How long calls go on waiting without a reader: clients come back within
/// seconds, and a wait that nobody waits for has no point.
pub const MISSED: Duration = Duration::from_secs(30);

/// The logs of all sessions.
pub struct Replies {
    shelf: Mutex<Shelf>,
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

impl Replies {
    /// `seed` tells this daemon's streams from those before a restart.
    pub fn new(seed: u64) -> Self {
        Self { shelf: Mutex::default(), next: AtomicU64::new(seed) }
    }

    /// Begins a log in a session of `principal`, for the answer to the request
    /// `asked` if it is to only one.
    pub fn begin(
        &self,
        principal: &PrincipalId,
        session: Nonce,
        asked: Option<&Value>,
    ) -> Arc<Log> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let log = Arc::new(Log::new(number, place::mark(&session, asked)));
        self.lock().put(session, principal, Arc::clone(&log));
        log
    }

    /// Says `message` in `log`. Older answers may have to give way.
    pub fn say(&self, log: &Log, message: Bytes) {
        // Together, or what is counted could be older than what is held.
        let mut shelf = self.lock();
        log.push(message);
        shelf.recount(log.number);
    }

    /// A reader in `session` of what followed `place`.
    pub fn resume(&self, session: Nonce, place: &Place) -> Resumed {
        let shelf = self.lock();
        match shelf.get(place.stream) {
            Some(kept) if kept.session == session => {
                kept.log.read_after(place.seq).map_or(Resumed::Nothing, Resumed::Reader)
            }
            Some(_) => Resumed::Nothing,
            None => Resumed::Gone,
        }
    }

    /// Forgets the log of this number, when its time is over.
    pub fn forget(&self, number: u64) {
        self.lock().remove(number);
    }

    /// Forgets everything of a session that has ended.
    pub fn end(&self, session: Nonce) {
        self.lock().remove_session(&session);
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        // Changed by whole steps only; a panic elsewhere cannot tear it.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::shelf::{OF_ALL, OF_PRINCIPAL, OF_SESSION};
    use super::*;
    use std::sync::Weak;

    const SESSION: Nonce = [1; 16];
    const MIB: usize = 1024 * 1024;

    fn owner() -> PrincipalId {
        "owner".into()
    }

    fn session(n: usize) -> Nonce {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&(n as u64).to_le_bytes());
        nonce
    }

    fn resume(replies: &Replies, session: Nonce, stream: u64, seq: u64) -> Option<Reader> {
        let place = Place::parse(&format!("p{stream:x}:{seq}")).unwrap();
        match replies.resume(session, &place) {
            Resumed::Reader(reader) => Some(reader),
            Resumed::Nothing | Resumed::Gone => None,
        }
    }

    /// An answer of `bytes` that nobody has read, held by `replies` alone.
    fn answered(replies: &Replies, who: &PrincipalId, session: Nonce, bytes: usize) -> Weak<Log> {
        let log = replies.begin(who, session, None);
        replies.say(&log, Bytes::from(vec![b'x'; bytes]));
        log.finish();
        Arc::downgrade(&log)
    }

    #[tokio::test]
    async fn what_followed_is_given_once_and_only_in_its_session() {
        let replies = Replies::new(40);
        let log = replies.begin(&owner(), SESSION, None);
        replies.say(&log, Bytes::from_static(b"a"));
        replies.say(&log, Bytes::from_static(b"b"));
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
        let log = replies.begin(&owner(), SESSION, None);
        let mut older = log.read_after(0).unwrap();
        let mut newer = resume(&replies, SESSION, 0, 0).unwrap();
        replies.say(&log, Bytes::from_static(b"a"));
        assert_eq!(older.next().await, None);
        assert_eq!(newer.next().await, Some((1, Bytes::from_static(b"a"))));
    }

    #[test]
    fn what_gives_way_or_has_ended_is_freed() {
        let replies = Replies::new(0);
        let logs: Vec<_> = (0..10).map(|_| answered(&replies, &owner(), SESSION, MIB)).collect();
        let alive = |logs: &[Weak<Log>]| logs.iter().filter(|log| log.strong_count() > 0).count();
        assert_eq!(alive(&logs), OF_SESSION.bytes / MIB, "the oldest went");
        assert!(resume(&replies, SESSION, 0, 0).is_none());
        assert!(resume(&replies, SESSION, 9, 0).is_some());
        replies.end(SESSION);
        assert_eq!(alive(&logs), 0);
        assert_eq!(replies.lock().held(), (0, 0));
    }

    #[test]
    fn small_answers_in_many_sessions_are_bounded_too() {
        let replies = Replies::new(0);
        for n in 0..OF_PRINCIPAL.logs * 3 {
            answered(&replies, &owner(), session(n), 1);
        }
        assert_eq!(replies.lock().held().0, OF_PRINCIPAL.logs);
    }

    #[tokio::test]
    async fn one_principals_flood_takes_no_answer_from_another() {
        let replies = Replies::new(0);
        answered(&replies, &"token/quiet".into(), SESSION, MIB);
        for n in 0..400 {
            let who = PrincipalId::from(format!("token/{}", n % 8));
            answered(&replies, &who, session(n + 10), MIB);
        }
        let (logs, bytes) = replies.lock().held();
        assert!(bytes <= OF_ALL.bytes && bytes > OF_ALL.bytes / 2, "{logs} logs, {bytes} bytes");
        let mut reader = resume(&replies, SESSION, 0, 0).unwrap();
        assert_eq!(reader.next().await.unwrap().1.len(), MIB);
    }

    #[tokio::test]
    async fn a_call_under_way_is_kept_no_more_but_its_reader_reads_on() {
        let replies = Replies::new(0);
        let read = replies.begin(&owner(), SESSION, None);
        let unread = replies.begin(&owner(), SESSION, None);
        let mut reader = read.read_after(0).unwrap();
        replies.say(&read, Bytes::from_static(b"a"));
        replies.say(&read, Bytes::from_static(b"b"));
        replies.say(&unread, Bytes::from_static(b"a"));
        assert_eq!(reader.next().await, Some((1, Bytes::from_static(b"a"))));
        replies.end(SESSION);
        assert_eq!((read.bytes(), unread.bytes()), (1, 0));
        replies.say(&read, Bytes::from_static(b"c"));
        replies.say(&unread, Bytes::from_static(b"b"));
        assert_eq!(unread.bytes(), 0, "nobody can come for it");
        assert_eq!(reader.next().await, Some((2, Bytes::from_static(b"b"))));
        assert_eq!(reader.next().await, Some((3, Bytes::from_static(b"c"))));
        assert_eq!(read.bytes(), 0);
        drop(reader);
        replies.say(&read, Bytes::from_static(b"d"));
        assert_eq!(read.bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_to_its_end_is_kept_for_a_shorter_time() {
        let replies = Replies::new(0);
        let log = replies.begin(&owner(), SESSION, None);
        replies.say(&log, Bytes::from_static(b"a"));
        log.finish();
        let begun = tokio::time::Instant::now();
        let mut reader = log.read_after(0).unwrap();
        while reader.next().await.is_some() {}
        log.time().over().await;
        assert!(begun.elapsed() < KEEP_READ * 2, "{:?}", begun.elapsed());
        let unread = replies.begin(&owner(), SESSION, None);
        unread.finish();
        let begun = tokio::time::Instant::now();
        unread.time().over().await;
        assert!(begun.elapsed() >= KEEP);
    }
}
