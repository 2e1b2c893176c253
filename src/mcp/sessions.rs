//! What is remembered of sessions: little, and bounded.
//!
//! A session lives in its id. Only what an id cannot carry is kept here: a log
//! level that is not the default, watched resources, how its client can be woken
//! and which ids were ended, which outlive the daemon (`kept`); and, as long as it
//! matters, which stream is the newest and which calls are under way.

mod control;
mod kept;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OnceCell, watch};

use super::resources::MOST_WATCHED;
use super::session::Nonce;
use crate::model::{Cursor, PrincipalId};

pub use control::{Cancel, Control, Level};

/// Sessions of which something is remembered, of all and of one principal.
/// Beyond it the principal's oldest without a stream or a call gives way. If its
/// client asked for something that it would miss, the session ends, so that the
/// client is told 404 and begins another; if not, nothing is lost.
const MOST_SESSIONS: usize = 10_000;
const MOST_OF_ONE: usize = 1000;

/// Ended sessions that are remembered, of all and of one principal. Beyond it the
/// oldest tombstone goes, and its id would be taken again, from the same principal only.
const MOST_TOMBSTONES: usize = 65_536;
const MOST_TOMBSTONES_OF_ONE: usize = 8192;

/// All sessions of this daemon.
#[derive(Default)]
pub struct Sessions {
    table: Mutex<Table>,
    /// What earlier daemons kept was read.
    loaded: OnceCell<()>,
}

#[derive(Default)]
struct Table {
    live: HashMap<Nonce, Live>,
    /// In order of their coming, for forgetting.
    order: VecDeque<Nonce>,
    /// How many of them each principal has.
    counts: HashMap<PrincipalId, usize>,
    ended: HashMap<Nonce, PrincipalId>,
    ended_order: VecDeque<Nonce>,
    ended_counts: HashMap<PrincipalId, usize>,
    /// Sessions that gave way and are still stored as they were.
    unsaved: BTreeSet<Nonce>,
}

struct Live {
    principal: PrincipalId,
    control: watch::Sender<Control>,
    calls: HashMap<String, Arc<Cancel>>,
}

/// Keeps a call findable while it is under way.
pub struct CallEntry {
    sessions: Arc<Sessions>,
    session: Nonce,
    id: String,
    pub cancel: Arc<Cancel>,
}

impl Sessions {
    pub fn has_ended(&self, session: &Nonce) -> bool {
        self.lock().ended.contains_key(session)
    }

    /// Ends a session, its streams and what its calls wait for. `false` if it had ended before.
    pub fn end(&self, principal: &PrincipalId, session: Nonce) -> bool {
        let mut table = self.lock();
        if table.ended.contains_key(&session) {
            return false;
        }
        table.bury(principal, session);
        true
    }

    /// Forgets a session that nobody can come back to.
    pub fn forget(&self, session: &Nonce) {
        self.lock().remove(session);
    }

    /// Sets the level for what comes after position `since`.
    pub fn set_level(&self, principal: &PrincipalId, session: Nonce, level: Level, since: u64) {
        let mut table = self.lock();
        table.live(principal, session).control.send_modify(|control| {
            (control.level, control.level_since) = (level, since);
        });
    }

    /// Notes how whoever speaks in the session can be woken. `false` if nothing is new.
    pub fn wake_by(
        &self,
        principal: &PrincipalId,
        session: Nonce,
        wake: BTreeMap<String, String>,
    ) -> bool {
        let mut table = self.lock();
        let known = table.live.get(&session).map(|live| Arc::clone(&live.control.borrow().wake));
        let is_known = |known: &BTreeMap<_, _>| wake.iter().all(|(k, v)| known.get(k) == Some(v));
        if wake.is_empty() || known.is_some_and(|known| is_known(&known)) {
            return false;
        }
        table.live(principal, session).control.send_modify(|control| {
            Arc::make_mut(&mut control.wake).extend(wake);
        });
        true
    }

    /// Watches a resource from `since` on. `false` if there are too many.
    pub fn watch(&self, principal: &PrincipalId, session: Nonce, uri: &str, since: Cursor) -> bool {
        let mut table = self.lock();
        let control = &table.live(principal, session).control;
        let watched = Arc::clone(&control.borrow().watched);
        if watched.iter().any(|known| known == uri) {
            return true;
        }
        if watched.len() >= MOST_WATCHED {
            return false;
        }
        control.send_modify(|control| {
            if control.watched.is_empty() {
                control.watched_since = Some(since);
            }
            Arc::make_mut(&mut control.watched).push(uri.to_owned());
        });
        true
    }

