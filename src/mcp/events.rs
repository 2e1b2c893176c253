//! The Events extension, `io.modelcontextprotocol/events` (SEP-3415, the draft of
//! 2026-10-05, for 2026-07-28 and later): the journal in the draft's own words.
//!
//! An event type is a topic of the table, or `custom` for what clients publish.
//! A cursor is the journal's own, opaque to the client, so a subscription lives in
//! the client and goes on after a restart, exactly behind what it was given.
//! `data` is the whole CloudEvent: what is published may be any JSON, `data` has to
//! be an object. Gaps are `truncated`, however they came about.
//!
//! Served are poll and push. Webhooks are not: the draft wants https and refuses
//! loopback receivers, and a daemon on a loopback has no others. As long as this is
//! a draft it is off unless `[mcp] events_extension` says otherwise, and then the
//! methods do not exist and nothing is announced.

use std::time::Duration;

use rmcp::ErrorData;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::page::{self, Page};
use super::refusal::{Refusal, code};
use super::tools::{self, Deps, Failure, Object};
use crate::bus::{Bus, BusError};
use crate::model::{Cursor, ErrorCode, Filter, Principal, TOPICS, Timestamp, TopicSpec};
use crate::store::Resume;

pub const EXTENSION: &str = "io.modelcontextprotocol/events";

pub const LIST: &str = "events/list";
pub const POLL: &str = "events/poll";
pub const STREAM: &str = "events/stream";

/// Methods of webhook delivery, which no event type offers.
const WEBHOOK: [&str; 2] = ["events/subscribe", "events/unsubscribe"];

/// Most events that one poll returns, and how many if the client does not say.
const MOST_EVENTS: u64 = 1000;
const USUAL_EVENTS: u64 = 100;

/// When a client should ask again; who wants to know sooner opens a stream.
const NEXT_POLL_MS: u64 = 5000;

/// The event type of everything under `custom.`.
const CUSTOM: &str = "custom";

/// A subscription as a request states it.
pub struct Asked {
    /// The event type, as `events/list` names it.
    pub name: String,
    pub filter: Filter,
    cursor: Option<Cursor>,
    max_age: Option<Duration>,
    max_events: usize,
}

/// Arguments of the daemon's own event types.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Narrowing {
    /// Only what is about this, such as task/ID.
    #[serde(default)]
    subject: Option<String>,
}

/// Arguments of `custom`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CustomNarrowing {
    /// Only what is about this.
    #[serde(default)]
    subject: Option<String>,
    /// Topic patterns under custom., such as custom.deploy_done or custom.ci.>; any of them.
    #[serde(default)]
    types: Vec<String>,
}

/// The result of `method`; `None` if the extension has no such method.
///
/// # Errors
/// The draft's own codes, for a request that cannot be served.
pub async fn serve(
    deps: &Deps,
    principal: &Principal,
    method: &str,
    params: &Value,
) -> Option<Result<Value, Refusal>> {
    match method {
        LIST => Some(Ok(list())),
        POLL => Some(poll(&deps.bus, principal, params).await),
        method if WEBHOOK.contains(&method) => {
            let data = json!({ "feature": "deliveryMode", "value": "webhook" });
            Some(Err(refuse(code::UNSUPPORTED, "webhook delivery is not offered", data)))
        }
        _ => None,
    }
}

/// A refusal as the engine says it.
pub fn to_error(refusal: Refusal) -> ErrorData {
    let code = i32::try_from(refusal.code).unwrap_or(rmcp::model::ErrorCode::INTERNAL_ERROR.0);
    ErrorData::new(rmcp::model::ErrorCode(code), refusal.message, refusal.data)
}

fn list() -> Value {
    let own = TOPICS.iter().filter(|spec| !spec.signal).map(|spec| {
        describe(spec.name, spec.meaning, tools::input_schema::<Narrowing>(), spec.data)
    });
    let custom = describe(
        CUSTOM,
        "somebody published an event under custom.",
        tools::input_schema::<CustomNarrowing>(),
        &[],
    );
    let events: Vec<_> = own.chain([custom]).collect();
    json!({ "resultType": "complete", "events": events })
}

fn describe(name: &str, meaning: &str, input: Object, fields: &[(&str, &str)]) -> Value {
    let text = |(name, about): &(&str, &str)| ((*name).to_owned(), json!({ "description": about }));
    let fields: Object = fields.iter().map(text).collect();
    let string = || json!({ "type": "string" });
    let data = if fields.is_empty() {
        json!({})
    } else {
        json!({ "type": "object", "properties": fields })
    };
    let payload = json!({
        "type": "object",
        "description": "A CloudEvent 1.0; its data is foreign text where it quotes commands or publishers.",
        "properties": {
            "specversion": string(), "id": string(), "source": string(), "type": string(),
            "subject": string(), "time": string(), "project": string(), "severity": string(),
            "sequence": string(), "data": data,
        },
        "required": ["specversion", "id", "source", "type", "subject", "time", "sequence"],
    });
    json!({
        "name": name,
        "description": meaning,
        "delivery": ["poll", "push"],
        "inputSchema": input,
        "payloadSchema": payload,
    })
}

