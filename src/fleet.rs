//! Members and tasks: where work runs, and what became of it.
//!
//! Theory of operation: a task is a row whose state changes only inside
//! `store.write`, together with its event. A run happens under a supervisor
//! process that outlives the daemon and talks to it through files in the run
//! directory alone; after a restart the daemon finds out from there.

mod spec;

use std::path::PathBuf;

use bytes::Bytes;

use crate::bus::Bus;
use crate::config;
use crate::model::{ErrorCode, OutputStream, Principal, Task, TaskId, TaskState};
use crate::store::StoreError;

pub use spec::{CommandSpec, Program, Stdin};

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
    #[error("member '{member}' has {queued} tasks waiting already; try again when some have ended")]
    QueueFull { member: String, queued: usize },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot use the run directory '{path}'")]
    Run {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl FleetError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NoTask(_) | Self::NoMember(_) => ErrorCode::NotFound,
            Self::Invalid { .. } => ErrorCode::InvalidArgument,
            Self::QueueFull { .. } => ErrorCode::Exhausted,
            Self::Store(error) => error.code(),
            Self::Run { .. } => ErrorCode::Internal,
        }
    }
}

/// What the fleet is built from.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// Where run directories are made; exists, ours alone.
    pub runs: PathBuf,
    /// The program whose `--supervise RUNDIR` supervises a run: fleetd itself.
    pub supervisor: PathBuf,
    pub tasks: config::Tasks,
}

/// What became of the tasks that were open when the last daemon ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    pub adopted: u64,
    pub settled: u64,
    pub unknown: u64,
}

/// A part of a stream's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputPage {
    pub bytes: Bytes,
    /// Position of the first byte in the stream.
    pub offset: u64,
    /// Bytes the command wrote so far that are kept.
    pub kept: u64,
    /// Bytes dropped because of the cap.
    pub cut: u64,
    /// The task has ended: no more will come.
    pub ended: bool,
}

/// How busy a member is.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberReport {
    pub id: String,
    pub name: String,
    pub online: bool,
    pub since: crate::model::Timestamp,
    pub running: usize,
    pub queued: usize,
    pub load_1m: Option<f64>,
    pub memory_used: Option<u64>,
    pub memory_total: Option<u64>,
}

/// Supervises the run in `dir`; what `fleetd --supervise DIR` does.
// SKELETON: replaced when the component lands.
pub fn supervise(_dir: &std::path::Path) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}

/// The fleet; clones share it.
#[derive(Clone)]
pub struct Fleet {
    bus: Bus,
}

// SKELETON: the bodies below are placeholders until the component lands.
impl Fleet {
    pub fn new(_options: FleetOptions, bus: Bus) -> Self {
        Self { bus }
    }

    /// Finds out what became of the tasks that were open, before anything else runs.
    pub async fn recover(&self) -> Result<Recovery, FleetError> {
        Ok(Recovery::default())
    }

    /// Takes a task: it is durable, and started or queued, when this returns.
    pub async fn execute(
        &self,
        _principal: &Principal,
        _spec: CommandSpec,
    ) -> Result<Task, FleetError> {
        Err(StoreError::Closed.into())
    }

    /// Waits until the task has ended. Dropping the wait does nothing to the task.
    pub async fn wait(&self, principal: &Principal, id: TaskId) -> Result<Task, FleetError> {
        self.task(principal, id).await
    }

    /// The task, if there is one that `principal` may see.
    pub async fn task(&self, _principal: &Principal, id: TaskId) -> Result<Task, FleetError> {
        let _ = &self.bus;
        Err(FleetError::NoTask(id))
    }

    /// Tasks that `principal` may see, newest first.
    pub async fn tasks(
        &self,
        _principal: &Principal,
        _states: &[TaskState],
        _limit: usize,
    ) -> Result<Vec<Task>, FleetError> {
        Ok(Vec::new())
    }

    /// Stops a task and waits until it has ended, at most grace + 5 s.
    pub async fn stop(&self, _principal: &Principal, id: TaskId) -> Result<Task, FleetError> {
        Err(FleetError::NoTask(id))
    }

    /// Bytes of output from `offset`, at most `most`.
    pub async fn output(
        &self,
        _principal: &Principal,
        id: TaskId,
        _stream: OutputStream,
        _offset: u64,
        _most: usize,
    ) -> Result<OutputPage, FleetError> {
        Err(FleetError::NoTask(id))
    }

    /// Returns when the task has more output than at `kept` bytes of `stream`, or has ended.
    pub async fn output_after(
        &self,
        _principal: &Principal,
        id: TaskId,
        _stream: OutputStream,
        _kept: u64,
    ) -> Result<(), FleetError> {
        Err(FleetError::NoTask(id))
    }

    /// Appends to the standard input of a task that has it open. `offset` makes
    /// a repeated request harmless; `end` closes it. Returns the bytes held.
    pub async fn input(
        &self,
        _principal: &Principal,
        id: TaskId,
        _offset: u64,
        _bytes: Bytes,
        _end: bool,
    ) -> Result<u64, FleetError> {
        Err(FleetError::NoTask(id))
    }

    /// Members and how busy they are.
    pub async fn members(&self) -> Vec<MemberReport> {
        Vec::new()
    }

    /// Tasks that are running or waiting.
    pub fn open_tasks(&self) -> usize {
        0
    }

    /// Takes new bounds; running tasks keep theirs.
    pub fn reconfigure(&self, _tasks: config::Tasks) {}

    /// Stops watching. Tasks go on.
    pub async fn close(&self) {}
}
