//! Taking tasks, stopping them, and waiting for them.

use std::sync::Arc;
use std::time::Duration;

use super::admit;
use super::drive::{Begin, blocking, remove};
use super::live::{Live, Phase, Turn};
use super::plan::StdinKind;
use super::process::Boot;
use super::prompts;
use super::roster::MemberHandle;
use super::rundir::Input as RunInput;
use super::state::{self, Input};
use super::{CommandSpec, Fleet, FleetError, Inner, Stdin};
use crate::model::{
    Cursor, Principal, PrincipalId, RunId, Scope, Task, TaskId, TaskState, Timestamp,
};
use crate::store::{PromptRow, StoreError};

/// What a stop may take beyond the grace between TERM and KILL.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// Rows looked through for a principal who sees only some of them.
const LOOKED_THROUGH: usize = 10_000;

impl Fleet {
    /// The position after which all events of the task stand, to begin reading at.
    ///
    /// # Errors
    /// [`FleetError::NoTask`].
    pub async fn before(&self, principal: &Principal, id: TaskId) -> Result<Cursor, FleetError> {
        // Read first: what happens meanwhile comes after it.
        let head = self.0.bus.head();
        let task = self.task(principal, id).await?;
        let run = task.run.map(|run| run.to_string()).unwrap_or_default();
        let (ids, project) = ([format!("{id}.queued"), format!("{run}.started")], task.project);
        let read = self.0.bus.store().read(move |snapshot| snapshot.first_of(&project, &ids));
        let first = read.await?;
        Ok(first.map_or(head, |seq| Cursor { seq: seq.saturating_sub(1), ..head }))
    }
}

impl Inner {
    /// Takes a task. Runs as a loop of its own, so that a caller who goes away
    /// cannot leave a task half taken.
    pub async fn take(
        self: Arc<Self>,
        principal: PrincipalId,
        handle: Arc<MemberHandle>,
        spec: CommandSpec,
    ) -> Result<Task, FleetError> {
        let member = handle.member();
        let (settings, concurrency) = (self.settings(), self.concurrency(member.id));
        let claim = spec.prompt.as_ref().map(|prompt| prompt.claim.clone());
        let most = settings.max_queued;
        let taken = self.book().take(member.id, (concurrency, most), now_us(), claim.as_ref());
        let (turn, order) = taken
            .map_err(|queued| FleetError::QueueFull { member: member.name.to_string(), queued })?;
        let run = RunId::random();
        let stored = self.store_new(principal, &handle, &spec, run, turn, order).await;
        match stored {
            Ok((task, live)) => {
                self.set_going(&live, turn, order);
                Ok(self.once_running(task, &live, turn).await)
            }
            Err(error) => {
                let dir = self.run_dir(run);
                // Its row may be stored and name it; if not, it is swept.
                let unknown = matches!(error, FleetError::Store(StoreError::Closed));
                let _ = blocking(move || {
                    if !unknown {
                        remove(&dir);
                    }
                    Ok(())
                })
                .await;
                self.book().give_back(member.id, turn, claim.as_ref());
                self.fill();
                Err(error)
            }
        }
    }

