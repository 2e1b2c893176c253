//! The life of a task: a pure function from a row and what happened to the next
//! row and what to tell. It runs inside the transaction, on the current row.

use std::time::Duration;

use serde_json::{Value, json};

use super::plan::{Cause, Status};
use super::prompts;
use super::providers::PromptResult;
use super::stall::Sample;
use crate::model::{EventError, Exit, NewEvent, RunId, Stalled, Task, TaskState, Timestamp};

/// Characters of the command that `task.started` carries.
const SHOWN_COMMAND: usize = 256;

/// What happened to a task.
#[derive(Clone, Debug)]
pub enum Input {
    /// There is a place: its run is about to begin.
    Placed,
    /// The command runs.
    Began { pid: Option<u32> },
    /// Somebody wants it to end.
    StopAsked,
    /// The link to its member was cut while it ran.
    Away { reason: String },
    /// The link is back, and it runs still.
    Back,
    /// It shows no sign of life any more.
    Quiet(Box<Quiet>),
    /// It showed none, and does.
    Lively,
    /// A run ended, and another follows.
    Again { next: RunId },
    /// A run ended, and it was the last.
    Ended(Box<Outcome>),
}

/// A silence, and what was before it.
#[derive(Clone, Debug)]
pub struct Quiet {
    /// Since the last sign of life.
    pub silent: Duration,
    pub sample: Sample,
    /// Bytes held of stdout and stderr.
    pub offsets: [u64; 2],
    pub last_lines: Vec<String>,
    /// The policy is to stop it.
    pub stops: bool,
}

/// How a run ended, as far as it can be known.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub known: Known,
    /// Said with it: which limit, why not started, why unknown.
    pub reason: Option<String>,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    pub last_lines: Vec<String>,
    /// What came of it, if it was a prompt.
    pub prompt: Option<Box<PromptResult>>,
}

#[derive(Clone, Debug)]
pub enum Known {
    Status(Status),
    Nothing,
}

/// The next row, and what to tell.
#[derive(Clone, Debug)]
pub struct Change {
    pub task: Task,
    pub events: Vec<NewEvent>,
}

/// The event that tells of a new task that has to wait.
///
/// # Errors
/// If the event cannot be made.
pub fn queued(task: &Task, position: usize) -> Result<NewEvent, EventError> {
    let data = json!({ "task_id": task.id, "member": task.member, "position": position });
    event("task.queued", task, data, format!("{}.queued", task.id), task.created)
}

/// Applies `input` at `now`. `None`: it no longer means anything to this row.
///
/// # Errors
/// If an event cannot be made.
pub fn apply(task: &Task, input: &Input, now: Timestamp) -> Result<Option<Change>, EventError> {
    if task.state.is_terminal() {
        return Ok(None);
    }
    let mut next = task.clone();
    let events = match input {
        Input::Placed if task.state == TaskState::Queued && !task.stop_requested => {
            next.state = TaskState::Starting;
            Vec::new()
        }
        Input::Began { pid } if task.state == TaskState::Starting => {
            vec![begin(&mut next, *pid, now)?]
        }
        Input::StopAsked => {
            next.stop_requested = true;
            if task.state == TaskState::Queued {
                vec![cancel_unstarted(&mut next, now)?]
            } else {
                Vec::new()
            }
        }
        Input::Again { next: run } if !task.stop_requested => {
            next.state = TaskState::Starting;
            next.run = Some(*run);
            next.pid = None;
            next.stalled = None;
            Vec::new()
        }
        Input::Away { reason } => {
            let data = json!({ "reason": reason });
            vec![run_event("task.unreachable", task, data, now)?]
        }
        Input::Back => {
            let data = json!({ "after": "unreachable" });
            vec![run_event("task.resumed", task, data, now)?]
        }
        Input::Quiet(quiet) if task.state == TaskState::Running && task.stalled.is_none() => {
            vec![fall_silent(&mut next, quiet, now)?]
        }
        Input::Lively => {
            let Some(stalled) = next.stalled.take() else { return Ok(None) };
            let silent = now.millis_since(stalled.since) / 1000;
            let data = json!({ "after": "stalled", "silent_s": silent });
            vec![run_event("task.resumed", task, data, now)?]
        }
        Input::Ended(outcome) => end(&mut next, outcome, now)?,
        Input::Placed | Input::Began { .. } | Input::Again { .. } | Input::Quiet(_) => {
            return Ok(None);
        }
    };
    Ok(Some(Change { task: next, events }))
}

