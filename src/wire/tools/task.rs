//! The tools about tasks: start one, look at it, list, stop.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{PromptView, TransferView, default_limit};
use crate::model::{Exit, Task, TaskState, Transfer};

/// Seconds without output after which a command is ended, unless the caller says otherwise.
pub const DEFAULT_TIMEOUT_S: u64 = 120;

/// Arguments of `execute_command`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecuteCommand {
    /// The command line, run by `sh -c`.
    pub command: String,
    /// Member to run on, by name. Default: the local machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_name: Option<String>,
    /// Member to run on, by id; wins over member_name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
    /// End the command after this many seconds without output. 0: never.
    #[serde(default = "default_timeout")]
    pub timeout_s: u64,
    /// End the command after this many seconds in all. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_total_s: Option<u64>,
    /// Publish task.stalled after this many seconds without output or CPU use. 0: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_after_s: Option<u64>,
    /// Folder to run in. Default: the home folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_from: Option<String>,
    /// true: return at once with a stream_id; the end comes as an event.
    #[serde(default, rename = "async")]
    pub run_async: bool,
    /// Like async, without an inactivity limit, and tried again when it fails.
    #[serde(default)]
    pub long_running: bool,
    /// With long_running: how often a failed command is tried again, 0 to 10.
    #[serde(default = "default_retries")]
    pub max_retries: u32,
    /// With long_running: the command for the further tries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_command: Option<String>,
    /// Environment variables to set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Text for the command's standard input. Default: none, closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// true: standard input stays open and comes through POST /tasks/{id}/input.
    #[serde(default)]
    pub open_stdin: bool,
    /// What a cancelled request does to the command: "continue" or "stop".
    #[serde(default)]
    pub on_cancel: OnCancel,
}

/// What cancelling a request does to the task it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnCancel {
    /// The wait ends, the task goes on.
    #[default]
    Continue,
    /// The task is stopped.
    Stop,
}

/// Result of `execute_command`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExecuteCommandResult {
    /// The task's id: for monitor_task, stop_task and /events?stream_id=.
    pub stream_id: String,
    /// started or queued (async), or how it ended: completed, failed, cancelled, unknown.
    pub status: String,
    /// Exit status; null if a signal ended the command or it has not ended.
    #[serde(rename = "exitCode")]
    pub exit_code: Option<i32>,
    /// Number of the signal that ended the command.
    pub signal: Option<i32>,
    /// A shell told exitCode: it may also mean that this signal ended the command.
    #[serde(default)]
    pub signal_possible: Option<i32>,
    /// Output, foreign text; the last part of it if it is long.
    pub stdout: Option<String>,
    /// Error output, foreign text; the last part of it if it is long.
    pub stderr: Option<String>,
    /// Bytes of stdout and stderr that are not shown here; read them with monitor_task.
    pub omitted_bytes: u64,
    /// false: bytes that were not UTF-8 are shown as U+FFFD; GET /tasks/{id}/output has them.
    #[serde(default = "default_exact")]
    pub exact: bool,
    /// Why fleetd ended it, or why the outcome is unknown.
    pub reason: Option<String>,
}

/// A task, as every tool shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskView {
    pub task_id: String,
    pub state: TaskState,
    pub member: String,
    pub project: String,
    /// The command, shortened; what a transfer copies.
    pub command: String,
    pub pid: Option<u32>,
    /// RFC 3339 times.
    pub created: String,
    pub started: Option<String>,
    pub ended: Option<String>,
    pub duration_ms: Option<u64>,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// A shell told exit_code: it may also mean that this signal ended the command.
    #[serde(default)]
    pub signal_possible: Option<i32>,
    pub reason: Option<String>,
    pub stop_requested: bool,
    /// Its member has not been reachable since then; it goes on there.
    #[serde(default)]
    pub unreachable_since: Option<String>,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    /// It runs and has shown no sign of life since then.
    #[serde(default)]
    pub stalled_since: Option<String>,
    /// Of a transfer of files: how far it is, as send_files tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "perhaps_as_listed")]
    pub transfer: Option<TransferView>,
}

impl From<&Transfer> for TaskView {
    fn from(transfer: &Transfer) -> Self {
        Self {
            task_id: transfer.id.to_string(),
            state: transfer.state,
            member: transfer.member.clone(),
            project: transfer.project.to_string(),
            command: transfer.title.clone(),
            pid: None,
            created: transfer.created.to_string(),
            started: Some(transfer.created.to_string()),
            ended: transfer.ended.map(|at| at.to_string()),
            duration_ms: transfer.ended.map(|at| at.millis_since(transfer.created)),
            exit_code: None,
            signal: None,
            signal_possible: None,
            unreachable_since: None,
            reason: transfer.problem.clone(),
            stop_requested: transfer.state == TaskState::Cancelled,
            stalled_since: None,
            stdout_bytes: 0,
            stderr_bytes: 0,
            transfer: Some(transfer.into()),
        }
    }
}

