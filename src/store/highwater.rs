//! The high-water mark: the last position handed out, kept outside the database.
//!
//! One small `pwrite` per commit, synced at checkpoints. After a power cut it
//! may be behind the database, which is harmless; a database that is behind the
//! mark has lost something.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::model::Epoch;

/// What the mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub epoch: Epoch,
    pub seq: u64,
    /// The database file's inode: another file in its place is another store.
    pub inode: u64,
}

/// The open mark file.
#[derive(Debug)]
pub struct HighWater {
    file: File,
}

/// `epoch seq inode`, then the first eight bytes of their SHA-256.
const LEN: usize = 4 + 8 + 8 + 8;

impl HighWater {
    /// Opens the mark, creating it empty.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)?;
        Ok(Self { file })
    }

    /// The mark, or `None` if there is none that can be believed.
    pub fn read(&self) -> Option<Mark> {
        let mut bytes = [0; LEN];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let (body, sum) = bytes.split_at(LEN - 8);
        if checksum(body) != sum {
            return None;
        }
        Some(Mark {
            epoch: Epoch(u32::from_le_bytes(body[0..4].try_into().ok()?)),
            seq: u64::from_le_bytes(body[4..12].try_into().ok()?),
            inode: u64::from_le_bytes(body[12..20].try_into().ok()?),
        })
    }

    /// Moves the mark. In the page cache at once; on the disk after [`Self::sync`].
    pub fn write(&self, mark: Mark) -> std::io::Result<()> {
        let mut bytes = [0; LEN];
        bytes[0..4].copy_from_slice(&mark.epoch.0.to_le_bytes());
        bytes[4..12].copy_from_slice(&mark.seq.to_le_bytes());
        bytes[12..20].copy_from_slice(&mark.inode.to_le_bytes());
        let sum = checksum(&bytes[..LEN - 8]);
        bytes[LEN - 8..].copy_from_slice(&sum);
        self.file.write_all_at(&bytes, 0)
    }

    pub fn sync(&self) -> std::io::Result<()> {
        self.file.sync_data()
    }
}

fn checksum(body: &[u8]) -> [u8; 8] {
    let digest = Sha256::digest(body);
    let mut sum = [0; 8];
    sum.copy_from_slice(&digest[..8]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_mark_is_no_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mark");
        let high = HighWater::open(&path).unwrap();
        assert_eq!(high.read(), None);
        let mark = Mark { epoch: Epoch(7), seq: 42, inode: 9 };
        high.write(mark).unwrap();
        assert_eq!(high.read(), Some(mark));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[5] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(HighWater::open(&path).unwrap().read(), None);
    }
}
