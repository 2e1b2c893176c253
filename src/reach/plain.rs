//! Foreign text in our own sentences.

/// `text` without control characters, of at most `most` characters.
pub(super) fn plain(text: &str, most: usize) -> String {
    let kept = text.trim().chars().filter(|c| !c.is_control() && !is_direction(*c));
    kept.take(most).collect()
}

/// Marks that turn the direction of what follows.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
