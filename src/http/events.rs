//! `/events`: reading the journal as server-sent events, and publishing to it.

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::auth::Caller;
use super::body;
use super::problem::Problem;
use super::query::Query;
use super::reply::{self, Response};
use super::stream::EventStream;
use crate::bus::{Bus, Start};
use crate::fleet::Fleet;
use crate::model::{Filter, Principal, Project, Severity};
use crate::store::StoreError;
use crate::wire::{decode_batch, decode_event, encode_event};

const PARAMETERS: &[&str] =
    &["types", "subject", "project", "severity", "since", "as", "stream_id", "task", "signals"];

/// `GET /events`; with a `stream_id` also `GET /sse`.
///
/// # Errors
/// 400 for a parameter that cannot be used or a cursor from the future.
pub async fn read(
    bus: &Bus,
    fleet: &Fleet,
    caller: Caller,
    headers: &HeaderMap,
    query: &str,
) -> Result<Response, Problem> {
    let query = Query::parse(query, PARAMETERS)?;
    let filter = filter(&query)?.within(&caller.principal);
    let signals = query.flag("signals", true)?;
    let mut start = start(headers, &query)?;
    if start == Start::Now
        && let Some(id) = query.get("stream_id").and_then(|id| id.parse().ok())
        && let Ok(before) = fleet.before(&caller.principal, id).await
    {
        // One run, from its beginning: whoever was given its id missed nothing.
        start = Start::After(before);
    }
    if let Some(name) = query.get("as") {
        let place = bus.begin_named(&caller.principal, name, start).await;
        start = Start::After(place.map_err(|error| Problem::of(error.code(), &error))?);
    }
    let subscription =
        bus.subscribe(filter, start, signals).map_err(|error| Problem::of(error.code(), &error))?;
    let stream = EventStream::new(subscription, start == Start::Now);
    let mut response = reply::streamed("text/event-stream", stream.into_stream(), caller.until);
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

fn filter(query: &Query<'_>) -> Result<Filter, Problem> {
    let invalid = |error: &dyn std::fmt::Display| Problem::invalid(error.to_string());
    let mut filter = Filter::default();
    for types in query.all("types") {
        filter = filter.with_types(types).map_err(|error| invalid(&error))?;
    }
    for subject in query.all("subject") {
        filter = filter.with_subject(subject).map_err(|error| invalid(&error))?;
    }
    for id in query.all("task").chain(query.all("stream_id")) {
        filter = filter.with_subject(format!("task/{id}")).map_err(|error| invalid(&error))?;
    }
    for project in query.all("project") {
        filter.projects.push(Project::parse(project).map_err(|error| invalid(&error))?);
    }
    if let Some(name) = query.get("severity") {
        let severity = Severity::parse(name).ok_or_else(|| {
            Problem::invalid("severity has to be debug, info, notice, warning or error")
        })?;
        filter.severity = Some(severity);
    }
    Ok(filter)
}

/// `Last-Event-ID` is what a reconnecting reader has seen, so it wins over the
/// `since` of the address that it began with.
fn start(headers: &HeaderMap, query: &Query<'_>) -> Result<Start, Problem> {
    let seen = match headers.get("last-event-id") {
        Some(value) => {
            Some(value.to_str().map_err(|_| Problem::invalid("Last-Event-ID is not a cursor"))?)
        }
        None => None,
    };
    let since = seen.filter(|text| !text.is_empty()).or_else(|| query.get("since"));
    Start::parse(since).map_err(|error| Problem::invalid(error.to_string()))
}

/// `POST /events`: CloudEvents HTTP protocol binding 1.0.2, section 3.2 and 3.3.
/// Answers when the events are durable.
///
/// # Errors
/// 415 for another content mode, 400 for what is not an event of the caller's
/// to publish, 507 if the disk is full.
pub async fn publish(
    bus: &Bus,
    principal: &Principal,
    headers: &HeaderMap,
    bytes: &[u8],
) -> Result<Response, Problem> {
    let media_type = body::media_type(headers);
    let batch = match media_type.as_str() {
        "application/cloudevents+json" => false,
        "application/cloudevents-batch+json" => true,
        _ => return Err(unsupported_mode(headers)),
    };
    body::check_depth(bytes)?;
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| Problem::invalid(format!("the body is not JSON: {error}")))?;
    let events = if batch {
        decode_batch(value, principal)
    } else {
        decode_event(value, principal).map(|event| vec![event])
    };
    let refused = |error: crate::model::EventError| {
        let error = StoreError::from(error);
        Problem::of(error.code(), &error)
    };
    let events = events.map_err(refused)?;
    let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
    let source = bus.store().source();
    let encoded: Result<Vec<_>, _> =
        events.into_iter().map(|event| encode_event(event, source)).collect();
    let published = bus
        .store()
        .publish(encoded.map_err(refused)?)
        .await
        .map_err(|error| Problem::of(error.code(), &error))?;
    let results: Vec<Value> = ids
        .into_iter()
        .zip(published)
        .map(|(id, done)| json!({ "id": id, "cursor": done.cursor, "duplicate": done.duplicate }))
        .collect();
    Ok(reply::json(StatusCode::OK, &json!({ "results": results })))
}

fn unsupported_mode(headers: &HeaderMap) -> Problem {
    if headers.keys().any(|name| name.as_str().starts_with("ce-")) {
        return body::unsupported(
            "binary mode is not taken; send the whole event as application/cloudevents+json",
        );
    }
    body::unsupported(
        "the content type has to be application/cloudevents+json or application/cloudevents-batch+json",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorCode;
    use http::HeaderValue;

    fn started(header: Option<&str>, query: &str) -> Result<Start, ErrorCode> {
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert("last-event-id", HeaderValue::from_str(value).unwrap());
        }
        start(&headers, &Query::parse(query, PARAMETERS).unwrap()).map_err(|problem| problem.code)
    }

    #[test]
    fn what_the_reader_saw_wins_over_where_it_began() {
        let seen = Start::After("0000000a:7".parse().unwrap());
        assert_eq!(started(None, ""), Ok(Start::Now));
        assert_eq!(started(None, "since=0"), Ok(Start::Oldest));
        assert_eq!(started(None, "since=0000000a:7"), Ok(seen));
        assert_eq!(started(Some("0000000a:7"), "since=0"), Ok(seen));
        assert_eq!(started(Some(""), "since=0"), Ok(Start::Oldest));
        assert_eq!(started(None, "since=yesterday"), Err(ErrorCode::InvalidArgument));
    }

    #[test]
    fn a_task_narrows_to_its_subject() {
        let filter = filter(&Query::parse("task=abc&types=task.*", PARAMETERS).unwrap()).unwrap();
        assert_eq!(filter.subjects, ["task/abc"]);
        assert!(filter.admits("task.started", "task/abc", "default", Severity::Info));
        assert!(!filter.admits("task.started", "task/abd", "default", Severity::Info));
    }

    #[test]
    fn binary_mode_is_told_what_to_do_instead() {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("ce-specversion"),
            HeaderValue::from_static("1.0"),
        )]);
        let problem = unsupported_mode(&headers);
        assert_eq!(problem.status, 415);
        assert!(problem.message.contains("binary mode"));
    }
}
