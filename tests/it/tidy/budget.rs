//! Lengths, heads, and words that must not be in the source.

use super::source::Source;

/// Lines of one file without its tests.
const FILE_LINES: usize = 400;

/// Lines of one function, from `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;

/// Files and functions that are too long.
pub fn too_long(file: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = file.shipped().lines().count();
    if lines > FILE_LINES {
        findings.push(format!("{}: {lines} lines without tests, {FILE_LINES} at most", file.path));
    }
    for (offset, name, body) in functions(&file.code) {
        let lines = file.code[offset..body.end].lines().count();
        if lines > FUNCTION_LINES {
            let place = file.at(offset);
            findings.push(format!("{place}: {name} has {lines} lines, {FUNCTION_LINES} at most"));
        }
    }
    findings
}

/// Files that do not begin with what they are.
pub fn headless(file: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    if !file.text.starts_with("//! ") {
        findings.push(format!("{}: has no `//!` head", file.path));
    }
    if file.path.ends_with("/mod.rs") {
        findings.push(format!("{}: write foo.rs beside foo/", file.path));
    }
    findings
}

/// What is called done and is not, and warnings that were switched off without a reason.
pub fn unfinished(file: &Source) -> Vec<String> {
    // Put together here, so that this file does not find itself.
    let in_text = [["FIX", "ME"].concat(), ["XX", "X"].concat(), ["SKELE", "TON"].concat()];
    let in_code = ["todo!", "unimplemented!", "#[ignore", "allow(dead_code", "expect(dead_code"];
    let texts = in_text.iter().map(|word| (word.as_str(), &file.text));
    let codes = in_code.iter().map(|word| (*word, &file.code));
    let mut findings = Vec::new();
    for (word, text) in texts.chain(codes) {
        findings.extend(text.match_indices(word).map(|(at, _)| format!("{}: {word}", file.at(at))));
    }
    for opening in ["[allow(", "[expect("] {
        for (at, _) in file.code.match_indices(opening) {
            let attribute = file.code[at..].split(']').next().unwrap_or_default();
            if !attribute.contains("reason") {
                findings.push(format!("{}: a silenced lint needs a reason", file.at(at)));
            }
        }
    }
    findings
}

/// Waits for a time. Waiting for a condition is the business of one file.
pub fn sleeps(file: &Source) -> Vec<String> {
    if file.path == "tests/it/support/wait.rs" {
        return Vec::new();
    }
    let found = ["sleep(", "sleep_until(", "park_timeout("].into_iter().flat_map(|word| {
        let matches = file.code.match_indices(word);
        matches.map(|(at, word)| format!("{}: {word}…) instead of a condition", file.at(at)))
    });
    // A test may well run `sleep 60` as a command; that stands in a literal.
    found.collect()
}

/// Printing outside the places that print: one for people, and one whose
/// standard output is the protocol's pipe.
pub fn prints(file: &Source) -> Vec<String> {
    if ["src/cli/output.rs", "src/daemon/stdio.rs"].contains(&file.path.as_str()) {
        return Vec::new();
    }
    let words = ["print!(", "println!(", "eprint!(", "eprintln!(", "io::stdout()", "dbg!("];
    let found = words.into_iter().flat_map(|word| {
        let matches = file.shipped().match_indices(word);
        // `println!(` holds no `print!(`, but `eprint!(` does.
        let whole = matches.filter(|(at, _)| !file.code[..*at].ends_with(char::is_alphanumeric));
        whole.map(|(at, word)| format!("{}: {word}…) belongs to cli/output.rs", file.at(at)))
    });
    found.collect()
}

