//! A client on a connection of its own, as HTTP+SSE (2024-11-05) gives it one.
//!
//! Messages come in one by one and what is said goes out on one bounded channel,
//! in the order in which it is said. The session is the connection: when it
//! ends, waits end with it, and tasks go on.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Caller, Front, batch, call, too_much};
use crate::mcp::answer::Sayings;
use crate::mcp::engine::Said;
use crate::mcp::era::{Era, classify_alone};
use crate::mcp::frames::{self, Form};
use crate::mcp::message::{Kind, Message};
use crate::mcp::patience::Patience;
use crate::mcp::push::Push;
use crate::mcp::refusal::{Refusal, code};
use crate::mcp::revision::Revision;
use crate::mcp::session::{McpSession, Nonce};
use crate::mcp::sessions::CallEntry;
use crate::mcp::shares::{Share, Shares};
use crate::model::{Filter, Principal, ToolSets};

/// Things said that wait to be read. When it is full, those who speak wait.
const MOST_UNREAD: usize = 64;

/// Calls of one connection under way at once.
const MOST_CALLS: usize = 256;

/// A client on a connection of its own. Dropping it ends what it waits for.
pub struct Connection {
    front: Arc<Front>,
    principal: Arc<Principal>,
    session: Mutex<McpSession>,
    /// What it wants to hear of.
    filter: Filter,
    out: mpsc::Sender<Bytes>,
    calls: Arc<Semaphore>,
    /// Cancelled when the connection is gone, or the daemon closes.
    gone: CancellationToken,
    _gone: DropGuard,
}

impl Connection {
    /// A connection, and what it says, as server-sent events. The stream ends when the
    /// connection is dropped or the daemon closes.
    pub fn open(
        front: &Arc<Front>,
        principal: Arc<Principal>,
        offer: ToolSets,
        nonce: Nonce,
        filter: Filter,
    ) -> (Self, impl Stream<Item = Bytes> + Send + 'static + use<>) {
        let (out, said) = mpsc::channel(MOST_UNREAD);
        let gone = front.closing.child_token();
        let (revision, patience) = (Revision::V2024_11_05, Patience::default());
        let session = McpSession { revision, patience, offer, nonce };
        let connection = Self {
            front: Arc::clone(front),
            principal,
            session: Mutex::new(session),
            filter,
            out,
            calls: Arc::new(Semaphore::new(MOST_CALLS)),
            _gone: gone.clone().drop_guard(),
            gone: gone.clone(),
        };
        let said = stream::unfold((said, gone), |(mut said, gone)| async move {
            let next = tokio::select! {
                // What was said before the end is still read.
                biased;
                next = said.recv() => next?,
                () = gone.cancelled() => said.try_recv().ok()?,
            };
            Some((next, (said, gone)))
        });
        (connection, said)
    }

    /// Takes one message, or a batch where the revision has them. What it leads to
    /// is said on the connection, a refusal too if the message can be answered.
    ///
    /// # Errors
    /// If it cannot be answered: no JSON-RPC message, or too much going on.
    pub async fn accept(&self, value: Value) -> Result<(), Refusal> {
        let message = match value {
            Value::Array(messages) => return self.batch(messages).await,
            value => Message::of(value)?,
        };
        let id = message.id().cloned();
        match self.serve(message).await {
            Err(refusal) if id.is_some() && refusal.status != StatusCode::SERVICE_UNAVAILABLE => {
                let reply = refusal.with_id(id.as_ref()).body();
                self.say(reply.into()).await;
                Ok(())
            }
            served => served,
        }
    }

    async fn serve(&self, message: Message) -> Result<(), Refusal> {
        match classify_alone(&message)? {
            Era::Dropped => Ok(()),
            Era::Handshake => self.handshake(message),
            Era::Modern(revision) => self.modern(message, revision).await,
            Era::Session if message.kind != Kind::Request => self.notified(&message),
            Era::Session => self.in_session(message).await,
        }
    }

    fn handshake(&self, message: Message) -> Result<(), Refusal> {
        let asked = message.param("protocolVersion").and_then(Value::as_str).unwrap_or_default();
        let session = {
            // Held for these lines only.
            let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
            session.revision = Revision::negotiate(asked);
            session.patience = Patience::of_client(message.client_name());
            *session
        };
        self.begin(message, session.revision, session)
    }

    async fn modern(&self, message: Message, revision: Revision) -> Result<(), Refusal> {
        let mut session = self.session();
        session.patience = Patience::of_client(message.client_name());
        let listens = message.method() == "subscriptions/listen";
        if !revision.is_modern() || !(listens || self.front.feeds(&message)) {
            return self.begin(message, revision, session);
        }
        let permit = self.permit()?;
        let headers = HeaderMap::new();
        let caller = self.caller(&headers);
        let notices = match listens {
            true => self.front.listening(&caller, &message).await?.boxed(),
            false => self.front.feeding(&caller, &message).await?.boxed(),
        };
        let entry = message.id().map(|id| self.enter(session.nonce, id));
        let cancelled = entry.as_ref().map(|entry| entry.cancel.token.clone());
        let until = cancelled.unwrap_or_default();
        self.forward(notices, until, (permit, entry));
        Ok(())
    }

