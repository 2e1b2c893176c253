//! Why files did not arrive.

use std::io;

use crate::model::ErrorCode;
use crate::reach::{FileProblem, ReachError};

/// Why a transfer was not taken, or ended early. Names are foreign text, capped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    #[error("there is no '{0}'")]
    NotFound(String),
    #[error("'{path}' {problem}")]
    Path { path: String, problem: &'static str },
    #[error("two of the files would both become '{0}'")]
    Collision(String),
    #[error("'{0}' leads out of its folder, or through a symbolic link")]
    Outside(String),
    #[error("there are more than {most} {what}; see [transfers] in the configuration")]
    Quota { what: &'static str, most: u64 },
    #[error("'{0}' changed while it was copied")]
    Changed(String),
    #[error(
        "'{0}' has another hash at its destination than at its source; nothing was put in its place"
    )]
    Mismatch(String),
    #[error("'{path}' uses {{{{{token}}}}}, which substitutions does not give")]
    Token { path: String, token: String },
    #[error("the member cannot be reached: {0}")]
    Unreachable(String),
    #[error("it was stopped on request")]
    Stopped,
    #[error("the daemon ended in the middle of it; the same call goes on where it was")]
    Interrupted,
    #[error("{what} '{path}': {problem}")]
    Io { what: &'static str, path: String, kind: io::ErrorKind, problem: String },
    #[error("the member's `sh`: {0}")]
    Shell(String),
    #[error(transparent)]
    Reach(Box<ReachError>),
    /// What a row says of a transfer that has ended.
    #[error("{problem}")]
    Told { reason: String, problem: String },
}

impl From<ReachError> for TransferError {
    fn from(error: ReachError) -> Self {
        Self::Reach(Box::new(error))
    }
}

/// What is shown of a foreign name.
pub fn shown(path: &str) -> String {
    path.chars().filter(|c| !c.is_control()).take(200).collect()
}

impl TransferError {
    pub fn io(what: &'static str, path: &str, error: &io::Error) -> Self {
        // What O_NOFOLLOW says of a link, and O_DIRECTORY of what is none.
        let link = matches!(error.raw_os_error(), Some(nix::libc::ELOOP | nix::libc::EXDEV));
        let path = shown(path);
        match error.kind() {
            _ if link => Self::Outside(path),
            io::ErrorKind::NotADirectory => Self::Outside(path),
            io::ErrorKind::NotFound => Self::NotFound(path),
            kind => Self::Io { what, path, kind, problem: error.to_string() },
        }
    }

    /// One word for scripts, as the topic table lists them.
    pub fn reason(&self) -> &str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::Outside(_) | Self::Path { .. } => "outside",
            Self::Quota { .. } => "quota",
            Self::Changed(_) => "changed",
            Self::Mismatch(_) => "mismatch",
            Self::Unreachable(_) => "unreachable",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
            Self::Reach(error) if is_missing(error) => "not_found",
            Self::Reach(error) if is_cut(error) => "unreachable",
            Self::Told { reason, .. } => reason,
            Self::Io { .. }
            | Self::Shell(_)
            | Self::Reach(_)
            | Self::Collision(_)
            | Self::Token { .. } => "io",
        }
    }

    /// The connection is at fault: it may go on when there is one again.
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Reach(error) if is_cut(error))
    }

    /// What has arrived is of use to the same call later.
    pub fn may_resume(&self) -> bool {
        self.is_cut() || matches!(self, Self::Unreachable(_) | Self::Interrupted)
    }

    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Io {
                kind: io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, ..
            } => ErrorCode::StorageFull,
            Self::Io { kind: io::ErrorKind::PermissionDenied, .. } => ErrorCode::Forbidden,
            Self::Collision(_) | Self::Token { .. } => ErrorCode::InvalidArgument,
            Self::Reach(error) if !self.is_cut() => error.code(),
            _ => match self.reason() {
                "not_found" => ErrorCode::NotFound,
                "outside" => ErrorCode::InvalidArgument,
                "quota" => ErrorCode::TooLarge,
                _ => ErrorCode::Conflict,
            },
        }
    }
}

fn is_missing(error: &ReachError) -> bool {
    matches!(error, ReachError::File { kind: FileProblem::NotFound, .. })
}

fn is_cut(error: &ReachError) -> bool {
    matches!(
        error,
        ReachError::Lost { .. }
            | ReachError::Offline { .. }
            | ReachError::Deadline { .. }
            | ReachError::Refused { .. }
            | ReachError::Unreachable { .. }
            | ReachError::TimedOut { .. }
    )
}
