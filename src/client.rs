//! The typed client of the daemon: for fleetctl, the bridge and the tests.
//!
//! Theory of operation: every request begins by finding the daemon anew, with
//! HOME alone, so a restart between two requests is not an event. The Unix
//! socket comes first: the kernel says whose it is before a byte is sent. Else
//! the runtime file names a port, and whoever listens there has to prove that
//! it wrote the file before it is shown the token. A daemon that takes the
//! connection but does not answer in time is *frozen*, which is not the same as
//! *not running*. Streams resume where they broke: events by cursor, output by
//! offset.

mod backoff;
mod error;
mod events;
mod link;
mod members;
mod output;
mod relay;
mod runtime;
#[cfg(test)]
mod tests;
mod tokens;
mod tools;

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use tokio_util::task::TaskTracker;

use crate::config::Paths;
use crate::model::{Project, TaskId, ToolSets};

pub use backoff::Backoff;
pub use error::ClientError;
pub use events::{EventQuery, EventStream, Incoming};
pub use members::HostKeyView;
pub use output::OutputFollower;
pub use relay::{McpAnswer, McpSession};
pub use runtime::RuntimeFile;
pub use tokens::{NewToken, TokenView};

use link::Link;

/// How long a connected daemon may take to answer `/healthz` before it counts
/// as frozen. Long enough for a machine that is busy with a build.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client of this user's daemon; clones share their connections' loops.
#[derive(Clone, Debug)]
pub struct Client {
    paths: Paths,
    patience: Duration,
    loops: TaskTracker,
    /// Everything is narrowed to it.
    project: Option<Project>,
    offer: Option<ToolSets>,
}

/// The daemon as its connection shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// From the kernel on the Unix socket, from the proved runtime file on TCP.
    pub pid: Option<i32>,
}

impl Client {
    /// A client of the daemon whose files lie at `paths`.
    pub fn new(paths: Paths) -> Self {
        Self { paths, patience: PATIENCE, loops: TaskTracker::new(), project: None, offer: None }
    }

    /// The same client with another patience (see [`ClientError::Frozen`]).
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The same client, which sees and touches only what is of `project`.
    pub fn within(mut self, project: Option<Project>) -> Self {
        self.project = project;
        self
    }

    /// The same client, which offers these tools to whoever it relays for.
    pub fn offering(mut self, tools: Option<ToolSets>) -> Self {
        self.offer = tools;
        self
    }

    /// Where the daemon's files lie.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Finds the daemon and has it answer and, on TCP, prove itself.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`], [`ClientError::Frozen`] or
    /// [`ClientError::Impostor`], among others.
    pub async fn healthz(&self) -> Result<Daemon, ClientError> {
        // The token is not needed for this: `token rotate` mends a damaged one.
        let link = Link::open(&self.paths, self.patience, &self.loops).await?;
        Ok(Daemon { pid: link.pid() })
    }

    /// The bearer token, read only after the daemon has proved itself, so that
    /// it is never handed out towards a port that somebody else holds.
    ///
    /// # Errors
    /// As [`Client::healthz`], and if the token cannot be read.
    pub async fn token(&self) -> Result<String, ClientError> {
        self.link().await?;
        runtime::read_token(&self.paths).map(runtime::Secret::reveal)
    }

    /// The runtime file of the daemon that is running.
    ///
    /// # Errors
    /// As [`Client::healthz`], and if the file cannot be used.
    pub async fn runtime_file(&self) -> Result<RuntimeFile, ClientError> {
        self.link().await?;
        RuntimeFile::read(&self.paths)
    }

    /// Appends `bytes` to the standard input of a task at `offset`, which makes
    /// a repetition harmless; `end` closes it. Returns the bytes held.
    ///
    /// # Errors
    /// `conflict` if the task takes no input (any more).
    pub async fn input(
        &self,
        task: TaskId,
        offset: u64,
        bytes: Bytes,
        end: bool,
    ) -> Result<u64, ClientError> {
        #[derive(Deserialize)]
        struct Held {
            held: Option<u64>,
        }
        let written = offset + bytes.len() as u64;
        let end = if end { "&end=1" } else { "" };
        let path = format!("/tasks/{task}/input?offset={offset}{end}");
        let mut link = self.link().await?;
        let request = link
            .request(Method::POST, &path)
            .header(http::header::CONTENT_TYPE, "application/octet-stream");
        let answer = link.send(request, bytes).await?;
        let body = link::whole_body(answer, link::SMALL).await?;
        let held: Option<Held> = serde_json::from_slice(&body).ok();
        Ok(held.and_then(|held| held.held).unwrap_or(written))
    }

    /// A fresh connection to a daemon that has just answered.
    async fn link(&self) -> Result<Link, ClientError> {
        let mut link = Link::open(&self.paths, self.patience, &self.loops).await?;
        link.authorize(&self.paths)?;
        link.narrow(self.project.clone());
        Ok(link)
    }
}
