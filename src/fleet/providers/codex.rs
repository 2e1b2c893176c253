//! Codex: `exec --json`. It says whole messages only; usage counts the thread
//! from its beginning, resumed turns included.

use serde_json::Value;

use super::Heard;

pub struct Reader;

impl Reader {
    pub fn event(&self, event: &Value, heard: &mut Heard) {
        match event["type"].as_str() {
            Some("thread.started") => heard.session(&event["thread_id"]),
            Some("item.started") => item(&event["item"], false, heard),
            Some("item.completed") => item(&event["item"], true, heard),
            Some("turn.completed") => {
                heard.finished = Some(true);
                heard.turns = Some(heard.turns.unwrap_or(0) + 1);
                heard.usage = Some(event["usage"].clone());
            }
            Some("turn.failed") => {
                heard.finished = Some(false);
                heard.fails(&Value::Null, &event["error"]["message"]);
            }
            // Also said of a connection that is tried again: no end by itself.
            Some("error") => heard.fails(&Value::Null, &event["message"]),
            _ => {}
        }
    }
}

fn item(item: &Value, completed: bool, heard: &mut Heard) {
    let kind = item["type"].as_str().unwrap_or_default();
    match kind {
        "agent_message" if completed => {
            let text = item["text"].as_str().unwrap_or_default();
            heard.message_ends();
            heard.text(text);
            heard.answer.set(text);
        }
        "command_execution" | "file_change" | "mcp_tool_call" | "web_search" => {
            let done = completed.then(|| item["status"] != "failed");
            let name = if item["tool"].is_string() { &item["tool"] } else { &item["type"] };
            heard.tool(&item["id"], name, item, done);
        }
        _ => {}
    }
}
