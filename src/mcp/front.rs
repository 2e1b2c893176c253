//! The front: from an HTTP request to the engine, and back.

mod batch;
mod connection;
mod feed;
mod listen;
mod saying;
mod settings;
mod sse;
mod stream;
mod waking;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::McpBody;
use super::answer::{Calls, Detached, Sayings, Shape, respond};
use super::engine::{Engine, Said};
use super::era::{Era, classify};
use super::headers::{self, Accept, Piped};
use super::message::{self, Kind, Message};
use super::offer;
use super::patience::Patience;
use super::refusal::{Refusal, code, empty_response, json_response};
use super::replies::Replies;
use super::revision::Revision;
use super::session::{McpSession, SessionKey};
use super::sessions::{CallEntry, Cancel, Sessions};
use super::shares::{Share, Shares};
use super::tools::Call;
use crate::bus::Bus;
use crate::model::{Principal, ToolSets};
use crate::store::StoreError;
use saying::Saying;
use sse::Connections;
use waking::waking;

/// Requests with calls under way, and streams open, at once; one token has a quarter
/// of them at most, and a quarter is the owner's alone. Beyond it the next one is refused and may try again;
/// those that are served are not disturbed.
const MOST_CALLS: u32 = 2048;
const MOST_STREAMS: u32 = 4096;

/// Everything that a request needs; one for the life of the daemon.
pub struct Front {
    engine: Engine,
    bus: Bus,
    key: SessionKey,
    sessions: Arc<Sessions>,
    calls: Shares,
    streams: Shares,
    closing: CancellationToken,
    detached: TaskTracker,
    replies: Arc<Replies>,
    connections: Arc<Connections>,
    /// Serve HTTP+SSE (2024-11-05) as well.
    legacy_sse: AtomicBool,
}

/// A request as far as its headers tell.
struct Caller<'a> {
    principal: Arc<Principal>,
    headers: &'a HeaderMap,
    /// The tools that it asks for.
    offer: ToolSets,
    /// It speaks over a pipe: its headers were made from its message.
    piped: bool,
}

impl Front {
    pub fn new(engine: Engine, bus: Bus, key: SessionKey) -> Self {
        Self {
            engine,
            bus,
            key,
            sessions: Arc::new(Sessions::default()),
            calls: Shares::new(MOST_CALLS),
            streams: Shares::new(MOST_STREAMS),
            closing: CancellationToken::new(),
            detached: TaskTracker::new(),
            replies: Arc::new(Replies::new(seed())),
            connections: Arc::default(),
            legacy_sse: AtomicBool::new(true),
        }
    }

    /// Ends streams, and waits that calls are in.
    pub fn close(&self) {
        self.closing.cancel();
        self.engine.deps().works.close();
        self.detached.close();
    }

    /// Returns when every stream has said its last word and is gone.
    pub async fn closed(&self) {
        self.streams.all_free().await;
    }

    /// Whether HTTP+SSE is served; open connections go on.
    pub fn set_legacy_sse(&self, on: bool) {
        self.legacy_sse.store(on, Ordering::Relaxed);
    }

    /// Whether the Events extension is served; open streams go on.
    pub fn set_events_extension(&self, on: bool) {
        self.engine.deps().events.store(on, Ordering::Relaxed);
    }

    pub async fn handle(
        self: &Arc<Self>,
        principal: Principal,
        request: Request<Bytes>,
    ) -> Response<McpBody> {
        let (parts, body) = request.into_parts();
        let (place, sets) = offer::split(parts.uri.path());
        let offer = match offer::of(sets, &parts.headers) {
            Ok(offer) => offer,
            Err(refusal) => return refusal.with_id(message::id_of(&body).as_ref()).into_response(),
        };
        let piped = parts.extensions.get::<Piped>().is_some();
        let principal = Arc::new(principal);
        let caller = Caller { principal, headers: &parts.headers, offer, piped };
        let legacy = self.legacy_sse.load(Ordering::Relaxed);
        let answer = match (parts.method, place) {
            (Method::GET, "/sse") if legacy => self.sse(&caller),
            (Method::POST, "/messages") if legacy => {
                self.posted(&caller, parts.uri.query().unwrap_or_default(), &body).await
            }
            (_, "/sse" | "/messages") => Err(no_transport()),
            (Method::POST, _) => self.post(&caller, &body).await,
            (Method::GET, _) if legacy && is_bare(&parts.headers) => self.sse(&caller),
            (Method::GET, _) => self.get(&caller).await,
            (Method::DELETE, _) => self.delete(&caller).await,
            _ => Err(not_allowed("use POST, GET or DELETE")),
        };
        answer.unwrap_or_else(Refusal::into_response)
    }

