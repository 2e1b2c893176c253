//! What one transfer does, by its kind and its member.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::error::TransferError;
use super::far::Far;
use super::plan::Limits;
use super::progress::Progress;
use super::pump::{Pump, joined, unless};
use super::{ReceiveSpec, SendSpec, here, receive, send};
use crate::fleet::MemberHandle;
use crate::model::{MemberOs, MemberPlace};

/// Which of the two it is.
pub enum Work {
    Send(SendSpec),
    Receive(ReceiveSpec),
}

/// What the loop of a transfer needs.
pub struct Doing {
    pub handle: Arc<MemberHandle>,
    pub work: Work,
    pub limits: Limits,
    pub umask: u32,
    pub home: PathBuf,
}

/// Names that were passed over, and how many there were.
pub type Skipped = (Vec<String>, u64);

impl Doing {
    /// Carries it out; what was passed over.
    pub async fn carry(
        &self,
        progress: &Arc<Progress>,
        place: Arc<Semaphore>,
        stop: &CancellationToken,
    ) -> Result<Skipped, TransferError> {
        if place.available_permits() == 0 {
            progress.waiting(Some("other transfers with this member"));
        }
        // It is never closed.
        let _place = unless(stop, async { Ok(place.acquire().await) }).await?;
        progress.waiting(None);
        let remote = matches!(self.handle.member().place, MemberPlace::Remote(_));
        match &self.work {
            Work::Send(spec) => self.send(spec, remote, progress, stop).await,
            Work::Receive(spec) if remote => {
                let wanted = receive::Wanted {
                    paths: spec.paths.clone(),
                    dest: self.home.join(&spec.dest),
                    limits: self.limits,
                    umask: self.umask,
                };
                let far = Far::new(Arc::clone(&self.handle));
                receive::Receive::new(far, wanted, progress).run(stop).await
            }
            Work::Receive(spec) => self.receive_here(spec, progress, stop).await,
        }
    }

    async fn send(
        &self,
        spec: &SendSpec,
        remote: bool,
        progress: &Arc<Progress>,
        stop: &CancellationToken,
    ) -> Result<Skipped, TransferError> {
        let member = self.handle.member();
        let macos = member.facts.os == Some(MemberOs::Macos);
        let wanted = here::Wanted {
            paths: spec.paths.iter().map(|path| self.home.join(path)).collect(),
            within: None,
            base: spec.dest.clone(),
            limits: self.limits,
            folds: macos || (!remote && cfg!(target_os = "macos")),
            substitutions: spec.substitutions.clone(),
        };
        if !remote {
            let dest = PathBuf::from(&member.work_folder);
            return self.copy_here(wanted, dest, progress, stop).await;
        }
        let planning = tokio::task::spawn_blocking(move || here::plan(&wanted));
        let (plan, sources) = unless(stop, joined(planning)).await?;
        let skipped = (plan.skipped.clone(), plan.skipped_count);
        let pump = Pump::new(plan, sources.folders.clone(), progress);
        let far = Far::new(Arc::clone(&self.handle));
        send::Send::new(far, pump).run(stop).await?;
        Ok(skipped)
    }

    async fn receive_here(
        &self,
        spec: &ReceiveSpec,
        progress: &Arc<Progress>,
        stop: &CancellationToken,
    ) -> Result<Skipped, TransferError> {
        let root = PathBuf::from(&self.handle.member().work_folder);
        let within = root
            .canonicalize()
            .map_err(|error| TransferError::io("finding", "the work folder", &error))?;
        let wanted = here::Wanted {
            paths: spec.paths.iter().map(|path| root.join(path)).collect(),
            within: Some(within),
            base: String::new(),
            limits: self.limits,
            folds: cfg!(target_os = "macos"),
            substitutions: BTreeMap::new(),
        };
        self.copy_here(wanted, self.home.join(&spec.dest), progress, stop).await
    }

    async fn copy_here(
        &self,
        wanted: here::Wanted,
        dest: PathBuf,
        progress: &Arc<Progress>,
        stop: &CancellationToken,
    ) -> Result<Skipped, TransferError> {
        let (progress, umask) = (Arc::clone(progress), self.umask);
        let teller = Arc::clone(&progress);
        let copying = joined(tokio::task::spawn_blocking(move || {
            let (plan, sources) = here::plan(&wanted)?;
            progress.plan(plan.total);
            here::copy(&plan, &sources, &dest, umask, &progress)?;
            Ok((plan.skipped, plan.skipped_count))
        }));
        tokio::pin!(copying);
        tokio::select! {
            outcome = &mut copying => outcome,
            // The thread sees it after its next piece, and clears up.
            () = stop.cancelled() => {
                teller.stop();
                copying.await
            }
        }
    }
}
