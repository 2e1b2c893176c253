//! `subscriptions/listen` (2026-07-28): the answer is a stream of notices that
//! something asked for has changed, and ends with a result when the daemon does.
//!
//! Nothing is replayed: a client that comes back listens again and reads again,
//! by cursor. fleetd's own lists of tools and resources do not change while it
//! runs, so their notices are neither announced nor accepted; a guest's may.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{Response, StatusCode};
use rmcp::model::DetailedTask;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{Caller, Front};
use crate::bus::{BusError, Start};
use crate::mcp::answer::stream_response;
use crate::mcp::frames;
use crate::mcp::handler::inlined;
use crate::mcp::headers::Accept;
use crate::mcp::message::{META_CAPABILITIES, Message};
use crate::mcp::push::KEEP_ALIVE;
use crate::mcp::refusal::{Refusal, code};
use crate::mcp::resources::{self, MOST_WATCHED, Topic, Uri, Watching};
use crate::mcp::shares::Share;
use crate::mcp::tasks;
use crate::mcp::tools::Deps;
use crate::mcp::{Identity, McpBody};
use crate::model::{Principal, TaskId};

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// What a client asked to be told of, as far as it can be.
#[derive(Default)]
struct Accepted {
    resources: Vec<String>,
    tasks: Vec<TaskId>,
    /// Lists whose changes are told; only a guest's change.
    lists: Vec<&'static str>,
}

/// Filters of changing lists, and the notifications that they admit.
const LISTS: [(&str, &str); 3] = [
    ("toolsListChanged", "notifications/tools/list_changed"),
    ("promptsListChanged", "notifications/prompts/list_changed"),
    ("resourcesListChanged", "notifications/resources/list_changed"),
];

/// A stream of notices.
struct Listening {
    deps: Arc<Deps>,
    principal: Arc<Principal>,
    /// The request's id, of the type that the client gave it.
    id: Value,
    resources: Watching,
    tasks: Watching,
    task_ids: Vec<TaskId>,
    works: broadcast::Receiver<TaskId>,
    changes: Option<broadcast::Receiver<&'static str>>,
    lists: Vec<&'static str>,
    /// Said before anything else.
    first: Option<Bytes>,
    keep_alive: Interval,
    closing: CancellationToken,
    over: bool,
    _permit: Share,
}

impl Front {
    /// # Errors
    /// 406 for a client that takes no stream, -32602 for a filter that cannot be
    /// read, 503 when too many streams are open.
    pub(super) async fn listen(
        &self,
        caller: &Caller<'_>,
        accept: Accept,
        message: &Message,
    ) -> Result<Response<McpBody>, Refusal> {
        require_stream(accept)?;
        Ok(stream_response(self.listening(caller, message).await?))
    }

    /// The stream of notices, as server-sent events.
    pub(super) async fn listening(
        &self,
        caller: &Caller<'_>,
        message: &Message,
    ) -> Result<impl Stream<Item = Bytes> + Send + 'static, Refusal> {
        let deps = self.engine.deps();
        let changes = self.engine.guest().map(|guest| guest.changes());
        let works = deps.works.changes();
        let mut accepted = Accepted::of(deps, &caller.principal, message).await?;
        if changes.is_none() {
            accepted.lists.clear();
        }
        let permit = self.share(&self.streams, caller)?;
        let failed = |error: BusError| {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code::INTERNAL, error.to_string())
        };
        let watch = |things| Watching::new(&self.bus, &caller.principal, things, Start::Now);
        let mut listening = Listening {
            deps: Arc::clone(deps),
            principal: Arc::clone(&caller.principal),
            id: message.id().cloned().unwrap_or_default(),
            resources: watch(accepted.watched_resources()).map_err(failed)?,
            tasks: watch(accepted.watched_tasks()).map_err(failed)?,
            task_ids: accepted.tasks.clone(),
            works,
            changes: changes.filter(|_| !accepted.lists.is_empty()),
            lists: accepted.lists.clone(),
            first: None,
            keep_alive: tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE),
            closing: self.closing.clone(),
            over: false,
            _permit: permit,
        };
        listening.keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        listening.first = Some(listening.begin(&accepted).await);
        Ok(stream::unfold(listening, |mut listening| async move {
            let bytes = listening.next().await?;
            Some((bytes, listening))
        }))
    }
}

