//! From what the server says to an HTTP answer: JSON if it is said soon, a
//! stream if it takes time or there is something to say on the way.

mod logged;

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::runtime::Handle;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::McpBody;
use super::engine::Said;
use super::frames;
use super::headers::Accept;
use super::push::KEEP_ALIVE;
use super::refusal::{code, empty_response, json_response};
use super::revision::Revision;
use super::shares::Share;

pub use logged::{Detached, lost, resumed};

/// How long an answer may take and still be plain JSON. Most tools are done in a
/// millisecond, on a busy machine in some hundred; a client that waits for one that
/// is not sees a stream open long before it gives up.
const SOON: Duration = Duration::from_millis(500);

/// What the calls of one POST say, in order.
pub type Sayings = Pin<Box<dyn Stream<Item = Said> + Send>>;

/// The calls of one POST, and what is owed for them.
pub struct Calls {
    /// Taken when they go on without a reader.
    said: Option<Sayings>,
    /// Replies that have not been given.
    owed: usize,
    /// Ends waits that nobody waits for.
    hurry: CancellationToken,
    /// Where the calls go on when their reader is gone; `None` in the modern
    /// era, in which that cancels them.
    detached: Option<Detached>,
    _permit: Share,
}

/// How the answer looks.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub accept: Accept,
    /// The replies to a batch stand in an array.
    pub batch: bool,
    /// Errors have an HTTP status of their own (2026-07-28, transports).
    pub modern: bool,
}

impl Calls {
    pub fn new(
        said: Sayings,
        owed: usize,
        hurry: CancellationToken,
        detached: Option<Detached>,
        permit: Share,
    ) -> Self {
        Self { said: Some(said), owed, hurry, detached, _permit: permit }
    }

    /// Whether a client that is hung up on comes back for the rest.
    fn can_resume(&self) -> bool {
        let revision = self.detached.as_ref().map(|detached| detached.revision);
        revision.is_some_and(|revision| revision >= Revision::V2025_11_25)
    }

    async fn next(&mut self) -> Option<Said> {
        if self.owed == 0 {
            return None;
        }
        let said = match &mut self.said {
            Some(said) => said.next().await,
            None => None,
        };
        match &said {
            Some(Said::Reply { .. }) => self.owed -= 1,
            Some(Said::Notification(_) | Said::HangUp) => {}
            None => self.owed = 0,
        }
        said
    }
}

impl Drop for Calls {
    /// Before the modern era a lost connection is no cancellation (2025-03-26,
    /// transports): the calls go on, but waits have no point any more.
    fn drop(&mut self) {
        self.hurry.cancel();
        if self.owed == 0 {
            return;
        }
        if let (Some(detached), Some(said), Ok(runtime)) =
            (&self.detached, self.said.take(), Handle::try_current())
        {
            detached.tracker.spawn_on(said.for_each(|_| std::future::ready(())), &runtime);
        }
    }
}

/// Answers with what the calls say.
pub async fn respond(mut calls: Calls, shape: Shape) -> Response<McpBody> {
    let mut replies = Vec::new();
    let (mut early, mut hung_up) = (Vec::new(), false);
    if shape.accept.json {
        let soon = tokio::time::sleep(SOON);
        tokio::pin!(soon);
        loop {
            let said = tokio::select! {
                biased;
                said = calls.next() => said,
                () = &mut soon, if shape.accept.stream => break,
            };
            match said {
                Some(Said::Reply { body, error }) => replies.push((body, error)),
                Some(Said::Notification(body)) if shape.accept.stream => {
                    early.push(body);
                    break;
                }
                Some(Said::HangUp) if calls.can_resume() => {
                    hung_up = true;
                    break;
                }
                // There is no way to say it to this client.
                Some(Said::Notification(_) | Said::HangUp) => {}
                None => break,
            }
            if calls.owed == 0 {
                return whole(replies, shape);
            }
        }
        if calls.owed == 0 && !shape.accept.stream {
            return whole(replies, shape);
        }
    }
    // Replies came before any notification that ended the loop.
    let early: Vec<_> = replies.into_iter().map(|(body, _)| body).chain(early).collect();
    match calls.detached.clone() {
        Some(detached) => logged::logged(calls, early, hung_up, detached)
            .unwrap_or_else(|| empty_response(StatusCode::INTERNAL_SERVER_ERROR)),
        None => streamed(calls, early),
    }
}

fn whole(replies: Vec<(Bytes, Option<i64>)>, shape: Shape) -> Response<McpBody> {
    if shape.batch {
        let bodies: Vec<_> = replies.into_iter().map(|(body, _)| body).collect();
        let array = [b"[", bodies.join(&b","[..]).as_slice(), b"]"].concat();
        return json_response(StatusCode::OK, array.into());
    }
    match replies.into_iter().next() {
        Some((body, error)) => json_response(status(error, shape.modern), body),
        // Cancelled: no reply follows.
        None => empty_response(StatusCode::ACCEPTED),
    }
}

fn status(error: Option<i64>, modern: bool) -> StatusCode {
    match error {
        Some(code::METHOD_NOT_FOUND) if modern => StatusCode::NOT_FOUND,
        Some(code::HEADER_MISMATCH | code::MISSING_CAPABILITY | code::UNSUPPORTED_VERSION)
            if modern =>
        {
            StatusCode::BAD_REQUEST
        }
        _ => StatusCode::OK,
    }
}

struct Streaming {
    calls: Calls,
    early: Vec<Bytes>,
    opened: bool,
    keep_alive: Interval,
}

fn streamed(calls: Calls, early: Vec<Bytes>) -> Response<McpBody> {
    let mut keep_alive = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let streaming = Streaming { calls, early, opened: false, keep_alive };
    stream_response(stream::unfold(streaming, |mut streaming| async move {
        let bytes = streaming.next().await?;
        Some((bytes, streaming))
    }))
}

impl Streaming {
    async fn next(&mut self) -> Option<Bytes> {
        if !self.opened {
            self.opened = true;
            let mut out = Vec::from(frames::OPEN);
            for message in self.early.drain(..) {
                frames::push_message(&mut out, &message);
            }
            return Some(out.into());
        }
        let said = tokio::select! {
            biased;
            said = self.calls.next() => said?,
            _ = self.keep_alive.tick() => return Some(Bytes::from_static(frames::KEEP_ALIVE)),
        };
        let (Said::Notification(body) | Said::Reply { body, .. }) = said else {
            return Some(Bytes::from_static(frames::KEEP_ALIVE));
        };
        let mut out = Vec::with_capacity(body.len() + 32);
        frames::push_message(&mut out, &body);
        self.keep_alive.reset();
        Some(out.into())
    }
}

/// An answer that is a stream of server-sent events.
pub fn stream_response<S>(bytes: S) -> Response<McpBody>
where
    S: Stream<Item = Bytes> + Send + 'static,
{
    let frames = bytes.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // A proxy that collects a stream before it passes it on makes it useless.
    let buffering = HeaderName::from_static("x-accel-buffering");
    headers.insert(buffering, HeaderValue::from_static("no"));
    response
}
