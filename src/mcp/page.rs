//! Pages of the journal, as tool results hold them: bounded in events and bytes.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use serde_json::Value;

use crate::bus::{BusError, Chunk};
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
    sizes: VecDeque<usize>,
    bytes: usize,
}

impl Page {
    fn at(cursor: Cursor) -> Self {
        Self {
            events: VecDeque::new(),
            cursor,
            gap: None,
            more: false,
            sizes: VecDeque::new(),
            bytes: 0,
        }
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
        // The journal holds what was encoded here; null would show a defect.
        self.events.push_back(serde_json::from_slice(body).unwrap_or(Value::Null));
        self.sizes.push_back(body.len());
        self.bytes += body.len();
    }

    /// Keeps the newest that fit.
    fn push_newest(&mut self, body: &[u8], limit: usize) {
        self.push(body);
        while self.events.len() > 1 && (self.events.len() > limit || self.bytes > MOST_BYTES) {
            self.events.pop_front();
            self.bytes -= self.sizes.pop_front().unwrap_or_default();
        }
    }
}

/// What follows `place`, oldest first.
///
/// # Errors
/// [`BusError::Future`] if `place` lies after the newest event.
pub async fn after(
    store: &Store,
    place: Cursor,
    filter: &Filter,
    limit: usize,
) -> Result<Page, Failure> {
    let head = store.head();
    let mut page = Page::at(Cursor { epoch: head.epoch, seq: place.seq });
    match store.resume(place) {
        Resume::After(_) => {}
        Resume::Gap { from, to, reason } => page.lose(from, to, reason),
        Resume::Future => return Err(BusError::Future { cursor: place, head }.into()),
    }
    while !page.more && page.cursor.seq < head.seq {
        page = extend(store, page, head.seq, filter.clone(), limit).await?;
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

/// The newest events that match, oldest first. The journal is read forward only,
/// so windows at its end grow until one holds enough.
pub async fn newest(store: &Store, filter: &Filter, limit: usize) -> Result<Page, Failure> {
    let head = store.head();
    let mut window = (limit as u64).saturating_mul(2).max(256);
    loop {
        let after = head.seq.saturating_sub(window);
        let filter = filter.clone();
        let read = store.read(move |snapshot| {
            let mut page = Page::at(head);
            snapshot.scan(after, |row| {
                if row.seq > head.seq {
                    return ControlFlow::Break(());
                }
                if filter.admits(row.topic, row.subject, row.project, row.severity) {
                    page.push_newest(row.body, limit);
                }
                ControlFlow::Continue(())
            })?;
            Ok(page)
        });
        let page = read.await?;
        let enough = page.events.len() >= limit || page.bytes > MOST_BYTES / 2;
        if enough || after < store.oldest() {
            return Ok(page);
        }
        window = window.saturating_mul(8);
    }
}
