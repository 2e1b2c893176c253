//! What stands in the files of a run directory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Program;
use super::process::{Boot, Identity};
use super::stall::Watch;
use crate::model::{Exit, MemberId};

/// Everything a supervisor needs to know, and the daemon to go on after a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Place in the order of arrival.
    pub order: u64,
    /// Where it runs.
    #[serde(default = "here")]
    pub member: MemberId,
    pub program: Program,
    /// Absolute.
    pub folder: String,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    pub stdin: StdinKind,
    /// Milliseconds without output; see [`Cause::Inactivity`].
    pub inactivity_ms: Option<u64>,
    /// Milliseconds in all; see [`Cause::Total`].
    pub total_ms: Option<u64>,
    /// Bytes kept of each stream.
    pub max_output: u64,
    /// Milliseconds between TERM and KILL.
    pub grace_ms: u64,
    pub umask: u32,
    /// Runs that may follow this one after a failure.
    pub retries: u32,
    /// What they run, if another program.
    pub restart: Option<Program>,
    /// When it counts as stalled; never, if absent.
    #[serde(default)]
    pub stall: Option<Watch>,
}

/// What the command's standard input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdinKind {
    Closed,
    /// The file `stdin`, complete.
    Bytes,
    /// The file `stdin`, which grows until `stdin.end` appears.
    Open,
}

/// Who supervises a run, and what it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pids {
    pub supervisor: Identity,
    pub boot: Boot,
    /// The command, once it has begun.
    pub command: Option<u32>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// `None` if the command never began or outlived every signal.
    pub exit: Option<Exit>,
    /// Why fleetd ended it, if it did.
    pub cause: Option<Cause>,
    /// More about the cause, for people.
    pub detail: Option<String>,
    pub pid: Option<u32>,
    /// Milliseconds since 1970.
    pub started_ms: Option<i64>,
    pub ended_ms: i64,
    /// By the monotonic clock.
    pub duration_ms: u64,
    pub stdout: Count,
    pub stderr: Count,
}

/// Bytes of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub kept: u64,
    pub cut: u64,
}

/// Why fleetd ended a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Somebody asked.
    Stopped,
    /// No byte on either stream for too long.
    Inactivity,
    /// Too long in all.
    Total,
    /// No sign of life for too long, and the policy is to stop it.
    Stalled,
    /// It could not be started.
    NotStarted,
}

fn here() -> MemberId {
    MemberId::LOCAL
}

impl Count {
    /// Bytes the command wrote.
    pub fn written(self) -> u64 {
        self.kept + self.cut
    }
}
