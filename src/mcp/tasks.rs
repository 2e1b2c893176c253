//! Commands as tasks of the Tasks extension (`io.modelcontextprotocol/tasks`,
//! SEP-2663): durable before they are named, readable after a restart.
//!
//! A command's own end, whatever its exit status, is the result of the call, so
//! the task is `completed`. `failed` is kept for what could not be found out.

use std::sync::Arc;

use rmcp::ErrorData;
use rmcp::model::{DetailedTask, Task as TaskModel, TaskPayload, TaskStatus};
use serde_json::{Map, Value, json};

use super::tools::{Context, Deps, Failure, Outcome, outcome_of};
use crate::fleet::FleetError;
use crate::model::{Principal, Scope, Task, TaskId, TaskState};

/// The tools whose calls become tasks.
pub const TOOLS: [&str; 2] = ["execute_command", "execute_prompt"];

/// How often a client that does not listen should ask.
const POLL: u64 = 2000;

/// The task as `tasks/get` and `notifications/tasks` show it.
///
/// # Errors
/// [`FleetError::NoTask`] as a [`Failure`], or why it could not be read.
pub async fn detailed(
    deps: &Arc<Deps>,
    principal: &Arc<Principal>,
    id: TaskId,
    render: impl FnOnce(Outcome) -> Map<String, Value>,
) -> Result<DetailedTask, Failure> {
    let task = deps.fleet.task(principal, id).await?;
    let payload = match task.state {
        TaskState::Queued | TaskState::Starting | TaskState::Running => TaskPayload::Working,
        TaskState::Cancelled => TaskPayload::Cancelled,
        TaskState::Completed | TaskState::Failed => {
            let context = Context::quiet(Arc::clone(deps), Arc::clone(principal));
            let result = render(outcome_of(&context, &task).await?);
            TaskPayload::Completed { result }
        }
        TaskState::Unknown => TaskPayload::Failed { error: lost(&task) },
    };
    Ok(DetailedTask::new(summary(deps, &task), payload))
}

/// The task without what came of it.
pub fn summary(deps: &Deps, task: &Task) -> TaskModel {
    let updated = task.ended.or(task.started).unwrap_or(task.created);
    let (created, updated_text) = (task.created.to_string(), updated.to_string());
    let mut model = TaskModel::new(task.id.to_string(), status(task.state), created, updated_text)
        .with_poll_interval_ms(POLL);
    if let Some(ended) = task.ended {
        let kept = deps.fleet.keeps().as_millis() as u64;
        model = model.with_ttl_ms(ended.millis_since(task.created).saturating_add(kept));
    }
    match &task.reason {
        Some(reason) => model.with_status_message(reason),
        None => model,
    }
}

/// Asks a task to stop; what has ended stays as it is. The command may need its
/// grace to end after this; the client learns that from the task.
///
/// # Errors
/// -32602 if there is no such task for `principal`, or it may not stop any.
pub async fn cancel(deps: &Deps, principal: &Principal, id: &str) -> Result<(), ErrorData> {
    let id = parse(id)?;
    if !principal.may(Scope::Run) {
        return Err(ErrorData::invalid_params("this token may not stop tasks", None));
    }
    deps.fleet.ask_stop(principal, id).await.map_err(|error| refuse(error.into()))
}

/// Checks that there is such a task; commands never ask for input, so answers to
/// questions that nobody asked are ignored, as the extension says.
///
/// # Errors
/// -32602 if there is no such task for `principal`.
pub async fn update(deps: &Deps, principal: &Principal, id: &str) -> Result<(), ErrorData> {
    let found = deps.fleet.task(principal, parse(id)?).await;
    found.map(drop).map_err(|error| refuse(error.into()))
}

/// # Errors
/// -32602: what is not a task id names no task.
pub fn parse(id: &str) -> Result<TaskId, ErrorData> {
    id.parse().map_err(|error: crate::model::TaskIdError| {
        ErrorData::invalid_params(error.to_string(), None)
    })
}

/// A failure to read a task as a protocol error.
pub fn refuse(failure: Failure) -> ErrorData {
    match failure {
        Failure::Fleet(FleetError::NoTask(_)) => {
            ErrorData::invalid_params(failure.to_string(), None)
        }
        failure => ErrorData::internal_error(failure.to_string(), None),
    }
}

fn status(state: TaskState) -> TaskStatus {
    match state {
        TaskState::Queued | TaskState::Starting | TaskState::Running => TaskStatus::Working,
        TaskState::Completed | TaskState::Failed => TaskStatus::Completed,
        TaskState::Cancelled => TaskStatus::Cancelled,
        TaskState::Unknown => TaskStatus::Failed,
    }
}

fn lost(task: &Task) -> Map<String, Value> {
    let reason = task.reason.as_deref().unwrap_or("how the command ended cannot be known");
    let mut error = Map::new();
    error.insert(String::from("code"), json!(super::refusal::code::INTERNAL));
    error.insert(String::from("message"), reason.into());
    error
}
