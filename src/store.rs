//! The one SQLite database: what fleetd knows, and what happened.
//!
//! Theory of operation: one writer thread owns the only writing connection and
//! its checkpoints. Callers send it closures; it runs as many as are waiting in
//! one transaction, commits once (WAL, `synchronous=FULL`), tells the commit
//! hook what was appended and only then answers. So a reply follows its effect,
//! an event is never visible before it is durable, and one fsync serves many.
//! A few reader threads serve pages; none holds a statement across a socket
//! write, or a stalled reader would stop checkpoints.
//!
//! A high-water mark outside the database notices a store that went back in
//! time (a deleted WAL, a restored backup): then a new epoch begins.

mod check;
mod clock;
mod cursors;
mod database;
mod fault;
mod group;
mod highwater;
mod journal;
mod lineage;
mod members;
mod migrate;
mod opening;
mod prompts;
mod quarantine;
mod readers;
mod reopen;
mod retention;
mod sessions;
mod shared;
mod space;
mod state;
mod tasks;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tokens;
mod transfers;
mod tx;
mod upkeep;
mod wal;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Cursor, Epoch, ErrorCode, EventError};

pub use journal::{CommittedBatch, CommittedEvent, EventRow, Published, Resume};
pub use prompts::{PromptRow, SettledPrompt};
pub use readers::Snapshot;
pub use sessions::SessionRow;
pub use tokens::TokenRow;
pub use tx::Tx;

use fault::Kind;
use readers::{Readers, Slots};
use shared::Shared;

/// How much history is kept: whichever bound is reached first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub rows: u64,
    /// Bytes of encoded events.
    pub bytes: u64,
    pub age: Duration,
}

/// What the writer does before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// fsync at every commit: what was acknowledged survives a power cut.
    #[default]
    Full,
    /// fsync at checkpoints only: survives a crash of fleetd, not of the machine.
    Normal,
}

/// Where the store lives and how it behaves.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The state directory; it exists and is ours alone.
    pub dir: PathBuf,
    /// `fleetd/<instance>`: the `source` of every event.
    pub source: String,
    pub retention: Retention,
    pub durability: Durability,
}

/// What opening found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReport {
    pub head: Cursor,
    /// The last daemon did not say goodbye.
    pub unclean: bool,
    /// The store went back in time; positions in this range are gone.
    pub regressed: Option<Regression>,
    /// Where the remains of an earlier journal were kept, if SQLite would have
    /// deleted them: an empty or missing database with its log still there.
    pub set_aside: Option<PathBuf>,
}

/// Positions `from..=to` were handed out once and are no longer there.
/// `from > to` if nothing is known to be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regression {
    pub from: u64,
    pub to: u64,
    pub previous: Option<Epoch>,
}

/// Called in the writer thread after each commit, before anybody is answered.
/// It must not block: every publisher waits for it.
pub type CommitHook = Arc<dyn Fn(CommittedBatch) + Send + Sync>;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Event(#[from] EventError),
    #[error(
        "the disk that holds '{dir}' is full; free some space and publish again with the same id"
    )]
    Full { dir: PathBuf },
    #[error(
        "the journal could not be written and is being reopened; whether this was stored is not known, ask or publish again with the same id"
    )]
    Degraded,
    #[error(
        "the journal '{path}' was written by a newer fleetd (schema {found}, this one knows {known}); start that version, or restore its backup"
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error(
        "the journal is damaged and was set aside as '{quarantined}'; restore a backup, or start again to begin a new journal"
    )]
    Corrupt {
        quarantined: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error(
        "the journal '{path}' can no longer be written or verified; check the disk, then start again"
    )]
    Failed {
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
    #[error("a change to the journal failed inside fleetd and was undone; please report it")]
    Panicked,
    #[error("cannot use '{path}' in the state directory")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("SQLite {found} has a known corruption race; 3.51.3 or newer is needed")]
    OldSqlite { found: String },
    #[error("no {what} named '{name}'")]
    NotFound { what: &'static str, name: String },
    #[error("the daemon is shutting down")]
    Closed,
    #[error("the database refused the operation")]
    Sql(#[from] rusqlite::Error),
}

impl StoreError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Event(EventError::TooLarge { .. }) => ErrorCode::TooLarge,
            Self::Event(_) => ErrorCode::InvalidArgument,
            Self::Full { .. } => ErrorCode::StorageFull,
            Self::Degraded | Self::Corrupt { .. } | Self::Failed { .. } => {
                ErrorCode::StorageDegraded
            }
            Self::NotFound { .. } => ErrorCode::NotFound,
            Self::Closed => ErrorCode::Unavailable,
            Self::Sql(error) => match Kind::of(error) {
                Kind::Full => ErrorCode::StorageFull,
                Kind::Busy | Kind::Damaged | Kind::Broken => ErrorCode::StorageDegraded,
                Kind::Refused => ErrorCode::Internal,
            },
            Self::Panicked | Self::Newer { .. } | Self::Io { .. } | Self::OldSqlite { .. } => {
                ErrorCode::Internal
            }
        }
    }
}

