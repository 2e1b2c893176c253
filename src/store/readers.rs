//! A few threads that answer queries, each on a connection of its own.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension};
use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use super::database::open_reader;
use super::fault::{Kind, copy_of};
use super::journal::{EventRow, scan, scan_back};
use super::shared::Message;
use super::state::State;
use crate::model::Timestamp;

/// Two: a long replay must not make a short question wait, and more would only
/// queue for the same two cores and page cache.
const THREADS: usize = 2;

/// Questions waiting for a thread. Full means the disk is slower than the
/// askers; they wait, nobody else does.
const WAITING: usize = 256;

/// Without a connection the query tells its caller why.
type Query = Box<dyn FnOnce(Result<&Connection, rusqlite::Error>) + Send>;

/// What a query sees: one connection, one snapshot per statement.
pub struct Snapshot<'a>(&'a Connection);

impl Snapshot<'_> {
    pub(super) fn connection(&self) -> &Connection {
        self.0
    }

    /// Visits events after position `after` in order, until `visit` breaks.
    /// Returns the last position visited, `after` if there was none.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn scan(
        &self,
        after: u64,
        visit: impl FnMut(EventRow<'_>) -> ControlFlow<()>,
    ) -> Result<u64, StoreError> {
        scan(self.0, after, visit)
    }

    /// Visits events before position `before`, newest first, until `visit` breaks.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn scan_back(
        &self,
        before: u64,
        visit: impl FnMut(EventRow<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        scan_back(self.0, before, visit)
    }

    /// The position of the oldest event that is held; one past the head if none is.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn oldest(&self) -> Result<u64, StoreError> {
        let sql = "SELECT oldest FROM journal";
        Ok(self.0.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    }

    /// The position of the newest event that was stored before `time`; one before
    /// the oldest held if none was. Some twenty rows are looked at, however many
    /// there are: times rise with positions, as far as the clock does.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn last_before(&self, time: Timestamp) -> Result<u64, StoreError> {
        let sql = "SELECT oldest, next FROM journal";
        let bounds =
            self.0.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)));
        let (mut low, mut high): (u64, u64) = bounds?;
        let sql = "SELECT seq, stored FROM event WHERE seq >= ?1 ORDER BY seq LIMIT 1";
        let mut next = self.0.prepare_cached(sql)?;
        while low < high {
            let middle = low + (high - low) / 2;
            let row =
                next.query_row([middle], |row| Ok((row.get::<_, u64>(0)?, row.get::<_, i64>(1)?)));
            match row.optional()? {
                Some((seq, stored)) if stored < time.millis() => low = seq + 1,
                _ => high = middle,
            }
        }
        Ok(low.saturating_sub(1))
    }
}

/// The readers' connections: each is held while its query runs, so that the
/// writer can close them all before it opens the database anew.
#[derive(Default)]
pub struct Slots([Mutex<Option<Connection>>; THREADS]);

impl Slots {
    /// Waits for the queries under way. Nobody begins another as long as what
    /// is returned is held.
    pub fn hold(&self) -> Held<'_> {
        self.0.each_ref().map(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same, and closes every connection.
    pub fn close(&self) -> Held<'_> {
        let mut held = self.hold();
        held.iter_mut().for_each(|slot| drop(slot.take()));
        held
    }
}

/// The places while nobody reads.
pub type Held<'a> = [MutexGuard<'a, Option<Connection>>; THREADS];

/// The pool's sending side. Its threads end with it.
pub struct Readers {
    queries: mpsc::Sender<Query>,
    /// Weak: a reader does not keep the writer alive.
    writer: mpsc::WeakSender<Message>,
    state: Arc<State>,
}

impl Readers {
    pub fn start(
        path: &Path,
        slots: &Arc<Slots>,
        writer: mpsc::WeakSender<Message>,
        state: Arc<State>,
    ) -> Result<Self, StoreError> {
        let (queries, waiting) = mpsc::channel(WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..THREADS {
            let (path, waiting) = (path.to_owned(), Arc::clone(&waiting));
            let slots = Arc::clone(slots);
            std::thread::Builder::new()
                .name(format!("store-read-{number}"))
                .spawn(move || serve(&path, &slots.0[number], &waiting))
                .map_err(|source| StoreError::Io { path: PathBuf::from("(thread)"), source })?;
        }
        Ok(Self { queries, writer, state })
    }

    pub async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Snapshot<'_>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Query = Box::new(move |connection| {
            // A caller that went away needs no answer, and nobody else shall
            // wait for one.
            if reply.is_closed() {
                return;
            }
            let result = match connection {
                // A defect in one query must not take the reader down with it.
                Ok(connection) => catch_unwind(AssertUnwindSafe(|| query(&Snapshot(connection))))
                    .unwrap_or(Err(StoreError::Panicked)),
                Err(error) => Err(error.into()),
            };
            let _ = reply.send(result);
        });
        self.queries.send(job).await.map_err(|_| StoreError::Closed)?;
        match answer.await.map_err(|_| StoreError::Closed)? {
            Err(StoreError::Sql(error)) if Kind::of(&error) == Kind::Damaged => {
                Err(self.damaged(error).await)
            }
            result => result,
        }
    }

    /// Tells the writer and waits for what becomes of the database, so that
    /// whoever asked learns where the damaged files are.
    async fn damaged(&self, error: rusqlite::Error) -> StoreError {
        let Some(writer) = self.writer.upgrade() else { return error.into() };
        let _ = writer.send(Message::Damaged(copy_of(&error))).await;
        tokio::select! {
            biased;
            verdict = self.state.failed() => verdict,
            // It was closing already and will not look.
            () = writer.closed() => error.into(),
        }
    }
}

/// Opens its connection with the first question, so that an idle daemon pays nothing.
fn serve(path: &Path, slot: &Mutex<Option<Connection>>, waiting: &Mutex<mpsc::Receiver<Query>>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(query) = next else { return };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            match open_reader(path) {
                Ok(connection) => *slot = Some(connection),
                Err(error) => {
                    query(Err(error));
                    continue;
                }
            }
        }
        if let Some(connection) = &*slot {
            query(Ok(connection));
        }
    }
}
