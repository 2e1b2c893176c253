//! Reading what a client posted: strict JSON, then the envelope.
//!
//! Keys are exact and may stand only once: a parser that takes the last of two
//! `method` keys, or `"Method"` for `"method"`, lets a message mean one thing to
//! a checker and another to the server behind it.

use std::fmt;

use http::StatusCode;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::refusal::{Refusal, code};

/// The claim of the stateless era (2026-07-28, basic, `_meta`).
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Notification,
    Response,
}

/// One JSON-RPC message whose envelope is sound.
#[derive(Clone, Debug)]
pub struct Message {
    pub kind: Kind,
    pub value: Value,
}

/// Reads a body.
///
/// # Errors
/// 400 and -32700 if it is not JSON, -32600 if a key stands twice.
pub fn parse(body: &[u8]) -> Result<Value, Refusal> {
    match serde_json::from_slice::<Strict>(body) {
        Ok(Strict(value)) => Ok(value),
        Err(error) if error.is_data() => Err(Refusal::invalid_request(error.to_string())),
        Err(error) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            code::PARSE_ERROR,
            format!("the body is not JSON: {error}"),
        )),
    }
}

/// The id of the request in a body that is refused for something else.
pub fn id_of(body: &[u8]) -> Option<Value> {
    Message::of(parse(body).ok()?).ok()?.id().cloned()
}

impl Message {
    /// Checks the envelope (JSON-RPC 2.0, sections 4 and 5).
    ///
    /// # Errors
    /// 400 and -32600, naming the member that is wrong.
    pub fn of(value: Value) -> Result<Self, Refusal> {
        let Value::Object(object) = &value else {
            return Err(Refusal::invalid_request("a message has to be a JSON object"));
        };
        let id = object.get("id");
        let readable = id.filter(|id| id.is_string() || id.is_i64() || id.is_u64());
        let refuse = |message: &str| Err(Refusal::invalid_request(message).with_id(readable));
        if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return refuse("jsonrpc has to be \"2.0\"");
        }
        if id.is_some() && readable.is_none() {
            return refuse("id has to be a string or an integer");
        }
        let answers = object.contains_key("result") || object.contains_key("error");
        let kind = match object.get("method") {
            Some(Value::String(_)) if answers => return refuse("a message is a call or an answer"),
            Some(Value::String(_)) if id.is_some() => Kind::Request,
            Some(Value::String(_)) => Kind::Notification,
            Some(_) => return refuse("method has to be a string"),
            None if answers => Kind::Response,
            None => return refuse("method is missing"),
        };
        if !matches!(object.get("params"), None | Some(Value::Object(_))) {
            return refuse("params has to be an object");
        }
        Ok(Self { kind, value })
    }

    pub fn id(&self) -> Option<&Value> {
        self.value.get("id")
    }

    /// Empty for a response.
    pub fn method(&self) -> &str {
        self.value.get("method").and_then(Value::as_str).unwrap_or_default()
    }

    /// A member of `params`.
    pub fn param(&self, name: &str) -> Option<&Value> {
        self.value.get("params")?.get(name)
    }

    pub fn meta(&self, key: &str) -> Option<&Value> {
        self.param("_meta")?.get(key)
    }

    /// The revision that the message claims for itself, whatever it is.
    pub fn claim(&self) -> Option<&Value> {
        self.meta(META_VERSION)
    }

    /// The client's name, as a handshake or the message itself gives it.
    pub fn client_name(&self) -> &str {
        let info = match self.method() {
            "initialize" => self.param("clientInfo"),
            _ => self.meta(META_CLIENT),
        };
        info.and_then(|info| info.get("name")).and_then(Value::as_str).unwrap_or_default()
    }
}

/// A value in which no key stands twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let Strict(value) = members.next_value()?;
            if object.contains_key(&key) {
                let key: String = key.chars().take(64).collect();
                return Err(A::Error::custom(format_args!("the key '{key}' stands twice")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_json_or_says_a_thing_twice_is_refused() {
        assert_eq!(parse(b"{").unwrap_err().code, code::PARSE_ERROR);
        assert_eq!(parse(b"").unwrap_err().code, code::PARSE_ERROR);
        let twice = parse(br#"{"method":"ping","method":"tools/call"}"#).unwrap_err();
        assert_eq!(twice.code, code::INVALID_REQUEST);
        assert!(twice.message.contains("'method' stands twice"), "{}", twice.message);
        assert!(parse(br#"{"params":{"a":1,"a":2}}"#).is_err());
        let deep = "[".repeat(1000);
        assert_eq!(parse(deep.as_bytes()).unwrap_err().code, code::PARSE_ERROR);
    }

    #[test]
    fn a_strict_value_is_the_same_value() {
        let text = r#"{"a":[1,-2,1.5,true,null,"é"],"b":{"c":18446744073709551615}}"#;
        let lax: Value = serde_json::from_str(text).unwrap();
        assert_eq!(parse(text.as_bytes()).unwrap(), lax);
    }

    #[test]
    fn envelopes_are_told_apart() {
        let kind = |value| Message::of(value).map(|message| message.kind);
        let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
        assert_eq!(kind(ping).unwrap(), Kind::Request);
        let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(kind(note).unwrap(), Kind::Notification);
        let answer = json!({"jsonrpc": "2.0", "id": "a", "result": {}});
        assert_eq!(kind(answer).unwrap(), Kind::Response);
    }

    #[test]
    fn unsound_envelopes_are_refused() {
        for bad in [
            json!({"jsonrpc": "2.0", "id": 1, "Method": "ping"}),
            json!({"jsonrpc": "2.0", "id": null, "method": "ping"}),
            json!({"jsonrpc": "2.0", "id": 1.5, "method": "ping"}),
            json!({"jsonrpc": "1.0", "id": 1, "method": "ping"}),
            json!({"id": 1, "method": "ping"}),
            json!({"jsonrpc": "2.0", "id": 1, "method": 7}),
            json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1]}),
            json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "result": {}}),
            json!("ping"),
        ] {
            let refusal = Message::of(bad.clone()).unwrap_err();
            assert_eq!(refusal.code, code::INVALID_REQUEST, "{bad}");
        }
    }
}
