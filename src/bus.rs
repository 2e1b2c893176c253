//! Committed events on their way to whoever waits for them.
//!
//! Theory of operation: the journal is the truth and a subscriber is a cursor.
//! The ring holds the recent past as ready-made frames, bounded in bytes; a
//! [`Subscription`] reads the ring, and the database where the ring no longer
//! reaches, in one loop that knows no difference between replay and live. There
//! is no queue per subscriber, so a slow reader costs nothing and loses nothing;
//! what retention took from it, it is told as a [`Gap`].
//!
//! Every subscription stands in the interest index. The publisher marks, under
//! the same lock that makes an event visible, the first pending position of
//! those whose filter matches, and wakes only them: an event costs O(matching).
//! A caught-up subscription without a mark may therefore skip to the head.
//!
//! Signals ([`crate::model::Signal`]) take the same index and a short queue that
//! drops its oldest: they pass, and are read back elsewhere.

mod batch;
mod index;
mod named;
mod ring;
mod subscription;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::{Cursor, ErrorCode, Filter, Signal};
use crate::store::{CommitHook, CommittedBatch, Resume, Store, StoreError};
use crate::wire::encode_signal;

pub use batch::{Chunk, EventView};
pub use subscription::{Delivery, Gap, Subscription};

use batch::Batch;
use index::Index;
use ring::Ring;
use subscription::Interest;

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After the newest event: only what happens from now on.
    Now,
    /// With the oldest event that is held.
    Oldest,
    /// After this position.
    After(Cursor),
}

/// Why a subscription could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error(
        "cursor {cursor} lies after the newest event {head}; use a cursor that this daemon gave out"
    )]
    Future { cursor: Cursor, head: Cursor },
    #[error("'as' has to be 1 to 64 of a-z A-Z 0-9 . _ - and begin with a letter or digit")]
    Name,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BusError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Future { .. } => ErrorCode::CursorInFuture,
            Self::Name => ErrorCode::InvalidArgument,
            Self::Store(error) => error.code(),
        }
    }
}

/// The part of the bus that the store's commit hook feeds. It exists before the
/// store does; [`Bus::new`] joins the two.
#[derive(Clone)]
pub struct Feed(Arc<Core>);

struct Core {
    state: Mutex<State>,
    published: AtomicU64,
}

/// Everything that has to be seen as one: an event is in the ring, counted in
/// the head and marked with those it interests, or none of these.
struct State {
    head: Cursor,
    ring: Ring,
    index: Index,
    next_id: u64,
}

/// Counters for `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusStats {
    pub subscriptions: usize,
    pub ring_bytes: usize,
    pub ring_events: usize,
    /// Events published since the start.
    pub published: u64,
}

/// The bus; clones share it.
#[derive(Clone)]
pub struct Bus {
    core: Arc<Core>,
    store: Store,
}

impl Feed {
    /// A feed whose ring holds at most about `ring_bytes` bytes of frames.
    pub fn new(ring_bytes: usize) -> Self {
        let state = State {
            head: Cursor { epoch: crate::model::Epoch(0), seq: 0 },
            ring: Ring::new(ring_bytes),
            index: Index::default(),
            next_id: 1,
        };
        Self(Arc::new(Core { state: Mutex::new(state), published: AtomicU64::new(0) }))
    }

    /// What the store calls after each commit.
    pub fn hook(&self) -> CommitHook {
        let core = Arc::clone(&self.0);
        Arc::new(move |batch| core.publish(batch))
    }
}

