//! `cp`: files to a member, and from one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::Value;

use super::exit::{self, Ended};
use super::{Cx, Outcome, table, text};
use crate::client::{Backoff, Client, ClientError, EventQuery, Incoming};
use crate::model::{MemberName, Project, TaskId, TaskState};
use crate::wire::tools::{
    MonitoredTask, ReceiveFiles, SendFiles, StopTask, StopTaskResult, TransferResult,
};

/// Copy files to a member, or from one.
///
/// A member's side is written MEMBER:PATH, with PATH below its work folder. A
/// local path with a colon in it is written with ./ before it. Folders are
/// copied with all that is in them, under their own names; links and devices
/// are passed over. Hashes are compared on both sides, each file appears whole
/// or not at all, and a copy that was cut goes on where it was.
///
/// Ctrl-C stops it; the same command again goes on after an interruption.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fleetctl cp build.tar.gz web-1:releases
  fleetctl cp src 'docs/*.md' web-1:
  fleetctl cp web-1:logs web-1:'out/*.json' ./from-web-1")]
pub struct Cp {
    /// What to copy: files, folders and patterns, all here or all of one member.
    #[arg(required = true, value_name = "SRC")]
    sources: Vec<String>,
    /// The folder to put them in, which is made: MEMBER:PATH, or a folder here.
    #[arg(value_name = "DEST")]
    dest: String,
    /// Put VALUE in place of {{NAME}} in the files that are sent.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    values: Vec<(String, String)>,
    /// Copy in this project [default: default].
    #[arg(long, value_parser = super::project)]
    project: Option<Project>,
    /// Print the transfer's id and return; it goes on.
    #[arg(long)]
    detach: bool,
    /// Print one JSON object at the end.
    #[arg(long)]
    json: bool,
}

/// How often it is asked for, should its event not come.
const LOOK: Duration = Duration::from_secs(2);

/// What is to be done, by the form of the paths.
#[derive(Debug, PartialEq)]
enum Way<'a> {
    Send { member: &'a str, dest: &'a str },
    Receive { member: &'a str, paths: Vec<&'a str> },
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').ok_or_else(|| String::from("write NAME=VALUE"));
    split.map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// `MEMBER` and `PATH`, if it is of that form: no slash before the colon.
fn of_member(text: &str) -> Option<(&str, &str)> {
    let (member, path) = text.split_once(':')?;
    MemberName::parse(member).ok().map(|_| (member, path))
}

fn way<'a>(sources: &'a [String], dest: &'a str) -> anyhow::Result<Way<'a>> {
    let there: Vec<_> = sources.iter().filter_map(|source| of_member(source)).collect();
    match (of_member(dest), there.first()) {
        (Some((member, dest)), None) => Ok(Way::Send { member, dest }),
        (None, Some((member, _))) if there.len() == sources.len() => {
            if there.iter().any(|(other, _)| other != member) {
                bail!("the sources are on several members; copy from one at a time");
            }
            Ok(Way::Receive { member, paths: there.iter().map(|(_, path)| *path).collect() })
        }
        (None, None) => bail!("neither side is a member's; write MEMBER:PATH for one of them"),
        (Some(_), Some(_)) => bail!("both sides are members'; copy by way of this machine"),
        (None, Some(_)) => bail!("some sources are here and some are not; copy them apart"),
    }
}

/// Where the daemon, which has no current folder, finds it.
fn absolute(path: &str) -> anyhow::Result<String> {
    let folder = std::env::current_dir().context("cannot find the current folder")?;
    let path = folder.join(Path::new(path));
    path.to_str().map(str::to_owned).context("the current folder's name is not UTF-8")
}

impl Cp {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let cx = &cx.within(self.project.clone());
        let begun = self.begin(&cx.client).await?;
        let id: TaskId = begun.stream_id.parse().context("fleetd gave no id")?;
        if self.detach {
            if self.json {
                cx.out.json_line(&serde_json::to_string(&begun)?)?;
            } else {
                cx.out.print(&id.to_string())?;
            }
            return Ok(exit::OK);
        }
        let bar = cx.out.bar();
        let ended = follow(cx, id, &bar).await;
        bar.finish_and_clear();
        conclude(cx, &ended?, self.json)
    }

    async fn begin(&self, client: &Client) -> anyhow::Result<TransferResult> {
        let begun = match way(&self.sources, &self.dest)? {
            Way::Send { member, dest } => {
                let paths: anyhow::Result<_> = self.sources.iter().map(|p| absolute(p)).collect();
                let arguments = SendFiles {
                    local_paths: paths?,
                    dest_subdir: Some(dest.to_owned()).filter(|dest| !dest.is_empty()),
                    substitutions: BTreeMap::from_iter(self.values.iter().cloned()),
                    member_name: Some(member.to_owned()),
                    member_id: None,
                    run_async: true,
                };
                client.call_tool("send_files", &arguments).await
            }
            Way::Receive { .. } if !self.values.is_empty() => {
                bail!("--set is for files that are sent")
            }
            Way::Receive { member, paths } => {
                let named = |path: &&str| if path.is_empty() { "." } else { *path }.to_owned();
                let arguments = ReceiveFiles {
                    remote_paths: paths.iter().map(named).collect(),
                    local_dest_dir: absolute(&self.dest)?,
                    member_name: Some(member.to_owned()),
                    member_id: None,
                    run_async: true,
                };
                client.call_tool("receive_files", &arguments).await
            }
        };
        match begun {
            Err(error) if error.is_unknown() => Err(Ended {
                status: exit::UNKNOWN,
                message: "the connection was lost before fleetd had answered, so it may copy or \
                          not; `fleetctl tasks` shows it if it does"
                    .to_owned(),
            }
            .into()),
            begun => Ok(begun?),
        }
    }
}

