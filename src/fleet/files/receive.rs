//! From a member that is reached by SSH to this machine.
//!
//! While the files come, the member hashes them: the two take the time of one.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::error::{TransferError, shown};
use super::far::{self, Far, sh};
use super::folder::{Folder, Sink};
use super::plan::{Limits, OWN, Plan, PlannedFile};
use super::progress::Progress;
use super::pump::{Cuts, Pump, WORTH_RESUMING, joined, unless, within};
use super::script;
use crate::reach::{Download, EntryKind, Files, Link};

/// Pieces between the wire and the thread that writes; full: the wire waits.
const PIECES: usize = 4;

/// What is asked for.
pub struct Wanted {
    pub paths: Vec<String>,
    pub dest: PathBuf,
    pub limits: Limits,
    pub umask: u32,
}

/// Permission bits as a command of the caller's would have given them.
pub fn usual(mode: u32, umask: u32) -> u32 {
    // Ours to write in any case: a part of it may have to be gone on with.
    mode & 0o777 & !umask | 0o600
}

pub struct Receive {
    far: Far,
    wanted: Wanted,
    progress: Arc<Progress>,
    going: Option<Going>,
}

/// What is known once the member was asked.
struct Going {
    pump: Pump,
    /// The member's work folder without links.
    root: String,
    dest: Folder,
    stage: Folder,
    stage_name: String,
    umask: u32,
}

impl Receive {
    pub fn new(far: Far, wanted: Wanted, progress: &Arc<Progress>) -> Self {
        Self { far, wanted, progress: Arc::clone(progress), going: None }
    }

    /// Carries it out, across cuts; what was passed over.
    pub async fn run(
        mut self,
        stop: &CancellationToken,
    ) -> Result<(Vec<String>, u64), TransferError> {
        let mut cuts = Cuts::default();
        let mut again = false;
        loop {
            match unless(stop, self.attempt(again)).await {
                Ok(skipped) => return Ok(skipped),
                Err(error) => {
                    let resumable = error.may_resume();
                    let given_up = unless(stop, cuts.after(error, &self.progress)).await;
                    if given_up.is_err() && !resumable {
                        self.clear();
                    }
                    given_up?;
                }
            }
            again = true;
            if let Some(going) = &mut self.going {
                going.pump.parts = true;
            }
        }
    }

    async fn attempt(&mut self, again: bool) -> Result<(Vec<String>, u64), TransferError> {
        let link = self.far.up(again).await?;
        self.progress.waiting(None);
        let files = link.files().await?;
        let going = match &mut self.going {
            Some(going) => going,
            none => none.insert(begin(&self.far, &self.wanted, &self.progress, &files).await?),
        };
        going.carry(&link, &files).await?;
        let plan = Arc::clone(&going.pump.plan);
        self.clear();
        Ok((plan.skipped.clone(), plan.skipped_count))
    }

    /// Removes what has not come to its place.
    fn clear(&self) {
        if let Some(going) = &self.going {
            going.dest.clear(&going.stage_name);
        }
    }
}

/// Finds out what there is, and makes the folders for it.
async fn begin(
    member: &Far,
    wanted: &Wanted,
    progress: &Arc<Progress>,
    files: &Files,
) -> Result<Going, TransferError> {
    let folder = member.work_folder();
    let root = within(files.real_path(&folder)).await?;
    let mut plan = Plan::new(wanted.limits, cfg!(target_os = "macos"), "")?;
    far::plan(files, &root, &folder, &wanted.paths, &mut plan).await?;
    let stage_name = format!("{OWN}{}", plan.key(&root));
    let (path, umask) = (wanted.dest.clone(), wanted.umask);
    let mode = 0o777 & !umask;
    let (dirs, name) = (plan.dirs.clone(), stage_name.clone());
    let made = tokio::task::spawn_blocking(move || {
        let shown = path.display().to_string();
        let dest = Folder::make(&path, mode)
            .map_err(|error| TransferError::io("making the folder", &shown, &error))?;
        for dir in dirs.iter().filter(|dir| !dir.is_empty()) {
            dest.make_dir(dir, mode)?;
        }
        dest.make_dir(&name, 0o700)?;
        let stage = dest.enter(&name)?;
        Ok((dest, stage))
    });
    let (dest, stage) = joined(made).await?;
    let pump = Pump::new(plan, Vec::new(), progress);
    Ok(Going { pump, root, dest, stage, stage_name, umask })
}

