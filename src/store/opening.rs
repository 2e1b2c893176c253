//! From files on the disk to a journal that goes on, or the reason why not.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::database::{SCHEMA_VERSION, database_path, header_version, open_writer};
use super::fault::Kind;
use super::highwater::{HighWater, Mark};
use super::journal::JournalState;
use super::lineage::{begin, check_tail, earlier_epochs, settle_epoch};
use super::quarantine::{beside, set_aside};
use super::space::Space;
use super::{OpenReport, StoreError, StoreOptions};
use crate::model::Epoch;

/// A database that has been found good.
pub struct Opened {
    pub path: PathBuf,
    pub connection: Connection,
    pub journal: JournalState,
    pub high: HighWater,
    pub inode: u64,
    pub earlier: Vec<(Epoch, u64)>,
    pub report: OpenReport,
}

/// Opens or creates the database and decides whether it is the one we left.
///
/// # Errors
/// As [`super::Store::open`].
pub fn open(options: &StoreOptions) -> Result<Opened, StoreError> {
    // SQLite's NOFOLLOW refuses a link anywhere in the path. A HOME that lies
    // behind one is the user's own affair; the last name still may not be one.
    let dir = fs::canonicalize(&options.dir)
        .map_err(|source| StoreError::Io { path: options.dir.clone(), source })?;
    let path = database_path(&dir);
    refuse_newer(&path)?;
    let mark_path = options.dir.join("journal.mark");
    let high = || {
        HighWater::open(&mark_path)
            .map_err(|source| StoreError::Io { path: mark_path.clone(), source })
    };
    let set_aside_remains = keep_remains(&path, high()?.read().as_ref())?;
    create(&path)?;
    settle(options, path.clone(), high()?)
        .or_else(|error| {
            // The disk was filled while nobody was here: the reserve is for this.
            if !Space::new(&options.dir).gives_back_for_lack_of_room() {
                return Err(error);
            }
            settle(options, path.clone(), high()?)
        })
        .map(|mut opened| {
            opened.report.set_aside = set_aside_remains;
            opened
        })
        .map_err(|error| explain(error, &path))
}

fn settle(options: &StoreOptions, path: PathBuf, high: HighWater) -> Result<Opened, StoreError> {
    let mut connection = open_writer(&path, options.durability)?;
    let io = |source| StoreError::Io { path: path.clone(), source };
    let inode = fs::metadata(&path).map_err(io)?.ino();
    let loaded = JournalState::load(&connection)?;
    let unclean = loaded.as_ref().is_some_and(|(_, clean)| !clean);
    let found = loaded.map(|(state, _)| state);
    check_tail(&connection, found.as_ref())?;
    let (journal, regressed) = settle_epoch(found.as_ref(), high.read(), inode);
    // The mark first: if we are stopped in between, the next start finds the
    // two apart, says the same again and hands out no position twice.
    let mark = Mark { epoch: journal.epoch, seq: journal.next - 1, inode };
    high.write(mark)
        .and_then(|()| high.sync())
        .map_err(|source| StoreError::Io { path: options.dir.join("journal.mark"), source })?;
    begin(&mut connection, found.as_ref(), &journal)?;
    let report = OpenReport { head: journal.head(), unclean, regressed, set_aside: None };
    let earlier = earlier_epochs(&connection)?;
    Ok(Opened { path, connection, journal, high, inode, earlier, report })
}

/// A newer database is not even opened: SQLite would tidy up its WAL.
fn refuse_newer(path: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    match header_version(path).map_err(io)? {
        Some(found) if found > SCHEMA_VERSION => {
            Err(StoreError::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION })
        }
        _ => Ok(()),
    }
}

/// SQLite deletes the WAL of an empty or missing database. Where there was a
/// journal before, what is left of it is kept for whoever wants to look.
fn keep_remains(path: &Path, mark: Option<&Mark>) -> Result<Option<PathBuf>, StoreError> {
    let length = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
    let was_used = mark.is_some_and(|mark| mark.seq > 0);
    let wal_left = length(&beside(path, "-wal")) > 0;
    if length(path) == 0 && (wal_left || (was_used && path.exists())) {
        return set_aside(path).map(Some);
    }
    Ok(None)
}

/// Creates the file, so that its mode is ours and a refusal is the system's own words.
fn create(path: &Path) -> Result<(), StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .map(drop)
        .map_err(|source| StoreError::Io { path: path.to_owned(), source })
}

/// Says what a failure to open means, and sets a damaged database aside.
fn explain(error: StoreError, path: &Path) -> StoreError {
    let StoreError::Sql(source) = error else { return error };
    match Kind::of(&source) {
        Kind::Damaged => match set_aside(path) {
            Ok(quarantined) => StoreError::Corrupt { quarantined, source },
            Err(error) => error,
        },
        Kind::Full => StoreError::Full { dir: path.parent().unwrap_or(path).to_owned() },
        Kind::Broken | Kind::Busy => {
            StoreError::Io { path: path.to_owned(), source: std::io::Error::other(source) }
        }
        // The tables are not ours: it cannot be used as it is.
        Kind::Refused => match set_aside(path) {
            Ok(quarantined) => StoreError::Corrupt { quarantined, source },
            Err(error) => error,
        },
    }
}
