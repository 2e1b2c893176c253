//! The readers against what the real programs said, cut anywhere.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn golden() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/providers");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn format_of(path: &Path) -> Format {
    let name = path.file_stem().unwrap().to_str().unwrap();
    let format = name.split('-').next().unwrap();
    serde_json::from_value(json!(format)).unwrap()
}

fn read(format: Format, parts: &[&[u8]], exit_zero: bool) -> (String, Vec<ToolNews>, PromptResult) {
    let mut parser = Parser::new(format);
    let mut pieces: Vec<Piece> = parts.iter().flat_map(|part| parser.feed(part)).collect();
    pieces.extend(parser.end());
    let (mut text, mut tools) = (String::new(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Text(part) => text.push_str(&part),
            Piece::Tool(news) => tools.push(news),
            Piece::Session(_) => {}
        }
    }
    (text, tools, parser.result(exit_zero, ""))
}

fn transcript(name: &str) -> Vec<u8> {
    let file = golden().into_iter().find(|path| path.file_stem().unwrap() == name);
    std::fs::read(file.unwrap_or_else(|| panic!("no transcript {name}"))).unwrap()
}

const SAID: &str = "Hello from the stub — é€😀.";

#[test]
fn every_program_is_understood() {
    let table = [
        ("claude-2.1.329", "Bash", true, true),
        ("codex-0.169.0", "command_execution", false, false),
        ("copilot-1.0.102", "bash", true, false),
        ("gemini-0.61.0", "run_shell_command", true, false),
        ("opencode-1.18.33", "bash", true, true),
    ];
    for (name, tool, first, cost) in table {
        let bytes = transcript(name);
        let (text, tools, result) = read(format_of(Path::new(name)), &[&bytes], true);
        let whole = if first { format!("I will look.\n\n{SAID}") } else { SAID.to_owned() };
        assert_eq!(text, whole, "{name}");
        assert_eq!((result.response.as_str(), result.is_error), (SAID, false), "{name}");
        assert!(result.session_id.is_some() && result.usage.is_some(), "{name}: {result:?}");
        assert_eq!(result.cost_usd.is_some(), cost, "{name}");
        assert!(tools.iter().any(|news| news.name == tool), "{name}: {tools:?}");
        assert!(tools.iter().any(|news| news.summary.contains("echo tool ran")), "{name}");
        assert!(tools.iter().any(|news| news.done == Some(true)), "{name}");
    }
}

#[test]
fn cache_tokens_and_cost_are_kept() {
    let (_, _, result) = read(Format::Claude, &[&transcript("claude-2.1.329")], true);
    let usage = result.usage.unwrap();
    assert_eq!(usage["cache_read_input_tokens"], 10);
    assert_eq!(usage["cache_creation_input_tokens"], 6);
    assert_eq!((result.cost_usd, result.turns), (Some(0.000204), Some(2)));
    let (_, _, result) = read(Format::Opencode, &[&transcript("opencode-1.18.33")], true);
    let usage = result.usage.unwrap();
    assert_eq!((&usage["total"], &usage["cache"]["read"]), (&json!(58), &json!(8)));
}

#[test]
fn a_resumed_session_says_its_id_again() {
    for name in
        ["claude-2.1.329", "codex-0.169.0", "copilot-1.0.102", "gemini-0.61.0", "opencode-1.18.33"]
    {
        let format = format_of(Path::new(name));
        let (_, _, fresh) = read(format, &[&transcript(name)], true);
        let (_, _, resumed) = read(format, &[&transcript(&format!("{name}-resume"))], true);
        assert_eq!(fresh.session_id, resumed.session_id, "{name}");
        assert_eq!(resumed.response, SAID, "{name}");
    }
}

