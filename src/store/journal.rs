//! The events themselves: appending, paging, resuming.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use std::ops::ControlFlow;

use super::StoreError;
use super::fault::damage;
use crate::model::{Cursor, Epoch, Project, Severity, Timestamp, Topic};
use crate::wire::EncodedEvent;

/// Where an event stands, and whether it stood there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    pub cursor: Cursor,
    pub duplicate: bool,
}

/// An event that is durable.
#[derive(Clone, Debug)]
pub struct CommittedEvent {
    pub seq: u64,
    pub topic: Topic,
    pub subject: String,
    pub project: Project,
    pub severity: Severity,
    /// The CloudEvent as one line of JSON.
    pub body: Bytes,
}

/// What one commit appended, in order and without holes.
#[derive(Clone, Debug)]
pub struct CommittedBatch {
    pub epoch: Epoch,
    pub events: Vec<CommittedEvent>,
}

/// One row of a page, borrowed from the statement.
#[derive(Clone, Copy, Debug)]
pub struct EventRow<'a> {
    pub seq: u64,
    pub topic: &'a str,
    pub subject: &'a str,
    pub project: &'a str,
    pub severity: Severity,
    pub body: &'a [u8],
}

/// How a reader with a cursor goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Nothing is missing after this position.
    After(u64),
    /// Events between these cursors are no longer held; go on after `to.seq`.
    Gap { from: Cursor, to: Cursor, reason: &'static str },
    /// The cursor lies after the newest event.
    Future,
}

/// The journal's counters, as the writer holds them and the database stores them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalState {
    pub epoch: Epoch,
    pub oldest: u64,
    pub next: u64,
    /// Events that are held; fewer than `next - oldest` where an epoch began.
    pub events: u64,
    pub bytes: u64,
    pub chain: [u8; 32],
}

impl JournalState {
    /// Reads the counters and whether the last daemon closed cleanly; `None` in a new database.
    pub fn load(connection: &Connection) -> rusqlite::Result<Option<(Self, bool)>> {
        connection
            .query_row(
                "SELECT epoch, oldest, next, events, bytes, chain, clean FROM journal",
                [],
                |row| {
                    let state = Self {
                        epoch: Epoch(row.get(0)?),
                        oldest: row.get(1)?,
                        next: row.get(2)?,
                        events: row.get(3)?,
                        bytes: row.get(4)?,
                        chain: row.get(5)?,
                    };
                    Ok((state, row.get(6)?))
                },
            )
            .optional()
    }

    /// Stores the counters in the current transaction.
    pub fn save(&self, connection: &Connection, clean: bool) -> rusqlite::Result<()> {
        let sql =
            "INSERT OR REPLACE INTO journal (one, epoch, oldest, next, events, bytes, chain, clean)
                   VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        connection.prepare_cached(sql)?.execute(params![
            self.epoch.0,
            self.oldest,
            self.next,
            self.events,
            self.bytes,
            self.chain,
            clean
        ])?;
        Ok(())
    }

    pub fn head(&self) -> Cursor {
        Cursor { epoch: self.epoch, seq: self.next - 1 }
    }

    /// Appends one event in the current transaction, stored `now`. The counters
    /// move; the caller puts them back if the transaction does not commit.
    pub fn append(
        &mut self,
        connection: &Connection,
        event: &EncodedEvent,
        now: Timestamp,
    ) -> Result<(Published, Option<CommittedEvent>), StoreError> {
        let seq = self.next;
        let body = event.body(seq);
        let chain = chain_value(&self.chain, &body);
        let sql = "INSERT INTO event
                   (seq, id, type, subject, project, severity, stored, publisher, body, chain)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                   ON CONFLICT (project, publisher, id) DO NOTHING";
        let inserted = connection.prepare_cached(sql)?.execute(params![
            seq,
            event.id,
            event.topic.as_str(),
            event.subject,
            event.project.as_str(),
            event.severity as i64,
            now.millis(),
            event.publisher,
            body,
            chain
        ])?;
        if inserted == 0 {
            return Ok((self.duplicate(connection, event)?, None));
        }
        self.next += 1;
        self.events += 1;
        self.bytes += body.len() as u64;
        self.chain = chain;
        let published = Published { cursor: Cursor { epoch: self.epoch, seq }, duplicate: false };
        let committed = CommittedEvent {
            seq,
            topic: event.topic.clone(),
            subject: event.subject.clone(),
            project: event.project.clone(),
            severity: event.severity,
            body: Bytes::from(body),
        };
        Ok((published, Some(committed)))
    }

