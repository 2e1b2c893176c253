//! `tasks`: what runs, what has run, and what it said.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use super::output::Style;
use super::{Cx, Outcome, exit, quote, table, text};
use crate::client::Client;
use crate::model::{OutputStream, Project, TaskId, TaskState, Timestamp};
use crate::wire::tools::{
    ListTasks, ListTasksResult, MonitoredTask, StopTask, StopTaskResult, TaskView,
};

/// List tasks, newest first; stop one, look at one, read its output.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  fleetctl tasks
  fleetctl tasks --json | jq -r '.tasks[] | select(.state == \"running\") | .task_id'
  fleetctl tasks output ID --follow")]
pub struct Tasks {
    #[command(subcommand)]
    command: Option<TaskCommand>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Only tasks of this project.
    #[arg(long, value_parser = super::project)]
    project: Option<Project>,
    /// List all that are kept, not only the newest.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Subcommand)]
enum TaskCommand {
    /// Stop a task: TERM to all its processes, KILL a little later.
    #[command(after_help = "Example:\n  fleetctl tasks stop 1d0c1f5e")]
    Stop {
        #[command(flatten)]
        task: Named,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one task and the last lines of its output.
    #[command(after_help = "Example:\n  fleetctl tasks show 1d0c1f5e")]
    Show {
        #[command(flatten)]
        task: Named,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print what a task wrote, byte for byte.
    #[command(after_help = "Example:\n  fleetctl tasks output 1d0c1f5e --follow")]
    Output {
        #[command(flatten)]
        task: Named,
        /// Go on until the task has ended.
        #[arg(short, long)]
        follow: bool,
        /// What it wrote to stderr instead of stdout.
        #[arg(long)]
        stderr: bool,
    },
}

#[derive(Debug, Args)]
struct Named {
    /// The task's id, or how it begins.
    #[arg(value_name = "ID")]
    id: String,
}

/// Listed without `--all`: about a screen.
const SCREEN: u32 = 25;
/// The most that `list_tasks` lists.
const ALL: u32 = 1000;
/// Bytes of each stream that `show` shows.
const TAIL: u32 = 2048;

impl Tasks {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let cx = &cx.within(self.project);
        match self.command {
            None => list(cx, self.json, self.all).await,
            Some(TaskCommand::Stop { task, json }) => stop(cx, task, json).await,
            Some(TaskCommand::Show { task, json }) => show(cx, task, json).await,
            Some(TaskCommand::Output { task, follow, stderr }) => {
                let id = task.find(&cx.client).await?;
                let stream = if stderr { OutputStream::Stderr } else { OutputStream::Stdout };
                let mut output = cx.client.output(id, stream, 0, follow);
                while let Some(bytes) = output.next().await? {
                    // Whatever it was there, it was asked for here.
                    cx.out.bytes(OutputStream::Stdout, &bytes).await?;
                }
                Ok(exit::OK)
            }
        }
    }
}

impl Named {
    /// The task meant. A beginning has to fit one task alone.
    async fn find(&self, client: &Client) -> anyhow::Result<TaskId> {
        let text = self.id.strip_prefix("task/").unwrap_or(&self.id);
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let arguments = ListTasks { states: Vec::new(), limit: ALL };
        let listed: ListTasksResult = client.call_tool("list_tasks", &arguments).await?;
        unique(text, listed.tasks.iter().map(|task| task.task_id.as_str()))
    }
}

fn unique<'a>(text: &str, ids: impl Iterator<Item = &'a str>) -> anyhow::Result<TaskId> {
    let mut fitting = ids.filter(|id| !text.is_empty() && id.starts_with(text));
    match (fitting.next(), fitting.next()) {
        (Some(id), None) => id.parse().context("fleetd gave no task id"),
        (Some(_), Some(_)) => bail!("several tasks begin with '{text}'; give more of the id"),
        (None, _) => bail!("no task '{text}'; `fleetctl tasks` lists them"),
    }
}

async fn list(cx: &Cx, json: bool, all: bool) -> Outcome {
    let limit = if all || json { ALL } else { SCREEN };
    let arguments = ListTasks { states: Vec::new(), limit };
    let listed: ListTasksResult = cx.client.call_tool("list_tasks", &arguments).await?;
    if json {
        cx.out.json(&listed)?;
    } else if listed.tasks.is_empty() {
        cx.out.note("no tasks yet; `fleetctl run -- CMD` runs one");
    } else {
        cx.out.print(&listing(&listed.tasks, cx.out.width()))?;
        if listed.tasks.len() == limit as usize && !all {
            cx.out.hint("only the newest are shown; --all shows the rest");
        }
    }
    Ok(exit::OK)
}

fn listing(tasks: &[TaskView], width: u16) -> String {
    let rows = tasks.iter().map(|task| {
        vec![
            task.task_id.clone(),
            state(task, Timestamp::now()),
            task.member.clone(),
            table::time(&task.created),
            task.duration_ms.map_or_else(|| "-".to_owned(), table::duration),
            end(task.exit_code, task.signal),
            quote::for_people(&task.command).to_owned(),
        ]
    });
    table::table(&["ID", "STATE", "MEMBER", "CREATED", "TOOK", "EXIT", "COMMAND"], rows, width)
}

/// How it stands, in a word: a stalled task is one that needs a look.
/// One whose member is cut off may be doing well.
pub fn state(task: &TaskView, now: Timestamp) -> String {
    if let Some(since) = task.unreachable_since.as_deref().and_then(Timestamp::parse) {
        return format!("unreachable {}", table::age(now.millis_since(since)));
    }
    match task.stalled_since.as_deref().and_then(Timestamp::parse) {
        Some(since) => format!("stalled {}", table::age(now.millis_since(since))),
        None => task.state.as_str().to_owned(),
    }
}

/// How it ended, in a word.
fn end(exit_code: Option<i32>, signal: Option<i32>) -> String {
    match (exit_code, signal) {
        (Some(code), _) => code.to_string(),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "-".to_owned(),
    }
}

async fn stop(cx: &Cx, task: Named, json: bool) -> Outcome {
    let id = task.find(&cx.client).await?;
    let spinner = cx.out.spinner("stopping");
    let arguments = StopTask { task_id: id.to_string() };
    let outcome = cx.client.call_tool::<_, StopTaskResult>("stop_task", &arguments).await;
    spinner.finish_and_clear();
    let task = outcome?.task;
    if json {
        cx.out.json(&task)?;
    } else if task.state == TaskState::Cancelled {
        cx.out.print(&format!("task {id} is stopped"))?;
    } else {
        cx.out.print(&format!("task {id} is {}", task.state.as_str()))?;
    }
    Ok(if task.state.is_terminal() { exit::OK } else { exit::FAILED })
}

async fn show(cx: &Cx, task: Named, json: bool) -> Outcome {
    let id = task.find(&cx.client).await?;
    let task = cx.client.monitor(id, TAIL).await?;
    if json {
        cx.out.json(&task)?;
    } else {
        let strong = |text: &str| cx.out.styled(Style::Bold, text);
        cx.out.print(&shown(&task, cx.out.width(), strong))?;
    }
    Ok(exit::OK)
}

fn shown(task: &MonitoredTask, width: u16, strong: impl Fn(&str) -> String) -> String {
    let view = &task.task;
    let at = |time: &Option<String>| time.as_deref().map_or_else(|| "-".to_owned(), table::time);
    let size = |bytes| table::bytes(bytes);
    let mut pairs = vec![
        ("task", view.task_id.clone()),
        ("command", quote::for_people(&view.command).to_owned()),
        ("state", state(view, Timestamp::now())),
        ("exit", end(view.exit_code, view.signal)),
        ("member", view.member.clone()),
        ("created", table::time(&view.created)),
        ("started", at(&view.started)),
        ("ended", at(&view.ended)),
        (
            "output",
            format!("{} stdout, {} stderr", size(view.stdout_bytes), size(view.stderr_bytes)),
        ),
    ];
    if let Some(reason) = &view.reason {
        pairs.insert(4, ("reason", reason.clone()));
    }
    if let Some(since) = &view.unreachable_since {
        pairs.insert(3, ("unreachable", format!("since {}", table::time(since))));
    }
    let cut = task.stdout.cut_bytes + task.stderr.cut_bytes;
    if cut > 0 {
        pairs.push(("cut", format!("{cut} bytes of it were over the cap and dropped")));
    }
    let mut shown = table::facts(pairs, width);
    for (name, output) in [("stdout", &task.stdout), ("stderr", &task.stderr)] {
        if !output.text.is_empty() {
            let text = text::printable(&output.text);
            shown.push_str(&format!("\n\n{}\n{}", strong(name), text.trim_end()));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn monitored() -> MonitoredTask {
        serde_json::from_value(json!({
            "task_id": "1d0c1f5e-6d34-4c0e-8a4e-9a3c0d1c8f11", "state": "failed",
            "member": "local", "project": "default", "command": "exec make 'a b'", "pid": 5,
            "created": "2026-11-20T10:00:00.100Z", "started": "2026-11-20T10:00:00.200Z",
            "ended": "2026-11-20T10:00:03.700Z", "duration_ms": 3500, "exit_code": 2,
            "signal": null, "reason": null, "stop_requested": false, "stdout_bytes": 6,
            "stderr_bytes": 1300,
            "stdout": {"text": "hello\n", "offset": 0, "next_offset": 6, "exact": true},
            "stderr": {"text": "\u{1b}[31mno rule\u{1b}[0m\n", "offset": 0, "next_offset": 9,
                "exact": true},
        }))
        .unwrap()
    }

    #[test]
    fn a_listing_reads_well() {
        let expected = "\
ID                                    STATE   MEMBER  CREATED               TOOK   EXIT  COMMAND
1d0c1f5e-6d34-4c0e-8a4e-9a3c0d1c8f11  failed  local   2026-11-20 10:00:00Z  3.5 s  2     make 'a b'";
        assert_eq!(listing(&[monitored().task], u16::MAX), expected);
    }

    #[test]
    fn a_stalled_task_says_since_when() {
        let mut task = monitored().task;
        task.stalled_since = Some("2026-11-20T10:00:00Z".to_owned());
        let now = Timestamp::parse("2026-11-20T10:03:20Z").unwrap();
        assert_eq!(state(&task, now), "stalled 3m");
    }

    #[test]
    fn one_task_reads_well() {
        let expected = "\
task     1d0c1f5e-6d34-4c0e-8a4e-9a3c0d1c8f11
command  make 'a b'
state    failed
exit     2
member   local
created  2026-11-20 10:00:00Z
started  2026-11-20 10:00:00Z
ended    2026-11-20 10:00:03Z
output   6 B stdout, 1.2 KiB stderr

stdout
hello

stderr
no rule";
        assert_eq!(shown(&monitored(), u16::MAX, str::to_owned), expected);
    }

    #[test]
    fn a_beginning_names_one_task_or_none() {
        let ids = ["1d0c1f5e-6d34-4c0e-8a4e-9a3c0d1c8f11", "1d0d1f5e-6d34-4c0e-8a4e-9a3c0d1c8f11"];
        let find = |text: &str| unique(text, ids.into_iter());
        assert_eq!(find("1d0c").unwrap().to_string(), ids[0]);
        assert!(find("1d0").unwrap_err().to_string().starts_with("several tasks"));
        assert!(find("2").unwrap_err().to_string().starts_with("no task"));
        assert!(find("").is_err());
    }
}
