//! Folders of this machine, by handle.
//!
//! A path is walked name by name from a handle, and no link is followed on the
//! way: whatever is renamed or swapped meanwhile, nothing outside is opened.
//! Reading, writing and hashing happen on threads of their own.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt, File, MetadataExt, OpenOptions, OpenOptionsExt};
use sha2::{Digest, Sha256};

use super::error::{TransferError, shown};
use super::plan::{Plan, PlannedFile, hex, join};

/// Bytes of one piece.
pub const PIECE: usize = 256 * 1024;

/// A folder that nothing leads out of.
#[derive(Clone)]
pub struct Folder(Arc<Dir>);

/// A file of a folder, found by a name.
pub struct Found {
    pub file: File,
    pub bytes: u64,
    pub mode: u32,
    pub changed: u64,
}

impl Folder {
    /// Opens a folder wherever it lies: links in `path` are the caller's wish.
    pub fn open(path: &Path) -> io::Result<Self> {
        Dir::open_ambient_dir(path, ambient_authority()).map(|dir| Self(Arc::new(dir)))
    }

    /// The same, and makes it if it is not there.
    pub fn make(path: &Path, mode: u32) -> io::Result<Self> {
        let mut builder = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
        builder.recursive(true).create(path)?;
        Self::open(path)
    }

    /// The folder of this path below.
    pub fn enter(&self, path: &str) -> Result<Self, TransferError> {
        let mut at = Arc::clone(&self.0);
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let below = at.open_dir_nofollow(name);
            at = Arc::new(below.map_err(|error| TransferError::io("opening", path, &error))?);
        }
        Ok(Self(at))
    }

    /// Makes a folder whose parent is there; one that is there is fine.
    pub fn make_dir(&self, path: &str, mode: u32) -> Result<(), TransferError> {
        let failed = |error: io::Error| TransferError::io("making the folder", path, &error);
        let (parent, name) = split(path);
        let parent = self.enter(parent)?;
        let mut builder = DirBuilder::new();
        builder.mode(mode);
        match parent.0.create_dir_with(name, &builder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
            _ => parent.0.open_dir_nofollow(name).map(drop).map_err(failed),
        }
    }

    /// Opens a plain file for reading: no link, no device, no pipe.
    pub fn find(&self, path: &str) -> Result<Found, TransferError> {
        let failed = |error: io::Error| TransferError::io("reading", path, &error);
        let (parent, name) = split(path);
        let parent = self.enter(parent)?;
        let mut options = OpenOptions::new();
        // A pipe that nobody writes to must not hold us.
        options.read(true).follow(FollowSymlinks::No).custom_flags(nix::libc::O_NONBLOCK);
        let file = parent.0.open_with(name, &options).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            let problem = "is no plain file";
            return Err(TransferError::Path { path: shown(path), problem });
        }
        let changed = u64::try_from(meta.mtime()).unwrap_or(0);
        Ok(Found { file, bytes: meta.len(), mode: meta.mode() & 0o777, changed })
    }

    /// Opens a file for writing at its end, or anew.
    pub fn create(&self, name: &str, anew: bool) -> Result<File, TransferError> {
        let mut options = OpenOptions::new();
        options.create(true).follow(FollowSymlinks::No).mode(0o600);
        if anew {
            options.write(true).truncate(true)
        } else {
            options.append(true)
        };
        self.0.open_with(name, &options).map_err(|error| TransferError::io("writing", name, &error))
    }

    /// Puts a file of `stage` in its place below this folder.
    pub fn place(&self, stage: &Self, staged: &str, path: &str) -> Result<(), TransferError> {
        let failed = |error: io::Error| TransferError::io("putting in its place", path, &error);
        let (parent, name) = split(path);
        let parent = self.enter(parent)?;
        // A rename replaces a link, and never follows one.
        stage.0.rename(staged, &parent.0, name).map_err(failed)
    }

    /// Removes a folder of ours with all that is in it. Best effort.
    pub fn clear(&self, name: &str) {
        if let Err(error) = self.0.remove_dir_all(name)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(name, %error, "a transfer's folder was left behind");
        }
    }

    /// Notes everything below `from`, which goes to `dest`.
    pub fn walk(
        &self,
        root: usize,
        from: &str,
        dest: &str,
        plan: &mut Plan,
    ) -> Result<(), TransferError> {
        plan.dir(dest)?;
        let here = self.enter(from)?;
        let failed = |error: io::Error| TransferError::io("listing", from, &error);
        let mut folders = Vec::new();
        for entry in here.0.entries().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !plan.wants(dest, &name) {
                continue;
            }
            // Gone already: as if it had never been there.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                folders.push(name);
            } else if meta.is_file() {
                let changed = u64::try_from(meta.mtime()).unwrap_or(0);
                let (from, mode) = (join(from, &name), meta.mode() & 0o777);
                let bytes = meta.len();
                let file = PlannedFile { root, from, dir: 0, name, bytes, mode, changed };
                plan.file(dest, file)?;
            } else {
                plan.skip(
                    &join(dest, &name),
                    if meta.is_symlink() { "is a link" } else { "is no plain file" },
                );
            }
        }
        // The handle is closed before the next are opened.
        drop(here);
        folders.sort_unstable();
        folders
            .iter()
            .try_for_each(|name| self.walk(root, &join(from, name), &join(dest, name), plan))
    }
}

