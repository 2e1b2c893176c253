//! Commands and prompts as tasks: the fleet's own, durable before they are named and
//! readable after a restart.
//!
//! A command's own end, whatever its exit status, is the result of the call, so
//! the task is `completed`. `failed` is kept for what could not be found out.

use std::sync::Arc;

use rmcp::model::{DetailedTask, Task as TaskModel, TaskPayload, TaskStatus};
use serde_json::{Map, Value, json};

use super::POLL;
use crate::mcp::refusal::code;
use crate::mcp::tools::{Context, Deps, Failure, Outcome, outcome_of};
use crate::model::{Principal, Task, TaskId, TaskState};

/// The tools whose calls become tasks of the fleet.
pub const TOOLS: [&str; 2] = ["execute_command", "execute_prompt"];

/// # Errors
/// As [`super::detailed`].
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
    error.insert(String::from("code"), json!(code::INTERNAL));
    error.insert(String::from("message"), reason.into());
    error
}
