//! The tools about files: send and receive.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Amount, Direction, TaskState, Transfer};

/// Arguments of `send_files`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendFiles {
    /// Files, folders (with all that is in them) and patterns (*, ?, [a-z]) on the machine that
    /// fleetd runs on. Relative ones begin at the home folder.
    pub local_paths: Vec<String>,
    /// Folder below the member's work folder to put them in; made if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest_subdir: Option<String>,
    /// Values to put in place of {{NAME}} in the files. A token without a value fails.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub substitutions: BTreeMap<String, String>,
    /// Member to send to, by name. Default: the local machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_name: Option<String>,
    /// Member to send to, by id; wins over member_name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
    /// true: return at once with a stream_id; the end comes as an event.
    #[serde(default, rename = "async")]
    pub run_async: bool,
}

/// Arguments of `receive_files`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiveFiles {
    /// Files, folders (with all that is in them) and patterns (*, ?, [a-z]) below the member's
    /// work folder.
    pub remote_paths: Vec<String>,
    /// Folder on the machine that fleetd runs on to put them in; made if it is not there. A
    /// relative one begins at the home folder.
    pub local_dest_dir: String,
    /// Member to receive from, by name. Default: the local machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_name: Option<String>,
    /// Member to receive from, by id; wins over member_name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
    /// true: return at once with a stream_id; the end comes as an event.
    #[serde(default, rename = "async")]
    pub run_async: bool,
}

/// Result of `send_files` and `receive_files`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TransferResult {
    /// The transfer's id: for monitor_task, stop_task and /events?stream_id=.
    pub stream_id: String,
    /// started (async), or completed.
    pub status: String,
    pub member: String,
    #[serde(flatten)]
    pub transfer: TransferView,
}

/// How far a transfer is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TransferView {
    pub direction: Direction,
    /// Files in their place, and bytes that have arrived.
    pub done: Amount,
    /// What there is to copy; zero until it was found out.
    pub total: Amount,
    /// Links, devices and names that cannot be copied, with the reason; foreign text.
    pub skipped: Vec<String>,
    /// How many were passed over in all.
    pub skipped_count: u64,
}

impl From<&Transfer> for TransferView {
    fn from(transfer: &Transfer) -> Self {
        Self {
            direction: transfer.direction,
            done: transfer.done,
            total: transfer.total,
            skipped: transfer.skipped.clone(),
            skipped_count: transfer.skipped_count,
        }
    }
}

impl From<&Transfer> for TransferResult {
    fn from(transfer: &Transfer) -> Self {
        let status = match transfer.state {
            TaskState::Running => "started",
            ended => ended.as_str(),
        };
        Self {
            stream_id: transfer.id.to_string(),
            status: status.to_owned(),
            member: transfer.member.clone(),
            transfer: transfer.into(),
        }
    }
}
