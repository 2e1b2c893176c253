//! A few threads that answer queries, each on a connection of its own.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use super::database::open_reader;
use super::journal::{EventRow, scan};

/// Two: a long replay must not make a short question wait, and more would only
/// queue for the same two cores and page cache.
const THREADS: usize = 2;

/// Questions waiting for a thread. Full means the disk is slower than the
/// askers; they wait, nobody else does.
const WAITING: usize = 256;

type Query = Box<dyn FnOnce(&Connection) + Send>;

/// What a query sees: one connection, one snapshot.
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
}

/// The pool's sending side.
pub struct Readers {
    queries: mpsc::Sender<Query>,
}

impl Readers {
    pub fn start(path: PathBuf) -> Result<Self, StoreError> {
        let (queries, waiting) = mpsc::channel(WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 1..=THREADS {
            let (path, waiting) = (path.clone(), Arc::clone(&waiting));
            std::thread::Builder::new()
                .name(format!("store-read-{number}"))
                .spawn(move || serve(&path, &waiting))
                .map_err(|source| StoreError::Io { path: PathBuf::from("(thread)"), source })?;
        }
        Ok(Self { queries })
    }

    pub async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Snapshot<'_>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Query = Box::new(move |connection| {
            // A caller that went away needs no answer.
            let _ = reply.send(query(&Snapshot(connection)));
        });
        self.queries.send(job).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// Opens its connection with the first question, so that an idle daemon pays nothing.
fn serve(path: &Path, waiting: &Mutex<mpsc::Receiver<Query>>) {
    let mut connection = None;
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(query) = next else { return };
        if connection.is_none() {
            connection = open_reader(path)
                .inspect_err(|error| tracing::error!(%error, "cannot open a reader"))
                .ok();
        }
        // Without a connection the query is dropped, and its caller told `Closed`.
        if let Some(connection) = &connection {
            query(connection);
        }
    }
}
