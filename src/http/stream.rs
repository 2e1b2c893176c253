//! A subscription as a stream of bytes: frames, gaps, signals and bookmarks.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::time::Instant;

use crate::bus::{Chunk, Delivery, Subscription};
use crate::wire::{push_bookmark, push_comment, push_gap, push_retry};

/// How often a stream says where it stands, so that the cursor of a narrow
/// filter does not grow old, and a peer that is gone is noticed.
const BOOKMARK: Duration = Duration::from_secs(15);

/// Milliseconds after which a reader that was cut should come again.
const RETRY: u64 = 1000;

/// Runs smaller than this are joined, so that many small ones leave in one
/// write and one HTTP chunk; larger ones are passed on without a copy.
const SMALL: usize = 8 * 1024;

/// One reader of `GET /events`.
pub struct EventStream {
    subscription: Subscription,
    ready: VecDeque<Bytes>,
    bookmark_at: Instant,
    failed: bool,
}

impl EventStream {
    /// A stream that begins with a comment, and with a bookmark if it begins at
    /// the head: a reader that is cut before its first event resumes there.
    pub fn new(mut subscription: Subscription, at_head: bool) -> Self {
        let mut hello = Vec::with_capacity(96);
        push_comment(&mut hello, concat!("fleetd ", env!("CARGO_PKG_VERSION")));
        push_retry(&mut hello, RETRY);
        if at_head {
            push_bookmark(&mut hello, subscription.cursor());
        }
        Self {
            subscription,
            ready: VecDeque::from([Bytes::from(hello)]),
            bookmark_at: Instant::now() + BOOKMARK,
            failed: false,
        }
    }

    pub fn into_stream(self) -> impl Stream<Item = Bytes> + Send {
        futures_util::stream::unfold(self, |mut reader| async move {
            let bytes = reader.next().await?;
            Some((bytes, reader))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            if self.failed {
                return None;
            }
            let now = Instant::now();
            if now >= self.bookmark_at {
                self.bookmark_at = now + BOOKMARK;
                let mut frame = Vec::with_capacity(40);
                push_bookmark(&mut frame, self.subscription.cursor());
                return Some(Bytes::from(frame));
            }
            match tokio::time::timeout_at(self.bookmark_at, self.subscription.next()).await {
                Err(_due) => {}
                Ok(Ok(delivery)) => self.take(delivery),
                Ok(Err(error)) => self.fail(error.code().as_str()),
            }
        }
    }

    fn take(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Events(chunk) => coalesce(&chunk, &mut self.ready),
            Delivery::Gap(gap) => {
                let mut frame = Vec::with_capacity(128);
                push_gap(&mut frame, gap.from, gap.to, gap.reason);
                self.ready.push_back(Bytes::from(frame));
            }
            Delivery::Signals(signals) => {
                self.ready.extend(signals.iter().map(|signal| signal.frame()));
            }
        }
    }

    /// Ends the stream with a reason that a person can read; the reader resumes.
    fn fail(&mut self, code: &str) {
        self.failed = true;
        let mut frame = Vec::new();
        push_comment(&mut frame, code);
        self.ready.push_back(Bytes::from(frame));
    }
}

/// Joins small runs and passes large ones on as they are.
fn coalesce(chunk: &Chunk, ready: &mut VecDeque<Bytes>) {
    let mut joined = BytesMut::new();
    let mut single: Option<Bytes> = None;
    for run in chunk.frames() {
        if run.len() >= SMALL {
            flush(&mut joined, &mut single, ready);
            ready.push_back(run);
            continue;
        }
        match single.take() {
            None if joined.is_empty() => single = Some(run),
            first => {
                joined.reserve(first.as_ref().map_or(0, Bytes::len) + run.len());
                joined.extend_from_slice(first.as_deref().unwrap_or_default());
                joined.extend_from_slice(&run);
            }
        }
    }
    flush(&mut joined, &mut single, ready);
}

fn flush(joined: &mut BytesMut, single: &mut Option<Bytes>, ready: &mut VecDeque<Bytes>) {
    // A run without a neighbour stays a shared slice.
    ready.extend(single.take());
    if !joined.is_empty() {
        ready.push_back(joined.split().freeze());
    }
}
