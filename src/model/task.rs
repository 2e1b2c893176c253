//! A unit of work, its state, and how it ended.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{PrincipalId, Project, Timestamp};

/// Names a task; also its `stream_id` and the id of its MCP task.
/// UUIDv4: unguessable, so an id alone tells nothing about other tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(Uuid);

/// Names one attempt at a task; the name of its run directory. UUIDv7, so that
/// a listing of the folder is in order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Uuid);

/// Why a text is not a task id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a task id; `fleetctl tasks` lists them")]
pub struct TaskIdError(String);

/// Where a task stands. Exactly one of the last four is reached, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for a free place on its member.
    Queued,
    /// Its run directory is being made; the command may or may not have begun.
    Starting,
    Running,
    /// Exit status 0.
    Completed,
    /// Any other exit status, a signal, a limit, or it could not be started.
    Failed,
    /// Stopped on request.
    Cancelled,
    /// How it ended cannot be known.
    Unknown,
}

/// One of the two byte streams of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    Stdout,
    Stderr,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// The command's own status, 0 to 255.
    Code(i32),
    /// The number of the signal that ended it.
    Signal(i32),
    /// A status over 128 as a shell tells it: the command's own, or 128 and the
    /// number of the signal that ended it. Nobody there can say which.
    Shell(i32),
}

/// The fields in which an end is stored and shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitParts {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// With a code: the signal that it may stand for.
    pub signal_possible: Option<i32>,
}

impl Exit {
    /// From what `wait` says in a shell.
    pub fn of_shell(code: i32) -> Self {
        if (129..=192).contains(&code) { Self::Shell(code) } else { Self::Code(code) }
    }

    pub fn parts(self) -> ExitParts {
        match self {
            Self::Code(code) => ExitParts { code: Some(code), ..ExitParts::default() },
            Self::Signal(signal) => ExitParts { signal: Some(signal), ..ExitParts::default() },
            Self::Shell(code) => {
                let signal_possible = Some(code - 128);
                ExitParts { code: Some(code), signal: None, signal_possible }
            }
        }
    }
}

/// A task as the journal's database holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub id: TaskId,
    pub project: Project,
    pub principal: PrincipalId,
    pub member: String,
    pub state: TaskState,
    /// The command, for people; the run directory holds the whole specification.
    pub command: String,
    pub run: Option<RunId>,
    pub pid: Option<u32>,
    pub created: Timestamp,
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub exit: Option<Exit>,
    /// Why fleetd ended it, or why its outcome is not known.
    pub reason: Option<String>,
    /// Somebody asked for it to stop; survives a restart of the daemon.
    pub stop_requested: bool,
    /// Since when its member has not been reachable while it runs there. Known
    /// to the daemon that sees to it, and not in the database.
    pub unreachable_since: Option<Timestamp>,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    /// It runs, and shows no sign of life.
    pub stalled: Option<Stalled>,
}

/// What a run had shown by the time it was told as stalled: more than that is life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalled {
    /// The last sign of life.
    pub since: Timestamp,
    /// Bytes of output, and of input that it took.
    pub bytes: u64,
    /// A number that changes when its transcript grows, if it has one.
    pub transcript: Option<u64>,
    /// CPU time of its processes, if known.
    pub cpu_ms: Option<u64>,
}

impl TaskId {
    /// A fresh, unguessable id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// The subject of this task's events.
    pub fn subject(self) -> String {
        format!("task/{self}")
    }
}

impl RunId {
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }
}

impl TaskState {
    /// Whether the task has ended and its one terminal event is in the journal.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Unknown)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Queued,
            Self::Starting,
            Self::Running,
            Self::Completed,
            Self::Failed,
            Self::Cancelled,
            Self::Unknown,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }
}

impl OutputStream {
    /// The stream's name, which is also its file's in the run directory.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for TaskId {
    type Err = TaskIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Only the hyphenated form: one task has one name everywhere.
        match Uuid::try_parse(text) {
            Ok(uuid) if text.len() == 36 => Ok(Self(uuid)),
            _ => Err(TaskIdError(text.chars().take(64).collect())),
        }
    }
}

impl FromStr for RunId {
    type Err = TaskIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self).map_err(|_| TaskIdError(text.chars().take(64).collect()))
    }
}
