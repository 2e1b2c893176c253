//! What a model's program writes down while it works.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use glob::Pattern;
use serde_json::Value;
use uuid::Uuid;

use crate::fleet::Program;

/// Bytes at the end of a file in which a tool call under way is looked for.
const TAIL: u64 = 64 * 1024;

/// Files that one pattern may mean.
const MOST_FILES: usize = 100;

/// The pattern of the transcript that a command line names, if it is one of a
/// program whose habits are known: `claude` with the id of its session. The id is
/// in the file's name, so it does not matter in which folder it works.
pub fn of_program(program: &Program, home: &Path, config: Option<&str>) -> Option<String> {
    let words: Vec<&str> = match program {
        Program::Shell(line) => line.split_ascii_whitespace().collect(),
        Program::Argv(argv) => argv.iter().map(String::as_str).collect(),
    };
    let plain = |word: &str| word.trim_matches(['\'', '"']).to_owned();
    let words: Vec<String> = words.into_iter().map(plain).collect();
    let begin = words
        .iter()
        .position(|word| Path::new(word).file_name().is_some_and(|name| name == "claude"))?;
    let session = words[begin..].windows(2).find_map(|pair| {
        let named = ["--session-id", "--resume", "-r"].contains(&pair[0].as_str());
        let value = if named { &pair[1] } else { pair[1].split_once("--session-id=")?.1 };
        Uuid::try_parse(value).ok()
    })?;
    let config = config.map_or_else(|| home.join(".claude"), PathBuf::from);
    let config = Pattern::escape(config.to_str()?);
    Some(format!("{config}/projects/*/{session}.jsonl"))
}

/// A pattern as a provider's row states it, with `~/` for `home`.
pub fn at_home(pattern: &str, home: &Path) -> String {
    match pattern.strip_prefix("~/") {
        Some(rest) => format!("{}/{rest}", Pattern::escape(&home.to_string_lossy())),
        None => pattern.to_owned(),
    }
}

/// The files that `pattern` means now.
pub fn files(pattern: &str) -> Vec<PathBuf> {
    let found = glob::glob(pattern).into_iter().flatten().flatten();
    found.take(MOST_FILES).collect()
}

/// A number that changes when one of `files` grows or is touched.
pub fn stamp(files: &[PathBuf]) -> u64 {
    let of = |path: &PathBuf| {
        let meta = path.metadata().ok()?;
        let touched = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(meta.len().wrapping_add(u64::try_from(touched.as_millis()).ok()?))
    };
    files.iter().filter_map(of).fold(0, u64::wrapping_add)
}

/// How long the longest tool call may take that is under way at the end of `file`
/// and said so itself. Whatever else stands there means nothing to us.
pub fn declared(file: &Path) -> Option<Duration> {
    let mut file = File::open(file).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    under_way(&String::from_utf8_lossy(&bytes))
}

fn under_way(text: &str) -> Option<Duration> {
    let mut calls: HashMap<String, Duration> = HashMap::new();
    for line in text.lines().filter(|line| line.contains("\"tool_")) {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let parts = line["message"]["content"].as_array().into_iter().flatten();
        for part in parts {
            match part["type"].as_str() {
                Some("tool_use") => {
                    let (id, millis) = (part["id"].as_str(), part["input"]["timeout"].as_u64());
                    if let (Some(id), Some(millis)) = (id, millis) {
                        calls.insert(id.to_owned(), Duration::from_millis(millis));
                    }
                }
                Some("tool_result") => {
                    part["tool_use_id"].as_str().and_then(|id| calls.remove(id));
                }
                _ => {}
            }
        }
    }
    calls.into_values().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1d0c1f5e-6d34-4c0e-8a4e-9a3c0d1c8f11";

    #[test]
    fn a_transcript_is_known_by_its_session() {
        let home = Path::new("/home/[me]");
        let expected = format!("/home/[[]me[]]/.claude/projects/*/{ID}.jsonl");
        for line in [
            format!("claude -p --session-id {ID}"),
            format!("cd src && X=1 /opt/bin/claude -p --resume '{ID}' --model haiku"),
            format!("claude -p --session-id={ID}"),
        ] {
            let found = of_program(&Program::Shell(line.clone()), home, None);
            assert_eq!(found.as_deref(), Some(&*expected), "{line}");
        }
        for line in [
            "claude -p".to_owned(),
            format!("codex --session-id {ID}"),
            "claude --resume x".to_owned(),
        ] {
            assert_eq!(of_program(&Program::Shell(line.clone()), home, None), None, "{line}");
        }
        let argv = ["claude", "-r", ID].map(String::from).to_vec();
        let found = of_program(&Program::Argv(argv), home, Some("/c"));
        assert_eq!(found.unwrap(), format!("/c/projects/*/{ID}.jsonl"));
    }

    #[test]
    fn only_calls_without_a_result_are_under_way() {
        let call = |id: &str, timeout: u64| {
            format!(
                r#"{{"type":"assistant","message":{{"content":[{{"type":"tool_use","id":"{id}","name":"Bash","input":{{"command":"x","timeout":{timeout}}}}}]}}}}"#
            )
        };
        let result = r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","content":"x"}]}}"#;
        let text = [r#"half":"tool_use"}"#, &call("a", 900_000), result, &call("b", 600_000)];
        assert_eq!(under_way(&text.join("\n")), Some(Duration::from_secs(600)));
        assert_eq!(under_way(&text[..3].join("\n")), None);
        assert_eq!(under_way("{\"tool_use\": 1}\n\"tool_\""), None);
    }

    #[test]
    fn growth_changes_the_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p/s.jsonl");
        let pattern = at_home("~/*/s.jsonl", folder.path());
        assert_eq!((files(&pattern).len(), stamp(&files(&pattern))), (0, 0));
        std::fs::create_dir(folder.path().join("p")).unwrap();
        std::fs::write(&path, "a\n").unwrap();
        let before = stamp(&files(&pattern));
        std::fs::write(&path, "a\nb\n").unwrap();
        assert_ne!(stamp(&files(&pattern)), before);
    }
}
