//! Answers: whole ones, and streams that end when they are told to.

use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderValue, StatusCode, header};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use warp::Reply;

/// What every route answers with.
pub type Response = warp::reply::Response;

/// A whole answer.
pub fn whole(status: StatusCode, content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    harden(&mut response);
    response
}

/// A whole answer in JSON.
pub fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    whole(status, "application/json", Bytes::from(value.to_string()))
}

/// An answer that goes on until `stream` ends or `until` is cancelled, which
/// ends it cleanly: that is how shutdown and revocation reach every open stream.
pub fn streamed<S>(content_type: &'static str, stream: S, until: CancellationToken) -> Response
where
    S: Stream<Item = Bytes> + Send + 'static,
{
    let mut response = warp::reply::stream(Until::new(stream, until)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // Said to proxies that a person puts in between: pass each frame on at once.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    // Where a stream has ended, nobody waits for the connection to idle out.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    harden(&mut response);
    response
}

/// Nothing we answer may be cached, sniffed or framed.
pub fn harden(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// Ends a stream early.
struct Until<S> {
    /// warp wants bodies that are `Sync`; a mutex that is only ever reached
    /// through `&mut` makes them so and is never locked.
    inner: Mutex<Parts<S>>,
}

struct Parts<S> {
    stream: Option<Pin<Box<S>>>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Until<S> {
    fn new(stream: S, until: CancellationToken) -> Self {
        let parts =
            Parts { stream: Some(Box::pin(stream)), ended: Box::pin(until.cancelled_owned()) };
        Self { inner: Mutex::new(parts) }
    }
}

impl<S: Stream<Item = Bytes>> Stream for Until<S> {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let parts = match self.inner.get_mut() {
            Ok(parts) => parts,
            Err(poisoned) => poisoned.into_inner(),
        };
        let Some(stream) = &mut parts.stream else { return Poll::Ready(None) };
        let next = if parts.ended.as_mut().poll(context).is_ready() {
            None
        } else {
            std::task::ready!(stream.as_mut().poll_next(context))
        };
        if next.is_none() {
            // What the stream holds is given back now, not when the peer has gone.
            parts.stream = None;
        }
        Poll::Ready(next.map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    #[tokio::test]
    async fn a_stream_ends_when_it_is_told_to() {
        let until = CancellationToken::new();
        let endless = futures_util::stream::iter([Bytes::from_static(b"a")])
            .chain(futures_util::stream::pending());
        let mut stream = Until::new(endless, until.clone());
        assert_eq!(stream.next().await, Some(Ok(Bytes::from_static(b"a"))));
        until.cancel();
        assert_eq!(stream.next().await, None);
        assert_eq!(stream.next().await, None);
    }
}
