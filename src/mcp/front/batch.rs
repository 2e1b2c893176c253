//! Batches, which one revision had (2025-03-26, messages).

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Response, StatusCode};
use serde_json::Value;

use super::{Caller, Front};
use crate::mcp::McpBody;
use crate::mcp::answer::{Calls, Shape, respond};
use crate::mcp::engine::Said;
use crate::mcp::era::{Era, classify};
use crate::mcp::headers::Accept;
use crate::mcp::message::{Kind, Message};
use crate::mcp::refusal::{Refusal, empty_response};
use crate::mcp::revision::Revision;

/// Messages in one batch.
const MOST_IN_BATCH: usize = 100;

impl Front {
    /// Serves each message by itself and gives the replies together.
    pub(super) async fn batch(
        &self,
        caller: &Caller<'_>,
        accept: Accept,
        messages: Vec<Value>,
    ) -> Result<Response<McpBody>, Refusal> {
        if messages.is_empty() || messages.len() > MOST_IN_BATCH {
            let message = format!("a batch has 1 to {MOST_IN_BATCH} messages");
            return Err(Refusal::invalid_request(message));
        }
        let messages: Vec<_> = messages.into_iter().map(Message::of).collect::<Result<_, _>>()?;
        for message in &messages {
            if classify(message, caller.headers)? != Era::Session {
                let problem = "only the messages of a session come in batches";
                return Err(Refusal::invalid_request(problem));
            }
        }
        let session = self.session(caller)?;
        if session.revision > Revision::V2025_03_26 {
            return Err(Refusal::invalid_request("this revision has no batches"));
        }
        let permit = self.permit(&self.calls)?;
        let hurry = self.closing.child_token();
        let mut said = Vec::new();
        for message in messages {
            if message.kind != Kind::Request {
                self.notified(session, &message);
            } else if let Some(body) = self.setting(caller, session, &message).await {
                let body = Bytes::from(body);
                said.push(
                    stream::once(std::future::ready(Said::Reply { body, error: None })).boxed(),
                );
            } else {
                said.push(self.serve_in_session(caller, session, message, &hurry)?);
            }
        }
        if said.is_empty() {
            return Ok(empty_response(StatusCode::ACCEPTED));
        }
        let (owed, said) = (said.len(), stream::select_all(said).boxed());
        let calls = Calls::new(said, owed, hurry, Some(self.detached(session, None)), permit);
        Ok(respond(calls, Shape { accept, batch: true, modern: false }).await)
    }
}
