//! A log file that is capped in size, and comes back when it was moved or deleted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often it is checked whether the file is still the one at its path (R45).
const CHECK: Duration = Duration::from_millis(500);

/// Writes lines to `path`; at `max_bytes` the file becomes `path.1`, and so on
/// up to `files` in all. It never fails: a log must not stop a daemon, so what
/// cannot be written is lost.
pub struct RotatingFile {
    path: PathBuf,
    max_bytes: u64,
    files: usize,
    open: Option<Open>,
    checked: Instant,
}

struct Open {
    file: File,
    bytes: u64,
    /// Device and inode.
    identity: (u64, u64),
}

impl RotatingFile {
    /// Nothing is opened before the first line.
    pub fn new(path: PathBuf, max_bytes: u64, files: usize) -> Self {
        Self { path, max_bytes, files: files.max(1), open: None, checked: Instant::now() }
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.checked.elapsed() >= CHECK {
            self.checked = Instant::now();
            self.check();
        }
        self.open()?;
        let max = self.max_bytes;
        let over = |open: &Open| open.bytes > 0 && open.bytes + line.len() as u64 > max;
        if self.open.as_ref().is_some_and(over) {
            self.rotate();
            self.open()?;
        }
        if let Some(open) = &mut self.open {
            open.file.write_all(line)?;
            open.bytes += line.len() as u64;
        }
        Ok(())
    }

    /// Lets go of a file that is no longer at its path, and learns of a cut one.
    fn check(&mut self) {
        let Some(open) = &mut self.open else { return };
        match std::fs::symlink_metadata(&self.path) {
            Ok(about) if (about.dev(), about.ino()) == open.identity => open.bytes = about.len(),
            _ => self.open = None,
        }
    }

    fn open(&mut self) -> io::Result<()> {
        if self.open.is_none() {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
                .open(&self.path)?;
            let about = file.metadata()?;
            let identity = (about.dev(), about.ino());
            self.open = Some(Open { file, bytes: about.len(), identity });
        }
        Ok(())
    }

    fn rotate(&mut self) {
        self.open = None;
        let numbered = |n: usize| {
            let mut name = self.path.clone().into_os_string();
            if n > 0 {
                name.push(format!(".{n}"));
            }
            PathBuf::from(name)
        };
        if self.files == 1 {
            let _ = std::fs::remove_file(&self.path);
        }
        for n in (1..self.files).rev() {
            let _ = std::fs::rename(numbered(n - 1), numbered(n));
        }
    }
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let plain = super::plain(line);
        if self.write_line(&plain).is_err() {
            // Opened anew with the next line: the disk may have room again then.
            self.open = None;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(directory: &std::path::Path) -> u64 {
        std::fs::read_dir(directory).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum()
    }

    #[test]
    fn size_and_number_of_files_are_capped() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("fleetd.log");
        let mut log = RotatingFile::new(path.clone(), 100, 3);
        for n in 0..100 {
            log.write_all(format!("line {n:04} of the log\n").as_bytes()).unwrap();
            assert!(total(temp.path()) <= 300);
        }
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 3);
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("line 0099 of the log\n"));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_moved_deleted_or_cut_file_is_noticed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("fleetd.log");
        let mut log = RotatingFile::new(path.clone(), 1000, 2);
        let past = || Instant::now().checked_sub(CHECK * 2).unwrap();
        log.write_all(b"one\n").unwrap();
        std::fs::rename(&path, temp.path().join("moved")).unwrap();
        log.checked = past();
        log.write_all(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        std::fs::remove_file(&path).unwrap();
        log.checked = past();
        log.write_all(b"three\n").unwrap();
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        log.checked = past();
        log.write_all(b"four\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "four\n");
        assert_eq!(log.open.as_ref().unwrap().bytes, 5);
    }
}
