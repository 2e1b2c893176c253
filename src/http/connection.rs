//! One connection, from accept to its end.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use super::Context;
use super::admission::Place;
use super::dispatch;
use super::framing::MAX_HEAD;
use super::guard::Transport;
use super::guarded::Guarded;
use super::reply::Response;

/// How long a head may take to arrive, and how long a connection may idle
/// between two requests (R19 allows 10 s).
const HEADER_TIMEOUT: Duration = Duration::from_secs(6);

/// hyper's bound on what it buffers: a whole head, and no more for each reader.
const BUFFER: usize = MAX_HEAD + 1024;

/// Who is at the other end; every request of the connection carries it.
pub struct Peer {
    pub transport: Transport,
    pub place: Place,
}

type Answered = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// Serves one connection until it ends, has to give way, or the edge is killed.
pub async fn serve<S>(context: Arc<Context>, socket: S, transport: Transport, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let evicted = place.evicted.clone();
    let peer = Arc::new(Peer { transport, place });
    let socket = TokioIo::new(Guarded::new(socket, Arc::clone(&context.metrics)));
    let service = {
        let context = Arc::clone(&context);
        hyper::service::service_fn(move |request| answer(&context, &peer, request))
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(MAX_HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(socket, service);
    let mut connection = std::pin::pin!(connection);
    let mut closing = false;
    loop {
        tokio::select! {
            // Errors of a connection are the peer's business; metrics count ours.
            _ended = connection.as_mut() => return,
            () = evicted.cancelled() => return,
            () = context.killed.cancelled() => return,
            () = context.closing.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The request through warp's filters. Boxed: hyper keeps room for this future
/// as long as the connection lives, idle streams included.
fn answer(
    context: &Arc<Context>,
    peer: &Arc<Peer>,
    mut request: http::Request<Incoming>,
) -> Answered {
    request.extensions_mut().insert(Arc::clone(peer));
    let mut service = warp::service(dispatch::filter(Arc::clone(context)));
    Box::pin(async move { service.call(request).await })
}
