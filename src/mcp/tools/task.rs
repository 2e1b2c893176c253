//! Tools about tasks: start a command, look at it, stop it.

mod output;

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::fleet::{CommandSpec, Program, Stdin};
use crate::model::{Exit, OutputStream, Scope, Task, TaskId, TaskState};
use crate::wire::tools::{
    ExecuteCommand, ExecuteCommandResult, ListTasks, ListTasksResult, MonitorTask,
    MonitorTaskResult, MonitoredTask, OnCancel, OutputText, StopTask, StopTaskResult, TaskView,
};

use super::{About, Context, Failure, Hints, Outcome, READS, Reply, Tool, prompt, row};

/// Output of one call, both streams together.
const MOST_OUTPUT: usize = 256 * 1024;

/// Silence after which a waiting caller is told that the command goes on.
const PROGRESS_EVERY: Duration = Duration::from_secs(15);

/// Tasks that one `monitor_task` shows, tasks that one `list_tasks` lists, and
/// attempts that `long_running` makes at most.
const MOST_MONITORED: usize = 50;
const MOST_LISTED: u32 = 1000;
const MOST_RETRIES: u32 = 10;

pub fn rows() -> [Tool; 4] {
    let execute = About {
        name: "execute_command",
        title: "Execute a command",
        description: "Runs a shell command on a member and returns its output; with async it \
            returns a stream_id at once and the end comes as an event (wait_for_events with \
            subject task/<stream_id>). The command outlives this call.",
        scope: Scope::Run,
        hints: Hints { read_only: false, destructive: true, idempotent: false, open_world: true },
    };
    let monitor = About {
        name: "monitor_task",
        title: "Monitor tasks",
        description: "State and output of tasks now, from the given offsets on; how far transfers are.",
        scope: Scope::Read,
        hints: READS,
    };
    let list = About {
        name: "list_tasks",
        title: "List tasks",
        description: "Tasks and transfers, newest first, running or ended.",
        scope: Scope::Read,
        hints: READS,
    };
    let stop = About {
        name: "stop_task",
        title: "Stop a task",
        description: "Stops a task with all its processes, or a transfer, and waits until it has ended.",
        scope: Scope::Run,
        hints: Hints { read_only: false, destructive: true, idempotent: true, open_world: false },
    };
    [
        row(execute, execute_command),
        row(monitor, monitor_task),
        row(list, list_tasks),
        row(stop, stop_task),
    ]
}

/// What came of a command that has ended, as its call would have said.
///
/// # Errors
/// If its output cannot be read.
pub async fn outcome_of(context: &Context, task: &Task) -> Result<Outcome, Failure> {
    if context.deps.fleet.is_prompt(context.principal(), task.id).await? {
        let reply = prompt::reply(context, task).await?;
        let structured = serde_json::to_value(&reply.value).map_err(Failure::Encode)?;
        let text = reply.text.unwrap_or_default();
        return Ok(Outcome { structured, text, failed: reply.failed });
    }
    let result = ended(context, task).await?;
    let structured = serde_json::to_value(&result).map_err(Failure::Encode)?;
    Ok(Outcome { structured, text: render(&result), failed: false })
}

async fn execute_command(
    context: Context,
    asked: ExecuteCommand,
) -> Result<Reply<ExecuteCommandResult>, Failure> {
    let (at_once, on_cancel) = (asked.run_async || asked.long_running, asked.on_cancel);
    let spec = specification(&context, asked)?;
    let task = context.deps.fleet.execute(context.principal(), spec).await?;
    if at_once {
        context.deps.fleet.promise(&task).await;
        return Ok(started(&task).into());
    }
    let Some(task) = wait(&context, task.id).await? else {
        return given_up(&context, task.id, on_cancel).await;
    };
    let result = ended(&context, &task).await?;
    let text = Some(render(&result));
    Ok(Reply { value: result, text, failed: false })
}

