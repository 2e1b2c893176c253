//! What sessions said, in the database: it lives as long as their ids do.
//!
//! An id is good after a restart, so a client does not notice one and does not
//! say again what it wants to be told. A row is written from what is current
//! when the writer comes to it, so that an older state never overtakes a newer.

use std::sync::Arc;

use super::{Nonce, Sessions, Table};
use crate::store::{SessionRow, Store, StoreError, Tx};

/// A session and the row to store of it; `None` if there is to be none.
type Due = (Nonce, Option<SessionRow>);

impl Sessions {
    /// Reads what earlier daemons kept, once.
    ///
    /// # Errors
    /// If it cannot be read; the next call tries again.
    pub async fn load(&self, store: &Store) -> Result<(), StoreError> {
        let read = || async {
            let rows = store.read(|snapshot| snapshot.sessions()).await?;
            let mut table = self.lock();
            rows.into_iter().for_each(|row| table.restore(row));
            Ok(())
        };
        self.loaded.get_or_try_init(read).await.copied()
    }

    /// Stores the session as it is, and returns when it is durable.
    ///
    /// # Errors
    /// If the database does not take it.
    pub async fn keep(self: &Arc<Self>, store: &Store, session: Nonce) -> Result<(), StoreError> {
        let sessions = Arc::clone(self);
        let change = move |tx: &mut Tx<'_>| -> Result<Vec<Due>, StoreError> {
            let due = sessions.due(session);
            for (nonce, row) in &due {
                match row {
                    Some(row) => tx.put_session(row)?,
                    None => tx.remove_session(nonce)?,
                }
            }
            Ok(due)
        };
        // Only what is committed is saved; the next one tries the rest again.
        let saved = store.write(change).await?;
        let mut table = self.lock();
        for (nonce, row) in saved {
            if table.row(nonce) == row {
                table.unsaved.remove(&nonce);
            }
        }
        Ok(())
    }

    /// Whether the session has said something that is kept.
    pub fn is_kept(&self, session: &Nonce) -> bool {
        let table = self.lock();
        table.live.get(session).is_some_and(|live| live.control.borrow().is_kept())
    }

    /// The rows to write: this session's, and those of sessions that gave way.
    fn due(&self, session: Nonce) -> Vec<Due> {
        let table = self.lock();
        let mut due = table.unsaved.clone();
        due.insert(session);
        due.into_iter().map(|nonce| (nonce, table.row(nonce))).collect()
    }
}

impl Table {
    /// What is to be stored of a session; `None` if nothing is.
    fn row(&self, nonce: Nonce) -> Option<SessionRow> {
        if let Some(principal) = self.ended.get(&nonce) {
            let (settings, wake) = (String::from("{}"), Default::default());
            let principal = Arc::clone(principal);
            return Some(SessionRow { nonce, principal, settings, wake, ended: true });
        }
        let live = self.live.get(&nonce)?;
        let control = live.control.borrow();
        control.is_kept().then(|| SessionRow {
            nonce,
            principal: Arc::clone(&live.principal),
            settings: control.settings(),
            wake: control.wake.as_ref().clone(),
            ended: false,
        })
    }

    /// Takes what was stored, unless the session is known by now.
    fn restore(&mut self, row: SessionRow) {
        if self.live.contains_key(&row.nonce) || self.ended.contains_key(&row.nonce) {
            return;
        }
        if row.ended {
            return self.bury(&row.principal, row.nonce);
        }
        let control = super::Control::stored(&row.settings, row.wake);
        self.live(&row.principal, row.nonce).control.send_replace(control);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::sessions::{Level, MOST_OF_ONE};
    use crate::model::{Cursor, Epoch, PrincipalId};
    use crate::store::testing;

    const AT: Cursor = Cursor { epoch: Epoch(7), seq: 3 };

    fn nonce(n: usize) -> Nonce {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&(n as u64).to_le_bytes());
        nonce
    }

    /// The same database under a new table.
    async fn reloaded(store: &Store) -> Arc<Sessions> {
        let sessions = Arc::new(Sessions::default());
        sessions.load(store).await.unwrap();
        sessions
    }

    #[tokio::test]
    async fn what_a_session_said_is_there_again_until_it_takes_it_back_or_ends() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open(&dir).store;
        let owner: PrincipalId = "owner".into();
        let sessions = reloaded(&store).await;
        sessions.set_level(&owner, nonce(1), Level::Nothing, 3);
        assert!(sessions.watch(&owner, nonce(1), "fleet://tasks", AT));
        sessions.keep(&store, nonce(1)).await.unwrap();
        sessions.end(&owner, nonce(2));
        sessions.keep(&store, nonce(2)).await.unwrap();

        let sessions = reloaded(&store).await;
        let (_, control) = sessions.open_stream(&owner, nonce(1));
        assert_eq!(control.borrow().level, Level::Nothing);
        assert_eq!(*control.borrow().watched, ["fleet://tasks"]);
        assert_eq!(control.borrow().watched_since, Some(AT));
        assert!(sessions.has_ended(&nonce(2)) && !sessions.has_ended(&nonce(1)));
        sessions.unwatch(nonce(1), "fleet://tasks");
        sessions.set_level(&owner, nonce(1), Level::default(), 3);
        sessions.keep(&store, nonce(1)).await.unwrap();
        let rows = store.read(|snapshot| snapshot.sessions()).await.unwrap();
        let rows: Vec<_> = rows.iter().map(|row| (row.nonce, row.ended)).collect();
        assert_eq!(rows, [(nonce(2), true)], "what is as it always is needs no row");
    }

    #[tokio::test]
    async fn who_gives_way_with_something_asked_for_ends_visibly() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open(&dir).store;
        let (owner, other): (PrincipalId, PrincipalId) = ("owner".into(), "other".into());
        let sessions = reloaded(&store).await;
        sessions.set_level(&other, nonce(0), Level::Nothing, 0);
        sessions.keep(&store, nonce(0)).await.unwrap();
        for n in 1..=MOST_OF_ONE + 1 {
            sessions.set_level(&owner, nonce(n), Level::Nothing, 0);
        }
        assert!(sessions.has_ended(&nonce(1)) && !sessions.has_ended(&nonce(2)));
        // A group that is rolled back has saved nothing: it is due again.
        let of_failed = Arc::clone(&sessions);
        let failed = move |_: &mut Tx<'_>| -> Result<(), StoreError> {
            of_failed.due(nonce(MOST_OF_ONE + 1));
            Err(StoreError::Degraded)
        };
        store.write(failed).await.unwrap_err();
        sessions.keep(&store, nonce(MOST_OF_ONE + 1)).await.unwrap();
        assert!(sessions.lock().unsaved.is_empty());
        let sessions = reloaded(&store).await;
        assert!(sessions.has_ended(&nonce(1)));
        assert!(sessions.is_kept(&nonce(0)), "another's crowd does not push it out");
    }
}
