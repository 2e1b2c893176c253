//! Gemini CLI: `--output-format stream-json`.

use serde_json::Value;

use super::Heard;

pub struct Reader;

impl Reader {
    pub fn event(&self, event: &Value, heard: &mut Heard) {
        match event["type"].as_str() {
            Some("init") => heard.session(&event["session_id"]),
            Some("message") if event["role"] == "assistant" => {
                let text = event["content"].as_str().unwrap_or_default();
                heard.text(text);
                heard.answer.add(text);
            }
            Some("tool_use") => {
                // What was said before a tool was called is not yet the answer.
                heard.answer.set("");
                heard.tool(&event["tool_id"], &event["tool_name"], &event["parameters"], None);
            }
            Some("tool_result") => {
                let done = event["status"] == "success";
                heard.tool(&event["tool_id"], &Value::Null, &Value::Null, Some(done));
            }
            Some("error") => heard.fails(&Value::Null, &event["message"]),
            Some("result") => {
                heard.finished = Some(event["status"] == "success");
                heard.usage = Some(event["stats"].clone());
                if event["status"] != "success" {
                    heard.fails(&Value::Null, &event["error"]["message"]);
                }
            }
            _ => {}
        }
    }
}
