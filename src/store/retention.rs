//! Trimming the journal from its old end, a small chunk at a time.

use rusqlite::{Connection, OptionalExtension};

use super::Retention;
use super::journal::JournalState;
use crate::model::Timestamp;

/// Rows deleted in one transaction: some milliseconds of work, so that a
/// publisher never notices; more than one group appends, so that trimming
/// keeps up with whoever publishes.
pub const CHUNK: u64 = 1000;

/// Milliseconds after which a named cursor or a session that nobody used is
/// forgotten: 90 days.
const UNUSED_AGE: i64 = 90 * 24 * 3600 * 1000;

/// Whether there is anything to trim; age counts only if it is known what time
/// it is `now`. Reads one row at most.
pub fn is_due(
    connection: &Connection,
    journal: &JournalState,
    keep: &Retention,
    now: Option<Timestamp>,
) -> rusqlite::Result<bool> {
    if journal.events == 0 {
        return Ok(false);
    }
    if journal.events > keep.rows || journal.bytes > keep.bytes {
        return Ok(true);
    }
    let oldest: Option<i64> = connection
        .prepare_cached("SELECT stored FROM event WHERE seq >= ?1 ORDER BY seq LIMIT 1")?
        .query_row([journal.oldest], |row| row.get(0))
        .optional()?;
    Ok(oldest.is_some_and(|stored| stored < cutoff(keep, now)))
}

/// Forgets named cursors, and what sessions said, that nobody has used for 90
/// days: the id of a session is taken all the same, as one that said nothing.
pub fn drop_unused(connection: &Connection, now: Timestamp) -> rusqlite::Result<usize> {
    let mut dropped = 0;
    for sql in ["DELETE FROM cursor WHERE used < ?1", "DELETE FROM session WHERE used < ?1"] {
        dropped += connection.prepare_cached(sql)?.execute([now.millis() - UNUSED_AGE])?;
    }
    Ok(dropped)
}

/// Deletes one chunk of what `keep` no longer asks for, in the current
/// transaction. Returns whether there may be more to delete.
pub fn trim(
    connection: &Connection,
    journal: &mut JournalState,
    keep: &Retention,
    now: Option<Timestamp>,
) -> rusqlite::Result<bool> {
    let over_rows = journal.events.saturating_sub(keep.rows);
    let over_bytes = journal.bytes.saturating_sub(keep.bytes);
    let cutoff = cutoff(keep, now);
    let (mut rows_freed, mut bytes_freed) = (0, 0);
    // Positions may be missing where an epoch began: rows are counted, not positions.
    let mut oldest = journal.next;
    let sql = "SELECT seq, length(body), stored FROM event WHERE seq >= ?1 ORDER BY seq LIMIT ?2";
    {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([journal.oldest, CHUNK + 1])?;
        while let Some(row) = rows.next()? {
            let due = rows_freed < over_rows
                || bytes_freed < over_bytes
                || row.get::<_, i64>(2)? < cutoff;
            if !due || rows_freed == CHUNK {
                oldest = row.get(0)?;
                break;
            }
            rows_freed += 1;
            bytes_freed += row.get::<_, u64>(1)?;
        }
    }
    if rows_freed > 0 {
        connection.prepare_cached("DELETE FROM event WHERE seq < ?1")?.execute([oldest])?;
        journal.oldest = oldest;
        journal.events = journal.events.saturating_sub(rows_freed);
        journal.bytes = journal.bytes.saturating_sub(bytes_freed);
        journal.save(connection, false)?;
    }
    Ok(rows_freed == CHUNK)
}

/// Events stored before this are too old.
fn cutoff(keep: &Retention, now: Option<Timestamp>) -> i64 {
    let age = i64::try_from(keep.age.as_millis()).unwrap_or(i64::MAX);
    now.map_or(i64::MIN, |now| now.millis().saturating_sub(age))
}
