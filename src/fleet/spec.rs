//! What a caller wants to have run.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::leases::Claim;
use crate::config::Format;
use crate::model::Project;

/// A command as a caller states it.
#[derive(Clone, Debug)]
pub struct CommandSpec {
    pub member: Option<String>,
    pub program: Program,
    /// Folder to run in; the home folder if none.
    pub run_from: Option<String>,
    /// Set on top of the allow-listed environment.
    pub env: BTreeMap<String, String>,
    pub stdin: Stdin,
    /// Time without output after which the command is ended.
    pub inactivity: Option<Duration>,
    /// Time in all after which the command is ended.
    pub total: Option<Duration>,
    /// Time without a sign of life after which it counts as stalled: zero is never,
    /// absent what the settings say.
    pub stall_after: Option<Duration>,
    /// Files whose growth is a sign of life: `~/` begins at the home, `*` is any name.
    pub transcript: Option<String>,
    /// Further attempts after a failure.
    pub retries: u32,
    /// The program of further attempts, if another.
    pub restart: Option<Program>,
    pub project: Project,
    /// It is a prompt, run by a provider's program.
    pub prompt: Option<Prompted>,
}

/// What makes a run a prompt's; it stands in the run directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompted {
    pub provider: String,
    pub format: Format,
    /// The session it goes on with, or begins where that can be chosen.
    pub session_id: Option<String>,
    pub claim: Claim,
}

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// A line for `sh -c`.
    Shell(String),
    /// A program and its arguments, byte for byte.
    Argv(Vec<String>),
}

/// What the command reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stdin {
    Closed,
    Bytes(Bytes),
    /// Comes piece by piece through `Fleet::input`.
    Open,
}