    fn duplicate(
        &self,
        connection: &Connection,
        event: &EncodedEvent,
    ) -> Result<Published, StoreError> {
        let sql = "SELECT seq FROM event WHERE project = ?1 AND publisher = ?2 AND id = ?3";
        let seq = connection
            .prepare_cached(sql)?
            .query_row(params![event.project.as_str(), event.publisher, event.id], |row| {
                row.get(0)
            })?;
        Ok(Published { cursor: Cursor { epoch: self.epoch, seq }, duplicate: true })
    }
}

/// The chain makes the journal auditable: one changed byte breaks every later value.
pub fn chain_value(previous: &[u8; 32], body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(body);
    hash.finalize().into()
}

/// Reads the events after position `after` as they were committed.
pub fn committed_after(
    connection: &Connection,
    after: u64,
) -> Result<Vec<CommittedEvent>, StoreError> {
    let mut events = Vec::new();
    let mut foreign = false;
    scan(connection, after, |row| {
        match (Topic::parse(row.topic), Project::parse(row.project)) {
            (Ok(topic), Ok(project)) => events.push(CommittedEvent {
                seq: row.seq,
                topic,
                subject: row.subject.to_owned(),
                project,
                severity: row.severity,
                body: Bytes::copy_from_slice(row.body),
            }),
            _ => foreign = true,
        }
        if foreign { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if foreign {
        return Err(damage("an event has a topic or project that cannot have been written").into());
    }
    Ok(events)
}

/// Visits events after `after` in order until `visit` breaks or there are no more.
/// Returns the last position visited, `after` if none.
pub fn scan(
    connection: &Connection,
    after: u64,
    visit: impl FnMut(EventRow<'_>) -> ControlFlow<()>,
) -> Result<u64, StoreError> {
    let sql =
        "SELECT seq, type, subject, project, severity, body FROM event WHERE seq > ?1 ORDER BY seq";
    visit_rows(connection, sql, after, visit)
}

/// Visits events before `before`, newest first, until `visit` breaks or there are no more.
pub fn scan_back(
    connection: &Connection,
    before: u64,
    visit: impl FnMut(EventRow<'_>) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let sql = "SELECT seq, type, subject, project, severity, body FROM event WHERE seq < ?1
               ORDER BY seq DESC";
    visit_rows(connection, sql, before, visit).map(drop)
}

fn visit_rows(
    connection: &Connection,
    sql: &str,
    bound: u64,
    mut visit: impl FnMut(EventRow<'_>) -> ControlFlow<()>,
) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([bound])?;
    let mut last = bound;
    while let Some(row) = rows.next()? {
        last = row.get(0)?;
        let event = EventRow {
            seq: last,
            topic: row.get_ref(1)?.as_str().unwrap_or_default(),
            subject: row.get_ref(2)?.as_str().unwrap_or_default(),
            project: row.get_ref(3)?.as_str().unwrap_or_default(),
            severity: severity_from(row.get(4)?),
            body: row.get_ref(5)?.as_blob().unwrap_or_default(),
        };
        if visit(event).is_break() {
            break;
        }
    }
    Ok(last)
}

fn severity_from(number: i64) -> Severity {
    match number {
        0 => Severity::Debug,
        2 => Severity::Notice,
        3 => Severity::Warning,
        4 => Severity::Error,
        _ => Severity::Info,
    }
}
