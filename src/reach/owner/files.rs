//! A channel with the file service: one request at a time.
//!
//! A transfer keeps the wire full by itself: of a large buffer the library
//! sends every part before it waits for the first answer, and it reads ahead.

mod transfer;

use std::path::Path;
use std::time::{Duration, SystemTime};

use ssh2::{ErrorCode, File, FileStat, OpenFlags, OpenType, Sftp};
use tokio::sync::{mpsc, oneshot};

use super::{Cx, Fatal, Look, fatal, is_of_a_channel, unless_blocked};
use crate::reach::channel::Wake;
use crate::reach::connect::{code_of, text_of};
use crate::reach::error::{FileProblem, ReachError};
use crate::reach::files::{Entry, EntryKind, FileOrder, Files, Put, Stat};
use crate::reach::plain::plain;
use transfer::Transfer;

/// Requests of one handle that wait; full: their callers wait.
const ORDERS: usize = 8;

/// Names of one directory that are held in memory.
const MOST_ENTRIES: usize = 200_000;

/// The library says so at the end of a directory.
const NO_MORE: i32 = -16;

type Reply<T> = oneshot::Sender<Result<T, ReachError>>;

/// A request that is one call: answers itself when the call is through.
type Simple = Box<dyn FnMut(&Sftp, &str) -> Result<bool, Fatal> + Send>;

enum Job {
    Simple(Simple),
    OpenDir {
        path: String,
        reply: Reply<Vec<Entry>>,
    },
    ReadDir {
        dir: File,
        path: String,
        entries: Vec<Entry>,
        reply: Reply<Vec<Entry>>,
    },
    Transfer(Transfer),
    /// A file whose close is not confirmed yet.
    Close(File),
}

pub struct FilesSlot {
    // Before the service that it belongs to.
    job: Option<Job>,
    sftp: Sftp,
    orders: mpsc::Receiver<FileOrder>,
}

impl FilesSlot {
    pub fn new(sftp: Sftp, wake: &Wake, host: &str) -> (Self, Files) {
        let (sender, orders) = mpsc::channel(ORDERS);
        let files =
            Files { orders: sender, wake: wake.clone(), host: host.to_owned(), share: None };
        (Self { job: None, sftp, orders }, files)
    }

    pub fn reads(&self) -> bool {
        match &self.job {
            Some(Job::Transfer(transfer)) => transfer.reads(),
            _ => true,
        }
    }

    /// The service itself, for the next who wants one.
    pub fn into_sftp(self) -> Option<Sftp> {
        self.job.is_none().then_some(self.sftp)
    }

    pub fn look(&mut self, cx: &mut Cx<'_>) -> Result<Look, Fatal> {
        let Some(job) = self.job.take() else {
            return match self.orders.try_recv() {
                Ok(order) => {
                    self.job = Some(begin(order));
                    Ok(Look::Moved)
                }
                Err(mpsc::error::TryRecvError::Empty) => Ok(Look::Waits),
                Err(mpsc::error::TryRecvError::Disconnected) => Ok(Look::Done),
            };
        };
        let (job, look) = self.work(job, cx)?;
        self.job = job;
        Ok(look)
    }

    fn work(&self, job: Job, cx: &mut Cx<'_>) -> Result<(Option<Job>, Look), Fatal> {
        match job {
            Job::Simple(mut call) => Ok(match call(&self.sftp, cx.host)? {
                true => (None, Look::Moved),
                false => (Some(Job::Simple(call)), Look::Waits),
            }),
            Job::OpenDir { path, reply } => match unless_blocked(self.sftp.opendir(&path)) {
                Ok(None) => Ok((Some(Job::OpenDir { path, reply }), Look::Waits)),
                Ok(Some(dir)) => {
                    let entries = Vec::new();
                    Ok((Some(Job::ReadDir { dir, path, entries, reply }), Look::Moved))
                }
                Err(error) => {
                    // Nobody may wait for it any more.
                    let _ = reply.send(Err(failed(&error, "listing", &path, cx.host)?));
                    Ok((None, Look::Moved))
                }
            },
            Job::ReadDir { dir, path, entries, reply } => read_dir(dir, path, entries, reply, cx),
            Job::Transfer(transfer) => transfer.work(&self.sftp, cx),
            Job::Close(mut file) => match unless_blocked(file.close()) {
                Ok(None) => Ok((Some(Job::Close(file)), Look::Waits)),
                Ok(Some(())) => Ok((None, Look::Moved)),
                Err(error) if is_of_a_channel(&error) => Ok((None, Look::Moved)),
                Err(error) => Err(fatal(&error)),
            },
        }
    }

    /// The session has ended before the channel.
    pub fn bury(self, error: &ReachError) {
        if let Some(Job::Transfer(transfer)) = self.job {
            transfer.bury(error);
        }
        // What else waits learns it from its channel's end.
    }
}