fn specification(context: &Context, asked: ExecuteCommand) -> Result<CommandSpec, Failure> {
    if asked.command.trim().is_empty() {
        return Err(Failure::Argument(String::from("argument 'command' is empty")));
    }
    if asked.max_retries > MOST_RETRIES {
        let message = format!("argument 'max_retries' has to be 0 to {MOST_RETRIES}");
        return Err(Failure::Argument(message));
    }
    let stdin = match (asked.stdin, asked.open_stdin) {
        (Some(_), true) => {
            let message = "arguments 'stdin' and 'open_stdin' exclude each other";
            return Err(Failure::Argument(message.to_owned()));
        }
        (Some(text), false) => Stdin::Bytes(Bytes::from(text)),
        (None, true) => Stdin::Open,
        (None, false) => Stdin::Closed,
    };
    let limited = asked.timeout_s > 0 && !asked.long_running;
    Ok(CommandSpec {
        member: asked.member_id.or(asked.member_name),
        program: Program::Shell(asked.command),
        run_from: asked.run_from,
        env: asked.env,
        stdin,
        inactivity: limited.then(|| Duration::from_secs(asked.timeout_s)),
        total: asked.max_total_s.map(Duration::from_secs),
        stall_after: asked.stall_after_s.map(Duration::from_secs),
        transcript: None,
        retries: if asked.long_running { asked.max_retries } else { 0 },
        restart: asked.restart_command.map(Program::Shell),
        project: context.principal().home_project(),
        prompt: None,
    })
}

/// Waits until the task has ended; `None` if nobody waits for it any more.
async fn wait(context: &Context, id: TaskId) -> Result<Option<Task>, Failure> {
    let begun = Instant::now();
    let ended = context.deps.fleet.wait(context.principal(), id);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            biased;
            task = &mut ended => return Ok(Some(task?)),
            () = context.done_waiting() => return Ok(None),
            () = tokio::time::sleep(PROGRESS_EVERY) => {
                let seconds = begun.elapsed().as_secs();
                context.progress.tell(format!("task {id} is running ({seconds} s)")).await;
            }
        }
    }
}

/// The wait is over, the task is not: it goes on, unless its caller said
/// otherwise and asked for the end in so many words.
async fn given_up(
    context: &Context,
    id: TaskId,
    on_cancel: OnCancel,
) -> Result<Reply<ExecuteCommandResult>, Failure> {
    let fleet = &context.deps.fleet;
    let stop = on_cancel == OnCancel::Stop && context.call.cancel.was_asked();
    let task = if stop {
        fleet.stop(context.principal(), id).await?
    } else {
        fleet.task(context.principal(), id).await?
    };
    fleet.promise(&task).await;
    Ok(started(&task).into())
}

/// A task that has not ended, as its caller is told.
fn started(task: &Task) -> ExecuteCommandResult {
    let status = match task.state {
        TaskState::Queued => "queued",
        TaskState::Starting | TaskState::Running => "started",
        ended => ended.as_str(),
    };
    ExecuteCommandResult {
        stream_id: task.id.to_string(),
        status: status.to_owned(),
        exit_code: None,
        signal: None,
        signal_possible: None,
        stdout: None,
        stderr: None,
        omitted_bytes: 0,
        exact: true,
        reason: task.reason.clone(),
    }
}

async fn ended(context: &Context, task: &Task) -> Result<ExecuteCommandResult, Failure> {
    // Half for each; what stderr does not need is stdout's.
    let stderr = output::tail(context, task.id, OutputStream::Stderr, MOST_OUTPUT / 2).await?;
    let room = MOST_OUTPUT - stderr.text.len().min(MOST_OUTPUT / 2);
    let stdout = output::tail(context, task.id, OutputStream::Stdout, room).await?;
    let shown = (stdout.next_offset - stdout.offset) + (stderr.next_offset - stderr.offset);
    let exit = task.exit.map(Exit::parts).unwrap_or_default();
    Ok(ExecuteCommandResult {
        exit_code: exit.code,
        signal: exit.signal,
        signal_possible: exit.signal_possible,
        omitted_bytes: (task.stdout_bytes + task.stderr_bytes).saturating_sub(shown),
        exact: stdout.exact && stderr.exact,
        stdout: Some(stdout.text),
        stderr: Some(stderr.text),
        ..started(task)
    })
}

/// The result as people and models know it from other tools.
fn render(result: &ExecuteCommandResult) -> String {
    let mut text = match (result.exit_code, result.signal) {
        (Some(code), _) => match result.signal_possible {
            Some(signal) => format!("Exit code: {code}, or ended by signal {signal}"),
            None => format!("Exit code: {code}"),
        },
        (None, Some(signal)) => format!("Ended by signal {signal}"),
        (None, None) => format!("Status: {}", result.status),
    };
    if let Some(reason) = &result.reason {
        text.push_str(&format!(" ({reason})"));
    }
    if result.omitted_bytes > 0 {
        let (bytes, id) = (result.omitted_bytes, &result.stream_id);
        text.push_str(&format!("\n[{bytes} bytes not shown; monitor_task reads task {id}]"));
    }
    if let Some(stdout) = result.stdout.as_deref().filter(|text| !text.is_empty()) {
        text.push('\n');
        text.push_str(stdout);
    }
    if let Some(stderr) = result.stderr.as_deref().filter(|text| !text.is_empty()) {
        text.push_str("\n[stderr]\n");
        text.push_str(stderr);
    }
    text
}

