//! Keeps one connection: makes it, and makes it again.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::channel::{Opened, Order, Request, Wake};
use super::connect;
use super::driver::locked;
use super::error::ReachError;
use super::exec::Exec;
use super::files::Files;
use super::link::{Cause, LinkState, Phase};
use super::options::Retry;
use super::owner::Owner;
use super::pool::Shared;
use super::target::Target;
use crate::model::Timestamp;

/// Requests on their way to the loop of a session; whoever finds it full waits.
const ORDERS: usize = 64;

/// A connection that lasted so long was a good one: the next pause is short.
const GOOD: Duration = Duration::from_secs(20);

/// What the shares of a link have in common.
pub(super) struct Keeper {
    core: Arc<Core>,
    /// Ends the loop with the last share.
    _end: DropGuard,
}

/// What shares and the loop have in common.
pub(super) struct Core {
    pub target: Target,
    state: watch::Sender<LinkState>,
    hurry: Notify,
    /// The connection that is up: its loop's door.
    door: Mutex<Option<Door>>,
    /// Why the newest attempt failed.
    failure: Mutex<Option<ReachError>>,
}

#[derive(Clone)]
struct Door {
    orders: mpsc::Sender<Order>,
    wake: Wake,
}

impl Keeper {
    /// Begins to connect.
    pub fn start(shared: &Arc<Shared>, target: Target) -> Arc<Self> {
        let state = LinkState {
            phase: Phase::Connecting,
            since: Timestamp::now(),
            generation: 0,
            reason: String::new(),
            cause: None,
            facts: None,
        };
        let core = Arc::new(Core {
            target,
            state: watch::Sender::new(state),
            hurry: Notify::new(),
            door: Mutex::default(),
            failure: Mutex::default(),
        });
        let end = shared.driver.stopped().child_token();
        shared.driver.spawn(keep(Arc::clone(shared), Arc::clone(&core), end.clone()));
        Arc::new(Self { core, _end: end.drop_guard() })
    }

    pub fn target(&self) -> &Target {
        &self.core.target
    }

    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.core.state.subscribe()
    }

    pub fn hurry(&self) {
        self.core.hurry.notify_one();
    }

    /// Why it is not connected.
    pub fn failure(&self) -> ReachError {
        let failure = locked(&self.core.failure).clone();
        failure.unwrap_or_else(|| self.core.offline())
    }

    pub async fn exec(self: &Arc<Self>, command: &str) -> Result<Exec, ReachError> {
        if command.contains('\0') {
            let problem = String::from("must not contain NUL");
            return Err(ReachError::Invalid { what: "the command", problem });
        }
        self.run(Request::Exec(command.to_owned())).await
    }

    /// A way from the member to somewhere else, for jumps alone.
    pub async fn tunnel(self: &Arc<Self>, host: &str, port: u16) -> Result<Exec, ReachError> {
        self.run(Request::Tunnel(host.to_owned(), port)).await
    }

    async fn run(self: &Arc<Self>, request: Request) -> Result<Exec, ReachError> {
        match self.order(request).await? {
            Opened::Exec(mut exec) => {
                exec.share = Some(Arc::clone(self));
                Ok(exec)
            }
            Opened::Files(_) => Err(ReachError::Internal(String::from("another kind of channel"))),
        }
    }

    pub async fn files(self: &Arc<Self>) -> Result<Files, ReachError> {
        match self.order(Request::Files).await? {
            Opened::Files(mut files) => {
                files.share = Some(Arc::clone(self));
                Ok(files)
            }
            Opened::Exec(_) => Err(ReachError::Internal(String::from("another kind of channel"))),
        }
    }

    async fn order(&self, request: Request) -> Result<Opened, ReachError> {
        let door = locked(&self.core.door).clone().ok_or_else(|| self.core.offline())?;
        let (reply, answer) = oneshot::channel();
        let sent = door.orders.send(Order { request, reply }).await;
        door.wake.wake();
        sent.map_err(|_| self.core.offline())?;
        answer.await.unwrap_or_else(|_| Err(self.core.offline()))
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keeper({})", self.core.target)
    }
}