/// `events/poll`: what followed the cursor, now. Without one only a place to begin.
async fn poll(bus: &Bus, principal: &Principal, params: &Value) -> Result<Value, Refusal> {
    let asked = Asked::read(principal, params)?;
    let (place, late) = asked.begin(bus).await?;
    let page = match asked.cursor {
        Some(_) => page::after(bus, place, &asked.filter, asked.max_events).await,
        None => Ok(Page::at(place)),
    };
    let page = page.map_err(|failure| failed(&failure))?;
    let events: Vec<_> = page.events.into_iter().map(|event| asked.occurrence(event)).collect();
    Ok(json!({
        "resultType": "complete",
        "events": events,
        "cursor": page.cursor,
        "truncated": late || page.gap.is_some(),
        "hasMore": page.more,
        "nextPollMs": NEXT_POLL_MS,
    }))
}

impl Asked {
    /// Reads what `events/poll` and `events/stream` have in common.
    ///
    /// # Errors
    /// -32602 naming the member that is wrong, -32023 for an event type that is not.
    pub fn read(principal: &Principal, params: &Value) -> Result<Self, Refusal> {
        let Some(name) = params.get("name").and_then(Value::as_str) else {
            return Err(Refusal::invalid_params("params.name has to be a string"));
        };
        let filter = filter(name, params.get("arguments"))?.within(principal);
        let cursor = match given(params, "cursor") {
            None => None,
            Some(Value::String(text)) => Some(text.parse().map_err(|_| bad_cursor())?),
            Some(_) => return Err(bad_cursor()),
        };
        let max_age = whole(params, "maxAgeMs")?.map(Duration::from_millis);
        let most = match whole(params, "maxEvents")? {
            Some(0) => {
                return Err(Refusal::invalid_params("params.maxEvents has to be at least 1"));
            }
            most => most.unwrap_or(USUAL_EVENTS).min(MOST_EVENTS),
        };
        Ok(Self { name: name.to_owned(), filter, cursor, max_age, max_events: most as usize })
    }

    /// Where the subscription begins now, and whether that is later than it asked.
    ///
    /// # Errors
    /// -32602 for a cursor from the future.
    pub async fn begin(&self, bus: &Bus) -> Result<(Cursor, bool), Refusal> {
        let head = bus.head();
        let Some(cursor) = self.cursor else { return Ok((head, false)) };
        let (mut place, mut late) = match bus.resume(cursor) {
            Resume::After(seq) => (Cursor { seq, ..head }, false),
            Resume::Gap { to, .. } => (to, true),
            Resume::Future => {
                let error = BusError::Future { cursor, head };
                return Err(Refusal::invalid_params(error.to_string()));
            }
        };
        if let Some(age) = self.max_age {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            let since = Timestamp::from_millis(Timestamp::now().millis().saturating_sub(age));
            let older = bus.store().read(move |snapshot| snapshot.last_before(since)).await;
            let older = older.map_err(|error| failed(&error.into()))?;
            if older > place.seq {
                (place.seq, late) = (older, true);
            }
        }
        Ok((place, late))
    }

    /// A CloudEvent as the draft wraps it, under the name that was asked for.
    pub fn occurrence(&self, event: Value) -> Value {
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        // Ids are their publisher's own, so only together with whose they are and
        // the project do they name one event.
        let id = match event.get("publisher").and_then(Value::as_str) {
            Some(publisher) => format!("{publisher}/{}/{}", text("project"), text("id")),
            None => text("id").to_owned(),
        };
        json!({ "eventId": id, "name": self.name, "timestamp": text("time"), "data": event })
    }
}

fn filter(name: &str, arguments: Option<&Value>) -> Result<Filter, Refusal> {
    let arguments = match arguments {
        None | Some(Value::Null) => Object::new(),
        Some(Value::Object(arguments)) => arguments.clone(),
        Some(_) => return Err(Refusal::invalid_params("params.arguments has to be an object")),
    };
    let wrong = |error: &dyn std::fmt::Display| Refusal::invalid_params(error.to_string());
    let (subject, types) = if name == CUSTOM {
        let asked: CustomNarrowing = tools::read_arguments(arguments).map_err(|e| wrong(&e))?;
        let foreign = asked.types.iter().find(|pattern| !pattern.starts_with("custom."));
        if let Some(foreign) = foreign {
            let foreign: String = foreign.chars().take(64).collect();
            let problem = format!("argument 'types': '{foreign}' is not under custom.");
            return Err(Refusal::invalid_params(problem));
        }
        let all = || vec!["custom.>".to_owned()];
        (asked.subject, if asked.types.is_empty() { all() } else { asked.types })
    } else {
        let spec = known(name)?;
        let asked: Narrowing = tools::read_arguments(arguments).map_err(|e| wrong(&e))?;
        (asked.subject, vec![spec.name.to_owned()])
    };
    let filter = Filter::default().with_types(&types.join(",")).map_err(|e| wrong(&e))?;
    match subject {
        Some(subject) => filter.with_subject(subject).map_err(|e| wrong(&e)),
        None => Ok(filter),
    }
}

