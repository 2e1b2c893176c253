//! What MCP sessions said that their ids cannot carry. The ids themselves are
//! kept nowhere: they prove themselves.

use std::collections::BTreeMap;

use rusqlite::{Row, params};

use super::readers::Snapshot;
use super::{StoreError, Tx};
use crate::model::PrincipalId;

/// One session, as far as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// The random part of its id.
    pub nonce: [u8; 16],
    pub principal: PrincipalId,
    /// JSON that the mcp component makes and reads.
    pub settings: String,
    /// How whoever speaks in it can be woken: `client` is its name, the others
    /// are names of `wire::wake`.
    pub wake: BTreeMap<String, String>,
    /// Its id is not taken any more.
    pub ended: bool,
}

impl Snapshot<'_> {
    /// Every session, the one unused for longest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn sessions(&self) -> Result<Vec<SessionRow>, StoreError> {
        let sql = "SELECT nonce, principal, settings, wake, ended FROM session ORDER BY used";
        let mut statement = self.connection().prepare_cached(sql)?;
        let rows = statement.query_map([], from_row)?.collect::<Result<_, _>>()?;
        Ok(rows)
    }
}

impl Tx<'_> {
    /// Keeps a session as it is now; it counts as used.
    ///
    /// # Errors
    /// If the database refuses it.
    pub fn put_session(&mut self, session: &SessionRow) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO session (nonce, principal, settings, wake, ended, used)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        // A map of texts always encodes.
        let wake = serde_json::to_string(&session.wake).unwrap_or_default();
        self.connection.prepare_cached(sql)?.execute(params![
            session.nonce,
            session.principal.as_ref(),
            session.settings,
            wake,
            session.ended,
            self.now.millis(),
        ])?;
        Ok(())
    }

    /// Forgets a session, if there is one.
    ///
    /// # Errors
    /// If the database refuses it.
    pub fn remove_session(&mut self, nonce: &[u8; 16]) -> Result<(), StoreError> {
        let sql = "DELETE FROM session WHERE nonce = ?1";
        self.connection.prepare_cached(sql)?.execute([nonce])?;
        Ok(())
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    let wake: String = row.get(3)?;
    Ok(SessionRow {
        nonce: row.get(0)?,
        principal: row.get::<_, String>(1)?.into(),
        settings: row.get(2)?,
        wake: serde_json::from_str(&wake).unwrap_or_default(),
        ended: row.get(4)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing;

    #[tokio::test]
    async fn a_session_is_kept_replaced_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let row = SessionRow {
            nonce: [7; 16],
            principal: "owner".into(),
            settings: String::from("{}"),
            wake: [("client".to_owned(), "test".to_owned())].into(),
            ended: false,
        };
        let ended = SessionRow { ended: true, ..row.clone() };
        let rows = async |fixture: &testing::Fixture| {
            fixture.store.read(|snapshot| snapshot.sessions()).await.unwrap()
        };
        let fixture = testing::open(&dir);
        for row in [row, ended.clone()] {
            let put = move |tx: &mut Tx<'_>| tx.put_session(&row);
            fixture.store.write(put).await.unwrap();
        }
        fixture.store.close().await;
        drop(fixture);
        let fixture = testing::open(&dir);
        assert_eq!(rows(&fixture).await, [ended]);
        fixture.store.write(|tx: &mut Tx<'_>| tx.remove_session(&[7; 16])).await.unwrap();
        assert_eq!(rows(&fixture).await, []);
    }
}
