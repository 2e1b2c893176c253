//! Keeps one connection: makes it, and makes it again.

use tokio::sync::{Notify, watch};

use super::error::ReachError;
use super::exec::Exec;
use super::files::Files;
use super::link::{LinkState, Phase};
use super::target::Target;
use crate::model::Timestamp;

/// What the shares of a link have in common.
pub(super) struct Keeper {
    target: Target,
    state: watch::Sender<LinkState>,
    hurry: Notify,
}

impl Keeper {
    pub fn new(target: Target) -> Self {
        let state = LinkState {
            phase: Phase::Connecting,
            since: Timestamp::now(),
            generation: 0,
            reason: String::new(),
            cause: None,
            facts: None,
        };
        Self { target, state: watch::Sender::new(state), hurry: Notify::new() }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    pub async fn exec(&self, _command: &str) -> Result<Exec, ReachError> {
        Err(self.offline())
    }

    pub async fn files(&self) -> Result<Files, ReachError> {
        Err(self.offline())
    }

    fn offline(&self) -> ReachError {
        let reason = self.state.borrow().reason.clone();
        ReachError::Offline { host: self.target.host.clone(), reason }
    }
}
