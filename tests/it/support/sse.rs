//! Server-sent events, read by a parser that is not ours.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use eventsource_stream::EventStream;
use futures_util::{FutureExt, StreamExt};
use serde_json::Value;

use super::body::Body;
use super::http::{Answer, Conn, Request, Socket, is_timeout};
use super::wait::PATIENCE;

/// One dispatched event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The last `id` of the stream when it was dispatched.
    pub id: String,
    pub name: String,
    pub data: String,
}

impl Event {
    /// The CloudEvent.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The position within `id`.
    #[track_caller]
    pub fn seq(&self) -> u64 {
        let seq = self.id.split_once(':').and_then(|(_, seq)| seq.parse().ok());
        seq.unwrap_or_else(|| panic!("no position in {self:?}"))
    }
}

/// An open stream of server-sent events.
pub struct Stream {
    /// The head of the answer.
    pub answer: Answer,
    events: EventStream<Poller>,
    source: Arc<Mutex<Source>>,
    ended: bool,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = lock(&self.source);
        f.debug_struct("Stream")
            .field("ended", &source.ended)
            .field("seen", &source.seen())
            .finish()
    }
}

/// What the parser polls. Blocks until the deadline, so that a poll is a read.
struct Poller(Arc<Mutex<Source>>);

/// The stream's bytes.
struct Source {
    socket: Socket,
    body: Body,
    deadline: Instant,
    /// How the stream ended, after how long.
    ended: Option<(String, Duration)>,
    begun: Instant,
    /// The first bytes of the stream, for tests that look at frames the parser
    /// does not dispatch (comments, bookmarks).
    seen: Vec<u8>,
}

/// More than any test looks at, less than a long gate could fill.
const SEEN: usize = 64 * 1024;

/// The independent parser moves its whole buffer at every line, so it is fed
/// in pieces that keep that cheap.
const PIECE: usize = 4 * 1024;

impl Stream {
    /// Sends `request` and waits for the head of a successful answer.
    #[track_caller]
    pub fn open(conn: Conn, request: &Request) -> Self {
        Self::try_open(conn, request).unwrap_or_else(|error| panic!("{request:?}: {error}"))
    }

    /// The same for tests in which the daemon may be gone.
    ///
    /// # Errors
    /// If the connection is lost before the head.
    ///
    /// # Panics
    /// If the daemon refuses the request.
    pub fn try_open(mut conn: Conn, request: &Request) -> io::Result<Self> {
        conn.write(&request.bytes())?;
        let (answer, body) = conn.read_head("GET")?;
        assert_eq!(answer.status, 200, "{request:?}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/event-stream"), "{answer:?}");
        let socket = conn.into_socket();
        let source = Source {
            socket,
            body,
            deadline: Instant::now(),
            ended: None,
            begun: Instant::now(),
            seen: Vec::new(),
        };
        let source = Arc::new(Mutex::new(source));
        let events = EventStream::new(Poller(Arc::clone(&source)));
        Ok(Self { answer, events, source, ended: false })
    }

    /// The next event if it comes within `limit`; `None` at the end of the
    /// stream too, which [`Stream::ends_within`] tells apart.
    pub fn next_within(&mut self, limit: Duration) -> Option<Event> {
        lock(&self.source).deadline = Instant::now() + limit;
        // Blocking happens inside the poll, so one poll is all there is.
        match self.events.next().now_or_never() {
            Some(Some(event)) => {
                let event = event.expect("a well-formed stream");
                Some(Event { id: event.id, name: event.event, data: event.data })
            }
            Some(None) => {
                self.ended = true;
                None
            }
            None => None,
        }
    }

    /// The next event.
    #[track_caller]
    pub fn next(&mut self) -> Event {
        self.next_within(PATIENCE).unwrap_or_else(|| panic!("no event; ended: {}", self.ended))
    }

    /// The next event of this name; others are passed over.
    #[track_caller]
    pub fn next_named(&mut self, name: &str) -> Event {
        loop {
            let event = self.next();
            if event.name == name {
                return event;
            }
        }
    }

    /// The next `count` events.
    #[track_caller]
    pub fn take(&mut self, count: usize) -> Vec<Event> {
        (0..count).map(|_| self.next()).collect()
    }

    /// Events until none has come for `quiet`.
    pub fn take_until_quiet(&mut self, quiet: Duration) -> Vec<Event> {
        std::iter::from_fn(|| self.next_within(quiet)).collect()
    }

    /// Whether the daemon ends the stream within `limit`; events on the way are dropped.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        let begun = Instant::now();
        while !self.ended && begun.elapsed() < limit {
            self.next_within(limit.saturating_sub(begun.elapsed()));
        }
        self.ended
    }

    /// The first bytes of the stream, as far as they were read.
    pub fn seen(&self) -> String {
        lock(&self.source).seen()
    }
}

impl futures_util::Stream for Poller {
    type Item = Result<Vec<u8>, Infallible>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let source = &mut *lock(&self.0);
        let left = source.deadline.saturating_duration_since(Instant::now());
        drop(source.socket.patience(left));
        match source.body.next(&mut source.socket, PIECE) {
            Ok(bytes) if bytes.is_empty() => source.end("in order".to_owned()),
            Ok(bytes) => {
                let room = SEEN.saturating_sub(source.seen.len()).min(bytes.len());
                source.seen.extend_from_slice(&bytes[..room]);
                Poll::Ready(Some(Ok(bytes)))
            }
            Err(error) if is_timeout(&error) => Poll::Pending,
            // A reset is an end too: the daemon may have been killed.
            Err(error) => source.end(error.to_string()),
        }
    }
}

impl Source {
    fn end<T>(&mut self, how: String) -> Poll<Option<T>> {
        let after = self.begun.elapsed();
        self.ended.get_or_insert((how, after));
        Poll::Ready(None)
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }
}

fn lock(source: &Mutex<Source>) -> std::sync::MutexGuard<'_, Source> {
    source.lock().expect("nothing panics while it reads")
}
