//! What there is to copy, and under which names it will stand.

use std::collections::{BTreeMap, HashSet};

use sha2::{Digest, Sha256};

use super::error::{TransferError, shown};
use crate::model::{Amount, Transfer};

/// Bounds of one transfer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Files and folders together.
    pub entries: u64,
    pub bytes: u64,
}

/// Folders in folders: deeper than anything people make.
const DEPTH: usize = 64;

/// Names of our own below a destination begin like this.
pub const OWN: &str = ".fleetd-";

/// A file to copy. Paths have `/` between names and neither begin nor end with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedFile {
    /// Which of the sources' folders it lies in.
    pub root: usize,
    /// Below that folder.
    pub from: String,
    /// Number of the folder it goes to, in [`Plan::dirs`].
    pub dir: usize,
    pub name: String,
    pub bytes: u64,
    /// Permission bits of the source.
    pub mode: u32,
    /// Seconds since 1970 of its last change, where known.
    pub changed: u64,
}

/// Everything that one transfer copies.
#[derive(Debug)]
pub struct Plan {
    limits: Limits,
    /// Names that differ only by case are one at the destination.
    folds: bool,
    /// Folders below the destination's root; parents come first.
    pub dirs: Vec<String>,
    numbers: BTreeMap<String, usize>,
    pub files: Vec<PlannedFile>,
    taken: HashSet<String>,
    pub total: Amount,
    pub skipped: Vec<String>,
    pub skipped_count: u64,
}

/// A name that stands for itself in one folder.
pub fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !matches!(name, "." | "..")
        && !name.contains(['/', '\0'])
}

/// The names of a relative path that stays below where it begins.
///
/// # Errors
/// [`TransferError::Path`] for an absolute path, `..`, and what no file is called.
pub fn relative(path: &str) -> Result<String, TransferError> {
    let refused = |problem| Err(TransferError::Path { path: shown(path), problem });
    if path.starts_with('/') {
        return refused("is absolute; it has to be below the work folder");
    }
    let names: Vec<_> = path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if names.contains(&"..") {
        return refused("leaves its folder");
    }
    if names.len() > DEPTH || !names.iter().all(|name| is_plain(name)) {
        return refused("is no path of files");
    }
    Ok(names.join("/"))
}

/// `dir/name`, or the name alone at the root.
pub fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

impl Plan {
    /// Into `base` below the destination's root, which is made as well.
    ///
    /// # Errors
    /// [`TransferError::Quota`] if there is no room for even that.
    pub fn new(limits: Limits, folds: bool, base: &str) -> Result<Self, TransferError> {
        let mut plan = Self {
            limits,
            folds,
            dirs: vec![String::new()],
            numbers: BTreeMap::from([(String::new(), 0)]),
            files: Vec::new(),
            taken: HashSet::new(),
            total: Amount::default(),
            skipped: Vec::new(),
            skipped_count: 0,
        };
        let mut at = String::new();
        for name in base.split('/').filter(|name| !name.is_empty()) {
            at = join(&at, name);
            plan.dir(&at)?;
        }
        Ok(plan)
    }

    /// Notes a folder, whose parent was noted before.
    ///
    /// # Errors
    /// [`TransferError::Quota`], [`TransferError::Collision`].
    pub fn dir(&mut self, path: &str) -> Result<(), TransferError> {
        if path.split('/').count() > DEPTH {
            return Err(TransferError::Quota { what: "folders in each other", most: DEPTH as u64 });
        }
        self.take(path)?;
        self.numbers.insert(path.to_owned(), self.dirs.len());
        self.dirs.push(path.to_owned());
        Ok(())
    }

    /// Notes a file that goes to `dir`, which was noted before.
    ///
    /// # Errors
    /// [`TransferError::Quota`], [`TransferError::Collision`].
    pub fn file(&mut self, dir: &str, file: PlannedFile) -> Result<(), TransferError> {
        self.take(&join(dir, &file.name))?;
        self.total.files += 1;
        self.total.bytes = self.total.bytes.saturating_add(file.bytes);
        if self.total.bytes > self.limits.bytes {
            return Err(TransferError::Quota { what: "bytes", most: self.limits.bytes });
        }
        let dir = self.numbers.get(dir).copied().unwrap_or(0);
        self.files.push(PlannedFile { dir, ..file });
        Ok(())
    }

    /// Passes a name over.
    pub fn skip(&mut self, path: &str, why: &str) {
        self.skipped_count += 1;
        if self.skipped.len() < Transfer::MOST_SKIPPED {
            self.skipped.push(format!("{}: {why}", shown(path)));
        }
    }

