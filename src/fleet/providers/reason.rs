//! Why a prompt came to nothing, in the words that callers know.

use serde::{Deserialize, Serialize};

/// Why a prompt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The program could not be started.
    DispatchFailed,
    /// It ended with another status than 0, and said no more.
    NonzeroExit,
    /// It ended well and said nothing that is an answer.
    EmptyResponse,
    MaxTurnsExhausted,
    WorkspaceNotTrusted,
    /// The provider does not know who asks.
    Auth,
    /// The provider failed, or could not be reached.
    Server,
    /// The provider has too much to do, or we asked too much.
    Overloaded,
    SessionNotFound,
    /// It was silent for too long and was ended.
    Stalled,
    /// It took too long in all and was ended.
    Timeout,
    /// Somebody stopped it.
    Stopped,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DispatchFailed => "dispatch_failed",
            Self::NonzeroExit => "nonzero_exit",
            Self::EmptyResponse => "empty_response",
            Self::MaxTurnsExhausted => "max_turns_exhausted",
            Self::WorkspaceNotTrusted => "workspace_not_trusted",
            Self::Auth => "auth",
            Self::Server => "server",
            Self::Overloaded => "overloaded",
            Self::SessionNotFound => "session_not_found",
            Self::Stalled => "stalled",
            Self::Timeout => "timeout",
            Self::Stopped => "stopped",
        }
    }
}

/// Words that a failure is known by; the first row that fits is taken.
const KNOWN: &[(Reason, &[&str])] = &[
    (
        Reason::SessionNotFound,
        &["no conversation found", "no rollout found", "session not found", "invalid session"],
    ),
    (Reason::WorkspaceNotTrusted, &["not trusted", "untrusted", "trust this", "trusted folder"]),
    (
        Reason::Auth,
        &[
            "401",
            "403",
            "unauthorized",
            "authenticat",
            "api key",
            "not logged in",
            "login",
            "auth method",
        ],
    ),
    (Reason::Overloaded, &["overloaded", "rate limit", "rate_limit", "429", "529", "quota"]),
    (
        Reason::Server,
        &[
            "500 ",
            "502",
            "503",
            "server error",
            "server-side",
            "connection",
            "disconnected",
            "network",
        ],
    ),
];

/// What kind of failure this is, if it can be told.
pub fn of(status: Option<u16>, message: &str) -> Option<Reason> {
    match status {
        Some(401 | 403) => return Some(Reason::Auth),
        Some(429 | 529) => return Some(Reason::Overloaded),
        Some(500..=599) => return Some(Reason::Server),
        _ => {}
    }
    let message = message.to_lowercase();
    let fits = |words: &&[&str]| words.iter().any(|word| message.contains(word));
    KNOWN.iter().find(|(_, words)| fits(words)).map(|(reason, _)| *reason)
}
