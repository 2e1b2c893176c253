//! The daemon's life: claim, build, run, settle.
//!
//! Theory of operation: whoever holds the lock below HOME is the daemon; all
//! else follows from that. Everything is built here and passed down. One loop
//! waits for signals; a second one goes round the writer thread every second
//! and feeds the service manager's watchdog from its return, so that a wedged
//! writer is noticed by somebody who can act. At the end tasks go on, streams
//! end, the journal is closed, and the runtime file is taken back.

mod card;
mod error;
mod house;
mod journal;
mod keep;
mod lock;
mod log;
mod outfit;
mod place;
mod process;
mod reload;
mod service;
mod signals;
mod stdio;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::Bus;
use crate::config::{self, Config, Paths};
use crate::fleet::Fleet;
use crate::http::{Http, HttpOptions, Services};
use crate::mcp::{Identity, Mcp};
use crate::model::Timestamp;
use crate::store::StoreError;

pub use error::DaemonError;
pub use stdio::serve as serve_stdio;

use card::{Card, Facts};
use lock::{Lock, LockError};
use log::Logging;
use signals::{Heard, Signals};

/// Time that requests are given at the end; streams end at once.
const GRACE: Duration = Duration::from_millis(500);

/// Time that MCP streams are given to say that they end.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Time that everything at the end is given.
const SETTLE: Duration = Duration::from_secs(4);

/// How long a latecomer waits for the daemon that lives to say who it is.
const INTRODUCTION: Duration = Duration::from_millis(500);

/// Where the settings come from.
#[derive(Clone, Debug)]
struct Source {
    path: PathBuf,
    /// A person named the file: then it has to be there.
    named: bool,
}

/// The right to be the daemon: checked directories and the lock.
struct Claim {
    paths: Paths,
    /// What the daemon was started with, before it took 077 for itself.
    found_umask: u32,
    _lock: Lock,
}

/// A built daemon, listening.
struct Daemon {
    claim: Claim,
    source: Source,
    config: Config,
    logging: Logging,
    bus: Bus,
    fleet: Fleet,
    mcp: Mcp,
    http: Http,
    card: Card,
    url: String,
}

