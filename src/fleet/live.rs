//! What is known in memory about tasks that have not ended, and who is next.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::leases::{Claim, Leases};
use super::rundir::RunDir;
use super::watch::Supervisor;
use crate::model::{Project, TaskId};

/// How far a task has come, for those who wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Waiting,
    Running,
    Ended,
}

/// A task that has not ended.
pub struct Live {
    pub id: TaskId,
    pub project: Project,
    /// Its standard input comes piece by piece.
    pub open_stdin: bool,
    /// What it holds while it runs, if it is a prompt.
    pub claim: Option<Claim>,
    pub phase: watch::Sender<Phase>,
    /// Its output grew, or its phase changed.
    pub changed: watch::Sender<()>,
    /// Held while input is appended or moves on to the next run.
    pub input: tokio::sync::Mutex<()>,
    run: Mutex<Run>,
}

struct Run {
    dir: RunDir,
    supervisor: Option<Arc<Supervisor>>,
}

/// All tasks that have not ended, and the queue of the one member there is.
/// A place or a place in the queue is taken before the task is durable, so the
/// bounds hold however many arrive at once.
#[derive(Default)]
pub struct Book {
    live: HashMap<TaskId, Arc<Live>>,
    /// By order of arrival.
    queue: BTreeMap<u64, Arc<Live>>,
    running: usize,
    /// Places in the queue, those included whose tasks are not durable yet.
    waiting: usize,
    last_order: u64,
    pub leases: Leases,
}

/// What a new task gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Run,
    /// From 1.
    Queue(usize),
}

impl Live {
    pub fn new(id: TaskId, project: Project, open_stdin: bool, dir: RunDir) -> Arc<Self> {
        Arc::new(Self {
            id,
            project,
            open_stdin,
            claim: dir.prompt().map(|prompt| prompt.claim),
            phase: watch::Sender::new(Phase::Waiting),
            changed: watch::Sender::new(()),
            input: tokio::sync::Mutex::default(),
            run: Mutex::new(Run { dir, supervisor: None }),
        })
    }

    pub fn dir(&self) -> RunDir {
        self.run().dir.clone()
    }

    /// A run begins in `dir`.
    pub fn enter(&self, dir: RunDir) {
        *self.run() = Run { dir, supervisor: None };
    }

    pub fn supervised_by(&self, supervisor: &Arc<Supervisor>) {
        self.run().supervisor = Some(Arc::clone(supervisor));
    }

    /// Makes the supervisor look at the run directory now.
    pub fn poke(&self) {
        if let Some(supervisor) = &self.run().supervisor {
            supervisor.poke();
        }
    }

    pub fn reach(&self, phase: Phase) {
        self.phase.send_replace(phase);
        self.changed.send_replace(());
    }

    fn run(&self) -> MutexGuard<'_, Run> {
        // Replaced as a whole; a panic elsewhere cannot tear it.
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// With so many prompts at the same time on one member.
    pub fn with_prompts(most: usize) -> Self {
        let mut book = Self::default();
        book.leases.most = most;
        book
    }

    /// Takes a place, and a number in the order of arrival.
    ///
    /// # Errors
    /// With the number of tasks that wait, if no more may.
    pub fn take(
        &mut self,
        concurrency: usize,
        most: usize,
        now_us: u64,
        claim: Option<&Claim>,
    ) -> Result<(Place, u64), usize> {
        let runs = self.running < concurrency
            && self.leases.free(claim)
            // Whoever waits for a folder is not overtaken: it is not its turn.
            && self.waiting == self.blocked();
        let place = if runs {
            self.running += 1;
            self.leases.hold(claim);
            Place::Run
        } else if self.waiting < most {
            self.waiting += 1;
            Place::Queue(self.waiting)
        } else {
            return Err(self.waiting);
        };
        self.last_order = now_us.max(self.last_order + 1);
        Ok((place, self.last_order))
    }

    /// Gives back what [`Self::take`] gave.
    pub fn give_back(&mut self, place: Place, claim: Option<&Claim>) {
        match place {
            Place::Run => {
                self.running -= 1;
                self.leases.release(claim);
            }
            Place::Queue(_) => self.waiting -= 1,
        }
    }

    /// Takes a place for a task that was found running.
    pub fn adopt(&mut self, live: &Arc<Live>) {
        self.running += 1;
        self.leases.hold(live.claim.as_ref());
        self.insert(live);
    }

    /// Puts a task that was found waiting into the queue.
    pub fn requeue(&mut self, order: u64, live: &Arc<Live>) {
        self.waiting += 1;
        self.last_order = self.last_order.max(order);
        self.insert(live);
        self.enqueue(order, live);
    }

