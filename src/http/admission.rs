//! How many connections there may be, and which one gives way.
//!
//! A connection that has not shown a valid token yet is worth little: when too
//! many of them are open, the oldest makes room for the newest. An honest
//! client shows its token within milliseconds, so it never is the oldest for
//! long, while a flood of silent ones only evicts itself (R19). Nobody but the
//! owner has more than a part of all, so that no client can shut out the others.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio_util::sync::CancellationToken;

use super::guard::Transport;
use super::metrics::Metrics;
use crate::config;
use crate::model::{Principal, PrincipalId, Scope};

/// File descriptors that connections over TCP leave to everything else: the
/// database, logs, runs, the Unix socket.
const HEADROOM: usize = 44;

/// Connections that are allowed however few descriptors there are.
const FEWEST: usize = 4;

/// One principal, unless it is the owner, has at most this part of them.
const PART: usize = 4;

/// Counts connections.
pub struct Admission {
    max_unauthenticated: AtomicUsize,
    max_connections: AtomicUsize,
    descriptors: AtomicUsize,
    open: AtomicUsize,
    strangers: Mutex<Strangers>,
    /// Connections of principals, the owner's uncounted.
    held: Mutex<HashMap<PrincipalId, usize>>,
    metrics: Arc<Metrics>,
}

/// Connections without a token, oldest first.
#[derive(Default)]
struct Strangers {
    next: u64,
    waiting: VecDeque<(u64, CancellationToken)>,
}

/// One connection's place; given back when it is dropped.
pub struct Place {
    admission: Arc<Admission>,
    id: u64,
    stranger: AtomicBool,
    /// Whose part it counts to.
    whose: OnceLock<PrincipalId>,
    /// Cancelled when the connection has to give way.
    pub evicted: CancellationToken,
}

impl Admission {
    pub fn new(server: &config::Server, metrics: Arc<Metrics>) -> Self {
        Self {
            max_unauthenticated: AtomicUsize::new(server.max_unauthenticated),
            max_connections: AtomicUsize::new(server.max_connections),
            descriptors: AtomicUsize::new(usize::MAX),
            open: AtomicUsize::new(0),
            strangers: Mutex::default(),
            held: Mutex::default(),
            metrics,
        }
    }

    pub fn reconfigure(&self, server: &config::Server) {
        self.max_unauthenticated.store(server.max_unauthenticated, Ordering::Relaxed);
        self.max_connections.store(server.max_connections, Ordering::Relaxed);
    }

    /// Takes how many file descriptors the process may have.
    pub fn limit_descriptors(&self, descriptors: usize) {
        self.descriptors.store(descriptors, Ordering::Relaxed);
    }

    /// Open connections in all, and those without a token.
    pub fn counts(&self) -> (usize, usize) {
        (self.open.load(Ordering::Relaxed), self.lock().waiting.len())
    }

    /// A place for a new connection; `None` if there is none and the connection
    /// is to be closed. The owner on the Unix socket only counts.
    pub fn admit(self: &Arc<Self>, transport: Transport) -> Option<Place> {
        let open = self.open.load(Ordering::Relaxed);
        if transport == Transport::Unix {
            return Some(self.place(0, false, CancellationToken::new()));
        }
        if open >= self.most() {
            self.metrics.capped_connections.add();
            return None;
        }
        let most = self.max_unauthenticated.load(Ordering::Relaxed).min(self.most()).max(1);
        let evicted = CancellationToken::new();
        let mut strangers = self.lock();
        while strangers.waiting.len() >= most {
            if let Some((_, oldest)) = strangers.waiting.pop_front() {
                oldest.cancel();
                self.metrics.evicted_connections.add();
            }
        }
        strangers.next += 1;
        let id = strangers.next;
        strangers.waiting.push_back((id, evicted.clone()));
        drop(strangers);
        Some(self.place(id, true, evicted))
    }

    fn place(self: &Arc<Self>, id: u64, stranger: bool, evicted: CancellationToken) -> Place {
        self.open.fetch_add(1, Ordering::Relaxed);
        let (admission, stranger) = (Arc::clone(self), AtomicBool::new(stranger));
        Place { admission, id, stranger, whose: OnceLock::new(), evicted }
    }

