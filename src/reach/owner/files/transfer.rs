//! A file on its way.

use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use bytes::{Buf, Bytes, BytesMut};
use ssh2::{File, Sftp};
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::{mpsc, oneshot};

use super::super::{Cx, Fatal, Look, is_of_a_channel, unless_blocked};
use super::{Job, Reply, failed, open_for, stat_of};
use crate::reach::error::{FileProblem, ReachError};
use crate::reach::files::{DownloadEnds, Put, UploadEnds};
use crate::reach::plain::plain;

/// Bytes of an upload that are under way or about to be. The library splits
/// them into packets and waits for the first answer only when all have left.
const UNDER_WAY: usize = 2 * 1024 * 1024;

/// Pieces between the loop and a handle; full: one of them waits.
const PIECES: usize = 8;

/// The end of an upload as its caller wants it; `Err`: the caller is gone.
type Finish = oneshot::Receiver<bool>;

pub struct Transfer {
    path: String,
    stage: Stage,
}

enum Stage {
    OpenPut { put: Put, reply: Reply<UploadEnds> },
    Put(Box<Upload>),
    OpenGet { offset: u64, reply: Reply<DownloadEnds> },
    StatGet { file: File, offset: u64, reply: Reply<DownloadEnds> },
    Get { file: File, bytes: mpsc::Sender<Result<Bytes, ReachError>>, held: bool },
}

struct Upload {
    file: File,
    incoming: mpsc::Receiver<Bytes>,
    buffer: BytesMut,
    written: u64,
    finish: Finish,
    /// What is left to do when all bytes are confirmed; `None`: more may come.
    ending: Option<Ending>,
    done: Reply<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Sync,
    Close,
}

impl Transfer {
    pub fn put(path: String, put: Put, reply: Reply<UploadEnds>) -> Self {
        Self { path, stage: Stage::OpenPut { put, reply } }
    }

    pub fn get(path: String, offset: u64, reply: Reply<DownloadEnds>) -> Self {
        Self { path, stage: Stage::OpenGet { offset, reply } }
    }

    pub fn reads(&self) -> bool {
        !matches!(self.stage, Stage::Get { held: true, .. })
    }

    pub fn bury(self, error: &ReachError) {
        match self.stage {
            Stage::Put(upload) => {
                // Nobody may wait for it any more.
                let _ = upload.done.send(Err(error.clone()));
            }
            Stage::Get { bytes, .. } => {
                // A handle that is full learns it from the channel's end.
                let _ = bytes.try_send(Err(error.clone()));
            }
            _ => {}
        }
    }

    pub fn work(self, sftp: &Sftp, cx: &mut Cx<'_>) -> Result<(Option<Job>, Look), Fatal> {
        let path = self.path;
        match self.stage {
            Stage::OpenPut { put, reply } => match unless_blocked(open_for(sftp, &path, put)) {
                Ok(None) => Ok(waits(path, Stage::OpenPut { put, reply })),
                Ok(Some(mut file)) => {
                    seek(&mut file, put.offset)?;
                    let (ends, upload) = Upload::new(file);
                    // Nobody may wait for it any more: the upload sees it.
                    let _ = reply.send(Ok(ends));
                    Ok(moved(path, Stage::Put(Box::new(upload))))
                }
                Err(error) => {
                    let _ = reply.send(Err(failed(&error, "writing", &path, cx.host)?));
                    Ok((None, Look::Moved))
                }
            },
            Stage::Put(upload) => upload.work(path, cx),
            Stage::OpenGet { offset, reply } => match unless_blocked(sftp.open(Path::new(&path))) {
                Ok(None) => Ok(waits(path, Stage::OpenGet { offset, reply })),
                Ok(Some(file)) => Ok(moved(path, Stage::StatGet { file, offset, reply })),
                Err(error) => {
                    let _ = reply.send(Err(failed(&error, "reading", &path, cx.host)?));
                    Ok((None, Look::Moved))
                }
            },
            Stage::StatGet { mut file, offset, reply } => match unless_blocked(file.stat()) {
                Ok(None) => Ok(waits(path, Stage::StatGet { file, offset, reply })),
                Ok(Some(stat)) => {
                    seek(&mut file, offset)?;
                    let (bytes, incoming) = mpsc::channel(PIECES);
                    let ends = DownloadEnds { stat: stat_of(&stat), bytes: incoming };
                    let _ = reply.send(Ok(ends));
                    Ok(moved(path, Stage::Get { file, bytes, held: false }))
                }
                Err(error) => {
                    let _ = reply.send(Err(failed(&error, "reading", &path, cx.host)?));
                    Ok((Some(Job::Close(file)), Look::Moved))
                }
            },
            Stage::Get { file, bytes, .. } => get(path, file, bytes, cx),
        }
    }
}

fn waits(path: String, stage: Stage) -> (Option<Job>, Look) {
    (Some(Job::Transfer(Transfer { path, stage })), Look::Waits)
}

fn moved(path: String, stage: Stage) -> (Option<Job>, Look) {
    (Some(Job::Transfer(Transfer { path, stage })), Look::Moved)
}

