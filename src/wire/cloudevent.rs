//! CloudEvents 1.0 in JSON: encoding of ours, decoding of published ones
//! (CloudEvents specification 1.0.2, sections 2 to 3; JSON event format 1.0.2,
//! sections 2 to 4).

use serde_json::{Map, Value};

use crate::model::{
    EventError, MAX_EVENT_BYTES, NewEvent, Principal, Project, Severity, Signal, Timestamp, Topic,
};

/// An event encoded up to its position. The writer thread learns the position
/// inside its transaction and only has to append it.
#[derive(Clone, Debug)]
pub struct EncodedEvent {
    pub id: String,
    pub topic: Topic,
    pub subject: String,
    pub project: Project,
    pub severity: Severity,
    pub time: Timestamp,
    /// The verified principal that sent it; empty for fleetd's own.
    pub publisher: String,
    /// A JSON object without its end: `{"specversion":…,"data":{…}`
    head: Vec<u8>,
}

/// Room for `,"sequence":"9223372036854775807"}`.
const SEQUENCE_ROOM: usize = 40;

/// Attributes that only the daemon sets; what a publisher says there is not kept.
const OURS: &[&str] = &[
    "specversion",
    "id",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "data",
    "source",
    "sequence",
    "project",
    "severity",
    "publisher",
];

impl EncodedEvent {
    /// The whole JSON object, with its position.
    pub fn body(&self, seq: u64) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.head.len() + SEQUENCE_ROOM);
        body.extend_from_slice(&self.head);
        body.extend_from_slice(b",\"sequence\":\"");
        body.extend_from_slice(seq.to_string().as_bytes());
        body.extend_from_slice(b"\"}");
        body
    }
}

/// Encodes `event` with `source` (`fleetd/<instance>`), once for all its readers.
///
/// # Errors
/// [`EventError::TooLarge`] if it has more than [`MAX_EVENT_BYTES`].
pub fn encode_event(event: NewEvent, source: &str) -> Result<EncodedEvent, EventError> {
    let mut head =
        Envelope::begin(&event.topic, &event.subject, &event.project, event.severity, source);
    head.text("id", &event.id);
    head.text("time", &event.time.to_string());
    if let Some(publisher) = &event.publisher {
        head.text("publisher", publisher);
    }
    for (name, value) in event.extensions.iter().filter(|(name, _)| !OURS.contains(&name.as_str()))
    {
        head.value(name, value);
    }
    head.value("data", &event.data);
    let head = head.0;
    if head.len() + SEQUENCE_ROOM > MAX_EVENT_BYTES {
        return Err(EventError::TooLarge { bytes: head.len() + SEQUENCE_ROOM });
    }
    Ok(EncodedEvent {
        id: event.id,
        topic: event.topic,
        subject: event.subject,
        project: event.project,
        severity: event.severity,
        time: event.time,
        publisher: event.publisher.unwrap_or_default(),
        head,
    })
}

/// Encodes a signal: the same envelope, without `id`, `time` and `sequence`.
pub fn encode_signal(signal: &Signal, source: &str) -> Vec<u8> {
    let mut object =
        Envelope::begin(&signal.topic, &signal.subject, &signal.project, signal.severity, source);
    object.value("data", &signal.data);
    object.0.push(b'}');
    object.0
}

/// An object in the making, its end still open. Written piece by piece: a map
/// of values would cost some twenty allocations for each event.
struct Envelope(Vec<u8>);

/// Bytes that a small event needs, so that it is written without growing.
const SMALL_EVENT: usize = 768;

impl Envelope {
    fn begin(
        topic: &Topic,
        subject: &str,
        project: &Project,
        severity: Severity,
        source: &str,
    ) -> Self {
        let mut envelope = Self(Vec::with_capacity(SMALL_EVENT));
        envelope.0.extend_from_slice(
            b"{\"specversion\":\"1.0\",\"datacontenttype\":\"application/json\"",
        );
        envelope.text("type", topic.as_str());
        envelope.text("subject", subject);
        envelope.text("project", project.as_str());
        envelope.text("severity", severity.as_str());
        envelope.text("source", source);
        envelope
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        // Writing a string or a `Value` into memory cannot fail.
        let _ = serde_json::to_writer(&mut self.0, value);
    }

