//! Why the roster did not do it.

use crate::model::{ErrorCode, MemberName};
use crate::reach::ReachError;

/// Why the roster did not do it.
#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    #[error("there is a member '{0}' already; names have to differ by more than case")]
    NameTaken(MemberName),
    #[error("'{other}' is the same folder of the same machine; choose another folder")]
    PlaceTaken { other: MemberName },
    #[error("'{member}' has open tasks ({tasks}); {advice}")]
    Busy { member: MemberName, tasks: u64, advice: &'static str },
    #[error("'local' is the machine that fleetd runs on; it cannot be {0}")]
    BuiltIn(&'static str),
    #[error("'{0}' was changed by somebody else meanwhile; look at it and try again")]
    Changed(MemberName),
    #[error("its system is '{kernel}'; members have to run Linux or macOS")]
    Unsupported { kernel: String },
    #[error(
        "its `sh` gave no answer that makes sense; is a POSIX shell there, for a user who may log in?"
    )]
    NoShell,
    #[error("the work folder '{folder}' cannot be used there: {problem}")]
    Folder { folder: String, problem: String },
    #[error("'{member}' is offline: {reason}")]
    Offline { member: MemberName, reason: String },
    #[error("{what}: {problem}")]
    Failed { what: String, problem: String },
    #[error(transparent)]
    Reach(#[from] ReachError),
}

impl RosterError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NameTaken(_) | Self::PlaceTaken { .. } | Self::Busy { .. } | Self::Changed(_) => {
                ErrorCode::Conflict
            }
            Self::BuiltIn(_) | Self::Unsupported { .. } | Self::NoShell | Self::Folder { .. } => {
                ErrorCode::InvalidArgument
            }
            Self::Offline { .. } => ErrorCode::Unreachable,
            Self::Failed { .. } => ErrorCode::Conflict,
            Self::Reach(error) => match error.code() {
                // That would say that the daemon is not there.
                ErrorCode::Unavailable => ErrorCode::Unreachable,
                code => code,
            },
        }
    }
}
