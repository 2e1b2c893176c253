//! The writer thread: group commit, the high-water mark, and what it does when
//! a write fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::check::Checker;
use super::clock::Clock;
use super::fault::{Failure, Kind, damage};
use super::group::{Group, Job};
use super::highwater::{HighWater, Mark};
use super::journal::{CommittedBatch, CommittedEvent, JournalState};
use super::opening::Opened;
use super::readers::Slots;
use super::shared::{Message, Shared};
use super::space::Space;
use super::state::State;
use super::wal::Wal;
use super::{CommitHook, StoreError, StoreOptions};
use crate::model::Timestamp;

/// Changes waiting for the writer. Full means the disk is slower than the
/// callers, who then wait their turn; nothing is dropped.
const WAITING: usize = 1024;

/// Most changes in one transaction: enough that an fsync is shared by all who
/// wait, few enough that the first of them does not wait long for the last.
const GROUP: usize = 512;

/// The writer before its thread starts, and in it.
pub struct Writer {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) journal: JournalState,
    pub(super) high: HighWater,
    pub(super) inode: u64,
    pub(super) wal: Wal,
    pub(super) space: Space,
    pub(super) options: StoreOptions,
    pub(super) state: Arc<State>,
    pub(super) slots: Arc<Slots>,
    pub(super) checker: Option<Checker>,
    /// The background check was started; once is enough.
    pub(super) checked: bool,
    /// When a write failed for a reason of the disk and the store recovered.
    pub(super) broke: Option<Instant>,
    /// More to trim than one chunk: go on while nobody waits.
    pub(super) trimming: bool,
    /// Says whether age counts.
    pub(super) clock: Clock,
    /// When cursors were last looked through.
    pub(super) swept: Option<Instant>,
    hook: CommitHook,
    /// To hand to the checker; weak, so that the thread ends with its callers.
    pub(super) messages: mpsc::WeakSender<Message>,
}

/// Whether the thread goes on.
pub enum Flow {
    On,
    End,
}

/// Starts the thread. Returns the callers' handle and the readers' connections' places.
///
/// # Errors
/// If no thread can be had.
pub fn start(
    opened: Opened,
    options: StoreOptions,
    hook: CommitHook,
    slots: Arc<Slots>,
) -> Result<(Shared, mpsc::WeakSender<Message>), StoreError> {
    let (messages, waiting) = mpsc::channel(WAITING);
    let Opened { path, connection, journal, high, inode, earlier, .. } = opened;
    let state = Arc::new(State::new(&journal, earlier, options.source.clone()));
    let weak = messages.downgrade();
    let writer = Writer {
        wal: Wal::new(&path),
        space: Space::new(&options.dir),
        path,
        connection,
        journal,
        high,
        inode,
        options,
        state: Arc::clone(&state),
        slots,
        checker: None,
        checked: false,
        broke: None,
        trimming: false,
        clock: Clock::new(Timestamp::now(), Instant::now()),
        swept: None,
        hook,
        messages: weak.clone(),
    };
    std::thread::Builder::new()
        .name(String::from("store-write"))
        .spawn(move || writer.serve(waiting))
        .map_err(|source| StoreError::Io { path: PathBuf::from("(thread)"), source })?;
    Ok((Shared::new(messages, state), weak))
}

impl Writer {
    fn serve(mut self, mut waiting: mpsc::Receiver<Message>) {
        let mut group = Vec::with_capacity(GROUP);
        while self.receive(&mut waiting, &mut group) {
            if let Flow::End = self.process(&mut group) {
                break;
            }
        }
        if let Some(checker) = self.checker.take() {
            checker.stop();
        }
    }

    /// Waits for messages; does not wait while there is something to trim.
    /// `false` if all callers are gone.
    fn receive(&mut self, waiting: &mut mpsc::Receiver<Message>, group: &mut Vec<Message>) -> bool {
        if !self.trimming {
            return waiting.blocking_recv_many(group, GROUP) > 0;
        }
        while group.len() < GROUP {
            match waiting.try_recv() {
                Ok(message) => group.push(message),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return !group.is_empty(),
            }
        }
        true
    }

    fn process(&mut self, group: &mut Vec<Message>) -> Flow {
        let mut jobs = Vec::with_capacity(group.len());
        let (mut ticks, mut closing, mut damaged) = (Vec::new(), None, None);
        for message in group.drain(..) {
            match message {
                Message::Job(job) => jobs.push(job),
                Message::Tick(reply) => ticks.push(reply),
                Message::Damaged(error) => damaged = Some(error),
                Message::Close(reply) => closing = Some(reply),
            }
        }
        if let Some(error) = damaged {
            return self.give_up(error);
        }
        let busy = !jobs.is_empty();
        if busy && let Flow::End = self.commit(jobs) {
            return Flow::End;
        }
        if (self.trimming || !ticks.is_empty() || self.is_far_over())
            && let Flow::End = self.housekeep(!ticks.is_empty())
        {
            return Flow::End;
        }
        if !ticks.is_empty()
            && !busy
            && let Flow::End = self.rest()
        {
            return Flow::End;
        }
        for tick in ticks {
            let _ = tick.send(Ok(()));
        }
        if let Some(reply) = closing {
            self.close();
            let _ = reply.send(());
            return Flow::End;
        }
        Flow::On
    }

