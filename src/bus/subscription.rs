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
const PAGE_ROWS: u64 = 4096;

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

    /// Whether an earlier matching position waits to be looked at.
    pub fn is_marked(&self) -> bool {
        self.pending.load(Ordering::Relaxed) != 0
    }

    /// Marks the first matching position; the subscription has to be woken then.
    pub fn mark(&self, seq: u64) {
        self.pending.store(seq, Ordering::Relaxed);
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

/// A part of the past that the ring no longer holds, as seen in one moment.
#[derive(Clone, Copy)]
struct Page {
    /// The newest position that is published: what the database has beyond it
    /// is committed, but nobody has been told.
    head: u64,
    /// Where the ring begins.
    ring: Option<u64>,
}

enum Step {
    Deliver(Delivery),
    Read(Page),
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
        if let Some(gap) = &self.gap {
            // Whoever resumes from here has to be told again.
            return gap.from;
        }
        if self.caught_up {
            let state = self.core.lock();
            if !self.interest.is_marked() {
                self.at.seq = self.at.seq.max(state.head.seq);
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
                Step::Read(page) => {
                    if let Some(delivery) = self.read_page(page).await? {
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
        let ring = state.ring.first();
        if ring.is_none_or(|first| first > self.at.seq + 1) {
            return Step::Read(Page { head: head.seq, ring });
        }
        let batches = state.ring.after(self.at.seq, CHUNK_BYTES);
        drop(state);
        let filter = &self.interest.filter;
        let (chunk, last) = Chunk::cut(&batches, self.at.seq, filter, CHUNK_BYTES);
        self.at.seq = last;
        // What was published since then is marked.
        self.caught_up = last >= head.seq;
        if chunk.is_empty() { Step::Again } else { Step::Deliver(Delivery::Events(chunk)) }
    }

    /// Reads one page where the ring does not reach. `None` if nothing in it matched.
    async fn read_page(&mut self, page: Page) -> Result<Option<Delivery>, BusError> {
        let (after, epoch) = (self.at.seq, self.at.epoch);
        let interest = Arc::clone(&self.interest);
        let read = self.store.read(move |snapshot| {
            let mut builder = BatchBuilder::new(epoch);
            let (mut first, mut last) = (None, after);
            snapshot.scan(after, |row| {
                if row.seq > page.head {
                    return ControlFlow::Break(());
                }
                let first = *first.get_or_insert(row.seq);
                last = row.seq;
                if interest.filter.admits(row.topic, row.subject, row.project, row.severity) {
                    builder.push(&row);
                }
                let full = builder.bytes() >= CHUNK_BYTES || row.seq - first >= PAGE_ROWS;
                if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            Ok((builder.finish(), first, last))
        });
        let (batch, first, last) = read.await?;
        // Where the database has nothing, the ring or the head comes next.
        let next = first.or(page.ring).unwrap_or(page.head + 1);
        let next = page.ring.map_or(next, |ring| next.min(ring));
        if next > after + 1 {
            return self.skip_to(next - 1).await.map(Some);
        }
        self.at.seq = last;
        let chunk = Chunk::whole(batch);
        Ok(if chunk.is_empty() { None } else { Some(Delivery::Events(chunk)) })
    }

    /// Trimmed under the reader's feet, or lost with an earlier epoch.
    async fn skip_to(&mut self, seq: u64) -> Result<Delivery, BusError> {
        let from = self.at;
        // The counters are as new as the rows that were missing.
        let oldest = self.store.read(|snapshot| snapshot.oldest()).await?;
        self.at.seq = seq;
        let reason = if seq < oldest { "retention" } else { "epoch" };
        Ok(Delivery::Gap(Gap { from, to: self.at, reason }))
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.core.lock().index.remove(&self.interest);
    }
}