    async fn post(&self, caller: &Caller<'_>, body: &[u8]) -> Result<Response<McpBody>, Refusal> {
        headers::require_json(caller.headers)?;
        let accept = Accept::of(caller.headers)?;
        match message::parse(body)? {
            Value::Array(messages) => self.batch(caller, accept, messages).await,
            value => self.single(caller, accept, Message::of(value)?).await,
        }
    }

    async fn single(
        &self,
        caller: &Caller<'_>,
        accept: Accept,
        message: Message,
    ) -> Result<Response<McpBody>, Refusal> {
        match classify(&message, caller.headers)? {
            Era::Modern(revision) => self.modern(caller, accept, revision, message).await,
            Era::Handshake => self.handshake(caller, accept, message).await,
            Era::Dropped => Ok(empty_response(StatusCode::ACCEPTED)),
            Era::Session => {
                let session = self.session(caller).await.map_err(|r| r.with_id(message.id()))?;
                self.in_session(caller, accept, session, message).await
            }
        }
    }

    async fn modern(
        &self,
        caller: &Caller<'_>,
        accept: Accept,
        revision: Revision,
        message: Message,
    ) -> Result<Response<McpBody>, Refusal> {
        if revision.is_modern() && message.method() == "subscriptions/listen" {
            let id = message.id().cloned();
            let listening = self.listen(caller, accept, &message).await;
            return listening.map_err(|refusal| refusal.with_id(id.as_ref()));
        }
        if revision.is_modern() && self.feeds(&message) {
            let id = message.id().cloned();
            let feeding = self.feed(caller, accept, &message).await;
            return feeding.map_err(|refusal| refusal.with_id(id.as_ref()));
        }
        if revision.is_modern() && !caller.piped && message.method() == "tools/call" {
            let named = message.param("name").and_then(Value::as_str).unwrap_or_default();
            if let Some(schema) = self.engine.input_of(named) {
                let arguments = message.param("arguments");
                headers::check_params(caller.headers, &schema, arguments)
                    .map_err(|refusal| refusal.with_id(message.id()))?;
            }
        }
        let permit = self.share(&self.calls, caller)?;
        let hurry = self.closing.child_token();
        let patience = Patience::of_client(message.client_name());
        let call = call(caller, patience, Arc::default(), &hurry);
        let said = self.serve(message.value, revision, call, None)?;
        let shape = Shape { accept, batch: false, modern: true };
        Ok(respond(Calls::new(said, 1, hurry, None, permit), shape).await)
    }

    /// Begins a session. An id that came along is a former one: clients send it
    /// after a restart of theirs.
    async fn handshake(
        &self,
        caller: &Caller<'_>,
        accept: Accept,
        message: Message,
    ) -> Result<Response<McpBody>, Refusal> {
        let asked = message.param("protocolVersion").and_then(Value::as_str).unwrap_or_default();
        let revision = Revision::negotiate(asked);
        let patience = Patience::of_client(message.client_name());
        let principal = &caller.principal.id;
        let minted = self.key.mint(principal, revision, patience, caller.offer);
        let (session, id) = minted.map_err(unavailable)?;
        let permit = self.share(&self.calls, caller)?;
        let hurry = self.closing.child_token();
        let call = call(caller, patience, Arc::default(), &hurry);
        let wake = waking(&message);
        let mut said = self.serve(message.value, revision, call, None)?;
        // Said at once, so it can be looked at: a refused handshake begins nothing.
        let Some(Said::Reply { body, error }) = said.next().await else {
            return Err(Refusal::new(
                StatusCode::OK,
                code::INTERNAL,
                "the handshake was not answered",
            ));
        };
        let reply =
            futures_util::stream::once(std::future::ready(Said::Reply { body, error })).boxed();
        let shape = Shape { accept, batch: false, modern: false };
        let mut response = respond(Calls::new(reply, 1, hurry, None, permit), shape).await;
        if error.is_none() && !wake.is_empty() {
            self.note_waking(caller, session, wake).await;
        }
        if error.is_none()
            && let Ok(id) = HeaderValue::from_str(&id)
        {
            response.headers_mut().insert(headers::SESSION, id);
        }
        Ok(response)
    }

    async fn in_session(
        &self,
        caller: &Caller<'_>,
        accept: Accept,
        session: McpSession,
        message: Message,
    ) -> Result<Response<McpBody>, Refusal> {
        if message.kind != Kind::Request {
            self.notified(session, &message);
            return Ok(empty_response(StatusCode::ACCEPTED));
        }
        if let Some(reply) = self.kept_setting(caller, session, &message).await {
            return Ok(json_response(StatusCode::OK, reply.into()));
        }
        let permit = self.share(&self.calls, caller)?;
        self.note_thread(caller, session, &message).await;
        let hurry = self.closing.child_token();
        let asked = message.id().cloned();
        let said = self.serve_in_session(caller, session, message, &hurry)?;
        let calls = Calls::new(said, 1, hurry, Some(self.detached(caller, session, asked)), permit);
        Ok(respond(calls, Shape { accept, batch: false, modern: false }).await)
    }