impl Going {
    async fn carry(&mut self, link: &Link, files: &Files) -> Result<(), TransferError> {
        while !self.pump.is_done() {
            let end = self.pump.batch_end();
            let plan = Arc::clone(&self.pump.plan);
            let batch: Vec<&PlannedFile> = plan.files[self.pump.next..end].iter().collect();
            let bytes = batch.iter().map(|file| file.bytes).sum();
            let hashing = sh(link, script::hashes(&self.root, &batch), bytes);
            let (said, ()) = tokio::try_join!(hashing, self.download_until(link, files, end))?;
            if said.sums.len() != batch.len() {
                return Err(TransferError::Shell(String::from("it did not hash every file")));
            }
            let hashes = self.pump.hashes.iter().zip(&said.sums).zip(&batch);
            for ((hash, sum), file) in hashes {
                if hash != sum {
                    return Err(TransferError::Mismatch(shown(&file.from)));
                }
            }
            self.place(end).await?;
        }
        Ok(())
    }

    async fn download_until(
        &mut self,
        link: &Link,
        files: &Files,
        end: usize,
    ) -> Result<(), TransferError> {
        while self.pump.next + self.pump.hashes.len() < end {
            let hash = self.download(link, files).await?;
            self.pump.hashes.push(hash);
        }
        Ok(())
    }

    /// Brings the current file into the stage; its hash.
    async fn download(&mut self, link: &Link, files: &Files) -> Result<String, TransferError> {
        let (index, file) = self.pump.current();
        let file = file.clone();
        let changed = || TransferError::Changed(shown(&file.from));
        self.pump.progress.current(Some(&self.pump.plan.path(&file)));
        let path = far::path(&self.root, &file);
        let mut sink = self.sink(link, &path, &index.to_string(), file.bytes).await?;
        let mut left = file.bytes - sink.bytes();
        self.pump.count(sink.bytes());
        if left > 0 {
            let mut download = within(files.get(&path, sink.bytes())).await?;
            let stat = download.stat();
            if stat.kind != EntryKind::File || stat.bytes != file.bytes {
                return Err(changed());
            }
            let (sender, mut pieces) = mpsc::channel::<Bytes>(PIECES);
            let writing = tokio::task::spawn_blocking(move || {
                while let Some(piece) = pieces.blocking_recv() {
                    sink.write(&piece)?;
                }
                Ok(sink)
            });
            let came = self.pass_on(&mut download, &sender, &mut left).await;
            drop(sender);
            sink = joined(writing).await?;
            if !came? || left > 0 {
                return Err(changed());
            }
        }
        let hash = sink.hash();
        sink.finish(usual(file.mode, self.umask))?;
        Ok(hash)
    }

    /// Passes `left` bytes on, and not one more, whatever is sent. `false`: more came.
    async fn pass_on(
        &self,
        download: &mut Download,
        sender: &mpsc::Sender<Bytes>,
        left: &mut u64,
    ) -> Result<bool, TransferError> {
        while *left > 0 {
            let Some(piece) = within(download.next()).await? else { break };
            let bytes = piece.len() as u64;
            if bytes > *left {
                return Ok(false);
            }
            *left -= bytes;
            // The thread that writes has failed, and will say why.
            if sender.send(piece).await.is_err() {
                break;
            }
            self.pump.progress.add(bytes);
        }
        Ok(true)
    }

    /// Where the current file is written: after the part that is there, if its
    /// hash is the member's.
    async fn sink(
        &mut self,
        link: &Link,
        path: &str,
        staged: &str,
        bytes: u64,
    ) -> Result<Sink, TransferError> {
        let (stage, name) = (self.stage.clone(), staged.to_owned());
        if self.pump.parts && bytes >= WORTH_RESUMING {
            let resumed = tokio::task::spawn_blocking(move || Sink::resume(&stage, &name));
            // None there is nothing to resume.
            if let Ok(sink) = joined(resumed).await
                && (1..=bytes).contains(&sink.bytes())
            {
                let said = sh(link, script::prefix(path, sink.bytes()), sink.bytes()).await?;
                if said.sums.first() == Some(&sink.hash()) {
                    return Ok(sink);
                }
            }
        }
        let (stage, name) = (self.stage.clone(), staged.to_owned());
        joined(tokio::task::spawn_blocking(move || Sink::begin(&stage, &name))).await
    }

    async fn place(&mut self, end: usize) -> Result<(), TransferError> {
        let (stage, dest) = (self.stage.clone(), self.dest.clone());
        let (plan, next) = (Arc::clone(&self.pump.plan), self.pump.next);
        let placing = tokio::task::spawn_blocking(move || {
            for (index, file) in plan.files[..end].iter().enumerate().skip(next) {
                dest.place(&stage, &index.to_string(), &plan.path(file))?;
            }
            Ok(())
        });
        joined(placing).await?;
        self.pump.placed();
        Ok(())
    }
}
