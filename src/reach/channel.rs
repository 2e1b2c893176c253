//! What handles and the loop of a session share.

use std::sync::Arc;

use tokio::sync::Notify;

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