async fn monitor_task(
    context: Context,
    asked: MonitorTask,
) -> Result<Reply<MonitorTaskResult>, Failure> {
    let ids: Vec<&String> = asked.task_id.iter().chain(&asked.task_ids).collect();
    if ids.is_empty() || ids.len() > MOST_MONITORED {
        let message = format!("give task_id, or 1 to {MOST_MONITORED} task_ids");
        return Err(Failure::Argument(message));
    }
    let most = asked.max_bytes as usize;
    if most > MOST_OUTPUT {
        let message = format!("argument 'max_bytes' has to be at most {MOST_OUTPUT}");
        return Err(Failure::Argument(message));
    }
    let mut tasks = Vec::with_capacity(ids.len());
    for id in ids {
        let id: TaskId = id.parse()?;
        if let Some(transfer) = context.deps.fleet.find_transfer(context.principal(), id).await? {
            let (stdout, stderr) = (OutputText::none(), OutputText::none());
            let task = TaskView::from(&transfer);
            tasks.push(MonitoredTask { task, stdout, stderr, prompt: None });
            continue;
        }
        let task = context.deps.fleet.task(context.principal(), id).await?;
        let part = async |stream, offset| match offset {
            Some(offset) => output::part(&context, id, stream, offset, most).await,
            None => output::tail(&context, id, stream, most).await,
        };
        let fleet = &context.deps.fleet;
        let report = fleet.prompt_report(context.principal(), id, asked.text_offset, most).await?;
        tasks.push(MonitoredTask {
            task: TaskView::from(&task),
            stdout: part(OutputStream::Stdout, asked.stdout_offset).await?,
            stderr: part(OutputStream::Stderr, asked.stderr_offset).await?,
            prompt: report.map(prompt::view),
        });
    }
    Ok(MonitorTaskResult { tasks }.into())
}

async fn list_tasks(context: Context, asked: ListTasks) -> Result<Reply<ListTasksResult>, Failure> {
    if !(1..=MOST_LISTED).contains(&asked.limit) {
        let message = format!("argument 'limit' has to be 1 to {MOST_LISTED}");
        return Err(Failure::Argument(message));
    }
    let fleet = &context.deps.fleet;
    let (principal, limit) = (context.principal(), asked.limit as usize);
    let tasks = fleet.tasks(principal, &asked.states, limit).await?;
    let transfers = fleet.list_transfers(principal, &asked.states, limit).await?;
    let tasks = tasks.iter().map(|task| (task.created, TaskView::from(task)));
    let transfers = transfers.iter().map(|one| (one.created, TaskView::from(one)));
    let mut all: Vec<_> = tasks.chain(transfers).collect();
    all.sort_by_key(|(created, _)| std::cmp::Reverse(*created));
    all.truncate(limit);
    Ok(ListTasksResult { tasks: all.into_iter().map(|(_, view)| view).collect() }.into())
}

async fn stop_task(context: Context, asked: StopTask) -> Result<Reply<StopTaskResult>, Failure> {
    let id: TaskId = asked.task_id.parse()?;
    if let Some(transfer) = context.deps.fleet.stop_transfer(context.principal(), id).await? {
        return Ok(StopTaskResult { task: TaskView::from(&transfer) }.into());
    }
    let task = context.deps.fleet.stop(context.principal(), id).await?;
    Ok(StopTaskResult { task: TaskView::from(&task) }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_reads_as_people_know_it() {
        let result = ExecuteCommandResult {
            stream_id: String::from("t"),
            status: String::from("failed"),
            exit_code: Some(3),
            signal: None,
            signal_possible: None,
            stdout: Some(String::from("out")),
            stderr: Some(String::from("err")),
            omitted_bytes: 7,
            exact: true,
            reason: None,
        };
        assert_eq!(
            render(&result),
            "Exit code: 3\n[7 bytes not shown; monitor_task reads task t]\nout\n[stderr]\nerr"
        );
        let killed = ExecuteCommandResult {
            exit_code: None,
            signal: Some(9),
            stdout: Some(String::new()),
            stderr: None,
            omitted_bytes: 0,
            reason: Some(String::from("no output for 120 s")),
            ..result
        };
        assert_eq!(render(&killed), "Ended by signal 9 (no output for 120 s)");
    }
}
