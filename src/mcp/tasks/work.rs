//! Calls that a tool serves inside the daemon, as tasks: they may ask their
//! client for something on the way, and are given up when they are cancelled.
//!
//! They live in memory: what serves them is gone with the daemon, so there would
//! be nothing to go on with. An id of a former daemon names no task any more.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use rmcp::model::{
    DetailedTask, InputRequest, InputResponses, Task as TaskModel, TaskPayload, TaskStatus,
};
use serde_json::{Map, Value, json};
use tokio::sync::{broadcast, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::POLL;
use crate::mcp::refusal::code;
use crate::model::{Principal, PrincipalId, Project, Scope, TaskId, Timestamp};

/// Works that are held at once, running or ended.
const MOST_WORKS: usize = 1024;

/// How long one that has ended can be read.
const KEPT_MS: u64 = 3_600_000;

/// Changes that a listener may be behind. Further back it looks at all of its own.
const MOST_BEHIND: usize = 256;

/// All works of this daemon.
pub struct Works {
    table: Mutex<HashMap<TaskId, Arc<Work>>>,
    changed: broadcast::Sender<TaskId>,
    closing: CancellationToken,
    running: TaskTracker,
}

/// One work.
pub struct Work {
    pub id: TaskId,
    owner: PrincipalId,
    project: Project,
    /// What the client that called can be asked for.
    capabilities: Value,
    created: Timestamp,
    state: Mutex<State>,
    cancel: CancellationToken,
    changed: broadcast::Sender<TaskId>,
}

struct State {
    updated: Timestamp,
    end: Option<End>,
    /// By the keys under which clients see them.
    questions: BTreeMap<String, Question>,
    asked: u64,
}

struct Question {
    request: InputRequest,
    answer: oneshot::Sender<Value>,
}

/// How a work ended.
#[derive(Clone)]
enum End {
    Completed(Map<String, Value>),
    Failed(Map<String, Value>),
    Cancelled,
}

impl Default for Works {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            changed: broadcast::channel(MOST_BEHIND).0,
            closing: CancellationToken::new(),
            running: TaskTracker::new(),
        }
    }
}

impl Works {
    /// Begins what `run` makes of the new work, and returns at once. What it
    /// returns, a result or a JSON-RPC error object, is the work's end. `None`
    /// if too many are held.
    pub fn begin<F>(
        &self,
        principal: &Principal,
        capabilities: Value,
        run: impl FnOnce(Arc<Work>) -> F,
    ) -> Option<Arc<Work>>
    where
        F: Future<Output = Result<Value, Value>> + Send + 'static,
    {
        let now = Timestamp::now();
        let work = Arc::new(Work {
            id: TaskId::random(),
            owner: Arc::clone(&principal.id),
            project: principal.home_project(),
            capabilities,
            created: now,
            state: Mutex::new(State {
                updated: now,
                end: None,
                questions: BTreeMap::new(),
                asked: 0,
            }),
            cancel: self.closing.child_token(),
            changed: self.changed.clone(),
        });
        {
            let mut table = lock(&self.table);
            table.retain(|_, work| !work.is_stale(now));
            if table.len() >= MOST_WORKS {
                return None;
            }
            table.insert(work.id, Arc::clone(&work));
        }
        let running = AssertUnwindSafe(run(Arc::clone(&work))).catch_unwind();
        let runs = Arc::clone(&work);
        self.running.spawn(async move {
            let end = tokio::select! {
                biased;
                () = runs.cancel.cancelled() => End::Cancelled,
                reply = running => reply.map_or_else(|_| panicked(&runs), End::of),
            };
            runs.end(end);
        });
        Some(work)
    }

    /// The work of this id, if `principal` may see it: a foreign one looks like
    /// one that is not there.
    pub fn find(&self, principal: &Principal, id: TaskId) -> Option<Arc<Work>> {
        let work = lock(&self.table).get(&id).map(Arc::clone)?;
        let own = principal.id == work.owner || principal.may(Scope::Admin);
        let seen = own && principal.sees(&work.project);
        Some(work).filter(|work| seen && !work.is_stale(Timestamp::now()))
    }

