//! A place in the journal that the daemon keeps under a name.
//!
//! What a tool hands out under a name counts as seen at the next call, which is
//! too early for a script that may be killed while it prints. So reading goes by
//! plain cursors here, and the name is only moved to what has been printed.

use crate::client::{Client, ClientError};
use crate::model::Cursor;
use crate::wire::tools::{EventsResult, ListEvents};

/// A named place, or none: then nothing is kept.
pub struct Place {
    client: Client,
    name: Option<String>,
    /// Where the name stands, as far as we know.
    kept: Option<Cursor>,
}

impl Place {
    pub fn new(client: &Client, name: Option<&str>) -> Self {
        Self { client: client.clone(), name: name.map(str::to_owned), kept: None }
    }

    /// Where to go on; a new name begins now. `None` without a name.
    ///
    /// # Errors
    /// If the daemon refuses the name.
    pub async fn find(&mut self) -> Result<Option<Cursor>, ClientError> {
        self.ask(None).await?;
        Ok(self.kept)
    }

    /// Has everything up to `cursor` count as seen.
    ///
    /// # Errors
    /// If the daemon cannot keep it.
    pub async fn keep(&mut self, cursor: Cursor) -> Result<(), ClientError> {
        if self.kept == Some(cursor) { Ok(()) } else { self.ask(Some(cursor)).await }
    }

    /// Moves the name to `to`, if given, and learns where it stands.
    async fn ask(&mut self, to: Option<Cursor>) -> Result<(), ClientError> {
        let Some(name) = &self.name else { return Ok(()) };
        let arguments = ListEvents {
            types: Vec::new(),
            subject: None,
            since: to.map(|cursor| cursor.to_string()),
            name: Some(name.clone()),
            limit: 0,
        };
        let page: EventsResult = self.client.call_tool("list_events", &arguments).await?;
        let place = page.cursor.parse();
        self.kept = Some(place.map_err(|error| ClientError::Protocol(format!("{error}")))?);
        Ok(())
    }
}