fn begin(task: &mut Task, pid: Option<u32>, now: Timestamp) -> Result<NewEvent, EventError> {
    task.state = TaskState::Running;
    task.pid = pid;
    task.started = task.started.or(Some(now));
    let data = json!({
        "task_id": task.id,
        "run_id": task.run,
        "member": task.member,
        "command": task.command.chars().take(SHOWN_COMMAND).collect::<String>(),
        "pid": pid,
    });
    let run = task.run.map(|run| run.to_string()).unwrap_or_default();
    event("task.started", task, data, format!("{run}.started"), now)
}

/// Tells of the link to the member; the task itself goes on as it is.
fn run_event(
    topic: &str,
    task: &Task,
    mut data: Value,
    now: Timestamp,
) -> Result<NewEvent, EventError> {
    data["task_id"] = json!(task.id);
    data["run_id"] = json!(task.run);
    data["member"] = json!(task.member);
    let run = task.run.map(|run| run.to_string()).unwrap_or_default();
    event(topic, task, data, format!("{run}.{topic}.{}", now.millis()), now)
}

fn fall_silent(task: &mut Task, quiet: &Quiet, now: Timestamp) -> Result<NewEvent, EventError> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let silent_ms = i64::try_from(quiet.silent.as_millis()).unwrap_or(i64::MAX);
    task.stalled = Some(Stalled {
        since: Timestamp::from_millis(now.millis().saturating_sub(silent_ms)),
        bytes: quiet.sample.bytes.unwrap_or(0),
        transcript: quiet.sample.transcript,
        cpu_ms: quiet.sample.cpu.map(millis),
    });
    let data = json!({
        "silent_s": quiet.silent.as_secs(),
        "cpu_s": quiet.sample.cpu.map(|cpu| cpu.as_millis() as f64 / 1000.0),
        "stdout_offset": quiet.offsets[0],
        "stderr_offset": quiet.offsets[1],
        "last_lines": quiet.last_lines,
        "action": if quiet.stops { "stop" } else { "tell" },
    });
    run_event("task.stalled", task, data, now)
}

fn cancel_unstarted(task: &mut Task, now: Timestamp) -> Result<NewEvent, EventError> {
    task.state = TaskState::Cancelled;
    task.ended = Some(now);
    task.reason = Some(String::from("stopped on request before it began"));
    terminal(task, 0, &[], None)
}

/// One terminal event, after a `task.started` that a crash may have left out.
fn end(task: &mut Task, outcome: &Outcome, now: Timestamp) -> Result<Vec<NewEvent>, EventError> {
    let mut events = Vec::new();
    let mut duration = None;
    let (state, exit) = match &outcome.known {
        Known::Nothing => (TaskState::Unknown, None),
        Known::Status(status) => {
            if let (Some(pid), TaskState::Starting) = (status.pid, task.state) {
                let at = status.started_ms.map_or(now, Timestamp::from_millis);
                events.push(begin(task, Some(pid), at)?);
            }
            duration = Some(status.duration_ms);
            let failed = outcome.prompt.as_ref().is_some_and(|prompt| prompt.is_error);
            (judge(task.stop_requested, status, failed), status.exit)
        }
    };
    task.state = state;
    task.exit = exit;
    task.ended = Some(now);
    task.stalled = None;
    task.reason.clone_from(&outcome.reason);
    if state == TaskState::Cancelled && task.reason.is_none() {
        task.reason = Some(String::from("stopped on request"));
    }
    task.stdout_bytes = outcome.stdout_bytes;
    task.stderr_bytes = outcome.stderr_bytes;
    let whole = task.started.map_or(0, |started| now.millis_since(started));
    let (duration, prompt) = (duration.unwrap_or(whole), outcome.prompt.as_deref());
    events.push(terminal(task, duration, &outcome.last_lines, prompt)?);
    Ok(events)
}

