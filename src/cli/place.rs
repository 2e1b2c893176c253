//! A place in the journal that the daemon keeps under a name.
//!
//! What a tool hands out under a name counts as seen at the next call, which is
//! too early for a script that may be killed while it prints. So reading goes by
//! plain cursors here, and the name is only moved to what has been printed.

use crate::client::{Client, ClientError};
use crate::model::Cursor;
use crate::wire::tools::{EventsResult, ListEvents, WaitForEvents};

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
        if self.name.is_none() {
            return Ok(None);
        }
        let arguments = WaitForEvents {
            types: Vec::new(),
            subject: None,
            since: None,
            name: self.name.clone(),
            timeout_s: 0,
            limit: 1,
        };
        let page = self.client.call_tool("wait_for_events", &arguments).await?;
        self.found(&page).await.map(Some)
    }

    /// The place before `page`, which was handed out under the name. Moves the
    /// name back there: nothing of the page has been printed yet.
    ///
    /// # Errors
    /// If the daemon cannot keep it.
    pub async fn found(&mut self, page: &EventsResult) -> Result<Cursor, ClientError> {
        let place = beginning(page)?;
        self.keep(place).await?;
        Ok(place)
    }

    /// Has everything up to `cursor` count as seen.
    ///
    /// # Errors
    /// If the daemon cannot keep it.
    pub async fn keep(&mut self, cursor: Cursor) -> Result<(), ClientError> {
        // Positions have no holes: the one event after the position before is
        // the one at `cursor`, and being handed out it counts as seen.
        let (Some(name), Some(before)) = (&self.name, cursor.seq.checked_sub(1)) else {
            return Ok(());
        };
        if self.kept == Some(cursor) {
            return Ok(());
        }
        let arguments = ListEvents {
            types: Vec::new(),
            subject: None,
            since: Some(Cursor { seq: before, ..cursor }.to_string()),
            name: Some(name.clone()),
            limit: 1,
        };
        self.client.call_tool::<_, EventsResult>("list_events", &arguments).await?;
        self.kept = Some(cursor);
        Ok(())
    }
}

/// The position before the first thing that a page tells.
fn beginning(page: &EventsResult) -> Result<Cursor, ClientError> {
    let parse = |text: &str| text.parse::<Cursor>().map_err(|error| odd(&error.to_string()));
    if let Some(gap) = &page.gap {
        return parse(&gap.from);
    }
    let cursor = parse(&page.cursor)?;
    let Some(event) = page.events.first() else { return Ok(cursor) };
    let sequence = event.get("sequence").and_then(serde_json::Value::as_str);
    let seq: u64 = sequence.and_then(|text| text.parse().ok()).ok_or_else(|| odd("no sequence"))?;
    Ok(Cursor { seq: seq.saturating_sub(1), ..cursor })
}

fn odd(problem: &str) -> ClientError {
    ClientError::Protocol(format!("a page of events: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn before(page: serde_json::Value) -> String {
        beginning(&serde_json::from_value(page).unwrap()).unwrap().to_string()
    }

    #[test]
    fn a_page_begins_before_its_first_event_or_gap() {
        let cursor = "0000002a:17";
        let page = |events: serde_json::Value, gap: serde_json::Value| json!({"events": events, "cursor": cursor, "gap": gap, "more": false, "timed_out": false});
        assert_eq!(before(page(json!([]), json!(null))), cursor);
        assert_eq!(before(page(json!([{"sequence": "9"}]), json!(null))), "0000002a:8");
        let gap = json!({"from": "0000002a:3", "to": "0000002a:7", "reason": "retention"});
        assert_eq!(before(page(json!([{"sequence": "9"}]), gap)), "0000002a:3");
    }
}
