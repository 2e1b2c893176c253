//! The HTTP edge: one set of routes on loopback TCP and on the Unix socket.
//!
//! Theory of operation: every connection passes, in this order, the caps of
//! `admission`, the strict framing and the stall watch of `guarded`, hyper
//! (HTTP/1 only, header timeout), and then, for each request, the guard against
//! web pages, the token, the table of routes with its scopes, the bounds of the
//! body, and only then a handler. A route that does not stand in the table with
//! its access class cannot be reached.
//!
//! Streams hold a cursor and no queue. They end, all in one place
//! (`reply::streamed`), when their token is revoked or the daemon stops.

mod admission;
mod auth;
mod body;
mod connection;
mod dispatch;
mod events;
mod framing;
mod guard;
mod guarded;
mod listener;
mod members;
mod metrics;
mod problem;
mod query;
mod reply;
mod routes;
mod stream;
mod tasks;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::Bus;
use crate::config;
use crate::fleet::Fleet;
use crate::mcp::Mcp;
use crate::store::StoreError;

pub use auth::{Secret, hex};

use admission::Admission;
use auth::Gate;
use guard::Guard;
use listener::Spares;
use metrics::{Gauges, Metrics};

/// Reads a counter that somebody else keeps.
pub type Reading = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What the edge is built from.
pub struct HttpOptions {
    /// The loopback port; names in `Host` and `Origin` have to carry it.
    pub port: u16,
    pub token: Secret,
    /// Proves to a client that this is the daemon that wrote the runtime file.
    pub proof_key: Secret,
    pub server: config::Server,
    /// Log lines that were dropped so far.
    pub dropped_log_lines: Reading,
}

/// Where calls turn round.
#[derive(Clone)]
pub struct Services {
    pub bus: Bus,
    pub fleet: Fleet,
    pub mcp: Mcp,
}

/// The edge; clones share it.
#[derive(Clone)]
pub struct Http(Arc<Context>);

/// What every connection and request needs.
struct Context {
    services: Services,
    gate: Gate,
    guard: Guard,
    metrics: Arc<Metrics>,
    admission: Arc<Admission>,
    spares: Spares,
    proof_key: Secret,
    port: u16,
    dropped_log_lines: Reading,
    /// Cancelled when no more is to be accepted and streams are to end.
    closing: CancellationToken,
    /// Cancelled when what is left is to be dropped.
    killed: CancellationToken,
    tracker: TaskTracker,
}

impl Http {
    pub fn new(options: HttpOptions, services: Services) -> Self {
        let closing = CancellationToken::new();
        let metrics = Arc::new(Metrics::default());
        Self(Arc::new(Context {
            services,
            gate: Gate::new(options.token, closing.clone()),
            guard: Guard::new(options.port),
            admission: Arc::new(Admission::new(&options.server, Arc::clone(&metrics))),
            metrics,
            spares: Spares::default(),
            proof_key: options.proof_key,
            port: options.port,
            dropped_log_lines: options.dropped_log_lines,
            closing,
            killed: CancellationToken::new(),
            tracker: TaskTracker::new(),
        }))
    }

    /// Lets in whoever has a token in the database.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn load_tokens(&self) -> Result<(), StoreError> {
        tokens::load(self.0.services.bus.store(), &self.0.gate).await
    }

    /// Begins to accept.
    pub fn serve(&self, tcp: TcpListener, unix: Option<UnixListener>) {
        let Self(context) = self;
        context.spares.refill();
        context.tracker.spawn(listener::accept_tcp(Arc::clone(context), tcp));
        if let Some(unix) = unix {
            context.tracker.spawn(listener::accept_unix(Arc::clone(context), unix));
        }
    }

    /// Makes `token` the valid one; streams of the old one end at once.
    pub fn replace_token(&self, token: Secret) {
        if self.0.gate.replace(token) {
            tracing::info!("the token was replaced; streams of the old one were ended");
        }
    }

    /// Takes new caps; open connections stay.
    pub fn reconfigure(&self, server: &config::Server) {
        self.0.admission.reconfigure(server);
    }

    /// Once a second: how many file descriptors the process may have. Those that
    /// running tasks need are not for connections.
    pub fn tick(&self, descriptors: u64) {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let tasks = self.0.services.fleet.descriptors();
        self.0.admission.limit_descriptors(descriptors.saturating_sub(tasks));
        self.0.spares.refill();
    }

    /// Stops accepting, ends streams, gives requests `grace` to be answered, and
    /// drops what is left.
    pub async fn shutdown(&self, grace: Duration) {
        let Self(context) = self;
        context.closing.cancel();
        context.tracker.close();
        if tokio::time::timeout(grace, context.tracker.wait()).await.is_err() {
            context.killed.cancel();
            context.tracker.wait().await;
        }
    }
}

impl Context {
    fn gauges(&self) -> Gauges {
        let bus = self.services.bus.stats();
        let store = self.services.bus.store();
        let (connections, unauthenticated) = self.admission.counts();
        Gauges {
            journal_head: store.head().seq,
            journal_oldest: store.oldest(),
            journal_bytes: store.bytes(),
            journal_degraded: store.is_degraded(),
            journal_full: store.is_full(),
            subscriptions: bus.subscriptions,
            ring_bytes: bus.ring_bytes,
            ring_events: bus.ring_events,
            published: bus.published,
            connections,
            unauthenticated,
            open_tasks: self.services.fleet.open_tasks(),
            dropped_log_lines: (self.dropped_log_lines)(),
        }
    }
}
