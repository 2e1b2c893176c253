//! `prompt`: a member's model is asked, and its text printed as it is written.

use std::io::{IsTerminal, Read};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::exit::{self, Ended};
use super::{Cx, Outcome, text};
use crate::client::{EventQuery, EventStream, Incoming};
use crate::model::{OutputStream, Project, TaskId, TaskState};
use crate::wire::SseFrame;
use crate::wire::tools::{
    DEFAULT_PROMPT_TIMEOUT_S, ExecutePrompt, ExecutePromptResult, MonitoredTask, ResumeWish,
    StopPrompt, StopPromptResult,
};

/// Ask a member's model, and print its text as it is written.
///
/// The prompt is run by the provider's own program (claude, codex and so on) in
/// this folder on the local machine, or in the member's work folder elsewhere.
/// It goes on when the daemon or this terminal is lost. Ctrl-C stops it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fleetctl prompt 'What does this repository do?'
  fleetctl prompt --on web-1 --detach 'Run the tests and mend what fails'
  fleetctl prompt --resume ID 'Now the documentation' < notes.txt
  git diff | fleetctl prompt --model premium -")]
pub struct Prompt {
    /// Member to run on [default: the local machine].
    #[arg(long, value_name = "MEMBER")]
    on: Option<String>,
    /// Start it in this project [default: default].
    #[arg(long, value_parser = super::project)]
    project: Option<Project>,
    /// Print the task's id and return; the prompt goes on.
    #[arg(long)]
    detach: bool,
    /// Print one JSON object at the end instead of the text as it comes.
    #[arg(long)]
    json: bool,
    /// Go on with this session; without it a new one is begun.
    #[arg(long, value_name = "SESSION", conflicts_with = "last")]
    resume: Option<String>,
    /// Go on with the last session in that folder.
    #[arg(long)]
    last: bool,
    /// cheap, standard, premium, or the provider's name of a model.
    #[arg(long)]
    model: Option<String>,
    /// Provider to use [default: the member's].
    #[arg(long)]
    provider: Option<String>,
    /// The provider's agent to use.
    #[arg(long)]
    agent: Option<String>,
    /// Folder to work in.
    #[arg(long, value_name = "DIR")]
    folder: Option<String>,
    /// End it after so many seconds without output; 0 is never.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_PROMPT_TIMEOUT_S)]
    timeout: u64,
    /// The prompt; `-` or nothing reads it from standard input.
    #[arg(value_name = "PROMPT")]
    prompt: Option<String>,
}

/// Bytes of text that are asked for at once when some were not told.
const PART: u32 = 256 * 1024;

impl Prompt {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let cx = &cx.within(self.project.clone());
        let started: ExecutePromptResult =
            match cx.client.call_tool("execute_prompt", &self.arguments()?).await {
                Err(error) if error.is_unknown() => {
                    let message = "the connection was lost before fleetd had answered, so the \
                        prompt may run or not; `fleetctl tasks` shows it if it does";
                    let ended = Ended { status: exit::UNKNOWN, message: message.to_owned() };
                    return Err(ended.into());
                }
                answer => answer?,
            };
        let id = started.stream_id.as_deref().unwrap_or_default();
        let id: TaskId = id.parse().context("fleetd gave no task id")?;
        if self.detach {
            match self.json {
                true => {
                    let line = json!({ "stream_id": id.to_string(), "status": started.status });
                    cx.out.json_line(&line.to_string())?;
                }
                false => cx.out.print(&id.to_string())?,
            }
            return Ok(exit::OK);
        }
        Follower { cx, id, json: self.json, printed: 0, ends_line: true }.watch().await
    }

    fn arguments(&self) -> anyhow::Result<ExecutePrompt> {
        let folder = match (&self.folder, &self.on) {
            (Some(folder), _) => Some(folder.clone()),
            (None, Some(_)) => None,
            (None, None) => {
                let folder = std::env::current_dir().context("cannot find the current folder")?;
                Some(folder.to_str().context("the current folder's name is not UTF-8")?.to_owned())
            }
        };
        let last = ResumeWish::Whether(self.last);
        Ok(ExecutePrompt {
            prompt: self.text()?,
            member_name: self.on.clone(),
            member_id: None,
            session_id: None,
            resume: self.resume.clone().map_or(last, ResumeWish::Session),
            timeout_s: self.timeout,
            max_total_s: None,
            stall_after_s: None,
            max_turns: 50,
            model: self.model.clone(),
            substitutions: Default::default(),
            provider: self.provider.clone(),
            agent: self.agent.clone(),
            run_from: folder,
            expected_context_tokens: None,
            context_size: None,
            run_async: true,
        })
    }

    fn text(&self) -> anyhow::Result<String> {
        if let Some(prompt) = self.prompt.as_deref().filter(|prompt| *prompt != "-") {
            return Ok(prompt.to_owned());
        }
        let mut stdin = std::io::stdin();
        if self.prompt.is_none() && stdin.is_terminal() {
            bail!("there is no prompt; give one, or - to type it and end with Ctrl-D");
        }
        let mut prompt = String::new();
        stdin.read_to_string(&mut prompt).context("cannot read the prompt")?;
        Ok(prompt)
    }
}

