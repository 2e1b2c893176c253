//! What a failure of SQLite or the disk means for those who wait.

use std::path::PathBuf;

use rusqlite::{Error, ErrorCode as SqlCode, ffi};

use super::StoreError;

/// How the store goes on after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No room: refuse what adds, go on with the rest.
    Full,
    /// Somebody else holds the database; the next attempt may find it free.
    Busy,
    /// The file is not what was written: nothing in it can be trusted.
    Damaged,
    /// The disk failed: what the connection holds may differ from what is stored.
    Broken,
    /// The statement was at fault, not the store.
    Refused,
}

impl Kind {
    pub fn of(error: &Error) -> Self {
        match error.sqlite_error_code() {
            Some(SqlCode::DiskFull) => Self::Full,
            Some(SqlCode::DatabaseBusy | SqlCode::DatabaseLocked) => Self::Busy,
            Some(SqlCode::DatabaseCorrupt | SqlCode::NotADatabase) => Self::Damaged,
            Some(
                SqlCode::SystemIoFailure
                | SqlCode::CannotOpen
                | SqlCode::ReadOnly
                | SqlCode::PermissionDenied
                | SqlCode::FileLockingProtocolFailed
                | SqlCode::OutOfMemory,
            ) => Self::Broken,
            _ => Self::Refused,
        }
    }
}

/// The error for a database that SQLite can read and that says what cannot be.
pub fn damage(what: &str) -> Error {
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(what.to_owned()))
}

/// The same failure once more: `rusqlite`'s error cannot be cloned.
pub fn copy_of(error: &Error) -> Error {
    match error {
        Error::SqliteFailure(code, text) => Error::SqliteFailure(*code, text.clone()),
        other => Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ERROR), Some(other.to_string())),
    }
}

/// Why the store gave up; kept so that everybody who asks is told the same.
#[derive(Debug)]
pub struct Failure {
    pub path: PathBuf,
    /// Where the damaged files went, if they were damaged.
    pub quarantined: Option<PathBuf>,
    pub error: Error,
}

impl Failure {
    pub fn to_error(&self) -> StoreError {
        let source = copy_of(&self.error);
        match self.quarantined.clone() {
            Some(quarantined) => StoreError::Corrupt { quarantined, source },
            None => StoreError::Failed { path: self.path.clone(), source },
        }
    }
}