impl Core {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is changed by whole steps only; a panic elsewhere cannot tear it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, committed: CommittedBatch) {
        let Some(last) = committed.events.last() else { return };
        let head = Cursor { epoch: committed.epoch, seq: last.seq };
        self.published.fetch_add(committed.events.len() as u64, Ordering::Relaxed);
        let batch = Arc::new(Batch::of(&committed));
        let mut woken = Vec::new();
        {
            let mut state = self.lock();
            for event in &committed.events {
                let (topic, subject) = (event.topic.as_str(), event.subject.as_str());
                let project = event.project.as_str();
                state.index.each(topic, subject, project, |interest| {
                    // Who is marked already has an earlier event to wake for.
                    if !interest.is_marked()
                        && interest.filter.admits(topic, subject, project, event.severity)
                    {
                        interest.mark(event.seq);
                        woken.push(Arc::clone(interest));
                    }
                });
            }
            state.ring.push(batch);
            state.head = head;
        }
        for interest in woken {
            interest.wake();
        }
    }

    fn signal(&self, signal: &Signal, body: Vec<u8>) {
        let frame = Arc::new(batch::SignalFrame::new(signal.topic.clone(), body));
        let (topic, subject) = (signal.topic.as_str(), signal.subject.as_str());
        let mut woken = Vec::new();
        let project = signal.project.as_str();
        self.lock().index.each(topic, subject, project, |interest| {
            if interest.signals
                && interest.filter.admits(topic, subject, project, signal.severity)
                && interest.offer(&frame)
            {
                woken.push(Arc::clone(interest));
            }
        });
        for interest in woken {
            interest.wake();
        }
    }
}

impl Bus {
    /// Joins a feed with the store that it was hooked into.
    pub fn new(feed: Feed, store: Store) -> Self {
        let bus = Self { core: feed.0, store };
        let head = bus.store.head();
        let mut state = bus.core.lock();
        if state.head.seq < head.seq || state.head.epoch != head.epoch {
            state.head = head;
        }
        drop(state);
        bus
    }

    /// Begins a subscription. With `signals` it also receives what passes.
    ///
    /// # Errors
    /// [`BusError::Future`] if `start` lies after the newest event.
    pub fn subscribe(
        &self,
        filter: Filter,
        start: Start,
        signals: bool,
    ) -> Result<Subscription, BusError> {
        let mut state = self.core.lock();
        let head = state.head;
        let (after, gap) = match start {
            Start::Now => (head.seq, None),
            Start::Oldest => (self.store.oldest().saturating_sub(1), None),
            Start::After(cursor) => match self.resume_within(cursor, head) {
                Resume::After(seq) => (seq, None),
                Resume::Gap { from, to, reason } => (to.seq, Some(Gap { from, to, reason })),
                Resume::Future => return Err(BusError::Future { cursor, head }),
            },
        };
        let id = state.next_id;
        state.next_id += 1;
        let interest = Arc::new(Interest::new(id, filter, signals));
        state.index.insert(&interest);
        drop(state);
        let at = Cursor { epoch: head.epoch, seq: after };
        Ok(Subscription::new(Arc::clone(&self.core), self.store.clone(), interest, at, gap))
    }

    /// Where a reader at `cursor` goes on from, as [`Store::resume`] says it.
    /// What a subscriber was told of is never from the future.
    pub fn resume(&self, cursor: Cursor) -> Resume {
        self.resume_within(cursor, self.head())
    }

    /// Subscribers are told before the store's own head moves.
    fn resume_within(&self, cursor: Cursor, head: Cursor) -> Resume {
        match self.store.resume(cursor) {
            Resume::Future if cursor.epoch == head.epoch && cursor.seq <= head.seq => {
                Resume::After(cursor.seq)
            }
            resume => resume,
        }
    }

    /// Lets a signal pass to those who are listening now.
    pub fn signal(&self, signal: &Signal) {
        self.core.signal(signal, encode_signal(signal, self.store.source()));
    }

    /// The newest position that subscriptions can see.
    pub fn head(&self) -> Cursor {
        self.core.lock().head
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn stats(&self) -> BusStats {
        let state = self.core.lock();
        BusStats {
            subscriptions: state.index.len(),
            ring_bytes: state.ring.bytes(),
            ring_events: state.ring.events(),
            published: self.core.published.load(Ordering::Relaxed),
        }
    }
}
