//! The recent past in memory, bounded in bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use super::batch::{Batch, Chunk};
use crate::model::Filter;

/// Entries looked at under the lock for one reader: some tens of microseconds,
/// so that a reader far behind does not hold up the publisher.
const LOOK: usize = 2048;

/// Batches in order; the newest is always kept, however large.
#[derive(Debug)]
pub struct Ring {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    events: usize,
    most_bytes: usize,
}

impl Ring {
    pub fn new(most_bytes: usize) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, events: 0, most_bytes }
    }

    pub fn push(&mut self, batch: Arc<Batch>) {
        self.bytes += batch.bytes();
        self.events += batch.len();
        self.batches.push_back(batch);
        while self.bytes > self.most_bytes && self.batches.len() > 1 {
            if let Some(oldest) = self.batches.pop_front() {
                self.bytes -= oldest.bytes();
                self.events -= oldest.len();
            }
        }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn events(&self) -> usize {
        self.events
    }

    /// The oldest position in the ring, if it holds any.
    pub fn first(&self) -> Option<u64> {
        self.batches.front().map(|batch| batch.first())
    }

    /// Takes what passes `filter` after position `after`, until the chunk has
    /// `most` bytes. Returns it with the last position looked at.
    pub fn take(&self, after: u64, filter: &Filter, most: usize) -> (Chunk, u64) {
        let mut chunk = Chunk::default();
        let (mut at, mut looked) = (after, 0);
        let skip = self.batches.partition_point(|batch| batch.last() <= after);
        let all = filter.admits_all();
        for batch in self.batches.range(skip..) {
            let from = batch.index_after(at);
            for index in from..batch.len() {
                if all || batch.admitted(index, filter) {
                    chunk.push(batch, index..index + 1);
                }
                at = batch.seq(index);
                looked += 1;
                if chunk.bytes() >= most || looked >= LOOK {
                    return (chunk, at);
                }
            }
        }
        (chunk, at)
    }
}