    fn value(&mut self, name: &str, value: &Value) {
        self.name(name);
        let _ = serde_json::to_writer(&mut self.0, value);
    }

    /// Attribute names are lower-case letters, digits and `_`: nothing to escape.
    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}

/// Reads one published event in structured mode.
///
/// # Errors
/// Names the attribute that is missing, malformed or not the publisher's to set.
pub fn decode_event(value: Value, principal: &Principal) -> Result<NewEvent, EventError> {
    let Value::Object(mut object) = value else {
        return Err(attribute("(event)", "has to be a JSON object"));
    };
    if object.get("specversion").and_then(Value::as_str) != Some("1.0") {
        return Err(attribute("specversion", "has to be \"1.0\""));
    }
    let topic = Topic::custom(&text(&mut object, "type", 128)?.ok_or_else(|| missing("type"))?)?;
    let id = match text(&mut object, "id", 256)? {
        Some(id) if !id.is_empty() => id,
        Some(_) => return Err(attribute("id", "is empty")),
        None => return Err(missing("id")),
    };
    let claimed_source = text(&mut object, "source", 512)?.ok_or_else(|| missing("source"))?;
    let event = NewEvent {
        id,
        topic,
        subject: text(&mut object, "subject", 512)?.unwrap_or_default(),
        project: published_project(&mut object, principal)?,
        severity: published_severity(&mut object)?,
        time: published_time(&mut object)?,
        data: published_data(&mut object)?,
        publisher: Some(principal.id.to_string()),
        extensions: extensions(object, claimed_source)?,
    };
    Ok(event)
}

/// Reads a batch: a JSON array of events, all or none.
///
/// # Errors
/// Names the first event that cannot be taken by its index, from 0.
pub fn decode_batch(value: Value, principal: &Principal) -> Result<Vec<NewEvent>, EventError> {
    let Value::Array(values) = value else {
        return Err(attribute("(batch)", "has to be a JSON array"));
    };
    let decode = |(index, value)| {
        decode_event(value, principal).map_err(|error| match error {
            EventError::Attribute { attribute, problem } => {
                EventError::Attribute { attribute: format!("[{index}].{attribute}"), problem }
            }
            other => other,
        })
    };
    values.into_iter().enumerate().map(decode).collect()
}

fn published_project(
    object: &mut Map<String, Value>,
    principal: &Principal,
) -> Result<Project, EventError> {
    let Some(name) = text(object, "project", 64)? else {
        return Ok(principal.home_project());
    };
    let project =
        Project::parse(&name).map_err(|error| attribute("project", &error.to_string()))?;
    if principal.sees(&project) {
        Ok(project)
    } else {
        Err(attribute("project", "is not one that this token may publish to"))
    }
}

fn published_severity(object: &mut Map<String, Value>) -> Result<Severity, EventError> {
    let Some(name) = text(object, "severity", 16)? else {
        return Ok(Severity::Info);
    };
    Severity::parse(&name)
        .ok_or_else(|| attribute("severity", "has to be debug, info, notice, warning or error"))
}

fn published_time(object: &mut Map<String, Value>) -> Result<Timestamp, EventError> {
    let Some(time) = text(object, "time", 64)? else {
        return Ok(Timestamp::now());
    };
    Timestamp::parse(&time).ok_or_else(|| attribute("time", "has to be an RFC 3339 time"))
}

fn published_data(object: &mut Map<String, Value>) -> Result<Value, EventError> {
    if object.contains_key("data_base64") {
        return Err(attribute("data_base64", "is not taken; send JSON in data"));
    }
    match text(object, "datacontenttype", 128)?.as_deref() {
        None | Some("application/json") => {}
        Some(_) => return Err(attribute("datacontenttype", "has to be application/json")),
    }
    Ok(object.remove("data").unwrap_or(Value::Null))
}

