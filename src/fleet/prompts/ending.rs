//! What came of a prompt, from what its run left.

use std::fs::File;
use std::io::{self, ErrorKind, Read};

use serde_json::{Value, json};

use super::super::drive::blocking;
use super::super::output;
use super::super::plan::Cause;
use super::super::providers::{Parser, Piece, PromptResult, Reason};
use super::super::rundir::RunDir;
use super::super::state::{Known, Outcome};
use crate::model::{Exit, OutputStream};
use crate::store::SettledPrompt;

/// Bytes of encoded answer, and of encoded usage, in the terminal event, which
/// has a cap of its own. The rest is read with `monitor_task`.
const TOLD: usize = 96 * 1024;
const TOLD_USAGE: usize = 16 * 1024;

/// Read at once.
const PIECE: usize = 256 * 1024;

/// The outcome with what came of the prompt, if the run was one's.
pub async fn with_result(dir: RunDir, outcome: Outcome) -> Outcome {
    let given = outcome.clone();
    blocking(move || Ok(judged(&dir, outcome))).await.unwrap_or(given)
}

fn judged(dir: &RunDir, mut outcome: Outcome) -> Outcome {
    let Some(prompt) = dir.prompt() else { return outcome };
    let mut parser = Parser::new(prompt.format);
    if let Err(error) = read(dir, &mut parser, |_| {}) {
        tracing::warn!(path = %dir.path().display(), %error, "a prompt's output cannot be read");
    }
    let (exit_zero, cause) = match &outcome.known {
        Known::Status(status) => (status.exit == Some(Exit::Code(0)), status.cause),
        Known::Nothing => (false, None),
    };
    let complaint = output::tail(dir, OutputStream::Stderr);
    let mut result = parser.result(exit_zero, &complaint.join("\n"));
    if let Some(reason) = cause.map(reason_of) {
        (result.is_error, result.reason) = (true, Some(reason));
        result.message = outcome.reason.clone();
    }
    if matches!(outcome.known, Known::Nothing) {
        (result.reason, result.message) = (None, outcome.reason.clone());
    }
    // Events of its format are no lines for people.
    outcome.last_lines = if result.is_error { complaint } else { Vec::new() };
    if outcome.reason.is_none() && result.is_error {
        let said = result.message.as_deref().and_then(|said| said.lines().next());
        outcome.reason = result.reason.map(|reason| match said {
            Some(said) => format!("{}: {said}", reason.as_str()),
            None => reason.as_str().to_owned(),
        });
    }
    outcome.prompt = Some(Box::new(result));
    outcome
}

fn reason_of(cause: Cause) -> Reason {
    match cause {
        Cause::Stopped => Reason::Stopped,
        Cause::Inactivity | Cause::Stalled => Reason::Stalled,
        Cause::Total => Reason::Timeout,
        Cause::NotStarted => Reason::DispatchFailed,
    }
}

/// Feeds all that a run has written so far, and hands over what it says.
pub fn read(dir: &RunDir, parser: &mut Parser, mut take: impl FnMut(Piece)) -> io::Result<()> {
    let mut file = match File::open(dir.file(OutputStream::Stdout.as_str())) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let mut bytes = vec![0; PIECE];
    loop {
        match file.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => parser.feed(&bytes[..count]).into_iter().for_each(&mut take),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    parser.end().into_iter().for_each(&mut take);
    Ok(())
}

/// The end as it is stored.
pub fn settled(result: &PromptResult) -> SettledPrompt {
    let none = [Some(Reason::SessionNotFound), Some(Reason::DispatchFailed)];
    SettledPrompt {
        session: result.session_id.clone().filter(|_| !none.contains(&result.reason)),
        // Values of ours always encode.
        result: serde_json::to_string(result).unwrap_or_default(),
    }
}

/// The end as the terminal event tells it, bounded.
pub fn told(result: &PromptResult) -> Value {
    let response = fitting(&result.response, TOLD);
    let usage = result.usage.as_ref().filter(|usage| usage.to_string().len() <= TOLD_USAGE);
    json!({
        "response": response,
        "response_bytes": result.response_bytes,
        "truncated": (response.len() as u64) < result.response_bytes,
        "usage": usage,
        "cost_usd": result.cost_usd,
        "session_id": result.session_id,
        "turns": result.turns,
        "is_error": result.is_error,
        "reason": result.reason,
        "message": result.message.as_deref().map(|message| fitting(message, TOLD_USAGE)),
    })
}

/// As much of the beginning of `text` as encodes to at most `most` bytes of JSON.
fn fitting(text: &str, most: usize) -> &str {
    let mut encoded = 0;
    for (at, c) in text.char_indices() {
        encoded += match c {
            '"' | '\\' | '\n' | '\r' | '\t' => 2,
            c if c.is_control() => 6,
            c => c.len_utf8(),
        };
        if encoded > most {
            return &text[..at];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_any_answer_stays_small() {
        for c in ["\u{1}", "\"", "€", "x"] {
            let response = c.repeat(super::super::super::providers::MOST_ANSWER / c.len());
            let usage = Some(json!({ "x": "y".repeat(TOLD_USAGE) }));
            let response_bytes = response.len() as u64;
            let result =
                PromptResult { response, response_bytes, usage, ..PromptResult::default() };
            let told = told(&result);
            assert!(told.to_string().len() < TOLD + 1024, "{c:?}");
            assert_eq!((&told["truncated"], &told["usage"]), (&json!(true), &Value::Null));
        }
        let result =
            PromptResult { response: "é".into(), response_bytes: 2, ..Default::default() };
        assert_eq!(
            (&told(&result)["response"], &told(&result)["truncated"]),
            (&json!("é"), &json!(false))
        );
    }
}