/// Shows how far it is until it has ended.
async fn follow(cx: &Cx, id: TaskId, bar: &ProgressBar) -> anyhow::Result<MonitoredTask> {
    let query = EventQuery {
        types: vec![String::from("transfer.*")],
        subject: Some(format!("task/{id}")),
        signals: true,
        ..EventQuery::default()
    };
    let mut events = cx.client.events(query).await?;
    let mut interrupts = 0;
    let mut ended = look(&cx.client, id).await?;
    while !ended.task.state.is_terminal() {
        let over = tokio::select! {
            news = events.next() => match news? {
                Incoming::Frame(frame) if frame.event == "transfer.progressed" => {
                    show(bar, frame.data.as_deref().unwrap_or_default());
                    false
                }
                _ => true,
            },
            () = tokio::time::sleep(LOOK) => true,
            _ = tokio::signal::ctrl_c() => {
                interrupts += 1;
                if interrupts > 1 {
                    cx.out.note(&format!("left transfer {id}; see `fleetctl tasks show {id}`"));
                    let message = String::from("it goes on");
                    return Err(Ended { status: exit::of_signal(nix::libc::SIGINT), message }.into());
                }
                let arguments = StopTask { task_id: id.to_string() };
                let _: StopTaskResult = cx.client.call_tool("stop_task", &arguments).await?;
                true
            }
        };
        if over {
            ended = look(&cx.client, id).await?;
        }
    }
    Ok(ended)
}

/// As it is now; waits for a daemon that is being started again.
async fn look(client: &Client, id: TaskId) -> Result<MonitoredTask, ClientError> {
    let mut backoff = Backoff::default();
    loop {
        match client.monitor(id, 1).await {
            Err(error) if error.is_passing() => backoff.grow(),
            outcome => return outcome,
        }
        backoff.wait().await;
    }
}

fn show(bar: &ProgressBar, event: &str) {
    let event: Value = serde_json::from_str(event).unwrap_or_default();
    let number = |name: &str| event["data"][name].as_u64().unwrap_or(0);
    bar.set_length(number("total_bytes"));
    bar.set_position(number("bytes"));
    let words = ["waiting", "current"].map(|name| event["data"][name].as_str());
    let [waiting, current] = words;
    let message = match (waiting, current) {
        (Some(waiting), _) => format!("waits: {waiting}"),
        (None, current) => current.unwrap_or_default().to_owned(),
    };
    bar.set_message(text::one_line(&message, 40));
}

fn conclude(cx: &Cx, ended: &MonitoredTask, json: bool) -> Outcome {
    let view = &ended.task;
    let status = match view.state {
        TaskState::Completed => exit::OK,
        TaskState::Cancelled => exit::of_signal(nix::libc::SIGINT),
        _ => exit::FAILED,
    };
    if json {
        cx.out.json(view)?;
        return Ok(status);
    }
    if let Some(transfer) = &view.transfer {
        for name in &transfer.skipped {
            cx.out.note(&format!("fleetctl: skipped {name}"));
        }
        let listed = transfer.skipped.len() as u64;
        if transfer.skipped_count > listed {
            let more = transfer.skipped_count - listed;
            cx.out.note(&format!("fleetctl: skipped {more} more"));
        }
        if view.state == TaskState::Completed {
            let took = view.duration_ms.map_or_else(|| "-".to_owned(), table::duration);
            let (files, bytes) = (transfer.done.files, table::bytes(transfer.done.bytes));
            cx.out.hint(&format!("{files} files, {bytes} in {took}"));
        }
    }
    if let Some(reason) = &view.reason {
        cx.out.note(&format!("fleetctl: transfer {}: {reason}", view.state.as_str()));
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_way_is_known_by_the_form_of_the_paths() {
        let here = sources(&["a", "./b:c", "/x:y"]);
        assert_eq!(way(&here, "web:in").unwrap(), Way::Send { member: "web", dest: "in" });
        let there = sources(&["web:a", "web:b:c"]);
        let expected = Way::Receive { member: "web", paths: vec!["a", "b:c"] };
        assert_eq!(way(&there, "./here").unwrap(), expected);
        for (from, to) in [
            (vec!["a"], "b"),
            (vec!["w:a"], "w:b"),
            (vec!["w:a", "v:b"], "."),
            (vec!["w:a", "b"], "."),
        ] {
            assert!(way(&sources(&from), to).is_err(), "{from:?} {to}");
        }
    }
}
