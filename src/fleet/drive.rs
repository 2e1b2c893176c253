//! The loop of one task: start its run, follow it, tell how it ended.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::unix::pipe;

use super::live::{Live, Phase};
use super::outcome::{conclusion, never_began, retry};
use super::output::Frames;
use super::plan::{Pids, Plan, StdinKind};
use super::process::Boot;
use super::prompts;
use super::rundir::{Input as RunInput, RunDir, lasting};
use super::stall::Processes;
use super::state::{Input, Outcome, apply};
use super::watch::Supervisor;
use super::{FleetError, Inner};
use crate::model::{OutputStream, RunId, Task, TaskId, TaskState, Timestamp};
use crate::store::StoreError;

/// How long after a dispatch a supervisor may take to report, if its daemon
/// died meanwhile.
const LATE: Duration = Duration::from_secs(2);

/// Pause before a state that could not be stored, or a question that could not
/// be answered, comes again.
const AGAIN: Duration = Duration::from_millis(500);

/// Pause between two looks at what should be there any moment.
const LOOK: Duration = Duration::from_millis(20);

/// Where a task's loop begins.
pub enum Begin {
    /// Its row says `Starting`, and its run is not dispatched.
    Start,
    /// Its row says `Queued`, and it has a place.
    Queued,
    /// Its run was dispatched by an earlier daemon.
    Adopt,
    /// Its run has ended so, and may be followed by another.
    Ended(Box<Outcome>),
}

/// The daemon is going down: what runs goes on without this loop.
pub struct Leaving;

impl Inner {
    /// Sees a task to its end, and frees its place.
    pub async fn drive(self: Arc<Self>, live: Arc<Live>, begin: Begin) {
        if self.see_to_end(&live, begin).await.is_ok() {
            self.book().leave(&live);
            live.reach(Phase::Ended);
            self.fill();
        }
    }

    /// Starts those whose turn it is.
    pub fn fill(self: &Arc<Self>) {
        if self.closing.is_cancelled() {
            return;
        }
        let wanted = self.book().wanted();
        for member in wanted {
            let concurrency = self.concurrency(member);
            while let Some(live) = { self.book().next(member, concurrency) } {
                self.tracker.spawn(Arc::clone(self).drive(live, Begin::Queued));
            }
        }
    }

    async fn see_to_end(self: &Arc<Self>, live: &Arc<Live>, begin: Begin) -> Result<(), Leaving> {
        let mut outcome = match begin {
            Begin::Adopt => match &live.place {
                Some(place) => self.remote(live, place, true).await?,
                None => self.follow(live, None).await?,
            },
            Begin::Ended(outcome) => *outcome,
            Begin::Start => self.start(live).await?,
            Begin::Queued => {
                let row = self.persist(live.id, Input::Placed).await?;
                if row.is_none_or(|task| task.state != TaskState::Starting) {
                    // Cancelled in the queue, and told by whoever did it.
                    return Ok(());
                }
                self.start(live).await?
            }
        };
        while self.conclude(live, outcome).await? {
            outcome = self.start(live).await?;
        }
        Ok(())
    }

    /// Dispatches the run and follows it.
    async fn start(self: &Arc<Self>, live: &Arc<Live>) -> Result<Outcome, Leaving> {
        if let Some(place) = &live.place {
            let dir = live.dir();
            return match blocking(move || dir.dispatch()).await {
                Ok(()) => self.remote(live, place, false).await,
                Err(error) => Ok(never_began(format!("cannot begin its run: {error}"))),
            };
        }
        let (dir, program) = (live.dir(), self.supervisor.clone());
        let spawned = blocking(move || {
            dir.dispatch()?;
            spawn_supervisor(&program, &dir)
        });
        match spawned.await {
            Ok(child) => self.follow(live, Some(child)).await,
            Err(error) => Ok(never_began(format!("cannot start its supervisor: {error}"))),
        }
    }

