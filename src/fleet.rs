//! Members and tasks: where work runs, and what became of it.
//!
//! Theory of operation: a task is a row whose state changes only inside
//! `store.write`, together with its event. A run happens under a supervisor
//! process that outlives the daemon and talks to it through files in the run
//! directory alone; after a restart the daemon finds out from there.

mod admit;
mod drive;
mod files;
mod input;
mod leases;
mod live;
mod members;
mod outcome;
mod output;
mod plan;
mod process;
mod prompts;
mod providers;
mod recover;
mod remote;
mod roster;
mod rundir;
mod spec;
mod stall;
mod state;
mod supervisor;
mod sweep;
mod tasks;
mod watch;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::Bus;
use crate::config;
use crate::model::{ErrorCode, MemberId, OutputStream, Principal, RunId, Task, TaskId, TaskState};
use crate::store::StoreError;

pub use files::{ReceiveSpec, SendSpec, TransferError, Transfers};
pub use members::MemberReport;
pub use output::OutputPage;
pub use prompts::{PromptReport, PromptSpec, Resume};
pub use providers::{PromptResult, Reason};
pub use roster::{
    MemberChange, MemberHandle, Permissions, PermissionsSpec, Role, Roster, RosterError,
    RosterOptions, Settled, Standing,
};
pub use spec::{CommandSpec, Program, Prompted, Stdin};
pub use supervisor::supervise;

use live::Book;
use remote::Place;
use rundir::RunDir;
use watch::Growth;

/// Why the fleet did not do it.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Also said of tasks that the caller may not see.
    #[error("no task '{0}'; `list_tasks` shows what there is")]
    NoTask(TaskId),
    #[error("no member '{0}'; `fleet_status` shows what there is")]
    NoMember(String),
    #[error("{argument} {problem}")]
    Invalid { argument: &'static str, problem: String },
    #[error(
        "the provider knows no session '{0}' that began here; leave session_id out to begin one"
    )]
    NoSession(String),
    #[error("member '{member}' has {queued} tasks waiting already; try again when some have ended")]
    QueueFull { member: String, queued: usize },
    #[error(transparent)]
    Roster(#[from] RosterError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot use the run directory '{path}': {source}")]
    Run {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl FleetError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NoTask(_) | Self::NoMember(_) | Self::NoSession(_) => ErrorCode::NotFound,
            Self::Invalid { .. } => ErrorCode::InvalidArgument,
            Self::QueueFull { .. } => ErrorCode::Exhausted,
            Self::Roster(error) => error.code(),
            Self::Transfer(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Run { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ErrorCode::StorageFull,
                _ => ErrorCode::Internal,
            },
        }
    }
}

/// What the fleet is built from.
#[derive(Clone)]
pub struct FleetOptions {
    /// Where run directories are made; exists, ours alone.
    pub runs: PathBuf,
    /// The program whose `--supervise RUNDIR` supervises a run: fleetd itself.
    pub supervisor: PathBuf,
    pub tasks: config::Tasks,
    pub providers: config::Providers,
    pub transfers: config::Transfers,
    pub roster: RosterOptions,
}

/// What became of the tasks that were open when the last daemon ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    pub adopted: u64,
    pub settled: u64,
    pub unknown: u64,
}

/// The fleet; clones share it.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    bus: Bus,
    roster: Roster,
    transfers: Transfers,
    runs: PathBuf,
    supervisor: PathBuf,
    settings: Mutex<config::Tasks>,
    providers: Mutex<Arc<config::Providers>>,
    umask: AtomicU32,
    /// Never held across an await, nor while a file is touched.
    book: Mutex<Book>,
    /// What the runs on each remote member share. Never held across an await.
    places: Mutex<HashMap<MemberId, Arc<Place>>>,
    growth: OnceLock<Option<Arc<Growth>>>,
    tracker: TaskTracker,
    closing: CancellationToken,
}

/// What people expect of files that their commands make.
const USUAL_UMASK: u32 = 0o022;

