//! The Model Context Protocol: eras, tools, and push from the journal.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

use crate::bus::Bus;
use crate::fleet::Fleet;
use crate::model::{Principal, Timestamp};

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
}

/// The protocol's server side; clones share it.
#[derive(Clone)]
pub struct Mcp {
    identity: std::sync::Arc<Identity>,
}

// SKELETON: replaced when the component lands.
impl Mcp {
    pub fn new(identity: Identity, _bus: Bus, _fleet: Fleet) -> Self {
        Self { identity: std::sync::Arc::new(identity) }
    }

    /// Answers one HTTP request to `/mcp`, whose caller is already verified and
    /// whose body is already within bounds.
    pub async fn handle(
        &self,
        _principal: Principal,
        _request: http::Request<Bytes>,
    ) -> http::Response<McpBody> {
        let _ = &self.identity;
        http::Response::new(McpBody::default())
    }

    /// Ends all open streams.
    pub fn close(&self) {}
}
