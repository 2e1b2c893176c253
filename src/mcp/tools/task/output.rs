//! Parts of a task's output as text.

use crate::mcp::tools::{Context, Failure};
use crate::model::{OutputStream, TaskId};
use crate::wire::tools::OutputText;

/// The last `most` bytes of a stream.
pub async fn tail(
    context: &Context,
    id: TaskId,
    stream: OutputStream,
    most: usize,
) -> Result<OutputText, Failure> {
    let fleet = &context.deps.fleet;
    let kept = fleet.output(context.principal(), id, stream, 0, 0).await?.kept;
    let offset = kept.saturating_sub(most as u64);
    read(context, id, stream, offset, most, offset > 0).await
}

/// At most `most` bytes of a stream from `offset` on.
pub async fn part(
    context: &Context,
    id: TaskId,
    stream: OutputStream,
    offset: u64,
    most: usize,
) -> Result<OutputText, Failure> {
    read(context, id, stream, offset, most, false).await
}

async fn read(
    context: &Context,
    id: TaskId,
    stream: OutputStream,
    offset: u64,
    most: usize,
    ragged: bool,
) -> Result<OutputText, Failure> {
    let page = context.deps.fleet.output(context.principal(), id, stream, offset, most).await?;
    let more = !page.ended || page.offset + (page.bytes.len() as u64) < page.kept;
    let (run_id, cut_bytes) = (page.run.to_string(), page.cut);
    Ok(OutputText { run_id, cut_bytes, ..text(&page.bytes, page.offset, ragged, more) })
}

/// Bytes as text. A character that is cut at a `ragged` beginning is left out;
/// one that is cut at the end waits for the next part, if `more` may come.
fn text(bytes: &[u8], offset: u64, ragged: bool, more: bool) -> OutputText {
    let skip = if ragged { continuation(bytes) } else { 0 };
    let end = if more { whole_end(bytes).max(skip) } else { bytes.len() };
    let shown = &bytes[skip..end];
    let text = String::from_utf8_lossy(shown);
    OutputText {
        run_id: String::new(),
        exact: matches!(text, std::borrow::Cow::Borrowed(_)),
        text: text.into_owned(),
        offset: offset + skip as u64,
        next_offset: offset + end as u64,
        cut_bytes: 0,
    }
}

/// Bytes at the beginning that belong to a character before it, at most three.
fn continuation(bytes: &[u8]) -> usize {
    let count = bytes.iter().take(4).take_while(|byte| **byte & 0xc0 == 0x80).count();
    // Four in a row are no character's rest, but foreign bytes: show them.
    if count > 3 { 0 } else { count }
}

/// Where the last whole character ends.
fn whole_end(bytes: &[u8]) -> usize {
    match std::str::from_utf8(&bytes[bytes.len().saturating_sub(3)..]) {
        Ok(_) => bytes.len(),
        Err(_) => {
            let begin = bytes.len().saturating_sub(3);
            // Look for the first byte of a character that needs more than is there.
            let cut = (begin..bytes.len()).find(|at| {
                let needs = match bytes[*at] {
                    0xc2..=0xdf => 2,
                    0xe0..=0xef => 3,
                    0xf0..=0xf4 => 4,
                    _ => 1,
                };
                at + needs > bytes.len()
            });
            cut.unwrap_or(bytes.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_cut_by_a_page_is_shown_once_and_whole() {
        let bytes = "aé€😀z".as_bytes();
        for cut in 0..=bytes.len() {
            let first = text(&bytes[..cut], 0, false, true);
            let rest = text(&bytes[first.next_offset as usize..], first.next_offset, false, false);
            assert_eq!(format!("{}{}", first.text, rest.text), "aé€😀z", "cut at {cut}");
            assert!(first.exact && rest.exact, "cut at {cut}");
        }
    }

    #[test]
    fn a_tail_begins_with_a_whole_character() {
        let bytes = "é€".as_bytes();
        let tail = text(&bytes[1..], 1, true, false);
        assert_eq!((tail.text.as_str(), tail.offset), ("€", 2));
        assert!(tail.exact);
    }

    #[test]
    fn foreign_bytes_are_flagged() {
        let shown = text(&[b'a', 0xff, b'b'], 0, false, false);
        assert_eq!((shown.text.as_str(), shown.exact), ("a\u{fffd}b", false));
        assert_eq!(shown.next_offset, 3);
    }
}
