//! Plain text: all of it is the answer.

use super::Heard;

/// A character that was cut waits for its rest here.
#[derive(Default)]
pub struct Reader {
    cut: Vec<u8>,
}

impl Reader {
    pub fn bytes(&mut self, bytes: &[u8], heard: &mut Heard) {
        self.cut.extend_from_slice(bytes);
        let mut text = String::new();
        let mut used = 0;
        for chunk in self.cut.utf8_chunks() {
            text.push_str(chunk.valid());
            used += chunk.valid().len();
            let wrong = chunk.invalid();
            let at_end = used + wrong.len() == self.cut.len();
            let goes_on =
                std::str::from_utf8(wrong).is_err_and(|error| error.error_len().is_none());
            if at_end && goes_on {
                break;
            }
            if !wrong.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
            used += wrong.len();
        }
        self.cut.drain(..used);
        told(&text, heard);
    }

    pub fn end(&mut self, heard: &mut Heard) {
        let rest = String::from_utf8_lossy(&std::mem::take(&mut self.cut)).into_owned();
        told(&rest, heard);
    }
}

fn told(text: &str, heard: &mut Heard) {
    heard.text(text);
    heard.answer.add(text);
}
