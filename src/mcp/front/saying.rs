//! A call and what it says: at most one reply, and none once it was cancelled.

use std::sync::Arc;

use http::StatusCode;
use serde_json::Value;

use crate::mcp::engine::{Exchange, Said};
use crate::mcp::refusal::{Refusal, code};
use crate::mcp::sessions::{CallEntry, Cancel};

/// A call under way.
pub struct Saying {
    exchange: Exchange,
    cancel: Arc<Cancel>,
    id: Option<Value>,
    replied: bool,
    /// Keeps the call findable for `notifications/cancelled`.
    _entry: Option<CallEntry>,
}

impl Saying {
    pub fn new(
        exchange: Exchange,
        cancel: Arc<Cancel>,
        id: Option<Value>,
        entry: Option<CallEntry>,
    ) -> Self {
        Self { exchange, cancel, id, replied: false, _entry: entry }
    }

    /// The next thing said; `None` when there is no more.
    pub async fn next(&mut self) -> Option<Said> {
        if self.replied {
            return None;
        }
        let said = tokio::select! {
            biased;
            // Nothing is said any more to whom asked for silence.
            () = self.cancel.token.cancelled() => return None,
            said = self.exchange.next() => said,
        };
        self.replied = !matches!(said, Some(Said::Notification(_) | Said::HangUp));
        Some(said.unwrap_or_else(|| {
            let refusal = Refusal::new(StatusCode::OK, code::INTERNAL, "the call was not answered");
            let body = refusal.with_id(self.id.as_ref()).body().into();
            Said::Reply { body, error: Some(code::INTERNAL) }
        }))
    }
}