impl Fleet {
    pub fn new(options: FleetOptions, bus: Bus) -> Self {
        Self(Arc::new(Inner {
            roster: Roster::new(options.roster, bus.clone()),
            transfers: Transfers::new(options.transfers, bus.clone()),
            bus,
            runs: options.runs,
            supervisor: options.supervisor,
            book: Mutex::new(Book::with_prompts(options.tasks.prompts)),
            settings: Mutex::new(options.tasks),
            providers: Mutex::new(Arc::new(options.providers)),
            umask: AtomicU32::new(USUAL_UMASK),
            places: Mutex::default(),
            growth: OnceLock::new(),
            tracker: TaskTracker::new(),
            closing: CancellationToken::new(),
        }))
    }

    /// The umask of commands that begin from now on: what the daemon was started
    /// with, before it took 077 for itself. 022 unless told otherwise.
    pub fn set_command_umask(&self, umask: u32) {
        self.0.umask.store(umask & 0o777, Ordering::Relaxed);
    }

    /// Finds out what became of the tasks that were open, before anything else runs.
    ///
    /// # Errors
    /// If the store or a run directory cannot be read.
    pub async fn recover(&self) -> Result<Recovery, FleetError> {
        self.0.roster.load().await?;
        self.0.transfers.recover().await?;
        let recovery = self.0.recover().await?;
        self.0.tracker.spawn(Arc::clone(&self.0).sweep_for_ever());
        Ok(recovery)
    }

    /// Takes a task: it is durable, and started or queued, when this returns.
    ///
    /// # Errors
    /// [`FleetError::QueueFull`], [`FleetError::NoMember`], [`FleetError::Invalid`],
    /// or why it could not be stored. What cannot be started is a task that failed.
    pub async fn execute(
        &self,
        principal: &Principal,
        spec: CommandSpec,
    ) -> Result<Task, FleetError> {
        let member = self.0.roster.resolve(principal, spec.member.as_deref(), None)?;
        admit::check(&spec)?;
        remote::check(&member, &spec)?;
        if !principal.sees(&spec.project) {
            let problem = String::from("is not one of yours");
            return Err(FleetError::Invalid { argument: "project", problem });
        }
        if self.0.closing.is_cancelled() {
            return Err(StoreError::Closed.into());
        }
        let taken = Arc::clone(&self.0).take(Arc::clone(&principal.id), member, spec);
        self.0.tracker.spawn(taken).await.map_err(|_| StoreError::Closed)?
    }

    /// Waits until the task has ended. Dropping the wait does nothing to the task.
    ///
    /// # Errors
    /// [`FleetError::NoTask`]; `Closed` if the daemon goes down before the task ends.
    pub async fn wait(&self, principal: &Principal, id: TaskId) -> Result<Task, FleetError> {
        self.task(principal, id).await?;
        self.0.until_ended(id).await;
        let task = self.task(principal, id).await?;
        if task.state.is_terminal() { Ok(task) } else { Err(StoreError::Closed.into()) }
    }

    /// The task, if there is one that `principal` may see.
    ///
    /// # Errors
    /// [`FleetError::NoTask`].
    pub async fn task(&self, principal: &Principal, id: TaskId) -> Result<Task, FleetError> {
        self.0.visible(principal, id).await
    }

