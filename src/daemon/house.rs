//! Housekeeping, and the service manager's watchdog.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{process, service};
use crate::http::Http;
use crate::store::{Store, StoreError};

/// How often housekeeping goes round.
const TICK: Duration = Duration::from_secs(1);

/// Goes round the writer thread every second and feeds the watchdog from its
/// return. Ends only with what a daemon cannot go on with.
pub async fn keep(store: Store, http: Http, closing: CancellationToken) -> Option<StoreError> {
    let watchdog = service::watchdog();
    let pace = watchdog.map_or(TICK, |half| half.min(TICK));
    let mut interval = tokio::time::interval(pace);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            () = closing.cancelled() => return None,
            _ = interval.tick() => {}
        }
        http.tick(process::descriptors());
        match store.tick().await {
            Ok(()) => failing = false,
            Err(error) if is_fatal(&error) => return Some(error),
            Err(error) => {
                if !failing {
                    tracing::error!(%error, "housekeeping of the journal failed");
                }
                failing = true;
            }
        }
        // Also after a failure: the loop goes round, which is what is watched.
        if watchdog.is_some() {
            service::alive();
        }
    }
}

/// What ends the daemon with exit code 5, so that somebody looks at the journal.
fn is_fatal(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt { .. } | StoreError::Newer { .. } | StoreError::Closed)
}
