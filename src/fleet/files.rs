//! Files between this machine and the members.
//!
//! Theory of operation: a transfer is a row that is `running` or has ended, and
//! a loop that carries a *plan* out: first everything there is to copy is found
//! and held against the bounds, then file after file is brought into a *stage*
//! at the destination, hashed on both sides, and renamed into its place. A cut
//! is waited for, and what lies in the stage is gone on with when the hash of
//! that part is the same on both sides; the stage is named after the plan, so
//! the same call made again finds it. A daemon that ends leaves the row running:
//! the next one tells that it was interrupted.
//!
//! On this machine folders are handles, and no link below them is followed; what
//! is read and written is at the authority of the daemon's user, like a command.
//! On a member the stage lies beside the work folder, not in it, and its `sh`
//! does the renaming from within a folder that it has checked.

mod book;
mod error;
mod far;
mod folder;
mod here;
mod plan;
mod progress;
mod pump;
mod receive;
mod row;
mod script;
mod send;
mod work;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Fleet, FleetError, MemberHandle};
use crate::model::{Direction, Principal, Project, TaskId, TaskState, Transfer};
use crate::store::StoreError;

pub use book::Transfers;
pub use error::TransferError;

use error::shown;
use work::{Doing, Work};

/// What to send.
#[derive(Clone, Debug)]
pub struct SendSpec {
    /// Files, folders and patterns on this machine; below the home folder if relative.
    pub paths: Vec<String>,
    /// Below the work folder.
    pub dest: String,
    /// Values of `{{TOKEN}}` in the files.
    pub substitutions: BTreeMap<String, String>,
    pub project: Project,
}

/// What to receive.
#[derive(Clone, Debug)]
pub struct ReceiveSpec {
    /// Files, folders and patterns below the work folder.
    pub paths: Vec<String>,
    /// A folder of this machine; below the home folder if relative.
    pub dest: String,
    pub project: Project,
}

impl Fleet {
    fn transfers(&self) -> &Transfers {
        &self.0.transfers
    }

    /// Takes a transfer to a member: it is durable and under way when this returns.
    ///
    /// # Errors
    /// [`TransferError`] for what can never be, or why it could not be stored.
    pub async fn send(
        &self,
        principal: &Principal,
        handle: Arc<MemberHandle>,
        mut spec: SendSpec,
    ) -> Result<Transfer, FleetError> {
        spec.dest = plan::relative(&below(&spec.dest, &handle.member().work_folder))?;
        if let Some(bad) = spec.substitutions.keys().find(|name| !here::is_name(name)) {
            let problem = format!("has the name '{}'; use letters, digits and _", shown(bad));
            return Err(FleetError::Invalid { argument: "substitutions", problem });
        }
        spec.paths = spec.paths.iter().map(|path| row::of_home(path)).collect();
        row::check(&spec.paths, "local_paths")?;
        let title = format!("send {} to {}", row::titled(&spec.paths), shown(&spec.dest));
        self.transfer(principal, handle, spec.project.clone(), title, Work::Send(spec)).await
    }

    /// Takes a transfer from a member: it is durable and under way when this returns.
    ///
    /// # Errors
    /// [`TransferError`] for what can never be, or why it could not be stored.
    pub async fn receive(
        &self,
        principal: &Principal,
        handle: Arc<MemberHandle>,
        mut spec: ReceiveSpec,
    ) -> Result<Transfer, FleetError> {
        row::check(&spec.paths, "remote_paths")?;
        spec.dest = row::of_home(&spec.dest);
        row::check(std::slice::from_ref(&spec.dest), "local_dest_dir")?;
        let title = format!("receive {} into {}", row::titled(&spec.paths), shown(&spec.dest));
        self.transfer(principal, handle, spec.project.clone(), title, Work::Receive(spec)).await
    }

    async fn transfer(
        &self,
        principal: &Principal,
        handle: Arc<MemberHandle>,
        project: Project,
        title: String,
        work: Work,
    ) -> Result<Transfer, FleetError> {
        if !principal.sees(&project) {
            let problem = String::from("is not one of yours");
            return Err(FleetError::Invalid { argument: "project", problem });
        }
        let transfers = self.transfers();
        let direction = match &work {
            Work::Send(_) => Direction::Send,
            Work::Receive(_) => Direction::Receive,
        };
        let row = row::new(principal, &handle, project, title, direction);
        let doing = Doing {
            handle,
            work,
            limits: transfers.limits(),
            umask: self.0.umask(),
            home: std::env::home_dir().unwrap_or_else(|| PathBuf::from("/")),
        };
        transfers.take(row.clone(), doing, self.keeps()).await?;
        Ok(row)
    }

    /// Waits until a transfer has ended. Dropping the wait does nothing to it.
    ///
    /// # Errors
    /// [`FleetError::NoTask`]; `Closed` if the daemon goes down before.
    pub async fn wait_transfer(
        &self,
        principal: &Principal,
        id: TaskId,
    ) -> Result<Transfer, FleetError> {
        self.transfers().until_ended(id).await;
        let row = self.find_transfer(principal, id).await?.ok_or(FleetError::NoTask(id))?;
        if row.state.is_terminal() { Ok(row) } else { Err(StoreError::Closed.into()) }
    }

    /// The transfer of this id, if there is one that `principal` may see.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn find_transfer(
        &self,
        principal: &Principal,
        id: TaskId,
    ) -> Result<Option<Transfer>, FleetError> {
        self.transfers().visible(principal, id).await
    }

    /// Transfers that `principal` may see, newest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn list_transfers(
        &self,
        principal: &Principal,
        states: &[TaskState],
        limit: usize,
    ) -> Result<Vec<Transfer>, FleetError> {
        self.transfers().list(principal, states, limit).await
    }

    /// Asks a transfer to stop and waits for its end. One that has ended stays as it is.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn stop_transfer(
        &self,
        principal: &Principal,
        id: TaskId,
    ) -> Result<Option<Transfer>, FleetError> {
        let Some(row) = self.find_transfer(principal, id).await? else { return Ok(None) };
        self.transfers().stop(id).await;
        Ok(self.find_transfer(principal, id).await?.or(Some(row)))
    }
}

/// A path below the work folder, which may be named with it.
fn below(path: &str, work_folder: &str) -> String {
    let rest = path.strip_prefix(work_folder.trim_end_matches('/'));
    let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with('/'));
    rest.map_or(path, |rest| rest.trim_start_matches('/')).to_owned()
}
