//! Why a request to the daemon did not succeed.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::PathsError;
use crate::model::ErrorCode;

/// Why the daemon did not do it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("fleetd is not running; start it with `fleetctl up`")]
    NotRunning,
    /// It is alive as far as the kernel can tell, so nobody may start another.
    #[error("fleetd{} is frozen: it took the connection but did not answer within {} s{}",
        pid_in_brackets(.pid), .waited.as_secs(), way_out(.pid))]
    Frozen { pid: Option<i32>, waited: Duration },
    #[error(
        "port {port} is held by a program that is not your fleetd, so nothing secret was sent to it; start fleetd with `fleetctl up`"
    )]
    Impostor { port: u16 },
    #[error(
        "the socket '{path}' belongs to user id {uid}, not to you, so nothing was sent to it; remove it"
    )]
    ForeignSocket { path: PathBuf, uid: u32 },
    #[error("cannot connect to '{path}'")]
    Socket {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot use the runtime file '{path}': {problem}")]
    RuntimeFile { path: PathBuf, problem: String },
    #[error("cannot use the token file '{path}': {problem}")]
    Token { path: PathBuf, problem: String },
    #[error(transparent)]
    Home(#[from] PathsError),
    /// The daemon answered, and said no.
    #[error("{message}")]
    Refused { code: ErrorCode, message: String },
    /// The connection ended before the answer did: what was asked for may have happened.
    #[error("the connection to fleetd was lost before it had answered")]
    Cut(#[source] hyper::Error),
    /// The same, but in good order: fleetd goes down, or gave the answer up.
    #[error("fleetd ended its answer early; it may be going down")]
    Ended,
    #[error(
        "fleetd answered something this fleetctl does not understand: {0}; compare `fleetctl version`"
    )]
    Protocol(String),
}

fn pid_in_brackets(pid: &Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

fn way_out(pid: &Option<i32>) -> String {
    pid.map_or_else(String::new, |pid| {
        format!("; continue it with `kill -CONT {pid}`, or end it with `kill -KILL {pid}`")
    })
}

impl ClientError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotRunning
            | Self::Frozen { .. }
            | Self::Impostor { .. }
            | Self::Cut(_)
            | Self::Ended => ErrorCode::Unavailable,
            Self::ForeignSocket { .. } => ErrorCode::Forbidden,
            Self::Token { .. } => ErrorCode::Unauthorized,
            Self::Refused { code, .. } => *code,
            Self::Socket { .. } | Self::RuntimeFile { .. } | Self::Home(_) | Self::Protocol(_) => {
                ErrorCode::Internal
            }
        }
    }

    /// Whether it is not known what became of the request.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Cut(_) | Self::Ended)
    }

    /// Whether the same request may succeed by itself a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NotRunning
            | Self::Frozen { .. }
            | Self::Impostor { .. }
            | Self::Cut(_)
            | Self::Ended => true,
            // A daemon that has just been killed leaves all sorts of half-open ends.
            Self::Socket { .. } | Self::RuntimeFile { .. } => true,
            Self::Refused { code, .. } => matches!(
                code,
                ErrorCode::Unavailable | ErrorCode::Exhausted | ErrorCode::StorageDegraded
            ),
            _ => false,
        }
    }

    pub(super) fn protocol(problem: impl std::fmt::Display) -> Self {
        Self::Protocol(problem.to_string())
    }
}
