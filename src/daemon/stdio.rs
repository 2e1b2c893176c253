//! A fleet of one's own behind standard input and output, for places where no
//! daemon can be reached: no port, no socket, and a state folder that is found
//! again by the next such process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::lock::Lock;
use super::signals::Signals;
use super::{Claim, DaemonError, Logging, journal, keep, outfit, place, process};
use crate::config::{self, Config, Paths};
use crate::fleet::Fleet;
use crate::mcp::{Identity, Mcp};
use crate::model::{Principal, Timestamp, ToolSets};
use crate::store::Store;

/// Private fleets of one user at the same time.
const SLOTS: usize = 16;

/// Time that everything at the end is given.
const SETTLE: Duration = Duration::from_millis(700);

/// How often the journal is kept in order.
const TICK: Duration = Duration::from_secs(1);

/// Serves the client at standard input and output until it has said its last
/// word, and offers it the tools of `offer`. Tasks go on; the next process that takes the same folder finds them.
///
/// # Errors
/// As [`super::run`].
pub fn serve(config: Option<PathBuf>, offer: ToolSets) -> Result<ExitCode, DaemonError> {
    let found_umask = process::harden();
    let paths = Paths::find()?;
    let named = config.is_some();
    let config = config::load(&config.unwrap_or_else(|| paths.config.clone()), named)?;
    let claim = claim(&paths, found_umask)?;
    let logging = Logging::start(&claim.paths.logs(), &config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("fleetd")
        .enable_all()
        .build()
        .map_err(DaemonError::Runtime)?;
    let outcome = runtime.block_on(live(claim, config, offer));
    // A read of standard input that nobody waits for any more must not hold us.
    runtime.shutdown_background();
    drop(logging);
    outcome
}

/// The first folder that nobody else uses.
fn claim(paths: &Paths, found_umask: u32) -> Result<Claim, DaemonError> {
    let slot = |number: usize| {
        let base = paths.state.join("stdio").join(number.to_string());
        let at = |name: &str| base.join(name);
        let config = paths.config.clone();
        Paths { home: at("home"), state: at("state"), runtime: at("run"), config }
    };
    for number in 0..SLOTS - 1 {
        let paths = slot(number);
        place::directory(&paths.home)?;
        // Looked at first: a claim would wait for the holder to introduce itself.
        if Lock::take(&paths.lock()).is_err() {
            continue;
        }
        match Claim::new(paths, found_umask) {
            Err(DaemonError::AlreadyRunning { .. }) => {}
            claim => return claim,
        }
    }
    Claim::new(slot(SLOTS - 1), found_umask)
}

async fn live(claim: Claim, config: Config, offer: ToolSets) -> Result<ExitCode, DaemonError> {
    let mut signals = Signals::new().map_err(DaemonError::Runtime)?;
    let paths = &claim.paths;
    let (token, instance) = (keep::token(paths)?, keep::instance(paths)?);
    let (bus, report) = journal::open(paths, &config, &instance)?;
    let fleet = Fleet::new(outfit::fleet(paths, &config)?, bus.clone());
    fleet.set_command_umask(claim.found_umask);
    let recovery = fleet.recover().await?;
    journal::announce(&bus, &instance, &report, recovery).await?;
    let identity = Identity {
        version: env!("CARGO_PKG_VERSION"),
        instance,
        started: Timestamp::now(),
        url: String::from("stdio:"),
        session_key: keep::session_key(&token),
    };
    let mcp = Mcp::new(identity, bus.clone(), fleet.clone());
    mcp.set_events_extension(config.mcp.events_extension);
    let (closing, loops) = (CancellationToken::new(), TaskTracker::new());
    loops.spawn(keep_in_order(bus.store().clone(), closing.clone()));
    let (stdin, stdout) = (tokio::io::stdin(), tokio::io::stdout());
    let served = tokio::select! {
        served = mcp.serve_lines(Principal::owner(), offer, stdin, stdout) => served,
        _ = signals.stop() => Ok(()),
        error = bus.store().failed() => return Err(DaemonError::Store(error)),
    };
    closing.cancel();
    mcp.close();
    let settle = async {
        fleet.close().await;
        bus.store().close().await;
    };
    if tokio::time::timeout(SETTLE, settle).await.is_err() {
        tracing::warn!("did not settle in time");
    }
    served.map_err(DaemonError::Runtime)?;
    Ok(ExitCode::SUCCESS)
}

async fn keep_in_order(store: Store, closing: CancellationToken) {
    let mut interval = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            _ = interval.tick() => {}
        }
        if let Err(error) = store.tick().await {
            tracing::error!(%error, "housekeeping of the journal failed");
        }
    }
}