/// Every function with a body: where it begins, its name, and its body's bytes.
fn functions(code: &str) -> Vec<(usize, &str, std::ops::Range<usize>)> {
    let mut found = Vec::new();
    for (offset, _) in code.match_indices("fn ") {
        if code[..offset].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let name = code[offset + 3..].split(|c: char| !c.is_alphanumeric() && c != '_').next();
        let name = name.filter(|name| !name.is_empty());
        // A signature ends at its body or, in a trait, at a semicolon; an array
        // type in it (`[u8; 4]`) holds one too.
        if let (Some(name), Some(body)) = (name, body(code, offset)) {
            found.push((offset, name, body));
        }
    }
    found
}

/// The braces of the function that begins at `offset`.
fn body(code: &str, offset: usize) -> Option<std::ops::Range<usize>> {
    let (mut brackets, mut braces, mut begin) = (0_i32, 0_i32, None);
    for (at, byte) in code.bytes().enumerate().skip(offset) {
        match byte {
            b'(' | b'[' if begin.is_none() => brackets += 1,
            b')' | b']' if begin.is_none() => brackets -= 1,
            b';' if begin.is_none() && brackets == 0 => return None,
            b'{' => {
                begin = begin.or(Some(at));
                braces += 1;
            }
            b'}' => {
                braces -= 1;
                if braces <= 0 {
                    return begin.map(|begin| begin..at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Source {
        Source::new("src/x.rs", text)
    }

    #[test]
    fn finds_a_long_file_but_not_long_tests() {
        let long = "//! x\n".repeat(FILE_LINES + 1);
        assert_eq!(too_long(&file(&long)).len(), 1);
        let tests = format!("//! x\n#[cfg(test)]\nmod tests {{\n{long}}}");
        assert_eq!(too_long(&file(&tests)), [""; 0]);
        let hidden = format!("//! x\n#[cfg(test)]\nuse x;\n{long}");
        assert_eq!(too_long(&file(&hidden)).len(), 1, "only a test module at the end is left out");
    }

    #[test]
    fn finds_a_long_function() {
        let of = |lines: usize| {
            format!(
                "trait T {{ fn a(x: [u8; 4]); }}\nfn b() -> [u8; 2] {{\n{}}}\nfn c() {{}}",
                "x;\n".repeat(lines)
            )
        };
        assert_eq!(too_long(&file(&of(FUNCTION_LINES - 2))), [""; 0]);
        let found = too_long(&file(&of(FUNCTION_LINES - 1)));
        assert_eq!(found, ["src/x.rs:2: b has 71 lines, 70 at most"]);
    }

    #[test]
    fn finds_a_file_without_a_head() {
        assert_eq!(headless(&file("use a;\n")).len(), 1);
        assert_eq!(headless(&file("//! A head.\n")), [""; 0]);
        assert_eq!(headless(&Source::new("src/a/mod.rs", "//! x\n")).len(), 1);
    }

    #[test]
    fn finds_what_is_unfinished_or_silenced() {
        let bad = ["fn f() { todo!() }", "#[ignore]", "#[allow(dead_code)]", "#[allow(clippy::x)]"];
        for text in bad {
            assert!(!unfinished(&file(text)).is_empty(), "{text}");
        }
        let mark = ["// FIX", "ME later"].concat();
        assert_eq!(unfinished(&file(&mark)).len(), 1);
        assert_eq!(unfinished(&file("#[expect(clippy::x, reason = \"y\")]")), [""; 0]);
    }

    #[test]
    fn finds_sleeps_and_prints() {
        for text in ["thread::sleep(x)", "tokio::time::sleep(x).await", "park_timeout(x)"] {
            assert_eq!(sleeps(&file(text)).len(), 1, "{text}");
        }
        assert_eq!(sleeps(&file("run(\"sleep(1)\") // sleep(1)")), [""; 0]);
        for text in ["println!(\"x\")", "eprint!(\"x\")", "std::io::stdout()"] {
            assert_eq!(prints(&file(text)).len(), 1, "{text}");
        }
        assert_eq!(prints(&Source::new("src/cli/output.rs", "println!(\"x\")")), [""; 0]);
    }
}
