//! The transfers that are under way, and the loop of each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::TransferError;
use super::plan::Limits;
use super::progress::Progress;
use super::row;
use super::work::Doing;
use crate::bus::Bus;
use crate::config;
use crate::fleet::FleetError;
use crate::model::{MemberId, Principal, TaskId, TaskState, Timestamp, Transfer};
use crate::store::StoreError;

/// Transfers with one member that are under way at once: commands need channels
/// of the same connection.
const AT_ONCE: usize = 2;

/// Rows looked through for a principal who sees only some of them.
const LOOKED_THROUGH: usize = 10_000;

/// Rows forgotten when a new one comes.
const FORGOTTEN: usize = 100;

/// The journal could not be written: tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// The transfers; clones share them.
#[derive(Clone)]
pub struct Transfers(Arc<Inner>);

struct Inner {
    bus: Bus,
    settings: config::Transfers,
    /// Never held across an await.
    book: Mutex<HashMap<TaskId, Arc<Live>>>,
    /// Places of each member; gone when nobody has one.
    places: Mutex<HashMap<MemberId, Weak<Semaphore>>>,
    tracker: TaskTracker,
    closing: CancellationToken,
}

/// A transfer that has not ended.
struct Live {
    progress: Arc<Progress>,
    stop: CancellationToken,
    ended: watch::Sender<bool>,
}

impl Transfers {
    pub fn new(settings: config::Transfers, bus: Bus) -> Self {
        Self(Arc::new(Inner {
            bus,
            settings,
            book: Mutex::default(),
            places: Mutex::default(),
            tracker: TaskTracker::new(),
            closing: CancellationToken::new(),
        }))
    }

