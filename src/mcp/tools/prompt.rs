//! Tools about prompts: run one, stop one.

mod substitute;

use std::time::Duration;

use tokio::time::Instant;

use crate::bus::{Delivery, Start};
use crate::fleet::{FleetError, PromptReport, PromptResult, PromptSpec, Resume};
use crate::model::{Filter, Scope, Task, TaskId, TaskState};
use crate::wire::tools::{
    EndedPrompt, ExecutePrompt, ExecutePromptResult, PromptView, ResumeWish, StopPrompt,
    StopPromptResult, StoppedPrompt,
};

use super::{About, Context, Failure, Hints, Reply, Tool, row};

/// Silence after which a waiting caller is told that the prompt goes on.
const PROGRESS_EVERY: Duration = Duration::from_secs(15);

const MOST_TURNS: u32 = 500;

pub fn rows() -> [Tool; 2] {
    let execute = About {
        name: "execute_prompt",
        title: "Prompt a member's model",
        description: "Runs a prompt with the member's model program in its work folder. With async \
            it returns a stream_id at once: text comes as task.output, the end as task.completed \
            or task.failed with response, usage and cost (wait_for_events with subject \
            task/<stream_id>). Without, it waits; cancelling that call stops the prompt.",
        scope: Scope::Run,
        hints: Hints { read_only: false, destructive: true, idempotent: false, open_world: true },
    };
    let stop = About {
        name: "stop_prompt",
        title: "Stop prompts",
        description: "Stops one prompt, or all of a member, with all their processes, and waits \
            until they have ended.",
        scope: Scope::Run,
        hints: Hints { read_only: false, destructive: true, idempotent: true, open_world: false },
    };
    [row(execute, execute_prompt), row(stop, stop_prompt)]
}

async fn execute_prompt(
    context: Context,
    asked: ExecutePrompt,
) -> Result<Reply<ExecutePromptResult>, Failure> {
    let at_once = asked.run_async;
    let spec = specification(&context, asked)?;
    let task = match context.deps.fleet.prompt(context.principal(), spec).await {
        Err(error @ FleetError::NoSession(_)) => return Ok(not_taken(&error, "session_not_found")),
        taken => taken?,
    };
    if at_once {
        context.deps.fleet.promise(&task).await;
        return Ok(started(&task).into());
    }
    let task = match wait(&context, task.id).await? {
        Some(task) => task,
        // Who cancels a prompt means it; who only goes away does not.
        None if context.call.cancel.was_asked() => {
            context.deps.fleet.stop(context.principal(), task.id).await?
        }
        None => context.deps.fleet.task(context.principal(), task.id).await?,
    };
    reply(&context, &task).await
}

/// The task as its call answers when it waited for it.
///
/// # Errors
/// If what came of it cannot be read.
pub async fn reply(context: &Context, task: &Task) -> Result<Reply<ExecutePromptResult>, Failure> {
    let report = context.deps.fleet.prompt_report(context.principal(), task.id, None, 0).await?;
    if !task.state.is_terminal() {
        context.deps.fleet.promise(task).await;
        return Ok(started(task).into());
    }
    let result = report.and_then(|report| report.result);
    let ended = result.map_or_else(|| unread(task), ended);
    let failed = task.state != TaskState::Completed;
    let value = ExecutePromptResult { ended, ..started(task) };
    let text = Some(render(&task.member, &value));
    Ok(Reply { value, text, failed })
}

fn specification(context: &Context, asked: ExecutePrompt) -> Result<PromptSpec, Failure> {
    if !(1..=MOST_TURNS).contains(&asked.max_turns) {
        let message = format!("argument 'max_turns' has to be 1 to {MOST_TURNS}");
        return Err(Failure::Argument(message));
    }
    let resume = match (asked.session_id, asked.resume) {
        (Some(id), _) | (None, ResumeWish::Session(id)) => Resume::Session(id),
        (None, ResumeWish::Whether(true)) => Resume::Last,
        (None, ResumeWish::Whether(false)) => Resume::Fresh,
    };
    let size = asked.context_size.map(|size| size.tokens());
    Ok(PromptSpec {
        member_id: asked.member_id,
        member_name: asked.member_name,
        prompt: substitute::apply(asked.prompt, &asked.substitutions)?,
        resume,
        provider: asked.provider,
        model: asked.model,
        agent: asked.agent,
        max_turns: asked.max_turns,
        run_from: asked.run_from,
        expected_tokens: asked.expected_context_tokens.or(size),
        stall_after: asked.stall_after_s.map(Duration::from_secs),
        inactivity: (asked.timeout_s > 0).then(|| Duration::from_secs(asked.timeout_s)),
        total: asked.max_total_s.map(Duration::from_secs),
        project: context.principal().home_project(),
    })
}

/// Waits until the prompt has ended, telling what its model does; `None` if
/// nobody waits for it any more.
async fn wait(context: &Context, id: TaskId) -> Result<Option<Task>, Failure> {
    let begun = Instant::now();
    let ended = context.deps.fleet.wait(context.principal(), id);
    tokio::pin!(ended);
    let filter = Filter::default().with_subject(id.subject())?.within(context.principal());
    let mut events = context.deps.bus.subscribe(filter, Start::Now, true)?;
    let mut heartbeat = tokio::time::interval(PROGRESS_EVERY);
    heartbeat.reset();
    loop {
        tokio::select! {
            biased;
            task = &mut ended => return Ok(Some(task?)),
            () = context.done_waiting() => return Ok(None),
            delivery = events.next(), if context.progress.wanted() => {
                if let Ok(Delivery::Signals(signals)) = delivery {
                    for signal in signals {
                        tell(context, &signal.body()).await;
                    }
                }
            }
            _ = heartbeat.tick() => {
                let seconds = begun.elapsed().as_secs();
                context.progress.tell(format!("prompt {id} is running ({seconds} s)")).await;
            }
        }
    }
}

