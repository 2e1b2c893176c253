//! Why a machine was not reached, or what became of a request there.

use std::path::PathBuf;

use super::known_hosts::HostKey;
use super::link::Cause;
use crate::model::ErrorCode;

/// What went wrong. Texts of the peer are capped and stripped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReachError {
    #[error("cannot use the SSH configuration '{path}': {problem}")]
    Config { path: PathBuf, problem: String },
    #[error("{what} {problem}")]
    Invalid { what: &'static str, problem: String },
    #[error("cannot reach '{host}': {problem}")]
    Unreachable { host: String, problem: String },
    #[error("'{host}' did not answer within {seconds} s")]
    TimedOut { host: String, seconds: u64 },
    #[error("the jump host '{jump}' does not let us through: {source}")]
    Jump {
        jump: String,
        #[source]
        source: Box<ReachError>,
    },
    /// Nothing was offered to the peer.
    #[error(
        "'{host}' is not known and shows the key {offered}; compare it at the machine, then trust it explicitly"
    )]
    HostKeyUnknown { host: String, offered: HostKey },
    /// Nothing was offered to the peer, and nothing rewritten.
    #[error(
        "the key of '{host}' has changed: it shows {offered}, but {place} has {known}; somebody may be in between, so find out why before you trust the new key"
    )]
    HostKeyChanged { host: String, offered: HostKey, known: String, place: String },
    #[error("'{host}' shows the key {offered}, which {place} marks as revoked")]
    HostKeyRevoked { host: String, offered: HostKey, place: String },
    #[error(
        "'{host}' is known only through a certificate authority ({place}), which fleetd does not follow; trust its key {offered} explicitly"
    )]
    HostKeyCertified { host: String, offered: HostKey, place: String },
    #[error("cannot use the host keys in '{path}': {problem}")]
    KnownHosts { path: PathBuf, problem: String },
    /// The host key was right; the identities offered were not.
    #[error("'{user}@{host}' refused us; tried {tried}")]
    Auth { host: String, user: String, tried: String },
    #[error(
        "the key '{path}' is encrypted; add it to your agent (ssh-add '{path}') or name another key"
    )]
    KeyEncrypted { path: PathBuf },
    #[error("cannot use the key '{path}': {problem}")]
    Key { path: PathBuf, problem: String },
    #[error("cannot use the SSH agent: {problem}")]
    Agent { problem: String },
    /// What the peer sent is no SSH, or breaks its rules.
    #[error("'{host}' does not speak SSH as it should: {problem}")]
    Protocol { host: String, problem: String },
    /// No connection at the moment: nothing was sent.
    #[error("no connection to '{host}' at the moment: {reason}")]
    Offline { host: String, reason: String },
    /// The connection ended in between: whether it happened is not known.
    #[error("the connection to '{host}' was lost: {reason}")]
    Lost { host: String, reason: String },
    /// The peer does not open one more channel, or refuses the request on it.
    #[error("'{host}' refused {what}: {problem}")]
    Refused { host: String, what: String, problem: String },
    #[error("no answer from '{host}' within {seconds} s")]
    Deadline { host: String, seconds: u64 },
    #[error("'{host}' wrote more than {most} bytes")]
    TooMuch { host: String, most: usize },
    /// An answer of the file service.
    #[error("{what} '{path}' on '{host}': {problem}")]
    File { host: String, what: &'static str, path: String, kind: FileProblem, problem: String },
    #[error("shutting down")]
    Closed,
    #[error("{0}")]
    Internal(String),
}

/// The answers of a file service that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileProblem {
    NotFound,
    Exists,
    Permission,
    NoSpace,
    Other,
}

impl ReachError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Config { .. } | Self::Invalid { .. } => ErrorCode::InvalidArgument,
            Self::HostKeyUnknown { .. }
            | Self::HostKeyChanged { .. }
            | Self::HostKeyRevoked { .. }
            | Self::HostKeyCertified { .. }
            | Self::Auth { .. }
            | Self::KeyEncrypted { .. }
            | Self::Key { .. }
            | Self::Agent { .. } => ErrorCode::Forbidden,
            Self::Jump { source, .. } => source.code(),
            Self::Lost { .. } | Self::Deadline { .. } => ErrorCode::UnknownOutcome,
            Self::TooMuch { .. } => ErrorCode::TooLarge,
            Self::File { kind, .. } => match kind {
                FileProblem::NotFound => ErrorCode::NotFound,
                FileProblem::Exists => ErrorCode::Conflict,
                FileProblem::Permission => ErrorCode::Forbidden,
                FileProblem::NoSpace => ErrorCode::StorageFull,
                FileProblem::Other => ErrorCode::Conflict,
            },
            Self::KnownHosts { .. } | Self::Internal(_) => ErrorCode::Internal,
            Self::Refused { .. } => ErrorCode::Exhausted,
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Protocol { .. }
            | Self::Offline { .. }
            | Self::Closed => ErrorCode::Unavailable,
        }
    }

    /// The kind of trouble a link is in because of this.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::HostKeyUnknown { offered, .. } | Self::HostKeyCertified { offered, .. } => {
                Cause::HostKeyUnknown { offered: offered.clone() }
            }
            Self::HostKeyChanged { offered, known, .. } => {
                Cause::HostKeyChanged { offered: offered.clone(), known: known.clone() }
            }
            Self::HostKeyRevoked { offered, .. } => {
                Cause::HostKeyRevoked { offered: offered.clone() }
            }
            Self::Auth { .. }
            | Self::KeyEncrypted { .. }
            | Self::Key { .. }
            | Self::Agent { .. } => Cause::Auth,
            Self::Jump { source, .. } => source.cause(),
            Self::Protocol { .. } => Cause::Hostile,
            Self::Lost { .. } => Cause::Lost,
            Self::Config { .. } | Self::Invalid { .. } | Self::KnownHosts { .. } => Cause::Config,
            _ => Cause::Unreachable,
        }
    }
}
