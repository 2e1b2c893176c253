//! The member's side of a transfer: its files by SFTP, its `sh` for the rest.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::{TransferError, shown};
use super::plan::{Plan, PlannedFile, join, relative};
use super::script::{self, Said};
use crate::fleet::MemberHandle;
use crate::reach::{Entry, EntryKind, Files, Limits, Link, Put, Stat};

/// How long a member may be away at the start, and in the middle.
const FIRST_PATIENCE: Duration = Duration::from_secs(20);
pub const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// A script that computes nothing is given up after this.
const SHORT: Duration = Duration::from_secs(30);

/// Bytes a second that any machine hashes.
const SLOWEST_HASH: u64 = 10 * 1024 * 1024;

/// Bytes of an answer: hashes of a batch and then some.
const MOST_ANSWER: usize = 256 * 1024;

/// Work folders of a member by its `sh` and its SFTP, over the link it has now.
pub struct Far {
    handle: Arc<MemberHandle>,
}

impl Far {
    pub fn new(handle: Arc<MemberHandle>) -> Self {
        Self { handle }
    }

    /// The link once it is up.
    ///
    /// # Errors
    /// [`TransferError::Unreachable`] after `patience`, or if it is no member any more.
    pub async fn up(&self, again: bool) -> Result<Link, TransferError> {
        let gone = || TransferError::Unreachable(String::from("it is no member any more"));
        let link = self.handle.link().ok_or_else(gone)?;
        let mut state = link.state();
        if !again {
            link.hurry();
        }
        let patience = if again { PATIENCE } else { FIRST_PATIENCE };
        let up = tokio::time::timeout(patience, state.wait_for(|state| state.is_up()));
        let removed = self.handle.gone();
        let outcome = tokio::select! {
            up = up => match up {
                Ok(Ok(_)) => Some(()),
                Ok(Err(_)) => return Err(gone()),
                Err(_) => None,
            },
            () = removed.cancelled() => return Err(gone()),
        };
        match outcome {
            Some(()) => Ok(link),
            None => Err(TransferError::Unreachable(shown(&link.state().borrow().reason))),
        }
    }

    /// The link, if it is up now.
    pub fn now(&self) -> Option<Link> {
        self.handle.link().filter(|link| link.state().borrow().is_up())
    }

    pub fn work_folder(&self) -> String {
        self.handle.member().work_folder.clone()
    }
}

/// Runs a script of ours; `bytes` is what it has to hash.
pub async fn sh(link: &Link, script: String, bytes: u64) -> Result<Said, TransferError> {
    let deadline = SHORT + Duration::from_secs(bytes / SLOWEST_HASH);
    let limits = Limits { deadline, most_output: MOST_ANSWER };
    let answer = link.ask("exec sh", Bytes::from(script), limits).await?;
    script::read(&answer.stdout)
}

/// Notes what `paths` mean below `root`: files, folders and patterns.
pub async fn plan(
    files: &Files,
    root: &str,
    work_folder: &str,
    paths: &[String],
    plan: &mut Plan,
) -> Result<(), TransferError> {
    for path in paths {
        // A work folder may be named through a link.
        let path = below(root, path).or_else(|_| below(work_folder, path))?;
        let mut found = Vec::new();
        expand(files, root, &path, &mut found).await?;
        if found.is_empty() {
            return Err(TransferError::NotFound(shown(&path)));
        }
        for from in found {
            take(files, root, &from, plan).await?;
        }
    }
    Ok(())
}

/// A path of the caller's, relative to the work folder.
fn below(root: &str, path: &str) -> Result<String, TransferError> {
    let inside = match path.strip_prefix(root) {
        Some(rest) if root != "/" && (rest.is_empty() || rest.starts_with('/')) => {
            rest.trim_start_matches('/')
        }
        _ => path,
    };
    relative(inside)
}

fn whole(root: &str, path: &str) -> String {
    let root = root.trim_end_matches('/');
    if path.is_empty() && root.is_empty() {
        return String::from("/");
    }
    if path.is_empty() { root.to_owned() } else { format!("{root}/{path}") }
}

