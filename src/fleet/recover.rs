//! After a restart: what became of the tasks that were open.

use std::sync::Arc;

use super::drive::{Begin, blocking};
use super::live::Live;
use super::outcome::{self, conclusion, never_began, unknown};
use super::plan::StdinKind;
use super::process::Boot;
use super::prompts;
use super::rundir::{RunDir, lasting};
use super::state::{Input, Known, Outcome};
use super::{FleetError, Inner, Recovery};
use crate::model::{MemberId, Task, TaskState};

const OPEN: [TaskState; 3] = [TaskState::Queued, TaskState::Starting, TaskState::Running];

/// What a run directory says about an open task.
enum Found {
    /// Waits; its place in the order of arrival.
    Waiting {
        order: u64,
        member: MemberId,
        open_stdin: bool,
    },
    /// It runs, or has ended in a way that its own loop handles.
    Runs {
        member: MemberId,
        open_stdin: bool,
    },
    /// It never began, and its task goes on with another run.
    Unbegun {
        member: MemberId,
        open_stdin: bool,
        outcome: Box<Outcome>,
    },
    Ended(Box<Outcome>),
}

impl Inner {
    /// Settles what has ended, and watches the rest again.
    pub async fn recover(self: &Arc<Self>) -> Result<Recovery, FleetError> {
        let tasks = self.bus.store().read(|snapshot| snapshot.tasks(&OPEN, usize::MAX)).await?;
        let mut recovery = Recovery::default();
        for task in tasks {
            self.recover_one(task, &mut recovery).await?;
        }
        self.fill();
        Ok(recovery)
    }

    async fn recover_one(
        self: &Arc<Self>,
        task: Task,
        recovery: &mut Recovery,
    ) -> Result<(), FleetError> {
        let Some(run) = task.run else {
            let lost = never_began(String::from("never started: it has no run"));
            return self.settle(&task, lost, recovery).await;
        };
        let dir = self.run_dir(run);
        let (row, of) = (task.clone(), dir.clone());
        let found = blocking(move || look(&of, &row)).await;
        let found = found.unwrap_or_else(|error| {
            // A full disk, say: its own loop finds out, or says `unknown`.
            tracing::warn!(task = %task.id, %error, "a run directory could not be read");
            let named = self.roster.named(&task.member).map(|handle| handle.member().id);
            Found::Runs { member: named.unwrap_or(MemberId::LOCAL), open_stdin: false }
        });
        match found {
            Found::Ended(outcome) => {
                self.settle(&task, *outcome, recovery).await?;
                dir.forget_secrets();
            }
            Found::Waiting { order, member, open_stdin } => {
                let Ok(place) = self.place(member) else {
                    let lost = never_began(String::from("never started: its member is gone"));
                    return self.settle(&task, lost, recovery).await;
                };
                let live = Live::new(task.id, task.project, place, open_stdin, dir);
                self.book().requeue(order, &live);
                recovery.adopted += 1;
            }
            Found::Runs { member, open_stdin } => {
                let Ok(place) = self.place(member) else {
                    let lost = unknown(&dir, String::from("its member is gone"));
                    return self.settle(&task, lost, recovery).await;
                };
                let live = Live::new(task.id, task.project, place, open_stdin, dir);
                self.resume(live, Begin::Adopt, recovery);
            }
            Found::Unbegun { member, open_stdin, outcome } => {
                let Ok(place) = self.place(member) else {
                    return self.settle(&task, *outcome, recovery).await;
                };
                let live = Live::new(task.id, task.project, place, open_stdin, dir);
                self.resume(live, Begin::Ended(outcome), recovery);
            }
        }
        Ok(())
    }

    fn resume(self: &Arc<Self>, live: Arc<Live>, begin: Begin, recovery: &mut Recovery) {
        self.book().adopt(&live);
        self.tracker.spawn(Arc::clone(self).drive(live, begin));
        recovery.adopted += 1;
    }

    async fn settle(
        &self,
        task: &Task,
        outcome: Outcome,
        recovery: &mut Recovery,
    ) -> Result<(), FleetError> {
        let outcome = match task.run {
            Some(run) => prompts::with_result(self.run_dir(run), outcome).await,
            None => outcome,
        };
        match outcome.known {
            Known::Status(_) => recovery.settled += 1,
            Known::Nothing => recovery.unknown += 1,
        }
        self.change(task.id, Input::Ended(Box::new(outcome))).await?;
        Ok(())
    }
}

/// Reads one directory. A run that was not begun is forbidden to begin here;
/// whether its task goes on with another is said at [`outcome::unbegun`].
fn look(dir: &RunDir, task: &Task) -> std::io::Result<Found> {
    if task.state == TaskState::Queued {
        return Ok(match dir.plan() {
            Ok(plan) => Found::Waiting {
                order: plan.order,
                member: plan.member,
                open_stdin: plan.stdin == StdinKind::Open,
            },
            Err(error) => {
                let detail = format!("never started: its plan is lost ({error})");
                Found::Ended(Box::new(never_began(detail)))
            }
        });
    }
    let planned = dir.has("plan");
    if dir.fence()? {
        let outcome = Box::new(unbegun(dir, task, planned));
        return Ok(match dir.plan() {
            Ok(plan) if dir.has("unbegun") => {
                let open_stdin = plan.stdin == StdinKind::Open;
                Found::Unbegun { member: plan.member, open_stdin, outcome }
            }
            _ => Found::Ended(outcome),
        });
    }
    if task.stop_requested {
        // The daemon may have gone down between the row and this file.
        dir.ask_stop()?;
    }
    let spec = lasting(dir.spec())?.ok();
    // A failure that is to be tried again is not the end of the task.
    let retries = spec.as_ref().is_some_and(|plan| plan.retries > 0);
    let member = spec.as_ref().map_or(MemberId::LOCAL, |plan| plan.member);
    let open_stdin = spec.is_some_and(|plan| plan.stdin == StdinKind::Open);
    let gone = match dir.pids()? {
        Some(pids) => pids.boot != Boot::current()? || !pids.supervisor.is_present()?,
        None => false,
    };
    // Read after the look at the process, which may have just ended.
    let status = lasting(dir.status())?;
    if matches!(status, Ok(None)) && !gone {
        return Ok(Found::Runs { member, open_stdin });
    }
    let outcome = conclusion(dir, status);
    if retries && matches!(outcome.known, Known::Status(_)) {
        return Ok(Found::Runs { member, open_stdin });
    }
    Ok(Found::Ended(Box::new(outcome)))
}

/// The outcome of a task whose latest run has just been forbidden to begin. That
/// nothing ran is said only where it is certain: whoever reads it runs it again.
fn unbegun(dir: &RunDir, task: &Task, planned: bool) -> Outcome {
    let again = |detail: &str| match planned && !task.stop_requested {
        true => outcome::unbegun(dir, detail.to_owned()),
        false => never_began(detail.to_owned()),
    };
    match (task.state, task.started) {
        (TaskState::Starting, None) => again("never started: the daemon went down before it began"),
        (TaskState::Starting, Some(_)) if planned => {
            again("failed, and the daemon went down before its next run began")
        }
        _ => unknown(dir, String::from("its run directory is gone")),
    }
}
