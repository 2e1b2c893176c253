//! A guest: answers requests before fleetd's own handler does, over the same
//! front, sessions and streams. The conformance fixtures are one.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use serde_json::{Map, Value, json};
use tokio::sync::{broadcast, mpsc};

use super::answer::Sayings;
use super::asking::Asking;
use super::engine::Said;
use super::message::META_CAPABILITIES;
use super::refusal::code;
use super::session::Nonce;
use super::tasks::{self, TaskSupport, Work};
use super::tools::{Call, Deps};

/// A result, or a JSON-RPC error object.
pub type GuestReply = Result<Value, Value>;

/// Serves what fleetd itself does not.
pub trait Guest: Send + Sync + 'static {
    /// Whether `request` is the guest's.
    fn claims(&self, request: &Value) -> bool;

    /// Serves a request that it claims.
    fn serve(&self, request: Value, talk: Talk) -> BoxFuture<'static, GuestReply>;

    /// Whether a request that it claims may be served as a task.
    fn task(&self, request: &Value) -> TaskSupport;

    /// The input schema of a tool of its own.
    fn input_of(&self, tool: &str) -> Option<Map<String, Value>>;

    /// Adds to a result of fleetd's own.
    fn amend(&self, method: &str, modern: bool, result: &mut Map<String, Value>);

    /// Changes of lists as they happen: the notification's method.
    fn changes(&self) -> broadcast::Receiver<&'static str>;
}

/// What a guest can say while it serves a request.
#[derive(Clone)]
pub struct Talk {
    /// The request is one of the stateless era, in which only a task can ask.
    pub modern: bool,
    with: With,
}

/// Through what it is said.
#[derive(Clone)]
enum With {
    /// The call's own stream.
    Stream { say: mpsc::Sender<Said>, asking: Arc<Asking>, session: Option<Nonce> },
    /// The task that the call has become.
    Task(Arc<Work>),
}

/// Things said that wait to be read. When it is full, the guest waits.
const MOST_UNREAD: usize = 16;

impl Talk {
    /// Says something on the request's own stream; a task has none.
    pub async fn notify(&self, method: &str, params: Value) {
        let With::Stream { say, .. } = &self.with else { return };
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        // Nobody listens any more: then nobody misses it.
        let _ = say.send(Said::Notification(encode(&message))).await;
    }

    /// Ends the connection and goes on: a client of 2025-11-25 comes back for the
    /// rest after a while. Others stay connected.
    pub async fn hang_up(&self) {
        let With::Stream { say, .. } = &self.with else { return };
        let _ = say.send(Said::HangUp).await;
    }

    /// Asks the client something and waits for its answer, a response with its
    /// `result`. `None` if it cannot be asked, or will not answer any more.
    pub async fn ask(&self, method: &str, params: Value) -> Option<Value> {
        let (say, asking, session) = match &self.with {
            With::Stream { say, asking, session } => (say, asking, (*session)?),
            With::Task(work) => {
                let result = work.ask(method, params).await?;
                return Some(json!({ "result": result }));
            }
        };
        let (id, answer) = asking.begin(session);
        let id = Value::String(id);
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        say.send(Said::Notification(encode(&message))).await.ok()?;
        answer.await.ok()
    }
}

/// What serving `request` leads to.
pub fn serve(
    guest: &dyn Guest,
    request: Value,
    modern: bool,
    call: &Call,
    asking: &Arc<Asking>,
    deps: &Deps,
) -> Sayings {
    let id = request.get("id").cloned();
    if modern {
        let capabilities = &request["params"]["_meta"][META_CAPABILITIES];
        match (guest.task(&request), tasks::declared(Some(capabilities))) {
            (TaskSupport::Never, _) | (TaskSupport::Optional, false) => {}
            (TaskSupport::Required, false) => return at_once(id, Err(tasks::undeclared())),
            (TaskSupport::Required | TaskSupport::Optional, true) => {
                return at_once(id, begin_task(guest, request, call, deps));
            }
        }
    }
    let (say, said) = mpsc::channel(MOST_UNREAD);
    // A connection of its own has a session in either era; only one knows questions.
    let session = call.session.filter(|_| !modern);
    let with = With::Stream { say, asking: Arc::clone(asking), session };
    let reply = guest.serve(request, Talk { modern, with });
    let reply = reply.map(move |reply| answer(id.as_ref(), reply));
    let state = (said, Some(reply.boxed()));
    let sayings = stream::unfold(state, |(mut said, mut reply)| async move {
        let next = match reply.as_mut() {
            Some(replying) => tokio::select! {
                // What was said before the reply comes before it.
                biased;
                Some(early) = said.recv() => early,
                last = replying => {
                    reply = None;
                    match said.try_recv() {
                        Ok(early) => {
                            reply = Some(std::future::ready(last).boxed());
                            early
                        }
                        Err(_) => last,
                    }
                }
            },
            None => return None,
        };
        Some((next, (said, reply)))
    });
    sayings.boxed()
}

/// Serves `request` as a task, and answers with it.
fn begin_task(guest: &dyn Guest, request: Value, call: &Call, deps: &Deps) -> GuestReply {
    let capabilities = request["params"]["_meta"][META_CAPABILITIES].clone();
    let begun = deps.works.begin(&call.principal, capabilities, |work| {
        guest.serve(request, Talk { modern: true, with: With::Task(work) })
    });
    let full =
        || json!({ "code": code::INTERNAL, "message": "too many tasks are held; try later" });
    let work = begun.ok_or_else(full)?;
    let created = tasks::created(work.summary(), Some(deps.identity.meta()));
    let created = serde_json::to_value(created);
    created.map_err(|error| json!({ "code": code::INTERNAL, "message": error.to_string() }))
}

fn at_once(id: Option<Value>, reply: GuestReply) -> Sayings {
    stream::once(std::future::ready(answer(id.as_ref(), reply))).boxed()
}

fn answer(id: Option<&Value>, reply: GuestReply) -> Said {
    let (message, error) = match reply {
        Ok(result) => (json!({ "jsonrpc": "2.0", "id": id, "result": result }), None),
        Err(error) => {
            let code = error["code"].as_i64();
            (json!({ "jsonrpc": "2.0", "id": id, "error": error }), code)
        }
    };
    Said::Reply { body: encode(&message), error }
}

/// A reply of fleetd's own, with what the guest adds.
pub fn amended(guest: &dyn Guest, method: &str, modern: bool, said: Said) -> Said {
    let Said::Reply { body, error: None } = &said else { return said };
    let Ok(mut reply) = serde_json::from_slice::<Value>(body) else { return said };
    let Some(result) = reply.get_mut("result").and_then(Value::as_object_mut) else { return said };
    guest.amend(method, modern, result);
    Said::Reply { body: encode(&reply), error: None }
}

fn encode(message: &Value) -> Bytes {
    message.to_string().into()
}
