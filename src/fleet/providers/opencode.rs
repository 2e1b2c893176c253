//! opencode: `run --format json`. It says whole messages only; tokens and cost
//! stand with every step and are added up.

use serde_json::Value;

use super::Heard;

pub struct Reader;

impl Reader {
    pub fn event(&self, event: &Value, heard: &mut Heard) {
        heard.session(&event["sessionID"]);
        let part = &event["part"];
        match event["type"].as_str() {
            Some("step_start") => {
                heard.message_ends();
                heard.answer.set("");
                heard.finished = Some(false);
            }
            Some("text") => {
                let text = part["text"].as_str().unwrap_or_default();
                heard.text(text);
                heard.answer.add(text);
            }
            Some("tool_use") => {
                let state = &part["state"];
                let done = state["status"] == "completed";
                heard.tool(&part["callID"], &part["tool"], &state["input"], Some(done));
            }
            Some("step_finish") => {
                heard.turns = Some(heard.turns.unwrap_or(0) + 1);
                heard.finished = Some(part["reason"] != "tool-calls");
                heard.cost_usd =
                    Some(heard.cost_usd.unwrap_or(0.0) + part["cost"].as_f64().unwrap_or(0.0));
                add(heard.usage.get_or_insert(Value::Null), &part["tokens"]);
            }
            Some("error") => {
                heard.finished = Some(false);
                let data = &event["error"]["data"];
                heard.fails(&data["statusCode"], &data["message"]);
            }
            _ => {}
        }
    }
}

/// Adds the numbers of `more` to those of `sum`, key by key.
fn add(sum: &mut Value, more: &Value) {
    match (sum, more) {
        (Value::Object(sum), Value::Object(more)) => {
            for (key, value) in more {
                add(sum.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Number(sum), Value::Number(more)) => {
            let (Some(one), Some(other)) = (sum.as_u64(), more.as_u64()) else { return };
            *sum = one.saturating_add(other).into();
        }
        (sum @ Value::Null, more) => *sum = more.clone(),
        _ => {}
    }
}
