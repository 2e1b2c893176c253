//! A filter and a cursor, alive as long as its stream.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::batch::{BatchBuilder, Chunk, SignalFrame};
use super::{BusError, Core};
use crate::model::{Cursor, Filter};
use crate::store::Store;

/// Bytes handed out at once. A reader that stops holds one chunk, shared with
/// the ring, and no more.
const CHUNK_BYTES: usize = 128 * 1024;

/// Rows looked at in one page, so that a narrow filter over a long history
/// gives the reader thread back now and then.
const PAGE_ROWS: u64 = 20_000;

/// Signals kept for a reader that is busy; the oldest gives way.
const SIGNALS: usize = 64;

/// Events between two cursors are no longer held. `to` is where the reader goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub from: Cursor,
    pub to: Cursor,
    /// `retention` or `epoch`.
    pub reason: &'static str,
}

/// What a subscription hands out.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// Events in order; the cursor of the last of them is the new position.
    Events(Chunk),
    Gap(Gap),
    /// What passes; not part of the order.
    Signals(Vec<Arc<SignalFrame>>),
}

/// A subscription as the publisher sees it.
pub struct Interest {
    pub id: u64,
    pub filter: Filter,
    pub signals: bool,
    /// First matching position published since the subscription last looked; 0 is none.
    /// Written and taken under the bus's lock.
    pending: AtomicU64,
    passing: Mutex<VecDeque<Arc<SignalFrame>>>,
    notify: Notify,
}

impl Interest {
    pub fn new(id: u64, filter: Filter, signals: bool) -> Self {
        Self {
            id,
            filter,
            signals,
            pending: AtomicU64::new(0),
            passing: Mutex::new(VecDeque::new()),
            notify: Notify::new(),
        }
    }

    /// Marks a matching position; `true` if the subscription has to be woken.
    pub fn mark(&self, seq: u64) -> bool {
        self.pending.compare_exchange(0, seq, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Queues a signal; `true` if the subscription has to be woken.
    pub fn offer(&self, frame: &Arc<SignalFrame>) -> bool {
        let mut passing = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        if passing.back().is_some_and(|last| Arc::ptr_eq(last, frame)) {
            return false;
        }
        if passing.len() == SIGNALS {
            passing.pop_front();
        }
        passing.push_back(Arc::clone(frame));
        true
    }

    pub fn wake(&self) {
        self.notify.notify_one();
    }

    fn take_pending(&self) -> u64 {
        self.pending.swap(0, Ordering::Relaxed)
    }

    fn take_signals(&self) -> Vec<Arc<SignalFrame>> {
        let mut passing = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *passing).into()
    }
}

/// A reader of the journal. Dropping it ends it.
pub struct Subscription {
    core: Arc<Core>,
    store: Store,
    interest: Arc<Interest>,
    /// The last position looked at, matching or not.
    at: Cursor,
    /// Everything up to the head was looked at once; from then on marks tell.
    caught_up: bool,
    gap: Option<Gap>,
}

enum Step {
    Deliver(Delivery),
    Read,
    Again,
    Wait,
}

impl Subscription {
    pub(super) fn new(
        core: Arc<Core>,
        store: Store,
        interest: Arc<Interest>,
        at: Cursor,
        gap: Option<Gap>,
    ) -> Self {
        Self { core, store, interest, at, caught_up: false, gap }
    }

    /// The last position looked at. Everything up to it that matches has been
    /// handed out, so it is a safe place to resume from, and it moves on while
    /// nothing matches.
    pub fn cursor(&mut self) -> Cursor {
        if self.caught_up && self.gap.is_none() {
            let state = self.core.lock();
            if self.interest.pending.load(Ordering::Relaxed) == 0 {
                self.at = state.head;
            }
        }
        self.at
    }

    /// Whether nothing that is already published is left to hand out.
    pub fn is_caught_up(&mut self) -> bool {
        let at = self.cursor();
        self.gap.is_none() && at.seq >= self.core.lock().head.seq
    }

    /// The next events, gap or signals. Safe to cancel: nothing is lost.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn next(&mut self) -> Result<Delivery, BusError> {
        loop {
            match self.step() {
                Step::Deliver(delivery) => return Ok(delivery),
                Step::Again => {}
                Step::Wait => self.interest.notify.notified().await,
                Step::Read => {
                    if let Some(delivery) = self.read_page().await? {
                        return Ok(delivery);
                    }
                }
            }
        }
    }

    fn step(&mut self) -> Step {
        if let Some(gap) = self.gap.take() {
            return Step::Deliver(Delivery::Gap(gap));
        }
        let signals = self.interest.take_signals();
        if !signals.is_empty() {
            return Step::Deliver(Delivery::Signals(signals));
        }
        let state = self.core.lock();
        let head = state.head;
        let pending = self.interest.take_pending();
        if self.caught_up {
            // Nothing between here and the mark matches; without a mark, nothing up to the head.
            let skip = if pending == 0 { head.seq } else { pending - 1 };
            self.at.seq = self.at.seq.max(skip);
        }
        if self.at.seq >= head.seq {
            self.caught_up = true;
            return Step::Wait;
        }
        self.caught_up = false;
        if state.ring.first().is_none_or(|first| first > self.at.seq + 1) {
            return Step::Read;
        }
        let (chunk, last) = state.ring.take(self.at.seq, &self.interest.filter, CHUNK_BYTES);
        self.at.seq = last;
        self.caught_up = last >= head.seq;
        if chunk.is_empty() { Step::Again } else { Step::Deliver(Delivery::Events(chunk)) }
    }

    /// Reads one page where the ring does not reach. `None` if nothing in it matched.
    async fn read_page(&mut self) -> Result<Option<Delivery>, BusError> {
        let (after, epoch) = (self.at.seq, self.at.epoch);
        let interest = Arc::clone(&self.interest);
        let page = self.store.read(move |snapshot| {
            let mut builder = BatchBuilder::new(epoch);
            let mut first = None;
            let last = snapshot.scan(after, |row| {
                let first = *first.get_or_insert(row.seq);
                if interest.filter.admits(row.topic, row.subject, row.project, row.severity) {
                    builder.push(&row);
                }
                let full = builder.bytes() >= CHUNK_BYTES || row.seq - first >= PAGE_ROWS;
                if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            Ok((builder.finish(), first, last))
        });
        let (batch, first, last) = page.await?;
        // Where nothing follows in the database, the ring or the head comes next.
        let next = first.unwrap_or_else(|| {
            let state = self.core.lock();
            state.ring.first().unwrap_or(state.head.seq + 1)
        });
        if next > after + 1 {
            return Ok(Some(self.skip_to(next - 1)));
        }
        self.at.seq = last;
        let chunk = Chunk::whole(batch);
        Ok(if chunk.is_empty() { None } else { Some(Delivery::Events(chunk)) })
    }

    /// Trimmed under the reader's feet, or lost with an earlier epoch.
    fn skip_to(&mut self, seq: u64) -> Delivery {
        let from = self.at;
        self.at.seq = seq;
        let reason = if seq < self.store.oldest() { "retention" } else { "epoch" };
        Delivery::Gap(Gap { from, to: self.at, reason })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.core.lock().index.remove(&self.interest);
    }
}
