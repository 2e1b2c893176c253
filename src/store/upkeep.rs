//! What the writer does for itself: trimming, cursors nobody uses, the WAL,
//! looking whether a full disk has room again.

use std::time::{Duration, Instant};

use super::check::Checker;
use super::fault::Kind;
use super::group::execute;
use super::retention::{CHUNK, drop_unused, is_due, trim};
use super::wal::growth;
use super::writer::{Flow, Writer};
use crate::model::Timestamp;

/// Cursors are looked through this often; they are kept for months.
const SWEEP: Duration = Duration::from_secs(3600);

/// Bytes over the bound that wait for the next tick.
const SLACK: u64 = 1024 * 1024;

impl Writer {
    /// Trims one chunk, if there is anything to trim. The rest follows between
    /// the groups of those who publish.
    pub(super) fn housekeep(&mut self, tick: bool) -> Flow {
        if tick {
            if self.space.is_full() {
                self.look_for_room();
            }
            // Not before the first tick: writing it would hold up the start.
            self.space.prepare();
            self.begin_check();
        }
        let age = self.options.retention.age;
        let now = self.clock.believed(Timestamp::now(), Instant::now(), age);
        let sweep =
            tick && now.is_some() && self.swept.is_none_or(|swept| swept.elapsed() >= SWEEP);
        match self.housekeep_within(now, sweep) {
            Ok(more) => {
                self.trimming = more;
                Flow::On
            }
            Err(error) => {
                self.trimming = false;
                self.upkeep_failed(error, "the journal could not be trimmed")
            }
        }
    }

    fn housekeep_within(&mut self, now: Option<Timestamp>, sweep: bool) -> rusqlite::Result<bool> {
        let due = is_due(&self.connection, &self.journal, &self.options.retention, now)?;
        if !due && !sweep {
            return Ok(false);
        }
        let before = self.journal.clone();
        let outcome = self.housekeep_transaction(now, due, sweep);
        if outcome.is_err() {
            self.journal = before;
            if !self.connection.is_autocommit() {
                let _ = execute(&self.connection, "ROLLBACK");
            }
            return outcome;
        }
        if sweep {
            self.swept = Some(Instant::now());
        }
        self.state.moved(&self.journal);
        self.look_at_wal()?;
        outcome
    }

    fn housekeep_transaction(
        &mut self,
        now: Option<Timestamp>,
        due: bool,
        sweep: bool,
    ) -> rusqlite::Result<bool> {
        execute(&self.connection, "BEGIN IMMEDIATE")?;
        let mut more = false;
        if due {
            more = trim(&self.connection, &mut self.journal, &self.options.retention, now)?;
        }
        if let (true, Some(now)) = (sweep, now) {
            drop_unused(&self.connection, now)?;
        }
        execute(&self.connection, "COMMIT")?;
        Ok(more)
    }

    /// What the writer does for itself failed; nobody waits for it.
    pub(super) fn upkeep_failed(&mut self, error: rusqlite::Error, what: &str) -> Flow {
        let kind = self.kind_of(&error);
        tracing::error!(%error, ?kind, "{what}");
        match kind {
            Kind::Full => {
                self.ran_out();
                Flow::On
            }
            Kind::Busy => Flow::On,
            Kind::Damaged => self.give_up(error),
            Kind::Broken | Kind::Refused => self.reopen(error),
        }
    }

    /// Whether publishers have outrun the bounds since the last tick.
    pub(super) fn is_far_over(&self) -> bool {
        let keep = &self.options.retention;
        self.journal.events > keep.rows.saturating_add(CHUNK)
            || self.journal.bytes > keep.bytes.saturating_add(SLACK)
    }

    /// After a commit: copies what has gathered in the WAL, if it is much.
    pub(super) fn look_at_wal(&mut self) -> rusqlite::Result<()> {
        if self.wal.is_due(&self.connection)? && self.finds_room_for_copy() {
            self.wal.copy(&self.connection, &self.high)?;
            if self.wal.is_too_long() {
                let _nobody_reads = self.slots.hold();
                self.wal.empty(&self.connection, &self.high)?;
            }
        }
        Ok(())
    }

    /// A tick found nobody waiting: a long WAL's room is given back.
    pub(super) fn rest(&mut self) -> Flow {
        if !self.wal.is_long() || !self.finds_room_for_copy() {
            return Flow::On;
        }
        match self.wal.empty(&self.connection, &self.high) {
            Ok(()) => Flow::On,
            Err(error) => self.upkeep_failed(error, "a checkpoint failed"),
        }
    }

    /// Whether the WAL may be copied now. If not, the disk is as good as full.
    fn finds_room_for_copy(&mut self) -> bool {
        let room = self.has_room_for_copy();
        if !room && !self.space.is_full() {
            tracing::error!("the disk is full: the write-ahead log cannot be copied");
            self.ran_out();
        }
        room
    }

    /// Copying the WAL makes the database larger. That may only be begun if it
    /// can be finished: half a copy frees nothing, and eats the reserve that is
    /// there for what makes room.
    pub(super) fn has_room_for_copy(&self) -> bool {
        let owed = growth(&self.connection, &self.path);
        self.space.has_room_for(owed.unwrap_or(0))
    }

    /// The first tick comes when the daemon is up: from then on there is time.
    fn begin_check(&mut self) {
        if self.checked {
            return;
        }
        self.checked = true;
        match Checker::start(self.path.clone(), self.messages.clone()) {
            Ok(checker) => self.checker = Some(checker),
            Err(error) => tracing::warn!(%error, "the journal cannot be checked in the background"),
        }
    }

    /// The disk is full: the reserve is given back, and what waits in the WAL
    /// moves into the database, so that the WAL's room can be used again.
    pub(super) fn ran_out(&mut self) {
        self.space.ran_out();
        self.state.set_full(true);
        if !self.has_room_for_copy() {
            return;
        }
        if let Err(error) = self.wal.empty(&self.connection, &self.high) {
            tracing::warn!(%error, "no room could be made in the write-ahead log");
        }
    }

    /// Whether there is room again; adding goes on if so.
    pub(super) fn look_for_room(&mut self) -> bool {
        let recovered = self.space.recovered(|| growth(&self.connection, &self.path).unwrap_or(0));
        if recovered {
            self.state.set_full(false);
        }
        recovered
    }

    /// The kind of a failure, with what only the disk can tell.
    pub(super) fn kind_of(&self, error: &rusqlite::Error) -> Kind {
        let of_fsync = matches!(
            error.sqlite_error().map(|error| error.extended_code),
            Some(rusqlite::ffi::SQLITE_IOERR_FSYNC | rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC)
        );
        match Kind::of(error) {
            // After a failed fsync nobody knows what is stored, room or not.
            Kind::Broken if !of_fsync && self.space.takes_nothing() => Kind::Full,
            kind => kind,
        }
    }
}
