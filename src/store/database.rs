//! Opening the database file: versions, pragmas, schema.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::fault::damage;
use super::{Durability, StoreError, migrate};

/// The file exists when SQLite is asked to open it: our own code made it.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE
    .union(OpenFlags::SQLITE_OPEN_NO_MUTEX)
    .union(OpenFlags::SQLITE_OPEN_NOFOLLOW);

/// The schema this daemon writes. A newer file is refused untouched.
pub const SCHEMA_VERSION: i64 = 8;

/// 3.51.3 repaired the WAL-reset corruption race (reliability.md, finding 5).
const SQLITE_FLOOR: i32 = 3_051_003;

/// How long a write waits for another writer: nobody else writes, but a
/// person's `sqlite3` may, for a moment.
pub const BUSY: Duration = Duration::from_secs(2);

/// Name of the database in the state directory.
pub fn database_path(dir: &Path) -> PathBuf {
    dir.join("journal.db")
}

/// The schema version in the file's header, read without SQLite (file format,
/// section 1.3: bytes 60 to 63, big-endian). `None` if there is no header.
pub fn header_version(path: &Path) -> io::Result<Option<i64>> {
    let mut header = [0; 64];
    let read = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .and_then(|file| file.read_exact_at(&mut header, 0));
    match read {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    let version = i32::from_be_bytes([header[60], header[61], header[62], header[63]]);
    Ok(header.starts_with(b"SQLite format 3\0").then_some(i64::from(version)))
}

/// Opens the writing connection and creates the schema if there is none.
pub fn open_writer(path: &Path, durability: Durability) -> Result<Connection, StoreError> {
    check_sqlite()?;
    let connection = Connection::open_with_flags(path, FLAGS)?;
    connection.busy_timeout(BUSY)?;
    keep_wal_on_close(&connection)?;
    refuse_newer(&connection, path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // macOS' fsync does not reach the disk without these.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    // The writer checkpoints by itself, between commits.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // Kibibytes of page cache: enough for the right edges of the trees.
    connection.pragma_update(None, "cache_size", -2048)?;
    connection.set_prepared_statement_cache_capacity(64);
    migrate::bring_up(&connection, path)?;
    Ok(connection)
}

/// Closing changes nothing in the files: what is copied out of the WAL, and
/// when, the writer decides while it can still say that it failed.
fn keep_wal_on_close(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
}

/// Opens one reader's connection.
pub fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, FLAGS)?;
    keep_wal_on_close(&connection)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -512)?;
    Ok(connection)
}

/// Reads every page and row and compares them with what the schema says.
/// Takes seconds for a large journal.
pub fn quick_check(connection: &Connection) -> rusqlite::Result<()> {
    let first: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if first == "ok" { Ok(()) } else { Err(damage(&first)) }
}

fn check_sqlite() -> Result<(), StoreError> {
    if rusqlite::version_number() < SQLITE_FLOOR {
        return Err(StoreError::OldSqlite { found: rusqlite::version().to_owned() });
    }
    Ok(())
}

pub fn schema_version(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn refuse_newer(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = schema_version(connection)?;
    if found > SCHEMA_VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION });
    }
    Ok(())
}
