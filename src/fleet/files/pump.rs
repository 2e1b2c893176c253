//! What all ways of copying share: the plan, how far it is, and going on after a cut.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::error::TransferError;
use super::folder::Folder;
use super::plan::{Plan, PlannedFile};
use super::progress::Progress;
use crate::reach::ReachError;

/// Files and bytes that are put in their place together.
const BATCH_FILES: usize = 200;
const BATCH_BYTES: u64 = 64 * 1024 * 1024;

/// A smaller file begins again rather than being asked about.
pub const WORTH_RESUMING: u64 = 1024 * 1024;

/// Nothing moved for so long, on a link that is up: it is cut and tried again.
const IDLE: Duration = Duration::from_secs(60);

/// Cuts in a row without a byte gained, after which it is given up, and the
/// pause after each.
const MOST_CUTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// A plan that is being carried out.
pub struct Pump {
    pub plan: Arc<Plan>,
    /// Where the files of the plan come from, if that is here.
    pub roots: Vec<Folder>,
    pub progress: Arc<Progress>,
    /// Files before this one are in their place.
    pub next: usize,
    /// Hashes of the files after those, which lie whole in the stage.
    pub hashes: Vec<String>,
    /// A part of the next file may be there already.
    pub parts: bool,
}

impl Pump {
    pub fn new(plan: Plan, roots: Vec<Folder>, progress: &Arc<Progress>) -> Self {
        progress.plan(plan.total);
        Self {
            plan: Arc::new(plan),
            roots,
            progress: Arc::clone(progress),
            next: 0,
            hashes: Vec::new(),
            parts: true,
        }
    }

    pub fn is_done(&self) -> bool {
        self.next >= self.plan.files.len()
    }

    /// One past the last file of the batch that begins at `next`.
    pub fn batch_end(&self) -> usize {
        let mut bytes = 0;
        let files = self.plan.files[self.next..].iter().take(BATCH_FILES);
        let small = files.take_while(|file| {
            let fits = bytes < BATCH_BYTES;
            bytes += file.bytes;
            fits
        });
        self.next + small.count()
    }

    /// The file to copy next and its number.
    pub fn current(&self) -> (usize, &PlannedFile) {
        let index = self.next + self.hashes.len();
        (index, &self.plan.files[index])
    }

    /// Counts what is whole and `part` bytes of the current file.
    pub fn count(&self, part: u64) {
        let whole = &self.plan.files[..self.next + self.hashes.len()];
        self.progress.reset(whole.iter().map(|file| file.bytes).sum::<u64>() + part);
    }

    /// The batch is in its place.
    pub fn placed(&mut self) {
        self.next += self.hashes.len();
        self.hashes.clear();
        self.progress.placed(self.next as u64);
    }
}

/// Whether to go on after a cut.
#[derive(Default)]
pub struct Cuts {
    cuts: u32,
    most: u64,
}

impl Cuts {
    /// Waits a little before the next attempt.
    ///
    /// # Errors
    /// The error itself, if it is no cut or nothing helps.
    pub async fn after(
        &mut self,
        error: TransferError,
        progress: &Progress,
    ) -> Result<(), TransferError> {
        let bytes = progress.done().bytes;
        self.cuts = if bytes > self.most { 1 } else { self.cuts + 1 };
        self.most = self.most.max(bytes);
        if !error.is_cut() || self.cuts > MOST_CUTS {
            return Err(error);
        }
        progress.waiting(Some(&error.to_string()));
        tokio::time::sleep(PAUSE * self.cuts).await;
        Ok(())
    }
}

/// The work, or [`TransferError::Stopped`] as soon as that is wished.
pub async fn unless<T>(
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, TransferError>>,
) -> Result<T, TransferError> {
    tokio::select! {
        outcome = work => outcome,
        () = stop.cancelled() => Err(TransferError::Stopped),
    }
}

/// A request of the file service that has to come to an end.
pub async fn within<T>(
    work: impl Future<Output = Result<T, ReachError>>,
) -> Result<T, TransferError> {
    match tokio::time::timeout(IDLE, work).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => {
            let host = String::from("the member");
            Err(ReachError::Deadline { host, seconds: IDLE.as_secs() }.into())
        }
    }
}

/// What a thread of ours did.
pub async fn joined<T>(thread: JoinHandle<Result<T, TransferError>>) -> Result<T, TransferError> {
    let lost = |error: tokio::task::JoinError| {
        let problem = error.to_string();
        let path = String::from("a file");
        TransferError::Io { what: "copying", path, kind: std::io::ErrorKind::Other, problem }
    };
    thread.await.map_err(lost)?
}