fn begin(order: FileOrder) -> Job {
    match order {
        FileOrder::Stat { path, follow, reply } => {
            simple("looking at", path, reply, move |sftp, path| {
                let stat =
                    if follow { sftp.stat(Path::new(path)) } else { sftp.lstat(Path::new(path)) };
                stat.map(|stat| stat_of(&stat))
            })
        }
        FileOrder::List { path, reply } => Job::OpenDir { path, reply },
        FileOrder::RealPath { path, reply } => simple("finding", path, reply, |sftp, path| {
            sftp.realpath(Path::new(path)).map(|path| path.to_string_lossy().into_owned())
        }),
        FileOrder::MakeDir { path, mode, reply } => {
            let mode = i32::try_from(mode & 0o7777).unwrap_or(0o700);
            simple("making the folder", path, reply, move |sftp, path| {
                sftp.mkdir(Path::new(path), mode)
            })
        }
        FileOrder::Remove { path, reply } => {
            simple("removing", path, reply, |sftp, path| sftp.unlink(Path::new(path)))
        }
        FileOrder::RemoveDir { path, reply } => {
            simple("removing the folder", path, reply, |sftp, path| sftp.rmdir(Path::new(path)))
        }
        FileOrder::Rename { from, to, reply } => {
            simple("renaming", from, reply, move |sftp, path| {
                sftp.rename(Path::new(path), Path::new(&to), None)
            })
        }
        FileOrder::Put { path, put, reply } => Job::Transfer(Transfer::put(path, put, reply)),
        FileOrder::Get { path, offset, reply } => Job::Transfer(Transfer::get(path, offset, reply)),
    }
}

/// A job that calls `call` until it is through, whoever waits for it or not.
fn simple<T: Send + 'static>(
    what: &'static str,
    path: String,
    reply: Reply<T>,
    mut call: impl FnMut(&Sftp, &str) -> Result<T, ssh2::Error> + Send + 'static,
) -> Job {
    let mut reply = Some(reply);
    Job::Simple(Box::new(move |sftp, host| {
        let answer = match unless_blocked(call(sftp, &path)) {
            Ok(None) => return Ok(false),
            Ok(Some(value)) => Ok(value),
            Err(error) => Err(failed(&error, what, &path, host)?),
        };
        if let Some(reply) = reply.take() {
            // Nobody may wait for it any more.
            let _ = reply.send(answer);
        }
        Ok(true)
    }))
}

fn read_dir(
    mut dir: File,
    path: String,
    mut entries: Vec<Entry>,
    reply: Reply<Vec<Entry>>,
    cx: &Cx<'_>,
) -> Result<(Option<Job>, Look), Fatal> {
    let mut look = Look::Waits;
    let answer = loop {
        match unless_blocked(dir.readdir()) {
            Ok(None) => return Ok((Some(Job::ReadDir { dir, path, entries, reply }), look)),
            Ok(Some((name, stat))) => {
                look = Look::Moved;
                let name = name.to_string_lossy().into_owned();
                if ![".", ".."].contains(&name.as_str()) {
                    entries.push(Entry { name, stat: stat_of(&stat) });
                }
                if entries.len() > MOST_ENTRIES {
                    break Err(ReachError::TooMuch {
                        host: cx.host.to_owned(),
                        most: MOST_ENTRIES,
                    });
                }
            }
            Err(error) if code_of(&error) == Some(NO_MORE) => break Ok(entries),
            Err(error) => break Err(failed(&error, "listing", &path, cx.host)?),
        }
    };
    // Nobody may wait for it any more.
    let _ = reply.send(answer);
    Ok((Some(Job::Close(dir)), Look::Moved))
}

fn open_for(sftp: &Sftp, path: &str, put: Put) -> Result<File, ssh2::Error> {
    let mut flags = OpenFlags::WRITE | OpenFlags::CREATE;
    if put.offset == 0 {
        flags |= OpenFlags::TRUNCATE;
    }
    if put.exclusive {
        flags |= OpenFlags::EXCLUSIVE;
    }
    let mode = i32::try_from(put.mode & 0o7777).unwrap_or(0o600);
    sftp.open_mode(Path::new(path), flags, mode, OpenType::File)
}

fn stat_of(stat: &FileStat) -> Stat {
    let mode = stat.perm.unwrap_or(0);
    let kind = match mode & 0o170_000 {
        0o100_000 => EntryKind::File,
        0o040_000 => EntryKind::Dir,
        0o120_000 => EntryKind::Link,
        _ => EntryKind::Other,
    };
    let modified =
        stat.mtime.and_then(|at| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(at)));
    Stat { kind, bytes: stat.size.unwrap_or(0), mode: mode & 0o7777, modified }
}

/// What a file request is answered with; `Err` if the session itself is over.
fn failed(
    error: &ssh2::Error,
    what: &'static str,
    path: &str,
    host: &str,
) -> Result<ReachError, Fatal> {
    if !is_of_a_channel(error) {
        return Err(fatal(error));
    }
    let kind = match error.code() {
        ErrorCode::SFTP(2 | 10) => FileProblem::NotFound,
        ErrorCode::SFTP(3 | 12) => FileProblem::Permission,
        ErrorCode::SFTP(11) => FileProblem::Exists,
        ErrorCode::SFTP(14 | 15) => FileProblem::NoSpace,
        _ => FileProblem::Other,
    };
    let (host, path) = (host.to_owned(), plain(path, 512));
    Ok(ReachError::File { host, what, path, kind, problem: text_of(error) })
}
