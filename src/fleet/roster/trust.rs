//! Trusting another host key: by a person's word alone, for exactly the key
//! that the person saw.

use std::sync::Arc;

use super::profile::invalid;
use super::{MemberHandle, Roster, RosterError, ask, events};
use crate::fleet::FleetError;
use crate::model::{Member, Timestamp};
use crate::reach::HostKey;
use crate::store::StoreError;

impl Roster {
    /// The key that the member's host shows now; nothing is offered to it.
    ///
    /// # Errors
    /// [`RosterError::Reach`].
    pub async fn offered_key(&self, handle: &MemberHandle) -> Result<HostKey, FleetError> {
        let member = handle.member();
        let remote = member.remote().ok_or_else(local)?;
        let target = ask::target(remote, false);
        Ok(self.0.reach.host_key(&target).await.map_err(RosterError::Reach)?)
    }

    /// Pins the key of this fingerprint (`SHA256:…`) for the member's host, if it
    /// is the one that the host shows, and connects anew.
    ///
    /// # Errors
    /// [`RosterError::Reach`]; then what was trusted stays trusted.
    pub async fn trust(
        &self,
        handle: &Arc<MemberHandle>,
        fingerprint: &str,
    ) -> Result<HostKey, FleetError> {
        let member = handle.member();
        let remote = member.remote().ok_or_else(local)?;
        let target = ask::target(remote, false);
        let trusted = self.0.reach.trust(&target, Some(fingerprint)).await;
        let key = trusted.map_err(RosterError::Reach)?;
        let pinned = key.fingerprint.clone();
        let change = self.0.change(handle, move |row, _| {
            let mut next = Member { updated: Timestamp::now(), ..row.clone() };
            next.facts.fingerprint = Some(pinned);
            next.reachable.offered = None;
            let event = events::updated(row, &next, &["fingerprint"]).map_err(StoreError::Event)?;
            Ok(Some((next, vec![event])))
        });
        change.await?;
        if let Some(link) = handle.link() {
            link.hurry();
        }
        Ok(key)
    }
}

fn local() -> FleetError {
    invalid("member_name", "is local and has no host key")
}
