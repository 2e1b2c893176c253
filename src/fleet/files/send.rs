//! From this machine to a member that is reached by SSH.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::error::{TransferError, shown};
use super::far::{self, Far, sh};
use super::folder;
use super::pump::{Cuts, Pump, WORTH_RESUMING, joined, unless, within};
use super::script;
use crate::reach::{EntryKind, Files, Link};

/// Pieces between the thread that reads and the wire; full: the thread waits.
const PIECES: usize = 4;

/// Folders that one script makes.
const DIRS: usize = 1000;

pub struct Send {
    far: Far,
    pump: Pump,
    /// On the member, once they are known.
    root: String,
    stage: String,
    ready: bool,
}

impl Send {
    pub fn new(far: Far, pump: Pump) -> Self {
        Self { far, pump, root: String::new(), stage: String::new(), ready: false }
    }

    /// Carries the plan out, across cuts.
    pub async fn run(mut self, stop: &CancellationToken) -> Result<(), TransferError> {
        let mut cuts = Cuts::default();
        let mut again = false;
        loop {
            match unless(stop, self.attempt(again)).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    let resumable = error.may_resume();
                    let given_up = unless(stop, cuts.after(error, &self.pump.progress)).await;
                    if given_up.is_err() && !resumable {
                        self.clear().await;
                    }
                    given_up?;
                }
            }
            again = true;
            self.pump.parts = true;
        }
    }

    async fn attempt(&mut self, again: bool) -> Result<(), TransferError> {
        let link = self.far.up(again).await?;
        self.pump.progress.waiting(None);
        if !self.ready {
            self.prepare(&link).await?;
            self.ready = true;
        }
        let files = link.files().await?;
        while !self.pump.is_done() {
            let end = self.pump.batch_end();
            while self.pump.next + self.pump.hashes.len() < end {
                let hash = self.upload(&link, &files).await?;
                self.pump.hashes.push(hash);
            }
            self.place(&link).await?;
        }
        if self.pump.plan.files.is_empty() {
            self.clear().await;
        }
        Ok(())
    }

    async fn prepare(&mut self, link: &Link) -> Result<(), TransferError> {
        let folder = self.far.work_folder();
        let key = self.pump.plan.key(&folder);
        let said = sh(link, script::prepare(&folder, &key), 0).await?;
        let missing = || TransferError::Shell(String::from("it did not say where it is"));
        self.root = said.root.ok_or_else(missing)?;
        self.stage = said.stage.ok_or_else(missing)?;
        let dirs: Vec<_> = self.pump.plan.dirs.iter().map(String::as_str).enumerate().collect();
        for some in dirs.chunks(DIRS) {
            sh(link, script::make_dirs(&self.root, &self.stage, some), 0).await?;
        }
        Ok(())
    }

    /// Brings the current file into the stage; its hash.
    async fn upload(&mut self, link: &Link, files: &Files) -> Result<String, TransferError> {
        let (_, file) = self.pump.current();
        let file = file.clone();
        self.pump.progress.current(Some(&self.pump.plan.path(&file)));
        let staged = format!("{}/{}/{}", self.stage, file.dir, file.name);
        let part = self.part(link, files, &staged, file.bytes).await?;
        let (skip, known) = part.map_or((0, None), |(bytes, hash)| (bytes, Some(hash)));
        let folder = self.pump.roots[file.root].clone();
        let (sender, mut pieces) = mpsc::channel(PIECES);
        let (starts, start) = oneshot::channel();
        let (from, bytes) = (file.from.clone(), file.bytes);
        let reading = tokio::task::spawn_blocking(move || {
            let skipped = |prefix: Option<&str>| {
                let same = prefix.is_some() && prefix == known.as_deref();
                // Nobody may wait for it any more.
                let _ = starts.send(if same { skip } else { 0 });
                same
            };
            let take = |piece| sender.blocking_send(piece).is_ok();
            folder::read(folder.find(&from)?, &from, (skip, bytes), skipped, take)
        });
        let Ok(offset) = start.await else {
            let read = joined(reading).await?;
            return read.ok_or_else(|| TransferError::Changed(shown(&file.from)));
        };
        self.pump.count(offset);
        let upload = within(files.put(&staged, far::put(&file, offset))).await?;
        while let Some(piece) = pieces.recv().await {
            let bytes = piece.len() as u64;
            // Why it fails, its end will tell.
            if within(upload.write(piece)).await.is_err() {
                break;
            }
            self.pump.progress.add(bytes);
        }
        drop(pieces);
        let ended = within(upload.finish(false)).await;
        let hash = joined(reading).await?;
        ended?;
        hash.ok_or_else(|| TransferError::Changed(shown(&file.from)))
    }

    /// Bytes of the current file that are in the stage, and their hash.
    async fn part(
        &mut self,
        link: &Link,
        files: &Files,
        staged: &str,
        bytes: u64,
    ) -> Result<Option<(u64, String)>, TransferError> {
        if !self.pump.parts || bytes < WORTH_RESUMING {
            return Ok(None);
        }
        let stat = match within(files.stat_link(staged)).await {
            Ok(stat) => stat,
            Err(error) if error.is_cut() => return Err(error),
            Err(_) => return Ok(None),
        };
        if stat.kind != EntryKind::File || stat.bytes == 0 || stat.bytes > bytes {
            return Ok(None);
        }
        let said = sh(link, script::prefix(staged, stat.bytes), stat.bytes).await?;
        Ok(said.sums.into_iter().next().map(|hash| (stat.bytes, hash)))
    }

    /// Has the member compare the hashes of the batch and put it in its place.
    async fn place(&mut self, link: &Link) -> Result<(), TransferError> {
        let plan = Arc::clone(&self.pump.plan);
        let hashes = self.pump.hashes.clone();
        let batch = plan.files[self.pump.next..].iter().zip(hashes.iter().map(String::as_str));
        let bytes = batch.clone().map(|(file, _)| file.bytes).sum();
        let calls = script::calls(batch);
        let last = self.pump.next + hashes.len() == plan.files.len();
        let script = script::place(&self.root, &self.stage, &plan, &calls, last);
        let said = match sh(link, script, bytes).await {
            Err(error) if error.is_cut() => {
                // Some may have left the stage: each is looked for again.
                self.pump.hashes.clear();
                self.ready = false;
                return Err(error);
            }
            said => said?,
        };
        if said.mismatch || said.placed != calls.len() {
            let files = calls.get(said.placed).map(|call| call.files.as_slice());
            let mut pairs = files.unwrap_or_default().iter().zip(&said.sums);
            let wrong = pairs.find(|((_, hash), sum)| hash != sum).map(|((file, _), _)| file);
            let name = wrong.map_or_else(|| String::from("a file"), |file| plan.path(file));
            return Err(TransferError::Mismatch(shown(&name)));
        }
        self.pump.placed();
        Ok(())
    }

    /// Removes the stage, if the member can be asked now.
    async fn clear(&self) {
        let Some(link) = self.far.now() else { return };
        if !self.stage.is_empty()
            && let Err(error) = sh(&link, script::clear(&self.stage), 0).await
        {
            tracing::debug!(%error, "a transfer's parts were left behind");
        }
    }
}
