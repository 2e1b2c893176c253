//! Bytes to lines, however they are cut.

/// A longer line is passed over: the result of a tool may be as long as it likes.
const LONGEST: usize = 8 * 1024 * 1024;

/// The line that has not ended yet.
#[derive(Default)]
pub struct Lines {
    begun: Vec<u8>,
    /// The line that comes is too long, and is passed over to its end.
    passing: bool,
}

impl Lines {
    /// Hands every line that has ended to `take`, without its newline.
    pub fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..at], &rest[at + 1..]);
            rest = after;
            if std::mem::take(&mut self.passing) {
                continue;
            }
            if self.begun.is_empty() {
                take(line);
            } else {
                self.begun.extend_from_slice(line);
                take(&self.begun);
                self.begun.clear();
            }
        }
        if !self.passing {
            self.begun.extend_from_slice(rest);
        }
        if self.begun.len() > LONGEST {
            (self.begun, self.passing) = (Vec::new(), true);
        }
    }

    /// Hands over a last line that has no newline.
    pub fn end(&mut self, mut take: impl FnMut(&[u8])) {
        if !self.begun.is_empty() {
            take(&std::mem::take(&mut self.begun));
        }
    }
}
