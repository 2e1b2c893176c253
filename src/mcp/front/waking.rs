//! How whoever speaks in a session can be woken: noted as it is told, for who
//! wakes. Nothing here is obeyed; it is kept with the session and ends with it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Caller, Front};
use crate::mcp::message::Message;
use crate::mcp::session::McpSession;
use crate::wire::wake;

/// Where Codex says in which thread it calls a tool.
const THREAD: &str = "threadId";

/// What a handshake tells: the names that a bridge found in its environment, and
/// the client's own beside them.
pub fn waking(handshake: &Message) -> BTreeMap<String, String> {
    let told = handshake.meta(wake::META).and_then(Value::as_object);
    let mut names = BTreeMap::new();
    for (_, name) in wake::ENVIRONMENT {
        let value = told.and_then(|told| told.get(name)?.as_str());
        if let Some(value) = value.filter(|value| wake::is_address(value)) {
            names.insert(name.to_owned(), value.to_owned());
        }
    }
    if !names.is_empty() && wake::is_address(handshake.client_name()) {
        names.insert(wake::CLIENT.to_owned(), handshake.client_name().to_owned());
    }
    names
}

impl Front {
    /// Keeps it. A client is served all the same if that cannot be.
    pub(super) async fn note_waking(
        &self,
        caller: &Caller<'_>,
        session: McpSession,
        names: BTreeMap<String, String>,
    ) {
        if self.sessions.wake_by(&caller.principal.id, session.nonce, names) {
            // Why not is in the log.
            let _ = self.keep(session).await;
        }
    }

    /// Notes the thread that a call comes from, once.
    pub(super) async fn note_thread(
        &self,
        caller: &Caller<'_>,
        session: McpSession,
        message: &Message,
    ) {
        if message.method() != "tools/call" {
            return;
        }
        let thread = message.meta(THREAD).and_then(Value::as_str);
        if let Some(thread) = thread.filter(|thread| wake::is_address(thread)) {
            let names = [(wake::CODEX_THREAD.to_owned(), thread.to_owned())].into();
            self.note_waking(caller, session, names).await;
        }
    }
}
