//! What is remembered of sessions: little, and bounded.
//!
//! A session lives in its id. Only what an id cannot carry is kept here, and
//! only while it matters: a log level that is not the default, which stream is
//! the newest, which calls are under way, and which ids were ended.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::resources::MOST_WATCHED;
use super::session::Nonce;
use crate::model::Severity;

/// Sessions of which something is remembered. Beyond it the oldest without a
/// stream or a call is forgotten: its level is the default again, no more.
const MOST_SESSIONS: usize = 10_000;

/// Ended sessions that are remembered. Beyond it the oldest tombstone goes, and
/// its id would be taken again, from the same principal only.
const MOST_TOMBSTONES: usize = 65_536;

/// The least severe event that a session's stream carries (`logging/setLevel`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    From(Severity),
    /// critical, alert, emergency: nothing in a fleet is that severe.
    Nothing,
}

/// What a session's stream has to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    pub level: Level,
    /// Position of the newest event when the level was set.
    pub level_since: u64,
    /// URIs of the resources that are watched, and the position of the newest
    /// event when the first of them was.
    pub watched: Arc<Vec<String>>,
    pub watched_since: u64,
    /// The number of the newest stream; older ones end.
    pub stream: u64,
    /// The session was ended.
    pub ended: bool,
}

/// A call that can be cancelled by name.
#[derive(Debug, Default)]
pub struct Cancel {
    /// Ends the call.
    pub token: CancellationToken,
    /// It was asked for by `notifications/cancelled`; a lost connection does not ask.
    asked: AtomicBool,
}

/// All sessions of this daemon.
#[derive(Default)]
pub struct Sessions(Mutex<Table>);

#[derive(Default)]
struct Table {
    live: HashMap<Nonce, Live>,
    /// In order of their coming, for forgetting.
    order: VecDeque<Nonce>,
    ended: HashSet<Nonce>,
    ended_order: VecDeque<Nonce>,
}

struct Live {
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

impl Level {
    /// A level by its syslog name (2025-11-25, logging).
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "critical" | "alert" | "emergency" => Some(Self::Nothing),
            _ => Severity::parse(name).map(Self::From),
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self {
            level: Level::From(Severity::Info),
            level_since: 0,
            watched: Arc::default(),
            watched_since: 0,
            stream: 0,
            ended: false,
        }
    }
}

impl Cancel {
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        self.token.cancel();
    }

    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}

impl Sessions {
    pub fn has_ended(&self, session: &Nonce) -> bool {
        self.lock().ended.contains(session)
    }

    /// Ends a session, its streams and calls. `false` if it had ended before.
    pub fn end(&self, session: Nonce) -> bool {
        let mut table = self.lock();
        if !table.ended.insert(session) {
            return false;
        }
        table.ended_order.push_back(session);
        if table.ended_order.len() > MOST_TOMBSTONES
            && let Some(oldest) = table.ended_order.pop_front()
        {
            table.ended.remove(&oldest);
        }
        if let Some(live) = table.live.remove(&session) {
            table.order.retain(|nonce| *nonce != session);
            live.control.send_modify(|control| control.ended = true);
        }
        true
    }

    /// Sets the level for what comes after position `since`.
    pub fn set_level(&self, session: Nonce, level: Level, since: u64) {
        let mut table = self.lock();
        table.live(session).control.send_modify(|control| {
            (control.level, control.level_since) = (level, since);
        });
    }

    /// Watches a resource from position `since` on. `false` if there are too many.
    pub fn watch(&self, session: Nonce, uri: &str, since: u64) -> bool {
        let mut table = self.lock();
        let control = &table.live(session).control;
        let watched = Arc::clone(&control.borrow().watched);
        if watched.iter().any(|known| known == uri) {
            return true;
        }
        if watched.len() >= MOST_WATCHED {
            return false;
        }
        control.send_modify(|control| {
            if control.watched.is_empty() {
                control.watched_since = since;
            }
            Arc::make_mut(&mut control.watched).push(uri.to_owned());
        });
        true
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
    pub fn open_stream(&self, session: Nonce) -> (u64, watch::Receiver<Control>) {
        let mut table = self.lock();
        let control = &table.live(session).control;
        control.send_modify(|control| control.stream += 1);
        let receiver = control.subscribe();
        let number = receiver.borrow().stream;
        (number, receiver)
    }

    /// Enters a call under the JSON of its request id.
    pub fn enter(self: &Arc<Self>, session: Nonce, id: &serde_json::Value) -> CallEntry {
        let (id, cancel) = (id.to_string(), Arc::new(Cancel::default()));
        self.lock().live(session).calls.insert(id.clone(), Arc::clone(&cancel));
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn live(&mut self, session: Nonce) -> &mut Live {
        if !self.live.contains_key(&session) {
            self.forget_one();
            self.order.push_back(session);
        }
        self.live.entry(session).or_insert_with(|| Live {
            control: watch::Sender::new(Control::default()),
            calls: HashMap::new(),
        })
    }

    fn forget_one(&mut self) {
        if self.live.len() < MOST_SESSIONS {
            return;
        }
        let idle = |nonce: &Nonce| self.live.get(nonce).is_none_or(Live::is_idle);
        if let Some(at) = self.order.iter().position(idle)
            && let Some(nonce) = self.order.remove(at)
        {
            self.live.remove(&nonce);
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
            table.live.remove(&self.session);
            let session = self.session;
            table.order.retain(|nonce| *nonce != session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_call_leaves_nothing_behind() {
        let sessions = Arc::new(Sessions::default());
        let entry = sessions.enter([1; 16], &json!(7));
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
        let older = sessions.enter([1; 16], &json!(7));
        let newer = sessions.enter([1; 16], &json!(7));
        drop(older);
        sessions.cancel([1; 16], &json!(7));
        assert!(newer.cancel.was_asked());
    }

    #[test]
    fn the_newest_stream_is_the_sessions_and_an_end_is_for_good() {
        let sessions = Sessions::default();
        let (first, control) = sessions.open_stream([1; 16]);
        let (second, _) = sessions.open_stream([1; 16]);
        assert_ne!(first, second);
        assert_eq!(control.borrow().stream, second);
        assert!(sessions.end([1; 16]));
        assert!(control.borrow().ended);
        assert!(!sessions.end([1; 16]));
        assert!(sessions.has_ended(&[1; 16]));
    }

    #[test]
    fn memory_is_bounded_and_a_stream_is_not_forgotten() {
        let sessions = Sessions::default();
        let nonce = |n: usize| {
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&(n as u64).to_le_bytes());
            nonce
        };
        let (_, control) = sessions.open_stream(nonce(0));
        for n in 1..MOST_SESSIONS + 100 {
            sessions.set_level(nonce(n), Level::Nothing, 0);
        }
        assert_eq!(sessions.remembered(), MOST_SESSIONS);
        sessions.set_level(nonce(0), Level::Nothing, 0);
        assert_eq!(control.borrow().level, Level::Nothing);
    }
}
