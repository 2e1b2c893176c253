//! Places that are shared fairly: so many in all, and so many for one principal,
//! so that nobody can use up everybody's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::PrincipalId;

/// One principal has at most this part of the places.
const PART: usize = 4;

/// Places of one kind.
pub struct Shares {
    all: Arc<Semaphore>,
    most: u32,
    held: Arc<Mutex<HashMap<PrincipalId, u32>>>,
}

/// A place that is taken; given back when it is dropped.
pub struct Share {
    principal: PrincipalId,
    held: Arc<Mutex<HashMap<PrincipalId, u32>>>,
    _one: OwnedSemaphorePermit,
}

impl Shares {
    pub fn new(most: u32) -> Self {
        Self { all: Arc::new(Semaphore::new(most as usize)), most, held: Arc::default() }
    }

    /// A place for `principal`; `None` if there is none, or it has its part.
    pub fn take(&self, principal: &PrincipalId) -> Option<Share> {
        let one = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let mut held = lock(&self.held);
        let count = held.entry(Arc::clone(principal)).or_default();
        if *count as usize >= self.most as usize / PART {
            return None;
        }
        *count += 1;
        Some(Share { principal: Arc::clone(principal), held: Arc::clone(&self.held), _one: one })
    }

    /// Returns when no place is taken.
    pub async fn all_free(&self) {
        // The semaphore is never closed.
        let _ = self.all.acquire_many(self.most).await;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        if let Some(count) = held.get_mut(&self.principal) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.principal);
            }
        }
    }
}

/// Changed by whole steps only; a panic elsewhere cannot tear it.
fn lock(held: &Mutex<HashMap<PrincipalId, u32>>) -> MutexGuard<'_, HashMap<PrincipalId, u32>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_a_part_and_what_is_given_back_is_free() {
        let shares = Shares::new(8);
        let who = |name: &str| PrincipalId::from(name);
        let mut places: Vec<_> = (0..2).filter_map(|_| shares.take(&who("a"))).collect();
        assert_eq!(places.len(), 2);
        assert!(shares.take(&who("a")).is_none(), "its part is taken");
        for other in ["b", "c", "d"] {
            places
                .extend([shares.take(&who(other)), shares.take(&who(other))].into_iter().flatten());
        }
        assert_eq!(places.len(), 8);
        assert!(shares.take(&who("e")).is_none(), "all are taken");
        places.clear();
        assert!(shares.take(&who("a")).is_some() && shares.held.lock().unwrap().is_empty());
    }
}
