//! Settings, and where everything lies on disk.
//!
//! Theory of operation: the file's shape is exactly these structs; an unknown
//! key is refused with file, line and column and a suggestion. A missing file
//! means the defaults, which `config/fleetd.toml` spells out and a test compares.
//! Nothing here opens a socket or a database; paths are computed, not made.

mod file;
mod paths;
mod providers;

use std::time::Duration;

use serde::Deserialize;

pub use file::{ConfigError, load, parse};
pub use paths::{Paths, PathsError};
pub use providers::{Format, Provider, Providers, Tiers, UnattendedFlags};

/// All settings. Every field has a default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub journal: Journal,
    pub tasks: Tasks,
    pub transfers: Transfers,
    pub members: Members,
    pub mcp: Mcp,
    pub log: Log,
}

/// The loopback listener.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// TCP port on 127.0.0.1; 0 takes a free one at the first start and keeps it.
    pub port: u16,
    /// Open connections that have not shown a valid token.
    pub max_unauthenticated: usize,
    /// Open connections in all.
    pub max_connections: usize,
}

/// How much history is kept, and how safely.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Journal {
    pub max_events: u64,
    pub max_mib: u64,
    pub max_days: u64,
    pub durability: Durability,
    /// Recent events kept in memory.
    pub ring_mib: usize,
}

/// `full` survives a power cut, `normal` only a crash of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    Full,
    Normal,
}

/// Bounds for commands.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tasks {
    /// Commands that run at the same time on one member; others wait.
    pub concurrency: usize,
    /// Prompts that run at the same time on one member, each in a folder of its own.
    pub prompts: usize,
    /// Commands that may wait on one member.
    pub max_queued: usize,
    /// Bytes of stdout, and of stderr, that are kept of one run.
    pub max_output_mib: u64,
    /// Seconds between TERM and KILL when a task is stopped.
    pub stop_grace_s: u64,
    /// Days that ended tasks and their output are kept.
    pub keep_days: u64,
    /// Output of ended runs kept in all.
    pub keep_mib: u64,
    /// Seconds without a sign of life after which a run counts as stalled; 0 is never.
    pub stall_after_s: u64,
    pub stall_action: StallAction,
}

/// What is done about a stalled run, besides telling of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StallAction {
    Tell,
    Stop,
}

/// Bounds for copying files.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transfers {
    /// Files and folders of one transfer.
    pub max_files: u64,
    /// Bytes of one transfer.
    pub max_mib: u64,
}

/// Machines that are reached by SSH.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Members {
    /// Seconds of silence after which a member is asked for a sign of life.
    pub keepalive_s: u64,
    /// Seconds of silence after which it is offline.
    pub offline_after_s: u64,
    /// Seconds that connecting may take, jump hosts included.
    pub connect_timeout_s: u64,
}

/// The Model Context Protocol.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mcp {
    /// Serve the HTTP+SSE transport of 2024-11-05 as well.
    pub legacy_sse: bool,
    /// Serve the draft of the Events extension (SEP-3415).
    pub events_extension: bool,
}

/// The daemon's own log.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub level: LogLevel,
    /// Size at which a new file is begun.
    pub max_mib: u64,
    /// Files kept, the current one included.
    pub files: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Default for Server {
    fn default() -> Self {
        Self { port: 0, max_unauthenticated: 64, max_connections: 16_384 }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            max_events: 1_000_000,
            max_mib: 2048,
            max_days: 30,
            durability: Durability::Full,
            ring_mib: 8,
        }
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            concurrency: 16,
            prompts: 1,
            max_queued: 1000,
            max_output_mib: 64,
            stop_grace_s: 5,
            keep_days: 7,
            keep_mib: 1024,
            stall_after_s: 150,
            stall_action: StallAction::Tell,
        }
    }
}

impl Default for Transfers {
    fn default() -> Self {
        Self { max_files: 100_000, max_mib: 100 * 1024 }
    }
}

impl Default for Members {
    fn default() -> Self {
        Self { keepalive_s: 5, offline_after_s: 15, connect_timeout_s: 10 }
    }
}

impl Default for Mcp {
    fn default() -> Self {
        Self { legacy_sse: true, events_extension: false }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, max_mib: 8, files: 4 }
    }
}

impl Journal {
    pub fn max_age(&self) -> Duration {
        Duration::from_secs(self.max_days.saturating_mul(24 * 60 * 60))
    }
}
