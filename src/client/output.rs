//! A command's own bytes, followed across breaks by their offset.

use bytes::Bytes;
use http::{HeaderValue, Method};
use http_body_util::BodyExt;
use hyper::body::Incoming as Body;

use super::{Backoff, Client, ClientError};
use crate::model::{OutputStream, TaskId, TaskState};
use crate::wire::tools::{MonitorTask, MonitorTaskResult, MonitoredTask};

/// One stream of a task from an offset on, byte for byte, until the task has
/// ended and everything it wrote has been handed out. A task that is tried again
/// has a new stream, which follows from its beginning.
pub struct OutputFollower {
    client: Client,
    task: TaskId,
    stream: OutputStream,
    follow: bool,
    /// Bytes of the latest run handed out, those before the start included.
    offset: u64,
    /// The run that `offset` belongs to.
    run: Option<HeaderValue>,
    open: Option<Body>,
    /// The task had ended before the current request began: its end is the end.
    ended: bool,
    done: bool,
    backoff: Backoff,
}

impl Client {
    /// Reads a task's output from `offset`. With `follow` it goes on until the
    /// task has ended, through restarts of the daemon; else it ends with what
    /// is there now.
    pub fn output(
        &self,
        task: TaskId,
        stream: OutputStream,
        offset: u64,
        follow: bool,
    ) -> OutputFollower {
        OutputFollower {
            client: self.clone(),
            task,
            stream,
            follow,
            offset,
            run: None,
            open: None,
            ended: false,
            done: false,
            backoff: Backoff::default(),
        }
    }

    /// The task as it stands, with at most `max_bytes` of each stream as text.
    ///
    /// # Errors
    /// `not_found` if there is no such task.
    pub async fn monitor(
        &self,
        task: TaskId,
        max_bytes: u32,
    ) -> Result<MonitoredTask, ClientError> {
        self.monitor_text(task, max_bytes, None).await
    }

    /// The same, with a prompt's text from `text_offset` on.
    ///
    /// # Errors
    /// As [`Self::monitor`].
    pub async fn monitor_text(
        &self,
        task: TaskId,
        max_bytes: u32,
        text_offset: Option<u64>,
    ) -> Result<MonitoredTask, ClientError> {
        let arguments = MonitorTask {
            task_id: Some(task.to_string()),
            task_ids: Vec::new(),
            stdout_offset: None,
            stderr_offset: None,
            text_offset,
            max_bytes,
        };
        let result: MonitorTaskResult = self.call_tool("monitor_task", &arguments).await?;
        let mut tasks = result.tasks.into_iter();
        tasks.next().ok_or_else(|| ClientError::protocol("monitor_task without a task"))
    }

    async fn has_ended(&self, task: TaskId) -> Result<bool, ClientError> {
        let state: TaskState = self.monitor(task, 1).await?.task.state;
        Ok(state.is_terminal())
    }
}

impl OutputFollower {
    /// The next bytes; `None` at the end. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What waiting cannot mend, such as an unknown task.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while !self.done {
            match self.step().await {
                Ok(Some(bytes)) => {
                    self.backoff = Backoff::default();
                    self.offset += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Ok(None) => {}
                Err(error) if self.follow && error.is_passing() => {
                    self.open = None;
                    self.backoff.grow();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Bytes of the latest run handed out, those before the start included.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    async fn step(&mut self) -> Result<Option<Bytes>, ClientError> {
        let Some(body) = &mut self.open else {
            self.backoff.wait().await;
            self.open = self.request().await?;
            return Ok(None);
        };
        match body.frame().await {
            Some(frame) => {
                let bytes = frame.map_err(ClientError::Cut)?.into_data().ok();
                return Ok(bytes.filter(|bytes| !bytes.is_empty()));
            }
            None if self.ended || !self.follow => self.done = true,
            // A daemon that goes down ends its streams as well. Ask, and if the
            // task has ended, read once more: what it wrote last may have come
            // after the body's end.
            None => {
                self.open = None;
                self.ended = self.client.has_ended(self.task).await?;
                if !self.ended {
                    self.backoff.grow();
                }
            }
        }
        Ok(None)
    }

    /// `None`: another run has begun, so ask again from its beginning.
    async fn request(&mut self) -> Result<Option<Body>, ClientError> {
        let path = format!(
            "/tasks/{}/output?stream={}&offset={}{}",
            self.task,
            self.stream.as_str(),
            self.offset,
            if self.follow { "&follow=1" } else { "" }
        );
        let mut link = self.client.link().await?;
        let request = link.request(Method::GET, &path);
        let answer = link.send(request, Bytes::new()).await?;
        let run = answer.headers().get("fleetd-run").cloned();
        let before = std::mem::replace(&mut self.run, run);
        if before.is_some() && before != self.run && self.offset > 0 {
            self.offset = 0;
            return Ok(None);
        }
        Ok(Some(answer.into_body()))
    }
}
