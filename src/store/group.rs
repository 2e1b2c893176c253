//! Changes on their way through the writer, and the transaction they share.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::journal::{CommittedEvent, JournalState, Published};
use super::{StoreError, Tx};
use crate::model::{NewEvent, Timestamp};
use crate::wire::EncodedEvent;

/// A change on its way through the writer.
pub trait Job: Send {
    /// Does the work in the transaction; `false` undoes it.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;

    /// Whether undoing needs a savepoint (a single statement undoes itself).
    fn needs_savepoint(&self) -> bool;

    /// Whether it only adds events: refused while the disk is full.
    fn only_adds(&self) -> bool;

    /// Answers the caller, after the commit.
    fn finish(self: Box<Self>, commit: Result<(), StoreError>);
}

/// What running a group needs of the writer.
pub struct Group<'a> {
    pub connection: &'a Connection,
    pub journal: &'a mut JournalState,
    pub source: &'a str,
    pub appended: Vec<CommittedEvent>,
    pub now: Timestamp,
}

impl Group<'_> {
    /// Runs `jobs` in one transaction and commits it. Returns what it appended.
    ///
    /// # Errors
    /// Nothing of any job is stored, unless the failure hides whether it is
    /// (`fault::Kind::Broken`). The counters have moved; the caller puts them back.
    pub fn commit(mut self, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<Vec<CommittedEvent>> {
        let outcome = self.transact(jobs);
        if outcome.is_err() && !self.connection.is_autocommit() {
            // If this fails too, the next BEGIN tells.
            let _ = self.execute("ROLLBACK");
        }
        outcome.map(|()| self.appended)
    }

    /// Appends one of the store's own events, durably.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn commit_event(self, event: NewEvent) -> rusqlite::Result<Vec<CommittedEvent>> {
        let (reply, _nobody) = oneshot::channel::<Result<Published, StoreError>>();
        let change = Change::new(move |tx: &mut Tx<'_>| tx.append(event), reply);
        self.commit(&mut [Box::new(change)])
    }

    fn transact(&mut self, jobs: &mut [Box<dyn Job>]) -> rusqlite::Result<()> {
        self.execute("BEGIN IMMEDIATE")?;
        for job in jobs {
            self.run_job(job.as_mut())?;
        }
        if !self.appended.is_empty() {
            self.journal.save(self.connection, false)?;
        }
        self.execute("COMMIT")
    }

    /// Runs one job; an error is one that ends the whole transaction.
    fn run_job(&mut self, job: &mut dyn Job) -> rusqlite::Result<()> {
        let savepoint = job.needs_savepoint();
        if savepoint {
            self.execute("SAVEPOINT job")?;
        }
        let (journal, length) = (self.journal.clone(), self.appended.len());
        let mut fault = None;
        let mut tx = Tx {
            connection: self.connection,
            journal: self.journal,
            appended: &mut self.appended,
            source: self.source,
            now: self.now,
            fault: &mut fault,
        };
        // A defect in one change must not take the writer down with it.
        let kept = catch_unwind(AssertUnwindSafe(|| job.run(&mut tx))).unwrap_or(false);
        if let Some(fault) = fault {
            return Err(fault);
        }
        if self.connection.is_autocommit() {
            // SQLite rolled everything back by itself; the next statement tells why.
            self.execute("BEGIN IMMEDIATE")?;
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR),
                Some(String::from("SQLite gave the transaction up")),
            ));
        }
        if !kept {
            *self.journal = journal;
            self.appended.truncate(length);
        }
        match (savepoint, kept) {
            (false, _) => Ok(()),
            (true, true) => self.execute("RELEASE job"),
            (true, false) => {
                self.execute("ROLLBACK TO job").and_then(|()| self.execute("RELEASE job"))
            }
        }
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        execute(self.connection, sql)
    }
}

/// Runs a statement of the transaction language.
pub fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

/// A closure on its way through the writer.
pub struct Change<T, E, F> {
    change: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Change<T, E, F> {
    pub fn new(change: F, reply: oneshot::Sender<Result<T, E>>) -> Self {
        Self { change: Some(change), result: None, reply }
    }
}

impl<T, E, F> Job for Change<T, E, F>
where
    F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<StoreError> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        self.result = self.change.take().map(|change| change(tx));
        matches!(self.result, Some(Ok(_)))
    }

    fn needs_savepoint(&self) -> bool {
        true
    }

    fn only_adds(&self) -> bool {
        false
    }

    fn finish(self: Box<Self>, commit: Result<(), StoreError>) {
        answer(self.reply, self.result, commit);
    }
}

/// Events on their way through the writer.
pub struct Publish {
    events: Vec<EncodedEvent>,
    result: Option<Result<Vec<Published>, StoreError>>,
    reply: oneshot::Sender<Result<Vec<Published>, StoreError>>,
}

impl Publish {
    pub fn new(
        events: Vec<EncodedEvent>,
        reply: oneshot::Sender<Result<Vec<Published>, StoreError>>,
    ) -> Self {
        Self { events, result: None, reply }
    }
}

impl Job for Publish {
    fn run(&mut self, tx: &mut Tx<'_>) -> bool {
        let result: Result<_, _> =
            self.events.iter().map(|event| tx.append_encoded(event)).collect();
        let kept = result.is_ok();
        self.result = Some(result);
        kept
    }

    fn needs_savepoint(&self) -> bool {
        self.events.len() > 1
    }

    fn only_adds(&self) -> bool {
        true
    }

    fn finish(self: Box<Self>, commit: Result<(), StoreError>) {
        answer(self.reply, self.result, commit);
    }
}

/// The commit's failure outweighs the job's success, and its own complaint
/// where that was only the first sign of it. A job that did not run because
/// the group ended before it is told of the commit as well.
fn answer<T, E: From<StoreError>>(
    reply: oneshot::Sender<Result<T, E>>,
    result: Option<Result<T, E>>,
    commit: Result<(), StoreError>,
) {
    let answer = match (result, commit) {
        (_, Err(error)) => Err(error.into()),
        (Some(result), Ok(())) => result,
        (None, Ok(())) => Err(StoreError::Panicked.into()),
    };
    // A caller that went away needs no answer; its change stays.
    let _ = reply.send(answer);
}
