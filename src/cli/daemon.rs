//! `up`, `down`, `restart`: the daemon's life from outside.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::output::Style;
use super::{Cx, Outcome, exit, launch};
use crate::client::{Client, ClientError, Daemon};
use crate::model::TaskState;
use crate::wire::tools::{
    FleetStatus, ListTasks, ListTasksResult, NoArguments, StopTask, StopTaskResult,
};

/// Start the daemon.
///
/// It runs in the background with a session of its own and outlives the
/// terminal. If it is running already, that is said and is no error.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fleetctl up")]
pub struct Up {
    /// Use this configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Stop the daemon. Tasks go on, and the next daemon finds them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  fleetctl down\n  fleetctl down --stop-tasks")]
pub struct Down {
    /// Stop all tasks first.
    #[arg(long)]
    stop_tasks: bool,
}

/// Stop the daemon and start it again. Tasks go on.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fleetctl restart")]
pub struct Restart {
    /// Use this configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How long `up` and `down` take an answer to `/healthz` to last.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a daemon that was told to stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// Between two looks at something that is about to happen.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl Up {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let client = cx.client.clone().with_patience(PATIENCE);
        let verb = find_or_start(cx, &client, self.config).await?;
        let status: FleetStatus = cx.client.call_tool("fleet_status", &NoArguments {}).await?;
        cx.out.print(&format!("fleetd {verb} (pid {}) at {}", status.pid, status.url))?;
        cx.out.print(&next_steps(|text| cx.out.styled(Style::Bold, text)))?;
        Ok(exit::OK)
    }
}

impl Down {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let client = cx.client.clone().with_patience(PATIENCE);
        match stop(cx, &client, self.stop_tasks).await? {
            Some(tasks) => cx.out.print(&farewell(tasks))?,
            None => cx.out.print("fleetd is not running")?,
        }
        Ok(exit::OK)
    }
}

impl Restart {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let client = cx.client.clone().with_patience(PATIENCE);
        if let Some(tasks) = stop(cx, &client, false).await? {
            cx.out.print(&farewell(tasks))?;
        }
        Up { config: self.config }.handle(cx).await
    }
}

/// What a new user wants to know next.
fn next_steps(strong: impl Fn(&str) -> String) -> String {
    let steps = [
        ("fleetctl run -- make test", "run a command as a task"),
        ("fleetctl events --follow", "watch what happens"),
        ("fleetctl mcp-config > .mcp.json", "connect Claude Code"),
    ];
    let lines = steps.map(|(command, what)| {
        format!("  {}{}  {what}", strong(command), " ".repeat(32 - command.len()))
    });
    format!("\nNext:\n{}", lines.join("\n"))
}

fn farewell(running: Option<u64>) -> String {
    match running {
        None => "fleetd has stopped".to_owned(),
        Some(0) => "fleetd has stopped; no tasks were running".to_owned(),
        Some(1) => "fleetd has stopped; 1 task goes on without it".to_owned(),
        Some(tasks) => format!("fleetd has stopped; {tasks} tasks go on without it"),
    }
}

/// Finds the daemon, or starts one. Returns what to say of it.
async fn find_or_start(
    cx: &Cx,
    client: &Client,
    config: Option<PathBuf>,
) -> anyhow::Result<&'static str> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let outcome = match look(client).await {
            Ok(_) => Ok("is already running"),
            Err(ClientError::NotRunning | ClientError::Impostor { .. }) => {
                start(cx, client, config.clone()).await
            }
            Err(error) => Err(error.into()),
        };
        match outcome {
            // The lock of one that is just dying goes last.
            Err(error) if is_taken(&error) && Instant::now() < deadline => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            outcome => return outcome,
        }
    }
}

fn is_taken(error: &anyhow::Error) -> bool {
    let end = error.downcast_ref::<launch::End>();
    end.is_some_and(|end| end.status == launch::ALREADY_RUNNING)
}

/// Looks for the daemon. One that was just killed still has its sockets open
/// and cuts whoever comes by them: it is looked for until it is gone.
async fn look(client: &Client) -> Result<Daemon, ClientError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match client.healthz().await {
            Err(ClientError::Cut(_) | ClientError::Ended | ClientError::Socket { .. })
                if Instant::now() < deadline =>
            {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            outcome => return outcome,
        }
    }
}