/// Extension attributes: lower-case letters and digits with plain values
/// (CloudEvents 1.0.2, section 3.1). The sender's `source` is a claim: it is
/// kept under a name that says so.
fn extensions(
    object: Map<String, Value>,
    claimed_source: String,
) -> Result<Map<String, Value>, EventError> {
    let mut kept = Map::new();
    for (name, value) in object {
        if OURS.contains(&name.as_str()) {
            continue;
        }
        let well_named = (1..=20).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !well_named {
            return Err(attribute(&name, "is not an extension name; use at most 20 of a-z 0-9"));
        }
        if matches!(value, Value::Object(_) | Value::Array(_) | Value::Null) {
            return Err(attribute(
                &name,
                "has to be a string, a number or a boolean; put structure into data",
            ));
        }
        kept.insert(name, value);
    }
    kept.insert("claimedsource".into(), claimed_source.into());
    Ok(kept)
}

fn text(
    object: &mut Map<String, Value>,
    name: &str,
    most: usize,
) -> Result<Option<String>, EventError> {
    match object.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) if text.len() <= most => Ok(Some(text)),
        Some(Value::String(_)) => Err(attribute(name, &format!("is longer than {most} bytes"))),
        Some(_) => Err(attribute(name, "has to be a string")),
    }
}

fn attribute(name: &str, problem: &str) -> EventError {
    EventError::Attribute {
        attribute: name.chars().take(64).collect(),
        problem: problem.to_owned(),
    }
}

fn missing(name: &str) -> EventError {
    attribute(name, "is missing")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn published(extra: Value) -> Value {
        let mut event = json!({"specversion": "1.0", "id": "a", "type": "custom.x", "source": "s"});
        for (name, value) in extra.as_object().unwrap() {
            event[name] = value.clone();
        }
        event
    }

    #[test]
    fn an_event_comes_back_as_it_went() {
        let value = published(
            json!({"data": {"n": 1, "t": "a\r\nid: 9\n\n\u{2028}"}, "subject": "deploy/1"}),
        );
        let event = decode_event(value, &Principal::owner()).unwrap();
        let body = encode_event(event, "fleetd/i").unwrap().body(7);
        assert!(!body.contains(&b'\n') && !body.contains(&b'\r'));
        let back: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(back["data"]["t"], "a\r\nid: 9\n\n\u{2028}");
        assert_eq!(back["sequence"], "7");
        assert_eq!(back["source"], "fleetd/i");
        assert_eq!(back["publisher"], "owner");
        assert_eq!(back["claimedsource"], "s");
    }

    #[test]
    fn a_publisher_cannot_speak_for_the_daemon() {
        let value =
            published(json!({"publisher": "root", "sequence": "1", "claimedsource": "fleetd/i"}));
        let event = decode_event(value, &Principal::owner()).unwrap();
        let back: Value =
            serde_json::from_slice(&encode_event(event, "fleetd/i").unwrap().body(3)).unwrap();
        assert_eq!(back["publisher"], "owner");
        assert_eq!(back["sequence"], "3");
        assert_eq!(back["claimedsource"], "s");
    }

    #[test]
    fn bad_attributes_are_named() {
        for (extra, name) in [
            (json!({"specversion": "0.3"}), "specversion"),
            (json!({"id": ""}), "id"),
            (json!({"id": 7}), "id"),
            (json!({"time": "yesterday"}), "time"),
            (json!({"severity": "loud"}), "severity"),
            (json!({"project": "a/b"}), "project"),
            (json!({"datacontenttype": "text/xml"}), "datacontenttype"),
            (json!({"data_base64": "AA=="}), "data_base64"),
            (json!({"Big": 1}), "Big"),
            (json!({"nested": {}}), "nested"),
        ] {
            let error = decode_event(published(extra), &Principal::owner()).unwrap_err();
            assert!(error.to_string().contains(&format!("'{name}'")), "{error}");
        }
    }

    #[test]
    fn an_oversized_event_is_refused() {
        let value = published(json!({"data": "x".repeat(MAX_EVENT_BYTES)}));
        let event = decode_event(value, &Principal::owner()).unwrap();
        assert!(matches!(encode_event(event, "s"), Err(EventError::TooLarge { .. })));
    }
}
