//! Requests that change what a session's stream carries. They are answered here:
//! a session lives in front of the engine.

use serde_json::{Value, json};

use super::{Caller, Front, unkept};
use crate::mcp::message::Message;
use crate::mcp::refusal::{Refusal, code};
use crate::mcp::resources::{self, MOST_WATCHED};
use crate::mcp::session::McpSession;
use crate::mcp::sessions::Level;

impl Front {
    /// The same as [`Front::setting`]; what it sets is durable when it is said.
    pub(super) async fn kept_setting(
        &self,
        caller: &Caller<'_>,
        session: McpSession,
        message: &Message,
    ) -> Option<Vec<u8>> {
        let reply = self.setting(caller, session, message).await?;
        Some(match self.keep(session).await {
            Ok(()) => reply,
            Err(refusal) => refusal.with_id(message.id()).body(),
        })
    }

    /// Stores what the session says.
    pub(super) async fn keep(&self, session: McpSession) -> Result<(), Refusal> {
        let kept = self.sessions.keep(self.bus.store(), session.nonce).await;
        kept.map_err(|error| {
            tracing::warn!(%error, "what a session asks for was not stored");
            unkept(&error)
        })
    }

    /// The reply, if the message is one of those requests.
    pub(super) async fn setting(
        &self,
        caller: &Caller<'_>,
        session: McpSession,
        message: &Message,
    ) -> Option<Vec<u8>> {
        if self.engine.guest().is_some_and(|guest| guest.claims(&message.value)) {
            return None;
        }
        let set = match message.method() {
            "logging/setLevel" => self.set_level(caller, session, message),
            "resources/subscribe" => self.watch(caller, session, message).await,
            "resources/unsubscribe" => self.unwatch(session, message),
            _ => return None,
        };
        Some(match set {
            Ok(()) => {
                let reply = json!({ "jsonrpc": "2.0", "id": message.id(), "result": {} });
                reply.to_string().into_bytes()
            }
            Err(refusal) => refusal.with_id(message.id()).body(),
        })
    }

    fn set_level(
        &self,
        caller: &Caller<'_>,
        session: McpSession,
        message: &Message,
    ) -> Result<(), Refusal> {
        let level = message.param("level").and_then(Value::as_str).and_then(Level::parse);
        let level = level.ok_or_else(|| {
            Refusal::invalid_params(
                "level has to be debug, info, notice, warning, error, critical, alert or emergency",
            )
        })?;
        let principal = &caller.principal.id;
        self.sessions.set_level(principal, session.nonce, level, self.bus.head().seq);
        Ok(())
    }

    async fn watch(
        &self,
        caller: &Caller<'_>,
        session: McpSession,
        message: &Message,
    ) -> Result<(), Refusal> {
        let uri = uri_of(message)?;
        let known = resources::exists(self.engine.deps(), &caller.principal, uri).await;
        let known = known.map_err(|error| {
            Refusal::new(http::StatusCode::OK, code::INTERNAL, error.to_string())
        })?;
        if !known {
            let short: String = uri.chars().take(256).collect();
            let problem = format!("there is no resource '{short}'");
            let mut refusal = Refusal::new(http::StatusCode::OK, code::RESOURCE_NOT_FOUND, problem);
            refusal.data = Some(json!({ "uri": short }));
            return Err(refusal);
        }
        if self.sessions.watch(&caller.principal.id, session.nonce, uri, self.bus.head()) {
            return Ok(());
        }
        let problem = format!("a session watches at most {MOST_WATCHED} resources");
        Err(Refusal::invalid_params(problem))
    }

    /// What is not watched is not an error: the client wants it so.
    fn unwatch(&self, session: McpSession, message: &Message) -> Result<(), Refusal> {
        self.sessions.unwatch(session.nonce, uri_of(message)?);
        Ok(())
    }
}

fn uri_of(message: &Message) -> Result<&str, Refusal> {
    let uri = message.param("uri").and_then(Value::as_str);
    uri.ok_or_else(|| Refusal::invalid_params("params.uri has to be a string"))
}
