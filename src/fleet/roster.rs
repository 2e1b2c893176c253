//! The roster: who the members are, and the one link to each that is remote.
//!
//! Theory of operation: rows are changed in the store's transaction alone, with
//! their event; what is in memory here is a copy of the newest row that was seen
//! committed, so a status costs no query and no connection. A member is refused
//! before anything about it is stored, and a caller who may not see one is told
//! that there is none.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::FleetError;
use crate::bus::Bus;
use crate::model::{
    ErrorCode, Member, MemberFacts, MemberId, MemberName, MemberOs, MemberPlace, ModelTiers,
    Principal, Reachable, Timestamp, Unattended,
};

/// Why the roster did not do it.
#[derive(Debug, thiserror::Error)]
pub enum RosterError {
    #[error("there is a member '{0}' already; names differ by more than case")]
    NameTaken(MemberName),
}

impl RosterError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NameTaken(_) => ErrorCode::Conflict,
        }
    }
}

/// The roster; clones share it.
#[derive(Clone)]
pub struct Roster(Arc<Inner>);

struct Inner {
    bus: Bus,
    /// Never held across an await.
    members: Mutex<HashMap<MemberId, Arc<MemberHandle>>>,
}

/// One member, for as long as it is one.
pub struct MemberHandle {
    row: watch::Sender<Arc<Member>>,
    /// Cancelled when the member is removed.
    gone: CancellationToken,
}

impl Roster {
    /// A roster with the built-in member alone.
    pub fn new(bus: Bus) -> Self {
        let roster = Self(Arc::new(Inner { bus, members: Mutex::default() }));
        roster.0.insert(built_in());
        roster
    }

    /// Takes the members from the store.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn load(&self) -> Result<(), FleetError> {
        let rows = self.0.bus.store().read(|snapshot| snapshot.members()).await?;
        for mut row in rows {
            if row.id == MemberId::LOCAL {
                row.reachable = built_in().reachable;
            }
            self.0.insert(row);
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
        let found = id
            .and_then(|id| members.get(&id))
            .or_else(|| members.values().find(|handle| handle.row.borrow().name.is(asked)));
        found
            .filter(|handle| handle.row.borrow().visible_to(principal))
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

    /// The members that `principal` may see: the built-in one first, then by name.
    pub fn list(&self, principal: &Principal) -> Vec<Arc<MemberHandle>> {
        let mut handles: Vec<_> = self.0.members().values().cloned().collect();
        handles.retain(|handle| handle.row.borrow().visible_to(principal));
        handles.sort_by_key(|handle| {
            let row = handle.row.borrow();
            (row.id != MemberId::LOCAL, row.name.as_str().to_ascii_lowercase())
        });
        handles
    }

    /// Lets go of every link. Members stay what they are.
    pub async fn close(&self) {}
}

impl Inner {
    fn members(&self) -> MutexGuard<'_, HashMap<MemberId, Arc<MemberHandle>>> {
        // Changed by whole steps only; a panic elsewhere cannot tear it.
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a row that is committed.
    fn insert(&self, row: Member) -> Arc<MemberHandle> {
        let id = row.id;
        let handle = Arc::new(MemberHandle {
            row: watch::Sender::new(Arc::new(row)),
            gone: CancellationToken::new(),
        });
        self.members().insert(id, Arc::clone(&handle));
        handle
    }
}

impl MemberHandle {
    /// The member as it was last committed.
    pub fn member(&self) -> Arc<Member> {
        Arc::clone(&self.row.borrow())
    }

    /// The link to it as it is now; `None` if it is local.
    pub fn link(&self) -> Option<crate::reach::Link> {
        None
    }

    /// Resolves when the member has been removed from the roster.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Takes a newer row; an older one, whose writer was slow to come back, is
    /// passed over.
    fn renew(&self, row: Member) {
        self.row.send_if_modified(|held| {
            let newer = row.revision > held.revision;
            if newer {
                *held = Arc::new(row);
            }
            newer
        });
    }
}

/// The machine that the daemon runs on. It has a row once somebody changes it.
fn built_in() -> Member {
    let now = Timestamp::now();
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
    let os = if cfg!(target_os = "macos") { MemberOs::Macos } else { MemberOs::Linux };
    let home = home.to_string_lossy().into_owned();
    Member {
        id: MemberId::LOCAL,
        name: MemberName::local(),
        place: MemberPlace::Local,
        work_folder: home.clone(),
        provider: String::from("claude"),
        models: ModelTiers::default(),
        unattended: Unattended::False,
        category: None,
        tags: Vec::new(),
        concurrency: None,
        project: None,
        facts: MemberFacts { os: Some(os), home: Some(home), ..MemberFacts::default() },
        reachable: Reachable { online: true, since: now, reason: None },
        created: now,
        updated: now,
        revision: 0,
    }
}
