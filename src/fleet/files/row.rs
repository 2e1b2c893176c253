//! The row of a transfer: how it begins, ends, and is told.

use serde_json::{Map, Value, json};

use super::error::{TransferError, shown};
use crate::fleet::{FleetError, MemberHandle};
use crate::model::{
    Amount, Direction, EventError, NewEvent, Principal, Project, Scope, TaskId, TaskState,
    Timestamp, Transfer,
};

/// Paths that one call names.
const MOST_PATHS: usize = 1000;

/// Characters of a title.
const TITLE: usize = 200;

pub fn new(
    principal: &Principal,
    handle: &MemberHandle,
    project: Project,
    title: String,
    direction: Direction,
) -> Transfer {
    Transfer {
        id: TaskId::random(),
        project,
        principal: principal.id.clone(),
        member: handle.member().name.to_string(),
        direction,
        state: TaskState::Running,
        title: title.chars().take(TITLE).collect(),
        total: Amount::default(),
        done: Amount::default(),
        skipped: Vec::new(),
        skipped_count: 0,
        reason: None,
        problem: None,
        created: Timestamp::now(),
        ended: None,
    }
}

/// Whether `principal` may see it: a foreign one looks like an absent one.
pub fn may_see(principal: &Principal, row: &Transfer) -> bool {
    principal.sees(&row.project) && (principal.id == row.principal || principal.may(Scope::Admin))
}

/// Notes how it ended.
pub fn conclude(row: &mut Transfer, outcome: Result<(), &TransferError>) {
    row.ended = Some(Timestamp::now());
    row.state = match outcome {
        Ok(()) => TaskState::Completed,
        Err(TransferError::Stopped) => TaskState::Cancelled,
        Err(_) => TaskState::Failed,
    };
    if let Err(error) = outcome {
        row.reason = Some(error.reason().to_owned());
        row.problem = Some(error.to_string());
    }
}

/// The event of its end.
///
/// # Errors
/// If the event cannot be made.
pub fn ended(row: &Transfer) -> Result<NewEvent, EventError> {
    let topic = match row.state {
        TaskState::Completed => "transfer.completed",
        _ => "transfer.failed",
    };
    let mut data = Map::new();
    let fields = json!({
        "task_id": row.id,
        "member": row.member,
        "direction": row.direction,
        "files": row.done.files,
        "bytes": row.done.bytes,
        "total_files": row.total.files,
        "total_bytes": row.total.bytes,
        "skipped": row.skipped_count,
        "duration_ms": row.ended.map(|ended| ended.millis_since(row.created)),
    });
    if let Value::Object(fields) = fields {
        data.extend(fields);
    }
    if let (Some(reason), Some(problem)) = (&row.reason, &row.problem) {
        data.insert(String::from("reason"), json!(reason));
        data.insert(String::from("problem"), json!(problem));
    }
    let subject = row.id.subject();
    Ok(NewEvent::own(topic, subject, row.project.clone(), Value::Object(data))?)
}

/// Refuses what no list of paths is.
pub fn check(paths: &[String], argument: &'static str) -> Result<(), FleetError> {
    let invalid = |problem: String| Err(FleetError::Invalid { argument, problem });
    if paths.is_empty() || paths.len() > MOST_PATHS {
        return invalid(format!("has to name 1 to {MOST_PATHS} paths"));
    }
    match paths.iter().find(|path| path.is_empty() || path.contains('\0') || path.len() > 4096) {
        Some(path) => invalid(format!("has a path that is none: '{}'", shown(path))),
        None => Ok(()),
    }
}

/// A path that the home folder can be put before: `~/x` is `x` there.
pub fn of_home(path: &str) -> String {
    match path {
        "~" => String::from("."),
        path => path.strip_prefix("~/").unwrap_or(path).to_owned(),
    }
}

/// Paths for people.
pub fn titled(paths: &[String]) -> String {
    let first = paths.first().map(|path| shown(path)).unwrap_or_default();
    match paths.len() {
        0 | 1 => first,
        count => format!("{first} and {} more", count - 1),
    }
}