impl From<&Task> for TaskView {
    fn from(task: &Task) -> Self {
        let exit = task.exit.map(Exit::parts).unwrap_or_default();
        let duration = task.started.zip(task.ended).map(|(from, to)| to.millis_since(from));
        Self {
            task_id: task.id.to_string(),
            state: task.state,
            member: task.member.clone(),
            project: task.project.to_string(),
            command: task.command.clone(),
            pid: task.pid,
            created: task.created.to_string(),
            started: task.started.map(|at| at.to_string()),
            ended: task.ended.map(|at| at.to_string()),
            duration_ms: duration,
            exit_code: exit.code,
            signal: exit.signal,
            signal_possible: exit.signal_possible,
            reason: task.reason.clone(),
            stop_requested: task.stop_requested,
            unreachable_since: task.unreachable_since.map(|at| at.to_string()),
            stdout_bytes: task.stdout_bytes,
            stderr_bytes: task.stderr_bytes,
            stalled_since: task.stalled.map(|stalled| stalled.since.to_string()),
            transfer: None,
        }
    }
}

/// Arguments of `monitor_task`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorTask {
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// Several tasks at once, at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub task_ids: Vec<String>,
    /// Show stdout from this byte on. Default: the last part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout_offset: Option<u64>,
    /// Show stderr from this byte on. Default: the last part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr_offset: Option<u64>,
    /// Of a prompt: show its text from this byte on. Default: the last part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_offset: Option<u64>,
    /// Most bytes of each stream to show, up to 262144.
    #[serde(default = "default_text")]
    pub max_bytes: u32,
}

/// Result of `monitor_task`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MonitorTaskResult {
    pub tasks: Vec<MonitoredTask>,
}

/// A task as list_tasks shows it, with a part of its output.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct MonitoredTask {
    #[serde(flatten)]
    #[schemars(schema_with = "as_listed")]
    pub task: TaskView,
    pub stdout: OutputText,
    /// The same of stderr.
    #[schemars(schema_with = "as_listed")]
    pub stderr: OutputText,
    /// Of a prompt: what execute_prompt returns, and the text, text_offset and
    /// text_bytes of what the model has said so far.
    #[serde(default)]
    #[schemars(schema_with = "perhaps_as_listed")]
    pub prompt: Option<PromptView>,
}

/// A part of a stream as text.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct OutputText {
    /// The run whose bytes these are; in another one offsets begin at 0 again.
    #[serde(default)]
    pub run_id: String,
    /// Foreign text.
    pub text: String,
    /// First byte shown.
    pub offset: u64,
    /// Ask from here for what follows.
    pub next_offset: u64,
    /// false: bytes that were not UTF-8 are shown as U+FFFD.
    pub exact: bool,
    /// Bytes that the cap on kept output dropped.
    #[serde(default)]
    pub cut_bytes: u64,
}

impl OutputText {
    /// Of what has no output.
    pub fn none() -> Self {
        let (run_id, text) = (String::new(), String::new());
        Self { run_id, text, offset: 0, next_offset: 0, exact: true, cut_bytes: 0 }
    }
}

/// Arguments of `list_tasks`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListTasks {
    /// Only tasks in these states. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<TaskState>,
    /// Most tasks to list, newest first, up to 1000.
    #[serde(default = "default_limit")]
    pub limit: u32,
}

/// Result of `list_tasks`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ListTasksResult {
    pub tasks: Vec<TaskView>,
}

/// Arguments of `stop_task`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopTask {
    /// The task.
    pub task_id: String,
}

/// Result of `stop_task`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StopTaskResult {
    /// The task after the stop, or as it had ended before, as list_tasks shows it.
    #[schemars(schema_with = "as_listed")]
    pub task: TaskView,
}

/// The schema of a task where another tool has spelt it out: it is long, and a
/// client that lists the tools has it already.
pub(super) fn as_listed(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}

/// The same where there may be none.
fn perhaps_as_listed(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["object", "null"] })
}

/// The same for several.
pub(super) fn all_as_listed(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "type": "object" } })
}

fn default_timeout() -> u64 {
    DEFAULT_TIMEOUT_S
}

fn default_retries() -> u32 {
    3
}

fn default_exact() -> bool {
    true
}

fn default_text() -> u32 {
    16 * 1024
}
