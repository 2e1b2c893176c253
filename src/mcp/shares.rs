//! Places that are shared fairly: so many in all, so many for one token, and some
//! that only the owner gets, so that nobody can use up everybody's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::{Principal, PrincipalId, Scope};

/// One token has at most this part of the places, and all tokens together leave
/// as much to the owner.
const PART: u32 = 4;

/// Places of one kind.
pub struct Shares {
    all: Arc<Semaphore>,
    most: u32,
    held: Arc<Mutex<Held>>,
}

/// What tokens hold; the owner is not counted.
#[derive(Default)]
struct Held {
    each: HashMap<PrincipalId, u32>,
    together: u32,
}

/// A place that is taken; given back when it is dropped.
pub struct Share {
    /// Whose it is, and where it is counted; `None` for the owner's.
    counted: Option<(PrincipalId, Arc<Mutex<Held>>)>,
    _one: OwnedSemaphorePermit,
}

impl Shares {
    pub fn new(most: u32) -> Self {
        Self { all: Arc::new(Semaphore::new(most as usize)), most, held: Arc::default() }
    }

    /// A place for `principal`; `None` if there is none, or it has its part.
    pub fn take(&self, principal: &Principal) -> Option<Share> {
        let one = Arc::clone(&self.all).try_acquire_owned().ok()?;
        if principal.may(Scope::Admin) {
            return Some(Share { counted: None, _one: one });
        }
        let part = self.most / PART;
        let mut held = lock(&self.held);
        let own = held.each.get(&principal.id).copied().unwrap_or_default();
        if own >= part || held.together >= self.most - part {
            return None;
        }
        held.each.insert(Arc::clone(&principal.id), own + 1);
        held.together += 1;
        let counted = Some((Arc::clone(&principal.id), Arc::clone(&self.held)));
        Some(Share { counted, _one: one })
    }

    /// Returns when no place is taken.
    pub async fn all_free(&self) {
        // The semaphore is never closed.
        let _ = self.all.acquire_many(self.most).await;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some((principal, held)) = &self.counted else { return };
        let mut held = lock(held);
        held.together -= 1;
        if let Some(count) = held.each.get_mut(principal) {
            *count -= 1;
            if *count == 0 {
                held.each.remove(principal);
            }
        }
    }
}

/// Changed by whole steps only; a panic elsewhere cannot tear it.
fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str) -> Principal {
        Principal { id: name.into(), scopes: vec![Scope::Read], ..Principal::owner() }
    }

    /// Takes places until there are no more.
    fn all_of(shares: &Shares, who: &Principal) -> Vec<Share> {
        std::iter::from_fn(|| shares.take(who)).collect()
    }

    #[test]
    fn no_token_gets_more_than_a_part_and_what_is_given_back_is_free() {
        let shares = Shares::new(8);
        let places = all_of(&shares, &token("a"));
        assert_eq!(places.len(), 2);
        assert_eq!(all_of(&shares, &token("b")).len(), 2, "another has its own");
        drop(places);
        assert!(shares.take(&token("a")).is_some());
        assert!(lock(&shares.held).each.is_empty() && lock(&shares.held).together == 0);
    }

    #[test]
    fn all_tokens_together_do_not_shut_the_owner_out_who_may_have_all() {
        let shares = Shares::new(8);
        let crowd: Vec<_> =
            ["a", "b", "c", "d"].iter().flat_map(|name| all_of(&shares, &token(name))).collect();
        assert_eq!(crowd.len(), 6);
        assert_eq!(all_of(&shares, &Principal::owner()).len(), 2);
        drop(crowd);
        let own = all_of(&shares, &Principal::owner());
        assert_eq!(own.len(), 8);
        assert!(shares.take(&token("a")).is_none(), "all are taken");
    }
}
