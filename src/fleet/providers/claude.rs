//! Claude Code: `--output-format stream-json --verbose --include-partial-messages`.

use serde_json::Value;

use super::{Heard, Reason};

/// Whether the block that is being said was told in parts.
#[derive(Default)]
pub struct Reader {
    told: bool,
}

impl Reader {
    pub fn event(&mut self, event: &Value, heard: &mut Heard) {
        heard.session(&event["session_id"]);
        // What a subagent says is its caller's business, not the answer.
        if !event["parent_tool_use_id"].is_null() {
            return;
        }
        match event["type"].as_str() {
            Some("stream_event") => self.part(&event["event"], heard),
            Some("assistant") => self.block(&event["message"]["content"], heard),
            Some("user") => {
                for block in blocks(&event["message"]["content"], "tool_result") {
                    let done = !block["is_error"].as_bool().unwrap_or(false);
                    heard.tool(&block["tool_use_id"], &Value::Null, &Value::Null, Some(done));
                }
            }
            Some("result") => result(event, heard),
            _ => {}
        }
    }

    fn part(&mut self, part: &Value, heard: &mut Heard) {
        match part["type"].as_str() {
            Some("message_start") => heard.message_ends(),
            Some("content_block_delta") => {
                if let Some(text) = part["delta"]["text"].as_str() {
                    self.told = true;
                    heard.text(text);
                }
            }
            _ => {}
        }
    }

    fn block(&mut self, content: &Value, heard: &mut Heard) {
        for block in blocks(content, "text") {
            if !std::mem::take(&mut self.told) {
                heard.text(block["text"].as_str().unwrap_or_default());
            }
        }
        for block in blocks(content, "tool_use") {
            heard.tool(&block["id"], &block["name"], &block["input"], None);
        }
    }
}

fn blocks<'a>(content: &'a Value, kind: &str) -> impl Iterator<Item = &'a Value> {
    let kind = kind.to_owned();
    content.as_array().into_iter().flatten().filter(move |block| block["type"] == *kind)
}

fn result(event: &Value, heard: &mut Heard) {
    let failed = event["is_error"].as_bool().unwrap_or(true) || event["subtype"] != "success";
    heard.finished = Some(!failed);
    heard.usage = event["usage"].is_object().then(|| event["usage"].clone());
    heard.cost_usd = event["total_cost_usd"].as_f64();
    heard.turns = event["num_turns"].as_u64();
    if !failed {
        heard.answer.set(event["result"].as_str().unwrap_or_default());
        return;
    }
    if event["subtype"] == "error_max_turns" || event["terminal_reason"] == "max_turns" {
        heard.reason = Some(Reason::MaxTurnsExhausted);
    }
    let said = if event["result"].is_string() { &event["result"] } else { &event["errors"][0] };
    heard.fails(&event["api_error_status"], said);
}
