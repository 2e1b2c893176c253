//! The writer thread: group commit, checkpoints, the high-water mark.

use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, ErrorCode as SqlCode, params};
use tokio::sync::{mpsc, oneshot};

use super::database::{database_path, open_writer};
use super::highwater::{HighWater, Mark};
use super::journal::{CommittedBatch, CommittedEvent, JournalState, Published, Resume};
use super::retention::trim;
use super::{CommitHook, OpenReport, Regression, StoreError, StoreOptions, Tx};
use crate::model::{Cursor, Epoch, Timestamp};
use crate::wire::EncodedEvent;

/// Changes waiting for the writer. Full means the disk is slower than the
/// callers, who then wait their turn; nothing is dropped.
const WAITING: usize = 1024;

/// Most changes in one transaction: enough that an fsync is shared by all who
/// wait, few enough that the first of them does not wait long for the last.
const GROUP: usize = 512;

/// Bytes appended between checkpoints. The WAL stays a few times this size.
const CHECKPOINT_BYTES: u64 = 8 * 1024 * 1024;

/// A change on its way through the writer.
trait Job: Send {
    /// Does the work in the transaction; `false` undoes it.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Whether undoing needs a savepoint (a single statement undoes itself).
    fn needs_savepoint(&self) -> bool;
    /// Answers the caller, after the commit.
    fn finish(self: Box<Self>, commit: Result<(), StoreError>);
}

enum Message {
    Job(Box<dyn Job>),
    Tick(oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<()>),
}

/// What callers and the writer thread share.
pub struct Shared {
    messages: mpsc::Sender<Message>,
    position: Mutex<Position>,
    /// Earlier epochs with the last position that was still there when each ended.
    earlier: Vec<(Epoch, u64)>,
    degraded: AtomicBool,
    source: String,
}

#[derive(Clone, Copy)]
struct Position {
    head: Cursor,
    oldest: u64,
    bytes: u64,
}

/// The writer before its thread starts, and in it.
pub struct Writer {
    path: PathBuf,
    connection: Connection,
    journal: JournalState,
    high: HighWater,
    inode: u64,
    uncheckpointed: u64,
    options: StoreOptions,
    hook: CommitHook,
}

impl Writer {
    /// Opens the database and decides whether it is the one we left.
    pub fn open(options: StoreOptions, hook: CommitHook) -> Result<(Self, OpenReport), StoreError> {
        let path = database_path(&options.dir);
        let connection = open_writer(&path, options.durability)?;
        let io = |path: &PathBuf| {
            let path = path.clone();
            move |source| StoreError::Io { path, source }
        };
        let mark_path = options.dir.join("journal.mark");
        let high = HighWater::open(&mark_path).map_err(io(&mark_path))?;
        let inode = std::fs::metadata(&path).map_err(io(&path))?.ino();
        let found = JournalState::load(&connection)?;
        let unclean = found.as_ref().is_some_and(|(_, clean)| !clean);
        let (journal, regressed) =
            settle_epoch(&connection, found.map(|(state, _)| state), high.read(), inode)?;
        let writer =
            Self { path, connection, journal, high, inode, uncheckpointed: 0, options, hook };
        writer.journal.save(&writer.connection, false)?;
        writer.move_mark()?;
        let report = OpenReport { head: writer.journal.head(), unclean, regressed };
        Ok((writer, report))
    }

    pub fn database_path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Starts the thread.
    pub fn start(self) -> Result<Arc<Shared>, StoreError> {
        let (messages, waiting) = mpsc::channel(WAITING);
        let shared = Arc::new(Shared {
            messages,
            position: Mutex::new(self.position()),
            earlier: earlier_epochs(&self.connection)?,
            degraded: AtomicBool::new(false),
            source: self.options.source.clone(),
        });
        let of_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(String::from("store-write"))
            .spawn(move || self.serve(waiting, &of_thread))
            .map_err(|source| StoreError::Io { path: PathBuf::from("(thread)"), source })?;
        Ok(shared)
    }

    fn position(&self) -> Position {
        Position {
            head: self.journal.head(),
            oldest: self.journal.oldest,
            bytes: self.journal.bytes,
        }
    }

    fn serve(mut self, mut waiting: mpsc::Receiver<Message>, shared: &Shared) {
        let mut group = Vec::with_capacity(GROUP);
        while waiting.blocking_recv_many(&mut group, GROUP) > 0 {
            let mut jobs = Vec::with_capacity(group.len());
            let mut ticks = Vec::new();
            let mut closing = None;
            for message in group.drain(..) {
                match message {
                    Message::Job(job) => jobs.push(job),
                    Message::Tick(reply) => ticks.push(reply),
                    Message::Close(reply) => closing = Some(reply),
                }
            }
            if !jobs.is_empty() {
                self.commit(jobs, shared);
            }
            for tick in ticks {
                let _ = tick.send(self.housekeep(shared));
            }
            if let Some(reply) = closing {
                self.close();
                let _ = reply.send(());
                return;
            }
        }
    }

