//! Pages of the journal, as tool results hold them: bounded in events and bytes.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use serde_json::Value;

use crate::bus::{Bus, BusError, Chunk};
use crate::mcp::tools::Failure;
use crate::model::{Cursor, Filter};
use crate::store::{Resume, Store};

/// Bytes of events in one answer. A model reads it all; the rest is a call away.
/// At least one event is returned, whatever its size.
const MOST_BYTES: usize = 256 * 1024;

/// Rows looked at in one go, so that a narrow filter over a long history gives
/// the reader thread back now and then.
const ROWS: u64 = 20_000;

/// Events, and where the next page begins.
pub struct Page {
    pub events: VecDeque<Value>,
    pub cursor: Cursor,
    pub gap: Option<(Cursor, Cursor, &'static str)>,
    pub more: bool,
    bytes: usize,
}

impl Page {
    /// Nothing, at `cursor`.
    pub fn at(cursor: Cursor) -> Self {
        Self { events: VecDeque::new(), cursor, gap: None, more: false, bytes: 0 }
    }

    /// Nothing to tell yet.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.gap.is_none()
    }

    pub fn lose(&mut self, from: Cursor, to: Cursor, reason: &'static str) {
        self.gap = Some((from, to, reason));
        self.cursor = to;
    }

    /// Takes what fits of a chunk.
    pub fn take(&mut self, chunk: &Chunk, limit: usize) {
        for event in chunk.events() {
            if !self.fits(event.body.len(), limit) {
                self.more = true;
                return;
            }
            self.push(&event.body);
            self.cursor = event.cursor;
        }
    }

    fn fits(&self, bytes: usize, limit: usize) -> bool {
        self.events.is_empty() || (self.events.len() < limit && self.bytes + bytes <= MOST_BYTES)
    }

    fn push(&mut self, body: &[u8]) {
        self.events.push_back(decoded(body));
        self.bytes += body.len();
    }

    fn push_older(&mut self, body: &[u8]) {
        self.events.push_front(decoded(body));
        self.bytes += body.len();
    }
}

/// The journal holds what was encoded here; null would show a defect.
fn decoded(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or(Value::Null)
}

/// What follows `place`, oldest first.
///
/// # Errors
/// [`BusError::Future`] if `place` lies after the newest event.
pub async fn after(
    bus: &Bus,
    place: Cursor,
    filter: &Filter,
    limit: usize,
) -> Result<Page, Failure> {
    let head = bus.head();
    let mut page = Page::at(Cursor { epoch: head.epoch, seq: place.seq });
    match bus.resume(place) {
        Resume::After(_) => {}
        Resume::Gap { from, to, reason } => page.lose(from, to, reason),
        Resume::Future => return Err(BusError::Future { cursor: place, head }.into()),
    }
    while !page.more && page.cursor.seq < head.seq {
        page = extend(bus.store(), page, head.seq, filter.clone(), limit).await?;
    }
    Ok(page)
}

/// Looks at the next rows. The page's cursor moves past all that were looked at.
async fn extend(
    store: &Store,
    mut page: Page,
    head: u64,
    filter: Filter,
    limit: usize,
) -> Result<Page, Failure> {
    let read = store.read(move |snapshot| {
        let after = page.cursor.seq;
        let mut at_end = true;
        snapshot.scan(after, |row| {
            let admitted = filter.admits(row.topic, row.subject, row.project, row.severity);
            page.more = admitted && !page.fits(row.body.len(), limit);
            if !page.more {
                page.cursor.seq = row.seq;
                if admitted {
                    page.push(row.body);
                }
            }
            at_end = !page.more && row.seq - after < ROWS;
            if at_end { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        if at_end {
            // Everything up to the head that was known before has been seen.
            page.cursor.seq = page.cursor.seq.max(head);
        }
        Ok(page)
    });
    Ok(read.await?)
}

/// The newest events that match, oldest first.
pub async fn newest(bus: &Bus, filter: &Filter, limit: usize) -> Result<Page, Failure> {
    let head = bus.head();
    let (mut page, mut rest) = (Page::at(head), Some(head.seq + 1));
    while let Some(before) = rest {
        (page, rest) = extend_back(bus.store(), page, before, filter.clone(), limit).await?;
    }
    Ok(page)
}

/// Looks at the rows before `before`. Returns where to go on, if there is more to look at.
async fn extend_back(
    store: &Store,
    mut page: Page,
    before: u64,
    filter: Filter,
    limit: usize,
) -> Result<(Page, Option<u64>), Failure> {
    let read = store.read(move |snapshot| {
        let (mut looked, mut rest) = (0, None);
        snapshot.scan_back(before, |row| {
            if filter.admits(row.topic, row.subject, row.project, row.severity) {
                if !page.fits(row.body.len(), limit) {
                    return ControlFlow::Break(());
                }
                page.push_older(row.body);
            }
            looked += 1;
            if looked < ROWS && page.events.len() < limit {
                return ControlFlow::Continue(());
            }
            rest = Some(row.seq).filter(|_| page.events.len() < limit);
            ControlFlow::Break(())
        })?;
        Ok((page, rest))
    });
    Ok(read.await?)
}
