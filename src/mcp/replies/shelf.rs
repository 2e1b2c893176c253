//! Where logs are held, counted for each session, each principal and in all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use super::Log;
use crate::mcp::session::Nonce;
use crate::model::PrincipalId;

/// Answers kept for one session, and bytes of them.
pub const OF_SESSION: Bound = Bound { logs: 64, bytes: 4 * 1024 * 1024 };

/// The same for one principal, in all its sessions.
pub const OF_PRINCIPAL: Bound = Bound { logs: 512, bytes: 16 * 1024 * 1024 };

/// The same in all.
pub const OF_ALL: Bound = Bound { logs: 4096, bytes: 64 * 1024 * 1024 };

/// How much may be held.
#[derive(Clone, Copy)]
pub struct Bound {
    pub logs: usize,
    pub bytes: usize,
}

/// The logs that are held, by number, which is the order of their coming.
#[derive(Default)]
pub struct Shelf {
    logs: BTreeMap<u64, Kept>,
    sessions: HashMap<Nonce, Part>,
    principals: HashMap<PrincipalId, Part>,
    bytes: usize,
}

/// One log and whose it is.
pub struct Kept {
    pub session: Nonce,
    pub principal: PrincipalId,
    pub log: Arc<Log>,
    /// As many as were counted.
    bytes: usize,
}

/// What somebody has of it.
#[derive(Default)]
struct Part {
    logs: BTreeSet<u64>,
    bytes: usize,
}

/// What is beyond its bound.
enum Excess {
    Logs,
    Bytes,
}

impl Bound {
    fn exceeded_by(self, logs: usize, bytes: usize) -> Option<Excess> {
        if bytes > self.bytes {
            return Some(Excess::Bytes);
        }
        (logs > self.logs).then_some(Excess::Logs)
    }
}

impl Part {
    fn is_beyond(&self, bound: Bound) -> Option<Excess> {
        bound.exceeded_by(self.logs.len(), self.bytes)
    }
}

impl Shelf {
    pub fn get(&self, number: u64) -> Option<&Kept> {
        self.logs.get(&number)
    }

    /// Holds `log`, as far as there is room.
    pub fn put(&mut self, session: Nonce, principal: &PrincipalId, log: Arc<Log>) {
        let number = log.number;
        self.sessions.entry(session).or_default().logs.insert(number);
        self.principals.entry(Arc::clone(principal)).or_default().logs.insert(number);
        let kept = Kept { session, principal: Arc::clone(principal), log, bytes: 0 };
        self.logs.insert(number, kept);
        self.make_room(session, principal);
    }

    /// Counts a log anew whose bytes have changed.
    pub fn recount(&mut self, number: u64) {
        let Some(kept) = self.logs.get_mut(&number) else { return };
        let before = std::mem::replace(&mut kept.bytes, kept.log.bytes());
        let (session, principal, now) = (kept.session, Arc::clone(&kept.principal), kept.bytes);
        let recount = |bytes: &mut usize| *bytes = *bytes + now - before;
        recount(&mut self.bytes);
        let session_part = self.sessions.get_mut(&session).into_iter();
        for part in session_part.chain(self.principals.get_mut(&principal)) {
            recount(&mut part.bytes);
        }
        self.make_room(session, &principal);
    }

    /// Lets a log go, and what it holds with it.
    pub fn remove(&mut self, number: u64) {
        let Some(kept) = self.logs.remove(&number) else { return };
        self.bytes -= kept.bytes;
        take_from(&mut self.sessions, &kept.session, number, kept.bytes);
        take_from(&mut self.principals, &kept.principal, number, kept.bytes);
        kept.log.let_go();
    }

    /// Lets everything of a session go.
    pub fn remove_session(&mut self, session: &Nonce) {
        let logs = self.sessions.get(session).map(|part| part.logs.clone());
        logs.into_iter().flatten().for_each(|number| self.remove(number));
    }

    /// Lets logs go until the bounds hold: the session's own, then the principal's
    /// own; and if all have too much together, of whoever has the most, so that
    /// nobody loses an answer by what others do.
    fn make_room(&mut self, session: Nonce, principal: &PrincipalId) {
        while let Some(part) = self.sessions.get(&session)
            && let Some(excess) = part.is_beyond(OF_SESSION)
            && let Some(number) = self.gives_way(part, &excess)
        {
            self.remove(number);
        }
        while let Some(part) = self.principals.get(principal)
            && let Some(excess) = part.is_beyond(OF_PRINCIPAL)
            && let Some(number) = self.gives_way(part, &excess)
        {
            self.remove(number);
        }
        while let Some(excess) = OF_ALL.exceeded_by(self.logs.len(), self.bytes)
            && let Some(part) = self.greatest(&excess)
            && let Some(number) = self.gives_way(part, &excess)
        {
            self.remove(number);
        }
    }

    fn greatest(&self, excess: &Excess) -> Option<&Part> {
        self.principals.values().max_by_key(|part| match excess {
            Excess::Logs => part.logs.len(),
            Excess::Bytes => part.bytes,
        })
    }

    /// The oldest that was read to its end; or the oldest that is whole; or, since
    /// their bytes are bounded by nothing else, the oldest. How many calls are under
    /// way is bounded elsewhere.
    fn gives_way(&self, part: &Part, excess: &Excess) -> Option<u64> {
        let oldest = |wanted: fn(&Log) -> bool| {
            let is_wanted = |number: &&u64| self.get(**number).is_some_and(|k| wanted(&k.log));
            part.logs.iter().find(is_wanted).copied()
        };
        let finished = oldest(Log::is_read).or_else(|| oldest(Log::is_finished));
        match excess {
            Excess::Logs => finished,
            Excess::Bytes => finished.or_else(|| part.logs.first().copied()),
        }
    }

    /// Logs and bytes that are held, as counted.
    #[cfg(test)]
    pub fn held(&self) -> (usize, usize) {
        (self.logs.len(), self.bytes)
    }
}

fn take_from<K: Hash + Eq>(parts: &mut HashMap<K, Part>, whose: &K, number: u64, bytes: usize) {
    if let Some(part) = parts.get_mut(whose) {
        part.logs.remove(&number);
        part.bytes -= bytes;
        if part.logs.is_empty() {
            parts.remove(whose);
        }
    }
}
