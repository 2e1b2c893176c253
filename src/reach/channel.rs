//! What handles and the loop of a session share.

use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use super::error::ReachError;
use super::exec::Exec;
use super::files::Files;

/// Makes the loop that owns the session look at its channels again.
#[derive(Clone, Debug, Default)]
pub(super) struct Wake(Arc<Notify>);

impl Wake {
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Resolves after the next [`Wake::wake`], or at once if there was one.
    pub async fn woken(&self) {
        self.0.notified().await;
    }
}

/// What is asked of a session.
#[derive(Debug)]
pub(super) enum Request {
    Exec(String),
    Tunnel(String, u16),
    Files,
}

/// A request and where its answer goes; dropped unanswered, nothing was sent.
#[derive(Debug)]
pub(super) struct Order {
    pub request: Request,
    pub reply: oneshot::Sender<Result<Opened, ReachError>>,
}

/// The answer: the handle of the new channel.
#[derive(Debug)]
pub(super) enum Opened {
    Exec(Exec),
    Files(Files),
}
