//! What the HTTP headers of a request say about it.

mod params;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use http::{HeaderName, StatusCode};

use super::refusal::{Refusal, code};
use crate::model::Filter;

pub use params::check_params;

pub const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
pub const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");
pub const NAME: HeaderName = HeaderName::from_static("mcp-name");
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Narrows what a session's stream is pushed: `task.*,custom.>`, as in `GET /events`.
pub const TYPES: HeaderName = HeaderName::from_static("fleetd-types");

/// The filter that a stream's own request states.
///
/// # Errors
/// 400 for what is not a list of patterns.
pub fn filter(headers: &HeaderMap) -> Result<Filter, Refusal> {
    let types = one(headers, &TYPES)?.unwrap_or_default();
    let filter = Filter::default().with_types(types);
    filter.map_err(|error| Refusal::invalid_request(format!("header {TYPES}: {error}")))
}

/// Marks a request that came over a pipe: its headers were made from its message
/// here, so they say nothing that the message does not.
#[derive(Clone, Copy, Debug)]
pub struct Piped;

/// What the client takes as an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    pub json: bool,
    pub stream: bool,
}

impl Accept {
    /// Reads `Accept`. The protocol wants both types listed; a client that says
    /// less is taken at its word, and none at all, or `*/*`, means either.
    ///
    /// # Errors
    /// 406 if it takes neither.
    pub fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut values = headers.get_all(ACCEPT).iter().peekable();
        if values.peek().is_none() {
            return Ok(Self { json: true, stream: true });
        }
        let mut accept = Self { json: false, stream: false };
        for range in values.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(',')) {
            match range.split(';').next().unwrap_or_default().trim() {
                "*/*" => accept = Self { json: true, stream: true },
                "application/json" | "application/*" => accept.json = true,
                "text/event-stream" | "text/*" => accept.stream = true,
                _ => {}
            }
        }
        if accept.json || accept.stream {
            return Ok(accept);
        }
        Err(Refusal::new(
            StatusCode::NOT_ACCEPTABLE,
            code::INVALID_REQUEST,
            "accept application/json, text/event-stream or both",
        ))
    }
}

/// # Errors
/// 415 unless the body is declared as JSON: what a web page can send without
/// asking first is never taken.
pub fn require_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = declared.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        code::INVALID_REQUEST,
        "content-type has to be application/json",
    ))
}

/// A header that may stand once.
///
/// # Errors
/// 400 and -32020 if it stands twice or is not plain text.
pub fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::mismatch(format!("header {name} stands twice")));
    }
    let text = value.to_str().ok();
    text.map(Some).ok_or_else(|| Refusal::mismatch(format!("header {name} is not plain text")))
}

/// A value as it was before it became a header (2026-07-28, transports): what is
/// not plain ASCII comes as `=?base64?…?=`.
pub fn decode(value: &str) -> Option<String> {
    match value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(encoded) => String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok(),
        None => Some(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn accept(value: &'static str) -> Result<Accept, Refusal> {
        Accept::of(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))]))
    }

    #[test]
    fn accept_is_read_leniently() {
        let both = Accept { json: true, stream: true };
        assert_eq!(Accept::of(&HeaderMap::new()), Ok(both));
        assert_eq!(accept("application/json, text/event-stream"), Ok(both));
        assert_eq!(accept("*/*"), Ok(both));
        assert_eq!(accept("application/json;q=1"), Ok(Accept { json: true, stream: false }));
        assert_eq!(accept("text/event-stream"), Ok(Accept { json: false, stream: true }));
        assert_eq!(accept("text/html").unwrap_err().status, StatusCode::NOT_ACCEPTABLE);
    }

    #[test]
    fn encoded_names_are_decoded() {
        assert_eq!(decode("plain").as_deref(), Some("plain"));
        assert_eq!(decode("=?base64?w6k=?=").as_deref(), Some("é"));
        assert_eq!(decode("=?base64?Zm9vYmFy?=").as_deref(), Some("foobar"));
        assert_eq!(decode("=?base64?Zm9vYg==?=").as_deref(), Some("foob"));
        assert_eq!(decode("=?base64??=").as_deref(), Some(""));
        for bad in ["=?base64?w6k?=", "=?base64?w*k=?=", "=?base64?====?=", "=?base64?/w==?="] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
