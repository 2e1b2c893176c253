//! Arguments as words of a POSIX shell (POSIX.1-2024, XCU 2.2).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A shell line that becomes exactly this program with exactly these arguments.
///
/// `exec` makes the command itself the process that runs, so its signal and
/// its status are told apart, and no builtin of the shell stands in for it.
pub fn command_line<S: AsRef<OsStr>>(argv: &[S]) -> String {
    let words: Vec<_> = argv.iter().map(|word| quoted(word.as_ref().as_bytes())).collect();
    format!("exec {}", words.join(" "))
}

/// One word of a shell line.
pub fn word(word: &str) -> String {
    quoted(word.as_bytes())
}

/// A command line as people typed it.
pub fn for_people(command: &str) -> &str {
    command.strip_prefix("exec ").unwrap_or(command)
}

/// One word. Bytes that are not UTF-8 cannot stand in JSON, so the shell's own
/// `printf` makes them; none of them is a newline, which `$(…)` would drop.
fn quoted(word: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"@%+=:,./-_".contains(byte);
    if !word.is_empty() && word.iter().all(plain) && !word.contains(&b'=') {
        return String::from_utf8_lossy(word).into_owned();
    }
    let mut out = String::new();
    for chunk in word.utf8_chunks() {
        if !chunk.valid().is_empty() {
            out.push_str(&format!("'{}'", chunk.valid().replace('\'', r"'\''")));
        }
        if !chunk.invalid().is_empty() {
            let octal: String =
                chunk.invalid().iter().map(|byte| format!("\\{byte:03o}")).collect();
            out.push_str(&format!("\"$(printf '{octal}')\""));
        }
    }
    if out.is_empty() { "''".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::process::Command;

    fn through_sh(argv: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut line: Vec<OsString> = vec!["printf".into(), "%s\\0".into()];
        line.extend(argv.iter().cloned().map(OsString::from_vec));
        let output = Command::new("sh").arg("-c").arg(command_line(&line)).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut words: Vec<_> =
            output.stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        assert_eq!(words.pop(), Some(Vec::new()));
        words
    }

    #[test]
    fn plain_words_stay_readable() {
        let argv = ["make", "-j2", "a b", "it's", "", "X=1", "src/*.rs"];
        let line = command_line(&argv);
        assert_eq!(line, r"exec make -j2 'a b' 'it'\''s' '' 'X=1' 'src/*.rs'");
        assert_eq!(for_people(&line), &line[5..]);
    }

    #[test]
    fn every_byte_but_nul_arrives() {
        let all: Vec<u8> = (1..=255).collect();
        let singles = (1..=255_u8).map(|byte| vec![byte]);
        let argv: Vec<_> = std::iter::once(all).chain(singles).collect();
        assert_eq!(through_sh(&argv), argv);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_argument_arrives(argv in prop::collection::vec(prop::collection::vec(1u8..=255, 0..12), 1..8)) {
            prop_assert_eq!(through_sh(&argv), argv);
        }
    }
}
