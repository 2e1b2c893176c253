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

/// A disk with less room than this gets no ballast: it would be most of it.
const AMPLE: u64 = 4 * BALLAST;

/// Room beyond the reserve before adding goes on, so that it does not stop
/// again at once.
const MARGIN: u64 = 1024 * 1024;

/// Bytes written to learn whether the disk takes any.
const PROBE: usize = 64 * 1024;

/// Time between looks at a full disk.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is known about the room on the disk.
#[derive(Debug)]
pub struct Space {
    dir: PathBuf,
    ballast: PathBuf,
    has_ballast: bool,
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
        let has_ballast = fs::metadata(&ballast).is_ok_and(|meta| meta.len() >= BALLAST);
        Self { dir: dir.to_owned(), ballast, has_ballast, full: None }
    }

    /// Makes the reserve if there is none and there is ample room for it.
    pub fn prepare(&mut self) {
        if self.has_ballast || self.full.is_some() || self.free() < AMPLE {
            return;
        }
        match write_zeros(&self.ballast, BALLAST) {
            Ok(()) => self.has_ballast = true,
            Err(error) => {
                let _ = fs::remove_file(&self.ballast);
                tracing::warn!(%error, "no reserve for a full disk could be made");
            }
        }
    }

    pub fn is_full(&self) -> bool {
        self.full.is_some()
    }

    /// A write found no room: gives the reserve back.
    pub fn ran_out(&mut self) {
        let reserve = if self.has_ballast { BALLAST } else { 0 };
        if self.has_ballast && fs::remove_file(&self.ballast).is_ok() {
            self.has_ballast = false;
        }
        let needed = self.full.as_ref().map_or(reserve + MARGIN, |full| full.needed);
        self.full = Some(Full { needed, looked: Instant::now() });
    }

    /// Looks, not too often, whether there is room again. `true` if there is.
    pub fn recovered(&mut self) -> bool {
        let free = self.free();
        let Some(full) = &mut self.full else { return true };
        if full.looked.elapsed() < PATIENCE {
            return false;
        }
        full.looked = Instant::now();
        if free < full.needed || self.takes_nothing() {
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
            // Their types differ between systems.
            #[allow(clippy::useless_conversion)]
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