    /// Makes the run directory and the row: after this the task is durable.
    async fn store_new(
        &self,
        principal: PrincipalId,
        handle: &Arc<MemberHandle>,
        spec: &CommandSpec,
        run: RunId,
        place: Turn,
        order: u64,
    ) -> Result<(Task, Arc<Live>), FleetError> {
        let member = handle.member();
        let on = self.place(member.id)?;
        let plan = admit::plan(spec, &member, &self.settings(), self.umask(), order);
        let open_stdin = plan.stdin == StdinKind::Open;
        let wanted_later = place != Turn::Run || plan.retries > 0;
        let dir = self.run_dir(run);
        let (of, stdin, prompt) = (dir.clone(), spec.stdin.clone(), spec.prompt.clone());
        blocking(move || {
            let input = match &stdin {
                Stdin::Closed => RunInput::None,
                Stdin::Bytes(bytes) => RunInput::Bytes(bytes),
                Stdin::Open => RunInput::Bytes(&[]),
            };
            of.prepare(&plan, input)?;
            if let Some(prompt) = &prompt {
                of.write_prompt(prompt)?;
            }
            // A sync costs the caller milliseconds: none that is not needed.
            if wanted_later { of.keep() } else { Ok(()) }
        })
        .await
        .map_err(|source| FleetError::Run { path: dir.path().to_owned(), source })?;
        let task = new_task(principal, member.name.as_str(), spec, run, place);
        let prompt = spec.prompt.as_ref().map(|prompt| prompts::row(&task, prompt));
        match self.put_new(task.clone(), prompt.clone(), place).await {
            // Whether the row is stored is not known. Asking again waits for the
            // journal to be opened anew; a row without a task would be there for
            // ever otherwise.
            Err(FleetError::Store(StoreError::Degraded)) => {
                self.put_new(task.clone(), prompt, place).await?;
            }
            stored => stored?,
        }
        let live = Live::new(task.id, task.project.clone(), on, open_stdin, dir);
        Ok((task, live))
    }

    /// Stores the row of a new task; once, however often it is called.
    async fn put_new(
        &self,
        row: Task,
        prompt: Option<PromptRow>,
        place: Turn,
    ) -> Result<(), FleetError> {
        let write = self.bus.store().write(move |tx| {
            if tx.task(row.id)?.is_some() {
                return Ok(());
            }
            tx.put_task(&row)?;
            if let Some(prompt) = &prompt {
                tx.put_prompt(prompt)?;
            }
            if let Turn::Queue(position) = place {
                let event = state::queued(&row, position).map_err(StoreError::Event)?;
                tx.append(event)?;
            }
            Ok::<_, FleetError>(())
        });
        write.await
    }

    fn set_going(self: &Arc<Self>, live: &Arc<Live>, place: Turn, order: u64) {
        self.book().insert(live);
        match place {
            Turn::Run => {
                self.tracker.spawn(Arc::clone(self).drive(Arc::clone(live), Begin::Start));
            }
            Turn::Queue(_) => {
                self.book().enqueue(order, live);
                // A place may have become free while this one was being stored.
                self.fill();
            }
        }
    }

    /// The row once the command runs (or has ended, or waits).
    async fn once_running(&self, task: Task, live: &Live, place: Turn) -> Task {
        // A link may take its time: whoever asked has the id at once.
        if place == Turn::Run && live.place.is_none() {
            let mut phase = live.phase.subscribe();
            tokio::select! {
                _ = phase.wait_for(|phase| *phase >= Phase::Running) => {}
                () = self.closing.cancelled() => {}
            }
        }
        self.row(task.id).await.ok().flatten().unwrap_or(task)
    }

    pub async fn row(&self, id: TaskId) -> Result<Option<Task>, FleetError> {
        Ok(self.bus.store().read(move |snapshot| snapshot.task(id)).await?)
    }

    /// The row, if `principal` may see it.
    pub async fn visible(&self, principal: &Principal, id: TaskId) -> Result<Task, FleetError> {
        let row = self.row(id).await?;
        let mut task = row.filter(|task| may_see(principal, task)).ok_or(FleetError::NoTask(id))?;
        self.add_unreachable(std::slice::from_mut(&mut task));
        Ok(task)
    }

    /// Rows that `principal` may see, newest first.
    pub async fn list(
        &self,
        principal: &Principal,
        states: &[TaskState],
        limit: usize,
    ) -> Result<Vec<Task>, FleetError> {
        let all = principal.projects.is_empty() && principal.may(Scope::Admin);
        let most = if all { limit } else { LOOKED_THROUGH.max(limit) };
        let states = states.to_vec();
        let mut tasks =
            self.bus.store().read(move |snapshot| snapshot.tasks(&states, most)).await?;
        tasks.retain(|task| may_see(principal, task));
        tasks.truncate(limit);
        self.add_unreachable(&mut tasks);
        Ok(tasks)
    }