fn known(name: &str) -> Result<&'static TopicSpec, Refusal> {
    let kinds = || TOPICS.iter().filter(|spec| !spec.signal);
    kinds().find(|spec| spec.name == name).ok_or_else(|| {
        let short: String = name.chars().take(64).collect();
        let names = kinds().map(|spec| spec.name).chain([CUSTOM]);
        let advice = match tools::nearest(name, names) {
            Some(near) => format!("did you mean '{near}'?"),
            None => "events/list shows what there is".to_owned(),
        };
        let problem = format!("there is no event type '{short}'; {advice}");
        refuse(code::NOT_FOUND, &problem, json!({ "kind": "event" }))
    })
}

/// A member that is there and not null, which means the same as absent.
fn given<'a>(params: &'a Value, name: &str) -> Option<&'a Value> {
    params.get(name).filter(|value| !value.is_null())
}

fn whole(params: &Value, name: &str) -> Result<Option<u64>, Refusal> {
    let Some(value) = given(params, name) else { return Ok(None) };
    let problem = || Refusal::invalid_params(format!("params.{name} has to be a whole number"));
    value.as_u64().map(Some).ok_or_else(problem)
}

fn bad_cursor() -> Refusal {
    Refusal::invalid_params("params.cursor has to be one that this server gave out, or null")
}

fn refuse(code: i64, message: &str, data: Value) -> Refusal {
    Refusal { data: Some(data), ..Refusal::new(http::StatusCode::BAD_REQUEST, code, message) }
}

/// Too many streams are open.
pub fn exhausted(refusal: Refusal, most: u32) -> Refusal {
    let data = json!({ "limit": "streams", "max": most });
    Refusal { code: code::RESOURCE_EXHAUSTED, data: Some(data), ..refusal }
}

/// Why it could not be read, as a JSON-RPC error.
pub fn failed(failure: &Failure) -> Refusal {
    let (status, code) = match failure.code() {
        ErrorCode::InvalidArgument | ErrorCode::CursorInFuture => {
            (http::StatusCode::BAD_REQUEST, code::INVALID_PARAMS)
        }
        _ => (http::StatusCode::SERVICE_UNAVAILABLE, code::INTERNAL),
    };
    Refusal::new(status, code, failure.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(params: Value) -> (i64, String) {
        let refusal = Asked::read(&Principal::owner(), &params).err();
        let refusal = refusal.unwrap_or_else(|| panic!("{params} was taken"));
        (refusal.code, refusal.message)
    }

    #[test]
    fn what_cannot_be_subscribed_to_is_refused_by_name() {
        let (code, said) = refused(json!({ "name": "task.complete" }));
        assert_eq!(code, -32023);
        assert!(said.contains("did you mean 'task.completed'?"), "{said}");
        // A signal has no position, so it is no event type.
        assert_eq!(refused(json!({ "name": "task.output" })).0, -32023);
        for (params, word) in [
            (json!({}), "params.name"),
            (json!({ "name": "custom", "arguments": [] }), "params.arguments"),
            (json!({ "name": "custom", "arguments": { "subjct": "x" } }), "'subject'"),
            (json!({ "name": "custom", "arguments": { "types": ["task.*"] } }), "custom."),
            (json!({ "name": "task.failed", "arguments": { "types": [] } }), "'types'"),
            (json!({ "name": "custom", "cursor": "x" }), "params.cursor"),
            (json!({ "name": "custom", "cursor": 7 }), "params.cursor"),
            (json!({ "name": "custom", "maxAgeMs": -1 }), "params.maxAgeMs"),
            (json!({ "name": "custom", "maxEvents": 0 }), "params.maxEvents"),
        ] {
            let (code, said) = refused(params.clone());
            assert_eq!(code, -32602, "{params}");
            assert!(said.contains(word), "{params}: {said}");
        }
    }

    #[test]
    fn more_events_than_one_answer_holds_are_fewer() {
        let asked = json!({ "name": "custom", "maxEvents": 1_000_000, "cursor": null });
        let asked = Asked::read(&Principal::owner(), &asked).unwrap();
        assert_eq!((asked.max_events, asked.cursor), (1000, None));
        assert_eq!(asked.filter.types[0].as_str(), "custom.>");
    }

    #[test]
    fn an_event_is_named_by_its_id_and_whose_it_is() {
        let asked = Asked::read(&Principal::owner(), &json!({ "name": "custom" })).unwrap();
        let event = json!({ "id": "7", "project": "web", "time": "t", "publisher": "token/ci" });
        assert_eq!(asked.occurrence(event)["eventId"], "token/ci/web/7");
        assert_eq!(asked.occurrence(json!({ "id": "7" }))["eventId"], "7");
    }
}