/// The folder and the name.
pub fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Reads `bytes` bytes in pieces for as long as `take` takes them, and returns
/// their hash. `skip`: so many bytes are only hashed, and `skipped` is asked
/// with the hash so far whether that will do; if not, it begins again.
pub fn read(
    found: Found,
    path: &str,
    (skip, bytes): (u64, u64),
    skipped: impl FnOnce(Option<&str>) -> bool,
    mut take: impl FnMut(Bytes) -> bool,
) -> Result<Option<String>, TransferError> {
    let failed = |error: io::Error| TransferError::io("reading", path, &error);
    let mut file = found.file;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut left = bytes;
    let mut next = |file: &mut File, hasher: &mut Sha256, most: u64| {
        let most = usize::try_from(most).unwrap_or(PIECE).min(PIECE);
        let count = file.read(&mut buffer[..most]).map_err(failed)?;
        if count == 0 {
            return Err(TransferError::Changed(shown(path)));
        }
        hasher.update(&buffer[..count]);
        Ok((Bytes::copy_from_slice(&buffer[..count]), count as u64))
    };
    let mut head = skip;
    while head > 0 {
        head -= next(&mut file, &mut hasher, head)?.1;
    }
    let prefix = (skip > 0).then(|| hex(&hasher.clone().finalize()));
    if skipped(prefix.as_deref()) {
        left -= skip;
    } else if skip > 0 {
        io::Seek::rewind(&mut file).map_err(failed)?;
        hasher = Sha256::new();
    }
    while left > 0 {
        let (piece, count) = next(&mut file, &mut hasher, left)?;
        left -= count;
        if !take(piece) {
            return Ok(None);
        }
    }
    Ok(Some(hex(&hasher.finalize())))
}

/// A file of a stage that is being written, and the hash of all that is in it.
pub struct Sink {
    file: File,
    name: String,
    hasher: Sha256,
    bytes: u64,
}

impl Sink {
    /// Anew.
    pub fn begin(stage: &Folder, name: &str) -> Result<Self, TransferError> {
        let file = stage.create(name, true)?;
        Ok(Self { file, name: name.to_owned(), hasher: Sha256::new(), bytes: 0 })
    }

    /// After what is there of it.
    pub fn resume(stage: &Folder, name: &str) -> Result<Self, TransferError> {
        let found = stage.find(name)?;
        let failed = |error: io::Error| TransferError::io("reading", name, &error);
        let (mut file, mut hasher, mut bytes) = (found.file, Sha256::new(), 0);
        let mut buffer = vec![0; PIECE];
        loop {
            let count = file.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            bytes += count as u64;
        }
        Ok(Self { file: stage.create(name, false)?, name: name.to_owned(), hasher, bytes })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Of all that is in it so far.
    pub fn hash(&self) -> String {
        hex(&self.hasher.clone().finalize())
    }

    pub fn write(&mut self, piece: &[u8]) -> Result<(), TransferError> {
        self.file
            .write_all(piece)
            .map_err(|error| TransferError::io("writing", &self.name, &error))?;
        self.hasher.update(piece);
        self.bytes += piece.len() as u64;
        Ok(())
    }

    /// Gives it these permission bits.
    pub fn finish(self, mode: u32) -> Result<(), TransferError> {
        let permissions = std::fs::Permissions::from_mode(mode);
        let permissions = cap_std::fs::Permissions::from_std(permissions);
        self.file
            .set_permissions(permissions)
            .map_err(|error| TransferError::io("writing", &self.name, &error))
    }
}
