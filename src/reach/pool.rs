//! One connection per target, shared by all who ask for it.

use std::sync::Arc;

use super::error::ReachError;
use super::keeper::Keeper;
use super::known_hosts::HostKey;
use super::link::Link;
use super::options::ReachOptions;
use super::target::{Facts, Target};

/// Everything that is reached from here. Clones share all of it.
#[derive(Clone)]
pub struct Reach {
    options: Arc<ReachOptions>,
}

impl Reach {
    /// Starts nothing yet but the threads that links live on.
    pub fn new(options: ReachOptions) -> Result<Self, ReachError> {
        Ok(Self { options: Arc::new(options) })
    }

    pub fn options(&self) -> &ReachOptions {
        &self.options
    }

    /// The link to `target`: a share in the one that is there, or a new one
    /// that begins to connect at once. It goes on trying, with pauses, until
    /// its last share is dropped.
    pub fn link(&self, target: &Target) -> Link {
        Link { keeper: Arc::new(Keeper::new(target.clone())) }
    }

    /// Connects once, on a connection of its own that is closed again.
    pub async fn try_connect(&self, _target: &Target) -> Result<Facts, ReachError> {
        Err(ReachError::Closed)
    }

    /// The key that the host shows now; nothing is offered to it.
    pub async fn host_key(&self, _target: &Target) -> Result<HostKey, ReachError> {
        Err(ReachError::Closed)
    }

    /// Pins the key that the host shows now in place of what our own file has
    /// for it. With `fingerprint` (`SHA256:…`), only if it is that one. A
    /// revoked key is refused. Links to the host try again at once.
    pub async fn trust(
        &self,
        _target: &Target,
        _fingerprint: Option<&str>,
    ) -> Result<HostKey, ReachError> {
        Err(ReachError::Closed)
    }

    /// Closes every connection and joins the threads.
    pub async fn close(&self) {}
}
