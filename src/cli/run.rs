//! `run`: a command as a task, as if it ran here.

use std::collections::BTreeMap;
use std::ffi::OsString;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::exit::{self, Ended};
use super::gather::{self, Gathered};
use super::stdin::{self, Source};
use super::{Cx, Outcome, quote};
use crate::client::{Backoff, Client, ClientError};
use crate::model::{OutputStream, Project, TaskId, TaskState};
use crate::wire::tools::{
    ExecuteCommand, ExecuteCommandResult, MonitoredTask, OnCancel, StopTask, StopTaskResult,
    TaskView,
};

/// Run a command as a task.
///
/// It runs in this folder and with this PATH; on another member in that member's
/// work folder, with the PATH that its SSH server gives. Its output comes apart on stdout
/// and stderr, its exit status is the status of `fleetctl run` (128 + n for
/// signal n, 9 if it is not known), and it goes on when the daemon or this
/// terminal is lost. Ctrl-C stops the task; a second Ctrl-C leaves it alone.
///
/// Standard input is passed on if it is a pipe or a file; from a terminal only
/// with -i.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fleetctl run -- make test
  fleetctl run --detach -- ./long-job.sh
  fleetctl run --on build1 -- make test
  fleetctl run -- sh -c 'sort | uniq -c' < words.txt")]
pub struct Run {
    /// Member to run on [default: the local machine].
    #[arg(long, value_name = "MEMBER")]
    on: Option<String>,
    /// Start it in this project [default: default].
    #[arg(long, value_parser = super::project)]
    project: Option<Project>,
    /// Print the task's id and return; the task goes on, without input.
    #[arg(long)]
    detach: bool,
    /// Print one JSON object at the end instead of the output as it comes.
    #[arg(long)]
    json: bool,
    /// Pass on what is typed at the terminal, line by line.
    #[arg(short, long, conflicts_with = "detach")]
    interactive: bool,
    /// End the command after so many seconds without output; 0 is never.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    timeout: u64,
    /// End the command after so many seconds in all.
    #[arg(long, value_name = "SECONDS")]
    max_total: Option<u64>,
    /// Tell of it after so many seconds without output or CPU use; 0 is never
    /// [default: stall_after_s of the daemon's settings].
    #[arg(long, value_name = "SECONDS")]
    stall_after: Option<u64>,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Run {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let cx = &cx.within(self.project.clone());
        let signals = Signals::new().context("cannot listen for signals")?;
        let source = if self.detach { Source::Closed } else { Source::of_stdin(self.interactive) };
        let arguments = self.arguments(source)?;
        let started = start(&cx.client, &arguments).await?;
        let id: TaskId = started.stream_id.parse().context("fleetd gave no task id")?;
        if self.detach {
            if self.json {
                cx.out.json_line(&serde_json::to_string(
                    &json!({"stream_id": id.to_string(), "status": started.status}),
                )?)?;
            } else {
                cx.out.print(&id.to_string())?;
            }
            return Ok(exit::OK);
        }
        Attached { cx, id, gathered: self.json.then(Gathered::default) }
            .watch(source, signals)
            .await
    }

    fn arguments(&self, source: Source) -> anyhow::Result<ExecuteCommand> {
        let here = self.on.as_deref().is_none_or(|member| member.eq_ignore_ascii_case(HERE));
        // Folder and PATH of this machine mean nothing on another.
        let (folder, path) =
            if here { (Some(folder()?), std::env::var("PATH").ok()) } else { (None, None) };
        let path = path.map(|path| ("PATH".to_owned(), path));
        Ok(ExecuteCommand {
            command: quote::command_line(&self.command),
            member_name: self.on.clone(),
            member_id: None,
            timeout_s: self.timeout,
            max_total_s: self.max_total,
            stall_after_s: self.stall_after,
            run_from: folder,
            run_async: true,
            long_running: false,
            max_retries: 0,
            restart_command: None,
            env: BTreeMap::from_iter(path),
            stdin: None,
            open_stdin: source != Source::Closed,
            on_cancel: OnCancel::Continue,
        })
    }
}

/// The folder that the caller is in.
fn folder() -> anyhow::Result<String> {
    let folder = std::env::current_dir().context("cannot find the current folder")?;
    Ok(folder.to_str().context("the current folder's name is not UTF-8")?.to_owned())
}

/// Starts the task. A cut in the middle leaves open whether it was started, and
/// a command must never run twice.
async fn start(
    client: &Client,
    arguments: &ExecuteCommand,
) -> anyhow::Result<ExecuteCommandResult> {
    match client.call_tool("execute_command", arguments).await {
        Err(error) if error.is_unknown() => Err(Ended {
            status: exit::UNKNOWN,
            message: "the connection was lost before fleetd had answered, so the command may \
                      run or not; `fleetctl tasks` shows it if it does"
                .to_owned(),
        }
        .into()),
        answer => Ok(answer?),
    }
}

/// The built-in member's name.
const HERE: &str = "local";

/// What makes us stop or leave.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Stop,
    Leave,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.terminate.recv() => Wish::Stop,
            // The terminal is lost, which is no reason to stop anything.
            _ = self.hangup.recv() => Wish::Leave,
        }
    }
}

/// A running task whose streams are ours.
struct Attached<'a> {
    cx: &'a Cx,
    id: TaskId,
    /// With `--json`: the end of its output.
    gathered: Option<Gathered>,
}

