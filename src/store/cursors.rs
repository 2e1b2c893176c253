//! Named cursors, kept for hooks, models and scripts that would lose theirs.
//!
//! At least once: what a call handed out counts as seen only when the same
//! name calls again, or says so.

use rusqlite::{Connection, OptionalExtension, params};

use super::readers::Snapshot;
use super::{StoreError, Tx};
use crate::model::{Cursor, Epoch, Timestamp};

impl Snapshot<'_> {
    /// Where `name` of `principal` goes on, if it was ever used.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn named_cursor(&self, principal: &str, name: &str) -> Result<Option<Cursor>, StoreError> {
        read(self.connection(), principal, name)
    }
}

impl Tx<'_> {
    /// Begins a call under `name`: what was handed out before counts as seen,
    /// or, if the caller names a position itself, exactly that. Returns where
    /// the call resumes; `start` if the name is new.
    ///
    /// # Errors
    /// If the database refuses it.
    pub fn begin_named(
        &mut self,
        principal: &str,
        name: &str,
        seen: Option<Cursor>,
        start: Cursor,
    ) -> Result<Cursor, StoreError> {
        let stored = read(self.connection, principal, name)?;
        let from = seen.or(stored).unwrap_or(start);
        let sql = "INSERT OR REPLACE INTO cursor (principal, name, epoch, seq, used)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let used = Timestamp::now().millis();
        self.connection.prepare_cached(sql)?.execute(params![
            principal,
            name,
            from.epoch.0,
            from.seq,
            used
        ])?;
        Ok(from)
    }

    /// Notes that events up to `handed` have been handed out under `name`.
    /// Positions of different epochs have no order: there the later call counts.
    ///
    /// # Errors
    /// If the database refuses it.
    pub fn hand_named(
        &mut self,
        principal: &str,
        name: &str,
        handed: Cursor,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE cursor SET epoch = ?3, seq = ?4
                   WHERE principal = ?1 AND name = ?2 AND (epoch <> ?3 OR seq < ?4)";
        self.connection.prepare_cached(sql)?.execute(params![
            principal,
            name,
            handed.epoch.0,
            handed.seq
        ])?;
        Ok(())
    }
}

fn read(
    connection: &Connection,
    principal: &str,
    name: &str,
) -> Result<Option<Cursor>, StoreError> {
    let sql = "SELECT epoch, seq FROM cursor WHERE principal = ?1 AND name = ?2";
    let found = connection
        .prepare_cached(sql)?
        .query_row(params![principal, name], |row| {
            Ok(Cursor { epoch: Epoch(row.get(0)?), seq: row.get(1)? })
        })
        .optional()?;
    Ok(found)
}