/// Runs the daemon until it is told to stop. `config` is a file that a person named.
///
/// # Errors
/// Why it could not start or go on; [`DaemonError::exit_code`] says it to scripts.
pub fn run(config: Option<PathBuf>) -> Result<ExitCode, DaemonError> {
    let found_umask = process::harden();
    let paths = Paths::find()?;
    let source =
        Source { named: config.is_some(), path: config.unwrap_or_else(|| paths.config.clone()) };
    let config = config::load(&source.path, source.named)?;
    let claim = Claim::new(paths, found_umask)?;
    let logging = Logging::start(&claim.paths.logs(), &config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Two cores serve a thousand readers; more workers would only cost memory.
        .worker_threads(2)
        .thread_name("fleetd")
        .enable_all()
        .build()
        .map_err(DaemonError::Runtime)?;
    let outcome = runtime.block_on(async {
        // Before anybody can see that we are here: an early signal is not lost.
        let signals = Signals::new().map_err(DaemonError::Runtime)?;
        match Daemon::build(claim, source, config, logging).await {
            Ok(daemon) => daemon.run(signals).await,
            Err(error) => {
                tracing::error!(error = %error.chain(), "could not start");
                Err(error)
            }
        }
    });
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

impl Claim {
    /// Checks the places and takes the lock. The lock comes first: whatever is
    /// done to the state is done by one daemon only.
    fn new(paths: Paths, found_umask: u32) -> Result<Self, DaemonError> {
        place::directory(&paths.home)?;
        let lock = match Lock::take(&paths.lock()) {
            Ok(lock) => lock,
            Err(LockError::Held { .. }) => return Err(already_running(&paths)),
            Err(LockError::Place(error)) => return Err(error.into()),
        };
        for directory in [&paths.state, &paths.runtime, &paths.runs(), &paths.logs()] {
            place::directory(directory)?;
        }
        for directory in [&paths.home, &paths.state, &paths.runtime] {
            place::writable(directory)?;
        }
        Ok(Self { paths, found_umask, _lock: lock })
    }
}

/// Names the daemon that lives. It may have taken the lock just now, so it gets
/// a moment to introduce itself.
fn already_running(paths: &Paths) -> DaemonError {
    let begun = Instant::now();
    loop {
        let pid = match Lock::take(&paths.lock()) {
            Err(LockError::Held { pid }) => pid,
            // It ended meanwhile, or the file is gone: the next start finds out.
            _ => None,
        };
        let url = Card::read(paths).filter(|seen| Some(seen.pid) == pid).map(|seen| seen.url);
        if url.is_some() || begun.elapsed() >= INTRODUCTION {
            return DaemonError::AlreadyRunning { pid, url };
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Daemon {
    async fn build(
        claim: Claim,
        source: Source,
        config: Config,
        logging: Logging,
    ) -> Result<Self, DaemonError> {
        let paths = &claim.paths;
        let started = Timestamp::now();
        let (token, instance) = (keep::token(paths)?, keep::instance(paths)?);
        let proof_key = keep::new_secret()?;
        let (bus, report) = journal::open(paths, &config, &instance)?;
        let (tcp, port) = keep::listen(paths, config.server.port).await?;
        let unix = keep::listen_unix(paths)?;
        let url = format!("http://127.0.0.1:{port}");
        let fleet = Fleet::new(outfit::fleet(paths, &config)?, bus.clone());
        fleet.set_command_umask(claim.found_umask);
        let recovery = fleet.recover().await?;
        journal::announce(&bus, &instance, &report, recovery).await?;
        let identity = Identity {
            version: env!("CARGO_PKG_VERSION"),
            instance: instance.clone(),
            started,
            url: url.clone(),
            session_key: keep::session_key(&token),
        };
        let mcp = Mcp::new(identity, bus.clone(), fleet.clone());
        mcp.set_legacy_sse(config.mcp.legacy_sse);
        mcp.set_events_extension(config.mcp.events_extension);
        let options = HttpOptions {
            port,
            token,
            proof_key: proof_key.clone(),
            server: config.server.clone(),
            dropped_log_lines: logging.dropped_lines(),
        };
        let services = Services { bus: bus.clone(), fleet: fleet.clone(), mcp: mcp.clone() };
        let http = Http::new(options, services);
        http.load_tokens().await?;
        http.tick(process::descriptors());
        let facts = Facts { instance: &instance, started, port, url: &url, proof_key: &proof_key };
        // The card comes first: whoever is answered on the Unix socket may read it at once.
        let card = Card::write(paths, &facts)?;
        http.serve(tcp, unix);
        Ok(Self { claim, source, config, logging, bus, fleet, mcp, http, card, url })
    }

    /// Serves until a signal ends it.
    async fn run(mut self, mut signals: Signals) -> Result<ExitCode, DaemonError> {
        let tracker = TaskTracker::new();
        let closing = CancellationToken::new();
        let keeper = tracker.spawn(house::keep(
            self.bus.store().clone(),
            self.http.clone(),
            closing.clone(),
        ));
        tracing::info!(url = %self.url, version = env!("CARGO_PKG_VERSION"), "ready");
        service::ready(&format!("serving {}", self.url));
        let mut keeper = std::pin::pin!(keeper);
        let store = self.bus.store().clone();
        let mut failed = std::pin::pin!(store.failed());
        let failure = loop {
            tokio::select! {
                biased;
                heard = signals.next() => match heard {
                    Heard::Reload => self.reload(),
                    Heard::Stop(reason) => {
                        tracing::info!(reason, "stopping; tasks go on");
                        self.say_goodbye(reason).await;
                        break None;
                    }
                },
                // Before the keeper, who only sees that the store is gone.
                error = failed.as_mut() => break Some(DaemonError::Store(error)),
                ended = keeper.as_mut() => {
                    let error = ended.ok().flatten().unwrap_or(StoreError::Closed);
                    break Some(DaemonError::Store(error));
                }
            }
        };
        service::stopping();
        closing.cancel();
        tokio::select! {
            () = self.settle() => {}
            () = tokio::time::sleep(SETTLE) => tracing::warn!("did not settle in time"),
            reason = signals.stop() => {
                tracing::warn!(reason, "a second signal: stopping at once");
                return Ok(ExitCode::FAILURE);
            }
        }
        match failure {
            Some(error) => {
                tracing::error!(error = %error.chain(), "stopped because of the journal");
                Err(error)
            }
            None => Ok(ExitCode::SUCCESS),
        }
    }

    /// Takes new settings and a new token; whatever is wrong leaves the old in place.
    fn reload(&mut self) {
        match reload::read(&self.source.path, self.source.named, &self.claim.paths) {
            Ok((config, providers, token)) => {
                reload::warn_of_restart(&self.config, &config);
                self.http.replace_token(token);
                self.http.reconfigure(&config.server);
                self.fleet.reconfigure(config.tasks.clone());
                self.fleet.set_providers(providers);
                self.mcp.set_legacy_sse(config.mcp.legacy_sse);
                self.mcp.set_events_extension(config.mcp.events_extension);
                self.logging.set_level(config.log.level);
                self.config = config;
                tracing::info!("took the configuration anew");
                service::status(&format!("serving {}", self.url));
            }
            Err(error) => {
                let error = error.chain();
                tracing::error!(%error, "kept the old configuration");
                service::status(&format!("kept the old configuration: {error}"));
            }
        }
    }

    /// Best effort and not for long: a wedged journal must not hold up the end.
    async fn say_goodbye(&self, reason: &str) {
        let data = json!({ "reason": reason, "running_tasks": self.fleet.open_tasks() });
        let said =
            tokio::time::timeout(GRACE, journal::say(&self.bus, vec![("fleet.stopping", data)]));
        if !matches!(said.await, Ok(Ok(()))) {
            tracing::warn!("fleet.stopping could not be written");
        }
    }

    async fn settle(&self) {
        self.mcp.close();
        // Whoever reads hears the end of its stream; nobody else is waited for.
        let _ = tokio::time::timeout(LAST_WORDS, self.mcp.closed()).await;
        self.http.shutdown(GRACE).await;
        self.fleet.close().await;
        self.bus.store().close().await;
        self.card.withdraw();
        if let Some(socket) = self.claim.paths.socket() {
            let _ = std::fs::remove_file(socket);
        }
        tracing::info!("stopped");
    }
}
