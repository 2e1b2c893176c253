//! From a request to its handler: guard, token, table, scope, body, and one
//! mapping of everything that goes wrong.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes};
use futures_util::{FutureExt, Stream};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyDataStream, BodyExt};
use serde_json::json;
use sha2::Sha256;
use tokio_util::sync::CancellationToken;
use warp::path::FullPath;
use warp::{Filter, Rejection};

use super::auth::{Caller, hex};
use super::connection::Peer;
use super::guard::Transport;
use super::metrics::Metrics;
use super::problem::Problem;
use super::query::{self, Query};
use super::reply::{self, Response};
use super::routes::{self, Access, Found, Route, Target};
use super::{Context, Services, body, events, members, tasks, tokens};
use crate::mcp::McpBody;
use crate::model::{ErrorCode, EventError, NewEvent, Project};
use crate::store::{Published, Store, StoreError, Tx};

/// A request that may be answered, before its body is read.
struct Call {
    context: Arc<Context>,
    route: &'static Route,
    /// Nobody on a public route.
    caller: Option<Caller>,
    id: String,
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    begun: Instant,
}

/// The whole edge as one warp filter.
pub fn filter(
    context: Arc<Context>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone {
    let raw_query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let recovering = Arc::clone(&context);
    warp::method()
        .and(warp::path::full())
        .and(raw_query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Arc<Peer>>())
        .and_then(move |method, path: FullPath, query, headers, peer: Arc<Peer>| {
            let admitted = admit(&context, &peer, method, path.as_str(), query, headers);
            std::future::ready(admitted.map_err(warp::reject::custom))
        })
        .and(warp::body::stream())
        .and_then(|call, body| async { Ok::<_, Rejection>(perform(call, body).await) })
        .recover(move |rejection| {
            std::future::ready(Ok::<_, Infallible>(refuse(&recovering, &rejection)))
        })
        .unify()
}

/// Everything that is decided before the body is read.
fn admit(
    context: &Arc<Context>,
    peer: &Peer,
    method: Method,
    path: &str,
    query: String,
    headers: HeaderMap,
) -> Result<Call, Problem> {
    context.guard.check(peer.transport, &headers)?;
    if matches!(method, Method::OPTIONS | Method::TRACE | Method::CONNECT) {
        return Err(wrong_method());
    }
    let found = routes::find(&method, path);
    let (route, id) = match found {
        Found::Route(route @ Route { access: Access::Public, .. }, id) => {
            return Ok(Call {
                context: Arc::clone(context),
                route,
                caller: None,
                id: id.to_owned(),
                path: path.to_owned(),
                method,
                query,
                headers,
                begun: Instant::now(),
            });
        }
        Found::Route(route, id) => (Some(route), id),
        Found::WrongMethod | Found::Nothing => (None, ""),
    };
    // Who has no token learns nothing about routes, not even which there are.
    let caller = authenticate(context, peer, &headers)?;
    let caller = caller.narrowed(&headers)?;
    if query::carries_token(&query) {
        return Err(Problem::invalid("a token must not stand in an address; it would be kept"));
    }
    let Some(route) = route else {
        return Err(match found {
            Found::WrongMethod => wrong_method(),
            _ => Problem::new(ErrorCode::NotFound, "there is no such path"),
        });
    };
    if let Access::Bearer(scope) = route.access
        && !caller.principal.may(scope)
    {
        return Err(Problem::forbidden("this token does not permit it"));
    }
    body::check_headers(&headers)?;
    Ok(Call {
        context: Arc::clone(context),
        route,
        caller: Some(caller),
        id: id.to_owned(),
        path: path.to_owned(),
        method,
        query,
        headers,
        begun: Instant::now(),
    })
}

fn authenticate(context: &Context, peer: &Peer, headers: &HeaderMap) -> Result<Caller, Problem> {
    if peer.transport == Transport::Unix {
        return Ok(context.gate.owner());
    }
    let caller = context.gate.check(headers).ok_or_else(Problem::unauthorized)?;
    if !peer.place.authenticated(&caller.principal) {
        let problem = "this token has too many connections open; close some of them";
        return Err(Problem::new(ErrorCode::Exhausted, problem));
    }
    Ok(caller)
}

fn wrong_method() -> Problem {
    Problem::with_status(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::InvalidArgument,
        "this method is not served here",
    )
}

/// Runs the handler and notes how long its answer took to begin.
async fn perform<S, B>(call: Call, body: S) -> Response
where
    S: Stream<Item = Result<B, warp::Error>> + Send,
    B: Buf + Send,
{
    let context = Arc::clone(&call.context);
    let (route, begun) = (call.route, call.begun);
    let store = context.services.bus.store();
    let answered = survive(&context.metrics, store, route.pattern, handle(call, body)).await;
    let response = answered.unwrap_or_else(|problem| problem.response());
    let took = begun.elapsed();
    context.metrics.latency.observe(took);
    let status = response.status().as_u16();
    tracing::debug!(method = %route.method, route = route.pattern, status, ?took, "answered");
    response
}

/// A panic in a handler is that request's failure and nobody else's (R37).
async fn survive<T>(
    metrics: &Metrics,
    store: &Store,
    route: &'static str,
    handled: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    match AssertUnwindSafe(handled).catch_unwind().await {
        Ok(result) => result,
        Err(_panic) => {
            metrics.panics.add();
            tracing::error!(route, "a handler panicked");
            tell_defect(store, route).await;
            Err(Problem::new(ErrorCode::Internal, "fleetd has a defect; its log says where"))
        }
    }
}

/// Tells whoever waits for events; the caller's answer does not depend on it.
async fn tell_defect(store: &Store, route: &'static str) {
    let tell = move |tx: &mut Tx<'_>| -> Result<Published, StoreError> {
        let data = json!({ "reason": format!("a request to {route} met a defect") });
        let event = NewEvent::own("fleet.degraded", "fleet", Project::default_project(), data);
        tx.append(event.map_err(EventError::from)?)
    };
    if let Err(error) = store.write(tell).await {
        tracing::error!(route, %error, "a defect could not be told as an event");
    }
}

