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

/// A WAL file longer than this is cut even when much happens: readers that
/// overlap each other without a pause would let it grow for ever.
const LONGEST_BYTES: u64 = 32 * 1024 * 1024;

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

    /// After a commit: whether so much has gathered that it is to be copied.
    ///
    /// # Errors
    /// If the WAL cannot be read.
    pub fn is_due(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        self.commits += 1;
        if self.commits < LOOK {
            return Ok(false);
        }
        self.commits = 0;
        // Says how many pages there are and does nothing.
        let (pages, copied) = checkpoint(connection, "NOOP")?;
        Ok(pages - copied >= CHECKPOINT_PAGES)
    }

    /// When nothing happens: whether the WAL is so long that its room is to be
    /// given back.
    pub fn is_long(&self) -> bool {
        self.length() > IDLE_BYTES
    }

    /// Whether readers have to wait a moment, so that the WAL can begin anew.
    pub fn is_too_long(&self) -> bool {
        self.length() > LONGEST_BYTES
    }

    fn length(&self) -> u64 {
        fs::metadata(&self.file).map_or(0, |meta| meta.len())
    }

    /// Copies what nobody reads any more.
    ///
    /// # Errors
    /// If the database cannot be written or synced. Nothing is lost by that:
    /// what was not copied for certain stays in the WAL.
    pub fn copy(&self, connection: &Connection, high: &HighWater) -> rusqlite::Result<()> {
        sync_mark(high);
        checkpoint(connection, "PASSIVE").map(drop)
    }

    /// Copies everything and cuts the file to nothing, if nobody is reading it.
    ///
    /// # Errors
    /// As [`Self::copy`].
    pub fn empty(&self, connection: &Connection, high: &HighWater) -> rusqlite::Result<()> {
        sync_mark(high);
        // Whoever is reading goes on reading, and nobody waits for that here.
        connection.busy_timeout(Duration::ZERO)?;
        let outcome = checkpoint(connection, "TRUNCATE");
        connection.busy_timeout(BUSY)?;
        outcome.map(drop)
    }
}

/// Bytes that the database file grows by when the WAL is copied into it.
pub fn growth(connection: &Connection, database: &Path) -> rusqlite::Result<u64> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    let wanted = pragma("page_count")?.saturating_mul(pragma("page_size")?);
    Ok(wanted.saturating_sub(fs::metadata(database).map_or(0, |meta| meta.len())))
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