    /// Runs `jobs` in one transaction and answers them.
    fn commit(&mut self, mut jobs: Vec<Box<dyn Job>>, shared: &Shared) {
        let before = self.journal.clone();
        let mut appended = Vec::new();
        let outcome = self.transact(&mut jobs, &mut appended);
        shared.degraded.store(outcome.is_err(), Ordering::Relaxed);
        match outcome {
            Ok(()) => {
                self.uncheckpointed +=
                    appended.iter().map(|event| event.body.len() as u64).sum::<u64>();
                if !appended.is_empty() {
                    (self.hook)(CommittedBatch { epoch: self.journal.epoch, events: appended });
                }
                *shared.position.lock().unwrap_or_else(PoisonError::into_inner) = self.position();
                for job in jobs {
                    job.finish(Ok(()));
                }
                self.checkpoint_if_due();
            }
            Err(error) => {
                self.journal = before;
                if !self.connection.is_autocommit() {
                    let _ = self.connection.execute_batch("ROLLBACK");
                }
                tracing::error!(error = %error, "a commit failed");
                for job in jobs {
                    job.finish(Err(self.commit_error(&error)));
                }
            }
        }
    }

    fn transact(
        &mut self,
        jobs: &mut [Box<dyn Job>],
        appended: &mut Vec<CommittedEvent>,
    ) -> rusqlite::Result<()> {
        self.execute("BEGIN IMMEDIATE")?;
        for job in jobs {
            self.run_job(job.as_mut(), appended)?;
        }
        if !appended.is_empty() {
            self.journal.save(&self.connection, false).map_err(into_sql)?;
        }
        self.execute("COMMIT")?;
        if !appended.is_empty() {
            self.move_mark().map_err(into_sql)?;
        }
        Ok(())
    }

    /// Runs one job; an error is one that ended the whole transaction.
    fn run_job(
        &mut self,
        job: &mut dyn Job,
        appended: &mut Vec<CommittedEvent>,
    ) -> rusqlite::Result<()> {
        let savepoint = job.needs_savepoint();
        if savepoint {
            self.execute("SAVEPOINT job")?;
        }
        let (journal, length) = (self.journal.clone(), appended.len());
        let mut tx = Tx {
            connection: &self.connection,
            journal: &mut self.journal,
            appended,
            source: &self.options.source,
        };
        // A defect in one change must not take the writer down with it.
        let kept = catch_unwind(AssertUnwindSafe(|| job.run(&mut tx))).unwrap_or(false);
        if self.connection.is_autocommit() {
            // SQLite itself rolled everything back: disk full or I/O error.
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL),
                None,
            ));
        }
        if !kept {
            self.journal = journal;
            appended.truncate(length);
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
        self.connection.prepare_cached(sql)?.execute([]).map(|_| ())
    }

    fn commit_error(&self, error: &rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(SqlCode::DiskFull) => StoreError::Full { dir: self.options.dir.clone() },
            _ => StoreError::Degraded,
        }
    }

    fn move_mark(&self) -> Result<(), StoreError> {
        let mark =
            Mark { epoch: self.journal.epoch, seq: self.journal.next - 1, inode: self.inode };
        self.high
            .write(mark)
            .map_err(|source| StoreError::Io { path: PathBuf::from("journal.mark"), source })
    }

    fn checkpoint_if_due(&mut self) {
        if self.uncheckpointed >= CHECKPOINT_BYTES {
            self.checkpoint("PASSIVE");
        }
    }

    fn checkpoint(&mut self, mode: &str) {
        self.uncheckpointed = 0;
        let _ = self.high.sync();
        if let Err(error) =
            self.connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
        {
            tracing::warn!(%error, "a checkpoint failed; the next one will catch up");
        }
    }

    fn housekeep(&mut self, shared: &Shared) -> Result<(), StoreError> {
        let before = self.journal.clone();
        self.execute("BEGIN IMMEDIATE")?;
        let trimmed =
            trim(&self.connection, &mut self.journal, &self.options.retention, Timestamp::now());
        let ended = match &trimmed {
            Ok(_) => self.execute("COMMIT"),
            Err(_) => self.execute("ROLLBACK"),
        };
        if trimmed.is_err() || ended.is_err() {
            self.journal = before;
        }
        *shared.position.lock().unwrap_or_else(PoisonError::into_inner) = self.position();
        ended?;
        trimmed.map(|_| ())
    }

    fn close(mut self) {
        if let Err(error) = self.journal.save(&self.connection, true) {
            tracing::warn!(%error, "the journal could not be marked as closed");
        }
        self.checkpoint("TRUNCATE");
    }
}