async fn handle<S, B>(call: Call, body: S) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>> + Send,
    B: Buf + Send,
{
    let context = Arc::clone(&call.context);
    let services = &context.services;
    let Some(caller) = call.caller.clone() else {
        return match call.route.target {
            Target::Health => health(&context, &call.query),
            // Only a route that is declared public comes without a caller.
            _ => Err(Problem::unauthorized()),
        };
    };
    match call.route.target {
        Target::Health => health(&context, &call.query),
        Target::Metrics => {
            let text = context.metrics.render(&context.gauges());
            let media_type = "text/plain; version=0.0.4; charset=utf-8";
            Ok(reply::whole(StatusCode::OK, media_type, Bytes::from(text)))
        }
        // The old transport's address, which knows no parameters of its own.
        Target::Mcp if call.path == "/sse" && query::names(&call.query, "stream_id") => {
            follow(services, caller, &call).await
        }
        Target::ReadEvents => follow(services, caller, &call).await,
        Target::PublishEvents => {
            let bytes = body::read(body).await?;
            events::publish(&services.bus, &caller.principal, &call.headers, &bytes).await
        }
        Target::TaskOutput => tasks::output(&services.fleet, caller, &call.id, &call.query).await,
        Target::TaskInput => {
            let bytes = body::read(body).await?;
            tasks::input(&services.fleet, &caller.principal, &call.id, &call.query, bytes).await
        }
        Target::MemberHostKey => {
            members::host_key(&services.fleet, &caller.principal, &call.id).await
        }
        Target::TrustMember => {
            let bytes = body::read(body).await?;
            members::trust(&services.fleet, &caller.principal, &call.id, &bytes).await
        }
        Target::ListTokens => tokens::list(services.bus.store()).await,
        Target::CreateToken => {
            let bytes = body::read(body).await?;
            tokens::create(services.bus.store(), &context.gate, &bytes).await
        }
        Target::RevokeToken => tokens::revoke(services.bus.store(), &context.gate, &call.id).await,
        Target::Mcp => {
            let bytes = body::read(body).await?;
            body::check_depth(&bytes)?;
            mcp(call, caller, bytes).await
        }
    }
}

async fn follow(services: &Services, caller: Caller, call: &Call) -> Result<Response, Problem> {
    events::read(&services.bus, &services.fleet, caller, &call.headers, &call.query).await
}

/// `GET /healthz`: alive, and on request the proof that this is the daemon that
/// wrote the runtime file: `HMAC-SHA256(proof_key, challenge ":" port)`.
fn health(context: &Context, query: &str) -> Result<Response, Problem> {
    let query = Query::parse(query, &["challenge"])?;
    let degraded = context.services.bus.store().is_degraded();
    let mut answer = json!({ "status": if degraded { "degraded" } else { "ok" } });
    // Whoever asks for a proof must not take an answer without one for a yes.
    if let Some(challenge) = query.given("challenge") {
        let proof = prove(context.proof_key.reveal(), challenge, context.port)
            .ok_or_else(|| Problem::invalid("challenge has to be 16 to 64 bytes in hex"))?;
        answer["proof"] = proof.into();
    }
    Ok(reply::json(StatusCode::OK, &answer))
}

