//! What a client is offered: sets of tools, by the address it calls or by a header.
//!
//! `/mcp` offers the default set, `/mcp/x/task,event` these two; HTTP+SSE has the
//! same below `/sse/x/`. The header `Fleetd-Tools: task,event` is for clients whose
//! address cannot be chosen. Sets of both add up. A session keeps the offer it
//! began with; in the stateless era every request has its own.

use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::json;

use super::headers;
use super::refusal::{Refusal, code};
use super::tools::{Tool, nearest};
use crate::model::{ToolSet, ToolSetError, ToolSets};

const TOOLS: HeaderName = HeaderName::from_static("fleetd-tools");

/// An address without the sets that it names, and those.
pub fn split(path: &str) -> (&str, Option<&str>) {
    for place in ["/mcp", "/sse"] {
        let rest = path.strip_prefix(place).and_then(|rest| rest.strip_prefix("/x/"));
        if let Some(named) = rest {
            return (place, Some(named));
        }
    }
    (path, None)
}

/// The sets that address and header name together; the default one if neither does.
///
/// # Errors
/// 404 for an address, 400 for a header that names no set, with those there are.
pub fn of(address: Option<&str>, headers: &HeaderMap) -> Result<ToolSets, Refusal> {
    let header = headers::one(headers, &TOOLS)?;
    let by_address = address.map(|text| read(text, StatusCode::NOT_FOUND)).transpose()?;
    let by_header = header.map(|text| read(text, StatusCode::BAD_REQUEST)).transpose()?;
    let named = [by_address, by_header].into_iter().flatten().flat_map(ToolSets::sets);
    Ok(ToolSets::of(named).unwrap_or(ToolSets::DEFAULT))
}

/// Why a tool cannot be called here, and where it can.
pub fn elsewhere(tool: &Tool, offer: ToolSets) -> String {
    let nouns = tool.sets.sets().filter(|set| *set != ToolSet::All);
    let at = nouns.last().unwrap_or(ToolSet::All).name();
    format!("tool '{}' is not in the set '{offer}' offered here; connect to /mcp/x/{at}", tool.name)
}

fn read(text: &str, status: StatusCode) -> Result<ToolSets, Refusal> {
    text.parse().map_err(|error: ToolSetError| {
        let near = match &error {
            ToolSetError::Unknown(name) => {
                nearest(name, ToolSet::EVERY.into_iter().map(ToolSet::name))
            }
            ToolSetError::None => None,
        };
        let advice = near.map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
        let mut refusal = Refusal::new(status, code::INVALID_REQUEST, format!("{error}{advice}"));
        refusal.data = Some(json!({ "sets": ToolSet::EVERY }));
        refusal
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn offer(address: Option<&str>, header: Option<&'static str>) -> Result<String, Refusal> {
        let header = header.map(|text| (TOOLS, HeaderValue::from_static(text)));
        of(address, &HeaderMap::from_iter(header)).map(|sets| sets.to_string())
    }

    #[test]
    fn an_address_is_a_place_and_sets() {
        assert_eq!(split("/mcp"), ("/mcp", None));
        assert_eq!(split("/mcp/x/task,event"), ("/mcp", Some("task,event")));
        assert_eq!(split("/sse/x/all"), ("/sse", Some("all")));
        assert_eq!(split("/messages"), ("/messages", None));
    }

    #[test]
    fn address_and_header_add_up_and_neither_is_the_default() {
        assert_eq!(offer(None, None).unwrap(), "default");
        assert_eq!(offer(Some("event"), Some("task")).unwrap(), "task,event");
        assert_eq!(offer(None, Some("all")).unwrap(), "all");
    }

    #[test]
    fn an_unknown_set_is_refused_with_the_nearest_and_all() {
        let refusal = offer(Some("tasks"), None).unwrap_err();
        assert_eq!(refusal.status, StatusCode::NOT_FOUND);
        assert!(refusal.message.contains("did you mean 'task'?"), "{}", refusal.message);
        assert!(refusal.message.contains("default, all, task"), "{}", refusal.message);
        assert_eq!(offer(None, Some("")).unwrap_err().status, StatusCode::BAD_REQUEST);
    }
}
