//! MCP over HTTP, revision 2026-07-28: every request stands alone. Asked is where
//! every tool is offered, whatever its set.

use serde_json::{Value, json};

use super::Daemon;
use super::http::{Answer, Request};

const REVISION: &str = "2026-07-28";

/// A request for `method`; `name` goes into `Mcp-Name` (tools, resources, prompts).
pub fn rpc(daemon: &Daemon, method: &str, name: Option<&str>, mut params: Value) -> Request {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientInfo": { "name": "fleetd-tests", "version": "0" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let request = daemon
        .request("POST", "/mcp/x/all")
        .header("Accept", "application/json, text/event-stream")
        .header("MCP-Protocol-Version", REVISION)
        .header("Mcp-Method", method)
        .json(&body);
    match name {
        Some(name) => request.header("Mcp-Name", name),
        None => request,
    }
}

/// The request that calls a tool.
pub fn tool_request(daemon: &Daemon, tool: &str, arguments: Value) -> Request {
    rpc(daemon, "tools/call", Some(tool), json!({ "name": tool, "arguments": arguments }))
}

/// Calls a tool that has to succeed and returns its structured content.
#[track_caller]
pub fn call_tool(daemon: &Daemon, tool: &str, arguments: Value) -> Value {
    let answer = daemon.send(&tool_request(daemon, tool, arguments));
    let reply = reply(&answer);
    let result = &reply["result"];
    assert!(result.is_object() && result["isError"] != true, "{tool}: {reply}");
    result["structuredContent"].clone()
}

/// The JSON-RPC reply of an answer, which may be JSON or a short event stream.
#[track_caller]
pub fn reply(answer: &Answer) -> Value {
    let text = answer.text();
    if answer.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
        let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
        let mut messages = data.filter_map(|data| serde_json::from_str::<Value>(data.trim()).ok());
        return messages
            .find(|message| message.get("id").is_some() && message.get("method").is_none())
            .unwrap_or_else(|| panic!("no reply in {text}"));
    }
    answer.json()
}