    /// The ids of those that change from now on.
    pub fn changes(&self) -> broadcast::Receiver<TaskId> {
        self.changed.subscribe()
    }

    /// Gives up all that run.
    pub fn close(&self) {
        self.closing.cancel();
        self.running.close();
    }
}

impl Work {
    /// Asks the client that called and waits for its answer: the result alone.
    /// `None` if it declares no such capability, or the work has ended.
    pub async fn ask(&self, method: &str, params: Value) -> Option<Value> {
        let capability = match method {
            "elicitation/create" => "elicitation",
            "sampling/createMessage" => "sampling",
            _ => "roots",
        };
        self.capabilities.get(capability)?;
        let request = json!({ "method": method, "params": params });
        let request = serde_json::from_value(request).ok()?;
        let (sender, answer) = oneshot::channel();
        self.change(|state| {
            state.asked += 1;
            let key = format!("input-{}", state.asked);
            state.questions.insert(key, Question { request, answer: sender });
            true
        });
        answer.await.ok()
    }

    /// Takes answers by their keys. One that answers nothing, or is no result, is
    /// dropped: its question stands.
    pub fn answer(&self, answers: InputResponses) {
        self.change(|state| {
            let before = state.questions.len();
            for (key, answer) in answers.into_iter().filter(|(_, answer)| answer.is_object()) {
                if let Some(question) = state.questions.remove(&key) {
                    // Whoever asked may have given up.
                    let _ = question.answer.send(answer);
                }
            }
            state.questions.len() < before
        });
    }

    /// Gives it up, unless it has ended.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// With what came of it, or what it asks.
    pub fn detailed(&self) -> DetailedTask {
        let state = lock(&self.state);
        let payload = match state.end.clone() {
            Some(End::Completed(result)) => TaskPayload::Completed { result },
            Some(End::Failed(error)) => TaskPayload::Failed { error },
            Some(End::Cancelled) => TaskPayload::Cancelled,
            None => {
                let open = state.questions.iter().filter(|(_, asked)| !asked.answer.is_closed());
                let open: BTreeMap<_, _> =
                    open.map(|(key, asked)| (key.clone(), asked.request.clone())).collect();
                if open.is_empty() {
                    TaskPayload::Working
                } else {
                    TaskPayload::InputRequired { input_requests: open }
                }
            }
        };
        DetailedTask::new(self.model(&state), payload)
    }

    /// As the answer to the call that began it shows it.
    pub fn summary(&self) -> TaskModel {
        self.model(&lock(&self.state))
    }

    fn model(&self, state: &State) -> TaskModel {
        let (created, updated) = (self.created.to_string(), state.updated.to_string());
        let model = TaskModel::new(self.id.to_string(), TaskStatus::Working, created, updated)
            .with_poll_interval_ms(POLL);
        match state.end {
            Some(_) => {
                model.with_ttl_ms(state.updated.millis_since(self.created).saturating_add(KEPT_MS))
            }
            None => model,
        }
    }

    fn end(&self, end: End) {
        self.change(|state| {
            state.questions.clear();
            state.end = Some(end);
            true
        });
    }

    /// Changes what has not ended, and tells it if `change` says that it did.
    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        {
            let mut state = lock(&self.state);
            if state.end.is_some() || !change(&mut state) {
                return;
            }
            state.updated = Timestamp::now();
        }
        // Nobody may be listening.
        let _ = self.changed.send(self.id);
    }

    fn is_stale(&self, now: Timestamp) -> bool {
        let state = lock(&self.state);
        state.end.is_some() && now.millis_since(state.updated) > KEPT_MS
    }
}

impl End {
    fn of(reply: Result<Value, Value>) -> Self {
        match reply {
            Ok(Value::Object(result)) => Self::Completed(result),
            Err(Value::Object(error)) => Self::Failed(error),
            Ok(_) | Err(_) => Self::failed("the tool gave no result"),
        }
    }

    fn failed(message: &str) -> Self {
        let mut error = Map::new();
        error.insert(String::from("code"), json!(code::INTERNAL));
        error.insert(String::from("message"), message.into());
        Self::Failed(error)
    }
}

