//! Why the daemon could not start or go on, and the exit code that says so.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use super::place::PlaceError;
use crate::config::{ConfigError, PathsError};
use crate::fleet::FleetError;
use crate::store::StoreError;

/// Why the daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("fleetd is already running{}{}; see `fleetctl status`",
        pid.map(|pid| format!(" with pid {pid}")).unwrap_or_default(),
        url.as_deref().map(|url| format!(" at {url}")).unwrap_or_default())]
    AlreadyRunning { pid: Option<i32>, url: Option<String> },
    #[error(transparent)]
    Paths(#[from] PathsError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("'{path}' is in the way of the Unix socket and is not one; move it away")]
    NotASocket { path: PathBuf },
    #[error("'{path}' does not hold a token (64 hex digits); remove it to get a new one")]
    Token { path: PathBuf },
    #[error("the system has no random numbers to give: {0}")]
    Random(String),
    #[error("cannot listen on 127.0.0.1:{port}; set another server.port, or 0 for a free one")]
    Port {
        port: u16,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Fleet(#[from] FleetError),
    #[error("the system refused what a daemon needs")]
    Runtime(#[source] io::Error),
}

impl DaemonError {
    /// The exit codes of `fleetd`, for scripts and service managers.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::AlreadyRunning { .. } => 3,
            Self::Paths(_) | Self::Place(_) | Self::NotASocket { .. } | Self::Token { .. } => 4,
            Self::Store(_) | Self::Fleet(FleetError::Store(_)) => 5,
            Self::Config(_) => 78,
            Self::Random(_) | Self::Port { .. } | Self::Fleet(_) | Self::Runtime(_) => 1,
        }
    }

    /// The whole chain of causes in one line. A cause that its parent quotes
    /// already is not said twice.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latecomer_names_the_daemon_that_lives() {
        let error = DaemonError::AlreadyRunning {
            pid: Some(7),
            url: Some("http://127.0.0.1:4711".to_owned()),
        };
        let text = error.to_string();
        assert!(text.contains("pid 7") && text.contains("http://127.0.0.1:4711"), "{text}");
        assert_eq!(error.exit_code(), 3);
    }

    #[test]
    fn causes_are_told_once() {
        let place = PlaceError::io("/x".as_ref(), io::Error::other("read-only"));
        let text = DaemonError::from(place).chain();
        assert_eq!(text.matches("read-only").count(), 1, "{text}");
        let port = DaemonError::Port { port: 1, source: io::Error::other("taken") };
        assert!(port.chain().ends_with(": taken"), "{}", port.chain());
    }
}
