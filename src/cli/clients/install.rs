//! Setting a client up, and taking that back: the files themselves.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;
use similar::TextDiff;

use super::record::{self, Patch, Undone};
use super::{Client, edit};

/// A change that is about to be made.
pub struct Change {
    /// The file itself, links followed.
    path: PathBuf,
    before: Option<String>,
    /// `None`: the file is to go.
    after: Option<String>,
    patch: Option<Patch>,
    place: PathBuf,
}

/// A file that is made: it may come to hold secrets.
const NEW: u32 = 0o600;

impl Change {
    /// Our entry in `path`.
    ///
    /// # Errors
    /// If the file cannot be read for certain.
    pub fn install(
        client: Client,
        path: &Path,
        state: &Path,
        entry: &Value,
    ) -> anyhow::Result<Self> {
        let (path, before) = read(path)?;
        let place = record::place(state, &path);
        let text = before.clone().unwrap_or_default();
        // What was installed before is taken back first, so that the patch leads
        // to what the file was before us.
        let clean = without(client, &path, &text, &place)?;
        let base = match &clean {
            Some(None) => None,
            Some(Some(clean)) => Some(clean.clone()),
            None => before.clone(),
        };
        let after = edit::set(
            client.form(),
            base.as_deref().unwrap_or_default(),
            client.container(),
            entry,
        )
        .with_context(|| format!("left '{}' alone", path.display()))?;
        let patch = Some(Patch::between(base.as_deref(), &after));
        Ok(Self { path, before, after: Some(after), patch, place })
    }

    /// The file without our entry; `None` if it has none.
    ///
    /// # Errors
    /// As [`Change::install`].
    pub fn uninstall(client: Client, path: &Path, state: &Path) -> anyhow::Result<Option<Self>> {
        let (path, before) = read(path)?;
        let Some(text) = before else { return Ok(None) };
        let place = record::place(state, &path);
        let Some(after) = without(client, &path, &text, &place)? else { return Ok(None) };
        Ok(Some(Self { path, before: Some(text), after, patch: None, place }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.before == self.after
    }

    /// The change as a unified diff; `secret` is not shown.
    pub fn diff(&self, secret: Option<&str>) -> String {
        let hide = |text: &Option<String>| {
            let text = text.clone().unwrap_or_default();
            secret.map_or(text.clone(), |secret| text.replace(secret, "<token>"))
        };
        let (before, after) = (hide(&self.before), hide(&self.after));
        let name = self.path.display().to_string();
        TextDiff::from_lines(&before, &after).unified_diff().header(&name, &name).to_string()
    }

    /// Makes the change, in one step.
    ///
    /// # Errors
    /// If the file cannot be written; then it is as it was.
    pub fn apply(&self) -> anyhow::Result<()> {
        match &self.patch {
            Some(patch) => record::write(&self.place, patch)?,
            None => drop(std::fs::remove_file(&self.place)),
        }
        let mode = std::fs::metadata(&self.path).map_or(NEW, |about| about.permissions().mode());
        match &self.after {
            Some(after) => record::write_file(&self.path, after, mode & 0o777),
            None => std::fs::remove_file(&self.path)
                .with_context(|| format!("cannot remove '{}'", self.path.display())),
        }
    }
}

/// `text` as it was before us: by the patch that was remembered, else by
/// removing our key. `Some(None)` if there was no file, `None` if we are not in it.
fn without(
    client: Client,
    path: &Path,
    text: &str,
    place: &Path,
) -> anyhow::Result<Option<Option<String>>> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let (form, container) = (client.form(), client.container());
    let alone = || format!("left '{}' alone", path.display());
    let removed = edit::remove(form, text, container).with_context(alone)?;
    let Some(removed) = removed else { return Ok(None) };
    match record::read(place).map(|patch| patch.undo(text)) {
        Some(Undone::NoFile) => Ok(Some(None)),
        // Only if that leaves a sound file without us.
        Some(Undone::Text(undone))
            if matches!(edit::remove(form, &undone, container), Ok(None)) =>
        {
            Ok(Some(Some(undone)))
        }
        _ => Ok(Some(Some(removed))),
    }
}

/// The file that `path` leads to, and its text, if there is one.
fn read(path: &Path) -> anyhow::Result<(PathBuf, Option<String>)> {
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok((path.to_owned(), None));
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read '{}'", path.display()));
        }
    };
    let text = std::fs::read_to_string(&real)
        .with_context(|| format!("cannot read '{}'", real.display()))?;
    Ok((real, Some(text)))
}
