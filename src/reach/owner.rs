//! The loop that owns one session and all its channels.
//!
//! Nobody else touches them: the library's channels are freed without its lock,
//! and a call that waits would keep every other from its turn. A *turn* gives
//! every channel what can be done without waiting; between turns the loop waits
//! for the wire, a handle or a time.
//!
//! What would block is repeated with the same arguments until it does not: the
//! library may have sent half of a packet, and accepts no other before.

mod exec;
mod files;
mod life;
mod opening;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ssh2::{BlockDirections, Session, Sftp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::channel::{Order, Wake};
use super::connect::{Ready, Wire, code_of, text_of};
use super::error::ReachError;
use super::keeper::{Core, Keeper};
use super::link::{Cause, Phase};
use super::pool::Shared;
use exec::ExecSlot;
use files::FilesSlot;
use life::{Life, Verdict};
use opening::{Crowded, Opening};

/// What sshd allows by default (`MaxSessions`); tunnels do not count.
const MOST_SESSIONS: usize = 10;

/// Rounds of one turn, before other links get theirs.
const ROUNDS: usize = 8;

/// The most that is read in one call.
const SCRATCH: usize = 256 * 1024;

/// A file service that nobody uses is kept for the next so long.
const IDLE_FILES: Duration = Duration::from_secs(30);

const EAGAIN: i32 = -37;
/// Errors that end a channel, not the session.
const OF_A_CHANNEL: [i32; 11] = [-16, -20, -21, -22, -23, -24, -25, -26, -27, -31, -34];

/// Where one channel stands after a look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Nothing could be done.
    Waits,
    Moved,
    Done,
}

/// The session is at its end: why.
#[derive(Debug)]
struct Fatal(String);

enum Slot {
    Exec(Box<ExecSlot>),
    Files(Box<FilesSlot>),
}

/// What a channel needs of the session for one look.
struct Cx<'a> {
    session: &'a Session,
    host: &'a str,
    scratch: &'a mut Vec<u8>,
}

pub(super) struct Owner {
    // Channels go before the session they belong to.
    slots: Vec<Slot>,
    idle: Vec<(Sftp, Instant)>,
    session: Session,
    wire: Arc<Wire>,
    host: String,
    orders: mpsc::Receiver<Order>,
    wake: Wake,
    waiting: VecDeque<Order>,
    opening: Option<Opening>,
    most: usize,
    /// The server had no room: its sessions take a moment to go.
    crowded: Option<Crowded>,
    scratch: Vec<u8>,
    ask: bool,
    /// The link that our wire goes through.
    _jump: Option<Arc<Keeper>>,
}

impl Owner {
    pub fn new(host: &str, ready: Ready, orders: mpsc::Receiver<Order>, wake: Wake) -> Self {
        Self {
            slots: Vec::new(),
            idle: Vec::new(),
            session: ready.session,
            wire: ready.wire,
            host: host.to_owned(),
            orders,
            wake,
            waiting: VecDeque::new(),
            opening: None,
            most: MOST_SESSIONS,
            crowded: None,
            scratch: Vec::new(),
            ask: false,
            _jump: ready.jump,
        }
    }

    /// Serves until the connection is lost or nobody wants it any more.
    pub async fn run(
        mut self,
        shared: &Shared,
        core: &Core,
        end: &CancellationToken,
    ) -> ReachError {
        let mut life = Life::new(shared.options.keepalive, Instant::now());
        let reason = loop {
            let turned = {
                let _serving = shared.driver.guard.serve(&self.wire);
                self.turn()
            };
            let now = Instant::now();
            let again = match turned {
                Ok((heard, again)) => {
                    if heard {
                        life.hear(now);
                    }
                    again
                }
                Err(Fatal(reason)) => break reason,
            };
            match life.judge(now) {
                Verdict::Well => core.enter(Phase::Online, String::new(), None),
                Verdict::Ask => self.ask(),
                Verdict::Suspect => {
                    self.ask();
                    let reason = String::from("it does not answer at the moment");
                    core.enter(Phase::Suspect, reason, Some(Cause::Lost));
                }
                Verdict::Dead => {
                    let seconds = shared.options.keepalive.budget.as_secs_f64();
                    break format!("nothing was heard of it for {seconds} s");
                }
            }
            if again || self.begins_to_ask() {
                tokio::task::yield_now().await;
                continue;
            }
            if let Some(idle) = self.surplus(now) {
                self.release(idle).await;
                continue;
            }
            let until = life.plan(now);
            tokio::select! {
                () = self.next(until) => {}
                () = end.cancelled() => break String::from("it is not wanted any more"),
            }
        };
        self.bury(&reason);
        ReachError::Lost { host: std::mem::take(&mut self.host), reason }
    }

    /// Waits for whatever allows something to be done, at most `until`.
    async fn next(&mut self, until: Instant) {
        let directions = self.session.block_directions();
        let busy = self.opening.is_some() || !self.slots.is_empty();
        let write = busy && matches!(directions, BlockDirections::Outbound | BlockDirections::Both);
        // With every reader held up by its handle, what arrives has to wait.
        let reads = self.opening.is_some() || self.slots.iter().any(Slot::reads);
        let read = !busy || (reads && !matches!(directions, BlockDirections::Outbound));
        let idle_until = self.idle.first().map(|(_, since)| *since + IDLE_FILES);
        let again = self.crowded.as_ref().map(|crowded| crowded.again);
        let again = again.filter(|again| !self.waiting.is_empty() && *again > Instant::now());
        let until = [idle_until, again].into_iter().flatten().fold(until, Instant::min);
        let readable = tokio::select! {
            () = self.wire.ready(read, write), if read || write => true,
            () = self.wake.woken() => false,
            () = tokio::time::sleep_until(until.into()) => false,
        };
        // Nobody reads: a question makes the library read, and answer whatever
        // the peer wants of it. At an end of the wire, it fails.
        if readable && !busy {
            self.ask();
        }
    }