/// Prints a prompt's text to its end.
struct Follower<'a> {
    cx: &'a Cx,
    id: TaskId,
    json: bool,
    /// Bytes of text that were printed.
    printed: u64,
    /// Nothing stands on the last line.
    ends_line: bool,
}

impl Follower<'_> {
    async fn watch(mut self) -> Outcome {
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
        let query = EventQuery {
            types: vec![String::from("task.*")],
            subject: Some(self.id.subject()),
            severity: None,
            since: None,
            signals: true,
        };
        let mut stream = self.cx.client.events(query).await?;
        let mut stopping = false;
        // What was said before the stream began.
        let mut task = self.catch_up().await?;
        while !task.task.state.is_terminal() {
            tokio::select! {
                ends = self.next(&mut stream) => if ends? {
                    task = self.catch_up().await?;
                },
                _ = interrupt.recv() => {
                    if stopping {
                        self.cx.out.note(&format!("left prompt {}", self.id));
                        return Ok(exit::of_signal(nix::libc::SIGINT));
                    }
                    stopping = true;
                    self.cx.out.hint("stopping the prompt; Ctrl-C again to leave it alone");
                    let asked = StopPrompt { stream_id: Some(self.id.to_string()), ..StopPrompt::default() };
                    self.cx.client.call_tool::<_, StopPromptResult>("stop_prompt", &asked).await?;
                    task = self.catch_up().await?;
                }
            }
        }
        self.conclude(&task)
    }

    /// Prints what is told. `true`: it is time to look at the task itself.
    async fn next(&mut self, stream: &mut EventStream) -> anyhow::Result<bool> {
        let data = match stream.next().await? {
            Incoming::Frame(SseFrame { event, data: Some(data), .. }) if event != "gap" => data,
            Incoming::Frame(SseFrame { data: Some(_), .. }) => return Ok(true),
            Incoming::Frame(_) => return Ok(false),
            Incoming::Lost(error) => {
                self.cx.out.note(&format!("{error}; going on when it is there again"));
                return Ok(false);
            }
        };
        let Ok(event) = serde_json::from_str::<Value>(&data) else { return Ok(false) };
        let (kind, data) = (event["type"].as_str().unwrap_or_default(), &event["data"]);
        match kind {
            "task.output" if data["stream"] == "text" => {
                if data["offset"] != self.printed {
                    return Ok(true);
                }
                self.print(data["text"].as_str().unwrap_or_default()).await?;
                Ok(false)
            }
            "task.progress" if data["state"] == "begun" && !self.json => {
                let part = |key: &str| text::printable(data[key].as_str().unwrap_or_default());
                self.end_line().await?;
                self.cx.out.note(&format!("[{}] {}", part("tool"), part("summary")));
                Ok(false)
            }
            "task.completed" | "task.failed" | "task.cancelled" | "task.unknown" => Ok(true),
            _ => Ok(false),
        }
    }

    /// Looks at the task, and prints what was not told.
    async fn catch_up(&mut self) -> anyhow::Result<MonitoredTask> {
        loop {
            let task = self.cx.client.monitor_text(self.id, PART, Some(self.printed)).await?;
            let Some(prompt) = &task.prompt else { return Ok(task) };
            if prompt.text.is_empty() {
                return Ok(task);
            }
            self.print(&prompt.text).await?;
        }
    }

    async fn print(&mut self, text: &str) -> anyhow::Result<()> {
        self.printed += text.len() as u64;
        if !self.json && !text.is_empty() {
            self.ends_line = text.ends_with('\n');
            let shown = text::printable(text);
            self.cx.out.bytes(OutputStream::Stdout, shown.as_bytes()).await?;
        }
        Ok(())
    }

    async fn end_line(&mut self) -> anyhow::Result<()> {
        if !self.ends_line {
            self.ends_line = true;
            self.cx.out.bytes(OutputStream::Stdout, b"\n").await?;
        }
        Ok(())
    }

    fn conclude(self, task: &MonitoredTask) -> Outcome {
        let state = task.task.state;
        let ended = task.prompt.as_ref().map(|prompt| prompt.ended.clone()).unwrap_or_default();
        if self.json {
            let result = ExecutePromptResult {
                stream_id: Some(self.id.to_string()),
                status: state.as_str().to_owned(),
                ended,
            };
            self.cx.out.json(&result)?;
        } else {
            if !self.ends_line {
                self.cx.out.print("")?;
            }
            if let Some(reason) = &task.task.reason {
                let reason = text::printable(reason);
                self.cx.out.note(&format!("fleetctl: prompt {}: {reason}", state.as_str()));
            }
            if let Some(session) = &ended.session_id {
                self.cx.out.hint(&format!("go on with: fleetctl prompt --resume {session} …"));
            }
        }
        Ok(match state {
            TaskState::Completed => exit::OK,
            TaskState::Cancelled => exit::of_signal(nix::libc::SIGINT),
            TaskState::Unknown => exit::UNKNOWN,
            _ => exit::FAILED,
        })
    }
}