    /// Tasks that `principal` may see, newest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn tasks(
        &self,
        principal: &Principal,
        states: &[TaskState],
        limit: usize,
    ) -> Result<Vec<Task>, FleetError> {
        self.0.list(principal, states, limit).await
    }

    /// Asks a task to stop and waits for its end, at most grace + 5 s.
    ///
    /// # Errors
    /// [`FleetError::NoTask`], or why the wish could not be stored.
    pub async fn stop(&self, principal: &Principal, id: TaskId) -> Result<Task, FleetError> {
        let task = self.task(principal, id).await?;
        self.0.stop_task(task).await
    }

    /// Asks a task to stop. The wish is durable when this returns; the end may come later.
    ///
    /// # Errors
    /// [`FleetError::NoTask`], or why the wish could not be stored.
    pub async fn ask_stop(&self, principal: &Principal, id: TaskId) -> Result<(), FleetError> {
        let task = self.task(principal, id).await?;
        self.0.wish_stop(&task).await
    }

    /// Bytes of output of the latest run from `offset`, at most `most`.
    ///
    /// # Errors
    /// [`FleetError::NoTask`], or why the file could not be read.
    pub async fn output(
        &self,
        principal: &Principal,
        id: TaskId,
        stream: OutputStream,
        offset: u64,
        most: usize,
    ) -> Result<OutputPage, FleetError> {
        // The state is read before the file: `ended` is never said too early.
        let task = self.task(principal, id).await?;
        let Some(run) = task.run else { return Err(FleetError::NoTask(id)) };
        let dir = self.0.run_dir(run);
        let (path, ended) = (dir.path().to_owned(), task.state.is_terminal());
        drive::blocking(move || output::page(&dir, run, stream, offset, most, ended))
            .await
            .map_err(|source| FleetError::Run { path, source })
    }

    /// Returns when `run` has more than `kept` bytes of `stream`, or is over.
    ///
    /// # Errors
    /// [`FleetError::NoTask`].
    pub async fn output_after(
        &self,
        principal: &Principal,
        id: TaskId,
        run: RunId,
        stream: OutputStream,
        kept: u64,
    ) -> Result<(), FleetError> {
        self.task(principal, id).await?;
        let Some(live) = self.0.book().get(id) else { return Ok(()) };
        let mut changed = live.changed.subscribe();
        loop {
            let (dir, phase) = (live.dir(), *live.phase.borrow());
            if phase == live::Phase::Ended
                || dir != self.0.run_dir(run)
                || dir.counts(stream).0 > kept
            {
                return Ok(());
            }
            tokio::select! {
                news = changed.changed() => if news.is_err() { return Ok(()) },
                () = self.0.closing.cancelled() => return Err(StoreError::Closed.into()),
            }
        }
    }

    /// Who the members are, and the links to them.
    pub fn roster(&self) -> &Roster {
        &self.0.roster
    }

    /// Members that `principal` may see, and how busy they are.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn members(&self, principal: &Principal) -> Result<Vec<MemberReport>, FleetError> {
        self.0.report(principal).await
    }

    /// Tasks that are running or waiting.
    pub fn open_tasks(&self) -> usize {
        self.0.book().open()
    }

    /// Takes new bounds; running tasks keep theirs.
    pub fn reconfigure(&self, tasks: config::Tasks) {
        self.0.book().leases.most = tasks.prompts;
        *self.0.settings.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
        self.0.fill();
    }

    /// Stops watching. Tasks go on.
    pub async fn close(&self) {
        self.0.closing.cancel();
        self.0.transfers.close().await;
        self.0.roster.close().await;
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }
}

impl Inner {
    fn book(&self) -> MutexGuard<'_, Book> {
        // Changed by whole steps only; a panic elsewhere cannot tear it.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settings(&self) -> config::Tasks {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }

    fn run_dir(&self, run: RunId) -> RunDir {
        RunDir::new(self.runs.join(run.to_string()))
    }

    /// Begun with the first run, so that an idle daemon pays nothing. `None` if
    /// the system has no more of these: output is then told when a run ends.
    fn growth(&self) -> Option<&Arc<Growth>> {
        let begin = || {
            let growth = Growth::new()
                .inspect_err(|error| tracing::warn!(%error, "live output is not available"))
                .ok()?;
            let (serving, closing) = (Arc::clone(&growth), self.closing.clone());
            self.tracker.spawn(async move {
                tokio::select! {
                    () = serving.serve() => {}
                    () = closing.cancelled() => {}
                }
            });
            Some(growth)
        };
        self.growth.get_or_init(begin).as_ref()
    }
}