    fn ask(&mut self) {
        self.ask |= self.opening.is_none();
    }

    fn begins_to_ask(&self) -> bool {
        self.ask && self.opening.is_none()
    }

    /// Gives every channel its turn. Returns whether something was heard, and
    /// whether there is more to do at once.
    fn turn(&mut self) -> Result<(bool, bool), Fatal> {
        let mut heard = false;
        for _ in 0..ROUNDS {
            if !self.round()? {
                if self.slots.is_empty() {
                    // An idle session shall be small.
                    self.scratch = Vec::new();
                }
                return Ok((heard, false));
            }
            heard = true;
        }
        Ok((heard, true))
    }

    fn round(&mut self) -> Result<bool, Fatal> {
        let mut moved = self.open()?;
        let mut at = 0;
        while at < self.slots.len() {
            let mut cx =
                Cx { session: &self.session, host: &self.host, scratch: &mut self.scratch };
            let look = match &mut self.slots[at] {
                Slot::Exec(slot) => slot.look(&mut cx)?,
                Slot::Files(slot) => slot.look(&mut cx)?,
            };
            moved |= look != Look::Waits;
            if look != Look::Done {
                at += 1;
                continue;
            }
            // One that was refused may have room now.
            self.most = (self.most + 1).min(MOST_SESSIONS);
            if let Slot::Files(slot) = self.slots.swap_remove(at) {
                self.idle.extend(slot.into_sftp().map(|sftp| (sftp, Instant::now())));
            }
        }
        Ok(moved)
    }

    /// A file service that nobody uses, when it is in the way or old.
    fn surplus(&mut self, now: Instant) -> Option<Sftp> {
        let (_, since) = self.idle.first()?;
        let wanted = !self.waiting.is_empty() && self.opening.is_none();
        let old = now.saturating_duration_since(*since) >= IDLE_FILES;
        // Half a packet of another channel would be in its way.
        let flows = matches!(
            self.session.block_directions(),
            BlockDirections::None | BlockDirections::Inbound
        );
        ((wanted || old) && flows).then(|| self.idle.remove(0).0)
    }

    /// The library closes it by waiting for the peer, so that happens elsewhere,
    /// and this session pauses meanwhile.
    async fn release(&mut self, sftp: Sftp) {
        // It was dropped, however that went.
        let _ = tokio::task::spawn_blocking(move || drop(sftp)).await;
    }

    /// Tells everybody. What was not sent yet is offline, the rest is lost.
    fn bury(&mut self, reason: &str) {
        if self.session.authenticated() {
            // Said once, if there is room for it.
            let _ = self.session.disconnect(None, "done", None);
        }
        self.wire.cut();
        self.orders.close();
        let lost = || ReachError::Lost { host: self.host.clone(), reason: reason.to_owned() };
        let offline = || ReachError::Offline { host: self.host.clone(), reason: reason.to_owned() };
        while let Ok(order) = self.orders.try_recv() {
            self.waiting.push_back(order);
        }
        if let Some(Opening::Order(order)) = self.opening.take() {
            self.waiting.push_back(order);
        }
        for order in self.waiting.drain(..) {
            // Nobody may wait for it any more.
            let _ = order.reply.send(Err(offline()));
        }
        for slot in self.slots.drain(..) {
            match slot {
                Slot::Exec(slot) => slot.bury(lost()),
                Slot::Files(slot) => slot.bury(&lost()),
            }
        }
        self.idle.clear();
        // With the wire cut, the rest of the session's words go nowhere at once.
        self.session.set_blocking(true);
    }
}

impl Slot {
    fn is_session(&self) -> bool {
        match self {
            Self::Exec(slot) => !slot.is_tunnel(),
            Self::Files(_) => true,
        }
    }

    /// Whether what arrives is of use to it now.
    fn reads(&self) -> bool {
        match self {
            Self::Exec(slot) => slot.reads(),
            Self::Files(slot) => slot.reads(),
        }
    }
}

impl Cx<'_> {
    fn scratch(&mut self) -> &mut [u8] {
        if self.scratch.is_empty() {
            self.scratch.resize(SCRATCH, 0);
        }
        self.scratch
    }

    /// The error of a call that spoke as a stream, if it is the session's.
    fn broken(&self, error: &std::io::Error) -> Result<(), Fatal> {
        match ssh2::Error::last_session_error(self.session) {
            Some(error) if !is_of_a_channel(&error) && code_of(&error) != Some(EAGAIN) => {
                Err(fatal(&error))
            }
            Some(_) => Ok(()),
            None => Err(Fatal(error.to_string())),
        }
    }
}

fn is_of_a_channel(error: &ssh2::Error) -> bool {
    code_of(error).is_none_or(|code| OF_A_CHANNEL.contains(&code))
}

fn fatal(error: &ssh2::Error) -> Fatal {
    Fatal(text_of(error))
}

/// `None`: to be called again, with the same arguments.
fn unless_blocked<T>(result: Result<T, ssh2::Error>) -> Result<Option<T>, ssh2::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if code_of(&error) == Some(EAGAIN) => Ok(None),
        Err(error) => Err(error),
    }
}
