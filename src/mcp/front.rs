//! The front: from an HTTP request to the engine, and back.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::McpBody;
use super::answer::{Calls, Sayings, Shape, respond, stream_response};
use super::engine::{Engine, Exchange, Said};
use super::era::{Era, classify};
use super::frames;
use super::headers::{self, Accept};
use super::message::{self, Kind, Message};
use super::patience::Patience;
use super::push::Push;
use super::refusal::{Refusal, code, empty_response, json_response};
use super::revision::Revision;
use super::session::{McpSession, SessionKey};
use super::sessions::{CallEntry, Cancel, Level, Sessions};
use super::tools::Call;
use crate::bus::Bus;
use crate::model::{Filter, Principal};

/// Requests with calls under way, and streams open, at once. Beyond it the next
/// one is refused and may try again; those that are served are not disturbed.
const MOST_CALLS: usize = 1024;
const MOST_STREAMS: usize = 4096;

/// Messages in one batch.
const MOST_IN_BATCH: usize = 100;

/// Everything that a request needs; one for the life of the daemon.
pub struct Front {
    engine: Engine,
    bus: Bus,
    key: SessionKey,
    sessions: Arc<Sessions>,
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    closing: CancellationToken,
    detached: TaskTracker,
}

/// A request as far as its headers tell.
struct Caller<'a> {
    principal: Arc<Principal>,
    headers: &'a HeaderMap,
}

impl Front {
    pub fn new(engine: Engine, bus: Bus, key: SessionKey) -> Self {
        Self {
            engine,
            bus,
            key,
            sessions: Arc::new(Sessions::default()),
            calls: Arc::new(Semaphore::new(MOST_CALLS)),
            streams: Arc::new(Semaphore::new(MOST_STREAMS)),
            closing: CancellationToken::new(),
            detached: TaskTracker::new(),
        }
    }

    /// Ends streams, and waits that calls are in.
    pub fn close(&self) {
        self.closing.cancel();
        self.detached.close();
    }

    pub async fn handle(&self, principal: Principal, request: Request<Bytes>) -> Response<McpBody> {
        let (parts, body) = request.into_parts();
        let caller = Caller { principal: Arc::new(principal), headers: &parts.headers };
        let answer = match parts.method {
            Method::POST => self.post(&caller, &body).await,
            Method::GET => self.get(&caller),
            Method::DELETE => self.delete(&caller),
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
                let session = self.session(caller).map_err(|r| r.with_id(message.id()))?;
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
        let permit = self.permit(&self.calls)?;
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
        let (_, id) = self.key.mint(principal, revision, patience).map_err(|error| {
            tracing::error!(%error, "no random bytes for a session id");
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                code::INTERNAL,
                "no session can begin now",
            )
        })?;
        let permit = self.permit(&self.calls)?;
        let hurry = self.closing.child_token();
        let call = call(caller, patience, Arc::default(), &hurry);
        let mut said = self.serve(message.value, revision, call, None)?;
        // Said at once, so it can be looked at: a refused handshake begins nothing.
        let Some(Said::Reply { body, error }) = said.next().await else {
            return Err(Refusal::new(
                StatusCode::OK,
                code::INTERNAL,
                "the handshake was not answered",
            ));
        };
        let reply = stream::once(std::future::ready(Said::Reply { body, error })).boxed();
        let shape = Shape { accept, batch: false, modern: false };
        let mut response = respond(Calls::new(reply, 1, hurry, None, permit), shape).await;
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
        if message.method() == "logging/setLevel" {
            return Ok(json_response(StatusCode::OK, self.set_level(session, &message).into()));
        }
        let permit = self.permit(&self.calls)?;
        let hurry = self.closing.child_token();
        let said = self.serve_in_session(caller, session, message, &hurry)?;
        let calls = Calls::new(said, 1, hurry, Some(self.detached.clone()), permit);
        Ok(respond(calls, Shape { accept, batch: false, modern: false }).await)
    }

    /// A batch (2025-03-26, messages): each message by itself, the replies together.
    async fn batch(
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
            } else if message.method() == "logging/setLevel" {
                let body = Bytes::from(self.set_level(session, &message));
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
        let calls = Calls::new(said, owed, hurry, Some(self.detached.clone()), permit);
        Ok(respond(calls, Shape { accept, batch: true, modern: false }).await)
    }

    fn notified(&self, session: McpSession, message: &Message) {
        if message.method() == "notifications/cancelled"
            && let Some(id) = message.param("requestId")
        {
            self.sessions.cancel(session.nonce, id);
        }
    }

