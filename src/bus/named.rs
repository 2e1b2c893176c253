//! Places in the journal that are kept under a name, begun in one way at every
//! edge.
//!
//! A place is moved by what a reader has confirmed, never by what was sent: by a
//! call that says where it stands, or by the next call after one that handed a
//! whole answer out.

use super::{Bus, BusError, Start};
use crate::model::{Cursor, CursorError, Principal, PrincipalId, Project};
use crate::store::{Resume, StoreError, Tx};

impl Start {
    /// Reads what callers give as `since`: nothing, `0` for the oldest event
    /// that is held, or a cursor.
    ///
    /// # Errors
    /// If it is none of these.
    pub fn parse(since: Option<&str>) -> Result<Self, CursorError> {
        match since {
            None => Ok(Self::Now),
            Some("0") => Ok(Self::Oldest),
            Some(text) => text.parse().map(Self::After),
        }
    }
}

impl Bus {
    /// The position that `start` means now.
    ///
    /// # Errors
    /// [`BusError::Future`] if it lies after the newest event.
    pub fn place(&self, start: Start) -> Result<Cursor, BusError> {
        let head = self.head();
        match start {
            Start::Now => Ok(head),
            Start::Oldest => Ok(Cursor { seq: self.store.oldest().saturating_sub(1), ..head }),
            Start::After(cursor) => match self.resume(cursor) {
                Resume::Future => Err(BusError::Future { cursor, head }),
                Resume::After(_) | Resume::Gap { .. } => Ok(cursor),
            },
        }
    }

    /// Where `name` of `principal` goes on, if it was ever used.
    ///
    /// # Errors
    /// [`BusError::Name`], or why it cannot be read.
    pub async fn named(
        &self,
        principal: &Principal,
        name: &str,
    ) -> Result<Option<Cursor>, BusError> {
        let (principal, name) = key(principal, name)?;
        Ok(self.store.read(move |snapshot| snapshot.named_cursor(&principal, &name)).await?)
    }

    /// Begins a call under `name` and returns where it goes on: at `start` if
    /// the caller gives one or the name is new, otherwise behind what earlier
    /// calls handed out, which thereby counts as seen.
    ///
    /// # Errors
    /// [`BusError::Name`], [`BusError::Future`], or why it cannot be stored.
    pub async fn begin_named(
        &self,
        principal: &Principal,
        name: &str,
        start: Start,
    ) -> Result<Cursor, BusError> {
        let (principal, name) = key(principal, name)?;
        // Before anything is stored: a name must not stand in the future.
        let place = self.place(start)?;
        let seen = (start != Start::Now).then_some(place);
        let begin = move |tx: &mut Tx<'_>| -> Result<Cursor, StoreError> {
            tx.begin_named(&principal, &name, seen, place)
        };
        Ok(self.store.write(begin).await?)
    }

    /// Notes that a call under `name` answers with everything up to `handed`.
    ///
    /// # Errors
    /// [`BusError::Name`], or why it cannot be stored.
    pub async fn hand_named(
        &self,
        principal: &Principal,
        name: &str,
        handed: Cursor,
    ) -> Result<(), BusError> {
        let (principal, name) = key(principal, name)?;
        let hand = move |tx: &mut Tx<'_>| -> Result<(), StoreError> {
            tx.hand_named(&principal, &name, handed)
        };
        Ok(self.store.write(hand).await?)
    }
}

/// Owned, for a closure that leaves the thread.
fn key(principal: &Principal, name: &str) -> Result<(PrincipalId, String), BusError> {
    // The same alphabet as a project's name: it stands in rows and messages.
    Project::parse(name).map_err(|_| BusError::Name)?;
    Ok((principal.id.clone(), name.to_owned()))
}
