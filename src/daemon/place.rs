//! Directories and small files that have to be ours alone.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::process;

/// Why a place cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("'{path}' {problem}; {advice}")]
    Unsafe { path: PathBuf, problem: String, advice: String },
    #[error("cannot use '{path}': {source}; check who owns it and whether the disk is writable")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Far more than any of our small files has.
const MAX_FILE: u64 = 64 * 1024;

const O_NOFOLLOW: i32 = nix::fcntl::OFlag::O_NOFOLLOW.bits();

impl PlaceError {
    pub fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    fn refuse(path: &Path, problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Unsafe { path: path.to_owned(), problem: problem.into(), advice: advice.into() }
    }
}

/// Makes `path` a directory of mode 0700, or checks the one that is there: a
/// directory that others made or can write to is refused, not repaired, since
/// what lies in it may be theirs.
///
/// # Errors
/// Says what is wrong and what to do.
pub fn directory(path: &Path) -> Result<(), PlaceError> {
    let about = match std::fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|source| PlaceError::io(path, source))?;
            std::fs::symlink_metadata(path).map_err(|source| PlaceError::io(path, source))?
        }
        Err(source) => return Err(PlaceError::io(path, source)),
    };
    let shown = path.display();
    if about.is_symlink() {
        return Err(PlaceError::refuse(path, "is a symbolic link", "put a directory in its place"));
    }
    if !about.is_dir() {
        return Err(PlaceError::refuse(path, "is not a directory", "move it away"));
    }
    if about.uid() != process::uid() {
        let problem = format!("belongs to user id {}", about.uid());
        return Err(PlaceError::refuse(
            path,
            problem,
            "move it away, so that fleetd can make its own",
        ));
    }
    if about.mode() & 0o077 != 0 {
        let problem = format!("can be used by others (mode {:04o})", about.mode() & 0o7777);
        let advice = format!("check what is in it, then `chmod 700 '{shown}'`");
        return Err(PlaceError::refuse(path, problem, advice));
    }
    Ok(())
}

/// Checks that a directory can be written to, so that a read-only one is told
/// at once and not by whoever stumbles over it first (R47).
///
/// # Errors
/// With the directory's name.
pub fn writable(path: &Path) -> Result<(), PlaceError> {
    tempfile::Builder::new()
        .prefix(".probe")
        .tempfile_in(path)
        .map(drop)
        .map_err(|source| PlaceError::io(path, source))
}

/// Opens a file that is ours alone, making it if it is not there.
///
/// # Errors
/// If it is a link, has a second name, or belongs to or is open to others.
pub fn open_private(path: &Path) -> Result<File, PlaceError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(O_NOFOLLOW)
        .open(path)
        .map_err(|source| link_or_io(path, source))?;
    check_file(path, &file)?;
    Ok(file)
}

/// Reads a small private file; `None` if it is not there.
///
/// # Errors
/// As [`open_private`].
pub fn read_private(path: &Path) -> Result<Option<String>, PlaceError> {
    let opened = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(link_or_io(path, source)),
    };
    check_file(path, &file)?;
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(|source| PlaceError::io(path, source))?;
    Ok(Some(text))
}

/// Writes a small private file atomically and durably: a reader sees the old
/// content or the new one, also after a power cut.
///
/// # Errors
/// If the directory cannot be written.
pub fn write_private(path: &Path, content: &str) -> Result<(), PlaceError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        // tempfile makes its files 0600 from the start.
        let mut file = tempfile::Builder::new().prefix(".new").tempfile_in(directory)?;
        file.write_all(content.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|source| PlaceError::io(path, source))
}

fn check_file(path: &Path, file: &File) -> Result<(), PlaceError> {
    let about = file.metadata().map_err(|source| PlaceError::io(path, source))?;
    let shown = path.display();
    if !about.is_file() {
        return Err(PlaceError::refuse(path, "is not a plain file", "move it away"));
    }
    if about.uid() != process::uid() {
        let problem = format!("belongs to user id {}", about.uid());
        return Err(PlaceError::refuse(path, problem, "move it away"));
    }
    if about.mode() & 0o077 != 0 {
        let problem = format!("can be used by others (mode {:04o})", about.mode() & 0o7777);
        return Err(PlaceError::refuse(
            path,
            problem,
            format!("`chmod 600 '{shown}'` it, or remove it to get a new one"),
        ));
    }
    if about.nlink() != 1 {
        return Err(PlaceError::refuse(
            path,
            "has a second name (hard link)",
            "remove it to get a new one",
        ));
    }
    Ok(())
}

fn link_or_io(path: &Path, source: io::Error) -> PlaceError {
    if source.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) {
        return PlaceError::refuse(path, "is a symbolic link", "remove it");
    }
    PlaceError::io(path, source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_missing_directory_is_made_for_us_alone() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        directory(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&temp.path().join("a")), 0o700);
        directory(&path).unwrap();
        writable(&path).unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn open_foreign_or_linked_directories_are_refused_untouched() {
        let temp = tempfile::tempdir().unwrap();
        let open = temp.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = directory(&open).unwrap_err().to_string();
        assert!(error.contains("0777") && error.contains("chmod 700"), "{error}");
        assert_eq!(mode(&open), 0o777);
        let link = temp.path().join("link");
        symlink(temp.path(), &link).unwrap();
        assert!(directory(&link).unwrap_err().to_string().contains("symbolic link"));
        let file = temp.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(directory(&file).is_err());
    }

    #[test]
    fn private_files_are_0600_whole_and_checked() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("f");
        assert_eq!(read_private(&path).unwrap(), None);
        write_private(&path, "one").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(read_private(&path).unwrap().as_deref(), Some("one"));
        std::fs::hard_link(&path, temp.path().join("g")).unwrap();
        assert!(read_private(&path).unwrap_err().to_string().contains("hard link"));
        // Replacing it makes a new file; the second name keeps the old one.
        write_private(&path, "two").unwrap();
        assert_eq!(read_private(&path).unwrap().as_deref(), Some("two"));
        let link = temp.path().join("l");
        symlink(&path, &link).unwrap();
        assert!(read_private(&link).is_err());
        assert!(open_private(&link).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_private(&path).unwrap_err().to_string().contains("chmod 600"));
    }
}