    /// Tells of the transfers that the last daemon did not bring to an end.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn recover(&self) -> Result<(), FleetError> {
        let told = self.0.bus.store().write(|tx| {
            for mut open in tx.open_transfers()? {
                row::conclude(&mut open, Err(&TransferError::Interrupted));
                let event = row::ended(&open).map_err(StoreError::Event)?;
                tx.put_transfer(&open)?;
                tx.append(event)?;
            }
            Ok::<_, StoreError>(())
        });
        Ok(told.await?)
    }

    /// Stops watching; rows of what is under way stay as they are.
    pub async fn close(&self) {
        self.0.closing.cancel();
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }

    /// The bounds of one transfer.
    pub fn limits(&self) -> Limits {
        let settings = &self.0.settings;
        Limits { entries: settings.max_files, bytes: settings.max_mib.saturating_mul(1024 * 1024) }
    }

    fn book(&self) -> MutexGuard<'_, HashMap<TaskId, Arc<Live>>> {
        // Changed by whole steps only; a panic elsewhere cannot tear it.
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, member: MemberId) -> Arc<Semaphore> {
        let mut places = self.0.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|_, place| place.strong_count() > 0);
        if let Some(place) = places.get(&member).and_then(Weak::upgrade) {
            return place;
        }
        let place = Arc::new(Semaphore::new(AT_ONCE));
        places.insert(member, Arc::downgrade(&place));
        place
    }

    /// The row, with how far it is now, if `principal` may see it.
    pub async fn visible(
        &self,
        principal: &Principal,
        id: TaskId,
    ) -> Result<Option<Transfer>, FleetError> {
        let found = self.0.bus.store().read(move |snapshot| snapshot.transfer(id)).await?;
        let seen = found.filter(|found| row::may_see(principal, found));
        Ok(seen.map(|found| self.lively(found)))
    }

    fn lively(&self, mut row: Transfer) -> Transfer {
        if let Some(live) = self.book().get(&row.id).filter(|_| !row.state.is_terminal()) {
            (row.done, row.total) = (live.progress.done(), live.progress.total());
        }
        row
    }

    /// Those that `principal` may see, newest first.
    pub async fn list(
        &self,
        principal: &Principal,
        states: &[TaskState],
        limit: usize,
    ) -> Result<Vec<Transfer>, FleetError> {
        let read = self.0.bus.store().read(|snapshot| snapshot.transfers(LOOKED_THROUGH));
        let mut rows = read.await?;
        rows.retain(|found| {
            row::may_see(principal, found) && (states.is_empty() || states.contains(&found.state))
        });
        rows.truncate(limit);
        Ok(rows.into_iter().map(|found| self.lively(found)).collect())
    }

    /// Stores a new row and begins. A loop of its own: a caller who goes away
    /// leaves no row without a loop.
    pub async fn take(
        &self,
        new: Transfer,
        doing: Doing,
        keeps: Duration,
    ) -> Result<(), FleetError> {
        if self.0.closing.is_cancelled() {
            return Err(StoreError::Closed.into());
        }
        let begun = self.clone().begin(new, doing, keeps);
        Ok(self.0.tracker.spawn(begun).await.map_err(|_| StoreError::Closed)??)
    }

    async fn begin(self, new: Transfer, doing: Doing, keeps: Duration) -> Result<(), StoreError> {
        let keeps = i64::try_from(keeps.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp::from_millis(new.created.millis().saturating_sub(keeps));
        let stored = new.clone();
        let write = self.0.bus.store().write(move |tx| {
            tx.forget_transfers(before, FORGOTTEN)?;
            tx.put_transfer(&stored)
        });
        write.await?;
        let live = Arc::new(Live {
            progress: Arc::default(),
            stop: CancellationToken::new(),
            ended: watch::Sender::new(false),
        });
        self.book().insert(new.id, Arc::clone(&live));
        self.0.tracker.spawn(self.clone().drive(new, live, doing));
        Ok(())
    }

    /// Asks it to stop, and waits for its end.
    pub async fn stop(&self, id: TaskId) {
        if let Some(live) = self.book().get(&id) {
            live.stop.cancel();
        }
        self.until_ended(id).await;
    }

    /// Returns when it has ended, or the daemon goes down.
    pub async fn until_ended(&self, id: TaskId) {
        let Some(live) = self.book().get(&id).cloned() else { return };
        let mut ended = live.ended.subscribe();
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => {}
            () = self.0.closing.cancelled() => {}
        }
    }

    /// Carries a transfer to its end and tells it.
    async fn drive(self, row: Transfer, live: Arc<Live>, doing: Doing) {
        let bus = &self.0.bus;
        let place = self.place(doing.handle.member().id);
        let carried = doing.carry(&live.progress, place, &live.stop);
        let outcome = tokio::select! {
            biased;
            () = self.0.closing.cancelled() => {
                live.progress.stop();
                return;
            }
            outcome = carried => outcome,
            () = live.progress.tell(bus, &row) => Err(TransferError::Stopped),
        };
        live.progress.stop();
        live.progress.current(None);
        live.progress.tell_once(bus, &row);
        let mut end = row;
        (end.done, end.total) = (live.progress.done(), live.progress.total());
        match outcome {
            Ok((skipped, count)) => {
                (end.skipped, end.skipped_count) = (skipped, count);
                row::conclude(&mut end, Ok(()));
            }
            Err(error) => row::conclude(&mut end, Err(&error)),
        }
        while let Err(error) = self.put_end(end.clone()).await {
            tracing::warn!(transfer = %end.id, %error, "a transfer's end could not be stored");
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                () = self.0.closing.cancelled() => return,
            }
        }
        self.book().remove(&end.id);
        live.ended.send_replace(true);
    }

    /// Stores the end and its event; once, however often it is called.
    async fn put_end(&self, end: Transfer) -> Result<(), StoreError> {
        let write = self.0.bus.store().write(move |tx| {
            if tx.transfer(end.id)?.is_some_and(|row| row.state.is_terminal()) {
                return Ok(());
            }
            let event = row::ended(&end).map_err(StoreError::Event)?;
            tx.put_transfer(&end)?;
            tx.append(event)?;
            Ok::<_, StoreError>(())
        });
        write.await
    }
}
