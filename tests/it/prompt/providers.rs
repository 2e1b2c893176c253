//! Every provider's real program: text, tools, result, and going on.

use std::time::Duration;

use serde_json::{Value, json};

use super::rig::Rig;
use crate::support::{ANSWER, Stream};

const SOON: Duration = Duration::from_secs(90);

/// The text that was told, the tools that were called, and the terminal event.
fn told(stream: &mut Stream) -> (String, Vec<String>, Value) {
    let (mut text, mut tools) = (String::new(), Vec::new());
    loop {
        let event = stream.next_within(SOON).expect("the stream goes on").json();
        let data = &event["data"];
        match event["type"].as_str().unwrap() {
            "task.output" if data["stream"] == "text" => {
                assert_eq!(data["offset"], text.len(), "{event}");
                text.push_str(data["text"].as_str().unwrap());
            }
            "task.output" => {
                assert_eq!(data["stream"], "stderr", "no bytes of its format: {event}")
            }
            "task.progress" if data["state"] == "begun" || data["state"] == "done" => {
                tools.push(data["summary"].as_str().unwrap().to_owned());
            }
            "task.completed" | "task.failed" => return (text, tools, event),
            _ => {}
        }
    }
}

/// One prompt that calls a tool, and one that goes on with its session.
pub fn converse(rig: &Rig, provider: &str, part_by_part: bool) {
    let id = rig.begin("HOLD on to that", json!({ "provider": provider }));
    let mut stream = rig.follow(&id);
    if part_by_part {
        // Told while the model is still at it.
        let first = loop {
            let event = stream.next_within(SOON).expect("partial text").json();
            if event["type"] == "task.output" && event["data"]["stream"] == "text" {
                break event;
            }
        };
        assert_eq!(first["data"]["text"], "Hel", "{first}");
        let prompt = &rig.monitor(&id)["prompt"];
        assert_eq!((&prompt["text"], &prompt["response"]), (&json!("Hel"), &Value::Null));
        rig.model.release();
    } else {
        rig.model.release();
        let (text, _, _) = told(&mut stream);
        assert_eq!(text, ANSWER);
    }
    let task = rig.end(&id);
    let prompt = &task["prompt"];
    assert_eq!(
        (&task["state"], &prompt["response"]),
        (&json!("completed"), &json!(ANSWER)),
        "{task}"
    );
    assert_eq!((&prompt["text"], &prompt["isError"]), (&json!(ANSWER), &json!(false)));
    let session = prompt["sessionId"].as_str().unwrap().to_owned();

    let line = rig.work().join("tool-ran");
    let ask = format!("RUN:touch {}", line.display());
    let id = rig.begin(&ask, json!({ "provider": provider, "session_id": session }));
    let mut stream = rig.follow(&id);
    let (text, tools, event) = told(&mut stream);
    assert!(text.ends_with(ANSWER), "{text}");
    assert!(tools.iter().any(|summary| summary.contains("touch")), "{tools:?}");
    assert!(line.exists(), "the tool ran");
    let data = &event["data"]["prompt"];
    assert_eq!(event["type"], "task.completed", "{event}");
    assert_eq!((&data["response"], &data["session_id"]), (&json!(ANSWER), &json!(session)));
    assert!(data["usage"].is_object() && data["truncated"] == false, "{event}");
    if provider == "claude" {
        assert!(data["cost_usd"].as_f64().unwrap() > 0.0, "{event}");
        assert!(data["usage"]["cache_read_input_tokens"].as_u64().unwrap() > 0, "{event}");
    }
    let asked = rig.model.asked();
    let last = asked.last().unwrap().to_string();
    assert!(last.contains("HOLD on to that"), "it went on with the conversation");
}

#[test]
fn claude_answers_calls_a_tool_and_goes_on() {
    converse(&Rig::new(), "claude", true);
}

#[test]
fn codex_answers_calls_a_tool_and_goes_on() {
    converse(&Rig::new(), "codex", false);
}

#[test]
fn gemini_answers_calls_a_tool_and_goes_on() {
    converse(&Rig::new(), "gemini", true);
}

#[test]
fn copilot_answers_calls_a_tool_and_goes_on() {
    converse(&Rig::new(), "copilot", true);
}

#[test]
fn opencode_answers_calls_a_tool_and_goes_on() {
    converse(&Rig::new(), "opencode", false);
}

#[test]
fn a_program_gets_its_own_variables_and_no_prompt_on_its_command_line() {
    let rig = Rig::new();
    let id = rig.begin("HOLD the secret word is xyzzy", json!({}));
    rig.asked(1);
    let pid = rig.monitor(&id)["pid"].as_u64().unwrap();
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
    let (environment, line) = (read("environ"), read("cmdline"));
    let names: Vec<_> =
        environment.split('\0').filter_map(|v| Some(v.split_once('=')?.0)).collect();
    assert!(names.contains(&"ANTHROPIC_API_KEY") && names.contains(&"ANTHROPIC_BASE_URL"));
    for name in ["CLAUDECODE", "CLAUDE_CODE_SESSION_ID", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY"]
    {
        assert!(!names.contains(&name), "{name} was passed on");
    }
    assert!(line.contains("stream-json") && !line.contains("xyzzy"), "{line}");
    let shown = rig.monitor(&id).to_string();
    assert!(!shown.contains("sk-not-a-secret"), "{shown}");
    rig.model.release();
    assert_eq!(rig.end(&id)["state"], "completed");
}

#[test]
fn a_plain_programs_output_is_its_answer() {
    let rig = Rig::new();
    let id =
        rig.begin("Hello {{who}}", json!({ "provider": "cat", "substitutions": { "who": "you" } }));
    let task = rig.end(&id);
    assert_eq!(
        (&task["state"], &task["prompt"]["response"]),
        (&json!("completed"), &json!("Hello you"))
    );
}