/// A handle to the store; clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    readers: Arc<Readers>,
}

impl Store {
    /// Opens or creates the store, checks that it did not go back in time, and
    /// starts its threads.
    ///
    /// # Errors
    /// [`StoreError::Newer`] leaves the files untouched; [`StoreError::Corrupt`]
    /// names where they were set aside.
    pub fn open(options: StoreOptions, hook: CommitHook) -> Result<(Self, OpenReport), StoreError> {
        let opened = opening::open(&options)?;
        let (path, report) = (opened.path.clone(), opened.report.clone());
        let slots = Arc::new(Slots::default());
        let (shared, writer) = writer::start(opened, options, hook, Arc::clone(&slots))?;
        let readers = Readers::start(&path, &slots, writer, shared.state_of_writer())?;
        let readers = Arc::new(readers);
        Ok((Self { shared: Arc::new(shared), readers }, report))
    }

    /// Runs `change` in a transaction and returns when it is durable. All that
    /// `change` did is undone if it fails; what others did stays.
    ///
    /// # Errors
    /// Whatever `change` returns, or why the commit failed.
    pub async fn write<T, E, F>(&self, change: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.shared.write(change).await
    }

    /// Appends encoded events, all or none, and returns their positions when
    /// they are durable. An id that is already held keeps its old position.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Degraded`] or [`StoreError::Closed`].
    pub async fn publish(
        &self,
        events: Vec<crate::wire::EncodedEvent>,
    ) -> Result<Vec<Published>, StoreError> {
        self.shared.publish(events).await
    }

    /// Runs `query` on a reader thread, on a consistent snapshot.
    ///
    /// # Errors
    /// Whatever `query` returns, or [`StoreError::Closed`].
    pub async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Snapshot<'_>) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        self.readers.read(query).await
    }

    /// Where a reader at `cursor` goes on from. Positions from before the
    /// oldest held event, or of another epoch, come with the gap to tell.
    pub fn resume(&self, cursor: Cursor) -> Resume {
        self.shared.state().resume(cursor)
    }

    /// The newest position that is durable.
    pub fn head(&self) -> Cursor {
        self.shared.state().head()
    }

    /// The oldest position that is held; one past the head if none is.
    pub fn oldest(&self) -> u64 {
        self.shared.state().oldest()
    }

    /// The version of SQLite that is built in.
    pub fn sqlite_version() -> &'static str {
        rusqlite::version()
    }

    /// The `source` of fleetd's own events.
    pub fn source(&self) -> &str {
        self.shared.state().source()
    }

    /// Goes once round the writer thread, which trims and checkpoints on the
    /// way; the first tick begins a check of the whole database in the
    /// background. A service watchdog is fed from its return, so that a wedged writer
    /// starves it.
    ///
    /// # Errors
    /// [`StoreError::Closed`], or why housekeeping failed.
    pub async fn tick(&self) -> Result<(), StoreError> {
        self.shared.tick().await
    }

    /// Finishes what was sent, marks the store as cleanly closed and ends its threads.
    pub async fn close(&self) {
        self.shared.close().await;
    }

    /// Bytes of encoded events that are held.
    pub fn bytes(&self) -> u64 {
        self.shared.state().bytes()
    }

    /// Number of events that are held.
    pub fn events(&self) -> u64 {
        self.shared.state().events()
    }

    /// Whether the disk is full: what only adds is refused until there is room.
    pub fn is_full(&self) -> bool {
        self.shared.state().is_full()
    }

    /// Resolves when the store gave up: [`StoreError::Corrupt`] with the place
    /// where the damaged files are, or [`StoreError::Failed`]. Nothing can be
    /// stored any more; the daemon ends with exit code 5.
    pub async fn failed(&self) -> StoreError {
        self.shared.state().failed().await
    }

    /// Whether a write failed for a reason of the disk and the journal has not
    /// been found sound since.
    pub fn is_degraded(&self) -> bool {
        self.shared.state().is_degraded()
    }
}
