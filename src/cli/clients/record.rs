//! What was changed in a client's file, so that it can be taken back exactly.
//!
//! A record is a patch, not a copy: other people's secrets stay where they are.
//! It still holds after the file was changed elsewhere.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A change of one place in one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// There was no file.
    pub created: bool,
    /// What stood there, and what stands there now.
    pub before: String,
    pub after: String,
}

/// What undoing a patch leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Undone {
    Text(String),
    /// The file was ours alone.
    NoFile,
    /// The place was changed since.
    Unsure,
}

impl Patch {
    pub fn between(before: Option<&str>, after: &str) -> Self {
        let created = before.is_none();
        let before = before.unwrap_or_default();
        let same = |a: char, b: char| a == b;
        let head: usize = before
            .chars()
            .zip(after.chars())
            .take_while(|(a, b)| same(*a, *b))
            .map(|(a, _)| a.len_utf8())
            .sum();
        let tail: usize = before[head..]
            .chars()
            .rev()
            .zip(after[head..].chars().rev())
            .take_while(|(a, b)| same(*a, *b))
            .map(|(a, _)| a.len_utf8())
            .sum();
        let middle = |text: &str| text[head..text.len() - tail].to_owned();
        Self { created, before: middle(before), after: middle(after) }
    }

    pub fn undo(&self, text: &str) -> Undone {
        if self.created && text == self.after {
            return Undone::NoFile;
        }
        let mut places = text.match_indices(&self.after);
        match (places.next(), places.next()) {
            (Some((at, found)), None) if !found.is_empty() => {
                let (head, tail) = (&text[..at], &text[at + found.len()..]);
                Undone::Text([head, &self.before, tail].concat())
            }
            _ => Undone::Unsure,
        }
    }
}

/// Where the patch of `file` is remembered.
pub fn place(state: &Path, file: &Path) -> PathBuf {
    let digest = Sha256::digest(file.as_os_str().as_encoded_bytes());
    let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    state.join("clients").join(format!("{name}.json"))
}

/// Remembers `patch`; it may hold a token, so it is the user's alone.
pub fn write(place: &Path, patch: &Patch) -> anyhow::Result<()> {
    write_file(place, &serde_json::to_string(patch)?, 0o600)
}

/// The patch that was remembered, if it can be read.
pub fn read(place: &Path) -> Option<Patch> {
    serde_json::from_str(&std::fs::read_to_string(place).ok()?).ok()
}

/// Replaces a file in one step.
pub fn write_file(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let cannot = || format!("cannot write '{}'", path.display());
    let folder = path.parent().with_context(cannot)?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(cannot)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(cannot)?;
    file.as_file().set_permissions(PermissionsExt::from_mode(mode)).with_context(cannot)?;
    file.write_all(text.as_bytes()).with_context(cannot)?;
    file.as_file().sync_all().with_context(cannot)?;
    file.persist(path).with_context(cannot)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_taken_back_even_after_other_changes() {
        let before = "{\n  \"a\": 1\n}\n";
        let after = "{\n  \"a\": 1,\n  \"fleet\": {}\n}\n";
        let patch = Patch::between(Some(before), after);
        assert_eq!(patch.undo(after), Undone::Text(before.into()));
        let later = after.replace("\"a\": 1", "\"a\": 2");
        assert_eq!(patch.undo(&later), Undone::Text(before.replace('1', "2")));
        assert_eq!(patch.undo("{}"), Undone::Unsure);
        let made = Patch::between(None, after);
        assert_eq!(made.undo(after), Undone::NoFile);
    }
}