    fn add_unreachable(&self, tasks: &mut [Task]) {
        let book = self.book();
        for task in tasks.iter_mut().filter(|task| !task.state.is_terminal()) {
            task.unreachable_since = book.get(task.id).and_then(|live| live.unreachable_since());
        }
    }

    /// Waits until the task has ended, as far as this daemon sees it to its end.
    pub async fn until_ended(&self, id: TaskId) {
        let Some(live) = self.book().get(id) else { return };
        let mut phase = live.phase.subscribe();
        tokio::select! {
            _ = phase.wait_for(|phase| *phase == Phase::Ended) => {}
            () = self.closing.cancelled() => {}
        }
    }

    /// Asks a task to stop, durably. What has ended already stays as it is.
    pub async fn wish_stop(self: &Arc<Self>, task: &Task) -> Result<(), FleetError> {
        if task.state.is_terminal() {
            return Ok(());
        }
        let asked = Arc::clone(self).ask_stop(task.id);
        // Its own loop: the row and the file belong together.
        self.tracker.spawn(asked).await.map_err(|_| StoreError::Closed)?
    }

    /// The same, and waits for its end.
    pub async fn stop_task(self: &Arc<Self>, task: Task) -> Result<Task, FleetError> {
        self.wish_stop(&task).await?;
        let grace = Duration::from_secs(self.settings().stop_grace_s);
        let _ = tokio::time::timeout(grace + STOP_MARGIN, self.until_ended(task.id)).await;
        Ok(self.row(task.id).await?.unwrap_or(task))
    }

    async fn ask_stop(self: Arc<Self>, id: TaskId) -> Result<(), FleetError> {
        let Some(row) = self.change(id, Input::StopAsked).await? else { return Ok(()) };
        let live = self.book().get(id);
        let cancelled = row.state.is_terminal();
        if cancelled {
            self.book().cancel_queued(id);
        }
        if let Some(run) = row.run {
            // The row's run, not the one in memory: the next may be on its way.
            let dir = self.run_dir(run);
            let path = dir.path().to_owned();
            let asked = blocking(move || {
                if cancelled {
                    dir.forget_secrets();
                    return Ok(());
                }
                dir.ask_stop()
            });
            asked.await.map_err(|source| FleetError::Run { path, source })?;
        }
        if let Some(live) = live {
            if cancelled {
                live.reach(Phase::Ended);
            } else {
                live.poke();
            }
        }
        Ok(())
    }
}

impl Fleet {
    /// To be called before the caller of [`Fleet::execute`] is given the id of a
    /// task that has not ended. If the daemon dies before its run begins, it goes
    /// on with another run then, and does not fail.
    pub async fn promise(&self, task: &Task) {
        let waits = matches!(task.state, TaskState::Queued | TaskState::Starting);
        let Some(run) = task.run.filter(|_| waits) else { return };
        let dir = self.0.run_dir(run);
        if let Err(error) = blocking(move || dir.promise(&Boot::current()?)).await {
            // The disk is full, say: then a death before the start is a failure.
            tracing::debug!(task = %task.id, %error, "a promise was not noted");
        }
    }
}

/// A foreign task looks like an absent one.
fn may_see(principal: &Principal, task: &Task) -> bool {
    principal.sees(&task.project) && (principal.id == task.principal || principal.may(Scope::Admin))
}

fn new_task(
    principal: PrincipalId,
    member: &str,
    spec: &CommandSpec,
    run: RunId,
    place: Turn,
) -> Task {
    Task {
        id: TaskId::random(),
        project: spec.project.clone(),
        principal,
        member: member.to_owned(),
        state: match place {
            Turn::Run => TaskState::Starting,
            Turn::Queue(_) => TaskState::Queued,
        },
        command: admit::shown(&spec.program),
        run: Some(run),
        pid: None,
        created: Timestamp::now(),
        started: None,
        ended: None,
        exit: None,
        reason: None,
        stop_requested: false,
        unreachable_since: None,
        stdout_bytes: 0,
        stderr_bytes: 0,
        stalled: None,
    }
}

/// Microseconds since 1970: order of arrival across restarts.
fn now_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0))
}
