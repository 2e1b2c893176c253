//! What a change may do inside the writer's transaction.

use rusqlite::Connection;

use super::StoreError;
use super::fault::{Kind, copy_of};
use super::journal::{CommittedEvent, JournalState, Published};
use crate::model::{NewEvent, Timestamp};
use crate::wire::{EncodedEvent, encode_event};

/// The current transaction. State and events change together or not at all.
///
/// Typed operations on the tables stand beside the tables, in `store/*.rs`.
pub struct Tx<'a> {
    pub(super) connection: &'a Connection,
    pub(super) journal: &'a mut JournalState,
    pub(super) appended: &'a mut Vec<CommittedEvent>,
    pub(super) source: &'a str,
    pub(super) now: Timestamp,
    /// What the disk or SQLite itself did wrong in this transaction.
    pub(super) fault: &'a mut Option<rusqlite::Error>,
}

impl Tx<'_> {
    /// Appends one of fleetd's own events.
    ///
    /// # Errors
    /// If the event is too large, or the database refuses it.
    pub fn append(&mut self, event: NewEvent) -> Result<Published, StoreError> {
        let encoded = encode_event(event, self.source)?;
        let published = self.append_encoded(&encoded)?;
        if published.duplicate {
            // It was decided just now, so it cannot have been told before.
            tracing::error!(id = encoded.id, topic = %encoded.topic, "an event of fleetd's own was there already and is not told again; please report it");
        }
        Ok(published)
    }

    /// Appends an event that is already encoded.
    ///
    /// # Errors
    /// If the database refuses it.
    pub fn append_encoded(&mut self, event: &EncodedEvent) -> Result<Published, StoreError> {
        let appended = self.journal.append(self.connection, event, self.now);
        let (published, committed) = self.noted(appended)?;
        self.appended.extend(committed);
        Ok(published)
    }

    /// Remembers a failure that is the store's, not the change's: the change may
    /// go on to wrap the error in its own.
    fn noted<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Sql(error)) = &result
            && Kind::of(error) != Kind::Refused
        {
            self.fault.get_or_insert_with(|| copy_of(error));
        }
        result
    }
}
