//! HTTP+SSE (2024-11-05): a stream on which everything is said, and an address
//! to which everything is posted.
//!
//! The session lives as long as its stream. Its id stands in the address, since
//! that revision has no header for it: it is unguessable, and opens for the
//! principal that was given it only, so the address is worth nothing to others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Response, StatusCode};
use tokio::time::{Instant, MissedTickBehavior};

use super::connection::Connection;
use super::{Caller, Front, no_session, unavailable};
use crate::mcp::McpBody;
use crate::mcp::answer::stream_response;
use crate::mcp::frames;
use crate::mcp::headers::{self, Accept};
use crate::mcp::message;
use crate::mcp::patience::Patience;
use crate::mcp::push::KEEP_ALIVE;
use crate::mcp::refusal::{Refusal, code, empty_response};
use crate::mcp::revision::Revision;
use crate::mcp::session::Nonce;
use crate::mcp::shares::Share;

/// The connections whose streams are open.
#[derive(Default)]
pub struct Connections(Mutex<HashMap<Nonce, Weak<Connection>>>);

/// Keeps a connection while its stream is read.
struct Open {
    connections: Arc<Connections>,
    nonce: Nonce,
    _connection: Arc<Connection>,
    _permit: Share,
}

impl Connections {
    fn get(&self, nonce: &Nonce) -> Option<Arc<Connection>> {
        self.lock().get(nonce).and_then(Weak::upgrade)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Nonce, Weak<Connection>>> {
        // Changed by whole steps only; a panic elsewhere cannot tear it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.nonce);
    }
}

impl Front {
    /// Opens a connection: its first event says where to post.
    pub(super) fn sse(self: &Arc<Self>, caller: &Caller<'_>) -> Result<Response<McpBody>, Refusal> {
        if !Accept::of(caller.headers)?.stream {
            let problem = "this stream is text/event-stream";
            return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, code::INVALID_REQUEST, problem));
        }
        let filter = headers::filter(caller.headers)?;
        let permit = self.share(&self.streams, caller)?;
        let principal = &caller.principal;
        let (revision, patience) = (Revision::V2024_11_05, Patience::default());
        let minted = self.key.mint(&principal.id, revision, patience, caller.offer);
        let (session, id) = minted.map_err(unavailable)?;
        let principal = Arc::clone(principal);
        let (connection, said) =
            Connection::open(self, principal, session.offer, session.nonce, filter);
        let connection = Arc::new(connection);
        self.connections.lock().insert(session.nonce, Arc::downgrade(&connection));
        let open = Open {
            connections: Arc::clone(&self.connections),
            nonce: session.nonce,
            _connection: connection,
            _permit: permit,
        };
        let endpoint = format!("event: endpoint\ndata: /messages?sessionId={id}\n\n");
        let mut keep_alive = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let state = (said.boxed(), keep_alive, open);
        let said = stream::unfold(state, |(mut said, mut keep_alive, open)| async move {
            let next = tokio::select! {
                biased;
                next = said.next() => next?,
                _ = keep_alive.tick() => Bytes::from_static(frames::KEEP_ALIVE),
            };
            keep_alive.reset();
            Some((next, (said, keep_alive, open)))
        });
        let first = stream::once(std::future::ready(Bytes::from(endpoint)));
        Ok(stream_response(first.chain(said)))
    }

    /// Takes a message for a connection.
    pub(super) async fn posted(
        &self,
        caller: &Caller<'_>,
        query: &str,
        body: &[u8],
    ) -> Result<Response<McpBody>, Refusal> {
        headers::require_json(caller.headers)?;
        let id = query.split('&').find_map(|pair| pair.strip_prefix("sessionId="));
        let id = id.ok_or_else(|| Refusal::invalid_request("sessionId is missing"))?;
        let session = self.key.open(&caller.principal.id, id).ok_or_else(no_session)?;
        let connection = self.connections.get(&session.nonce).ok_or_else(no_session)?;
        connection.accept(message::parse(body)?).await?;
        Ok(empty_response(StatusCode::ACCEPTED))
    }
}
