//! Named cursors, kept for hooks, models and scripts that would lose theirs.
//!
//! At least once: what a call handed out counts as seen only when the same
//! name calls again, or says so.

use rusqlite::{OptionalExtension, params};

use super::readers::Snapshot;
use super::{StoreError, Tx};
use crate::model::{Cursor, Epoch, Timestamp};

/// Where a name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedCursor {
    /// Resume here.
    pub acked: Cursor,
    /// Handed out, not yet known to have been seen.
    pub handed: Cursor,
}

impl Snapshot<'_> {
    /// The cursor of `name` for `principal`, if it was ever used.
    pub fn named_cursor(
        &self,
        principal: &str,
        name: &str,
    ) -> Result<Option<NamedCursor>, StoreError> {
        read(self.connection(), principal, name)
    }
}

impl Tx<'_> {
    /// Begins a call under `name`: what was handed out before counts as seen,
    /// or, if the caller names a position itself, exactly that. Returns where
    /// the call resumes; `start` if the name is new.
    pub fn begin_named(
        &mut self,
        principal: &str,
        name: &str,
        seen: Option<Cursor>,
        start: Cursor,
    ) -> Result<Cursor, StoreError> {
        let stored = read(self.connection, principal, name)?;
        let from = seen.or(stored.map(|cursor| cursor.handed)).unwrap_or(start);
        self.put_named(principal, name, from, from)?;
        Ok(from)
    }

    /// Notes that events up to `handed` have been handed out under `name`.
    pub fn hand_named(
        &mut self,
        principal: &str,
        name: &str,
        handed: Cursor,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE cursor SET handed = ?3 WHERE principal = ?1 AND name = ?2 AND epoch = ?4";
        self.connection.prepare_cached(sql)?.execute(params![
            principal,
            name,
            handed.seq,
            handed.epoch.0
        ])?;
        Ok(())
    }

    fn put_named(
        &mut self,
        principal: &str,
        name: &str,
        acked: Cursor,
        handed: Cursor,
    ) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO cursor (principal, name, epoch, acked, handed, used)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        self.connection.prepare_cached(sql)?.execute(params![
            principal,
            name,
            acked.epoch.0,
            acked.seq,
            handed.seq,
            Timestamp::now().millis()
        ])?;
        Ok(())
    }
}

fn read(
    connection: &rusqlite::Connection,
    principal: &str,
    name: &str,
) -> Result<Option<NamedCursor>, StoreError> {
    let sql = "SELECT epoch, acked, handed FROM cursor WHERE principal = ?1 AND name = ?2";
    let found = connection
        .prepare_cached(sql)?
        .query_row(params![principal, name], |row| {
            let epoch = Epoch(row.get(0)?);
            Ok(NamedCursor {
                acked: Cursor { epoch, seq: row.get(1)? },
                handed: Cursor { epoch, seq: row.get(2)? },
            })
        })
        .optional()?;
    Ok(found)
}