impl Accepted {
    /// Reads `params.notifications`; members that are not known, or name what is
    /// not there, are left out.
    async fn of(
        deps: &Arc<Deps>,
        principal: &Principal,
        message: &Message,
    ) -> Result<Self, Refusal> {
        let Some(Value::Object(asked)) = message.param("notifications") else {
            return Err(Refusal::invalid_params("params.notifications has to be an object"));
        };
        let mut accepted = Self::default();
        for (flag, _) in LISTS {
            match asked.get(flag) {
                None | Some(Value::Bool(false)) => {}
                Some(Value::Bool(true)) => accepted.lists.push(flag),
                Some(_) => {
                    return Err(Refusal::invalid_params(format!("{flag} has to be true or false")));
                }
            }
        }
        for uri in names(asked, "resourceSubscriptions")? {
            let known = resources::exists(deps, principal, uri).await;
            if known.unwrap_or_default() && !accepted.resources.iter().any(|known| known == uri) {
                accepted.resources.push(uri.to_owned());
            }
        }
        if tasks::declared(message.meta(META_CAPABILITIES)) {
            for id in names(asked, "taskIds")? {
                let Ok(id) = id.parse() else { continue };
                let seen = tasks::exists(deps, principal, id).await;
                if seen && !accepted.tasks.contains(&id) {
                    accepted.tasks.push(id);
                }
            }
        }
        Ok(accepted)
    }

    fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.tasks.is_empty() && self.lists.is_empty()
    }

    fn watched_resources(&self) -> Vec<(String, Topic)> {
        let watched = |uri: &String| Some((uri.clone(), Uri::parse(uri)?.noun.topic()));
        self.resources.iter().filter_map(watched).collect()
    }

    fn watched_tasks(&self) -> Vec<(String, Topic)> {
        self.tasks.iter().map(|id| (id.to_string(), Topic::Subject(id.subject()))).collect()
    }

    fn to_json(&self) -> Value {
        let mut filter = Map::new();
        for flag in &self.lists {
            filter.insert((*flag).to_owned(), true.into());
        }
        if !self.resources.is_empty() {
            filter.insert(String::from("resourceSubscriptions"), self.resources.clone().into());
        }
        if !self.tasks.is_empty() {
            let ids: Vec<_> = self.tasks.iter().map(ToString::to_string).collect();
            filter.insert(String::from("taskIds"), ids.into());
        }
        filter.into()
    }
}

/// A list of names in a filter.
fn names<'a>(asked: &'a Map<String, Value>, member: &str) -> Result<Vec<&'a str>, Refusal> {
    let Some(list) = asked.get(member) else { return Ok(Vec::new()) };
    let names = list.as_array().map(|list| list.iter().map(Value::as_str).collect::<Vec<_>>());
    let names: Option<Vec<&str>> = names.and_then(|names| names.into_iter().collect());
    match names {
        Some(names) if names.len() <= MOST_WATCHED => Ok(names),
        Some(_) => {
            Err(Refusal::invalid_params(format!("{member} names at most {MOST_WATCHED} things")))
        }
        None => Err(Refusal::invalid_params(format!("{member} has to be a list of strings"))),
    }
}

