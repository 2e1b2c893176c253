//! What a running tool knows: who called, whether anybody still waits, and how
//! to tell them that it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::Peer;
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::fleet::Fleet;
use crate::mcp::Identity;
use crate::mcp::patience::Patience;
use crate::mcp::session::Nonce;
use crate::mcp::sessions::Cancel;
use crate::mcp::tasks::Works;
use crate::model::{Principal, ToolSets};

/// The services that tools are made of.
pub struct Deps {
    pub identity: Identity,
    pub bus: Bus,
    pub fleet: Fleet,
    /// Serve the Events extension.
    pub events: AtomicBool,
    pub works: Works,
}

impl Deps {
    pub fn serves_events(&self) -> bool {
        self.events.load(Ordering::Relaxed)
    }
}

/// A call as the front saw it.
#[derive(Clone)]
pub struct Call {
    pub principal: Arc<Principal>,
    /// What the caller's address offers it.
    pub offer: ToolSets,
    pub patience: Patience,
    pub cancel: Arc<Cancel>,
    /// Nobody reads the answer any more, or the daemon is going down: a tool
    /// that merely waits answers with what it has.
    pub hurry: CancellationToken,
    /// In which it was made; none in the stateless era.
    pub session: Option<Nonce>,
}

/// What a tool is run with.
#[derive(Clone)]
pub struct Context {
    pub deps: Arc<Deps>,
    pub call: Call,
    pub progress: Progress,
}

/// Tells the caller that its call goes on, if it asked to be told.
#[derive(Clone)]
pub struct Progress {
    to: Option<(Peer<RoleServer>, ProgressToken)>,
    count: Arc<AtomicU64>,
}

/// A reader that takes no progress for so long gets this one no more.
const PATIENCE_WITH_READER: Duration = Duration::from_secs(1);

impl Context {
    /// For what nobody called for: it is told no progress and never cancelled.
    pub fn quiet(deps: Arc<Deps>, principal: Arc<Principal>) -> Self {
        let call = Call {
            principal,
            offer: ToolSets::ALL,
            patience: Patience::default(),
            cancel: Arc::default(),
            hurry: CancellationToken::new(),
            session: None,
        };
        Self { deps, call, progress: Progress { to: None, count: Arc::default() } }
    }

    pub fn principal(&self) -> &Principal {
        &self.call.principal
    }

    /// Returns when waiting has no point any more.
    pub async fn done_waiting(&self) {
        tokio::select! {
            () = self.call.cancel.token.cancelled() => {}
            () = self.call.hurry.cancelled() => {}
        }
    }
}

impl Progress {
    pub fn new(peer: Peer<RoleServer>, token: Option<ProgressToken>) -> Self {
        Self { to: token.map(|token| (peer, token)), count: Arc::new(AtomicU64::new(0)) }
    }

    /// Whether the caller gave a progress token.
    pub fn wanted(&self) -> bool {
        self.to.is_some()
    }

    /// Says that it goes on. Dropped if the reader does not keep up.
    pub async fn tell(&self, message: impl Into<String>) {
        let Some((peer, token)) = &self.to else { return };
        // It has to rise with every notification; what it counts is ours to choose.
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let progress =
            ProgressNotificationParam::new(token.clone(), count as f64).with_message(message);
        let sent = tokio::time::timeout(PATIENCE_WITH_READER, peer.notify_progress(progress)).await;
        if !matches!(sent, Ok(Ok(()))) {
            tracing::debug!("a progress notification was not taken");
        }
    }
}
