//! Foreign text made harmless for a terminal or a table (S15).

/// `text` without control sequences and invisible tricks; line ends and tabs stay.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\u{1b}' => match rest.next() {
                Some('[') => skip_csi(&mut rest),
                Some(']' | 'P' | 'X' | '^' | '_') => skip_string(&mut rest),
                // Designations of character sets take one character more.
                Some('(' | ')' | '*' | '+' | '#' | '%') => {
                    rest.next();
                }
                // What was swallowed may have been a line's end.
                Some('\n') => out.push('\n'),
                _ => {}
            },
            '\u{9b}' => skip_csi(&mut rest),
            '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => skip_string(&mut rest),
            c if is_unsafe(c) => {}
            c => out.push(c),
        }
    }
    out
}

/// `text` on one line, at most `most` characters, with an ellipsis if cut.
pub fn one_line(text: &str, most: usize) -> String {
    let flat = printable(text).replace(['\n', '\t'], " ");
    let flat = flat.trim_end();
    if flat.chars().count() <= most {
        return flat.to_owned();
    }
    flat.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// JSON text in which what a terminal might act on is escaped; the same JSON.
/// Serialized JSON holds such characters only inside strings.
pub fn harmless_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && is_unsafe(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Control characters, and those that reorder or hide text.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}')
}

fn skip_csi(rest: &mut impl Iterator<Item = char>) {
    // Parameters and intermediates, up to one final character (ECMA-48, 5.4).
    // Anything else ends the sequence: a broken one must not swallow the text.
    for c in rest {
        if !('\u{20}'..='\u{3f}').contains(&c) {
            return;
        }
    }
}

fn skip_string(rest: &mut std::iter::Peekable<impl Iterator<Item = char>>) {
    // Up to BEL or ST (ECMA-48, 5.6). A string that never ends stops at the
    // line's end, so that it cannot hide the lines after it.
    while let Some(c) = rest.next_if(|c| *c != '\n') {
        match c {
            '\u{07}' | '\u{9c}' => return,
            '\u{1b}' => {
                rest.next_if_eq(&'\\');
                return;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Counts everything that a terminal would do other than show a character.
    #[derive(Default)]
    struct Acts(usize);

    impl vte::Perform for Acts {
        fn execute(&mut self, byte: u8) {
            if byte != b'\n' && byte != b'\t' {
                self.0 += 1;
            }
        }
        fn csi_dispatch(&mut self, _: &vte::Params, _: &[u8], _: bool, _: char) {
            self.0 += 1;
        }
        fn esc_dispatch(&mut self, _: &[u8], _: bool, _: u8) {
            self.0 += 1;
        }
        fn osc_dispatch(&mut self, _: &[&[u8]], _: bool) {
            self.0 += 1;
        }
        fn hook(&mut self, _: &vte::Params, _: &[u8], _: bool, _: char) {
            self.0 += 1;
        }
    }

    fn acts(text: &str) -> usize {
        let mut acts = Acts::default();
        vte::Parser::new().advance(&mut acts, text.as_bytes());
        acts.0
    }

    #[test]
    fn sequences_go_and_text_stays() {
        for (text, shown) in [
            ("\u{1b}[31mred\u{1b}[0m text", "red text"),
            ("\u{1b}]0;title\u{07}after", "after"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("a\rb\u{08}c", "abc"),
            ("\u{9b}2Jx", "x"),
            ("\u{1b}(Bx", "x"),
            ("\u{202e}txt.exe", "txt.exe"),
            ("\u{1b}]never ends\nnext line", "\nnext line"),
            ("tab\tand\nline", "tab\tand\nline"),
            ("grüße 你好", "grüße 你好"),
        ] {
            assert_eq!(printable(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_line_is_cut_where_people_see_it() {
        assert_eq!(one_line("one\ntwo\n", 20), "one two");
        assert_eq!(one_line("abcdef", 4), "abc…");
    }

    proptest! {
        #[test]
        fn nothing_acts_on_the_terminal(text in "[\\x00-\\x7f\u{80}-\u{a0}\u{2028}\u{202e}]{0,60}") {
            prop_assert_eq!(acts(&printable(&text)), 0);
            prop_assert_eq!(acts(&one_line(&text, 30)), 0);
        }

        #[test]
        fn json_stays_the_same_json(text in "[\\x00-\\x7f\u{80}-\u{a0}\u{2028}\u{202e}\u{e0041}]{0,60}") {
            let json = serde_json::json!({ "text": text }).to_string();
            let harmless = harmless_json(&json);
            prop_assert_eq!(acts(&harmless), 0);
            let back: serde_json::Value = serde_json::from_str(&harmless).unwrap();
            prop_assert_eq!(back["text"].as_str().unwrap(), text);
        }
    }
}