async fn tell(context: &Context, body: &[u8]) {
    let Ok(event) = serde_json::from_slice::<serde_json::Value>(body) else { return };
    let data = &event["data"];
    if data["state"] == "begun" {
        let part = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
        context.progress.tell(format!("{}: {}", part("tool"), part("summary"))).await;
    }
}

/// A prompt that has not ended, as its caller is told.
fn started(task: &Task) -> ExecutePromptResult {
    let status = match task.state {
        TaskState::Queued => "queued",
        TaskState::Starting | TaskState::Running => "started",
        ended => ended.as_str(),
    };
    ExecutePromptResult {
        stream_id: Some(task.id.to_string()),
        status: status.to_owned(),
        ended: EndedPrompt::default(),
    }
}

fn not_taken(error: &FleetError, reason: &str) -> Reply<ExecutePromptResult> {
    let message = error.to_string();
    let ended = EndedPrompt {
        is_error: Some(true),
        reason: Some(reason.to_owned()),
        message: Some(message.clone()),
        ..EndedPrompt::default()
    };
    let value = ExecutePromptResult { stream_id: None, status: String::from("failed"), ended };
    Reply { value, text: Some(message), failed: true }
}

/// It ended, and nothing of what it said is there: it never began.
fn unread(task: &Task) -> EndedPrompt {
    EndedPrompt {
        is_error: Some(true),
        reason: (task.state == TaskState::Cancelled).then(|| String::from("stopped")),
        message: task.reason.clone(),
        ..EndedPrompt::default()
    }
}

fn ended(result: PromptResult) -> EndedPrompt {
    EndedPrompt {
        response: Some(result.response),
        usage: result.usage,
        cost_usd: result.cost_usd,
        session_id: result.session_id,
        turns: result.turns,
        is_error: Some(result.is_error),
        reason: result.reason.map(|reason| reason.as_str().to_owned()),
        message: result.message,
    }
}

/// A prompt as `monitor_task` shows it.
pub fn view(report: PromptReport) -> PromptView {
    let session_id = report.session_id;
    let known = report.result.map(ended).unwrap_or_default();
    // The whole answer is part of the text already.
    let ended = EndedPrompt { session_id: session_id.or(known.session_id.clone()), ..known };
    PromptView {
        provider: report.provider,
        text: report.text,
        text_offset: report.offset,
        text_bytes: report.bytes,
        ended,
    }
}

/// The result as people and models know it from other tools.
fn render(member: &str, result: &ExecutePromptResult) -> String {
    let ended = &result.ended;
    let mut text = match (&ended.reason, &ended.message) {
        (None, None) => format!("[RESULT] Response from {member}:"),
        (reason, message) => format!(
            "Prompt {} on {member} ({}): {}",
            result.status,
            reason.as_deref().unwrap_or("no reason known"),
            message.as_deref().unwrap_or("nothing was said"),
        ),
    };
    if let Some(response) = ended.response.as_deref().filter(|response| !response.is_empty()) {
        text.push_str(&format!("\n{response}"));
    }
    if let Some(session) = &ended.session_id {
        text.push_str(&format!("\n---\nsession: {session}"));
    }
    text
}

async fn stop_prompt(
    context: Context,
    asked: StopPrompt,
) -> Result<Reply<StopPromptResult>, Failure> {
    let (fleet, principal) = (&context.deps.fleet, context.principal());
    let (id, name) = (asked.member_id.as_deref(), asked.member_name.as_deref());
    let prompts = match (&asked.stream_id, id.or(name)) {
        (Some(stream), None) => {
            let id: TaskId = stream.parse()?;
            if !fleet.is_prompt(principal, id).await? {
                let message = format!("task '{id}' is a command; stop_task stops it");
                return Err(Failure::Argument(message));
            }
            vec![fleet.task(principal, id).await?]
        }
        (None, Some(_)) => fleet.open_prompts(principal, id, name).await?,
        _ => {
            let message = "give stream_id, or member_name or member_id";
            return Err(Failure::Argument(message.to_owned()));
        }
    };
    // What waits goes first: it would begin when what runs has ended.
    for task in &prompts {
        fleet.ask_stop(principal, task.id).await?;
    }
    let mut stopped = Vec::with_capacity(prompts.len());
    for task in prompts {
        let task = fleet.stop(principal, task.id).await?;
        let (stream_id, state) = (task.id.to_string(), task.state.as_str().to_owned());
        stopped.push(StoppedPrompt { stream_id, state });
    }
    Ok(StopPromptResult { prompts: stopped }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_reads_as_people_know_it() {
        let ended = EndedPrompt {
            response: Some(String::from("Done.")),
            session_id: Some(String::from("s-1")),
            ..EndedPrompt::default()
        };
        let result = ExecutePromptResult {
            stream_id: None,
            status: String::from("completed"),
            ended: ended.clone(),
        };
        assert_eq!(
            render("web-1", &result),
            "[RESULT] Response from web-1:\nDone.\n---\nsession: s-1"
        );
        let ended = EndedPrompt {
            response: None,
            reason: Some(String::from("auth")),
            message: Some(String::from("log in")),
            ..ended
        };
        let result = ExecutePromptResult { status: String::from("failed"), ended, ..result };
        assert_eq!(
            render("web-1", &result),
            "Prompt failed on web-1 (auth): log in\n---\nsession: s-1"
        );
    }
}
