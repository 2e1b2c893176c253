//! Rust files with comments and literals taken out, so that a rule looks at code.

use std::path::{Path, PathBuf};

/// A Rust file.
pub struct Source {
    /// Relative to the package, with `/`.
    pub path: String,
    pub text: String,
    /// The same lines with the content of comments and literals blanked.
    pub code: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: blank(text) }
    }

    /// The component of a file below `src`: its face's name; `None` for `lib.rs`.
    pub fn component(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        let name = rest.split('/').next()?.trim_end_matches(".rs");
        (name != "lib").then_some(name)
    }

    /// The code in front of the test module, which comes last or lies in `tests.rs` and `tests/`.
    pub fn shipped(&self) -> &str {
        let in_src = self.path.starts_with("src/");
        if in_src && (self.path.ends_with("/tests.rs") || self.path.contains("/tests/")) {
            return "";
        }
        const MARK: &str = "#[cfg(test)]";
        let begins_tests =
            |at: &usize| self.code[at + MARK.len()..].trim_start().starts_with("mod ");
        let end = self.code.match_indices(MARK).map(|(at, _)| at).find(begins_tests);
        &self.code[..end.unwrap_or(self.code.len())]
    }

    /// `path:line` of a byte offset of `code`.
    pub fn at(&self, offset: usize) -> String {
        format!("{}:{}", self.path, self.code[..offset].matches('\n').count() + 1)
    }
}

/// The package's folder.
pub fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, in a stable order.
pub fn sources_below(folder: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    collect(&package().join(folder), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source file is text");
        let name = path.strip_prefix(package()).expect("it lies below the package");
        Source::new(&name.display().to_string(), &text)
    };
    paths.into_iter().map(read).collect()
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Replaces comments and the content of string and character literals by
/// blanks; line breaks stay, so that positions stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => line_end(bytes, at),
            [b'/', b'*', ..] => comment_end(bytes, at),
            [b'"', ..] => string_end(bytes, at),
            [b'r' | b'b' | b'c', ..] if !after_word(bytes, at) => raw_end(bytes, at).unwrap_or(at),
            [b'\'', ..] => char_end(bytes, at).unwrap_or(at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("only whole literals and comments are blanked")
}

fn after_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

/// Block comments nest.
fn comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut here) = (0_usize, at);
    while here < bytes.len() {
        match &bytes[here..] {
            [b'/', b'*', ..] => (depth, here) = (depth + 1, here + 2),
            [b'*', b'/', ..] => (depth, here) = (depth - 1, here + 2),
            _ => here += 1,
        }
        if depth == 0 {
            break;
        }
    }
    here.min(bytes.len())
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut here = at + 1;
    while here < bytes.len() && bytes[here] != b'"' {
        here += if bytes[here] == b'\\' { 2 } else { 1 };
    }
    (here + 1).min(bytes.len())
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#` and their like, at their prefix.
fn raw_end(bytes: &[u8], at: usize) -> Option<usize> {
    let prefix = bytes[at..].iter().take(2).take_while(|byte| b"rbc".contains(byte)).count();
    let hashes = bytes[at + prefix..].iter().take_while(|byte| **byte == b'#').count();
    let open = at + prefix + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    if !bytes[at..at + prefix].contains(&b'r') {
        return Some(string_end(bytes, open));
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let length = bytes[open + 1..].windows(close.len()).position(|window| window == close)?;
    Some(open + 1 + length + close.len())
}

/// A character literal; `None` for a lifetime or a label.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = std::str::from_utf8(&bytes[at + 1..]).ok()?;
    let mut chars = rest.char_indices();
    let (_, first) = chars.next()?;
    if first == '\\' {
        let (_, escaped) = chars.next()?;
        let from = 1 + escaped.len_utf8();
        return Some(at + 1 + from + rest[from..].find('\'')? + 1);
    }
    let (next, quote) = chars.next()?;
    (quote == '\'').then_some(at + 1 + next + 1)
}

#[test]
fn blanks_comments_and_literals_only() {
    let text = r####"let a = "use crate::x"; // crate::y
let b = 'c'; let d: &'static str = r#"crate::"z""#; /* a /* b */ c */ let e = '\''; use crate::w;"####;
    let code = Source::new("src/x.rs", text).code;
    assert_eq!(code.matches("crate::").count(), 1, "{code}");
    assert!(code.contains("use crate::w;") && code.contains("'static str"), "{code}");
    assert_eq!(code.len(), text.len());
    assert_eq!(code.lines().count(), text.lines().count());
}
