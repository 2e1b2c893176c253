//! A prompt as it stands: its text so far, and what came of it.

use super::super::drive::blocking;
use super::super::providers::{Parser, Piece, PromptResult};
use super::super::rundir::RunDir;
use super::super::{Fleet, FleetError};
use super::{Format, ending};
use crate::model::{Principal, TaskId};

/// A prompt now.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptReport {
    pub provider: String,
    /// Once it is known.
    pub session_id: Option<String>,
    /// A part of the model's text, foreign.
    pub text: String,
    /// Bytes of text before that part.
    pub offset: u64,
    /// Bytes of text in all, so far.
    pub bytes: u64,
    /// Once it has ended.
    pub result: Option<PromptResult>,
}

/// The part of a text that was asked for.
struct Window {
    /// `None`: the last part.
    from: Option<u64>,
    most: usize,
    text: String,
    offset: u64,
    bytes: u64,
    session: Option<String>,
}

impl Fleet {
    /// The task as a prompt, with at most `most` bytes of its text from `offset`
    /// on, or of its end. `None` if it is a command.
    ///
    /// # Errors
    /// [`FleetError::NoTask`], or why it could not be read.
    pub async fn prompt_report(
        &self,
        principal: &Principal,
        id: TaskId,
        offset: Option<u64>,
        most: usize,
    ) -> Result<Option<PromptReport>, FleetError> {
        let task = self.task(principal, id).await?;
        let row = self.0.bus.store().read(move |snapshot| snapshot.prompt(id)).await?;
        let (Some(row), Some(run)) = (row, task.run) else { return Ok(None) };
        let result: Option<PromptResult> =
            row.result.as_deref().and_then(|json| serde_json::from_str(json).ok());
        let dir = self.0.run_dir(run);
        let path = dir.path().to_owned();
        let window = blocking(move || Window::of(&dir, offset, most))
            .await
            .map_err(|source| FleetError::Run { path, source })?;
        let report = PromptReport {
            provider: row.provider,
            session_id: window.session.or(row.session),
            text: window.text,
            offset: window.offset,
            bytes: window.bytes,
            result,
        };
        Ok(Some(report))
    }
}

impl Window {
    fn of(dir: &RunDir, from: Option<u64>, most: usize) -> std::io::Result<Self> {
        let offset = from.unwrap_or(0);
        let mut window = Self { from, most, text: String::new(), offset, bytes: 0, session: None };
        // Swept: nothing is left to be read.
        let format = dir.prompt().map_or(Format::Text, |prompt| prompt.format);
        let mut parser = Parser::new(format);
        ending::read(dir, &mut parser, |piece| match piece {
            Piece::Text(text) => window.add(&text),
            Piece::Session(id) => window.session = Some(id),
            Piece::Tool(_) => {}
        })?;
        Ok(window)
    }

    fn add(&mut self, text: &str) {
        let begin = self.bytes;
        self.bytes += text.len() as u64;
        match self.from {
            None => {
                self.text.push_str(text);
                if self.text.len() > self.most {
                    let cut = self.text.ceil_char_boundary(self.text.len() - self.most);
                    self.text.drain(..cut);
                }
                self.offset = self.bytes - self.text.len() as u64;
            }
            Some(from) => {
                let skip = usize::try_from(from.saturating_sub(begin)).unwrap_or(usize::MAX);
                let text = &text[text.ceil_char_boundary(skip.min(text.len()))..];
                let room = self.most.saturating_sub(self.text.len());
                // Nothing after what did not fit: the part has no holes.
                let fits = text.floor_char_boundary(room.min(text.len()));
                self.text.push_str(&text[..fits]);
                if fits < text.len() {
                    self.most = self.text.len();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: Option<u64>, most: usize) -> (String, u64, u64) {
        let mut window = Window {
            from,
            most,
            text: String::new(),
            offset: from.unwrap_or(0),
            bytes: 0,
            session: None,
        };
        ["ab", "é", "€c", "d"].into_iter().for_each(|text| window.add(text));
        (window.text, window.offset, window.bytes)
    }

    #[test]
    fn a_part_of_the_text_is_whole_characters() {
        assert_eq!(window(None, 99), ("abé€cd".into(), 0, 9));
        assert_eq!(window(None, 4), ("cd".into(), 7, 9));
        assert_eq!(window(Some(2), 99), ("é€cd".into(), 2, 9));
        assert_eq!(window(Some(2), 4), ("é".into(), 2, 9));
        assert_eq!(window(Some(9), 4), (String::new(), 9, 9));
    }
}
