//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// How long a test waits for what should take milliseconds: the machine may
/// have two cores and other work.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at a condition: short enough that a test does not dawdle,
/// long enough that the looking does not load the machine it measures.
const PAUSE: Duration = Duration::from_millis(2);

/// The first `Some` that `look` returns, or `None` when `limit` has passed.
pub fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if begun.elapsed() >= limit {
            return None;
        }
        pause();
    }
}

/// The first `Some` that `look` returns before `limit` has passed.
///
/// # Panics
/// With `what`, if the time is over.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, look: impl FnMut() -> Option<T>) -> T {
    poll(limit, look).unwrap_or_else(|| panic!("not within {limit:?}: {what}"))
}

/// Waits with [`PATIENCE`] until `holds`.
///
/// # Panics
/// With `what`, if the time is over.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    within(PATIENCE, what, || holds().then_some(()));
}

/// The same for conditions that are asked of code under test in this process.
///
/// # Panics
/// With `what`, if the time is over.
pub async fn eventually_async(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// The only pause of the harness, between two looks at a condition.
fn pause() {
    std::thread::park_timeout(PAUSE);
}
