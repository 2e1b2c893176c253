//! The tools about the fleet and the daemon itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::task::all_as_listed;
use super::{MemberType, TaskView};

/// Arguments of tools that take none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoArguments {}

/// Result of `fleet_status`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FleetStatus {
    pub version: String,
    pub instance: String,
    pub pid: u32,
    /// RFC 3339.
    pub started: String,
    pub uptime_s: u64,
    pub url: String,
    /// Position of the newest event.
    pub cursor: String,
    pub journal: JournalStatus,
    /// Open subscriptions; null for who does not see everything.
    pub subscriptions: Option<u64>,
    pub members: Vec<MemberStatus>,
}

/// What the journal holds; null where it counts more than the caller may see.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct JournalStatus {
    pub events: Option<u64>,
    pub bytes: Option<u64>,
    /// false while the last write failed for a reason of the disk.
    pub healthy: bool,
    /// true while the disk is full: new events and tasks are refused.
    #[serde(default)]
    pub full: bool,
}

/// A member and what it is doing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MemberStatus {
    pub member_id: String,
    pub name: String,
    /// local or remote.
    #[serde(default, rename = "type")]
    pub member_type: MemberType,
    /// connecting, online, suspect or offline.
    pub state: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// Why it is not online.
    #[serde(default)]
    pub last_error: Option<String>,
    /// Tasks that run there, and that wait, as far as the caller may see them.
    pub running: u64,
    pub queued: u64,
    /// Its running and waiting tasks as list_tasks shows them, newest first, at most 100.
    #[schemars(schema_with = "all_as_listed")]
    pub tasks: Vec<TaskView>,
    /// Load and memory, if known, for who sees everything.
    pub load_1m: Option<f64>,
    pub memory_used_bytes: Option<u64>,
    pub memory_total_bytes: Option<u64>,
}

/// Result of `version`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct VersionResult {
    pub version: String,
    pub sqlite: String,
    /// MCP revisions spoken, newest first.
    pub mcp: Vec<String>,
}