impl Shared {
    pub async fn write<T, E, F>(&self, change: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Job(Box::new(Change { change: Some(change), result: None, reply })))
            .await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    pub async fn publish(&self, events: Vec<EncodedEvent>) -> Result<Vec<Published>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Job(Box::new(Publish { events, result: None, reply }))).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    pub async fn tick(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Tick(reply)).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    pub async fn close(&self) {
        let (reply, answer) = oneshot::channel();
        if self.send(Message::Close(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }

    async fn send(&self, message: Message) -> Result<(), StoreError> {
        self.messages.send(message).await.map_err(|_| StoreError::Closed)
    }

    pub fn resume(&self, cursor: Cursor) -> Resume {
        let Position { head, oldest, .. } = self.position();
        // One before the oldest held event: exclusive, like every cursor.
        let floor = oldest.saturating_sub(1);
        if cursor.epoch == head.epoch {
            return match cursor.seq {
                seq if seq > head.seq => Resume::Future,
                seq if seq >= floor => Resume::After(seq),
                _ => Resume::Gap {
                    from: cursor,
                    to: Cursor { seq: floor, ..head },
                    reason: "retention",
                },
            };
        }
        let held = self.earlier.iter().find(|(epoch, _)| *epoch == cursor.epoch);
        let seen = held.map_or(0, |(_, last)| cursor.seq.min(*last));
        Resume::Gap { from: cursor, to: Cursor { seq: seen.max(floor), ..head }, reason: "epoch" }
    }

    fn position(&self) -> Position {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn head(&self) -> Cursor {
        self.position().head
    }

    pub fn oldest(&self) -> u64 {
        self.position().oldest
    }

    pub fn bytes(&self) -> u64 {
        self.position().bytes
    }

    pub fn is_degraded(&self) -> bool {
        self.degraded.load(Ordering::Relaxed)
    }

    pub fn source(&self) -> &str {
        &self.source
    }
}

/// Decides which epoch goes on: the one we left, or a new one because the store
/// is not where the mark says it was.
fn settle_epoch(
    connection: &Connection,
    found: Option<JournalState>,
    mark: Option<Mark>,
    inode: u64,
) -> Result<(JournalState, Option<Regression>), StoreError> {
    let Some(state) = found else {
        let next = mark.map_or(1, |mark| mark.seq + 1);
        let fresh =
            JournalState { epoch: random_epoch(), oldest: next, next, bytes: 0, chain: [0; 32] };
        let lost =
            mark.map(|mark| Regression { from: 1, to: mark.seq, previous: Some(mark.epoch) });
        return Ok((fresh, lost));
    };
    let same = mark.is_some_and(|mark| mark.epoch == state.epoch && mark.inode == inode);
    let marked = mark.map_or(0, |mark| mark.seq);
    if same && marked < state.next {
        return Ok((state, None));
    }
    let last_held = state.next - 1;
    connection.execute(
        "INSERT OR REPLACE INTO epoch (epoch, last_seq) VALUES (?1, ?2)",
        params![state.epoch.0, last_held],
    )?;
    let lost = Regression { from: state.next, to: marked, previous: Some(state.epoch) };
    let next = state.next.max(marked + 1);
    Ok((JournalState { epoch: random_epoch(), next, ..state }, Some(lost)))
}

fn earlier_epochs(connection: &Connection) -> Result<Vec<(Epoch, u64)>, StoreError> {
    let mut statement = connection.prepare("SELECT epoch, last_seq FROM epoch")?;
    let rows = statement.query_map([], |row| Ok((Epoch(row.get(0)?), row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn random_epoch() -> Epoch {
    // Version 4 bits sit elsewhere; the first 32 bits are random.
    let (high, ..) = uuid::Uuid::new_v4().as_fields();
    Epoch(high)
}

/// Inside a transaction every failure is the transaction's.
fn into_sql(error: StoreError) -> rusqlite::Error {
    match error {
        StoreError::Sql(error) => error,
        other => rusqlite::Error::ToSqlConversionFailure(Box::new(other)),
    }
}

/// A closure on its way through the writer.
struct Change<T, E, F> {
    change: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
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

    fn finish(self: Box<Self>, commit: Result<(), StoreError>) {
        answer(self.reply, self.result, commit);
    }
}

/// Events on their way through the writer.
struct Publish {
    events: Vec<EncodedEvent>,
    result: Option<Result<Vec<Published>, StoreError>>,
    reply: oneshot::Sender<Result<Vec<Published>, StoreError>>,
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

    fn finish(self: Box<Self>, commit: Result<(), StoreError>) {
        answer(self.reply, self.result, commit);
    }
}

/// The commit's failure outweighs the job's success; the job's own failure stands.
fn answer<T, E: From<StoreError>>(
    reply: oneshot::Sender<Result<T, E>>,
    result: Option<Result<T, E>>,
    commit: Result<(), StoreError>,
) {
    let answer = match (result, commit) {
        (Some(Err(error)), _) => Err(error),
        (_, Err(error)) => Err(error.into()),
        (Some(ok), Ok(())) => ok,
        // The change panicked: dropping the reply tells the caller.
        (None, Ok(())) => return,
    };
    // A caller that went away needs no answer; its change stays.
    let _ = reply.send(answer);
}