/// A prompt without a result is no success, whatever its program says.
fn judge(stop_requested: bool, status: &Status, no_result: bool) -> TaskState {
    match (status.cause, status.exit) {
        (Some(Cause::Stopped), _) => TaskState::Cancelled,
        (Some(_), _) => TaskState::Failed,
        (None, Some(Exit::Code(0))) if !no_result => TaskState::Completed,
        (None, _) if stop_requested => TaskState::Cancelled,
        (None, _) => TaskState::Failed,
    }
}

fn terminal(
    task: &Task,
    duration_ms: u64,
    last_lines: &[String],
    prompt: Option<&PromptResult>,
) -> Result<NewEvent, EventError> {
    let exit = task.exit.map(Exit::parts).unwrap_or_default();
    let mut data = json!({
        "task_id": task.id,
        "run_id": task.run,
        "member": task.member,
        "state": task.state,
        "exit_code": exit.code,
        "signal": exit.signal,
        "duration_ms": duration_ms,
        "stdout_bytes": task.stdout_bytes,
        "stderr_bytes": task.stderr_bytes,
        "last_lines": last_lines,
    });
    if let Some(possible) = exit.signal_possible {
        data["signal_possible"] = Value::from(possible);
    }
    if let Some(reason) = &task.reason {
        data["reason"] = Value::from(reason.as_str());
    }
    if let Some(prompt) = prompt {
        data["prompt"] = prompts::told(prompt);
    }
    // One id per task: the journal holds an id once, so even a defect above
    // cannot tell of a second end.
    let topic = format!("task.{}", task.state.as_str());
    event(&topic, task, data, format!("{}.ended", task.id), task.ended.unwrap_or(task.created))
}

fn event(
    topic: &str,
    task: &Task,
    data: Value,
    id: String,
    time: Timestamp,
) -> Result<NewEvent, EventError> {
    let event = NewEvent::own(topic, task.id.subject(), task.project.clone(), data)?;
    Ok(NewEvent { id, time, ..event })
}

#[cfg(test)]
mod tests {
    use super::super::plan::Count;
    use super::*;
    use crate::model::{Project, TaskId};

    fn task(state: TaskState) -> Task {
        Task {
            id: TaskId::random(),
            project: Project::default_project(),
            principal: "owner".into(),
            member: String::from("local"),
            state,
            command: String::from("true"),
            run: Some(RunId::random()),
            pid: None,
            created: Timestamp::from_millis(1000),
            started: None,
            ended: None,
            exit: None,
            reason: None,
            stop_requested: false,
            unreachable_since: None,
            stdout_bytes: 0,
            stderr_bytes: 0,
            stalled: None,
        }
    }

    fn outcome(exit: Option<Exit>, cause: Option<Cause>) -> Input {
        let status = Status {
            exit,
            cause,
            detail: None,
            pid: Some(7),
            started_ms: Some(1500),
            ended_ms: 2000,
            duration_ms: 500,
            stdout: Count::default(),
            stderr: Count::default(),
        };
        Input::Ended(Box::new(Outcome {
            known: Known::Status(status),
            reason: None,
            stdout_bytes: 3,
            stderr_bytes: 4,
            last_lines: vec![String::from("bye")],
            prompt: None,
        }))
    }

    fn names(change: &Change) -> Vec<&str> {
        change.events.iter().map(|event| event.topic.as_str()).collect()
    }

