//! Batches, which one revision had (2025-03-26, messages).

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use http::{Response, StatusCode};
use serde_json::Value;

use super::connection::frame;
use super::{Caller, Front};
use crate::mcp::McpBody;
use crate::mcp::answer::{Calls, Sayings, Shape, respond};
use crate::mcp::engine::Said;
use crate::mcp::era::{Era, classify};
use crate::mcp::headers::Accept;
use crate::mcp::message::{Kind, Message};
use crate::mcp::refusal::{Refusal, empty_response};
use crate::mcp::revision::Revision;
use crate::mcp::session::McpSession;

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
        let messages = read(messages, |message| classify(message, caller.headers))?;
        let session = self.session(caller).await?;
        require(session)?;
        let permit = self.share(&self.calls, caller)?;
        let hurry = self.closing.child_token();
        let mut said = Vec::new();
        for message in messages {
            if message.kind != Kind::Request {
                self.notified(session, &message);
            } else if let Some(body) = self.kept_setting(caller, session, &message).await {
                said.push(said_already(body));
            } else {
                said.push(self.serve_in_session(caller, session, message, &hurry)?);
            }
        }
        if said.is_empty() {
            return Ok(empty_response(StatusCode::ACCEPTED));
        }
        let (owed, said) = (said.len(), stream::select_all(said).boxed());
        let calls =
            Calls::new(said, owed, hurry, Some(self.detached(caller, session, None)), permit);
        Ok(respond(calls, Shape { accept, batch: true, modern: false }).await)
    }
}

/// The messages of a batch, if all of them may stand in one.
///
/// # Errors
/// 400 and -32600 if there are none or too many of them, one is not sound, or one
/// does not belong to a session; and what `classify` says.
pub fn read(
    messages: Vec<Value>,
    classify: impl Fn(&Message) -> Result<Era, Refusal>,
) -> Result<Vec<Message>, Refusal> {
    if messages.is_empty() || messages.len() > MOST_IN_BATCH {
        let message = format!("a batch has 1 to {MOST_IN_BATCH} messages");
        return Err(Refusal::invalid_request(message));
    }
    let messages: Vec<_> = messages.into_iter().map(Message::of).collect::<Result<_, _>>()?;
    for message in &messages {
        if classify(message)? != Era::Session {
            let problem = "only the messages of a session come in batches";
            return Err(Refusal::invalid_request(problem));
        }
    }
    Ok(messages)
}

/// # Errors
/// 400 and -32600 in a session whose revision knows no batches.
pub fn require(session: McpSession) -> Result<(), Refusal> {
    if session.revision > Revision::V2025_03_26 {
        return Err(Refusal::invalid_request("this revision has no batches"));
    }
    Ok(())
}

/// A reply that is known.
pub fn said_already(body: Vec<u8>) -> Sayings {
    let reply = Said::Reply { body: body.into(), error: None };
    stream::once(std::future::ready(reply)).boxed()
}

/// What the calls of a batch say on a connection of its own: the
/// replies at the end, in one array.
pub fn together(said: Vec<Sayings>) -> BoxStream<'static, Bytes> {
    let state = Some((stream::select_all(said), Vec::new()));
    let together = stream::unfold(state, |state| async move {
        let (mut said, mut replies) = state?;
        loop {
            match said.next().await {
                Some(Said::Notification(body)) => {
                    return Some((frame(&body), Some((said, replies))));
                }
                Some(Said::Reply { body, .. }) => replies.push(body),
                // This connection is all there is.
                Some(Said::HangUp) => {}
                // All were cancelled: nothing is owed.
                None if replies.is_empty() => return None,
                None => {
                    let array = [b"[", replies.join(&b","[..]).as_slice(), b"]"].concat();
                    return Some((frame(&array), None));
                }
            }
        }
    });
    together.boxed()
}
