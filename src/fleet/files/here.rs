//! Sources on this machine, and copying from one of its folders to another.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{TransferError, shown};
use super::far::OPTIONS;
use super::folder::{self, Folder, Sink};
use super::plan::{Limits, OWN, Plan, PlannedFile, join};
use super::progress::Progress;
use super::receive::usual;

/// The most bytes of a file in which tokens are replaced, and of all together.
const MOST_REPLACED: u64 = 16 * 1024 * 1024;

/// Where files come from on this machine.
pub struct Sources {
    pub folders: Vec<Folder>,
    /// Numbers of the folders.
    known: HashMap<PathBuf, usize>,
    /// Files with their tokens replaced; removed when dropped.
    replaced: Option<tempfile::TempDir>,
}

/// What to look for on this machine.
pub struct Wanted {
    pub paths: Vec<PathBuf>,
    /// Only below this folder, if there is one; its path has no links.
    pub within: Option<PathBuf>,
    /// Where it goes, below the destination's root.
    pub base: String,
    pub limits: Limits,
    pub folds: bool,
    pub substitutions: BTreeMap<String, String>,
}

/// Notes what `wanted` means now.
pub fn plan(wanted: &Wanted) -> Result<(Plan, Sources), TransferError> {
    let mut plan = Plan::new(wanted.limits, wanted.folds, &wanted.base)?;
    let mut sources = Sources { folders: Vec::new(), known: HashMap::new(), replaced: None };
    for path in &wanted.paths {
        for found in expand(path)? {
            sources.take(&found, wanted, &mut plan)?;
        }
    }
    if !wanted.substitutions.is_empty() {
        sources.replace(&wanted.substitutions, &mut plan)?;
    }
    Ok((plan, sources))
}

/// What a path or a pattern stands for. A file that is called like a pattern is
/// meant when it is there.
fn expand(path: &Path) -> Result<Vec<PathBuf>, TransferError> {
    let text = path.display().to_string();
    if path.symlink_metadata().is_ok() || !text.contains(['*', '?', '[']) {
        return Ok(vec![path.to_owned()]);
    }
    let bad = |_| TransferError::Path { path: shown(&text), problem: "is no pattern" };
    let found: Vec<_> = glob::glob_with(&text, OPTIONS).map_err(bad)?.flatten().collect();
    if found.is_empty() { Err(TransferError::NotFound(shown(&text))) } else { Ok(found) }
}

impl Sources {
    /// Notes one file or folder that was named: a link is followed here, once,
    /// as its namer wished.
    fn take(&mut self, path: &Path, wanted: &Wanted, plan: &mut Plan) -> Result<(), TransferError> {
        let text = path.display().to_string();
        let failed = |error| TransferError::io("finding", &text, &error);
        let real = path.canonicalize().map_err(failed)?;
        if wanted.within.as_ref().is_some_and(|within| !real.starts_with(within)) {
            return Err(TransferError::Outside(shown(&text)));
        }
        let named = path.file_name().or(real.file_name()).unwrap_or_default();
        let name = named.to_string_lossy().into_owned();
        if !plan.wants(&wanted.base, &name) {
            return Err(TransferError::Path { path: shown(&text), problem: "cannot be sent" });
        }
        if real.is_dir() {
            let root = self.folder(&real)?;
            return self.folders[root].clone().walk(root, "", &join(&wanted.base, &name), plan);
        }
        let root = self.folder(real.parent().unwrap_or(Path::new("/")))?;
        let from = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let found = self.folders[root].find(&from)?;
        let (bytes, mode, changed) = (found.bytes, found.mode, found.changed);
        plan.file(&wanted.base, PlannedFile { root, from, dir: 0, name, bytes, mode, changed })
    }

    fn folder(&mut self, path: &Path) -> Result<usize, TransferError> {
        if let Some(number) = self.known.get(path) {
            return Ok(*number);
        }
        let text = path.display().to_string();
        let folder =
            Folder::open(path).map_err(|error| TransferError::io("opening", &text, &error))?;
        self.folders.push(folder);
        self.known.insert(path.to_owned(), self.folders.len() - 1);
        Ok(self.folders.len() - 1)
    }