    pub fn insert(&mut self, live: &Arc<Live>) {
        self.live.insert(live.id, Arc::clone(live));
    }

    pub fn enqueue(&mut self, order: u64, live: &Arc<Live>) {
        self.queue.insert(order, Arc::clone(live));
    }

    /// The next task whose turn it is; it has a place then.
    pub fn next(&mut self, concurrency: usize) -> Option<Arc<Live>> {
        if self.running >= concurrency {
            return None;
        }
        let free = |live: &Live| self.leases.free(live.claim.as_ref());
        let (order, _) = self.queue.iter().find(|(_, live)| free(live))?;
        let live = self.queue.remove(&order.clone())?;
        self.waiting -= 1;
        self.running += 1;
        self.leases.hold(live.claim.as_ref());
        Some(live)
    }

    /// Those in the queue that wait for a claim, not for a place.
    fn blocked(&self) -> usize {
        self.queue.values().filter(|live| !self.leases.free(live.claim.as_ref())).count()
    }

    /// Forgets a task that ended in the queue. One that just left it has a
    /// place, which its own loop gives back.
    pub fn cancel_queued(&mut self, id: TaskId) {
        let before = self.queue.len();
        self.queue.retain(|_, live| live.id != id);
        self.waiting -= before - self.queue.len();
        self.live.remove(&id);
    }

    /// Forgets a task that ended, and frees its place.
    pub fn leave(&mut self, live: &Live) {
        self.live.remove(&live.id);
        self.running -= 1;
        self.leases.release(live.claim.as_ref());
    }

    pub fn get(&self, id: TaskId) -> Option<Arc<Live>> {
        self.live.get(&id).cloned()
    }

    pub fn open(&self) -> usize {
        self.live.len()
    }

    pub fn running(&self) -> usize {
        self.running
    }

    pub fn queued(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Arc<Live> {
        let dir = RunDir::new(std::path::PathBuf::from("/nowhere"));
        Live::new(TaskId::random(), Project::default_project(), false, dir)
    }

    #[test]
    fn the_first_to_come_is_the_first_to_run() {
        let mut book = Book::default();
        assert_eq!(book.take(1, 2, 10, None), Ok((Place::Run, 10)));
        let (first, second) = (live(), live());
        for (position, task) in [(1, &first), (2, &second)] {
            // A clock that stands still does not disturb the order.
            let (place, order) = book.take(1, 2, 10, None).unwrap();
            assert_eq!(place, Place::Queue(position));
            book.enqueue(order, task);
        }
        assert_eq!(book.take(1, 2, 10, None), Err(2));
        assert!(book.next(1).is_none());
        book.give_back(Place::Run, None);
        assert_eq!(book.next(1).map(|task| task.id), Some(first.id));
        book.cancel_queued(second.id);
        assert_eq!((book.running(), book.queued()), (1, 0));
    }

    #[test]
    fn nobody_overtakes_the_queue() {
        let mut book = Book::default();
        book.take(1, 9, 1, None).unwrap();
        book.take(1, 9, 2, None).unwrap();
        book.give_back(Place::Run, None);
        assert!(matches!(book.take(1, 9, 3, None), Ok((Place::Queue(2), _))));
    }

    #[test]
    fn a_prompt_waits_for_its_folder_and_nobody_waits_for_it() {
        let mut book = Book::default();
        book.leases.most = 9;
        let claim = |folder: &str| Claim { member: "m".into(), folder: folder.into() };
        let (repo, other) = (claim("/repo"), claim("/other"));
        assert_eq!(book.take(9, 9, 1, Some(&repo)).unwrap().0, Place::Run);
        let (place, order) = book.take(9, 9, 2, Some(&repo)).unwrap();
        assert_eq!(place, Place::Queue(1));
        let mut second = live();
        Arc::get_mut(&mut second).unwrap().claim = Some(repo.clone());
        book.enqueue(order, &second);
        // What needs another folder, or none, goes on.
        assert_eq!(book.take(9, 9, 3, Some(&other)).unwrap().0, Place::Run);
        assert_eq!(book.take(9, 9, 4, None).unwrap().0, Place::Run);
        assert!(book.next(9).is_none());
        book.give_back(Place::Run, Some(&repo));
        assert_eq!(book.next(9).map(|live| live.id), Some(second.id));
        assert!(matches!(book.take(9, 9, 5, Some(&repo)), Ok((Place::Queue(_), _))));
    }
}