    /// Watches a dispatched run until it has ended.
    async fn follow(&self, live: &Arc<Live>, child: Option<Child>) -> Result<Outcome, Leaving> {
        let dir = live.dir();
        let adopted = child.is_none();
        let mut child = match child {
            Some(child) => Some(self.await_report(child).await?),
            None => None,
        };
        if let Some(pids) = self.await_pids(live, &dir, adopted).await?
            && pids.boot == self.certainly(live.id, Boot::current).await?
        {
            if pids.command.is_some() {
                self.persist(live.id, Input::Began { pid: pids.command }).await?;
                live.reach(Phase::Running);
            }
            let processes = Processes::Below(pids.supervisor.pid);
            let find = move || Supervisor::find(pids.supervisor);
            if let Some(supervisor) = self.certainly(live.id, find).await? {
                self.accompany(live, &dir, supervisor, processes, adopted).await?;
            }
        }
        if let Some(child) = &mut child {
            self.reap(child).await?;
        }
        let of = dir.clone();
        let known = self.certainly(live.id, move || lasting(of.status())).await?;
        blocking(move || Ok(conclusion(&dir, known))).await.map_err(|_| Leaving)
    }

    /// Takes the zombie away. It has ended already, unless its report could not be
    /// read: then this is where its end is waited for.
    async fn reap(&self, child: &mut Child) -> Result<(), Leaving> {
        while matches!(child.try_wait(), Ok(None)) {
            self.pause(LOOK).await?;
        }
        Ok(())
    }