    /// Replaces `{{TOKEN}}` in every file, in copies that only we can read.
    fn replace(
        &mut self,
        values: &BTreeMap<String, String>,
        plan: &mut Plan,
    ) -> Result<(), TransferError> {
        let failed = |error| TransferError::io("writing", "a copy", &error);
        let copies = tempfile::Builder::new().prefix("fleetd-").tempdir().map_err(failed)?;
        let root = self.folder(copies.path())?;
        let mut total = 0;
        for (number, file) in plan.files.iter_mut().enumerate() {
            total += file.bytes;
            if total > MOST_REPLACED {
                let what = "bytes of files with substitutions";
                return Err(TransferError::Quota { what, most: MOST_REPLACED });
            }
            let mut text = Vec::new();
            let found = self.folders[file.root].find(&file.from)?;
            let piece = |piece: bytes::Bytes| {
                text.extend_from_slice(&piece);
                true
            };
            folder::read(found, &file.from, (0, file.bytes), |_| true, piece)?;
            let text = replaced(&text, values)
                .map_err(|token| TransferError::Token { path: shown(&file.from), token })?;
            let name = number.to_string();
            Sink::begin(&self.folders[root], &name)?.write(&text)?;
            (file.root, file.from, file.bytes) = (root, name, text.len() as u64);
        }
        plan.total.bytes = plan.files.iter().map(|file| file.bytes).sum();
        self.replaced = Some(copies);
        Ok(())
    }
}

/// `text` with the values in place of their tokens.
///
/// # Errors
/// With the name of a token that has no value.
fn replaced(text: &[u8], values: &BTreeMap<String, String>) -> Result<Vec<u8>, String> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"{{") {
        result.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let inner = &rest[2..];
        let end = inner.iter().position(|byte| !is_named(*byte)).unwrap_or(inner.len());
        let name = String::from_utf8_lossy(&inner[..end]).into_owned();
        let token = is_name(&name) && inner[end..].starts_with(b"}}");
        if token {
            let value = values.get(&name).ok_or(name)?;
            result.extend_from_slice(value.as_bytes());
            rest = &inner[end + 2..];
        } else {
            result.extend_from_slice(&rest[..1]);
            rest = &rest[1..];
        }
    }
    result.extend_from_slice(rest);
    Ok(result)
}

fn is_named(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether a token can be called so.
pub fn is_name(name: &str) -> bool {
    let begins = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    name.as_bytes().first().is_some_and(begins) && name.bytes().all(is_named)
}

/// Copies the plan's files to `dest`, checks each where it has arrived, and
/// puts it in its place. Ends early when `progress` is told to stop.
pub fn copy(
    plan: &Plan,
    sources: &Sources,
    dest: &Path,
    umask: u32,
    progress: &Arc<Progress>,
) -> Result<(), TransferError> {
    let text = dest.display().to_string();
    let mode = 0o777 & !umask;
    let root = Folder::make(dest, mode)
        .map_err(|error| TransferError::io("making the folder", &text, &error))?;
    let stage_name = format!("{OWN}{}", plan.key(&text));
    let outcome = copy_by(plan, sources, &root, &stage_name, umask, progress);
    root.clear(&stage_name);
    outcome
}

fn copy_by(
    plan: &Plan,
    sources: &Sources,
    root: &Folder,
    stage_name: &str,
    umask: u32,
    progress: &Arc<Progress>,
) -> Result<(), TransferError> {
    for dir in plan.dirs.iter().filter(|dir| !dir.is_empty()) {
        root.make_dir(dir, 0o777 & !umask)?;
    }
    root.make_dir(stage_name, 0o700)?;
    let stage = root.enter(stage_name)?;
    let staged = "part";
    for (number, file) in plan.files.iter().enumerate() {
        let path = plan.path(file);
        progress.current(Some(&path));
        let mut sink = Sink::begin(&stage, staged)?;
        let mut written = Ok(());
        let found = sources.folders[file.root].find(&file.from)?;
        let hash = folder::read(
            found,
            &file.from,
            (0, file.bytes),
            |_| true,
            |piece| {
                progress.add(piece.len() as u64);
                written = sink.write(&piece);
                written.is_ok() && !progress.is_stopped()
            },
        )?;
        written?;
        let Some(hash) = hash else { return Err(TransferError::Stopped) };
        sink.finish(usual(file.mode, umask))?;
        let arrived = stage.find(staged)?;
        let bytes = arrived.bytes;
        let again = folder::read(arrived, &path, (0, bytes), |_| true, |_| true)?;
        if again.as_ref() != Some(&hash) {
            return Err(TransferError::Mismatch(shown(&path)));
        }
        root.place(&stage, staged, &path)?;
        progress.placed(number as u64 + 1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_replaced_and_missing_ones_named() {
        let values = BTreeMap::from([("A".to_owned(), "x".to_owned())]);
        let is =
            |text: &str| replaced(text.as_bytes(), &values).map(|b| String::from_utf8(b).unwrap());
        assert_eq!(is("{{A}}-{{A}}").unwrap(), "x-x");
        // Not ours: secrets, other templates, half tokens.
        for same in ["{{secure.A}}", "{{ A }}", "{{A}", "{{1}}", "{{", "{{{"] {
            assert_eq!(is(same).unwrap(), same);
        }
        assert_eq!(is("{{{A}}}").unwrap(), "{x}");
        assert_eq!(is("{{B}}").unwrap_err(), "B");
        assert_eq!(replaced(b"\xff{{A}}\0", &values).unwrap(), b"\xffx\0");
    }
}
