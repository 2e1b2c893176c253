//! Our standard input on its way to a task.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use anyhow::Context;
use bytes::Bytes;
use tokio::io::AsyncReadExt;

use crate::client::{Backoff, Client, ClientError};
use crate::model::{ErrorCode, TaskId};

/// What the command reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nothing.
    Closed,
    /// What we read.
    Ours,
}

/// The most of one piece.
const PIECE: usize = 64 * 1024;

impl Source {
    /// Pipes and files pass through; a terminal does when it is asked to, since
    /// a program that reads it by habit would take what is meant for the shell.
    pub fn of_stdin(interactive: bool) -> Self {
        let stdin = std::io::stdin();
        if (stdin.is_terminal() && !interactive) || is_null(stdin.as_fd()) {
            Self::Closed
        } else {
            Self::Ours
        }
    }
}

/// Whether this is /dev/null, which has nothing to pass on.
fn is_null(fd: std::os::fd::BorrowedFd<'_>) -> bool {
    let device = || {
        let ours = std::fs::File::from(fd.try_clone_to_owned().ok()?).metadata().ok()?;
        let null = std::fs::metadata("/dev/null").ok()?;
        Some(ours.rdev() == null.rdev() && ours.mode() == null.mode())
    };
    device().unwrap_or(false)
}

/// Passes standard input on, piece by piece, until it ends or the task does.
/// The offset makes it harmless to send a piece again after a break.
///
/// # Errors
/// If it cannot be read, or is refused while the task runs.
pub async fn feed(client: &Client, id: TaskId, source: Source) -> anyhow::Result<()> {
    if source == Source::Closed {
        return Ok(());
    }
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; PIECE];
    let mut offset = 0;
    loop {
        let count = stdin.read(&mut buffer).await.context("cannot read it")?;
        let piece = Bytes::copy_from_slice(&buffer[..count]);
        match send(client, id, offset, piece).await {
            Ok(()) if count == 0 => return Ok(()),
            Ok(()) => offset += count as u64,
            // The command does not read any more: it has ended or closed it.
            Err(ClientError::Refused {
                code: ErrorCode::Conflict | ErrorCode::InvalidArgument | ErrorCode::NotFound,
                ..
            }) => return close().context("cannot close it"),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Lets go of our end of the pipe, so that whoever writes to it is told, as the
/// command itself would have told it: by `EPIPE` and `SIGPIPE`.
fn close() -> anyhow::Result<()> {
    let nothing = std::fs::File::open("/dev/null")?;
    nix::unistd::dup2_stdin(nothing)?;
    Ok(())
}

/// Sends one piece, or the end if it is empty, until the daemon has it.
async fn send(client: &Client, id: TaskId, offset: u64, piece: Bytes) -> Result<(), ClientError> {
    let mut backoff = Backoff::default();
    let end = piece.is_empty();
    loop {
        match client.input(id, offset, piece.clone(), end).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_passing() => backoff.grow(),
            Err(error) => return Err(error),
        }
        backoff.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn nothing_is_told_from_something() {
        assert!(is_null(File::open("/dev/null").unwrap().as_fd()));
        assert!(!is_null(File::open("/dev/zero").unwrap().as_fd()));
        assert!(!is_null(tempfile::tempfile().unwrap().as_fd()));
    }
}
