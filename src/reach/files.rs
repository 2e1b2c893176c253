//! Files at the other end (SFTP, version 3).
//!
//! One [`Files`] is one channel on which requests are answered in turn; a
//! transfer keeps many requests of its own under way. Open another `Files` for
//! what shall happen meanwhile. Paths are the member's: relative ones begin at
//! the home of its user.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::channel::Wake;
use super::error::{FileProblem, ReachError};
use super::exec::End;
use super::keeper::Keeper;
use super::plain::plain;

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Dir,
    Link,
    Other,
}

/// What is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub kind: EntryKind,
    pub bytes: u64,
    /// The permission bits.
    pub mode: u32,
    pub modified: Option<SystemTime>,
}

/// One name of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As the member spells it, which need not be UTF-8: lossy.
    pub name: String,
    pub stat: Stat,
}

/// How a file is opened for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// The first byte is written here; 0 begins anew, anything else resumes.
    pub offset: u64,
    pub mode: u32,
    /// Fails if the path exists already.
    pub exclusive: bool,
}

impl Default for Put {
    fn default() -> Self {
        Self { offset: 0, mode: 0o600, exclusive: false }
    }
}

type Reply<T> = oneshot::Sender<Result<T, ReachError>>;

/// A request to the file service.
#[derive(Debug)]
pub(super) enum FileOrder {
    Stat { path: String, follow: bool, reply: Reply<Stat> },
    List { path: String, reply: Reply<Vec<Entry>> },
    RealPath { path: String, reply: Reply<String> },
    MakeDir { path: String, mode: u32, reply: Reply<()> },
    Remove { path: String, reply: Reply<()> },
    RemoveDir { path: String, reply: Reply<()> },
    Rename { from: String, to: String, reply: Reply<()> },
    Put { path: String, put: Put, reply: Reply<UploadEnds> },
    Get { path: String, offset: u64, reply: Reply<DownloadEnds> },
}

/// The caller's ends of an upload: bytes go in, the total comes out when the
/// sender was dropped with `finish` sent before.
#[derive(Debug)]
pub(super) struct UploadEnds {
    pub bytes: mpsc::Sender<Bytes>,
    /// `true`: sync before closing. Dropped: the upload is given up.
    pub finish: oneshot::Sender<bool>,
    pub done: oneshot::Receiver<Result<u64, ReachError>>,
}

/// The caller's ends of a download.
#[derive(Debug)]
pub(super) struct DownloadEnds {
    pub stat: Stat,
    pub bytes: mpsc::Receiver<Result<Bytes, ReachError>>,
}

/// The file service of a member, on one channel.
#[derive(Debug)]
pub struct Files {
    pub(super) orders: mpsc::Sender<FileOrder>,
    pub(super) wake: Wake,
    pub(super) host: String,
    /// As long as it is there, its link is wanted.
    pub(super) share: Option<Arc<Keeper>>,
}

/// A file that is being written.
#[derive(Debug)]
pub struct Upload {
    ends: UploadEnds,
    wake: Wake,
    host: String,
}

/// A file that is being read.
#[derive(Debug)]
pub struct Download {
    ends: DownloadEnds,
    wake: Wake,
    ended: bool,
    host: String,
}

/// What `mv` may have to say.
const MOST_COMPLAINT: usize = 64 * 1024;

