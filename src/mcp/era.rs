//! Which era a posted message belongs to, and whether it says so consistently.
//!
//! The body decides and the headers are a cross-check. A modern message bears
//! its claim in `_meta`; `initialize` begins a session; all else belongs to one.

use http::HeaderMap;
use serde_json::Value;

use super::headers;
use super::message::{Kind, META_CAPABILITIES, META_VERSION, Message};
use super::refusal::Refusal;
use super::revision::Revision;

/// How a message is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// By itself.
    Modern(Revision),
    /// It begins a session.
    Handshake,
    /// Inside a session.
    Session,
    /// A notification of the modern era, which knows none from client to server
    /// over HTTP: taken and dropped.
    Dropped,
}

/// Methods that the modern era removed, or that never were its own.
const REMOVED: &[&str] = &[
    "initialize",
    "ping",
    "logging/setLevel",
    "resources/subscribe",
    "resources/unsubscribe",
    "tasks/list",
    "tasks/result",
];

/// Classifies a message.
///
/// # Errors
/// 400 with -32020 if header and claim differ, -32022 if the revision is not
/// spoken here, -32602 if a modern request lacks its claim; 404 with -32601 for
/// a method that the claimed revision does not have.
pub fn classify(message: &Message, headers: &HeaderMap) -> Result<Era, Refusal> {
    let id = message.id();
    ladder(message, headers).map_err(|refusal| refusal.with_id(id))
}

/// Classifies a message that came without headers (HTTP+SSE, stdio).
///
/// # Errors
/// As [`classify`], but for what headers say.
pub fn classify_alone(message: &Message) -> Result<Era, Refusal> {
    if message.kind == Kind::Response {
        return Ok(Era::Session);
    }
    let Some(claim) = message.claim() else {
        let begins = message.method() == "initialize" && message.kind == Kind::Request;
        return Ok(if begins { Era::Handshake } else { Era::Session });
    };
    let revision = claimed(message, claim)?;
    match message.kind {
        // In this era too, a notification may cancel what goes on here.
        Kind::Notification => Ok(Era::Session),
        _ if revision.is_modern() && REMOVED.contains(&message.method()) => {
            Err(Refusal::unknown_method(message.method()))
        }
        _ => Ok(Era::Modern(revision)),
    }
}

fn ladder(message: &Message, headers: &HeaderMap) -> Result<Era, Refusal> {
    let header = headers::one(headers, &headers::VERSION)?;
    if message.kind == Kind::Response {
        return Ok(Era::Session);
    }
    if let Some(claim) = message.claim() {
        return with_headers(message, claim, header, headers);
    }
    if message.method() == "initialize" && message.kind == Kind::Request {
        return Ok(Era::Handshake);
    }
    let Some(header) = header else { return Ok(Era::Session) };
    match Revision::parse(header) {
        Some(revision) if !revision.is_modern() => Ok(Era::Session),
        Some(_) if message.kind == Kind::Notification => Ok(Era::Dropped),
        Some(_) => Err(Refusal::invalid_params(format!(
            "params._meta lacks '{META_VERSION}' and '{META_CAPABILITIES}'"
        ))),
        None => Err(Refusal::unsupported_version(header)),
    }
}

fn with_headers(
    message: &Message,
    claim: &Value,
    header: Option<&str>,
    headers: &HeaderMap,
) -> Result<Era, Refusal> {
    match (header, claim.as_str()) {
        (Some(header), Some(claim)) if header == claim => {}
        (Some(_), Some(_)) => return Err(differs("mcp-protocol-version", META_VERSION)),
        (None, Some(_)) => {
            return Err(Refusal::mismatch("header mcp-protocol-version is missing"));
        }
        (_, None) => {}
    }
    let revision = claimed(message, claim)?;
    if message.kind == Kind::Notification {
        return Ok(Era::Dropped);
    }
    if revision.is_modern() {
        check_headers(message, headers)?;
        if REMOVED.contains(&message.method()) {
            return Err(Refusal::unknown_method(message.method()));
        }
    }
    Ok(Era::Modern(revision))
}

/// The revision that a message claims, which a request does in full or not at all.
fn claimed(message: &Message, claim: &Value) -> Result<Revision, Refusal> {
    let Some(claim) = claim.as_str() else {
        return Err(Refusal::invalid_params(format!("'{META_VERSION}' has to be a string")));
    };
    let revision = Revision::parse(claim).ok_or_else(|| Refusal::unsupported_version(claim))?;
    let declared = message.meta(META_CAPABILITIES).is_some_and(Value::is_object);
    if message.kind == Kind::Request && !declared {
        let problem = format!("params._meta lacks '{META_CAPABILITIES}', an object");
        return Err(Refusal::invalid_params(problem));
    }
    Ok(revision)
}

