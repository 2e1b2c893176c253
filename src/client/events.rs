//! The event stream, resumed where it broke (WHATWG HTML, section 9.2).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::ACCEPT;
use http_body_util::BodyExt;
use hyper::body::Incoming as Body;

use super::{Backoff, Client, ClientError};
use crate::wire::{SseFrame, SseParser};

/// Which events, and from where.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Topic patterns; none means all.
    pub types: Vec<String>,
    pub subject: Option<String>,
    /// At least this severe.
    pub severity: Option<String>,
    /// After this cursor; `0` for the oldest held; none for what happens from now on.
    pub since: Option<String>,
    /// Signals (partial output) as well.
    pub signals: bool,
}

/// What a stream hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// An event, a signal (no id) or the notice of a gap (`event` is `gap`).
    Frame(SseFrame),
    /// The connection broke; the stream is trying to get it back. Once per break.
    Lost(String),
}

/// A stream that connects again by itself after a break and goes on after the
/// last position it handed out, so a restart of the daemon neither loses nor
/// repeats an event.
pub struct EventStream {
    client: Client,
    query: EventQuery,
    /// Where to go on from.
    last_id: Option<String>,
    open: Option<(Body, SseParser)>,
    ready: VecDeque<Incoming>,
    backoff: Backoff,
    told_lost: bool,
}

/// Three bookmarks missed: the other end is gone, whatever the kernel believes.
pub(super) const SILENCE: Duration = Duration::from_secs(45);

impl Client {
    /// Opens the event stream. The first connection has to succeed; later breaks
    /// are mended by the stream itself.
    ///
    /// # Errors
    /// If the daemon is not there or refuses the query.
    pub async fn events(&self, query: EventQuery) -> Result<EventStream, ClientError> {
        let mut stream = EventStream {
            client: self.clone(),
            query,
            last_id: None,
            open: None,
            ready: VecDeque::new(),
            backoff: Backoff::default(),
            told_lost: false,
        };
        stream.connect().await?;
        Ok(stream)
    }
}

impl EventStream {
    /// The next thing to show. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Only what waiting cannot mend, such as a refused filter.
    pub async fn next(&mut self) -> Result<Incoming, ClientError> {
        loop {
            if let Some(next) = self.ready.pop_front() {
                return Ok(next);
            }
            let outcome = match self.open {
                Some(_) => self.read().await,
                None => self.reconnect().await,
            };
            let Err(error) = outcome else { continue };
            if !error.is_passing() {
                return Err(error);
            }
            self.open = None;
            self.backoff.grow();
            if !std::mem::replace(&mut self.told_lost, true) {
                self.ready.push_back(Incoming::Lost(error.to_string()));
            }
        }
    }

    /// The position after which the stream goes on, if it has one yet.
    pub fn cursor(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    async fn reconnect(&mut self) -> Result<(), ClientError> {
        self.backoff.wait().await;
        self.connect().await
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let mut link = self.client.link().await?;
        let mut request = link
            .request(Method::GET, &self.query.path(self.last_id.is_none()))
            .header(ACCEPT, "text/event-stream");
        if let Some(id) = &self.last_id {
            request = request.header("Last-Event-ID", id);
        }
        let answer = link.send(request, Bytes::new()).await?;
        self.open = Some((answer.into_body(), SseParser::new()));
        self.backoff = Backoff::default();
        self.told_lost = false;
        Ok(())
    }

    async fn read(&mut self) -> Result<(), ClientError> {
        let Some((body, parser)) = &mut self.open else { return Ok(()) };
        let frame = match tokio::time::timeout(SILENCE, body.frame()).await {
            Ok(Some(frame)) => frame.map_err(ClientError::Cut)?,
            Ok(None) => return Err(ClientError::Ended),
            Err(_) => return Err(ClientError::Frozen { pid: None, waited: SILENCE }),
        };
        let Some(bytes) = frame.data_ref() else { return Ok(()) };
        parser.push(bytes);
        while let Some(frame) = parser.next_frame() {
            if let Some(id) = &frame.id {
                self.last_id = Some(id.clone());
            }
            // A bookmark only moves the cursor.
            if frame.data.is_some() {
                self.ready.push_back(Incoming::Frame(frame));
            }
        }
        Ok(())
    }
}

impl EventQuery {
    /// The request's target. A resumed request says where by `Last-Event-ID`.
    fn path(&self, with_since: bool) -> String {
        let mut path = String::from("/events?signals=");
        path.push(if self.signals { '1' } else { '0' });
        let types = self.types.join(",");
        let parts = [
            ("types", Some(types.as_str()).filter(|types| !types.is_empty())),
            ("subject", self.subject.as_deref()),
            ("severity", self.severity.as_deref()),
            ("since", self.since.as_deref().filter(|_| with_since)),
        ];
        for (name, value) in parts {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", percent_encoded(value)));
            }
        }
        path
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_encoded_and_resumes_by_header_alone() {
        let query = EventQuery {
            types: vec!["task.*".into(), "custom.>".into()],
            subject: Some("a b&c=ä".into()),
            since: Some("0000002a:7".into()),
            ..EventQuery::default()
        };
        let filter = "/events?signals=0&types=task.%2A%2Ccustom.%3E&subject=a%20b%26c%3D%C3%A4";
        assert_eq!(query.path(true), format!("{filter}&since=0000002a%3A7"));
        assert_eq!(query.path(false), filter);
    }
}