/// One word of a shell.
fn quoted(text: &str) -> String {
    // A path that begins with a dash is a path, too: `mv --` and `test -d`.
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn cut(host: &str) -> ReachError {
    let reason = String::from("the file channel has ended");
    ReachError::Lost { host: host.to_owned(), reason }
}

impl Files {
    async fn ask<T>(&self, order: impl FnOnce(Reply<T>) -> FileOrder) -> Result<T, ReachError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.orders.send(order(reply)).await;
        self.wake.wake();
        sent.map_err(|_| cut(&self.host))?;
        answer.await.unwrap_or_else(|_| Err(cut(&self.host)))
    }

    /// Follows links.
    pub async fn stat(&self, path: &str) -> Result<Stat, ReachError> {
        self.ask(|reply| FileOrder::Stat { path: path.to_owned(), follow: true, reply }).await
    }

    /// Says what a link is instead of following it.
    pub async fn stat_link(&self, path: &str) -> Result<Stat, ReachError> {
        self.ask(|reply| FileOrder::Stat { path: path.to_owned(), follow: false, reply }).await
    }

    /// The names in a directory, without `.` and `..`, in no order.
    pub async fn list(&self, path: &str) -> Result<Vec<Entry>, ReachError> {
        self.ask(|reply| FileOrder::List { path: path.to_owned(), reply }).await
    }

    /// The absolute path without links.
    pub async fn real_path(&self, path: &str) -> Result<String, ReachError> {
        self.ask(|reply| FileOrder::RealPath { path: path.to_owned(), reply }).await
    }

    pub async fn make_dir(&self, path: &str, mode: u32) -> Result<(), ReachError> {
        self.ask(|reply| FileOrder::MakeDir { path: path.to_owned(), mode, reply }).await
    }

    pub async fn remove(&self, path: &str) -> Result<(), ReachError> {
        self.ask(|reply| FileOrder::Remove { path: path.to_owned(), reply }).await
    }

    pub async fn remove_dir(&self, path: &str) -> Result<(), ReachError> {
        self.ask(|reply| FileOrder::RemoveDir { path: path.to_owned(), reply }).await
    }

    /// Fails if there is something at `to`: so it is with this version of SFTP.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), ReachError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.ask(|reply| FileOrder::Rename { from, to, reply }).await
    }

    /// Puts the file `from` in the place of the file `to`, at once. The library
    /// does not know OpenSSH's extension for that, so the member's `mv` does it.
    pub async fn replace(&self, from: &str, to: &str) -> Result<(), ReachError> {
        let Some(link) = &self.share else { return Err(cut(&self.host)) };
        // Said in a word, because a status of 0 may be none (see `End::Code`).
        let script = "test -d \"$2\" && exit 21; mv -f -- \"$1\" \"$2\" && echo replaced";
        let command = format!("sh -c '{script}' mv {} {}", quoted(from), quoted(to));
        let running = link.exec(&command).await?;
        let answer = running.gather(Bytes::new(), MOST_COMPLAINT).await?;
        if answer.stdout.ends_with(b"replaced\n") {
            return Ok(());
        }
        if answer.end == End::Code(0) {
            let reason = String::from("it did not say whether the file was replaced");
            return Err(ReachError::Lost { host: self.host.clone(), reason });
        }
        let problem = match answer.end {
            End::Code(21) => String::from("there is a folder in its place"),
            _ => plain(&String::from_utf8_lossy(&answer.stderr), 160),
        };
        Err(ReachError::File {
            host: self.host.clone(),
            what: "replacing",
            path: plain(to, 512),
            kind: FileProblem::Other,
            problem,
        })
    }

    /// Opens a file for writing. Other requests wait until it is finished.
    pub async fn put(&self, path: &str, put: Put) -> Result<Upload, ReachError> {
        let path = path.to_owned();
        let ends = self.ask(|reply| FileOrder::Put { path, put, reply }).await?;
        Ok(Upload { ends, wake: self.wake.clone(), host: self.host.clone() })
    }

    /// Opens a file for reading. Other requests wait until it is read or dropped.
    pub async fn get(&self, path: &str, offset: u64) -> Result<Download, ReachError> {
        let path = path.to_owned();
        let ends = self.ask(|reply| FileOrder::Get { path, offset, reply }).await?;
        Ok(Download { ends, wake: self.wake.clone(), ended: false, host: self.host.clone() })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // The loop must see the last sender gone, so this one goes first.
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.orders, closed));
        self.wake.wake();
    }
}

impl Upload {
    /// Waits for room. After an error, [`Upload::finish`] says which.
    pub async fn write(&self, bytes: Bytes) -> Result<(), ReachError> {
        let sent = self.ends.bytes.send(bytes).await;
        self.wake.wake();
        sent.map_err(|_| cut(&self.host))
    }

    /// Waits until the server has confirmed every byte and has closed the
    /// file; `sync`: after syncing it, where the server can. Returns the bytes
    /// written.
    pub async fn finish(self, sync: bool) -> Result<u64, ReachError> {
        let Self { ends, wake, host } = self;
        let UploadEnds { bytes, finish, done } = ends;
        // A loop that is gone tells why below.
        let _ = finish.send(sync);
        drop(bytes);
        wake.wake();
        done.await.unwrap_or_else(|_| Err(cut(&host)))
    }
}

impl Download {
    /// What the file was when it was opened.
    pub fn stat(&self) -> Stat {
        self.ends.stat
    }

    /// The next piece; `None` at the end of the file.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReachError> {
        if self.ended {
            return Ok(None);
        }
        let piece = self.ends.bytes.recv().await;
        self.wake.wake();
        match piece {
            Some(Ok(bytes)) if bytes.is_empty() => {
                self.ended = true;
                Ok(None)
            }
            Some(piece) => piece.map(Some),
            // A whole file ends with an empty piece.
            None => Err(cut(&self.host)),
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.ends.bytes.close();
        self.wake.wake();
    }
}