impl Listening {
    /// The acknowledgement, and at once what does not merely go on: a task may
    /// have ended, or asked, before anybody could listen for it.
    async fn begin(&mut self, accepted: &Accepted) -> Bytes {
        let mut out = Vec::from(frames::OPEN);
        let params = json!({ "notifications": accepted.to_json() });
        self.notify(&mut out, "notifications/subscriptions/acknowledged", params);
        for id in &accepted.tasks {
            self.tell_task(&mut out, *id, tasks::is_news).await;
        }
        if accepted.is_empty() {
            // Nothing will ever be said on it.
            self.complete(&mut out);
        }
        out.into()
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.over {
            return None;
        }
        let mut out = Vec::new();
        tokio::select! {
            biased;
            () = self.closing.cancelled() => self.complete(&mut out),
            touched = self.tasks.next() => match touched {
                Ok(ids) => for id in ids.iter().filter_map(|id| id.parse().ok()) {
                    self.tell_task(&mut out, id, |_| true).await;
                },
                Err(error) => self.fail(&mut out, &error),
            },
            ids = worked(&mut self.works, &self.task_ids), if !self.task_ids.is_empty() => for id in ids {
                self.tell_task(&mut out, id, |_| true).await;
            },
            touched = self.resources.next() => match touched {
                Ok(uris) => for uri in uris {
                    let params = json!({ "uri": uri });
                    self.notify(&mut out, "notifications/resources/updated", params);
                },
                Err(error) => self.fail(&mut out, &error),
            },
            method = changed(&mut self.changes) => {
                let wanted = LISTS.iter().find(|(_, told)| *told == method);
                if wanted.is_some_and(|(flag, _)| self.lists.contains(flag)) {
                    self.notify(&mut out, method, json!({}));
                }
            }
            _ = self.keep_alive.tick() => out.extend_from_slice(frames::KEEP_ALIVE),
        }
        self.keep_alive.reset();
        Some(out.into())
    }

    /// Tells a task whole, if it is worth telling.
    async fn tell_task(&self, out: &mut Vec<u8>, id: TaskId, worth: fn(&DetailedTask) -> bool) {
        let task = tasks::detailed(&self.deps, &self.principal, id, inlined).await;
        if task.as_ref().is_ok_and(|task| !worth(task)) {
            return;
        }
        match task.map(serde_json::to_value) {
            Ok(Ok(params)) => self.notify(out, "notifications/tasks", params),
            // It can still be asked for, and the answer says what is wrong.
            Ok(Err(_)) | Err(_) => tracing::warn!(%id, "a task could not be told"),
        }
    }

    fn notify(&self, out: &mut Vec<u8>, method: &str, params: Value) {
        push_notice(out, &self.id, method, params);
    }

    /// The result: the stream ends as it should, and can be opened again.
    fn complete(&mut self, out: &mut Vec<u8>) {
        push_completion(out, &self.id, &self.deps.identity);
        self.over = true;
    }

    fn fail(&mut self, out: &mut Vec<u8>, error: &BusError) {
        tracing::warn!(%error, "a listening stream ends; its reader can listen again");
        self.complete(out);
    }
}

/// # Errors
/// 406 for a client that takes no stream.
pub(super) fn require_stream(accept: Accept) -> Result<(), Refusal> {
    if accept.stream {
        return Ok(());
    }
    let problem = "this answer is text/event-stream";
    Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, code::INVALID_REQUEST, problem))
}

/// Appends a notification on the stream that request `id` opened.
pub(super) fn push_notice(out: &mut Vec<u8>, id: &Value, method: &str, mut params: Value) {
    params["_meta"][SUBSCRIPTION] = id.clone();
    let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
    frames::push_message(out, message.to_string().as_bytes());
}

/// Appends the result that ends the stream of request `id`.
pub(super) fn push_completion(out: &mut Vec<u8>, id: &Value, identity: &Identity) {
    let mut meta = identity.meta();
    meta.insert(SUBSCRIPTION.to_owned(), id.clone());
    let result = json!({ "resultType": "complete", "_meta": meta });
    let reply = json!({ "jsonrpc": "2.0", "id": id, "result": result });
    frames::push_message(out, reply.to_string().as_bytes());
}

/// Those of `ids` that change next and are served here rather than by the fleet.
async fn worked(works: &mut broadcast::Receiver<TaskId>, ids: &[TaskId]) -> Vec<TaskId> {
    loop {
        match works.recv().await {
            Ok(id) if ids.contains(&id) => return vec![id],
            Ok(_) => {}
            // What was missed may have been any of them.
            Err(broadcast::error::RecvError::Lagged(_)) => return ids.to_vec(),
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// The next change of a guest's list.
async fn changed(changes: &mut Option<broadcast::Receiver<&'static str>>) -> &'static str {
    if let Some(changes) = changes {
        loop {
            match changes.recv().await {
                Ok(method) => return method,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => break,
            }
        }
    }
    std::future::pending().await
}
