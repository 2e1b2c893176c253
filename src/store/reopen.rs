//! After a failed write: close everything, open it again, verify, and only then
//! go on (R49).
//!
//! When an fsync has failed, the kernel may have dropped the pages and call the
//! next fsync a success. So nothing the connection remembers is believed: the
//! database is opened anew from what the files hold, copied out of the WAL with
//! an fsync of its own, read through, and compared with what was acknowledged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::StoreError;
use super::database::{open_writer, quick_check};
use super::fault::{Kind, damage};
use super::group::Group;
use super::journal::{JournalState, committed_after};
use super::lineage::check_tail;
use super::wal::checkpoint;
use super::writer::{Flow, Writer};
use crate::model::{NewEvent, Project, Timestamp};

/// A disk that fails a second time within this is not to be trusted.
const TWICE: Duration = Duration::from_secs(3600);

impl Writer {
    /// Opens the database anew after `error`. Everybody who waited has been told
    /// that the outcome is unknown.
    pub(super) fn reopen(&mut self, error: rusqlite::Error) -> Flow {
        self.state.set_degraded(true);
        if self.broke.is_some_and(|before| before.elapsed() < TWICE) {
            return self.fail(error, None);
        }
        self.broke = Some(Instant::now());
        if self.space.takes_nothing() {
            self.space.ran_out();
            self.state.set_full(true);
        }
        let reason = error.to_string();
        match self.reopen_verified() {
            Ok(()) => self.tell_degraded(&reason),
            Err(StoreError::Sql(error)) if Kind::of(&error) == Kind::Damaged => self.give_up(error),
            Err(StoreError::Sql(error)) => self.fail(error, None),
            Err(other) => self.fail(damage(&other.to_string()), None),
        }
    }

    fn reopen_verified(&mut self) -> Result<(), StoreError> {
        // A reader that came in between would keep alive what the closed
        // connections shared: the index of the WAL.
        let slots = Arc::clone(&self.slots);
        let closed = slots.close();
        self.close_connection();
        let connection = open_writer(&self.path, self.options.durability)?;
        let (pages, copied) = checkpoint(&connection, "TRUNCATE")?;
        if pages != copied {
            return Err(damage("the write-ahead log could not be copied").into());
        }
        drop(closed);
        quick_check(&connection)?;
        let found = JournalState::load(&connection)?.map(|(state, _)| state);
        check_tail(&connection, found.as_ref())?;
        let found = found.ok_or_else(|| damage("the counters are gone"))?;
        agree(&connection, &self.journal, &found)?;
        if self.high.read().is_some_and(|mark| mark.seq >= found.next) {
            return Err(damage("events that were acknowledged are missing").into());
        }
        self.connection = connection;
        self.journal = found;
        Ok(())
    }

    /// What was committed although its caller was told "unknown" is published
    /// first, then the event that says what happened.
    fn tell_degraded(&mut self, reason: &str) -> Flow {
        let head = self.state.head().seq;
        let missed = match committed_after(&self.connection, head) {
            Ok(missed) => missed,
            Err(error) => return self.fail(damage(&error.to_string()), None),
        };
        if let Err(flow) = self.announce(missed) {
            return flow;
        }
        let project = Project::default_project();
        let data = serde_json::json!({ "reason": reason });
        let event = match NewEvent::own("fleet.degraded", "fleet", project, data) {
            Ok(event) => event,
            Err(error) => return self.fail(damage(&error.to_string()), None),
        };
        let before = self.journal.clone();
        let group = Group {
            connection: &self.connection,
            journal: &mut self.journal,
            source: &self.options.source,
            appended: Vec::new(),
            now: Timestamp::now(),
        };
        match group.commit_event(event) {
            Ok(appended) => {
                if let Err(flow) = self.announce(appended) {
                    return flow;
                }
            }
            Err(error) if Kind::of(&error) == Kind::Full => {
                // The store is sound, there is only no room to say so.
                self.journal = before;
                self.ran_out();
            }
            Err(error) => return self.fail(error, None),
        }
        tracing::warn!(reason, "the journal was reopened and is sound");
        self.state.set_degraded(false);
        Flow::On
    }

    /// Closes the writer's connection and the checker's, leaving the files as they are.
    pub(super) fn close_connection(&mut self) {
        if let Some(checker) = self.checker.take() {
            checker.stop();
        }
        // A connection to nothing takes its place until there is a new one.
        if let Ok(nothing) = Connection::open_in_memory() {
            let old = std::mem::replace(&mut self.connection, nothing);
            if let Err((_, error)) = old.close() {
                tracing::warn!(%error, "the database could not be closed properly");
            }
        }
    }
}

/// Whether everything that `acked` knows of is still there as it was.
fn agree(
    connection: &Connection,
    acked: &JournalState,
    found: &JournalState,
) -> Result<(), StoreError> {
    if found.epoch != acked.epoch || found.next < acked.next {
        return Err(damage("events that were acknowledged are missing").into());
    }
    if acked.events == 0 {
        return Ok(());
    }
    let chain: [u8; 32] = connection.query_row(
        "SELECT chain FROM event WHERE seq < ?1 ORDER BY seq DESC LIMIT 1",
        [acked.next],
        |row| row.get(0),
    )?;
    if chain == acked.chain {
        Ok(())
    } else {
        Err(damage("an event that was acknowledged has changed").into())
    }
}
