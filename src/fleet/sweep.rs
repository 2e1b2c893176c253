//! Forgetting old tasks and their output, a little at a time.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::drive::{blocking, remove};
use super::rundir::RunDir;
use super::{Fleet, FleetError, Inner};
use crate::model::{RunId, TaskState, Timestamp};
use crate::store::StoreError;

const EVERY: Duration = Duration::from_secs(60 * 60);

/// Rows deleted in one transaction, so that publishers never wait for it.
const ROWS: usize = 100;

/// Pause between two steps.
const REST: Duration = Duration::from_millis(50);

/// A directory that no row names is an earlier run of a task, or was left by a
/// crash before its task was stored. It goes when nobody can be at it any more.
const UNNAMED: Duration = Duration::from_secs(60 * 60);

impl Fleet {
    /// How long ended tasks are kept.
    pub fn keeps(&self) -> Duration {
        Duration::from_secs(self.0.settings().keep_days.saturating_mul(24 * 60 * 60))
    }
}

impl Inner {
    /// Sweeps at the start and then once an hour, until the fleet closes.
    pub async fn sweep_for_ever(self: Arc<Self>) {
        loop {
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "old tasks could not be swept; the next round tries again");
            }
            self.sweep_members();
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.closing.cancelled() => return,
            }
        }
    }

    /// One round.
    pub async fn sweep(&self) -> Result<(), FleetError> {
        let settings = self.settings();
        let days = i64::try_from(settings.keep_days).unwrap_or(i64::MAX);
        let age = days.saturating_mul(24 * 60 * 60 * 1000);
        let before = Timestamp::from_millis(Timestamp::now().millis().saturating_sub(age));
        while !self.closing.is_cancelled() {
            let runs = self
                .bus
                .store()
                .write(move |tx| tx.forget_tasks(before, ROWS).map_err(FleetError::from))
                .await?;
            let more = runs.len() == ROWS;
            for run in runs {
                self.remove_run(self.run_dir(run)).await;
            }
            if !more {
                break;
            }
            tokio::time::sleep(REST).await;
        }
        self.sweep_directories(settings.keep_mib.saturating_mul(1024 * 1024)).await
    }

    /// Removes directories that no row names, and the oldest beyond `keep` bytes.
    async fn sweep_directories(&self, keep: u64) -> Result<(), FleetError> {
        let rows = self.bus.store().read(|snapshot| snapshot.task_runs()).await?;
        let named: HashMap<RunId, TaskState> = rows.into_iter().collect();
        let runs = self.runs.clone();
        let listed = blocking(move || list(&runs))
            .await
            .map_err(|source| FleetError::Run { path: self.runs.clone(), source })?;
        let mut held: u64 = 0;
        // Newest first: run ids are in order of time.
        for entry in listed.into_iter().rev() {
            if self.closing.is_cancelled() {
                return Err(StoreError::Closed.into());
            }
            let too_much = held.saturating_add(entry.bytes) > keep;
            // Only what had ended when the rows were read: a directory may be
            // younger than that, and in use.
            let over = match named.get(&entry.run) {
                Some(state) => state.is_terminal() && too_much,
                None => entry.age > UNNAMED,
            };
            if over {
                self.remove_run(RunDir::new(entry.path)).await;
                tokio::time::sleep(REST).await;
            } else {
                held = held.saturating_add(entry.bytes);
            }
        }
        Ok(())
    }

    async fn remove_run(&self, dir: RunDir) {
        let _ = blocking(move || {
            remove(&dir);
            Ok(())
        })
        .await;
    }
}

struct Entry {
    run: RunId,
    path: PathBuf,
    bytes: u64,
    age: Duration,
}

/// Run directories, oldest first. What is not named like one is left alone.
fn list(runs: &std::path::Path) -> std::io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for found in std::fs::read_dir(runs)?.flatten() {
        let Some(run) = found.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let modified = found.metadata().and_then(|meta| meta.modified());
        let age = modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        let files = std::fs::read_dir(found.path()).into_iter().flatten().flatten();
        let bytes = files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum();
        entries.push(Entry { run, path: found.path(), bytes, age: age.unwrap_or_default() });
    }
    entries.sort_by_key(|entry| entry.run);
    Ok(entries)
}
