//! Setting a damaged database aside, whole and unchanged.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::StoreError;
use crate::model::Timestamp;

/// The database and what SQLite keeps beside it. The mark stays: it tells the
/// next journal which positions were handed out.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

/// Moves the files of `database` into `<state>/quarantine/<time>/` and returns
/// that directory. Every connection to it has been closed or is about to be.
///
/// # Errors
/// [`StoreError::Io`] if they cannot be moved; then they are where they were.
pub fn set_aside(database: &Path) -> Result<PathBuf, StoreError> {
    let parent = database.parent().unwrap_or(Path::new("."));
    let dir = fresh_dir(&parent.join("quarantine"))?;
    for suffix in SUFFIXES {
        let from = beside(database, suffix);
        let Some(name) = from.file_name() else { continue };
        match fs::rename(&from, dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Io { path: from, source: error });
            }
            _ => {}
        }
    }
    // The move has to survive a power cut before a new journal begins in its place.
    for path in [dir.as_path(), &parent.join("quarantine"), parent] {
        File::open(path)
            .and_then(|dir| dir.sync_all())
            .map_err(|source| StoreError::Io { path: path.to_owned(), source })?;
    }
    tracing::error!(quarantined = %dir.display(), "the journal was set aside");
    Ok(dir)
}

/// `database` with `suffix` at the end of its name.
pub fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A new directory named after this moment; `-2` and so on if there is one already.
fn fresh_dir(quarantine: &Path) -> Result<PathBuf, StoreError> {
    let time = Timestamp::now().to_string().replace(':', "");
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Io { path, source }
    };
    match builder.create(quarantine) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed(quarantine)(error));
        }
        _ => {}
    }
    let mut dir = quarantine.join(&time);
    for number in 2..1000 {
        match builder.create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                dir = quarantine.join(format!("{time}-{number}"));
            }
            created => return created.map_err(failed(&dir)).map(|()| dir),
        }
    }
    Err(failed(&dir)(io::ErrorKind::AlreadyExists.into()))
}
