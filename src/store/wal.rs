//! When the write-ahead log is copied into the database.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::database::BUSY;
use super::highwater::HighWater;
use super::quarantine::beside;

/// Pages of 4 KiB in the WAL from which on it is copied: 8 MiB, some
/// milliseconds of writing.
const CHECKPOINT_PAGES: i64 = 2048;

/// Commits between looks at the WAL's length.
const LOOK: u32 = 16;

/// A WAL file longer than this is cut when nothing happens: it grew while a
/// long reading or a burst held it up.
const IDLE_BYTES: u64 = 1024 * 1024;

/// The WAL as the writer keeps it.
#[derive(Debug)]
pub struct Wal {
    file: PathBuf,
    commits: u32,
}

impl Wal {
    pub fn new(database: &Path) -> Self {
        Self { file: beside(database, "-wal"), commits: 0 }
    }

    /// After a commit: copies what has gathered if it is much.
    ///
    /// # Errors
    /// If the database cannot be written or synced. Nothing is lost by that:
    /// what was not copied for certain stays in the WAL.
    pub fn committed(&mut self, connection: &Connection, high: &HighWater) -> rusqlite::Result<()> {
        self.commits += 1;
        if self.commits < LOOK {
            return Ok(());
        }
        self.commits = 0;
        // Says how many pages there are and does nothing.
        let (pages, copied) = checkpoint(connection, "NOOP")?;
        if pages - copied >= CHECKPOINT_PAGES {
            sync_mark(high);
            checkpoint(connection, "PASSIVE")?;
        }
        Ok(())
    }

    /// When nothing happens: gives a long WAL's room back.
    ///
    /// # Errors
    /// As [`Self::committed`].
    pub fn rest(&self, connection: &Connection, high: &HighWater) -> rusqlite::Result<()> {
        if fs::metadata(&self.file).is_ok_and(|meta| meta.len() > IDLE_BYTES) {
            return self.empty(connection, high);
        }
        Ok(())
    }

    /// Copies everything and cuts the file to nothing, if nobody is reading it.
    ///
    /// # Errors
    /// As [`Self::committed`].
    pub fn empty(&self, connection: &Connection, high: &HighWater) -> rusqlite::Result<()> {
        sync_mark(high);
        // Whoever is reading goes on reading, and nobody waits for that here.
        connection.busy_timeout(Duration::ZERO)?;
        let outcome = checkpoint(connection, "TRUNCATE");
        connection.busy_timeout(BUSY)?;
        outcome.map(drop)
    }
}

/// Runs a checkpoint; returns the pages in the WAL and how many of them are copied.
pub fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<(i64, i64)> {
    connection
        .prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?
        .query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
}

/// The mark reaches the disk before what it vouches for leaves the WAL.
fn sync_mark(high: &HighWater) {
    if let Err(error) = high.sync() {
        tracing::warn!(%error, "the high-water mark could not be synced");
    }
}