impl Core {
    fn offline(&self) -> ReachError {
        let state = self.state.borrow();
        let reason = match state.phase {
            Phase::Connecting => String::from("still connecting"),
            _ => state.reason.clone(),
        };
        ReachError::Offline { host: self.target.host.clone(), reason }
    }

    /// Changes phase and reason, if there is a change.
    pub fn enter(&self, phase: Phase, reason: String, cause: Option<Cause>) {
        self.state.send_if_modified(|state| {
            if (state.phase, &state.reason, &state.cause) == (phase, &reason, &cause) {
                return false;
            }
            if state.phase != phase {
                state.since = Timestamp::now();
            }
            (state.phase, state.reason, state.cause) = (phase, reason, cause);
            true
        });
    }

    fn fail(&self, error: &ReachError) {
        *locked(&self.failure) = Some(error.clone());
        let reason = error.to_string();
        let cause = Some(error.cause());
        // A failed attempt is news even if it failed as the one before.
        self.state.send_modify(|state| {
            if state.phase != Phase::Offline {
                state.since = Timestamp::now();
            }
            (state.phase, state.reason, state.cause) = (Phase::Offline, reason, cause);
        });
    }
}

/// Connects, serves, and connects again until nobody wants it any more.
async fn keep(shared: Arc<Shared>, core: Arc<Core>, end: CancellationToken) {
    let mut pause = Pause::new(shared.options.retry);
    loop {
        let connected = tokio::select! {
            connected = connect::connect(&shared, &core.target) => connected,
            () = end.cancelled() => return,
        };
        let began = Instant::now();
        match connected {
            Ok(ready) => {
                let error = serve(&shared, &core, ready, &end).await;
                if end.is_cancelled() {
                    return;
                }
                if began.elapsed() >= GOOD {
                    pause = Pause::new(shared.options.retry);
                }
                core.fail(&error);
            }
            Err(error) => core.fail(&error),
        }
        let pause = pause.next();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = core.hurry.notified() => {}
            () = end.cancelled() => return,
        }
    }
}

/// Lives with one connection until it ends; why it did.
async fn serve(
    shared: &Shared,
    core: &Core,
    ready: connect::Ready,
    end: &CancellationToken,
) -> ReachError {
    let (orders, incoming) = mpsc::channel(ORDERS);
    let wake = Wake::default();
    let facts = Arc::new(ready.facts.clone());
    let owner = Owner::new(&core.target.host, ready, incoming, wake.clone());
    *locked(&core.door) = Some(Door { orders, wake });
    *locked(&core.failure) = None;
    core.state.send_modify(|state| {
        state.generation += 1;
        state.facts = Some(facts);
        (state.phase, state.since) = (Phase::Online, Timestamp::now());
        (state.reason, state.cause) = (String::new(), None);
    });
    let error = owner.run(shared, core, end).await;
    // Only this very loop opens the door, so this one is its own.
    *locked(&core.door) = None;
    error
}

/// The pauses between attempts: each is twice the one before, up to a bound,
/// and drawn from the upper half, so that a fleet does not knock in step.
struct Pause {
    next: Duration,
    longest: Duration,
}

impl Pause {
    fn new(retry: Retry) -> Self {
        Self { next: retry.first, longest: retry.longest }
    }

    fn next(&mut self) -> Duration {
        let whole = self.next.min(self.longest);
        self.next = (self.next * 2).min(self.longest);
        // Without randomness they knock in step, no worse.
        let drawn = getrandom::u32().unwrap_or(u32::MAX);
        whole / 2 + (whole / 2).mul_f64(f64::from(drawn) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_differ() {
        let retry = Retry { first: Duration::from_secs(1), longest: Duration::from_secs(8) };
        let mut pause = Pause::new(retry);
        let drawn: Vec<_> = (0..6).map(|_| pause.next().as_secs_f64()).collect();
        for (drawn, whole) in drawn.iter().zip([1.0, 2.0, 4.0, 8.0, 8.0, 8.0]) {
            assert!((whole / 2.0..=whole).contains(drawn), "{drawn} of {whole}");
        }
        assert!(drawn[4].to_bits() != drawn[5].to_bits(), "they are drawn");
    }
}
