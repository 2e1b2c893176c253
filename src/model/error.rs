//! The stable names of failures, shared by every edge.

use serde::{Deserialize, Serialize};

/// What kind of failure it was, in one word that scripts may rely on.
///
/// Components map their errors to a code; each edge maps the code once more:
/// http to a status, mcp to a JSON-RPC number or a tool error, cli to an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The caller's input is wrong; the message names the part.
    InvalidArgument,
    /// The cursor lies after the newest event.
    CursorInFuture,
    /// No such thing, or none that the caller may see.
    NotFound,
    /// The thing is not in a state that permits this.
    Conflict,
    /// The input is over a stated limit.
    TooLarge,
    /// No valid token.
    Unauthorized,
    /// A valid token without the needed scope, or a refused origin.
    Forbidden,
    /// A cap is reached; the same call may succeed later.
    Exhausted,
    /// The disk is full; reads and deletes still work.
    StorageFull,
    /// The journal cannot be written at the moment.
    StorageDegraded,
    /// The daemon is shutting down or not there.
    Unavailable,
    /// The member cannot be reached; nothing was done there.
    Unreachable,
    /// Whether it happened is not known; ask again by id.
    UnknownOutcome,
    /// A defect of fleetd.
    Internal,
}

impl ErrorCode {
    /// The code as it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::CursorInFuture => "cursor_in_future",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Exhausted => "exhausted",
            Self::StorageFull => "storage_full",
            Self::StorageDegraded => "storage_degraded",
            Self::Unavailable => "unavailable",
            Self::Unreachable => "unreachable",
            Self::UnknownOutcome => "unknown_outcome",
            Self::Internal => "internal",
        }
    }
}