    async fn in_session(&self, message: Message) -> Result<(), Refusal> {
        let session = self.session();
        let headers = HeaderMap::new();
        if let Some(reply) = self.front.setting(&self.caller(&headers), session, &message).await {
            self.say(reply.into()).await;
            return Ok(());
        }
        self.begin(message, session.revision, session)
    }

    /// Serves each message by itself and says the replies together (2025-03-26,
    /// messages). Progress is said as it comes.
    async fn batch(&self, messages: Vec<Value>) -> Result<(), Refusal> {
        let messages = batch::read(messages, classify_alone)?;
        let session = self.session();
        batch::require(session)?;
        let permits = (self.permit()?, self.share(&self.front.calls)?);
        let headers = HeaderMap::new();
        let caller = self.caller(&headers);
        let mut said = Vec::new();
        for message in messages {
            if message.kind != Kind::Request {
                self.notified(&message)?;
            } else if let Some(reply) = self.front.setting(&caller, session, &message).await {
                said.push(batch::said_already(reply));
            } else {
                said.push(self.call(message, session.revision, session)?);
            }
        }
        if !said.is_empty() {
            let together = batch::together(said);
            self.forward(together, CancellationToken::new(), permits);
        }
        Ok(())
    }

    /// Begins to serve a request.
    fn call(
        &self,
        message: Message,
        revision: Revision,
        session: McpSession,
    ) -> Result<Sayings, Refusal> {
        let entry = message.id().map(|id| self.enter(session.nonce, id));
        let cancel = entry.as_ref().map(|entry| Arc::clone(&entry.cancel)).unwrap_or_default();
        let headers = HeaderMap::new();
        let mut call = call(&self.caller(&headers), session.patience, cancel, &self.gone);
        call.session = Some(session.nonce);
        self.front.serve(message.value, revision, call, entry)
    }

    fn enter(&self, session: Nonce, id: &Value) -> CallEntry {
        self.front.sessions.enter(&self.principal.id, session, id)
    }

    /// Serves a request; what it says is forwarded.
    fn begin(
        &self,
        message: Message,
        revision: Revision,
        session: McpSession,
    ) -> Result<(), Refusal> {
        let permits = (self.permit()?, self.share(&self.front.calls)?);
        let said = self.call(message, revision, session)?;
        let said = said.map(|said| {
            match said {
                Said::Notification(body) | Said::Reply { body, .. } => frame(&body),
                // This connection is all there is.
                Said::HangUp => Bytes::new(),
            }
        });
        self.forward(said.boxed(), CancellationToken::new(), permits);
        Ok(())
    }

    fn notified(&self, message: &Message) -> Result<(), Refusal> {
        let session = self.session();
        if message.method() == "notifications/initialized" {
            return self.push(session);
        }
        self.front.notified(session, message);
        Ok(())
    }

    /// Pushes events, once the client says that it is ready for them.
    fn push(&self, session: McpSession) -> Result<(), Refusal> {
        let permit = self.share(&self.front.streams)?;
        // Said twice, it is still one stream: the older one ends.
        let opened = self.front.sessions.open_stream(&self.principal.id, session.nonce);
        let (number, control) = opened;
        let push = Push {
            bus: self.front.bus.clone(),
            principal: Arc::clone(&self.principal),
            revision: session.revision,
            sessions: Arc::clone(&self.front.sessions),
            session: session.nonce,
            number,
            control,
            closing: self.gone.clone(),
            form: Form::Plain,
            filter: self.filter.clone(),
            _permit: permit,
        };
        let pushed = push.open(None).map_err(|error| {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code::INTERNAL, error.to_string())
        })?;
        self.forward(pushed.boxed(), CancellationToken::new(), ());
        Ok(())
    }

    /// Says what a stream yields, until it ends, `until` is cancelled, or the
    /// connection is gone. `held` is given back then.
    fn forward<H: Send + 'static>(
        &self,
        mut from: stream::BoxStream<'static, Bytes>,
        until: CancellationToken,
        held: H,
    ) {
        let (out, gone) = (self.out.clone(), self.gone.clone());
        self.front.detached.spawn(async move {
            let _held = held;
            let forward = async {
                while let Some(bytes) = from.next().await {
                    if out.send(bytes).await.is_err() {
                        break;
                    }
                }
            };
            tokio::select! {
                biased;
                () = until.cancelled() => {}
                () = forward => {}
                // A last word may be on its way when the daemon closes.
                () = gone.cancelled() => {}
            }
        });
    }

    async fn say(&self, message: Bytes) {
        // Nobody reads any more: then nobody misses it.
        let _ = self.out.send(frame(&message)).await;
    }

    /// One of this connection's own places.
    fn permit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.calls).try_acquire_owned().map_err(|_| too_much())
    }

    /// One of everybody's.
    fn share(&self, of: &Shares) -> Result<Share, Refusal> {
        of.take(&self.principal).ok_or_else(too_much)
    }

    fn session(&self) -> McpSession {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn caller<'a>(&self, headers: &'a HeaderMap) -> Caller<'a> {
        let offer = self.session().offer;
        Caller { principal: Arc::clone(&self.principal), headers, offer, piped: false }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Its session has no id, so nobody can come back to it.
        self.front.sessions.forget(&self.session().nonce);
    }
}

/// A message as the connection carries it.
pub fn frame(message: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(message.len() + 32);
    frames::push_message(&mut out, message);
    out.into()
}
