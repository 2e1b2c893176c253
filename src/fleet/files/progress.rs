//! How far a transfer is, and telling it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::error::shown;
use crate::bus::Bus;
use crate::model::{Amount, Severity, Signal, Topic, Transfer};

/// At most 20 signals a second (events.md).
const SPACING: Duration = Duration::from_millis(50);

/// Counters that the copying loops move and the teller reads.
#[derive(Default)]
pub struct Progress {
    files: AtomicU64,
    bytes: AtomicU64,
    total_files: AtomicU64,
    total_bytes: AtomicU64,
    /// What is under way, and what is waited for.
    words: Mutex<(Option<String>, Option<String>)>,
    /// Read by loops on threads of their own, which nobody can drop.
    stopped: AtomicBool,
}

type Seen = (Amount, Amount, (Option<String>, Option<String>));

impl Progress {
    pub fn plan(&self, total: Amount) {
        self.total_files.store(total.files, Ordering::Relaxed);
        self.total_bytes.store(total.bytes, Ordering::Relaxed);
    }

    /// A piece has arrived.
    pub fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What has arrived so far, after something had to begin again.
    pub fn reset(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// So many files are in their place.
    pub fn placed(&self, files: u64) {
        self.files.store(files, Ordering::Relaxed);
    }

    pub fn current(&self, path: Option<&str>) {
        self.words().0 = path.map(shown);
    }

    pub fn waiting(&self, what: Option<&str>) {
        self.words().1 = what.map(shown);
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// What has arrived.
    pub fn done(&self) -> Amount {
        let (files, bytes) = (&self.files, &self.bytes);
        Amount { files: files.load(Ordering::Relaxed), bytes: bytes.load(Ordering::Relaxed) }
    }

    pub fn total(&self) -> Amount {
        let (files, bytes) = (&self.total_files, &self.total_bytes);
        Amount { files: files.load(Ordering::Relaxed), bytes: bytes.load(Ordering::Relaxed) }
    }

    /// Tells what changes, without end.
    pub async fn tell(&self, bus: &Bus, row: &Transfer) {
        let mut told = None;
        loop {
            let seen = self.seen();
            if told.as_ref() != Some(&seen) {
                signal(bus, row, &seen);
                told = Some(seen);
            }
            tokio::time::sleep(SPACING).await;
        }
    }

    /// Tells how it stands now.
    pub fn tell_once(&self, bus: &Bus, row: &Transfer) {
        signal(bus, row, &self.seen());
    }

    fn seen(&self) -> Seen {
        (self.done(), self.total(), self.words().clone())
    }

    fn words(&self) -> std::sync::MutexGuard<'_, (Option<String>, Option<String>)> {
        // Replaced as a whole; a panic elsewhere cannot tear it.
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn signal(bus: &Bus, row: &Transfer, (done, total, (current, waiting)): &Seen) {
    // The table has this topic, as a test of it says.
    let Ok(topic) = Topic::known("transfer.progressed") else { return };
    bus.signal(&Signal {
        topic,
        subject: row.id.subject(),
        project: row.project.clone(),
        severity: Severity::Debug,
        data: json!({
            "task_id": row.id,
            "member": row.member,
            "direction": row.direction,
            "files": done.files,
            "bytes": done.bytes,
            "total_files": total.files,
            "total_bytes": total.bytes,
            "current": current,
            "waiting": waiting,
        }),
    });
}