    fn most(&self) -> usize {
        let descriptors = self.descriptors.load(Ordering::Relaxed).saturating_sub(HEADROOM);
        self.max_connections.load(Ordering::Relaxed).min(descriptors.max(FEWEST))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<PrincipalId, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Strangers> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The connection has shown a valid token of `principal` and need not give
    /// way any more. `false` if `principal` has its part already.
    pub fn authenticated(&self, principal: &Principal) -> bool {
        if !principal.may(Scope::Admin) && self.whose.get().is_none() {
            let most = (self.admission.most() / PART).max(1);
            let mut held = self.admission.held();
            let count = held.entry(Arc::clone(&principal.id)).or_default();
            if *count >= most {
                self.admission.metrics.capped_connections.add();
                return false;
            }
            *count += 1;
            // Requests of one connection come one after the other.
            let _ = self.whose.set(Arc::clone(&principal.id));
        }
        self.no_stranger();
        true
    }

    fn no_stranger(&self) {
        if self.stranger.swap(false, Ordering::Relaxed) {
            self.admission.lock().waiting.retain(|(id, _)| *id != self.id);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.no_stranger();
        if let Some(whose) = self.whose.get() {
            let mut held = self.admission.held();
            if let Some(count) = held.get_mut(whose) {
                *count -= 1;
                if *count == 0 {
                    held.remove(whose);
                }
            }
        }
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(max_unauthenticated: usize, max_connections: usize) -> Arc<Admission> {
        let server = config::Server { port: 0, max_unauthenticated, max_connections };
        Arc::new(Admission::new(&server, Arc::new(Metrics::default())))
    }

    #[test]
    fn the_oldest_stranger_gives_way_and_known_callers_do_not() {
        let admission = admission(2, 100);
        let known = admission.admit(Transport::Tcp).unwrap();
        assert!(known.authenticated(&Principal::owner()));
        let first = admission.admit(Transport::Tcp).unwrap();
        let second = admission.admit(Transport::Tcp).unwrap();
        let third = admission.admit(Transport::Tcp).unwrap();
        assert!(first.evicted.is_cancelled());
        assert!(!second.evicted.is_cancelled() && !third.evicted.is_cancelled());
        assert!(!known.evicted.is_cancelled());
        assert_eq!(admission.counts(), (4, 2));
        drop((known, first, second, third));
        assert_eq!(admission.counts(), (0, 0));
    }

    #[test]
    fn over_the_cap_only_the_owner_comes_in() {
        let admission = admission(64, 1);
        let one = admission.admit(Transport::Tcp).unwrap();
        assert!(admission.admit(Transport::Tcp).is_none());
        assert!(admission.admit(Transport::Unix).is_some());
        drop(one);
        assert!(admission.admit(Transport::Tcp).is_some());
        assert_eq!(admission.metrics.capped_connections.get(), 1);
    }

    #[test]
    fn one_client_has_only_a_part_of_the_connections() {
        let admission = admission(64, 8);
        let client = |name: &str| Principal {
            id: name.into(),
            scopes: vec![Scope::Read],
            ..Principal::owner()
        };
        let take = |who: &Principal| {
            let place = admission.admit(Transport::Tcp).unwrap();
            place.authenticated(who).then_some(place)
        };
        let first = take(&client("a")).unwrap();
        let _second = take(&client("a")).unwrap();
        assert!(take(&client("a")).is_none(), "it has its part");
        assert!(first.authenticated(&client("a")), "one connection counts once");
        let _others = [take(&client("b")).unwrap(), take(&Principal::owner()).unwrap()];
        drop(first);
        assert!(take(&client("a")).is_some());
    }

    #[test]
    fn few_descriptors_mean_few_connections() {
        let admission = admission(64, 1000);
        admission.limit_descriptors(HEADROOM + 10);
        let places: Vec<_> = (0..20)
            .filter_map(|_| {
                let place = admission.admit(Transport::Tcp)?;
                assert!(place.authenticated(&Principal::owner()));
                Some(place)
            })
            .collect();
        assert_eq!(places.len(), 10);
    }
}