    /// Whether a name can be copied as it is; if not, it is passed over.
    pub fn wants(&mut self, dir: &str, name: &str) -> bool {
        let why = match name {
            _ if !is_plain(name) => "is no name of a file",
            _ if name.contains(char::REPLACEMENT_CHARACTER) => "has a name that is not UTF-8",
            _ if name.starts_with(OWN) => "is left over from a transfer",
            _ => return true,
        };
        self.skip(&join(dir, name), why);
        false
    }

    fn take(&mut self, path: &str) -> Result<(), TransferError> {
        let key = if self.folds { path.to_lowercase() } else { path.to_owned() };
        if !self.taken.insert(key) {
            return Err(TransferError::Collision(shown(path)));
        }
        if self.taken.len() as u64 > self.limits.entries {
            let most = self.limits.entries;
            return Err(TransferError::Quota { what: "files and folders", most });
        }
        Ok(())
    }

    /// Where a file will stand, below the destination's root.
    pub fn path(&self, file: &PlannedFile) -> String {
        join(self.dirs.get(file.dir).map_or("", String::as_str), &file.name)
    }

    /// The same for the same files from the same place to the same place: what
    /// an earlier attempt left behind is found under it.
    pub fn key(&self, place: &str) -> String {
        let mut hasher = Sha256::new();
        let mut add = |text: &str| {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        };
        add(place);
        self.dirs.iter().for_each(|dir| add(dir));
        for file in &self.files {
            add(&file.name);
            add(&format!("{} {} {}", file.dir, file.bytes, file.changed));
        }
        hex(&hasher.finalize())[..32].to_owned()
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { entries: 10, bytes: 100 };

    fn file(name: &str, bytes: u64) -> PlannedFile {
        let (from, name) = (name.to_owned(), name.to_owned());
        PlannedFile { root: 0, from, dir: 0, name, bytes, mode: 0o644, changed: 0 }
    }

    #[test]
    fn paths_that_leave_their_folder_are_refused() {
        for bad in ["/etc", "..", "a/../..", "a/../b", "\0", "a/\0", &"x".repeat(256)] {
            assert!(relative(bad).is_err(), "{bad:?}");
        }
        for (path, plain) in [("", ""), ("./a//b/", "a/b"), ("...", "..."), ("a\nb", "a\nb")] {
            assert_eq!(relative(path).unwrap(), plain);
        }
    }

    #[test]
    fn two_files_never_share_a_name() {
        let mut plan = Plan::new(LIMITS, false, "in/here").unwrap();
        assert_eq!(plan.dirs, ["", "in", "in/here"]);
        plan.file("in/here", file("a", 1)).unwrap();
        plan.file("in/here", file("A", 1)).unwrap();
        assert!(matches!(plan.file("in/here", file("a", 1)), Err(TransferError::Collision(_))));
        let mut folding = Plan::new(LIMITS, true, "").unwrap();
        folding.file("", file("Makefile", 1)).unwrap();
        let same = folding.file("", file("makefile", 1));
        assert!(matches!(same, Err(TransferError::Collision(_))));
    }

    #[test]
    fn bounds_hold_before_anything_is_copied() {
        let mut plan = Plan::new(LIMITS, false, "").unwrap();
        assert!(matches!(plan.file("", file("big", 101)), Err(TransferError::Quota { .. })));
        let mut plan = Plan::new(LIMITS, false, "").unwrap();
        let many = (0..20).map(|n| plan.file("", file(&n.to_string(), u64::MAX / 64)));
        assert!(many.last().unwrap().is_err());
        let mut plan = Plan::new(LIMITS, false, "").unwrap();
        assert!((0..11).any(|n| plan.file("", file(&n.to_string(), 1)).is_err()));
        let deep = "d/".repeat(DEPTH + 1);
        assert!(Plan::new(LIMITS, false, &deep).is_err());
    }

    #[test]
    fn a_key_is_of_the_files_and_the_place() {
        let plan = |bytes| {
            let mut plan = Plan::new(LIMITS, false, "").unwrap();
            plan.file("", file("a", bytes)).unwrap();
            plan
        };
        assert_eq!(plan(1).key("x"), plan(1).key("x"));
        assert_ne!(plan(1).key("x"), plan(1).key("y"));
        assert_ne!(plan(1).key("x"), plan(2).key("x"));
    }

    #[test]
    fn what_cannot_be_copied_is_told_and_capped() {
        let mut plan = Plan::new(LIMITS, false, "").unwrap();
        assert!(plan.wants("", "odd\nname"));
        for bad in ["..", "a/b", "\u{fffd}", ".fleetd-0"] {
            assert!(!plan.wants("d", bad), "{bad:?}");
        }
        (0..200).for_each(|_| plan.skip("x", "is a device"));
        assert_eq!((plan.skipped.len(), plan.skipped_count), (100, 204));
    }
}