    /// What `ask` says as soon as it can say anything. That there is no descriptor
    /// or memory to ask with is never taken for an answer about a task.
    async fn certainly<T: Send + 'static>(
        &self,
        id: TaskId,
        ask: impl Fn() -> io::Result<T> + Clone + Send + 'static,
    ) -> Result<T, Leaving> {
        loop {
            match blocking(ask.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    tracing::warn!(task = %id, %error, "how a task stands cannot be seen now");
                    self.pause(AGAIN).await?;
                }
            }
        }
    }

    /// Waits for the end of the supervisor's report, which its death ends too.
    async fn await_report(&self, mut child: Child) -> Result<Child, Leaving> {
        let report = child.stdout.take().map(std::os::fd::OwnedFd::from);
        if let Some(Ok(report)) = report.map(pipe::Receiver::from_owned_fd) {
            let mut bytes = [0; 16];
            let end = async {
                while report.readable().await.is_ok() {
                    match report.try_read(&mut bytes) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Ok(count) if count > 0 => {}
                        _ => return,
                    }
                }
            };
            tokio::select! {
                () = end => {}
                () = self.closing.cancelled() => return Err(Leaving),
            }
        }
        Ok(child)
    }

    /// Who supervises the run. A daemon that died right after the dispatch left
    /// a supervisor that may still be on its way.
    async fn await_pids(
        &self,
        live: &Live,
        dir: &RunDir,
        adopted: bool,
    ) -> Result<Option<Pids>, Leaving> {
        let since = Instant::now();
        loop {
            let of = dir.clone();
            let pids = self.certainly(live.id, move || lasting(of.pids())).await?.ok().flatten();
            let begun = pids.as_ref().is_some_and(|pids| pids.command.is_some());
            if begun || !adopted || dir.has("status") {
                return Ok(pids);
            }
            if since.elapsed() >= LATE {
                if pids.is_none() {
                    // Whoever still comes shall not begin: this is told as unknown.
                    let _ = dir.ask_stop();
                }
                return Ok(pids);
            }
            self.pause(LOOK).await?;
        }
    }

    /// Tells output until the supervisor has ended.
    async fn accompany(
        &self,
        live: &Arc<Live>,
        dir: &RunDir,
        supervisor: Supervisor,
        processes: Processes,
        adopted: bool,
    ) -> Result<(), Leaving> {
        let supervisor = Arc::new(supervisor);
        live.supervised_by(&supervisor);
        if dir.has("stop") {
            // Asked for before there was somebody to poke.
            supervisor.poke();
        }
        let files = [OutputStream::Stdout, OutputStream::Stderr].map(|s| dir.file(s.as_str()));
        let files = [files[0].as_path(), files[1].as_path()];
        let _growth = self.growth().map(|growth| growth.watch(&files, &live.changed));
        // The command may have written before the watch was there.
        live.changed.send_replace(());
        let Some(mut frames) = Frames::new(live.id, live.project.clone(), dir) else {
            return Ok(());
        };
        if adopted {
            frames.skip_to_now();
        }
        tokio::select! {
            () = supervisor.ended() => {}
            Err(leaving) = self.keep_vigil(live, dir, processes, !adopted) => return Err(leaving),
            () = frames.serve(&self.bus, live.changed.subscribe()) => {}
            () = self.closing.cancelled() => return Err(Leaving),
        }
        frames.finish(&self.bus);
        Ok(())
    }

    /// Stores the end of a run. `true`: another run follows, and is prepared.
    async fn conclude(&self, live: &Arc<Live>, outcome: Outcome) -> Result<bool, Leaving> {
        let ended = live.dir();
        if let Some(plan) = retry(&ended, &outcome) {
            // Input that arrives now goes to the next run, or was copied to it.
            let _input = live.input.lock().await;
            let next = RunId::random();
            let dir = self.run_dir(next);
            let (from, to) = (ended.clone(), dir.clone());
            let prepared = blocking(move || {
                to.prepare(&plan, input_of(&plan, &from))?;
                to.inherit(&from)?;
                if plan.retries > 0 { to.keep() } else { Ok(()) }
            });
            if prepared.await.is_ok() {
                let row = self.persist(live.id, Input::Again { next }).await?;
                if row.is_some_and(|task| task.run == Some(next)) {
                    live.enter(dir);
                    ended.forget_secrets();
                    return Ok(true);
                }
            }
            remove(&dir);
        }
        let outcome = prompts::with_result(ended.clone(), outcome).await;
        self.persist(live.id, Input::Ended(Box::new(outcome))).await?;
        ended.forget_secrets();
        Ok(false)
    }

    /// Applies `input` to the task's row, if it means anything to it, and returns
    /// the row as it is then. Goes on until the store takes it: a full disk delays
    /// the truth, it does not change it. An earlier round whose outcome was not
    /// known may have changed the row, so only the row says what is so.
    pub async fn persist(&self, id: TaskId, input: Input) -> Result<Option<Task>, Leaving> {
        loop {
            let row = match self.change(id, input.clone()).await {
                Ok(None) => self.row(id).await,
                changed => changed,
            };
            match row {
                Ok(task) => return Ok(task),
                Err(FleetError::Store(StoreError::Closed)) => return Err(Leaving),
                Err(error) => {
                    tracing::warn!(task = %id, %error, "a task's state could not be stored yet");
                    self.pause(AGAIN).await?;
                }
            }
        }
    }

    /// Applies `input` to the task's current row, with its events, in one transaction.
    pub async fn change(&self, id: TaskId, input: Input) -> Result<Option<Task>, FleetError> {
        let store = self.bus.store();
        store
            .write(move |tx| {
                let Some(task) = tx.task(id)? else { return Ok(None) };
                let change = apply(&task, &input, Timestamp::now()).map_err(StoreError::Event)?;
                let Some(change) = change else { return Ok(None) };
                tx.put_task(&change.task)?;
                if let Input::Ended(outcome) = &input
                    && let Some(result) = &outcome.prompt
                {
                    tx.settle_prompt(id, &prompts::settled(result))?;
                }
                for event in change.events {
                    tx.append(event)?;
                }
                Ok(Some(change.task))
            })
            .await
    }

    pub async fn pause(&self, time: Duration) -> Result<(), Leaving> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.closing.cancelled() => Err(Leaving),
        }
    }
}

/// Runs file work on a thread that may wait for the disk.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Removes a run directory, whatever is left of it.
pub fn remove(dir: &RunDir) {
    if let Err(error) = std::fs::remove_dir_all(dir.path())
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %dir.path().display(), %error, "cannot remove a run directory");
    }
}

/// The supervisor's standard output is its report; it inherits nothing else.
fn spawn_supervisor(program: &Path, dir: &RunDir) -> io::Result<Child> {
    Command::new(program)
        .arg("--supervise")
        .arg(dir.path())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

fn input_of<'a>(plan: &Plan, earlier: &'a RunDir) -> RunInput<'a> {
    match plan.stdin {
        StdinKind::Closed => RunInput::None,
        StdinKind::Bytes | StdinKind::Open => RunInput::Of(earlier),
    }
}
