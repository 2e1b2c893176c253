//! Events as lines for people.

use serde_json::Value;

use super::output::{Output, Style};
use super::{quote, table, text};

/// The most of an event's data that a line shows.
const MOST: usize = 240;

/// One event, or one signal (without a cursor), as a line; partial output as
/// the lines it has.
pub fn event(event: &Value, cursor: Option<&str>, out: &Output) -> String {
    let field = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
    let topic = text::one_line(field("type"), 128);
    let subject = text::one_line(field("subject"), 128);
    let data = event.get("data").unwrap_or(&Value::Null);
    if topic == "task.output" {
        return output(&subject, data, out);
    }
    let head = [
        out.styled(Style::Dim, &table::time(&text::one_line(field("time"), 32))),
        format!("{}{}", out.styled(style(field("severity"), &topic), &topic), padding(&topic)),
        subject,
        summary(&topic, data),
        cursor
            .map(|cursor| out.styled(Style::Dim, &format!("[{}]", text::one_line(cursor, 40))))
            .unwrap_or_default(),
    ];
    let parts: Vec<_> = head.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("  ")
}

/// What a topic lacks to the width of most, so that the subjects stand in line.
fn padding(topic: &str) -> String {
    " ".repeat("task.completed".len().saturating_sub(topic.len()))
}

/// Partial output: each line marked as foreign text of its task.
fn output(subject: &str, data: &Value, out: &Output) -> String {
    let foreign = text::printable(string(data, "text").unwrap_or_default());
    let mark = match string(data, "stream") {
        Some("stderr") => "!",
        _ => "|",
    };
    let id = subject.strip_prefix("task/").unwrap_or(subject);
    let mark = out.styled(Style::Dim, &format!("  {} {mark}", id.get(..8).unwrap_or(id)));
    let lines: Vec<_> = foreign.trim_end_matches('\n').split('\n').collect();
    lines.iter().map(|line| format!("{mark} {line}")).collect::<Vec<_>>().join("\n")
}

fn style(severity: &str, topic: &str) -> Style {
    match (severity, topic) {
        ("error", _) => Style::Red,
        ("warning", _) | (_, "task.failed") => Style::Yellow,
        (_, "task.completed") => Style::Green,
        _ => Style::Bold,
    }
}

/// What matters of the data, on one line.
fn summary(topic: &str, data: &Value) -> String {
    let said = match topic {
        "task.queued" => {
            number(data, "position").map(|place| format!("place {place} in the queue"))
        }
        "task.started" => string(data, "command").map(|line| quote::for_people(line).to_owned()),
        "task.completed" | "task.failed" | "task.cancelled" | "task.unknown" => Some(end(data)),
        "fleet.started" => string(data, "version").map(|version| format!("fleetd {version}")),
        "fleet.stopping" => {
            number(data, "running_tasks").map(|tasks| format!("{tasks} tasks go on"))
        }
        _ => None,
    };
    let said =
        said.unwrap_or_else(|| if data.is_null() { String::new() } else { data.to_string() });
    text::one_line(&said, MOST)
}

/// How a task ended.
fn end(data: &Value) -> String {
    let mut parts = Vec::new();
    match (number(data, "exit_code"), number(data, "signal")) {
        (Some(code), _) => parts.push(format!("exit {code}")),
        (None, Some(signal)) => parts.push(format!("signal {signal}")),
        (None, None) => {}
    }
    if let Some(reason) = string(data, "reason") {
        parts.push(reason.to_owned());
    }
    if let Some(millis) = data.get("duration_ms").and_then(Value::as_u64) {
        parts.push(format!("after {}", table::duration(millis)));
    }
    parts.join(", ")
}

fn string<'a>(data: &'a Value, name: &str) -> Option<&'a str> {
    data.get(name).and_then(Value::as_str)
}

fn number(data: &Value, name: &str) -> Option<i64> {
    data.get(name).and_then(Value::as_i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(event_value: Value, cursor: Option<&str>) -> String {
        event(&event_value, cursor, &Output::piped())
    }

    #[test]
    fn events_read_well() {
        let base = |topic: &str, data: Value| {
            json!({"type": topic, "subject": "task/1d0c1f5e-6d34", "severity": "info",
                "time": "2026-11-20T10:00:00.123Z", "data": data})
        };
        for (topic, data, expected) in [
            ("task.started", json!({"command": "exec make test"}), "make test"),
            (
                "task.completed",
                json!({"exit_code": 0, "signal": null, "duration_ms": 1234}),
                "exit 0, after 1.2 s",
            ),
            (
                "task.failed",
                json!({"exit_code": null, "signal": 9, "reason": "no output for 5 s", "duration_ms": 5000}),
                "signal 9, no output for 5 s, after 5.0 s",
            ),
            ("task.queued", json!({"position": 3}), "place 3 in the queue"),
            ("custom.x", json!({"a": "b\nc"}), "{\"a\":\"b\\nc\"}"),
        ] {
            let expected = format!(
                "2026-11-20 10:00:00Z  {topic:<14}  task/1d0c1f5e-6d34  {expected}  [0000002a:7]"
            );
            assert_eq!(line(base(topic, data), Some("0000002a:7")), expected);
        }
    }

    #[test]
    fn partial_output_is_marked_and_harmless() {
        let signal = json!({"type": "task.output", "subject": "task/1d0c1f5e-6d34",
            "data": {"stream": "stderr", "offset": 0, "text": "one\n\u{1b}]0;x\u{07}two\n"}});
        assert_eq!(line(signal, None), "  1d0c1f5e ! one\n  1d0c1f5e ! two");
    }

    #[test]
    fn a_hostile_event_stays_on_its_line() {
        let hostile = json!({"type": "custom.x\u{1b}[2J\n", "subject": "a\r\nb\u{9b}1m", "data": null,
            "time": "2026-11-20T10:00:00.123Z\u{1b}[31m", "severity": "info"});
        assert_eq!(line(hostile, None), "2026-11-20 10:00:00Z  custom.x        a b");
    }
}
