//! `mcp`: a stdio server for MCP clients, which is a bridge to the daemon.
//!
//! Theory of operation: towards the client it speaks the legacy era (`initialize`),
//! since only there a server may push; Claude Code refuses its channel otherwise.
//! Towards the daemon it holds a session of its own, which a keeper opens, and
//! opens again for ever (`keeper`). Requests are relayed one by one, each in a
//! loop of its own (`relay`); what cannot wait for a daemon is answered here
//! (`local`). Fleet events become channel notifications (`channel`), from a
//! cursor: until the client is ready, and while the daemon is away, the journal
//! is the queue. One writer owns standard output, and it prints messages only.

mod channel;
mod hub;
mod keeper;
mod local;
mod relay;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::output::Output;
use super::{Cx, Outcome, daemon, exit};
use crate::client::ClientError;
use crate::model::{OutputStream, Pattern, Project, ToolSet, ToolSets};
use crate::wire::{Line, LineSplitter};
use hub::{Hub, Words};

/// Serve MCP on standard input and output, for clients that start their servers.
///
/// It finds the daemon with HOME alone, connects again for ever, and tells a
/// client that can listen (Claude Code with channels) what happens in the fleet.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fleetctl mcp
  fleetctl mcp --start --types 'task.*,custom.>'
  claude mcp add fleet -- fleetctl mcp")]
pub struct Bridge {
    /// Start the daemon if it is not running.
    #[arg(long)]
    start: bool,
    /// The configuration file of a daemon that is started.
    #[arg(long, value_name = "FILE", requires = "start")]
    config: Option<PathBuf>,
    /// Send these events into the channel; several with commas.
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', value_parser = pattern)]
    #[arg(default_values = channel::DEFAULT_TYPES)]
    types: Vec<String>,
    /// Have the daemon keep the channel's place under this name, for the next start.
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Work in this project: see only what is of it, and start tasks in it.
    #[arg(long, value_parser = super::project)]
    project: Option<Project>,
    /// Offer these sets of tools instead of `default`; several with commas, or again.
    #[arg(long, value_name = "SET", value_delimiter = ',', value_parser = super::tool_set())]
    tools: Vec<ToolSet>,
    /// Send no events, only answer.
    #[arg(long, conflicts_with_all = ["name", "types"])]
    no_channel: bool,
}

/// Lines that wait for the client to read; then whoever speaks waits.
const QUEUE: usize = 64;

/// Time that requests get when the client has said its last word; the process
/// is to be gone within two seconds of it.
const GRACE: Duration = Duration::from_millis(1200);

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

fn pattern(text: &str) -> Result<String, String> {
    text.parse::<Pattern>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

impl Bridge {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let loops = TaskTracker::new();
        let (words, lines) = mpsc::channel(QUEUE);
        let closed = CancellationToken::new();
        let writer = loops.spawn(write(cx.out.clone(), lines, closed.clone()));
        let channel = !self.no_channel;
        let client = cx.client.clone().within(self.project).offering(ToolSets::of(self.tools));
        let hub = Arc::new(Hub::new(client, Words::new(words), channel));
        if self.start {
            loops.spawn(start(cx.clone(), self.config));
        }
        let keeping = loops.spawn(keeper::keep(Arc::clone(&hub), cx.out.clone()));
        let pumping = channel.then(|| {
            let pump = channel::Pump::new(Arc::clone(&hub), self.types, self.name);
            loops.spawn(pump.run(cx.out.clone()))
        });
        let outcome = read(&hub, closed.clone()).await;
        keeping.abort();
        hub.settle(GRACE).await;
        // A daemon that is away keeps the session a while, and loses nothing by it.
        let _ = tokio::time::timeout(GRACE / 6, hub.end_session()).await;
        if let Some(pumping) = pumping {
            pumping.abort();
        }
        // The writer ends when nobody can speak any more, if the client reads.
        drop((hub, loops));
        let _ = tokio::time::timeout(GRACE / 4, writer).await;
        outcome.map(|()| exit::OK)
    }
}

async fn start(cx: Cx, config: Option<PathBuf>) {
    let started = match cx.client.healthz().await {
        Err(ClientError::NotRunning | ClientError::Impostor { .. }) => {
            daemon::start(&cx, &cx.client, config).await.map(drop)
        }
        other => other.map(drop).map_err(anyhow::Error::from),
    };
    if let Err(error) = started {
        cx.out.error(&error);
    }
}

/// Takes what the client says until it has said its last word, or reads no more.
async fn read(hub: &Arc<Hub>, closed: CancellationToken) -> anyhow::Result<()> {
    let mut stdin = tokio::io::stdin();
    let mut splitter = LineSplitter::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = tokio::select! {
            read = stdin.read(&mut chunk) => read.context("cannot read standard input")?,
            () = closed.cancelled() => return Ok(()),
        };
        splitter.push(&chunk[..read]);
        if read == 0 {
            splitter.finish();
        }
        while let Some(line) = splitter.next_line() {
            match line {
                Line::Text(line) => hub.take(line).await,
                Line::TooLong => hub.refuse_overlong().await,
            }
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// Writes what is said, line by line, until nobody can speak any more or the
/// client has gone.
async fn write(out: Output, mut lines: mpsc::Receiver<hub::Word>, closed: CancellationToken) {
    while let Some(mut word) = lines.recv().await {
        word.text.push('\n');
        if out.bytes(OutputStream::Stdout, word.text.as_bytes()).await.is_err() {
            break;
        }
        if let Some(written) = word.written {
            let _ = written.send(());
        }
    }
    closed.cancel();
}