/// The body again, in headers, for what stands between (2026-07-28, transports).
fn check_headers(message: &Message, headers: &HeaderMap) -> Result<(), Refusal> {
    match headers::one(headers, &headers::METHOD)? {
        Some(method) if method == message.method() => {}
        Some(_) => return Err(differs("mcp-method", "method")),
        None => return Err(Refusal::mismatch("header mcp-method is missing")),
    }
    let member = match message.method() {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
        _ => return Ok(()),
    };
    // Without the member the request is invalid for a better reason than this.
    let Some(named) = message.param(member).and_then(Value::as_str) else { return Ok(()) };
    match headers::one(headers, &headers::NAME)? {
        Some(name) if headers::decode(name).as_deref() == Some(named) => Ok(()),
        Some(_) => Err(differs("mcp-name", &format!("params.{member}"))),
        None => Err(Refusal::mismatch("header mcp-name is missing")),
    }
}

fn differs(header: &str, member: &str) -> Refusal {
    Refusal::mismatch(format!("header {header} and {member} say different things"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::refusal::code;
    use http::{HeaderName, HeaderValue, StatusCode};
    use serde_json::json;

    const MODERN: &str = "2026-07-28";

    fn with(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        pairs.iter().map(|(name, text)| (name.clone(), value(text))).collect()
    }

    fn call(method: &str, meta: Value, extra: Value) -> Message {
        let mut params = json!({ "_meta": meta });
        for (name, value) in extra.as_object().unwrap() {
            params[name] = value.clone();
        }
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        Message::of(message).unwrap()
    }

    fn claim(version: &str) -> Value {
        json!({ META_VERSION: version, META_CAPABILITIES: {} })
    }

    fn refused(message: &Message, headers: &HeaderMap) -> (StatusCode, i64) {
        let refusal = classify(message, headers).unwrap_err();
        assert_eq!(refusal.id.as_ref(), message.id());
        (refusal.status, refusal.code)
    }

    #[test]
    fn the_claim_decides_and_the_header_has_to_agree() {
        let headers = with(&[(headers::VERSION, MODERN), (headers::METHOD, "tools/list")]);
        let list = call("tools/list", claim(MODERN), json!({}));
        assert_eq!(classify(&list, &headers), Ok(Era::Modern(Revision::V2026_07_28)));
        let bad = StatusCode::BAD_REQUEST;
        assert_eq!(refused(&list, &HeaderMap::new()), (bad, code::HEADER_MISMATCH));
        let older = with(&[(headers::VERSION, "2025-11-25")]);
        assert_eq!(refused(&list, &older), (bad, code::HEADER_MISMATCH));
        let future = with(&[(headers::VERSION, "2099-01-01")]);
        let listed = call("tools/list", claim("2099-01-01"), json!({}));
        assert_eq!(refused(&listed, &future), (bad, code::UNSUPPORTED_VERSION));
        let bare = call("tools/list", json!({}), json!({}));
        assert_eq!(refused(&bare, &headers), (bad, code::INVALID_PARAMS));
        let half = call("tools/list", json!({ META_VERSION: MODERN }), json!({}));
        assert_eq!(refused(&half, &headers), (bad, code::INVALID_PARAMS));
    }

    #[test]
    fn method_and_name_stand_in_the_headers_too() {
        let named = call("tools/call", claim(MODERN), json!({"name": "é"}));
        let headers = |method, name| {
            with(&[(headers::VERSION, MODERN), (headers::METHOD, method), (headers::NAME, name)])
        };
        assert!(classify(&named, &headers("tools/call", "=?base64?w6k=?=")).is_ok());
        for wrong in [headers("tools/call", "e"), headers("tools/list", "=?base64?w6k=?=")] {
            assert_eq!(refused(&named, &wrong).1, code::HEADER_MISMATCH);
        }
    }

    #[test]
    fn removed_methods_are_not_found() {
        for method in REMOVED {
            let headers = with(&[(headers::VERSION, MODERN), (headers::METHOD, method)]);
            let message = call(method, claim(MODERN), json!({}));
            let expected = (StatusCode::NOT_FOUND, code::METHOD_NOT_FOUND);
            assert_eq!(refused(&message, &headers), expected, "{method}");
        }
    }

    #[test]
    fn what_bears_no_claim_belongs_to_a_session() {
        let ping = call("ping", json!({}), json!({}));
        assert_eq!(classify(&ping, &HeaderMap::new()), Ok(Era::Session));
        let older = with(&[(headers::VERSION, "2025-06-18")]);
        assert_eq!(classify(&ping, &older), Ok(Era::Session));
        let hello = call("initialize", json!({}), json!({}));
        assert_eq!(classify(&hello, &HeaderMap::new()), Ok(Era::Handshake));
        let unknown = with(&[(headers::VERSION, "1999-01-01")]);
        assert_eq!(refused(&ping, &unknown).1, code::UNSUPPORTED_VERSION);
    }
}
