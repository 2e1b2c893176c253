//! One daemon per user: a file lock that is held for life.
//!
//! Whether another daemon runs is never judged by its health: a frozen one
//! still holds the lock, and a killed one has let go of it.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::place::{self, PlaceError};

/// The lock; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Somebody else holds it.
#[derive(Debug)]
pub enum LockError {
    /// With what the holder wrote about itself, if it got that far.
    Held {
        pid: Option<i32>,
    },
    Place(PlaceError),
}

impl Lock {
    /// Takes the lock, without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] if another daemon lives.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let mut file = place::open_private(path).map_err(LockError::Place)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.take(64).read_to_string(&mut text);
                return Err(LockError::Held { pid: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => {
                return Err(LockError::Place(PlaceError::io(path, source)));
            }
        }
        let note = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        // For the message of those who come too late; nobody relies on it.
        note(&mut file).map_err(|source| LockError::Place(PlaceError::io(path, source)))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("fleetd.lock");
        let held = Lock::take(&path).unwrap();
        let ours = i32::try_from(std::process::id()).unwrap();
        match Lock::take(&path) {
            Err(LockError::Held { pid }) => assert_eq!(pid, Some(ours)),
            other => panic!("{other:?}"),
        }
        drop(held);
        Lock::take(&path).unwrap();
    }
}
