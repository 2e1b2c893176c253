//! The session's own stream, and the session's end.

use std::sync::Arc;

use http::{Response, StatusCode};

use super::{Caller, Front, no_session, not_allowed};
use crate::mcp::McpBody;
use crate::mcp::answer::{lost, resumed, stream_response};
use crate::mcp::frames::{self, Form};
use crate::mcp::headers::{self, Accept};
use crate::mcp::push::Push;
use crate::mcp::refusal::{Refusal, code, empty_response};
use crate::mcp::replies::{Place, Resumed};
use crate::mcp::revision::Revision;
use crate::mcp::session::McpSession;

impl Front {
    /// Opens the session's own stream.
    pub(super) async fn get(&self, caller: &Caller<'_>) -> Result<Response<McpBody>, Refusal> {
        if let Some(version) = headers::one(caller.headers, &headers::VERSION)? {
            match Revision::parse(version) {
                Some(revision) if revision.is_modern() => {
                    return Err(not_allowed("this revision has no stream of its own"));
                }
                Some(_) => {}
                None => return Err(Refusal::unsupported_version(version)),
            }
        }
        if !Accept::of(caller.headers)?.stream {
            let problem = "this stream is text/event-stream";
            return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, code::INVALID_REQUEST, problem));
        }
        let session = self.session(caller).await?;
        let last = headers::one(caller.headers, &headers::LAST_EVENT_ID)?;
        if let Some(place) = last.and_then(Place::parse) {
            return self.resume(caller, session, &place);
        }
        let last = match last {
            Some(id) => Some(frames::parse_id(id).ok_or_else(|| {
                Refusal::invalid_request("no stream of this session gave out that last-event-id")
            })?),
            None => None,
        };
        let filter = headers::filter(caller.headers)?;
        let permit = self.share(&self.streams, caller)?;
        if self.sessions.is_kept(&session.nonce) {
            // It counts as used from now. Nobody has to wait for a disk that is slow
            // or full to read.
            let (sessions, store) = (Arc::clone(&self.sessions), self.bus.store().clone());
            self.detached.spawn(async move {
                if let Err(error) = sessions.keep(&store, session.nonce).await {
                    tracing::warn!(%error, "that a session is used was not stored");
                }
            });
        }
        let (number, control) = self.sessions.open_stream(&caller.principal.id, session.nonce);
        let push = Push {
            bus: self.bus.clone(),
            principal: Arc::clone(&caller.principal),
            revision: session.revision,
            sessions: Arc::clone(&self.sessions),
            session: session.nonce,
            number,
            control,
            closing: self.closing.clone(),
            form: Form::Resumable,
            filter,
            _permit: permit,
        };
        let body = push.open(last).map_err(|error| Refusal::invalid_request(error.to_string()))?;
        Ok(stream_response(body))
    }

    /// Goes on with the answer to a POST, whose connection broke.
    fn resume(
        &self,
        caller: &Caller<'_>,
        session: McpSession,
        place: &Place,
    ) -> Result<Response<McpBody>, Refusal> {
        let permit = self.share(&self.streams, caller)?;
        let asked = match self.replies.resume(session.nonce, place) {
            Resumed::Reader(reader) => return Ok(resumed(reader, permit)),
            Resumed::Gone => place.asked(&session.nonce),
            Resumed::Nothing => None,
        };
        asked.map(|id| lost(&id)).ok_or_else(|| {
            let problem = "nothing is held that follows that last-event-id; call again";
            Refusal::invalid_request(problem)
        })
    }

    /// Ends the session.
    pub(super) async fn delete(&self, caller: &Caller<'_>) -> Result<Response<McpBody>, Refusal> {
        let session = self.session(caller).await?;
        self.replies.end(session.nonce);
        if self.sessions.end(&caller.principal.id, session.nonce) {
            self.keep(session).await?;
            Ok(empty_response(StatusCode::NO_CONTENT))
        } else {
            Err(no_session())
        }
    }
}
