//! A command that runs at the other end.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};

use super::channel::Wake;
use super::error::ReachError;
use super::keeper::Keeper;

/// Bounds of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub deadline: Duration,
    /// Bytes of standard output and standard error together.
    pub most_output: usize,
}

/// A part of what a command wrote, in the order of its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    Stdout(Bytes),
    Stderr(Bytes),
}

/// How a command ended, by the member's own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Any status but 0 was sent. **0 may also be none at all**: a server may close
    /// a channel without a status (OpenSSH's `ChannelTimeout` does), and libssh2
    /// keeps no record of whether one came. Where success matters, have the
    /// command say so on its standard output. A cut connection is never 0.
    Code(i32),
    /// Without `SIG`, as SSH names it.
    Signal(String),
}

/// A command's whole output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub stdout: Bytes,
    pub stderr: Bytes,
    pub end: End,
}

/// The writing end of a command's standard input; dropping it closes the input.
#[derive(Debug)]
pub struct Input {
    /// Full: the command reads slowly, and the writer waits.
    pub(super) sender: mpsc::Sender<Bytes>,
    pub(super) wake: Wake,
}

/// A running command. Dropping it closes its channel; what becomes of the
/// command then is the member's business (sshd lets it run).
#[derive(Debug)]
pub struct Exec {
    /// `take` it to write from elsewhere, or to close it.
    pub input: Option<Input>,
    pub(super) output: mpsc::Receiver<Chunk>,
    pub(super) end: oneshot::Receiver<Result<End, ReachError>>,
    pub(super) wake: Wake,
    pub(super) host: String,
    /// As long as it runs, its link is wanted.
    pub(super) share: Option<Arc<Keeper>>,
}

impl Input {
    /// Waits until there is room. Fails when the command reads no more.
    pub async fn write(&self, bytes: Bytes) -> Result<(), ReachError> {
        let sent = self.sender.send(bytes).await;
        self.wake.wake();
        sent.map_err(|_| ReachError::Invalid {
            what: "the command",
            problem: String::from("reads no more input"),
        })
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // The sender is dropped after this: the loop looks again, and by the
        // time it does it may still see an open sender. So it is closed here.
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.sender, closed));
        self.wake.wake();
    }
}

impl Exec {
    /// The next piece of output; `None` when both streams have ended.
    pub async fn next(&mut self) -> Option<Chunk> {
        let chunk = self.output.recv().await;
        self.wake.wake();
        chunk
    }

    /// Drops what is still to come of the output, and waits for the end. A cut
    /// connection is [`ReachError::Lost`], never a code.
    pub async fn end(mut self) -> Result<End, ReachError> {
        while self.next().await.is_some() {}
        self.ended().await
    }

    /// Writes `stdin`, closes it, and gathers at most `most` bytes of output.
    pub async fn gather(mut self, stdin: Bytes, most: usize) -> Result<Answer, ReachError> {
        let input = self.input.take();
        let feed = async move {
            if let Some(input) = input.filter(|_| !stdin.is_empty()) {
                // A command may well end without reading all of it.
                let _ = input.write(stdin).await;
            }
            Ok(())
        };
        let read = async {
            let (mut stdout, mut stderr) = (BytesMut::new(), BytesMut::new());
            while let Some(chunk) = self.next().await {
                let (stream, bytes) = match &chunk {
                    Chunk::Stdout(bytes) => (&mut stdout, bytes),
                    Chunk::Stderr(bytes) => (&mut stderr, bytes),
                };
                stream.extend_from_slice(bytes);
                if stdout.len() + stderr.len() > most {
                    return Err(ReachError::TooMuch { host: self.host.clone(), most });
                }
            }
            Ok((stdout.freeze(), stderr.freeze()))
        };
        let ((stdout, stderr), ()) = tokio::try_join!(read, feed)?;
        Ok(Answer { stdout, stderr, end: self.ended().await? })
    }

    async fn ended(&mut self) -> Result<End, ReachError> {
        let lost = || ReachError::Lost {
            host: self.host.clone(),
            reason: String::from("its loop has ended"),
        };
        (&mut self.end).await.unwrap_or_else(|_| Err(lost()))
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        self.output.close();
        self.wake.wake();
    }
}