/// Folders that match the names of a path so far, name by name.
async fn expand(
    files: &Files,
    root: &str,
    path: &str,
    found: &mut Vec<String>,
) -> Result<(), TransferError> {
    // What is there under just this name is meant, whatever it looks like.
    if files.stat_link(&whole(root, path)).await.is_ok() {
        found.push(path.to_owned());
        return Ok(());
    }
    let mut at = vec![String::new()];
    for name in path.split('/') {
        if !name.contains(['*', '?', '[']) {
            at.iter_mut().for_each(|dir| *dir = join(dir, name));
            continue;
        }
        let bad = |_| TransferError::Path { path: shown(path), problem: "is no pattern" };
        let pattern = glob::Pattern::new(name).map_err(bad)?;
        let mut next = Vec::new();
        for dir in at {
            // A file among the folders that match is none to look into.
            let Ok(entries) = list(files, root, &dir).await else { continue };
            let names = entries.into_iter().map(|entry| entry.name);
            let matching = names.filter(|entry| pattern.matches_with(entry, OPTIONS));
            next.extend(matching.map(|entry| join(&dir, &entry)));
        }
        next.sort_unstable();
        at = next;
    }
    for path in at {
        if files.stat_link(&whole(root, &path)).await.is_ok() {
            found.push(path);
        }
    }
    Ok(())
}

pub const OPTIONS: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

async fn list(files: &Files, root: &str, dir: &str) -> Result<Vec<Entry>, TransferError> {
    let mut entries = files.list(&whole(root, dir)).await?;
    entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// Notes one file or folder, wherever links lead as long as it is below `root`.
async fn take(files: &Files, root: &str, from: &str, plan: &mut Plan) -> Result<(), TransferError> {
    let real = files.real_path(&whole(root, from)).await?;
    let inside = real.strip_prefix(root.trim_end_matches('/'));
    let Some(inside) = inside.filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
        return Err(TransferError::Outside(shown(from)));
    };
    let inside = relative(inside.trim_start_matches('/'))?;
    let stat = files.stat_link(&real).await?;
    // `.` is called what the folder is called.
    let named = if from.is_empty() { real.as_str() } else { from };
    let name = super::folder::split(named).1.to_owned();
    if !plan.wants("", &name) {
        return Ok(());
    }
    match stat.kind {
        EntryKind::File => plan.file("", file(inside, name, stat)),
        EntryKind::Dir => walk(files, root, inside, name, plan).await,
        _ => Err(TransferError::Path { path: shown(from), problem: "is no plain file" }),
    }
}

async fn walk(
    files: &Files,
    root: &str,
    from: String,
    dest: String,
    plan: &mut Plan,
) -> Result<(), TransferError> {
    let mut folders = vec![(from, dest)];
    while let Some((from, dest)) = folders.pop() {
        plan.dir(&dest)?;
        for entry in list(files, root, &from).await? {
            let (name, stat) = (entry.name, entry.stat);
            if !plan.wants(&dest, &name) {
                continue;
            }
            let (below, named) = (join(&from, &name), join(&dest, &name));
            match stat.kind {
                EntryKind::Dir => folders.push((below, named)),
                EntryKind::File => plan.file(&dest, file(below, name, stat))?,
                EntryKind::Link => plan.skip(&named, "is a link"),
                EntryKind::Other => plan.skip(&named, "is no plain file"),
            }
        }
    }
    Ok(())
}

fn file(from: String, name: String, stat: Stat) -> PlannedFile {
    let since = stat.modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    PlannedFile {
        root: 0,
        from,
        dir: 0,
        name,
        bytes: stat.bytes,
        mode: stat.mode & 0o777,
        changed: since.map_or(0, |since| since.as_secs()),
    }
}

/// Where the file of this path lies on the member.
pub fn path(root: &str, file: &PlannedFile) -> String {
    whole(root, &file.from)
}

/// How a part of a file is opened in the stage.
pub fn put(file: &PlannedFile, offset: u64) -> Put {
    // Ours to write in any case; no bit that lets it run as somebody else.
    Put { offset, mode: file.mode & 0o777 | 0o600, exclusive: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_caller_are_below_the_work_folder() {
        assert_eq!(below("/w", "/w/a/b").unwrap(), "a/b");
        assert_eq!(below("/w", "a").unwrap(), "a");
        assert_eq!(below("/w", "/w").unwrap(), "");
        for bad in ["/wide", "/etc/passwd", "../x", "/w/../x", "a/../../x"] {
            assert!(below("/w", bad).is_err(), "{bad}");
        }
        assert_eq!((whole("/", "a"), whole("/w", "")), ("/a".to_owned(), "/w".to_owned()));
    }
}