fn prove(key: &str, challenge: &str, port: u16) -> Option<String> {
    let challenge = from_hex(challenge).filter(|bytes| (16..=64).contains(&bytes.len()))?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&from_hex(key)?).ok()?;
    mac.update(&challenge);
    mac.update(format!(":{port}").as_bytes());
    Some(hex(&mac.finalize().into_bytes()))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let (high, low) = (digit(*pair.first()?)?, digit(*pair.get(1)?)?);
            u8::try_from(high * 16 + low).ok()
        })
        .collect()
}

async fn mcp(call: Call, caller: Caller, bytes: Bytes) -> Result<Response, Problem> {
    let mut request = http::Request::new(bytes);
    *request.method_mut() = call.method;
    *request.headers_mut() = call.headers;
    let address = match call.query.as_str() {
        "" => call.path,
        query => format!("{}?{query}", call.path),
    };
    *request.uri_mut() =
        address.parse().map_err(|_| Problem::invalid("the address cannot be read"))?;
    let handled = call.context.services.mcp.handle(caller.principal, request);
    let answer = tokio::select! {
        answer = handled => answer,
        // An answer that is not a stream can take long as well.
        () = revoked(&call.context, &caller.until) => return Err(Problem::unauthorized()),
    };
    let (parts, body) = answer.into_parts();
    let mut response = mcp_body(body, caller.until).await;
    *response.status_mut() = parts.status;
    for (name, value) in &parts.headers {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    reply::harden(&mut response);
    Ok(response)
}

/// Returns when the caller's token is not valid any more. When the daemon stops,
/// answers that are under way get their time.
async fn revoked(context: &Context, until: &CancellationToken) {
    until.cancelled().await;
    if context.closing.is_cancelled() {
        std::future::pending().await
    }
}

/// Answers of known length go out whole; everything else is a stream that ends
/// with its token.
async fn mcp_body(body: McpBody, until: CancellationToken) -> Response {
    use futures_util::StreamExt;
    use http_body::Body;
    if body.size_hint().exact().is_some() {
        let Ok(whole) = body.collect().await;
        return Response::new(whole.to_bytes().into());
    }
    let stream = BodyDataStream::new(body)
        .filter_map(|part| std::future::ready(part.ok().filter(|bytes| !bytes.is_empty())));
    reply::streamed("text/event-stream", stream, until)
}

/// The one place where a refusal becomes an answer.
fn refuse(context: &Context, rejection: &Rejection) -> Response {
    let problem = rejection
        .find::<Problem>()
        .cloned()
        .unwrap_or_else(|| Problem::new(ErrorCode::Internal, "the request could not be taken"));
    match problem.code {
        ErrorCode::Unauthorized => context.metrics.unauthorized.add(),
        ErrorCode::Forbidden => context.metrics.forbidden.add(),
        _ => {}
    }
    problem.response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Severity;

    #[tokio::test]
    async fn a_panic_is_one_requests_failure_counted_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let fixture = crate::store::testing::open(&dir);
        let metrics = Metrics::default();
        let handled = async {
            tokio::task::yield_now().await;
            if metrics.panics.get() == 0 {
                panic!("a defect");
            }
            Ok::<(), Problem>(())
        };
        let problem = survive(&metrics, &fixture.store, "/events", handled).await.unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.code), (500, ErrorCode::Internal));
        assert_eq!(metrics.panics.get(), 1);
        let told = fixture.told.lock().unwrap();
        let [event] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((event.topic.as_str(), event.severity), ("fleet.degraded", Severity::Error));
        let body: serde_json::Value = serde_json::from_slice(&event.body).unwrap();
        assert_eq!(body["data"]["reason"], "a request to /events met a defect");
    }

    #[test]
    fn a_proof_is_bound_to_key_challenge_and_port() {
        let key = "0b".repeat(32);
        let challenge = "00".repeat(16);
        let proof = prove(&key, &challenge, 4711).unwrap();
        assert_eq!(proof.len(), 64);
        assert_ne!(prove(&key, &challenge, 4712).unwrap(), proof);
        assert_ne!(prove(&key, &"01".repeat(16), 4711).unwrap(), proof);
        for bad in ["", "00", &"00".repeat(65), &"0".repeat(33), &"zz".repeat(16)] {
            assert_eq!(prove(&key, bad, 4711), None, "{bad}");
        }
    }
}