/// Starts fleetd and waits until it answers. Returns what to say of it.
pub async fn start(
    cx: &Cx,
    client: &Client,
    config: Option<PathBuf>,
) -> anyhow::Result<&'static str> {
    let spinner = cx.out.spinner("starting fleetd");
    let mut child = launch::Fleetd::spawn(config)?;
    loop {
        // A first look costs a millisecond; the daemon is ready within fifty.
        tokio::time::sleep(LOOK_EVERY).await;
        if let Some(end) = child.end()? {
            spinner.finish_and_clear();
            // Another `up` was faster: its daemon is as good as ours.
            if end.status == launch::ALREADY_RUNNING && client.healthz().await.is_ok() {
                return Ok("is already running");
            }
            return Err(end.into());
        }
        if matches!(client.healthz().await, Ok(Daemon { pid }) if pid == Some(child.pid())) {
            return Ok("is running");
        }
        if child.is_late() {
            bail!(
                "fleetd (pid {}) was started but does not answer yet; look with `fleetctl logs`",
                child.pid()
            );
        }
    }
}

/// Stops the daemon. `None` if there was none, else how many tasks go on, if known.
async fn stop(cx: &Cx, client: &Client, tasks_too: bool) -> anyhow::Result<Option<Option<u64>>> {
    let pid = match look(client).await {
        Ok(Daemon { pid: Some(pid) }) => pid,
        Ok(Daemon { pid: None }) => bail!("cannot tell which process fleetd is"),
        Err(ClientError::NotRunning | ClientError::Impostor { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if tasks_too {
        stop_tasks(cx).await?;
    }
    let running = open_tasks(&cx.client).await.ok().map(|tasks| tasks.len() as u64);
    let pid = Pid::from_raw(pid);
    let spinner = cx.out.spinner("stopping fleetd");
    kill(pid, Signal::SIGTERM).with_context(|| format!("cannot signal fleetd (pid {pid})"))?;
    let deadline = Instant::now() + STOP_WITHIN;
    while is_alive(pid) {
        if Instant::now() > deadline {
            spinner.finish_and_clear();
            bail!(
                "fleetd (pid {pid}) has not stopped within {} s; look with `fleetctl logs`, or end it with `kill -KILL {pid}`",
                STOP_WITHIN.as_secs()
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    spinner.finish_and_clear();
    Ok(Some(running))
}

async fn open_tasks(client: &Client) -> Result<Vec<String>, ClientError> {
    let states = vec![TaskState::Queued, TaskState::Starting, TaskState::Running];
    let arguments = ListTasks { states, limit: 1000 };
    let listed: ListTasksResult = client.call_tool("list_tasks", &arguments).await?;
    Ok(listed.tasks.into_iter().map(|task| task.task_id).collect())
}

/// Stops all tasks, several at a time, until none is left.
async fn stop_tasks(cx: &Cx) -> anyhow::Result<()> {
    const AT_ONCE: usize = 16;
    let mut stopped = 0;
    loop {
        let open = open_tasks(&cx.client).await?;
        if open.is_empty() {
            break;
        }
        let spinner = cx.out.spinner(&format!("stopping {} tasks", open.len()));
        for batch in open.chunks(AT_ONCE) {
            let calls = batch.iter().map(|id| async {
                let arguments = StopTask { task_id: id.clone() };
                cx.client.call_tool::<_, StopTaskResult>("stop_task", &arguments).await
            });
            for outcome in futures_util::future::join_all(calls).await {
                let view = outcome.context("cannot stop a task")?.task;
                if !view.state.is_terminal() {
                    bail!("task {} does not end; fleetd goes on", view.task_id);
                }
                stopped += 1;
            }
        }
        spinner.finish_and_clear();
    }
    cx.out.print(&format!("{stopped} tasks stopped"))?;
    Ok(())
}

/// Whether the process is there and not merely waiting to be buried.
fn is_alive(pid: Pid) -> bool {
    if kill(pid, None) == Err(Errno::ESRCH) {
        return false;
    }
    // proc(5): the state follows the name, which is in brackets and may hold any.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_goes_on() {
        assert_eq!(farewell(Some(0)), "fleetd has stopped; no tasks were running");
        assert_eq!(farewell(Some(1)), "fleetd has stopped; 1 task goes on without it");
        assert_eq!(farewell(Some(7)), "fleetd has stopped; 7 tasks go on without it");
        assert_eq!(farewell(None), "fleetd has stopped");
    }

    #[test]
    fn next_steps_are_in_line() {
        assert_eq!(
            next_steps(str::to_owned),
            "\nNext:\n  fleetctl run -- make test         run a command as a task\n  \
             fleetctl events --follow          watch what happens\n  \
             fleetctl mcp-config > .mcp.json   connect Claude Code"
        );
    }

    #[test]
    fn a_process_is_alive_until_it_has_ended() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        assert!(is_alive(pid));
        kill(pid, Signal::SIGKILL).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while is_alive(pid) {
            assert!(Instant::now() < deadline, "a killed child is not alive, buried or not");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!is_alive(pid));
    }
}