    /// What is watched was told up to `place` on the stream of this number. It is
    /// durable when the session is stored next, with its next stream at the latest:
    /// what is told again after a restart is told once.
    pub fn told(&self, session: &Nonce, stream: u64, place: Cursor) {
        let table = self.lock();
        let Some(live) = table.live.get(session) else { return };
        live.control.send_if_modified(|control| {
            if control.stream == stream && !control.watched.is_empty() {
                control.watched_since = Some(place);
            }
            // Nobody has to obey it.
            false
        });
    }

    /// Watches a resource no more.
    pub fn unwatch(&self, session: Nonce, uri: &str) {
        let table = self.lock();
        let Some(live) = table.live.get(&session) else { return };
        live.control.send_modify(|control| {
            Arc::make_mut(&mut control.watched).retain(|known| known != uri);
        });
    }

    /// Opens a stream; it is the session's newest, and the one before ends.
    /// Returns its number and what it has to follow.
    pub fn open_stream(
        &self,
        principal: &PrincipalId,
        session: Nonce,
    ) -> (u64, watch::Receiver<Control>) {
        let mut table = self.lock();
        let control = &table.live(principal, session).control;
        control.send_modify(|control| control.stream += 1);
        let receiver = control.subscribe();
        let number = receiver.borrow().stream;
        (number, receiver)
    }

    /// Enters a call under the JSON of its request id.
    pub fn enter(
        self: &Arc<Self>,
        principal: &PrincipalId,
        session: Nonce,
        id: &serde_json::Value,
    ) -> CallEntry {
        let (id, cancel) = (id.to_string(), Arc::new(Cancel::default()));
        let mut table = self.lock();
        table.live(principal, session).calls.insert(id.clone(), Arc::clone(&cancel));
        CallEntry { sessions: Arc::clone(self), session, id, cancel }
    }

    /// Cancels a call that is under way; anything else is ignored, as the
    /// protocol asks (it may have ended just now).
    pub fn cancel(&self, session: Nonce, id: &serde_json::Value) {
        let table = self.lock();
        let call = table.live.get(&session).and_then(|live| live.calls.get(&id.to_string()));
        if let Some(call) = call {
            call.ask();
        }
    }

    /// Sessions of which something is remembered.
    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.lock().live.len()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Changed by whole steps only; a panic elsewhere cannot tear it.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn live(&mut self, principal: &PrincipalId, session: Nonce) -> &mut Live {
        if !self.live.contains_key(&session) {
            self.make_room(principal);
            self.order.push_back(session);
            *self.counts.entry(Arc::clone(principal)).or_default() += 1;
        }
        self.live.entry(session).or_insert_with(|| Live {
            principal: Arc::clone(principal),
            control: watch::Sender::new(Control::default()),
            calls: HashMap::new(),
        })
    }

    /// Room for one more session of `principal`: of its own if it has many.
    fn make_room(&mut self, principal: &PrincipalId) {
        let own = self.counts.get(principal).is_some_and(|count| *count >= MOST_OF_ONE);
        if !own && self.live.len() < MOST_SESSIONS {
            return;
        }
        let gives_way = |nonce: &&Nonce| {
            let live = self.live.get(*nonce);
            live.is_some_and(|live| live.is_idle() && (!own || live.principal == *principal))
        };
        let Some(nonce) = self.order.iter().find(gives_way).copied() else { return };
        let Some(live) = self.remove(&nonce) else { return };
        if live.control.borrow().is_kept() {
            self.unsaved.insert(nonce);
        }
        if live.control.borrow().is_asked_for() {
            self.bury(&live.principal, nonce);
        }
    }

    fn remove(&mut self, session: &Nonce) -> Option<Live> {
        let live = self.live.remove(session)?;
        self.order.retain(|nonce| nonce != session);
        count_down(&mut self.counts, &live.principal);
        Some(live)
    }

    /// Ends a session for good.
    fn bury(&mut self, principal: &PrincipalId, session: Nonce) {
        if let Some(live) = self.remove(&session) {
            live.control.send_modify(|control| control.ended = true);
            // Its waits have no point any more. Nobody asked to cancel what runs, so
            // tasks go on.
            live.calls.values().for_each(|cancel| cancel.token.cancel());
        }
        self.ended.insert(session, Arc::clone(principal));
        self.ended_order.push_back(session);
        let count = self.ended_counts.entry(Arc::clone(principal)).or_default();
        *count += 1;
        let own = *count > MOST_TOMBSTONES_OF_ONE;
        if !own && self.ended.len() <= MOST_TOMBSTONES {
            return;
        }
        let goes = |nonce: &Nonce| !own || self.ended.get(nonce) == Some(principal);
        if let Some(at) = self.ended_order.iter().position(goes)
            && let Some(oldest) = self.ended_order.remove(at)
            && let Some(whose) = self.ended.remove(&oldest)
        {
            count_down(&mut self.ended_counts, &whose);
            self.unsaved.insert(oldest);
        }
    }
}

