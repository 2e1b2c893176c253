//! `events/stream` (SEP-3415, push delivery): a subscription of the journal as
//! the answer to a request, alive as long as that answer is read.
//!
//! It is built like `subscriptions/listen`: said first is that it is active, every
//! notification names the request, and an empty result closes it. Unlike there,
//! events come whole and with cursors, so that who comes back misses nothing.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::Response;
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::listen::{push_completion, push_notice, require_stream};
use super::{Caller, Front, MOST_STREAMS};
use crate::bus::{Chunk, Delivery, Start, Subscription};
use crate::mcp::McpBody;
use crate::mcp::answer::stream_response;
use crate::mcp::events::{self, Asked};
use crate::mcp::frames;
use crate::mcp::headers::Accept;
use crate::mcp::message::Message;
use crate::mcp::push::KEEP_ALIVE;
use crate::mcp::refusal::Refusal;
use crate::mcp::shares::Share;
use crate::mcp::tools::Deps;
use crate::model::Cursor;

/// A stream of one event type.
struct Feeding {
    asked: Asked,
    subscription: Subscription,
    /// The request's id, of the type that the client gave it.
    id: Value,
    deps: Arc<Deps>,
    first: Option<Bytes>,
    heartbeat: Interval,
    closing: CancellationToken,
    over: bool,
    _permit: Share,
}

impl Front {
    /// Whether `message` opens a stream of events.
    pub(super) fn feeds(&self, message: &Message) -> bool {
        message.method() == events::STREAM && self.engine.deps().serves_events()
    }

    /// # Errors
    /// 406 for a client that takes no stream, and what [`Front::feeding`] refuses.
    pub(super) async fn feed(
        &self,
        caller: &Caller<'_>,
        accept: Accept,
        message: &Message,
    ) -> Result<Response<McpBody>, Refusal> {
        require_stream(accept)?;
        Ok(stream_response(self.feeding(caller, message).await?))
    }

    /// The stream of events, as server-sent events.
    ///
    /// # Errors
    /// -32602 or -32023 for a subscription that cannot be, -32025 when too many
    /// streams are open.
    pub(super) async fn feeding(
        &self,
        caller: &Caller<'_>,
        message: &Message,
    ) -> Result<impl Stream<Item = Bytes> + Send + 'static, Refusal> {
        let params = message.value.get("params").unwrap_or(&Value::Null);
        let asked = Asked::read(&caller.principal, params)?;
        let permit = self.share(&self.streams, caller);
        let permit = permit.map_err(|refusal| events::exhausted(refusal, MOST_STREAMS))?;
        let (place, late) = asked.begin(&self.bus).await?;
        let subscription = self.bus.subscribe(asked.filter.clone(), Start::After(place), false);
        let subscription = subscription.map_err(|error| events::failed(&error.into()))?;
        let mut heartbeat = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut feeding = Feeding {
            asked,
            subscription,
            id: message.id().cloned().unwrap_or_default(),
            deps: Arc::clone(self.engine.deps()),
            first: None,
            heartbeat,
            closing: self.closing.clone(),
            over: false,
            _permit: permit,
        };
        let mut first = Vec::from(frames::OPEN);
        feeding.active(&mut first, place, late);
        feeding.first = Some(first.into());
        Ok(stream::unfold(feeding, |mut feeding| async move {
            let bytes = feeding.next().await?;
            Some((bytes, feeding))
        }))
    }
}

impl Feeding {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.over {
            return None;
        }
        let mut out = Vec::new();
        tokio::select! {
            biased;
            () = self.closing.cancelled() => self.complete(&mut out),
            delivery = self.subscription.next() => match delivery {
                Ok(Delivery::Events(chunk)) => self.tell(&mut out, &chunk),
                Ok(Delivery::Gap(gap)) => self.active(&mut out, gap.to, true),
                // Not asked for: a signal has no position.
                Ok(Delivery::Signals(_)) => {}
                Err(error) => {
                    tracing::warn!(%error, "a stream of events ends; its reader can resume");
                    self.complete(&mut out);
                }
            },
            _ = self.heartbeat.tick() => {
                // A frame with data, unlike elsewhere: it carries the reader's place on.
                let cursor = self.subscription.cursor();
                self.notify(&mut out, "notifications/events/heartbeat", json!({ "cursor": cursor }));
            }
        }
        self.heartbeat.reset();
        Some(out.into())
    }

    fn tell(&self, out: &mut Vec<u8>, chunk: &Chunk) {
        for event in chunk.events() {
            // The journal holds what was encoded here; null would show a defect.
            let body = serde_json::from_slice(&event.body).unwrap_or(Value::Null);
            let mut told = self.asked.occurrence(body);
            told["cursor"] = json!(event.cursor);
            self.notify(out, "notifications/events/event", told);
        }
    }

    /// From where on events follow; `truncated` if some before that are missing.
    fn active(&self, out: &mut Vec<u8>, cursor: Cursor, truncated: bool) {
        let params = json!({ "cursor": cursor, "truncated": truncated });
        self.notify(out, "notifications/events/active", params);
    }

    fn notify(&self, out: &mut Vec<u8>, method: &str, params: Value) {
        push_notice(out, &self.id, method, params);
    }

    fn complete(&mut self, out: &mut Vec<u8>) {
        push_completion(out, &self.id, &self.deps.identity);
        self.over = true;
    }
}
