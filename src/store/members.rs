//! Rows of members.

use rusqlite::{Connection, OptionalExtension, params};

use super::readers::Snapshot;
use super::{StoreError, Tx};
use crate::model::{Member, MemberId};

impl Snapshot<'_> {
    /// Every member, by name.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn members(&self) -> Result<Vec<Member>, StoreError> {
        members(self.connection())
    }

    /// How many rows there are, with those that cannot be understood.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn member_rows(&self) -> Result<usize, StoreError> {
        let sql = "SELECT count(*) FROM member";
        Ok(self.connection().query_row(sql, [], |row| row.get(0))?)
    }
}

impl Tx<'_> {
    /// Every member, by name: few enough to look through.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn members(&self) -> Result<Vec<Member>, StoreError> {
        members(self.connection)
    }

    /// The member's current row.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn member(&self, id: MemberId) -> Result<Option<Member>, StoreError> {
        let sql = "SELECT body FROM member WHERE id = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let body =
            statement.query_row([id.to_string()], |row| row.get::<_, String>(0)).optional()?;
        Ok(body.as_deref().and_then(understood))
    }

    /// Inserts or replaces the member's row. Names are unique: the caller has
    /// looked in this transaction.
    ///
    /// # Errors
    /// If the database refuses it.
    pub fn put_member(&mut self, member: &Member) -> Result<(), StoreError> {
        // Values of ours always encode.
        let body = serde_json::to_string(member).unwrap_or_default();
        let sql = "INSERT INTO member (id, name, body) VALUES (?1, ?2, ?3)
                   ON CONFLICT (id) DO UPDATE SET name = ?2, body = ?3";
        let values = params![member.id.to_string(), member.name.as_str(), body];
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// Forgets a member. `false` if there is none of this id.
    ///
    /// # Errors
    /// If the database refuses it.
    pub fn remove_member(&mut self, id: MemberId) -> Result<bool, StoreError> {
        let sql = "DELETE FROM member WHERE id = ?1";
        Ok(self.connection.prepare_cached(sql)?.execute([id.to_string()])? > 0)
    }
}

fn members(connection: &Connection) -> Result<Vec<Member>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT body FROM member ORDER BY name")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(rows.iter().filter_map(|body| understood(body)).collect())
}

/// A row that cannot be understood is left alone, and its member out.
fn understood(body: &str) -> Option<Member> {
    serde_json::from_str(body)
        .inspect_err(|error| tracing::error!(%error, "a member's row cannot be read"))
        .ok()
}
