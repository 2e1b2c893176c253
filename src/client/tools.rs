//! Calls of MCP tools (revision 2026-07-28: stateless, one POST per call).

use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Client, ClientError, link};
use crate::model::ErrorCode;
use crate::wire::SseParser;

/// The revision this client speaks.
const REVISION: &str = "2026-07-28";

/// Where every tool is offered: a person's command needs what it needs.
const ADDRESS: &str = "/mcp/x/all";

/// One call has one request on its own connection, so the id says nothing.
const REQUEST_ID: u64 = 1;

/// The most bytes of a tool's answer.
const MOST: usize = 64 * 1024 * 1024;

impl Client {
    /// Calls a tool and returns its structured result. Progress is passed over;
    /// the call takes as long as the tool does.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the tool's code and words;
    /// [`ClientError::Cut`] if it is not known whether the tool did its work.
    pub async fn call_tool<A, R>(&self, name: &str, arguments: &A) -> Result<R, ClientError>
    where
        A: Serialize,
        R: DeserializeOwned,
    {
        let body = json!({
            "jsonrpc": "2.0",
            "id": REQUEST_ID,
            "method": "tools/call",
            "params": {
                "name": name,
                "arguments": arguments,
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": REVISION,
                    "io.modelcontextprotocol/clientCapabilities": {},
                    "io.modelcontextprotocol/clientInfo": {
                        "name": "fleetctl",
                        "version": env!("CARGO_PKG_VERSION"),
                    },
                },
            },
        });
        let mut link = self.link().await?;
        let request = link
            .request(Method::POST, ADDRESS)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream")
            .header("MCP-Protocol-Version", REVISION)
            .header("Mcp-Method", "tools/call")
            .header("Mcp-Name", name);
        let answer = link.send_any(request, Bytes::from(body.to_string())).await?;
        let status = answer.status();
        let streamed = answer
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with("text/event-stream"));
        let message = if streamed {
            response_of_stream(answer.into_body()).await?
        } else {
            let body = link::whole_body(answer, MOST).await?;
            // A refusal before the protocol (401, 403, 503) has our own form.
            serde_json::from_slice(&body)
                .ok()
                .filter(|message: &Value| message.get("jsonrpc").is_some())
                .ok_or_else(|| link::refusal(status, &body))?
        };
        result_of(message)
    }
}

/// Reads the stream up to the response; what comes before it are notifications.
async fn response_of_stream(mut body: Incoming) -> Result<Value, ClientError> {
    let mut parser = SseParser::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(ClientError::Cut)?;
        let Some(bytes) = frame.data_ref() else { continue };
        parser.push(bytes);
        while let Some(frame) = parser.next_frame() {
            let Some(data) = frame.data.filter(|data| !data.is_empty()) else { continue };
            let message: Value = serde_json::from_str(&data).map_err(ClientError::protocol)?;
            if message.get("result").is_some() || message.get("error").is_some() {
                return Ok(message);
            }
        }
    }
    Err(ClientError::Ended)
}

/// Takes the typed result out of a JSON-RPC response.
fn result_of<R: DeserializeOwned>(mut message: Value) -> Result<R, ClientError> {
    if let Some(error) = message.get("error") {
        return Err(refused(error.get("data"), error.get("message").and_then(Value::as_str)));
    }
    let result = message["result"].take();
    if result.get("isError").and_then(Value::as_bool) == Some(true) {
        let text = result.pointer("/content/0/text").and_then(Value::as_str);
        return Err(refused(result.pointer("/_meta/fleetd~1error"), text));
    }
    serde_json::from_value(result["structuredContent"].clone()).map_err(ClientError::protocol)
}

/// An error of the code and message in `about`, else of `text` alone.
fn refused(about: Option<&Value>, text: Option<&str>) -> ClientError {
    let field = |name| about.and_then(|about| about.get(name));
    let code = field("code")
        .and_then(|code| serde_json::from_value(code.clone()).ok())
        .unwrap_or(ErrorCode::Internal);
    let message = field("message").and_then(Value::as_str).or(text);
    ClientError::Refused {
        code,
        message: message.unwrap_or("fleetd refused without saying why").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_error_keeps_its_code_and_words() {
        let tool = json!({"jsonrpc": "2.0", "id": 1, "result": {"isError": true,
            "content": [{"type": "text", "text": "no task 'x'"}],
            "_meta": {"fleetd/error": {"code": "not_found", "message": "no task 'x'"}}}});
        let rpc = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602,
            "message": "no task 'x'", "data": {"code": "not_found"}}});
        let bare = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "odd"}});
        for (message, code, words) in [
            (tool, ErrorCode::NotFound, "no task 'x'"),
            (rpc, ErrorCode::NotFound, "no task 'x'"),
            (bare, ErrorCode::Internal, "odd"),
        ] {
            let error = result_of::<Value>(message).unwrap_err();
            assert_eq!((error.code(), error.to_string()), (code, words.to_owned()));
        }
    }
}
