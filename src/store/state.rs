//! What the writer tells everybody else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::StoreError;
use super::fault::Failure;
use super::journal::{JournalState, Resume};
use crate::model::{Cursor, Epoch};

/// The writer's state as others see it; changed by the writer thread alone.
pub struct State {
    position: Mutex<Position>,
    /// Earlier epochs with the last position that was still there when each ended.
    earlier: Vec<(Epoch, u64)>,
    degraded: AtomicBool,
    full: AtomicBool,
    failure: watch::Sender<Option<Failure>>,
    source: String,
}

#[derive(Clone, Copy)]
struct Position {
    head: Cursor,
    oldest: u64,
    events: u64,
    bytes: u64,
}

impl From<&JournalState> for Position {
    fn from(journal: &JournalState) -> Self {
        Self {
            head: journal.head(),
            oldest: journal.oldest,
            events: journal.events,
            bytes: journal.bytes,
        }
    }
}

impl State {
    pub fn new(journal: &JournalState, earlier: Vec<(Epoch, u64)>, source: String) -> Self {
        Self {
            position: Mutex::new(journal.into()),
            earlier,
            degraded: AtomicBool::new(false),
            full: AtomicBool::new(false),
            failure: watch::Sender::new(None),
            source,
        }
    }

    pub fn moved(&self, journal: &JournalState) {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = journal.into();
    }

    pub fn set_degraded(&self, degraded: bool) {
        self.degraded.store(degraded, Ordering::Relaxed);
    }

    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// The store gives up; everybody who waits for it is told.
    pub fn fail(&self, failure: Failure) {
        self.set_degraded(true);
        self.failure.send_replace(Some(failure));
    }

    pub fn resume(&self, cursor: Cursor) -> Resume {
        let Position { head, oldest, .. } = self.position();
        // One before the oldest held event: exclusive, like every cursor.
        let floor = oldest.saturating_sub(1);
        if cursor.epoch == head.epoch {
            return match cursor.seq {
                seq if seq > head.seq => Resume::Future,
                seq if seq >= floor => Resume::After(seq),
                _ => Resume::Gap {
                    from: cursor,
                    to: Cursor { seq: floor, ..head },
                    reason: "retention",
                },
            };
        }
        let held = self.earlier.iter().find(|(epoch, _)| *epoch == cursor.epoch);
        let seen = held.map_or(0, |(_, last)| cursor.seq.min(*last));
        Resume::Gap { from: cursor, to: Cursor { seq: seen.max(floor), ..head }, reason: "epoch" }
    }

    fn position(&self) -> Position {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn head(&self) -> Cursor {
        self.position().head
    }

    pub fn oldest(&self) -> u64 {
        self.position().oldest
    }

    pub fn events(&self) -> u64 {
        self.position().events
    }

    pub fn bytes(&self) -> u64 {
        self.position().bytes
    }

    pub fn is_degraded(&self) -> bool {
        self.degraded.load(Ordering::Relaxed)
    }

    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// Why a request got no answer: the thread that would have given it is gone.
    pub fn gone(&self) -> StoreError {
        match &*self.failure.borrow() {
            Some(_) => StoreError::Degraded,
            None => StoreError::Closed,
        }
    }

    /// Resolves when the store gave up.
    pub async fn failed(&self) -> StoreError {
        let mut failure = self.failure.subscribe();
        // The sender lives in `self`, so this ends with a failure or never.
        match failure.wait_for(Option::is_some).await {
            Ok(failure) => failure.as_ref().map_or(StoreError::Closed, Failure::to_error),
            Err(_) => StoreError::Closed,
        }
    }
}