    #[test]
    fn every_end_is_told_once_and_by_its_name() {
        let cases = [
            (Some(Exit::Code(0)), None, TaskState::Completed),
            (Some(Exit::Code(1)), None, TaskState::Failed),
            (Some(Exit::Signal(9)), None, TaskState::Failed),
            (Some(Exit::Signal(15)), Some(Cause::Stopped), TaskState::Cancelled),
            (Some(Exit::Code(0)), Some(Cause::Stopped), TaskState::Cancelled),
            (Some(Exit::Signal(15)), Some(Cause::Inactivity), TaskState::Failed),
            (Some(Exit::Signal(15)), Some(Cause::Stalled), TaskState::Failed),
            (None, Some(Cause::NotStarted), TaskState::Failed),
        ];
        let now = Timestamp::from_millis(2000);
        for (exit, cause, state) in cases {
            let input = outcome(exit, cause);
            let change = apply(&task(TaskState::Running), &input, now).unwrap().unwrap();
            assert_eq!((change.task.state, change.task.exit), (state, exit));
            assert_eq!(names(&change), [format!("task.{}", state.as_str())]);
            assert!(apply(&change.task, &input, now).unwrap().is_none(), "a second end");
        }
    }

    #[test]
    fn an_end_found_after_a_crash_tells_the_start_too() {
        let change = apply(
            &task(TaskState::Starting),
            &outcome(Some(Exit::Code(0)), None),
            Timestamp::from_millis(2000),
        );
        let change = change.unwrap().unwrap();
        assert_eq!(names(&change), ["task.started", "task.completed"]);
        assert_eq!(change.task.started, Some(Timestamp::from_millis(1500)));
    }

    #[test]
    fn silence_and_life_are_told_once_each() {
        let (now, later) = (Timestamp::from_millis(200_000), Timestamp::from_millis(260_000));
        let sample = Sample { bytes: Some(7), transcript: None, cpu: Some(Duration::ZERO) };
        let quiet = Input::Quiet(Box::new(Quiet {
            silent: Duration::from_secs(150),
            sample,
            offsets: [4, 3],
            last_lines: Vec::new(),
            stops: false,
        }));
        assert!(apply(&task(TaskState::Starting), &quiet, now).unwrap().is_none());
        let row = task(TaskState::Running);
        assert!(apply(&row, &Input::Lively, now).unwrap().is_none());
        let stalled = apply(&row, &quiet, now).unwrap().unwrap();
        assert_eq!(names(&stalled), ["task.stalled"]);
        assert_eq!(stalled.task.stalled.unwrap().since, Timestamp::from_millis(50_000));
        assert!(apply(&stalled.task, &quiet, later).unwrap().is_none(), "told twice");
        let lives = apply(&stalled.task, &Input::Lively, later).unwrap().unwrap();
        assert_eq!((names(&lives), lives.task.stalled), (vec!["task.resumed"], None));
        assert_eq!(lives.events[0].data["silent_s"], 210);
        let ended = apply(&stalled.task, &outcome(Some(Exit::Code(0)), None), later);
        assert_eq!(ended.unwrap().unwrap().task.stalled, None, "what has ended is not stalled");
    }

    #[test]
    fn a_stop_ends_what_waits_and_forbids_what_would_follow() {
        let now = Timestamp::from_millis(2000);
        let change = apply(&task(TaskState::Queued), &Input::StopAsked, now).unwrap().unwrap();
        assert_eq!(names(&change), ["task.cancelled"]);
        let change = apply(&task(TaskState::Running), &Input::StopAsked, now).unwrap().unwrap();
        assert!(change.events.is_empty() && change.task.stop_requested);
        let again = Input::Again { next: RunId::random() };
        assert!(apply(&change.task, &again, now).unwrap().is_none());
        let failed = outcome(Some(Exit::Code(1)), None);
        assert_eq!(
            apply(&change.task, &failed, now).unwrap().unwrap().task.state,
            TaskState::Cancelled
        );
    }
}
