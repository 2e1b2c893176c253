//! Tasks of the Tasks extension (`io.modelcontextprotocol/tasks`, SEP-2663):
//! readable before they are named, told when they change.
//!
//! There are two kinds. A `command` is a task of the fleet: durable, and there
//! after a restart. A `work` is a call that a tool serves inside the daemon and
//! that may ask its client for something on the way; it ends with the daemon.
//! Whoever has an id reads, answers and cancels either in the same way.

mod command;
mod work;

use std::sync::Arc;

use rmcp::ErrorData;
use rmcp::model::{
    CreateTaskResult, DetailedTask, InputResponses, MetaObject, Task as TaskModel, TaskStatus,
};
use serde_json::{Map, Value, json};

use super::refusal::code;
use super::tools::{Deps, Failure, Outcome};
use crate::fleet::FleetError;
use crate::model::{Principal, Scope, TaskId};

pub use command::{TOOLS, summary};
pub use work::{Work, Works};

/// The extension's name, in the capabilities of both sides.
pub const EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// How often a client that does not listen should ask, in milliseconds.
const POLL: u64 = 2000;

/// Whether a call is answered with a task, where its client can read one. Before
/// 2026-07-28 none can, and every call is answered in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskSupport {
    Never,
    /// Who cannot read a task waits for the result.
    Optional,
    /// Who cannot read a task is refused.
    Required,
}

/// Whether a client that declares `capabilities` can read a task.
pub fn declared(capabilities: Option<&Value>) -> bool {
    let extensions = capabilities.and_then(|capabilities| capabilities.get("extensions"));
    extensions.is_some_and(|extensions| extensions.get(EXTENSION).is_some())
}

/// The error for a client that cannot read the task that its call would be.
pub fn undeclared() -> Value {
    json!({
        "code": code::MISSING_CAPABILITY,
        "message": "this call is answered with a task, and the client does not declare that it \
            can read one",
        "data": { "requiredCapabilities": { "extensions": { EXTENSION: {} } } },
    })
}

/// The answer to a call that has become a task.
pub fn created(task: TaskModel, meta: Option<MetaObject>) -> CreateTaskResult {
    let mut created = CreateTaskResult::new(task);
    created.meta = meta;
    created
}

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
    match deps.works.find(principal, id) {
        Some(work) => Ok(work.detailed()),
        None => command::detailed(deps, principal, id, render).await,
    }
}

/// Whether there is such a task for `principal`.
pub async fn exists(deps: &Deps, principal: &Principal, id: TaskId) -> bool {
    deps.works.find(principal, id).is_some() || deps.fleet.task(principal, id).await.is_ok()
}

/// Whether somebody who begins to listen should be told of the task at once.
pub fn is_news(task: &DetailedTask) -> bool {
    task.status() != TaskStatus::Working
}

/// Asks a task to stop; what has ended stays as it is. It may need its grace to
/// end after this; the client learns that from the task.
///
/// # Errors
/// -32602 if there is no such task for `principal`, or it may not stop any.
pub async fn cancel(deps: &Deps, principal: &Principal, id: &str) -> Result<(), ErrorData> {
    let id = parse(id)?;
    if !principal.may(Scope::Run) {
        return Err(ErrorData::invalid_params("this token may not stop tasks", None));
    }
    if let Some(work) = deps.works.find(principal, id) {
        work.cancel();
        return Ok(());
    }
    deps.fleet.ask_stop(principal, id).await.map_err(|error| refuse(error.into()))
}

/// Hands a task the answers to what it asked. Answers to questions that nobody
/// asked are ignored, as the extension says; commands never ask for input.
///
/// # Errors
/// -32602 if there is no such task for `principal`.
pub async fn update(
    deps: &Deps,
    principal: &Principal,
    id: &str,
    answers: InputResponses,
) -> Result<(), ErrorData> {
    let id = parse(id)?;
    if let Some(work) = deps.works.find(principal, id) {
        work.answer(answers);
        return Ok(());
    }
    let found = deps.fleet.task(principal, id).await;
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
