//! The journal's part in the daemon's life: opened, and told what happened.

use serde_json::json;

use super::DaemonError;
use crate::bus::{Bus, Feed};
use crate::config::{self, Config, Paths};
use crate::fleet::Recovery;
use crate::model::{NewEvent, Project};
use crate::store::{Durability, OpenReport, Retention, Store, StoreError, StoreOptions};

/// Opens the journal and joins it with its bus.
///
/// # Errors
/// If it is damaged, newer than we are, or cannot be read.
pub fn open(
    paths: &Paths,
    config: &Config,
    instance: &str,
) -> Result<(Bus, OpenReport), DaemonError> {
    let journal = &config.journal;
    let options = StoreOptions {
        dir: paths.state.clone(),
        source: format!("fleetd/{instance}"),
        retention: Retention {
            rows: journal.max_events,
            bytes: journal.max_mib.saturating_mul(1024 * 1024),
            age: journal.max_age(),
        },
        durability: match journal.durability {
            config::Durability::Full => Durability::Full,
            config::Durability::Normal => Durability::Normal,
        },
    };
    let feed = Feed::new(journal.ring_mib.saturating_mul(1024 * 1024));
    let (store, report) = Store::open(options, feed.hook())?;
    Ok((Bus::new(feed, store), report))
}

/// Tells the world that the daemon is there, and what it found after a crash.
///
/// # Errors
/// If the journal is closed or broken; a full disk is none.
pub async fn announce(
    bus: &Bus,
    instance: &str,
    report: &OpenReport,
    recovery: Recovery,
) -> Result<(), DaemonError> {
    let mut events = Vec::new();
    if report.unclean || report.regressed.is_some() {
        let lost = report.regressed.as_ref().filter(|lost| lost.from <= lost.to);
        let reason = if report.regressed.is_some() { "store_regressed" } else { "unclean_stop" };
        let data = json!({
            "reason": reason,
            "lost_from": lost.map(|lost| lost.from),
            "lost_to": lost.map(|lost| lost.to),
            "set_aside": report.set_aside,
            "adopted_tasks": recovery.adopted,
            "settled_tasks": recovery.settled,
            "unknown_tasks": recovery.unknown,
        });
        tracing::warn!(reason, ?recovery, "the last daemon did not end cleanly");
        events.push(("fleet.recovered", data));
    }
    let data = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "instance": instance,
        "pid": std::process::id(),
    });
    events.push(("fleet.started", data));
    match say(bus, events).await {
        // A full disk leaves reading and deleting; the daemon is there for that (R48).
        Err(error @ (StoreError::Full { .. } | StoreError::Degraded)) => {
            tracing::error!(%error, "started, but events cannot be written");
            Ok(())
        }
        result => Ok(result?),
    }
}

/// Appends events of the daemon's own, all or none.
///
/// # Errors
/// If the journal cannot be written.
pub async fn say(
    bus: &Bus,
    events: Vec<(&'static str, serde_json::Value)>,
) -> Result<(), StoreError> {
    let project = Project::default_project();
    let write = move |tx: &mut crate::store::Tx<'_>| -> Result<(), StoreError> {
        for (topic, data) in events {
            let event = NewEvent::own(topic, "fleet", project.clone(), data)
                .map_err(crate::model::EventError::from)?;
            tx.append(event)?;
        }
        Ok(())
    };
    bus.store().write(write).await
}
