//! What the fleet is given: its places, and the way to other machines.

use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{Uid, User};

use super::DaemonError;
use crate::config::{Config, Paths, Providers};
use crate::fleet::{FleetError, FleetOptions, RosterError, RosterOptions};
use crate::reach::{Keepalive, Reach, ReachOptions};

/// The options of the daemon's one fleet.
///
/// # Errors
/// If there are no threads to reach machines with.
pub fn fleet(paths: &Paths, config: &Config) -> Result<FleetOptions, DaemonError> {
    let reach = Reach::new(reach_options(paths, config))
        .map_err(|error| FleetError::from(RosterError::Reach(error)))?;
    Ok(FleetOptions {
        runs: paths.runs(),
        supervisor: std::env::current_exe().map_err(DaemonError::Runtime)?,
        tasks: config.tasks.clone(),
        providers: Providers::load(&paths.providers())?,
        transfers: config.transfers.clone(),
        roster: RosterOptions { reach, keys: paths.keys() },
    })
}

fn reach_options(paths: &Paths, config: &Config) -> ReachOptions {
    let home = std::env::home_dir().unwrap_or_else(|| PathBuf::from("/"));
    let user = User::from_uid(Uid::effective()).ok().flatten().map(|user| user.name);
    let seconds = Duration::from_secs;
    ReachOptions {
        // The agent of the login that started the daemon, if there is one.
        agent: std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
        keepalive: Keepalive {
            interval: seconds(config.members.keepalive_s),
            budget: seconds(config.members.offline_after_s),
        },
        connect_deadline: seconds(config.members.connect_timeout_s),
        ..ReachOptions::new(&home, paths.known_hosts(), user.unwrap_or_default())
    }
}
