//! The roster: who the members are, and the one link to each that is remote.
//!
//! Theory of operation: rows are changed in the store's transaction alone, with
//! their event; what is in memory here is a copy of the newest row that was seen
//! committed, so a status costs no query and no connection. A member is reached
//! before anything about it is stored. A loop per link turns what the keepalive
//! sees into events, and compares again until it could be stored. A caller who
//! may not see a member is told that there is none.

mod ask;
mod change;
mod error;
mod events;
mod handle;
mod keep;
mod keys;
mod local;
mod permissions;
mod probe;
mod profile;
mod state;
mod trust;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::FleetError;
use crate::bus::Bus;
use crate::model::{Member, MemberId, Principal};
use crate::reach::Reach;
use crate::store::StoreError;

pub use change::Settled;
pub use error::RosterError;
pub use handle::{MemberHandle, Standing};
pub use permissions::{Permissions, PermissionsSpec, Role};
pub use profile::MemberChange;

/// What the roster is built from.
#[derive(Clone)]
pub struct RosterOptions {
    /// Where machines are reached from.
    pub reach: Reach,
    /// The folder of keys that fleetd made; made when the first one is.
    pub keys: PathBuf,
}

/// The roster; clones share it.
#[derive(Clone)]
pub struct Roster(Arc<Inner>);

struct Inner {
    bus: Bus,
    reach: Reach,
    keys: PathBuf,
    /// Never held across an await.
    members: Mutex<HashMap<MemberId, Arc<MemberHandle>>>,
    tracker: TaskTracker,
    closing: CancellationToken,
}

impl Roster {
    /// A roster with the built-in member alone.
    pub fn new(options: RosterOptions, bus: Bus) -> Self {
        let roster = Self(Arc::new(Inner {
            bus,
            reach: options.reach,
            keys: options.keys,
            members: Mutex::default(),
            tracker: TaskTracker::new(),
            closing: CancellationToken::new(),
        }));
        roster.0.insert(local::member());
        roster
    }

    /// Takes the members from the store and begins to connect to them.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn load(&self) -> Result<(), FleetError> {
        let read =
            self.0.bus.store().read(|snapshot| {
                Ok::<_, StoreError>((snapshot.members()?, snapshot.member_rows()?))
            });
        let (rows, all) = read.await?;
        // A row that is not understood may name a key.
        if rows.len() == all {
            self.0.sweep_keys(&rows).await;
        }
        for row in rows {
            let row = if row.id == MemberId::LOCAL { local::awake(row) } else { row };
            let handle = self.0.insert(row);
            self.0.connect(&handle);
        }
        Ok(())
    }

    /// The member that a caller means: by id, which wins and may be a name as
    /// well, or by name, whose case does not matter; the local one if neither
    /// is given.
    ///
    /// # Errors
    /// [`FleetError::NoMember`], also for one that `principal` may not see.
    pub fn resolve(
        &self,
        principal: &Principal,
        member_id: Option<&str>,
        member_name: Option<&str>,
    ) -> Result<Arc<MemberHandle>, FleetError> {
        let Some(asked) = member_id.or(member_name) else { return self.get(MemberId::LOCAL) };
        let id = asked.parse::<MemberId>().ok();
        let members = self.0.members();
        let by_name = || members.values().find(|handle| handle.member().name.is(asked));
        id.and_then(|id| members.get(&id))
            .or_else(by_name)
            .filter(|handle| handle.member().visible_to(principal))
            .cloned()
            .ok_or_else(|| FleetError::NoMember(asked.chars().take(64).collect()))
    }

    /// The member of this id, for the daemon's own use: nobody's rights are asked.
    ///
    /// # Errors
    /// [`FleetError::NoMember`] if it was removed.
    pub fn get(&self, id: MemberId) -> Result<Arc<MemberHandle>, FleetError> {
        let found = self.0.members().get(&id).cloned();
        found.ok_or_else(|| FleetError::NoMember(id.to_string()))
    }

    /// The member of this name, for the daemon's own use: what a task's row holds.
    ///
    /// # Errors
    /// [`FleetError::NoMember`] if it was removed.
    pub fn named(&self, name: &str) -> Result<Arc<MemberHandle>, FleetError> {
        let members = self.0.members();
        let found = members.values().find(|handle| handle.member().name.is(name));
        found.cloned().ok_or_else(|| FleetError::NoMember(name.to_owned()))
    }

    /// The members that `principal` may see: the built-in one first, then by name.
    pub fn list(&self, principal: &Principal) -> Vec<Arc<MemberHandle>> {
        let handles: Vec<_> = self.0.members().values().cloned().collect();
        let mut rows: Vec<_> =
            handles.into_iter().map(|handle| (handle.member(), handle)).collect();
        rows.retain(|(row, _)| row.visible_to(principal));
        rows.sort_by_cached_key(|(row, _)| {
            (row.id != MemberId::LOCAL, row.name.as_str().to_ascii_lowercase())
        });
        rows.into_iter().map(|(_, handle)| handle).collect()
    }

    /// Lets go of every link. Members stay what they are.
    pub async fn close(&self) {
        self.0.closing.cancel();
        self.0.tracker.close();
        self.0.tracker.wait().await;
        let handles: Vec<_> = self.0.members().values().cloned().collect();
        for handle in handles {
            handle.unlink();
        }
        self.0.reach.close().await;
    }
}

impl Inner {
    fn members(&self) -> MutexGuard<'_, HashMap<MemberId, Arc<MemberHandle>>> {
        // Changed by whole steps only; a panic elsewhere cannot tear it.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a row that is committed.
    fn insert(&self, row: Member) -> Arc<MemberHandle> {
        let id = row.id;
        let handle = Arc::new(MemberHandle::new(row));
        self.members().insert(id, Arc::clone(&handle));
        handle
    }

    /// Links a remote member as its row says, and watches the link. The link it
    /// had before is let go of, and its loop ends: a late word of an old
    /// connection is never taken for the new one's.
    fn connect(self: &Arc<Self>, handle: &Arc<MemberHandle>) {
        let member = handle.member();
        let Some(remote) = member.remote() else { return };
        let link = self.reach.link(&ask::target(remote, false));
        let ended = self.closing.child_token();
        handle.relink(link.clone(), ended.clone());
        let keep = keep::keep(Arc::clone(self), Arc::clone(handle), link, ended);
        self.tracker.spawn(keep);
    }
}
