//! One member, for as long as it is one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::model::{Member, Timestamp};
use crate::reach::{Link, Phase};

/// A member: its row, and its link if it is remote.
pub struct MemberHandle {
    row: watch::Sender<Arc<Member>>,
    /// Never held across an await.
    linked: Mutex<Option<Linked>>,
    /// Cancelled when the member is removed.
    gone: CancellationToken,
}

struct Linked {
    link: Link,
    /// Ends the loop that watches this link.
    ended: CancellationToken,
}

/// How a member stands at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// connecting, online, suspect or offline.
    pub state: &'static str,
    pub since: Timestamp,
    /// Why it is not online.
    pub reason: Option<String>,
}

impl MemberHandle {
    pub(super) fn new(row: Member) -> Self {
        Self {
            row: watch::Sender::new(Arc::new(row)),
            linked: Mutex::default(),
            gone: CancellationToken::new(),
        }
    }

    /// The member as it was last committed.
    pub fn member(&self) -> Arc<Member> {
        Arc::clone(&self.row.borrow())
    }

    /// The link to it as it is now; `None` if it is local. A changed connection
    /// is another link, so nobody should keep one for long.
    pub fn link(&self) -> Option<Link> {
        self.linked().as_ref().map(|linked| linked.link.clone())
    }

    /// Cancelled when the member is removed from the fleet.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Whether it can be reached, from what is known here: nothing is asked.
    pub fn standing(&self) -> Standing {
        let Some(state) = self.link().map(|link| link.state().borrow().clone()) else {
            let reachable = self.member().reachable.clone();
            let state = if reachable.online { "online" } else { "offline" };
            return Standing { state, since: reachable.since, reason: reachable.reason };
        };
        let word = match state.phase {
            Phase::Connecting => "connecting",
            Phase::Online => "online",
            Phase::Suspect => "suspect",
            Phase::Offline => "offline",
        };
        let reason = Some(state.reason).filter(|reason| !reason.is_empty());
        Standing { state: word, since: state.since, reason }
    }

    /// Takes a newer row; an older one, whose writer was slow to come back, is
    /// passed over.
    pub(super) fn renew(&self, row: Member) {
        self.row.send_if_modified(|held| {
            let newer = row.revision > held.revision;
            if newer {
                *held = Arc::new(row);
            }
            newer
        });
    }

    pub(super) fn relink(&self, link: Link, ended: CancellationToken) {
        let old = self.linked().replace(Linked { link, ended });
        if let Some(old) = old {
            old.ended.cancel();
        }
    }

    pub(super) fn unlink(&self) {
        let old = self.linked().take();
        if let Some(old) = old {
            old.ended.cancel();
        }
    }

    /// It is no member any more.
    pub(super) fn dismiss(&self) {
        self.gone.cancel();
        self.unlink();
    }

    fn linked(&self) -> MutexGuard<'_, Option<Linked>> {
        // Changed by whole steps only; a panic elsewhere cannot tear it.
        self.linked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
