//! Trimming the journal from its old end, a small chunk at a time.

use rusqlite::{Connection, OptionalExtension, params};

use super::journal::JournalState;
use super::{Retention, StoreError};
use crate::model::Timestamp;

/// Rows deleted in one transaction: some milliseconds of work, so that a
/// publisher never notices.
const CHUNK: u64 = 1000;

/// Deletes one chunk if `keep` asks for it, in the current transaction.
/// Returns whether there may be more to delete.
pub fn trim(
    connection: &Connection,
    journal: &mut JournalState,
    keep: &Retention,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let held = journal.next - journal.oldest;
    let over_rows = held.saturating_sub(keep.rows);
    let mut last = journal.oldest + over_rows.min(CHUNK);
    let bound = (journal.oldest + CHUNK).min(journal.next);
    if over_rows < CHUNK && journal.bytes > keep.bytes {
        last = last.max(after_bytes(connection, journal, journal.bytes - keep.bytes, bound)?);
    }
    if last < bound {
        last = last.max(after_age(connection, journal, keep, now, bound)?);
    }
    if last <= journal.oldest {
        return Ok(false);
    }
    delete_before(connection, journal, last)?;
    Ok(last == bound && journal.oldest < journal.next)
}

/// The position after enough of the oldest events to free `excess` bytes.
fn after_bytes(
    connection: &Connection,
    journal: &JournalState,
    excess: u64,
    bound: u64,
) -> Result<u64, StoreError> {
    let sql = "SELECT seq, length(body) FROM event WHERE seq >= ?1 AND seq < ?2 ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![journal.oldest, bound])?;
    let (mut freed, mut position) = (0, journal.oldest);
    while freed < excess {
        let Some(row) = rows.next()? else { break };
        position = row.get::<_, u64>(0)? + 1;
        freed += row.get::<_, u64>(1)?;
    }
    Ok(position)
}

/// The position of the first event that is young enough, at most `bound`.
fn after_age(
    connection: &Connection,
    journal: &JournalState,
    keep: &Retention,
    now: Timestamp,
    bound: u64,
) -> Result<u64, StoreError> {
    let age = i64::try_from(keep.age.as_millis()).unwrap_or(i64::MAX);
    let cutoff = now.millis().saturating_sub(age);
    let sql =
        "SELECT seq FROM event WHERE seq >= ?1 AND seq < ?2 AND time >= ?3 ORDER BY seq LIMIT 1";
    let young: Option<u64> = connection
        .prepare_cached(sql)?
        .query_row(params![journal.oldest, bound, cutoff], |row| row.get(0))
        .optional()?;
    Ok(young.unwrap_or(bound))
}

fn delete_before(
    connection: &Connection,
    journal: &mut JournalState,
    position: u64,
) -> Result<(), StoreError> {
    let freed: u64 = connection
        .prepare_cached("SELECT coalesce(sum(length(body)), 0) FROM event WHERE seq < ?1")?
        .query_row([position], |row| row.get(0))?;
    connection.prepare_cached("DELETE FROM event WHERE seq < ?1")?.execute([position])?;
    journal.oldest = position;
    journal.bytes = journal.bytes.saturating_sub(freed);
    journal.save(connection, false)
}
