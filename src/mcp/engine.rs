//! The engine: one message in, what it leads to out.
//!
//! rmcp serves each message by itself, over a transport that holds just this
//! one. So it keeps no session, and the same engine serves every era and every
//! transport; what differs between them stands in front of it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use rmcp::RoleServer;
use rmcp::model::{
    ClientCapabilities, ClientJsonRpcMessage, GetExtensions, Implementation,
    InitializeRequestParams, JsonRpcMessage, ProtocolVersion, ServerJsonRpcMessage,
};
use rmcp::service::{RunningService, serve_directly_with_ct};
use rmcp::transport::OneshotTransport;
use serde_json::Value;
use tokio::sync::mpsc;

use super::answer::Sayings;
use super::asking::Asking;
use super::guest::{self, Guest};
use super::handler::Handler;
use super::refusal::{Refusal, code};
use super::revision::Revision;
use super::session::Nonce;
use super::tools::{Call, Deps, Object, Tools};

/// What the server says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A notification on the way; JSON.
    Notification(Bytes),
    /// The connection may end here; what follows is fetched by who resumes.
    HangUp,
    /// The last word; JSON, and the code if it is an error.
    Reply { body: Bytes, error: Option<i64> },
}

/// Serves messages; clones share it.
#[derive(Clone)]
pub struct Engine {
    handler: Handler,
    guest: Option<Arc<dyn Guest>>,
    asking: Arc<Asking>,
}

/// A request under way. Dropping it cancels what waits; a task goes on.
pub struct Exchange {
    by: By,
    over: bool,
}

/// Who serves it.
enum By {
    Ours {
        said: mpsc::Receiver<ServerJsonRpcMessage>,
        _service: RunningService<RoleServer, Handler>,
        /// Adds to the result, which is that of a method of this name.
        amend: Option<(Arc<dyn Guest>, String, bool)>,
    },
    Guest(Sayings),
}

impl Engine {
    pub fn new(deps: Deps, guest: Option<Arc<dyn Guest>>) -> Self {
        let handler = Handler { deps: Arc::new(deps), tools: Arc::new(Tools::new()) };
        Self { handler, guest, asking: Arc::default() }
    }

    /// Who else serves here.
    pub fn guest(&self) -> Option<&Arc<dyn Guest>> {
        self.guest.as_ref()
    }

    /// Takes the answer to a question that a call asked.
    pub fn answered(&self, session: Nonce, response: &Value) {
        self.asking.answer(session, response);
    }

    pub fn deps(&self) -> &Arc<Deps> {
        &self.handler.deps
    }

    /// What the tool of this name takes, if there is one.
    pub fn input_of(&self, tool: &str) -> Option<Arc<Object>> {
        // In the order in which they serve.
        let guests = self.guest.as_ref().and_then(|guest| guest.input_of(tool));
        let own = || self.handler.tools.find(tool).ok().map(|tool| Arc::clone(&tool.input));
        guests.map(Arc::new).or_else(own)
    }

    /// Begins to serve a request, whose envelope is sound.
    ///
    /// # Errors
    /// 400 and -32602 if it is not one of the protocol's.
    pub fn serve(
        &self,
        request: Value,
        revision: Revision,
        call: Call,
    ) -> Result<Exchange, Refusal> {
        let guest = self.guest.as_ref();
        if let Some(guest) = guest.filter(|guest| guest.claims(&request)) {
            let modern = revision.is_modern();
            let (asking, deps) = (&self.asking, &self.handler.deps);
            let said = guest::serve(&**guest, request, modern, &call, asking, deps);
            return Ok(Exchange { by: By::Guest(said), over: false });
        }
        let amend = guest.map(|guest| {
            let method = request.get("method").and_then(Value::as_str).unwrap_or_default();
            (Arc::clone(guest), method.to_owned(), revision.is_modern())
        });
        let id = request.get("id").cloned();
        let cancel = call.cancel.token.clone();
        let message = match serde_json::from_value(request) {
            Ok(ClientJsonRpcMessage::Request(mut message)) => {
                message.request.extensions_mut().insert(call);
                ClientJsonRpcMessage::Request(message)
            }
            Ok(_) => return Err(Refusal::invalid_request("not a request").with_id(id.as_ref())),
            Err(error) => {
                let message = format!("the request cannot be read: {error}");
                return Err(Refusal::invalid_params(message).with_id(id.as_ref()));
            }
        };
        let (transport, said) = OneshotTransport::<RoleServer>::new(message);
        let peer = InitializeRequestParams::new(
            ClientCapabilities::default(),
            Implementation::new("client", ""),
        )
        .with_protocol_version(version(revision));
        let service = serve_directly_with_ct(self.handler.clone(), transport, Some(peer), cancel);
        Ok(Exchange { by: By::Ours { said, _service: service, amend }, over: false })
    }
}

impl Exchange {
    /// The next thing said; `None` after the reply, or if there will be none.
    pub async fn next(&mut self) -> Option<Said> {
        if self.over {
            return None;
        }
        let said = match &mut self.by {
            By::Guest(said) => said.next().await?,
            By::Ours { said, amend, .. } => {
                let said = read(&said.recv().await?);
                match amend {
                    Some((guest, method, modern)) => {
                        guest::amended(&**guest, method, *modern, said)
                    }
                    None => said,
                }
            }
        };
        self.over = matches!(said, Said::Reply { .. });
        Some(said)
    }
}

fn read(message: &ServerJsonRpcMessage) -> Said {
    let error = match message {
        JsonRpcMessage::Response(_) => None,
        JsonRpcMessage::Error(error) => Some(i64::from(error.error.code.0)),
        JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => {
            return Said::Notification(encode(message));
        }
    };
    Said::Reply { body: encode(message), error }
}

/// rmcp's models are plain data, so encoding cannot fail; an error that says so
/// stands in rather than a panic.
fn encode(message: &ServerJsonRpcMessage) -> Bytes {
    let body = serde_json::to_vec(message).unwrap_or_else(|error| {
        tracing::error!(%error, "an answer could not be encoded");
        Refusal::new(http::StatusCode::OK, code::INTERNAL, "the answer could not be encoded").body()
    });
    Bytes::from(body)
}

fn version(revision: Revision) -> ProtocolVersion {
    match revision {
        Revision::V2024_11_05 => ProtocolVersion::V_2024_11_05,
        Revision::V2025_03_26 => ProtocolVersion::V_2025_03_26,
        Revision::V2025_06_18 => ProtocolVersion::V_2025_06_18,
        Revision::V2025_11_25 => ProtocolVersion::V_2025_11_25,
        Revision::V2026_07_28 => ProtocolVersion::V_2026_07_28,
    }
}
