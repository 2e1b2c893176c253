//! Opening the database file: versions, pragmas, schema.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{Durability, StoreError};

/// The schema this daemon writes. A newer file is refused untouched.
pub const SCHEMA_VERSION: i64 = 1;

/// 3.51.3 repaired the WAL-reset corruption race (reliability.md, finding 5).
const SQLITE_FLOOR: i32 = 3_051_003;

const SCHEMA: &str = "
CREATE TABLE journal (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    epoch   INTEGER NOT NULL,
    oldest  INTEGER NOT NULL,  -- position of the oldest held event; next if none is
    next    INTEGER NOT NULL,  -- position the next event gets
    bytes   INTEGER NOT NULL,  -- sum of the held bodies' lengths
    chain   BLOB NOT NULL,     -- hash of the newest event
    clean   INTEGER NOT NULL   -- 1 while no daemon has it open
) STRICT;
CREATE TABLE epoch (           -- earlier lives of this journal
    epoch    INTEGER PRIMARY KEY,
    last_seq INTEGER NOT NULL  -- newest of its positions that was still there when it ended
) STRICT;
CREATE TABLE event (
    seq      INTEGER PRIMARY KEY,
    id       TEXT NOT NULL,
    type     TEXT NOT NULL,
    subject  TEXT NOT NULL,
    project  TEXT NOT NULL,
    severity INTEGER NOT NULL, -- 0 debug to 4 error
    time     INTEGER NOT NULL, -- milliseconds since 1970
    body     BLOB NOT NULL,    -- the CloudEvent as JSON, as it was first sent
    chain    BLOB NOT NULL,    -- SHA-256 of the previous chain value and this body
    UNIQUE (project, id)
) STRICT;
CREATE TABLE cursor (          -- named cursors, per principal
    principal TEXT NOT NULL,
    name      TEXT NOT NULL,
    epoch     INTEGER NOT NULL,
    acked     INTEGER NOT NULL,-- resumes here
    handed    INTEGER NOT NULL,-- becomes acked at the next call
    used      INTEGER NOT NULL,
    PRIMARY KEY (principal, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE task (
    id             TEXT PRIMARY KEY,
    project        TEXT NOT NULL,
    principal      TEXT NOT NULL,
    member         TEXT NOT NULL,
    state          TEXT NOT NULL,
    command        TEXT NOT NULL,
    run            TEXT,
    pid            INTEGER,
    created        INTEGER NOT NULL,
    started        INTEGER,
    ended          INTEGER,
    exit_code      INTEGER,
    exit_signal    INTEGER,
    reason         TEXT,
    stop_requested INTEGER NOT NULL DEFAULT 0,
    stdout_bytes   INTEGER NOT NULL DEFAULT 0,
    stderr_bytes   INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX task_by_age ON task (created);
CREATE INDEX task_open ON task (state) WHERE state IN ('queued', 'starting', 'running');
";

/// Name of the database in the state directory.
pub fn database_path(dir: &Path) -> PathBuf {
    dir.join("journal.db")
}

/// Opens the writing connection, creating the file with mode 0600 (umask) and the schema.
pub fn open_writer(path: &Path, durability: Durability) -> Result<Connection, StoreError> {
    check_sqlite()?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
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
    migrate(&connection)?;
    Ok(connection)
}

/// Opens one reader's connection.
pub fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -512)?;
    Ok(connection)
}

fn check_sqlite() -> Result<(), StoreError> {
    if rusqlite::version_number() < SQLITE_FLOOR {
        return Err(StoreError::OldSqlite { found: rusqlite::version().to_owned() });
    }
    Ok(())
}

fn schema_version(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn refuse_newer(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = schema_version(connection)?;
    if found > SCHEMA_VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION });
    }
    Ok(())
}

fn migrate(connection: &Connection) -> Result<(), StoreError> {
    if schema_version(connection)? == 0 {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        ))?;
    }
    Ok(())
}