    /// Runs `jobs` in one transaction and answers them.
    fn commit(&mut self, jobs: Vec<Box<dyn Job>>) -> Flow {
        let mut jobs = self.admitted(jobs);
        if jobs.is_empty() {
            return Flow::On;
        }
        let before = self.journal.clone();
        let group = Group {
            connection: &self.connection,
            journal: &mut self.journal,
            source: &self.options.source,
            appended: Vec::new(),
            now: Timestamp::now(),
        };
        match group.commit(&mut jobs) {
            Ok(appended) => {
                if let Err(flow) = self.announce(appended) {
                    return flow;
                }
                for job in jobs {
                    job.finish(Ok(()));
                }
                match self.look_at_wal() {
                    Ok(()) => Flow::On,
                    Err(error) => self.upkeep_failed(error, "a checkpoint failed"),
                }
            }
            Err(error) => {
                self.journal = before;
                self.recover(error, jobs)
            }
        }
    }

    /// While the disk is full, what only adds is refused without trying, so that
    /// the reserve is left to what makes room.
    fn admitted(&mut self, jobs: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
        if !self.space.is_full() || self.look_for_room() {
            return jobs;
        }
        let (refused, admitted): (Vec<_>, _) = jobs.into_iter().partition(|job| job.only_adds());
        for job in refused {
            job.finish(Err(self.full()));
        }
        admitted
    }

    /// What follows a commit, in this order: the mark moves, the bus is told,
    /// everybody may see the new head. Only then is anybody answered.
    pub(super) fn announce(&mut self, appended: Vec<CommittedEvent>) -> Result<(), Flow> {
        if appended.is_empty() {
            return Ok(());
        }
        self.move_mark();
        let batch = CommittedBatch { epoch: self.journal.epoch, events: appended };
        let told = catch_unwind(AssertUnwindSafe(|| (self.hook)(batch)));
        if told.is_err() {
            // Readers would miss events without knowing: better to start afresh.
            return Err(self.fail(damage("the commit hook panicked"), None));
        }
        self.state.moved(&self.journal);
        Ok(())
    }

    /// A mark that cannot be written does not take back what is durable: it only
    /// lags, as after a power cut, and the next commit moves it again.
    pub(super) fn move_mark(&mut self) {
        let mark =
            Mark { epoch: self.journal.epoch, seq: self.journal.next - 1, inode: self.inode };
        if let Err(error) = self.high.write(mark) {
            tracing::error!(%error, "the high-water mark could not be moved; a store that goes back in time now would not be noticed");
        }
    }

    fn recover(&mut self, error: rusqlite::Error, jobs: Vec<Box<dyn Job>>) -> Flow {
        let kind = self.kind_of(&error);
        tracing::error!(%error, ?kind, "a commit failed");
        if kind == Kind::Full {
            self.ran_out();
        }
        // Nothing is acknowledged, and nobody waits, while the store is looked at.
        self.state.set_degraded(kind != Kind::Full);
        for job in jobs {
            let reason = if kind == Kind::Full { self.full() } else { StoreError::Degraded };
            job.finish(Err(reason));
        }
        match kind {
            Kind::Full => Flow::On,
            Kind::Busy => {
                self.state.set_degraded(false);
                Flow::On
            }
            Kind::Damaged => self.give_up(error),
            Kind::Broken | Kind::Refused => self.reopen(error),
        }
    }

    fn full(&self) -> StoreError {
        StoreError::Full { dir: self.options.dir.clone() }
    }

    /// The database is not what was written: it is set aside and the store ends.
    pub(super) fn give_up(&mut self, error: rusqlite::Error) -> Flow {
        let slots = Arc::clone(&self.slots);
        let _closed = slots.close();
        self.close_connection();
        match super::quarantine::set_aside(&self.path) {
            Ok(quarantined) => self.fail(error, Some(quarantined)),
            Err(problem) => {
                tracing::error!(%problem, "the damaged journal could not be set aside");
                self.fail(error, None)
            }
        }
    }

    /// Tells everybody that the store ends.
    pub(super) fn fail(&mut self, error: rusqlite::Error, quarantined: Option<PathBuf>) -> Flow {
        tracing::error!(%error, "the journal cannot go on");
        self.state.fail(Failure { path: self.path.clone(), quarantined, error });
        Flow::End
    }

    fn close(&mut self) {
        if let Some(checker) = self.checker.take() {
            checker.stop();
        }
        if let Err(error) = self.journal.save(&self.connection, true) {
            tracing::warn!(%error, "the journal could not be marked as closed");
        }
        drop(self.slots.close());
        if !self.has_room_for_copy() {
            return tracing::warn!("the disk is full; the next start empties the write-ahead log");
        }
        if let Err(error) = self.wal.empty(&self.connection, &self.high) {
            tracing::warn!(%error, "the last checkpoint failed; the next start does it");
        }
    }
}
