//! The recent past in memory, bounded in bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use super::batch::Batch;

/// Entries that one reader looks at before it looks whether there is more to do:
/// some tens of microseconds with a filter that admits none of them.
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

    /// The batches after position `after`, some of them at least: enough for
    /// `most` bytes of frames or [`LOOK`] entries. Only pointers are copied, so
    /// that filtering them holds up nobody.
    pub fn after(&self, after: u64, most: usize) -> Vec<Arc<Batch>> {
        let skip = self.batches.partition_point(|batch| batch.last() <= after);
        let (mut bytes, mut entries) = (0, 0);
        let mut batches = Vec::new();
        for batch in self.batches.range(skip..) {
            if bytes >= most || entries >= LOOK {
                break;
            }
            bytes += batch.bytes();
            entries += batch.len();
            batches.push(Arc::clone(batch));
        }
        batches
    }
}
