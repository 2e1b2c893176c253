//! Copilot CLI: `--output-format json --stream on`.

use serde_json::Value;

use super::Heard;

/// Whether the message that is being said was told in parts.
#[derive(Default)]
pub struct Reader {
    told: bool,
}

impl Reader {
    pub fn event(&mut self, event: &Value, heard: &mut Heard) {
        let data = &event["data"];
        match event["type"].as_str() {
            Some("assistant.message_delta") => {
                self.told = true;
                heard.text(data["deltaContent"].as_str().unwrap_or_default());
            }
            Some("assistant.message") => {
                let text = data["content"].as_str().unwrap_or_default();
                if !std::mem::take(&mut self.told) {
                    heard.text(text);
                }
                heard.message_ends();
                heard.answer.set(text);
            }
            Some("assistant.turn_end") => heard.turns = Some(heard.turns.unwrap_or(0) + 1),
            Some("tool.execution_start") => {
                heard.tool(&data["toolCallId"], &data["toolName"], &data["arguments"], None);
            }
            Some("tool.execution_complete") => {
                let done = data["success"].as_bool();
                heard.tool(&data["toolCallId"], &Value::Null, &Value::Null, done.or(Some(false)));
            }
            Some("session.error") => heard.fails(&data["statusCode"], &data["message"]),
            Some("result") => {
                heard.session(&event["sessionId"]);
                heard.finished = Some(event["exitCode"] == 0);
                heard.usage = Some(event["usage"].clone());
            }
            _ => {}
        }
    }
}
