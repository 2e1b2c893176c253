//! SIGHUP: reading everything anew before anything is changed.

use std::path::Path;

use super::{DaemonError, keep};
use crate::config::{self, Config, Paths, Providers};
use crate::http::Secret;

/// The settings, the table of providers and the token as they lie on disk now.
///
/// # Errors
/// If one cannot be used; then all stay as they were.
pub fn read(
    path: &Path,
    named: bool,
    paths: &Paths,
) -> Result<(Config, Providers, Secret), DaemonError> {
    let config = config::load(path, named)?;
    let providers = Providers::load(&paths.providers())?;
    Ok((config, providers, keep::token(paths)?))
}

/// Names what was changed but is only read at a start.
pub fn warn_of_restart(old: &Config, new: &Config) {
    if old.server.port != new.server.port {
        tracing::warn!("server.port takes effect at the next start");
    }
    if old.journal != new.journal {
        tracing::warn!("settings of [journal] take effect at the next start");
    }
    if (old.log.max_mib, old.log.files) != (new.log.max_mib, new.log.files) {
        tracing::warn!("log.max_mib and log.files take effect at the next start");
    }
}