#[test]
fn failures_are_told_by_their_kind() {
    let table = [
        ("claude-2.1.329-auth", Reason::Auth),
        ("claude-2.1.329-overloaded", Reason::Overloaded),
        ("claude-2.1.329-refused", Reason::Server),
        ("claude-2.1.329-turns", Reason::MaxTurnsExhausted),
        ("claude-2.1.329-nosession", Reason::SessionNotFound),
        ("codex-0.169.0-auth", Reason::Auth),
        ("codex-0.169.0-cut", Reason::Server),
        ("copilot-1.0.102-auth", Reason::Auth),
        ("gemini-0.61.0-auth", Reason::Auth),
        // It says no more than that to anybody.
        ("opencode-1.18.33-auth", Reason::Server),
    ];
    for (name, reason) in table {
        let (_, _, result) = read(format_of(Path::new(name)), &[&transcript(name)], false);
        assert_eq!((result.is_error, result.reason), (true, Some(reason)), "{name}: {result:?}");
        assert!(result.message.is_some(), "{name}");
    }
}

#[test]
fn no_result_is_no_success() {
    for path in golden() {
        let bytes = std::fs::read(&path).unwrap();
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        let (_, _, result) = read(format_of(&path), &lines[..lines.len() - 1], true);
        assert!(result.is_error, "{}", path.display());
    }
    let (_, _, result) = read(Format::Claude, &[b""], true);
    assert_eq!(result.reason, Some(Reason::EmptyResponse));
    let (_, _, result) = read(Format::Text, &[b""], true);
    assert_eq!(result.reason, Some(Reason::EmptyResponse));
    let (text, _, result) = read(Format::Text, &["é€".as_bytes()], true);
    assert_eq!((text.as_str(), result.is_error), ("é€", false));
    // What a program complains of elsewhere is better than nothing.
    let complaint = "Error: thread/resume failed: no rollout found for thread id 9";
    let result = Parser::new(Format::Codex).result(false, complaint);
    assert_eq!(result.reason, Some(Reason::SessionNotFound));
}

#[test]
fn garbage_between_the_lines_changes_nothing() {
    for path in golden() {
        let bytes = std::fs::read(&path).unwrap();
        let clean = read(format_of(&path), &[&bytes], true);
        let mut dirty =
            b"warning: \xff\xfe\n\n[]\nnull\n{\"type\":7}\n{\"type\":\"result\n".to_vec();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            dirty.extend_from_slice(line);
            dirty.extend_from_slice(b"\x1b[31m{half\n42\n");
        }
        assert_eq!(read(format_of(&path), &[&dirty], true), clean, "{}", path.display());
    }
}

#[test]
fn a_line_without_end_costs_bounded_memory() {
    let mut parser = Parser::new(Format::Claude);
    for _ in 0..40 {
        assert!(parser.feed(&[b'x'; 1 << 20]).is_empty());
    }
    parser.feed(b"\n");
    let pieces = parser.feed(&transcript("claude-2.1.329"));
    assert!(pieces.len() > 5);
    let mut parser = Parser::new(Format::Text);
    for _ in 0..8 {
        parser.feed("€".repeat(20_000).as_bytes());
    }
    let result = parser.result(true, "");
    assert_eq!(result.response_bytes, 8 * 60_000);
    assert!(result.response.len() <= MOST_ANSWER && result.response.len() > MOST_ANSWER - 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn where_the_bytes_are_cut_changes_nothing(which in any::<prop::sample::Index>(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let files = golden();
        let path = which.get(&files);
        let bytes = std::fs::read(path).unwrap();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let parts: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        for format in [format_of(path), Format::Text] {
            prop_assert_eq!(read(format, &parts, true), read(format, &[&bytes], true));
        }
    }

    #[test]
    fn no_bytes_at_all_can_break_a_reader(bytes in prop::collection::vec(any::<u8>(), 0..400), zero in any::<bool>()) {
        for format in [Format::Claude, Format::Codex, Format::Copilot, Format::Gemini, Format::Opencode, Format::Text] {
            let (_, _, result) = read(format, &[&bytes], zero);
            prop_assert!(result.is_error || format == Format::Text);
        }
    }
}
