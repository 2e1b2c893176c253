//! What is known in memory about tasks that have not ended, and who is next.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::leases::{Claim, Leases};
use super::remote::Place;
use super::rundir::RunDir;
use super::watch::Supervisor;
use crate::model::{MemberId, Project, TaskId, Timestamp};

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
    /// The member whose queue it is in.
    pub member: MemberId,
    /// What runs there share, if it is another machine.
    pub place: Option<Arc<Place>>,
    /// Its standard input comes piece by piece.
    pub open_stdin: bool,
    /// What it holds while it runs, if it is a prompt.
    pub claim: Option<Claim>,
    pub phase: watch::Sender<Phase>,
    /// Its output grew, or its phase changed.
    pub changed: watch::Sender<()>,
    /// Held while input is appended or moves on to the next run.
    pub input: tokio::sync::Mutex<()>,
    /// Since when its link has been cut, while it runs.
    away: Mutex<Option<Timestamp>>,
    /// Something about its directory is news for whoever drives it remotely.
    news: Notify,
    run: Mutex<Run>,
}

struct Run {
    dir: RunDir,
    supervisor: Option<Arc<Supervisor>>,
}

/// All tasks that have not ended, and the queue of each member. A place or a
/// place in the queue is taken before the task is durable, so the bounds hold
/// however many arrive at once.
#[derive(Default)]
pub struct Book {
    live: HashMap<TaskId, Arc<Live>>,
    queues: HashMap<MemberId, Queue>,
    last_order: u64,
    pub leases: Leases,
}

/// One member's work.
#[derive(Default)]
struct Queue {
    /// By order of arrival.
    next: BTreeMap<u64, Arc<Live>>,
    running: usize,
    /// Places in the queue, those included whose tasks are not durable yet.
    waiting: usize,
}

/// What a new task gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Run,
    /// From 1.
    Queue(usize),
}

