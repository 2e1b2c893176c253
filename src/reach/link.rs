//! One connection as its users see it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::error::ReachError;
use super::exec::{Answer, Exec, Limits};
use super::files::Files;
use super::keeper::Keeper;
use super::known_hosts::HostKey;
use super::target::{Facts, Target};
use crate::model::Timestamp;

/// Where a link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The first attempt has not ended yet.
    Connecting,
    Online,
    /// Connected, but a question was not answered in time. Work may be sent still.
    Suspect,
    /// Not connected; attempts go on.
    Offline,
}

/// What kind of trouble there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    Unreachable,
    /// It was connected, and fell silent or was cut.
    Lost,
    Auth,
    HostKeyUnknown {
        offered: HostKey,
    },
    HostKeyChanged {
        offered: HostKey,
        /// The fingerprints that were expected.
        known: String,
    },
    HostKeyRevoked {
        offered: HostKey,
    },
    /// The peer breaks SSH's rules.
    Hostile,
    /// Files on this machine are at fault.
    Config,
}

/// The state of a link; the newest is always the one that is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    pub phase: Phase,
    pub since: Timestamp,
    /// Counts the connections that were made; 0 before the first.
    pub generation: u64,
    /// For people; empty while all is well.
    pub reason: String,
    /// Why it is suspect or offline.
    pub cause: Option<Cause>,
    /// Of the newest connection.
    pub facts: Option<Arc<Facts>>,
}

impl LinkState {
    /// A request sent now would leave.
    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Online | Phase::Suspect)
    }
}

/// A share in one connection, which is closed with its last share. Running
/// commands and open file services are shares as well.
#[derive(Clone)]
pub struct Link {
    pub(super) keeper: Arc<Keeper>,
}

impl Link {
    pub fn target(&self) -> &Target {
        self.keeper.target()
    }

    /// The state now, and a wake-up for every change.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.keeper.state()
    }

    /// Ends the pause before the next attempt.
    pub fn hurry(&self) {
        self.keeper.hurry();
    }

    /// Starts `command`, which the member's login shell reads. Fails at once
    /// while the link is down; waits while the connection has no channel free.
    pub async fn exec(&self, command: &str) -> Result<Exec, ReachError> {
        self.keeper.exec(command).await
    }

    /// Runs `command` to its end with `stdin`, and gathers what it wrote.
    pub async fn ask(
        &self,
        command: &str,
        stdin: Bytes,
        limits: Limits,
    ) -> Result<Answer, ReachError> {
        let host = self.target().host.clone();
        let run = async { self.exec(command).await?.gather(stdin, limits.most_output).await };
        match tokio::time::timeout(limits.deadline, run).await {
            Ok(answer) => answer,
            // Dropped on the way, the command's channel is closed.
            Err(_) => Err(ReachError::Deadline { host, seconds: limits.deadline.as_secs() }),
        }
    }

    /// The file service, on a channel of its own.
    pub async fn files(&self) -> Result<Files, ReachError> {
        self.keeper.files().await
    }
}
