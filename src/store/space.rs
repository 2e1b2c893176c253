//! Room on the disk: a reserve for the day it is full, and noticing when it is
//! no longer.
//!
//! The reserve is a ballast file. It is given back when a write finds no room,
//! so that deleting, trimming and checkpoints still can write, while what adds
//! is refused. It is made again once there is space; then adding goes on.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

/// Bytes in reserve: some times the WAL of a large deletion (R48).
const BALLAST: u64 = 8 * 1024 * 1024;

/// On a small disk the reserve is this part of what is free.
const SHARE: u64 = 4;

/// A reserve smaller than this would not carry a deletion.
const LEAST: u64 = 256 * 1024;

/// Room beyond the reserve before adding goes on, so that it does not stop
/// again at once.
const MARGIN: u64 = 256 * 1024;

/// Bytes written to learn whether the disk takes any.
const PROBE: usize = 64 * 1024;

/// Time between looks at a full disk.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is known about the room on the disk.
#[derive(Debug)]
pub struct Space {
    dir: PathBuf,
    ballast: PathBuf,
    /// Bytes that the ballast has now.
    reserve: u64,
    full: Option<Full>,
}

#[derive(Debug)]
struct Full {
    /// Free bytes from which on adding goes on.
    needed: u64,
    looked: Instant,
}

impl Space {
    pub fn new(dir: &Path) -> Self {
        let ballast = dir.join("journal.ballast");
        let reserve = fs::metadata(&ballast).map_or(0, |meta| meta.len());
        Self { dir: dir.to_owned(), ballast, reserve, full: None }
    }

    /// Makes the reserve, or a larger one where there is much more room than before.
    pub fn prepare(&mut self) {
        let wanted = BALLAST.min(self.free().saturating_add(self.reserve) / SHARE);
        if self.full.is_some() || wanted < LEAST || wanted < self.reserve.saturating_mul(2) {
            return;
        }
        match write_zeros(&self.ballast, wanted) {
            Ok(()) => self.reserve = wanted,
            Err(error) => {
                self.give_back();
                tracing::warn!(%error, "no reserve for a full disk could be made");
            }
        }
    }

    fn give_back(&mut self) {
        match fs::remove_file(&self.ballast) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, "the reserve for a full disk could not be given back");
            }
            _ => self.reserve = 0,
        }
    }

    /// Gives the reserve back if the disk takes nothing. Whether there was one.
    pub fn gives_back_for_lack_of_room(&mut self) -> bool {
        let there_was = self.reserve > 0 && self.takes_nothing();
        if there_was {
            self.give_back();
        }
        there_was
    }

    pub fn is_full(&self) -> bool {
        self.full.is_some()
    }

    /// A write found no room: gives the reserve back.
    pub fn ran_out(&mut self) {
        let needed = self.reserve + MARGIN;
        self.give_back();
        let needed = self.full.as_ref().map_or(needed, |full| full.needed);
        self.full = Some(Full { needed, looked: Instant::now() });
    }

    /// Whether `bytes` fit, and some for what makes room.
    pub fn has_room_for(&self, bytes: u64) -> bool {
        self.free() >= bytes.saturating_add(LEAST)
    }

    /// Looks, not too often, whether there is room again, also for what is
    /// `owed` to the disk already. `true` if there is.
    pub fn recovered(&mut self, owed: impl FnOnce() -> u64) -> bool {
        let free = self.free();
        let Some(full) = &mut self.full else { return true };
        if full.looked.elapsed() < PATIENCE {
            return false;
        }
        full.looked = Instant::now();
        if free < full.needed.saturating_add(owed()) || self.takes_nothing() {
            return false;
        }
        self.full = None;
        self.prepare();
        tracing::info!(free, "there is room on the disk again");
        true
    }

    /// Whether a write fails for lack of room. Quotas and network disks tell so
    /// only when written to, and SQLite reports some of them as I/O errors.
    pub fn takes_nothing(&self) -> bool {
        let path = self.dir.join("journal.probe");
        let written = write_zeros(&path, PROBE as u64);
        let _ = fs::remove_file(&path);
        written.is_err_and(|error| {
            matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
            )
        })
    }

    /// Bytes that we may still write; ample if the file system does not say.
    fn free(&self) -> u64 {
        statvfs(&self.dir).map_or(u64::MAX, |disk| {
            #[allow(clippy::useless_conversion, reason = "their types differ between systems")]
            let (blocks, size) =
                (u64::from(disk.blocks_available()), u64::from(disk.fragment_size()));
            blocks.saturating_mul(size)
        })
    }
}

/// Writes `length` zeros to a file of ours: written, not only promised, so that
/// the room is really taken.
fn write_zeros(path: &Path, length: u64) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)?;
    let zeros = [0; PROBE];
    let mut left = length;
    while left > 0 {
        let part = left.min(PROBE as u64);
        file.write_all(&zeros[..usize::try_from(part).unwrap_or(PROBE)])?;
        left -= part;
    }
    Ok(())
}
