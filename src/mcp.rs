//! The Model Context Protocol: eras, tools, and push from the journal.
//!
//! Theory of operation: a request is read strictly, then classified by its body
//! (`era`): a message that bears a modern claim stands alone, `initialize` begins
//! a session, everything else belongs to one. What is wrong up to here is told as
//! a JSON-RPC error by the `front`; rmcp never sees it.
//!
//! rmcp is the engine for what remains: it serves one message at a time over a
//! transport that holds just this message (`engine`), so the same engine serves
//! every era and transport and keeps no session. Its own HTTP service and session
//! objects are not used: they answer refusals in bare text, lose and repeat
//! messages on resumption, and take four times the memory of ours.
//!
//! A session is an authenticated value in its id (`session`); what an id cannot
//! carry is kept in a small bounded table (`sessions`). Its stream (`push`) is a
//! subscription of the journal and a place: it owns no queue, so a stalled reader
//! costs nothing and a resumed one is given exactly what followed.
//!
//! Cancelling a request, or losing its connection, ends the wait and never a task.

mod answer;
mod asking;
mod engine;
mod era;
mod events;
mod frames;
mod front;
mod guest;
mod handler;
mod headers;
mod message;
mod offer;
mod page;
mod patience;
mod push;
mod refusal;
mod replies;
mod resources;
mod revision;
mod session;
mod sessions;
mod shares;
mod stdio;
mod tasks;
mod tools;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use rmcp::model::MetaObject;

use crate::bus::Bus;
use crate::fleet::Fleet;
use crate::model::{Principal, Scope, Timestamp, ToolSets};

pub use guest::{Guest, GuestReply, Talk};
pub use refusal::Refusal;
pub use session::SessionKey;
pub use tasks::TaskSupport;

use engine::Engine;
use front::Front;
use tasks::Works;
use tools::{Deps, Tools};

/// The body of an answer: whole, or a stream of server-sent events.
pub type McpBody = UnsyncBoxBody<Bytes, Infallible>;

/// Who this daemon is, as `version` and `fleet_status` tell it.
#[derive(Clone, Debug)]
pub struct Identity {
    pub version: &'static str,
    pub instance: String,
    pub started: Timestamp,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    /// Makes session ids ours. The same after a restart, so that ids survive it.
    pub session_key: SessionKey,
}

/// The scopes that calling the tools of `sets` takes: a token of these sets has
/// no use for others.
pub fn scopes_of(sets: ToolSets) -> Vec<Scope> {
    Tools::new().scopes(sets)
}

impl Identity {
    /// Who answers, as every result of the stateless era says (2026-07-28, basic).
    fn meta(&self) -> MetaObject {
        let mut meta = MetaObject::new();
        let info = serde_json::json!({ "name": "fleetd", "version": self.version });
        meta.insert(String::from("io.modelcontextprotocol/serverInfo"), info);
        meta
    }
}

/// The protocol's server side; clones share it.
#[derive(Clone)]
pub struct Mcp {
    front: Arc<Front>,
}

impl Mcp {
    pub fn new(identity: Identity, bus: Bus, fleet: Fleet) -> Self {
        Self::with_guest(identity, bus, fleet, None)
    }

    /// The same with somebody who serves what fleetd itself does not.
    pub fn with_guest(
        identity: Identity,
        bus: Bus,
        fleet: Fleet,
        guest: Option<Arc<dyn Guest>>,
    ) -> Self {
        let key = identity.session_key.clone();
        let events = AtomicBool::new(false);
        let deps = Deps { identity, bus: bus.clone(), fleet, events, works: Works::default() };
        let engine = Engine::new(deps, guest);
        Self { front: Arc::new(Front::new(engine, bus, key)) }
    }

    /// Answers one HTTP request to `/mcp`, whose caller is already verified and
    /// whose body is already within bounds.
    pub async fn handle(
        &self,
        principal: Principal,
        request: http::Request<Bytes>,
    ) -> http::Response<McpBody> {
        self.front.handle(principal, request).await
    }

    /// Whether the HTTP+SSE transport of 2024-11-05 is served, from now on.
    pub fn set_legacy_sse(&self, on: bool) {
        self.front.set_legacy_sse(on);
    }

    /// Whether the Events extension is served and announced, from now on.
    pub fn set_events_extension(&self, on: bool) {
        self.front.set_events_extension(on);
    }

    /// Ends all open streams, and the waits that calls are in.
    pub fn close(&self) {
        self.front.close();
    }

    /// Returns when all streams have ended, after [`Mcp::close`]: some have a last
    /// word to say. A reader that takes nothing keeps its stream open.
    pub async fn closed(&self) {
        self.front.closed().await;
    }
}