impl Attached<'_> {
    async fn watch(self, source: Source, mut signals: Signals) -> Outcome {
        let (cx, id) = (self.cx, self.id);
        let streams = gather::streams(cx, id, self.gathered.as_ref());
        let feed = stdin::feed(&cx.client, id, source);
        let stop = stop(&cx.client, id);
        tokio::pin!(streams, feed, stop);
        let (mut fed, mut stopping, mut stopped) = (false, false, false);
        let received = loop {
            tokio::select! {
                received = &mut streams => match received {
                    Ok(received) => break received,
                    // `fleetctl run -- yes | head`: the command would have died
                    // of SIGPIPE here, so it does not go on without its reader.
                    Err(error) if exit::is_broken_pipe(&error) => {
                        stop.await?;
                        return Ok(exit::of_signal(nix::libc::SIGPIPE));
                    }
                    Err(error) => return Err(error),
                },
                outcome = &mut feed, if !fed => {
                    fed = true;
                    if let Err(error) = outcome {
                        cx.out.note(&format!("standard input was not passed on: {error:#}"));
                    }
                },
                outcome = &mut stop, if stopping && !stopped => {
                    stopped = true;
                    if let Err(error) = outcome {
                        cx.out.note(&format!("the task was not stopped: {error}"));
                    }
                },
                wish = signals.next() => match wish {
                    Wish::Stop if !stopping => {
                        stopping = true;
                        cx.out.hint("stopping the task; Ctrl-C again to leave it alone");
                    }
                    Wish::Stop => {
                        cx.out.note(&format!("left task {id}; see `fleetctl tasks show {id}`"));
                        return Ok(exit::of_signal(nix::libc::SIGINT));
                    }
                    Wish::Leave => return Ok(exit::of_signal(nix::libc::SIGHUP)),
                },
            }
        };
        self.conclude(ended(&cx.client, id).await?, received)
    }

    /// Says what there is to say, and makes the exit status.
    fn conclude(&self, end: MonitoredTask, received: [u64; 2]) -> Outcome {
        let view = end.task;
        let cut = (view.stdout_bytes + view.stderr_bytes).saturating_sub(received[0] + received[1]);
        if let Some(gathered) = &self.gathered {
            self.cx.out.json(&result(&view, gathered))?;
            return Ok(status(&view));
        }
        if cut > 0 {
            self.cx.out.note(&format!("fleetctl: {cut} bytes of output were over the cap and cut"));
        }
        if let Some(reason) = &view.reason {
            self.cx.out.note(&format!("fleetctl: task {}: {reason}", view.state.as_str()));
        }
        Ok(status(&view))
    }
}

fn result(view: &TaskView, gathered: &Gathered) -> ExecuteCommandResult {
    let texts = gathered.texts();
    ExecuteCommandResult {
        stream_id: view.task_id.clone(),
        status: view.state.as_str().to_owned(),
        exit_code: view.exit_code,
        signal: view.signal,
        signal_possible: view.signal_possible,
        stdout: Some(texts.stdout),
        stderr: Some(texts.stderr),
        omitted_bytes: texts.omitted,
        exact: texts.exact,
        reason: view.reason.clone(),
    }
}

/// The exit status that stands for the end of a task.
fn status(view: &TaskView) -> u8 {
    match (view.state, view.exit_code, view.signal) {
        (TaskState::Unknown, _, _) => exit::UNKNOWN,
        (_, Some(code), _) => u8::try_from(code).unwrap_or(exit::FAILED),
        (_, None, Some(signal)) => exit::of_signal(signal),
        (TaskState::Completed, None, None) => exit::OK,
        // Stopped before it had begun.
        (TaskState::Cancelled, None, None) => exit::of_signal(nix::libc::SIGINT),
        _ => exit::FAILED,
    }
}

/// Stops the task, through a restart of the daemon if need be.
async fn stop(client: &Client, id: TaskId) -> Result<(), ClientError> {
    let arguments = StopTask { task_id: id.to_string() };
    patiently(async || client.call_tool::<_, StopTaskResult>("stop_task", &arguments).await)
        .await
        .map(drop)
}

/// The task after its end.
async fn ended(client: &Client, id: TaskId) -> Result<MonitoredTask, ClientError> {
    patiently(async || client.monitor(id, 1).await).await
}

/// Repeats what may be repeated until the daemon is there again.
async fn patiently<T>(attempt: impl AsyncFn() -> Result<T, ClientError>) -> Result<T, ClientError> {
    let mut backoff = Backoff::default();
    loop {
        match attempt().await {
            Err(error) if error.is_passing() => backoff.grow(),
            outcome => return outcome,
        }
        backoff.wait().await;
    }
}

/// The streams in the order in which this module counts them.
pub const STREAMS: [OutputStream; 2] = [OutputStream::Stdout, OutputStream::Stderr];

#[cfg(test)]
mod tests {
    use super::*;

    fn view(state: TaskState, exit_code: Option<i32>, signal: Option<i32>) -> TaskView {
        TaskView {
            task_id: "t".into(),
            state,
            member: "local".into(),
            project: "default".into(),
            command: "exec false".into(),
            pid: None,
            created: String::new(),
            started: None,
            ended: None,
            duration_ms: None,
            exit_code,
            signal,
            signal_possible: None,
            reason: None,
            stop_requested: false,
            unreachable_since: None,
            stalled_since: None,
            stdout_bytes: 0,
            stderr_bytes: 0,
            transfer: None,
        }
    }

    #[test]
    fn the_status_is_the_command_s() {
        use TaskState::{Cancelled, Completed, Failed, Unknown};
        for (state, code, signal, expected) in [
            (Completed, Some(0), None, 0),
            (Failed, Some(3), None, 3),
            (Failed, Some(255), None, 255),
            (Failed, None, Some(9), 137),
            (Failed, None, None, 1),
            (Cancelled, None, Some(15), 143),
            (Cancelled, Some(0), None, 0),
            (Cancelled, None, None, 130),
            (Unknown, None, None, 9),
        ] {
            assert_eq!(status(&view(state, code, signal)), expected, "{state:?} {code:?}");
        }
    }
}