    fn notified(&self, session: McpSession, message: &Message) {
        if message.kind == Kind::Response {
            return self.engine.answered(session.nonce, &message.value);
        }
        if message.method() == "notifications/cancelled"
            && let Some(id) = message.param("requestId")
        {
            self.sessions.cancel(session.nonce, id);
        }
    }

    fn serve_in_session(
        &self,
        caller: &Caller<'_>,
        session: McpSession,
        message: Message,
        hurry: &CancellationToken,
    ) -> Result<Sayings, Refusal> {
        let principal = &caller.principal.id;
        let entry = message.id().map(|id| self.sessions.enter(principal, session.nonce, id));
        let cancel = entry.as_ref().map(|entry| Arc::clone(&entry.cancel)).unwrap_or_default();
        let mut call = call(caller, session.patience, cancel, hurry);
        (call.session, call.offer) = (Some(session.nonce), session.offer);
        self.serve(message.value, session.revision, call, entry)
    }

    fn serve(
        &self,
        request: Value,
        revision: Revision,
        call: Call,
        entry: Option<CallEntry>,
    ) -> Result<Sayings, Refusal> {
        let id = request.get("id").cloned();
        let cancel = Arc::clone(&call.cancel);
        let exchange = self.engine.serve(request, revision, call)?;
        let saying = Saying::new(exchange, cancel, id, entry);
        let said = futures_util::stream::unfold(saying, |mut saying| async move {
            let said = saying.next().await?;
            Some((said, saying))
        });
        Ok(said.boxed())
    }

    fn detached(&self, caller: &Caller<'_>, session: McpSession, asked: Option<Value>) -> Detached {
        Detached {
            tracker: self.detached.clone(),
            replies: Arc::clone(&self.replies),
            principal: Arc::clone(&caller.principal.id),
            session: session.nonce,
            asked,
            revision: session.revision,
            closing: self.closing.clone(),
        }
    }

    /// The session that the request belongs to.
    async fn session(&self, caller: &Caller<'_>) -> Result<McpSession, Refusal> {
        let id = headers::one(caller.headers, &headers::SESSION)?.ok_or_else(|| {
            Refusal::invalid_request("header mcp-session-id is missing; initialize gives one")
        })?;
        self.sessions.load(self.bus.store()).await.map_err(|error| unkept(&error))?;
        // Forged, foreign and ended are told apart by nobody.
        self.key
            .open(&caller.principal.id, id)
            .filter(|session| !self.sessions.has_ended(&session.nonce))
            .ok_or_else(no_session)
    }

    fn share(&self, of: &Shares, caller: &Caller<'_>) -> Result<Share, Refusal> {
        of.take(&caller.principal).ok_or_else(too_much)
    }
}

fn too_much() -> Refusal {
    let problem = "too much is going on at once; try again when some of it has ended";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code::INTERNAL, problem)
}

fn call(
    caller: &Caller<'_>,
    patience: Patience,
    cancel: Arc<Cancel>,
    hurry: &CancellationToken,
) -> Call {
    let (principal, hurry) = (Arc::clone(&caller.principal), hurry.clone());
    Call { principal, offer: caller.offer, patience, cancel, hurry, session: None }
}

/// Where the numbers of answers begin: somewhere else after each start, so that
/// an id from before it names nothing. Without random bytes, at the beginning.
fn seed() -> u64 {
    getrandom::u64().map_or(1, |seed| seed >> 1)
}

/// A `GET` by a client that knows no sessions. Every client since 2025-03-26 was
/// given one, and says which revision it speaks; who says neither fell back to
/// HTTP+SSE on the address it was configured with (2025-03-26, transports).
fn is_bare(headers: &HeaderMap) -> bool {
    ![headers::SESSION, headers::VERSION, headers::LAST_EVENT_ID]
        .iter()
        .any(|name| headers.contains_key(name))
}

fn no_transport() -> Refusal {
    let problem = "the HTTP+SSE transport is switched off; post to /mcp";
    Refusal::new(StatusCode::NOT_FOUND, code::INVALID_REQUEST, problem)
}

fn unavailable(error: getrandom::Error) -> Refusal {
    tracing::error!(%error, "no random bytes for a session id");
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code::INTERNAL, "no session can begin now")
}

/// What is kept of a session could not be read or written.
fn unkept(error: &StoreError) -> Refusal {
    let problem = format!("what the session asks for cannot be kept: {error}");
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code::INTERNAL, problem)
}

fn no_session() -> Refusal {
    let problem = "there is no such session; initialize begins one";
    Refusal::new(StatusCode::NOT_FOUND, code::INVALID_REQUEST, problem)
}

fn not_allowed(problem: &str) -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, code::INVALID_REQUEST, problem)
}
