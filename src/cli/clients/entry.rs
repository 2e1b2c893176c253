//! What stands under our key, in each client's own words.

use serde_json::{Map, Value, json};

use super::{Client, NAME, Transport};
use crate::model::ToolSets;

/// How a client shows that it may enter.
#[derive(Clone, Copy, Debug)]
pub enum Entrance<'a> {
    /// By what it can take from elsewhere: a helper, a file, the environment.
    Elsewhere,
    /// With this very token, in a file that is the user's alone.
    Token(&'a str),
}

/// Where the server is and how it is entered.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    pub transport: Transport,
    /// `http://127.0.0.1:PORT`; empty for stdio.
    pub url: &'a str,
    /// fleetctl, as a client has to call it.
    pub program: &'a str,
    /// A shell line that prints the headers.
    pub helper: &'a str,
    pub entrance: Entrance<'a>,
    /// Narrows everything to one project of the fleet.
    pub project: Option<&'a str>,
    /// What it is offered, if not the default set.
    pub tools: Option<ToolSets>,
}

/// The variable that clients without a helper take the token from.
pub const VARIABLE: &str = "FLEET_TOKEN";

/// The header that narrows a caller to one project.
const PROJECT: &str = "Fleetd-Project";

/// The entry of `client`.
///
/// # Errors
/// What this client cannot do, and what it can.
pub fn entry(client: Client, to: &Connection<'_>) -> Result<Value, String> {
    use Client as C;
    match to.transport {
        Transport::Stdio => return Ok(stdio(client, to)),
        Transport::Sse if matches!(client, C::Codex | C::Goose | C::Zed | C::Lmstudio) => {
            return Err("this client does not speak HTTP+SSE; use --transport http".to_owned());
        }
        _ if client == C::ClaudeDesktop => {
            return Err(
                "this client reaches no local HTTP server; use --transport stdio".to_owned()
            );
        }
        Transport::Http | Transport::Sse => {}
    }
    let sse = to.transport == Transport::Sse;
    let mut url = format!("{}/{}", to.url, if sse { "sse" } else { "mcp" });
    if let Some(tools) = to.tools {
        url = format!("{url}/x/{tools}");
    }
    let mut headers = headers(to);
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    match client {
        C::Claude => {
            put("type", if sse { "sse" } else { "http" }.into());
            put("url", url.into());
            if matches!(to.entrance, Entrance::Elsewhere) {
                put("headersHelper", to.helper.into());
            }
        }
        C::Codex => {
            put("url", url.into());
            if matches!(to.entrance, Entrance::Elsewhere) {
                put("http_headers_helper", to.helper.into());
            }
            if !headers.is_empty() {
                put("http_headers", headers.into());
            }
            return Ok(object.into());
        }
        C::Continue | C::Goose | C::Lmstudio | C::Qwen | C::Zed
            if matches!(to.entrance, Entrance::Elsewhere) =>
        {
            return Err(
                "this client cannot take a token from elsewhere; use --transport stdio, or \
                 --with-token to write it into your own file"
                    .to_owned(),
            );
        }
        _ => {
            if let Some(value) = from_elsewhere(client).filter(|_| is_elsewhere(to)) {
                headers.insert("Authorization".to_owned(), format!("Bearer {value}").into());
            }
            for (key, value) in http(client, sse, url) {
                put(key, value);
            }
        }
    }
    place_headers(client, &mut object, headers);
    Ok(object.into())
}

/// Whether the entry of `client` leaves the token to [`VARIABLE`].
pub fn takes_variable(client: Client, to: &Connection<'_>) -> bool {
    to.transport != Transport::Stdio && is_elsewhere(to) && from_elsewhere(client).is_some()
}

fn is_elsewhere(to: &Connection<'_>) -> bool {
    matches!(to.entrance, Entrance::Elsewhere)
}

fn headers(to: &Connection<'_>) -> Map<String, Value> {
    let mut headers = Map::new();
    if let Entrance::Token(token) = to.entrance {
        headers.insert("Authorization".to_owned(), format!("Bearer {token}").into());
    }
    if let Some(project) = to.project {
        headers.insert(PROJECT.to_owned(), project.into());
    }
    headers
}

/// How a client spells a variable of its environment.
fn from_elsewhere(client: Client) -> Option<String> {
    Some(match client {
        Client::Copilot | Client::Gemini | Client::Kiro => format!("${{{VARIABLE}}}"),
        Client::Cline | Client::Cursor | Client::Vscode | Client::Windsurf => {
            format!("${{env:{VARIABLE}}}")
        }
        Client::Opencode => format!("{{env:{VARIABLE}}}"),
        _ => return None,
    })
}

fn http(client: Client, sse: bool, url: String) -> Vec<(&'static str, Value)> {
    use Client as C;
    match client {
        C::Gemini | C::Qwen if sse => vec![("url", url.into()), ("type", "sse".into())],
        C::Gemini | C::Qwen => vec![("httpUrl", url.into())],
        // It falls back to SSE by itself.
        C::Opencode => {
            vec![("type", "remote".into()), ("url", url.into()), ("oauth", false.into())]
        }
        C::Copilot => vec![
            ("type", if sse { "sse" } else { "http" }.into()),
            ("url", url.into()),
            ("tools", json!(["*"])),
        ],
        C::Vscode => {
            vec![("type", if sse { "sse" } else { "http" }.into()), ("url", url.into())]
        }
        C::Windsurf => vec![("serverUrl", url.into())],
        C::Cline => {
            let kind = if sse { "sse" } else { "streamableHttp" };
            vec![("transport", json!({ "type": kind, "url": url }))]
        }
        C::Goose => vec![
            ("name", NAME.into()),
            ("enabled", true.into()),
            ("type", "streamable_http".into()),
            ("uri", url.into()),
            ("timeout", 300.into()),
        ],
        C::Continue => vec![
            ("name", NAME.into()),
            ("type", if sse { "sse" } else { "streamable-http" }.into()),
            ("url", url.into()),
        ],
        _ => vec![("url", url.into())],
    }
}

fn place_headers(client: Client, object: &mut Map<String, Value>, headers: Map<String, Value>) {
    if headers.is_empty() {
        return;
    }
    match client {
        Client::Cline => object["transport"]["headers"] = headers.into(),
        Client::Continue => {
            object.insert("requestOptions".to_owned(), json!({ "headers": headers }));
        }
        _ => {
            object.insert("headers".to_owned(), headers.into());
        }
    }
}

fn stdio(client: Client, to: &Connection<'_>) -> Value {
    let mut args = vec!["mcp"];
    if let Some(project) = to.project {
        args.extend(["--project", project]);
    }
    let tools = to.tools.map(|tools| tools.to_string());
    if let Some(tools) = &tools {
        args.extend(["--tools", tools]);
    }
    let program = to.program;
    match client {
        Client::Opencode => {
            let command: Vec<_> = std::iter::once(program).chain(args).collect();
            json!({ "type": "local", "command": command })
        }
        Client::Copilot => {
            json!({ "type": "local", "command": program, "args": args, "tools": ["*"] })
        }
        Client::Claude | Client::Vscode => {
            json!({ "type": "stdio", "command": program, "args": args })
        }
        Client::Goose => json!({ "name": NAME, "enabled": true, "type": "stdio",
            "cmd": program, "args": args, "timeout": 300 }),
        Client::Continue => json!({ "name": NAME, "command": program, "args": args }),
        _ => json!({ "command": program, "args": args }),
    }
}