    fn set_level(&self, session: McpSession, message: &Message) -> Vec<u8> {
        let level = message.param("level").and_then(Value::as_str).and_then(Level::parse);
        let Some(level) = level else {
            let problem = "level has to be debug, info, notice, warning, error, critical, alert or \
                emergency";
            return Refusal::invalid_params(problem).with_id(message.id()).body();
        };
        self.sessions.set_level(session.nonce, level);
        json!({ "jsonrpc": "2.0", "id": message.id(), "result": {} }).to_string().into_bytes()
    }

    fn serve_in_session(
        &self,
        caller: &Caller<'_>,
        session: McpSession,
        message: Message,
        hurry: &CancellationToken,
    ) -> Result<Sayings, Refusal> {
        let entry = message.id().map(|id| self.sessions.enter(session.nonce, id));
        let cancel = entry.as_ref().map(|entry| Arc::clone(&entry.cancel)).unwrap_or_default();
        let call = call(caller, session.patience, cancel, hurry);
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
        let saying = Saying { exchange, cancel, id, replied: false, _entry: entry };
        let said = stream::unfold(saying, |mut saying| async move {
            let said = saying.next().await?;
            Some((said, saying))
        });
        Ok(said.boxed())
    }

    /// The session's own stream.
    fn get(&self, caller: &Caller<'_>) -> Result<Response<McpBody>, Refusal> {
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
        let session = self.session(caller)?;
        let last = match headers::one(caller.headers, &headers::LAST_EVENT_ID)? {
            Some(id) => Some(frames::parse_id(id).ok_or_else(|| {
                Refusal::invalid_request("no stream of this session gave out that last-event-id")
            })?),
            None => None,
        };
        let permit = self.permit(&self.streams)?;
        let (number, control) = self.sessions.open_stream(session.nonce);
        let push = Push {
            bus: self.bus.clone(),
            filter: Filter::default().within(&caller.principal),
            revision: session.revision,
            number,
            control,
            closing: self.closing.clone(),
            _permit: permit,
        };
        let body = push.open(last).map_err(|error| Refusal::invalid_request(error.to_string()))?;
        Ok(stream_response(body))
    }

    fn delete(&self, caller: &Caller<'_>) -> Result<Response<McpBody>, Refusal> {
        let session = self.session(caller)?;
        if self.sessions.end(session.nonce) {
            Ok(empty_response(StatusCode::NO_CONTENT))
        } else {
            Err(no_session())
        }
    }

    /// The session that the request belongs to.
    fn session(&self, caller: &Caller<'_>) -> Result<McpSession, Refusal> {
        let id = headers::one(caller.headers, &headers::SESSION)?.ok_or_else(|| {
            Refusal::invalid_request("header mcp-session-id is missing; initialize gives one")
        })?;
        // Forged, foreign and ended are told apart by nobody.
        self.key
            .open(&caller.principal.id, id)
            .filter(|session| !self.sessions.has_ended(&session.nonce))
            .ok_or_else(no_session)
    }

    fn permit(&self, of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(of).try_acquire_owned().map_err(|_| {
            let problem = "too much is going on at once; try again when some of it has ended";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code::INTERNAL, problem)
        })
    }
}

/// A call and what it says.
struct Saying {
    exchange: Exchange,
    cancel: Arc<Cancel>,
    id: Option<Value>,
    replied: bool,
    /// Keeps the call findable for `notifications/cancelled`.
    _entry: Option<CallEntry>,
}

impl Saying {
    async fn next(&mut self) -> Option<Said> {
        if self.replied {
            return None;
        }
        let said = tokio::select! {
            biased;
            // Nothing is said any more to whom asked for silence.
            () = self.cancel.token.cancelled() => return None,
            said = self.exchange.next() => said,
        };
        self.replied = !matches!(said, Some(Said::Notification(_)));
        Some(said.unwrap_or_else(|| {
            let refusal = Refusal::new(StatusCode::OK, code::INTERNAL, "the call was not answered");
            let body = refusal.with_id(self.id.as_ref()).body().into();
            Said::Reply { body, error: Some(code::INTERNAL) }
        }))
    }
}

fn call(
    caller: &Caller<'_>,
    patience: Patience,
    cancel: Arc<Cancel>,
    hurry: &CancellationToken,
) -> Call {
    Call { principal: Arc::clone(&caller.principal), patience, cancel, hurry: hurry.clone() }
}

fn no_session() -> Refusal {
    let problem = "there is no such session; initialize begins one";
    Refusal::new(StatusCode::NOT_FOUND, code::INVALID_REQUEST, problem)
}

fn not_allowed(problem: &str) -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, code::INVALID_REQUEST, problem)
}