fn panicked(work: &Work) -> End {
    tracing::error!(id = %work.id, "a tool panicked in a task");
    End::failed("the tool failed inside fleetd; its log says where")
}

/// A holder of these locks does not panic; one that did leaves sound values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ended(works: &Works, work: &Work) -> DetailedTask {
        let mut changes = works.changes();
        while work.detailed().status() == TaskStatus::Working {
            changes.recv().await.unwrap();
        }
        work.detailed()
    }

    #[tokio::test]
    async fn a_work_ends_with_its_reply_or_with_why_there_is_none() {
        let works = Works::default();
        let owner = Principal::owner();
        let begin = |reply: Result<Value, Value>| {
            works.begin(&owner, json!({}), move |_| async move { reply }).unwrap()
        };
        let done = ended(&works, &begin(Ok(json!({ "content": [] })))).await;
        assert_eq!(serde_json::to_value(&done).unwrap()["result"], json!({ "content": [] }));
        assert!(done.task.ttl_ms >= Some(KEPT_MS));
        let broken = ended(&works, &begin(Err(json!({ "code": -1, "message": "no" })))).await;
        assert_eq!(serde_json::to_value(&broken).unwrap()["error"]["code"], -1);
        assert_eq!(broken.status(), TaskStatus::Failed);
        let odd = ended(&works, &begin(Ok(json!(7)))).await;
        assert_eq!(odd.status(), TaskStatus::Failed);
        let reckless = works.begin(&owner, json!({}), |_| async { unreachable!() }).unwrap();
        let failed = serde_json::to_value(ended(&works, &reckless).await).unwrap();
        assert_eq!(failed["error"]["code"], code::INTERNAL);
    }

    #[tokio::test]
    async fn what_was_given_up_says_so_and_stays_so() {
        let works = Works::default();
        let begin =
            || works.begin(&Principal::owner(), json!({}), |_| std::future::pending()).unwrap();
        let work = begin();
        assert_eq!(work.detailed().task.ttl_ms, None);
        work.cancel();
        assert_eq!(ended(&works, &work).await.status(), TaskStatus::Cancelled);
        work.cancel();
        work.answer(InputResponses::new());
        assert_eq!(work.detailed().status(), TaskStatus::Cancelled);
        let late = begin();
        works.close();
        assert_eq!(ended(&works, &late).await.status(), TaskStatus::Cancelled);
    }

    #[tokio::test]
    async fn nothing_is_asked_that_the_client_does_not_declare() {
        let works = Works::default();
        let capabilities = json!({ "sampling": {} });
        let work = works.begin(&Principal::owner(), capabilities, |work| async move {
            let asked = work.ask("roots/list", json!({})).await;
            Ok(json!({ "asked": asked.is_some() }))
        });
        let done = serde_json::to_value(ended(&works, &work.unwrap()).await).unwrap();
        assert_eq!(done["result"], json!({ "asked": false }));
    }

    #[tokio::test]
    async fn a_foreign_work_looks_like_one_that_is_not_there() {
        let works = Works::default();
        let project = |name: &str| vec![Project::parse(name).unwrap()];
        let guest = |id: &str, name: &str| Principal {
            id: Arc::from(id),
            projects: project(name),
            scopes: vec![Scope::Read, Scope::Run],
            ..Principal::owner()
        };
        let one = guest("one", "web");
        let work = works.begin(&one, json!({}), |_| std::future::pending()).unwrap();
        assert!(works.find(&one, work.id).is_some());
        assert!(works.find(&Principal::owner(), work.id).is_some());
        assert!(works.find(&guest("two", "web"), work.id).is_none());
        assert!(works.find(&guest("one", "api"), work.id).is_none());
        assert!(works.find(&one, TaskId::random()).is_none());
    }

    #[tokio::test]
    async fn there_is_an_end_to_how_many_are_held() {
        let works = Works::default();
        let begin = || works.begin(&Principal::owner(), json!({}), |_| std::future::pending());
        for _ in 0..MOST_WORKS {
            assert!(begin().is_some());
        }
        assert!(begin().is_none());
    }
}