fn count_down(counts: &mut HashMap<PrincipalId, usize>, principal: &PrincipalId) {
    if let Some(count) = counts.get_mut(principal) {
        *count -= 1;
        if *count == 0 {
            counts.remove(principal);
        }
    }
}

impl Live {
    fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.control.receiver_count() == 0
    }

    /// Nothing that a fresh entry would not say as well.
    fn is_forgettable(&self) -> bool {
        self.is_idle() && *self.control.borrow() == Control::default()
    }
}

impl Drop for CallEntry {
    fn drop(&mut self) {
        let mut table = self.sessions.lock();
        let Some(live) = table.live.get_mut(&self.session) else { return };
        // A later call may have taken the same id.
        if live.calls.get(&self.id).is_some_and(|cancel| Arc::ptr_eq(cancel, &self.cancel)) {
            live.calls.remove(&self.id);
        }
        if live.is_forgettable() {
            let session = self.session;
            table.remove(&session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn owner() -> PrincipalId {
        "owner".into()
    }

    #[test]
    fn a_call_leaves_nothing_behind() {
        let sessions = Arc::new(Sessions::default());
        let entry = sessions.enter(&owner(), [1; 16], &json!(7));
        sessions.cancel([1; 16], &json!("7"));
        sessions.cancel([2; 16], &json!(7));
        assert!(!entry.cancel.was_asked(), "a string is not the number, a session not another");
        sessions.cancel([1; 16], &json!(7));
        assert!(entry.cancel.was_asked());
        drop(entry);
        assert_eq!(sessions.remembered(), 0);
    }

    #[test]
    fn an_older_call_of_the_same_id_does_not_take_the_newer_away() {
        let sessions = Arc::new(Sessions::default());
        let older = sessions.enter(&owner(), [1; 16], &json!(7));
        let newer = sessions.enter(&owner(), [1; 16], &json!(7));
        drop(older);
        sessions.cancel([1; 16], &json!(7));
        assert!(newer.cancel.was_asked());
    }

    #[test]
    fn the_newest_stream_is_the_sessions_and_an_end_is_for_good() {
        let sessions = Sessions::default();
        let (first, control) = sessions.open_stream(&owner(), [1; 16]);
        let (second, _) = sessions.open_stream(&owner(), [1; 16]);
        assert_ne!(first, second);
        assert_eq!(control.borrow().stream, second);
        assert!(sessions.end(&owner(), [1; 16]));
        assert!(control.borrow().ended);
        assert!(!sessions.end(&owner(), [1; 16]));
        assert!(sessions.has_ended(&[1; 16]));
    }

    #[test]
    fn an_ended_session_ends_what_its_calls_wait_for_and_cancels_no_task() {
        let sessions = Arc::new(Sessions::default());
        let entry = sessions.enter(&owner(), [1; 16], &json!(7));
        let other = sessions.enter(&owner(), [2; 16], &json!(7));
        assert!(sessions.end(&owner(), [1; 16]));
        assert!(entry.cancel.token.is_cancelled() && !entry.cancel.was_asked());
        assert!(!other.cancel.token.is_cancelled());
    }

    #[test]
    fn memory_is_bounded_and_a_stream_is_not_forgotten() {
        let sessions = Sessions::default();
        let nonce = |n: usize| {
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&(n as u64).to_le_bytes());
            nonce
        };
        let (_, control) = sessions.open_stream(&owner(), nonce(0));
        for n in 1..MOST_OF_ONE + 100 {
            sessions.set_level(&owner(), nonce(n), Level::Nothing, 0);
        }
        assert_eq!(sessions.remembered(), MOST_OF_ONE);
        assert!(sessions.has_ended(&nonce(1)), "what it asked for would be missed");
        sessions.set_level(&owner(), nonce(0), Level::Nothing, 0);
        assert_eq!(control.borrow().level, Level::Nothing);
        for n in MOST_OF_ONE + 100..MOST_SESSIONS + 200 {
            let principal = format!("token/{}", n % 20).into();
            sessions.set_level(&principal, nonce(n), Level::Nothing, 0);
        }
        assert_eq!(sessions.remembered(), MOST_SESSIONS);
        assert!(sessions.lock().counts.values().sum::<usize>() == MOST_SESSIONS);
    }

    #[test]
    fn tombstones_are_bounded_for_each_principal() {
        let sessions = Sessions::default();
        let other: PrincipalId = "other".into();
        sessions.end(&other, [9; 16]);
        for n in 0..MOST_TOMBSTONES_OF_ONE as u64 + 10 {
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&n.to_le_bytes());
            sessions.end(&owner(), nonce);
        }
        assert_eq!(sessions.lock().ended.len(), MOST_TOMBSTONES_OF_ONE + 1);
        assert!(sessions.has_ended(&[9; 16]), "another's crowd does not push it out");
    }
}
