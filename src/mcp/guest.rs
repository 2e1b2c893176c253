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
use super::session::Nonce;

/// A result, or a JSON-RPC error object.
pub type GuestReply = Result<Value, Value>;

/// Serves what fleetd itself does not.
pub trait Guest: Send + Sync + 'static {
    /// Whether `request` is the guest's.
    fn claims(&self, request: &Value) -> bool;

    /// Serves a request that it claims.
    fn serve(&self, request: Value, talk: Talk) -> BoxFuture<'static, GuestReply>;

    /// Adds to a result of fleetd's own.
    fn amend(&self, method: &str, modern: bool, result: &mut Map<String, Value>);

    /// Changes of lists as they happen: the notification's method.
    fn changes(&self) -> broadcast::Receiver<&'static str>;
}

/// What a guest can say while it serves a request.
#[derive(Clone)]
pub struct Talk {
    /// The request is one of the stateless era, in which nothing can be asked.
    pub modern: bool,
    say: mpsc::Sender<Said>,
    asking: Arc<Asking>,
    session: Option<Nonce>,
}

/// Things said that wait to be read. When it is full, the guest waits.
const MOST_UNREAD: usize = 16;

impl Talk {
    /// Says something on the request's own stream.
    pub async fn notify(&self, method: &str, params: Value) {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        // Nobody listens any more: then nobody misses it.
        let _ = self.say.send(Said::Notification(encode(&message))).await;
    }

    /// Asks the client something and waits for its answer: the whole response.
    /// `None` if it cannot be asked, or will not answer any more.
    pub async fn ask(&self, method: &str, params: Value) -> Option<Value> {
        let (id, answer) = self.asking.begin(self.session?);
        let id = Value::String(id);
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.say.send(Said::Notification(encode(&message))).await.ok()?;
        answer.await.ok()
    }
}

/// What serving `request` leads to.
pub fn serve(
    guest: &dyn Guest,
    request: Value,
    modern: bool,
    session: Option<Nonce>,
    asking: &Arc<Asking>,
) -> Sayings {
    let id = request.get("id").cloned();
    let (say, said) = mpsc::channel(MOST_UNREAD);
    let talk = Talk { modern, say, asking: Arc::clone(asking), session };
    let reply = guest.serve(request, talk).map(move |reply| {
        let (message, error) = match reply {
            Ok(result) => (json!({ "jsonrpc": "2.0", "id": id, "result": result }), None),
            Err(error) => {
                let code = error["code"].as_i64();
                (json!({ "jsonrpc": "2.0", "id": id, "error": error }), code)
            }
        };
        Said::Reply { body: encode(&message), error }
    });
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
