//! Files on their way between this machine and a member.

use serde::{Deserialize, Serialize};

use super::{PrincipalId, Project, TaskId, TaskState, Timestamp};

/// Which way the files go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the daemon's machine to the member.
    Send,
    /// From the member to the daemon's machine.
    Receive,
}

/// How much there is of something that is copied.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Amount {
    pub files: u64,
    pub bytes: u64,
}

/// A transfer as the database holds it: small, whatever it carries. It shares
/// the names of tasks (`stream_id`, states) and is in `running` or at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    pub id: TaskId,
    pub project: Project,
    pub principal: PrincipalId,
    /// The member's name.
    pub member: String,
    pub direction: Direction,
    /// running, completed, failed or cancelled.
    pub state: TaskState,
    /// What was asked for, shortened, for people; foreign text.
    pub title: String,
    /// What there is to copy; nothing before that was found out.
    pub total: Amount,
    /// What has arrived, was checked and stands in its place.
    pub done: Amount,
    /// Names that were passed over with the reason, at most
    /// [`Transfer::MOST_SKIPPED`]; foreign text.
    pub skipped: Vec<String>,
    /// All names that were passed over.
    pub skipped_count: u64,
    /// One word that scripts may rely on; `None` unless it failed or was stopped.
    pub reason: Option<String>,
    /// The same for people.
    pub problem: Option<String>,
    pub created: Timestamp,
    pub ended: Option<Timestamp>,
}

impl Direction {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
        }
    }
}

impl Transfer {
    /// Names that are kept of those that were passed over.
    pub const MOST_SKIPPED: usize = 100;
}
