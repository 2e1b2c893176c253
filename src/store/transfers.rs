//! Rows of transfers.

use rusqlite::{Connection, OptionalExtension, params};

use super::readers::Snapshot;
use super::{StoreError, Tx};
use crate::model::{TaskId, Timestamp, Transfer};

impl Snapshot<'_> {
    /// The transfer, whoever it belongs to: the caller checks that.
    pub fn transfer(&self, id: TaskId) -> Result<Option<Transfer>, StoreError> {
        transfer(self.connection(), id)
    }

    /// Transfers, newest first, at most `limit`.
    pub fn transfers(&self, limit: usize) -> Result<Vec<Transfer>, StoreError> {
        let sql = "SELECT body FROM transfer ORDER BY created DESC, id LIMIT ?1";
        many(self.connection(), sql, i64::try_from(limit).unwrap_or(i64::MAX))
    }
}

impl Tx<'_> {
    /// The transfer's current row.
    pub fn transfer(&self, id: TaskId) -> Result<Option<Transfer>, StoreError> {
        transfer(self.connection, id)
    }

    /// Transfers that have not ended.
    pub fn open_transfers(&self) -> Result<Vec<Transfer>, StoreError> {
        many(self.connection, "SELECT body FROM transfer WHERE open = ?1", 1)
    }

    /// Inserts or replaces the transfer's row.
    pub fn put_transfer(&mut self, transfer: &Transfer) -> Result<(), StoreError> {
        // Values of ours always encode.
        let body = serde_json::to_string(transfer).unwrap_or_default();
        let sql = "INSERT OR REPLACE INTO transfer (id, open, created, body)
                   VALUES (?1, ?2, ?3, ?4)";
        let open = !transfer.state.is_terminal();
        let values = params![transfer.id.to_string(), open, transfer.created.millis(), body];
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// Forgets transfers that have ended and began before `before`.
    pub fn forget_transfers(&mut self, before: Timestamp, limit: usize) -> Result<(), StoreError> {
        let sql = "DELETE FROM transfer WHERE id IN (
                SELECT id FROM transfer WHERE created < ?1 AND open = 0 LIMIT ?2
            )";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.connection.prepare_cached(sql)?.execute(params![before.millis(), limit])?;
        Ok(())
    }
}

fn transfer(connection: &Connection, id: TaskId) -> Result<Option<Transfer>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT body FROM transfer WHERE id = ?1")?;
    let body = statement.query_row([id.to_string()], |row| row.get::<_, String>(0)).optional()?;
    Ok(body.as_deref().and_then(understood))
}

fn many(connection: &Connection, sql: &str, value: i64) -> Result<Vec<Transfer>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([value], |row| row.get::<_, String>(0))?;
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(rows.iter().filter_map(|body| understood(body)).collect())
}

/// A row that cannot be understood is left alone, and its transfer out.
fn understood(body: &str) -> Option<Transfer> {
    serde_json::from_str(body)
        .inspect_err(|error| tracing::error!(%error, "a transfer's row cannot be read"))
        .ok()
}
