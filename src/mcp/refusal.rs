//! Refusals: always JSON-RPC, never bare text, so that a client of either era
//! can tell a server that knows its dialect from one that does not.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::McpBody;
use super::revision::Revision;

/// JSON-RPC 2.0, section 5.1, and the protocol's own (2026-07-28, basic).
pub mod code {
    pub const PARSE_ERROR: i64 = -32700;
    pub const INVALID_REQUEST: i64 = -32600;
    pub const METHOD_NOT_FOUND: i64 = -32601;
    pub const INVALID_PARAMS: i64 = -32602;
    pub const INTERNAL: i64 = -32603;
    /// Before 2026-07-28; from then on it is [`INVALID_PARAMS`].
    pub const RESOURCE_NOT_FOUND: i64 = -32002;
    pub const HEADER_MISMATCH: i64 = -32020;
    pub const MISSING_CAPABILITY: i64 = -32021;
    pub const UNSUPPORTED_VERSION: i64 = -32022;
    // Provisional: the Events extension's (SEP-3415, draft).
    pub const NOT_FOUND: i64 = -32023;
    pub const RESOURCE_EXHAUSTED: i64 = -32025;
    pub const UNSUPPORTED: i64 = -32026;
}

/// Why a request was not taken.
#[derive(Debug, PartialEq)]
pub struct Refusal {
    pub status: StatusCode,
    pub code: i64,
    pub message: String,
    pub data: Option<Value>,
    /// Of the refused request, once it could be read. Absent otherwise: the
    /// schema knows no null id.
    pub id: Option<Value>,
}

impl Refusal {
    pub fn new(status: StatusCode, code: i64, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), data: None, id: None }
    }

    /// 400 and -32600.
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code::INVALID_REQUEST, message)
    }

    /// 400 and -32602.
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code::INVALID_PARAMS, message)
    }

    /// 400 and -32020: a header and the body say different things.
    pub fn mismatch(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code::HEADER_MISMATCH, message)
    }

    /// 404 and -32601.
    pub fn unknown_method(method: &str) -> Self {
        let method: String = method.chars().take(64).collect();
        let message = format!("method '{method}' is not served in this revision");
        Self::new(StatusCode::NOT_FOUND, code::METHOD_NOT_FOUND, message)
    }

    /// 400 and -32022, with what is spoken here.
    pub fn unsupported_version(requested: &str) -> Self {
        let requested: String = requested.chars().take(64).collect();
        let message = format!("protocol version '{requested}' is not spoken here");
        let supported = Revision::ALL.map(Revision::as_str);
        let data = json!({ "supported": supported, "requested": requested });
        Self {
            data: Some(data),
            ..Self::new(StatusCode::BAD_REQUEST, code::UNSUPPORTED_VERSION, message)
        }
    }

    pub fn with_id(mut self, id: Option<&Value>) -> Self {
        self.id = id.cloned();
        self
    }

    /// The JSON-RPC error.
    pub fn body(&self) -> Vec<u8> {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        let mut message = json!({ "jsonrpc": "2.0", "error": error });
        if let Some(id) = &self.id {
            message["id"] = id.clone();
        }
        message.to_string().into_bytes()
    }

    pub fn into_response(self) -> Response<McpBody> {
        let mut response = json_response(self.status, self.body().into());
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            let allow = header::HeaderValue::from_static("GET, POST, DELETE");
            response.headers_mut().insert(header::ALLOW, allow);
        }
        response
    }
}

/// A whole answer in JSON.
pub fn json_response(status: StatusCode, body: Bytes) -> Response<McpBody> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// An answer without a body.
pub fn empty_response(status: StatusCode) -> Response<McpBody> {
    let mut response = Response::new(McpBody::default());
    *response.status_mut() = status;
    response
}