impl Live {
    pub fn new(
        id: TaskId,
        project: Project,
        (member, place): (MemberId, Option<Arc<Place>>),
        open_stdin: bool,
        dir: RunDir,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            project,
            member,
            place,
            open_stdin,
            claim: dir.prompt().map(|prompt| prompt.claim),
            phase: watch::Sender::new(Phase::Waiting),
            changed: watch::Sender::new(()),
            input: tokio::sync::Mutex::default(),
            away: Mutex::default(),
            news: Notify::new(),
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

    pub fn unreachable_since(&self) -> Option<Timestamp> {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_unreachable(&self, since: Option<Timestamp>) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Makes whoever sees to the run look at its directory now.
    pub fn poke(&self) {
        self.news.notify_one();
        if let Some(supervisor) = &self.run().supervisor {
            supervisor.poke();
        }
    }

    /// Waits until [`Self::poke`] was called since the last time.
    pub async fn poked(&self) {
        self.news.notified().await;
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

impl Queue {
    /// Those that wait for a claim, not for a place.
    fn blocked(&self, leases: &Leases) -> usize {
        self.next.values().filter(|live| !leases.free(live.claim.as_ref())).count()
    }
}

impl Book {
    /// With so many prompts at the same time on one member.
    pub fn with_prompts(most: usize) -> Self {
        let mut book = Self::default();
        book.leases.most = most;
        book
    }

    /// Takes a place on `member`, of `concurrency` places and `most` that wait, and
    /// a number in the order of arrival.
    ///
    /// # Errors
    /// With the number of tasks that wait, if no more may.
    pub fn take(
        &mut self,
        member: MemberId,
        (concurrency, most): (usize, usize),
        now_us: u64,
        claim: Option<&Claim>,
    ) -> Result<(Turn, u64), usize> {
        let leases = &mut self.leases;
        let queue = self.queues.entry(member).or_default();
        // Whoever waits for a folder is not overtaken: it is not its turn.
        let first = queue.waiting == queue.blocked(leases);
        let place = if queue.running < concurrency && first && leases.free(claim) {
            queue.running += 1;
            leases.hold(claim);
            Turn::Run
        } else if queue.waiting < most {
            queue.waiting += 1;
            Turn::Queue(queue.waiting)
        } else {
            return Err(queue.waiting);
        };
        self.last_order = now_us.max(self.last_order + 1);
        Ok((place, self.last_order))
    }

    /// Gives back what [`Self::take`] gave.
    pub fn give_back(&mut self, member: MemberId, place: Turn, claim: Option<&Claim>) {
        if place == Turn::Run {
            self.leases.release(claim);
        }
        self.change(member, |queue| match place {
            Turn::Run => queue.running -= 1,
            Turn::Queue(_) => queue.waiting -= 1,
        });
    }

    /// Takes a place for a task that was found running.
    pub fn adopt(&mut self, live: &Arc<Live>) {
        self.leases.hold(live.claim.as_ref());
        self.change(live.member, |queue| queue.running += 1);
        self.insert(live);
    }

    /// Puts a task that was found waiting into its queue.
    pub fn requeue(&mut self, order: u64, live: &Arc<Live>) {
        self.change(live.member, |queue| queue.waiting += 1);
        self.last_order = self.last_order.max(order);
        self.insert(live);
        self.enqueue(order, live);
    }

    pub fn insert(&mut self, live: &Arc<Live>) {
        self.live.insert(live.id, Arc::clone(live));
    }

    pub fn enqueue(&mut self, order: u64, live: &Arc<Live>) {
        self.change(live.member, |queue| {
            queue.next.insert(order, Arc::clone(live));
        });
    }

    /// The next task of `member` whose turn it is; it has a place then.
    pub fn next(&mut self, member: MemberId, concurrency: usize) -> Option<Arc<Live>> {
        let queue = self.queues.get_mut(&member)?;
        if queue.running >= concurrency {
            return None;
        }
        let leases = &mut self.leases;
        let turn = queue.next.iter().find(|(_, live)| leases.free(live.claim.as_ref()));
        let order = turn.map(|(order, _)| *order)?;
        let live = queue.next.remove(&order)?;
        queue.waiting -= 1;
        queue.running += 1;
        leases.hold(live.claim.as_ref());
        Some(live)
    }

    /// Members on which somebody waits.
    pub fn wanted(&self) -> Vec<MemberId> {
        let waits = self.queues.iter().filter(|(_, queue)| !queue.next.is_empty());
        waits.map(|(member, _)| *member).collect()
    }

    /// Forgets a task that ended in the queue. One that just left it has a
    /// place, which its own loop gives back.
    pub fn cancel_queued(&mut self, id: TaskId) {
        let Some(live) = self.live.remove(&id) else { return };
        self.change(live.member, |queue| {
            let before = queue.next.len();
            queue.next.retain(|_, live| live.id != id);
            queue.waiting -= before - queue.next.len();
        });
    }

    /// Forgets a task that ended, and frees its place.
    pub fn leave(&mut self, live: &Live) {
        self.live.remove(&live.id);
        self.leases.release(live.claim.as_ref());
        self.change(live.member, |queue| queue.running -= 1);
    }

    pub fn get(&self, id: TaskId) -> Option<Arc<Live>> {
        self.live.get(&id).cloned()
    }

    pub fn open(&self) -> usize {
        self.live.len()
    }

    /// Tasks that run, wherever that is.
    pub fn running(&self) -> usize {
        self.queues.values().map(|queue| queue.running).sum()
    }

    fn change(&mut self, member: MemberId, change: impl FnOnce(&mut Queue)) {
        let queue = self.queues.entry(member).or_default();
        change(queue);
        if queue.running == 0 && queue.waiting == 0 {
            self.queues.remove(&member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: MemberId = MemberId::LOCAL;

    fn live() -> Arc<Live> {
        let dir = RunDir::new(std::path::PathBuf::from("/nowhere"));
        Live::new(TaskId::random(), Project::default_project(), (HERE, None), false, dir)
    }

    #[test]
    fn the_first_to_come_is_the_first_to_run() {
        let mut book = Book::default();
        assert_eq!(book.take(HERE, (1, 2), 10, None), Ok((Turn::Run, 10)));
        let (first, second) = (live(), live());
        for (position, task) in [(1, &first), (2, &second)] {
            // A clock that stands still does not disturb the order.
            let (place, order) = book.take(HERE, (1, 2), 10, None).unwrap();
            assert_eq!(place, Turn::Queue(position));
            book.enqueue(order, task);
        }
        assert_eq!(book.take(HERE, (1, 2), 10, None), Err(2));
        assert!(book.next(HERE, 1).is_none());
        book.give_back(HERE, Turn::Run, None);
        assert_eq!(book.next(HERE, 1).map(|task| task.id), Some(first.id));
        book.cancel_queued(second.id);
        assert_eq!(book.running(), 1);
        let there = "0190a5d2-7d6c-7c2e-9d4a-0123456789ab".parse().unwrap();
        assert!(
            matches!(book.take(there, (1, 0), 1, None), Ok((Turn::Run, _))),
            "members are apart"
        );
        assert_eq!(book.running(), 2);
    }

    #[test]
    fn nobody_overtakes_the_queue() {
        let mut book = Book::default();
        book.take(HERE, (1, 9), 1, None).unwrap();
        book.take(HERE, (1, 9), 2, None).unwrap();
        book.give_back(HERE, Turn::Run, None);
        assert!(matches!(book.take(HERE, (1, 9), 3, None), Ok((Turn::Queue(2), _))));
    }

    #[test]
    fn a_prompt_waits_for_its_folder_and_nobody_waits_for_it() {
        let mut book = Book::with_prompts(9);
        let claim = |folder: &str| Claim { member: "m".into(), folder: folder.into() };
        let (repo, other) = (claim("/repo"), claim("/other"));
        assert_eq!(book.take(HERE, (9, 9), 1, Some(&repo)).unwrap().0, Turn::Run);
        let (place, order) = book.take(HERE, (9, 9), 2, Some(&repo)).unwrap();
        assert_eq!(place, Turn::Queue(1));
        let mut second = live();
        Arc::get_mut(&mut second).unwrap().claim = Some(repo.clone());
        book.enqueue(order, &second);
        // What needs another folder, or none, goes on.
        assert_eq!(book.take(HERE, (9, 9), 3, Some(&other)).unwrap().0, Turn::Run);
        assert_eq!(book.take(HERE, (9, 9), 4, None).unwrap().0, Turn::Run);
        assert!(book.next(HERE, 9).is_none());
        book.give_back(HERE, Turn::Run, Some(&repo));
        assert_eq!(book.next(HERE, 9).map(|live| live.id), Some(second.id));
        let third = book.take(HERE, (9, 9), 5, Some(&repo));
        assert!(matches!(third, Ok((Turn::Queue(_), _))));
    }

    #[test]
    fn a_folder_of_one_member_keeps_nobody_on_another_waiting() {
        let mut book = Book::with_prompts(1);
        let there: MemberId = "0190a5d2-7d6c-7c2e-9d4a-0123456789ab".parse().unwrap();
        let claim = |member: MemberId| Claim { member: member.to_string(), folder: "/r".into() };
        for member in [HERE, there] {
            let claim = claim(member);
            assert_eq!(book.take(member, (9, 9), 1, Some(&claim)).unwrap().0, Turn::Run);
            let second = book.take(member, (9, 9), 2, Some(&claim)).unwrap().0;
            assert_eq!(second, Turn::Queue(1));
        }
    }
}