/// Only notes the place; nothing is sent.
fn seek(file: &mut File, offset: u64) -> Result<(), Fatal> {
    file.seek(SeekFrom::Start(offset)).map(drop).map_err(|error| Fatal(error.to_string()))
}

/// The error of a call that spoke as a file, unless the session is over.
fn io_failed(
    error: &std::io::Error,
    what: &'static str,
    path: &str,
    cx: &Cx<'_>,
) -> Result<ReachError, Fatal> {
    cx.broken(error)?;
    let kind = match error.kind() {
        ErrorKind::NotFound => FileProblem::NotFound,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => FileProblem::NoSpace,
        _ => FileProblem::Other,
    };
    let (host, path) = (cx.host.to_owned(), plain(path, 512));
    Ok(ReachError::File { host, what, path, kind, problem: plain(&error.to_string(), 160) })
}

impl Upload {
    fn new(file: File) -> (UploadEnds, Self) {
        let (bytes, incoming) = mpsc::channel(PIECES);
        let (finish, finishing) = oneshot::channel();
        let (done, ended) = oneshot::channel();
        let upload = Self {
            file,
            incoming,
            buffer: BytesMut::new(),
            written: 0,
            finish: finishing,
            ending: None,
            done,
        };
        (UploadEnds { bytes, finish, done: ended }, upload)
    }

    fn work(mut self: Box<Self>, path: String, cx: &Cx<'_>) -> Result<(Option<Job>, Look), Fatal> {
        let ended = self.fill();
        if !self.buffer.is_empty() {
            return match self.file.write(&self.buffer) {
                Ok(n) => {
                    self.buffer.advance(n);
                    self.written += n as u64;
                    Ok(moved(path, Stage::Put(self)))
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    Ok(waits(path, Stage::Put(self)))
                }
                Err(error) => {
                    let error = io_failed(&error, "writing", &path, cx)?;
                    Ok(self.fail(error))
                }
            };
        }
        if !ended {
            return Ok(waits(path, Stage::Put(self)));
        }
        let ending = match self.ending {
            Some(ending) => ending,
            None => match self.finish.try_recv() {
                Ok(true) => Ending::Sync,
                Ok(false) => Ending::Close,
                // The handle was dropped: what was written stays, nobody is told.
                Err(_) => return Ok((Some(Job::Close(self.file)), Look::Moved)),
            },
        };
        self.ending = Some(ending);
        let ended = match ending {
            Ending::Sync => unless_blocked(self.file.fsync()),
            Ending::Close => unless_blocked(self.file.close()),
        };
        match ended {
            Ok(None) => Ok(waits(path, Stage::Put(self))),
            Ok(Some(())) if ending == Ending::Sync => {
                self.ending = Some(Ending::Close);
                Ok(moved(path, Stage::Put(self)))
            }
            Ok(Some(())) => {
                let _ = self.done.send(Ok(self.written));
                Ok((None, Look::Moved))
            }
            // A server that knows no sync has done what it can.
            Err(error) if ending == Ending::Sync && is_of_a_channel(&error) => {
                self.ending = Some(Ending::Close);
                Ok(moved(path, Stage::Put(self)))
            }
            Err(error) => {
                let error = failed(&error, "closing", &path, cx.host)?;
                let _ = self.done.send(Err(error));
                Ok((None, Look::Moved))
            }
        }
    }

    /// Takes what has come; `true`: no more will.
    fn fill(&mut self) -> bool {
        while self.buffer.len() < UNDER_WAY {
            match self.incoming.try_recv() {
                Ok(bytes) => self.buffer.extend_from_slice(&bytes),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
        false
    }

    fn fail(self, error: ReachError) -> (Option<Job>, Look) {
        // Its writer sees the channel closed, and asks here why.
        drop(self.incoming);
        let _ = self.done.send(Err(error));
        (Some(Job::Close(self.file)), Look::Moved)
    }
}

fn get(
    path: String,
    mut file: File,
    bytes: mpsc::Sender<Result<Bytes, ReachError>>,
    cx: &mut Cx<'_>,
) -> Result<(Option<Job>, Look), Fatal> {
    let (next, look) = match bytes.try_reserve() {
        // Read enough.
        Err(TrySendError::Closed(())) => (None, Look::Moved),
        Err(TrySendError::Full(())) => (Some(true), Look::Waits),
        Ok(permit) => {
            let scratch = cx.scratch();
            match file.read(scratch) {
                Ok(n) => {
                    // An empty piece says that this was the whole file.
                    permit.send(Ok(Bytes::copy_from_slice(&scratch[..n])));
                    ((n > 0).then_some(false), Look::Moved)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => (Some(false), Look::Waits),
                Err(error) => {
                    permit.send(Err(io_failed(&error, "reading", &path, cx)?));
                    (None, Look::Moved)
                }
            }
        }
    };
    Ok(match next {
        Some(held) => {
            (Some(Job::Transfer(Transfer { path, stage: Stage::Get { file, bytes, held } })), look)
        }
        None => (Some(Job::Close(file)), look),
    })
}
