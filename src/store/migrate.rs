//! From no schema, or an older one, to this daemon's.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::StoreError;
use super::database::{SCHEMA_VERSION, schema_version};

/// Version 1.
const JOURNAL: &str = "
CREATE TABLE journal (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    epoch   INTEGER NOT NULL,
    oldest  INTEGER NOT NULL,  -- position of the oldest held event; next if none is
    next    INTEGER NOT NULL,  -- position the next event gets
    events  INTEGER NOT NULL,  -- number of held events
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
    stored   INTEGER NOT NULL, -- milliseconds since 1970, by our clock: retention goes by it
    publisher TEXT NOT NULL,   -- the principal that sent it; '' for fleetd's own
    body     BLOB NOT NULL,    -- the CloudEvent as JSON, as it was first sent
    chain    BLOB NOT NULL,    -- SHA-256 of the previous chain value and this body
    -- Ids are the publisher's own: nobody can take the id of another's event.
    UNIQUE (project, publisher, id)
) STRICT;
CREATE TABLE cursor (          -- named cursors, per principal
    principal TEXT NOT NULL,
    name      TEXT NOT NULL,
    epoch     INTEGER NOT NULL,
    seq       INTEGER NOT NULL,-- handed out up to here: the next call begins behind it
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

/// Version 2: tokens of clients beside the owner's own.
const TOKENS: &str = "
CREATE TABLE token (
    name     TEXT PRIMARY KEY,
    digest   BLOB NOT NULL UNIQUE,  -- SHA-256 of the token, which is kept nowhere
    projects TEXT NOT NULL,         -- JSON; an empty list is every project
    scopes   TEXT NOT NULL,         -- JSON
    created  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Version 3: tokens that are narrowed to sets of tools. Those that were there are not.
const TOKEN_TOOLS: &str = "
ALTER TABLE token ADD COLUMN tools TEXT NOT NULL DEFAULT '[\"all\"]'; -- JSON
";

/// Version 4: what ids of MCP sessions cannot carry.
const SESSIONS: &str = "
CREATE TABLE session (
    nonce     BLOB PRIMARY KEY,  -- the random part of the session's id
    principal TEXT NOT NULL,
    settings  TEXT NOT NULL,     -- JSON of the mcp component: log level, watched resources
    wake      TEXT NOT NULL,     -- JSON: how whoever speaks in it can be woken
    ended     INTEGER NOT NULL,  -- 1: its id is not taken any more
    used      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Version 5: the members of the fleet.
const MEMBERS: &str = "
CREATE TABLE member (
    id   TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,  -- two names that differ by case alone are one
    body TEXT NOT NULL                         -- the member as JSON: read and written whole
) STRICT, WITHOUT ROWID;
";

/// Version 6: what a stalled run had shown by the time it was told.
const TASK_STALLED: &str = "
ALTER TABLE task ADD COLUMN stalled TEXT; -- JSON; null while it shows life
";

/// Version 7: prompts, and the sessions that can be gone on with.
const PROMPTS: &str = "
CREATE TABLE prompt (
    task      TEXT PRIMARY KEY,
    project   TEXT NOT NULL,
    principal TEXT NOT NULL,
    member    TEXT NOT NULL,
    provider  TEXT NOT NULL,
    folder    TEXT NOT NULL,
    session   TEXT,             -- the provider's own id of the conversation
    created   INTEGER NOT NULL,
    result    TEXT              -- JSON, once it has ended
) STRICT, WITHOUT ROWID;
CREATE INDEX prompt_by_session ON prompt (session);
CREATE INDEX prompt_by_age ON prompt (created);
";

/// Version 8: transfers of files.
const TRANSFERS: &str = "
CREATE TABLE transfer (
    id      TEXT PRIMARY KEY,
    open    INTEGER NOT NULL,  -- 1 until it has ended
    created INTEGER NOT NULL,
    body    TEXT NOT NULL      -- the transfer as JSON: read and written whole
) STRICT, WITHOUT ROWID;
CREATE INDEX transfer_by_age ON transfer (created);
";

/// What brings a database from one version to the next, from none on.
const STEPS: [&str; SCHEMA_VERSION as usize] =
    [JOURNAL, TOKENS, TOKEN_TOOLS, SESSIONS, MEMBERS, TASK_STALLED, PROMPTS, TRANSFERS];

/// Creates the schema, or adds to an older one what it lacks. An older database
/// is copied first; each step is one transaction, so an interrupted one begins anew.
///
/// # Errors
/// If the database or its copy cannot be written.
pub fn bring_up(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = schema_version(connection)?;
    let Some(missing) = usize::try_from(found).ok().and_then(|found| STEPS.get(found..)) else {
        return Ok(());
    };
    if missing.is_empty() {
        return Ok(());
    }
    if found > 0 {
        back_up(connection, path, found)?;
    }
    let steps = missing.concat();
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    ))?;
    Ok(())
}

/// Where the copy of a database of `version` lies.
pub fn backup_path(path: &Path, version: i64) -> PathBuf {
    path.with_extension(format!("db.v{version}"))
}

/// A whole copy, the write-ahead log included, that appears under its name only
/// when it is complete.
fn back_up(connection: &Connection, path: &Path, version: i64) -> Result<(), StoreError> {
    let whole = backup_path(path, version);
    let part = whole.with_extension(format!("v{version}.part"));
    let io = |source| StoreError::Io { path: part.clone(), source };
    match fs::remove_file(&part) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    // SQLite writes into an empty file that is there, so its mode is ours.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(io)?;
    connection.execute("VACUUM INTO ?1", [part.to_string_lossy()])?;
    let file = fs::File::open(&part).map_err(io)?;
    file.sync_all().map_err(io)?;
    fs::rename(&part, &whole).map_err(io)?;
    tracing::info!(copy = %whole.display(), "copied the journal before changing its schema");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A database of version 1 with one event in it.
    fn first_version(path: &Path) -> Connection {
        let connection = Connection::open(path).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.execute_batch(&format!("{JOURNAL} PRAGMA user_version = 1;")).unwrap();
        let sql = "INSERT INTO cursor VALUES ('owner', 'mine', 7, 3, 5)";
        connection.execute(sql, []).unwrap();
        connection
    }

    fn kept(connection: &Connection) -> i64 {
        connection.query_row("SELECT seq FROM cursor", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn r58_an_older_database_is_copied_and_then_added_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let connection = first_version(&path);
        // Left over from an attempt that was interrupted.
        fs::write(folder.path().join("journal.db.v1.part"), "half").unwrap();
        bring_up(&connection, &path).unwrap();
        assert_eq!(schema_version(&connection).unwrap(), SCHEMA_VERSION);
        assert_eq!(kept(&connection), 3);
        for added in ["token", "session", "member", "prompt", "transfer"] {
            let sql = format!("SELECT count(*) FROM {added}");
            let rows: i64 = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
            assert_eq!(rows, 0, "{added}");
        }
        let copy = backup_path(&path, 1);
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        let copy = Connection::open(copy).unwrap();
        assert_eq!((schema_version(&copy).unwrap(), kept(&copy)), (1, 3));
        // Once is enough.
        bring_up(&connection, &path).unwrap();
    }

    #[test]
    fn r58_tokens_from_before_there_were_sets_keep_every_tool() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let connection = first_version(&path);
        connection.execute_batch(&format!("{TOKENS} PRAGMA user_version = 2;")).unwrap();
        let sql = "INSERT INTO token VALUES ('ci', x'00', '[\"default\"]', '[\"read\"]', 5)";
        connection.execute(sql, []).unwrap();
        bring_up(&connection, &path).unwrap();
        let tools = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let tools = connection.query_row("SELECT tools FROM token", [], tools).unwrap();
        let tools: crate::model::ToolSets = serde_json::from_str(&tools).unwrap();
        assert_eq!(tools, crate::model::ToolSets::ALL);
        assert!(backup_path(&path, 2).exists());
    }

    #[test]
    fn a_new_database_needs_no_copy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        bring_up(&Connection::open(&path).unwrap(), &path).unwrap();
        assert!(!backup_path(&path, 1).exists());
    }
}
