//! `logs`: the daemon's own log, with or without a daemon.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::{Cx, Outcome, exit};

/// Show the daemon's own log.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  fleetctl logs --lines 20\n  fleetctl logs --follow")]
pub struct Logs {
    /// Go on with what is logged from now on.
    #[arg(short, long)]
    follow: bool,
    /// Lines to begin with.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    lines: usize,
}

/// Between two looks at a file that may have grown.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The most that is read at once.
const CHUNK: u64 = 64 * 1024;

impl Logs {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let folder = cx.client.paths().logs();
        let files = files(&folder)?;
        for line in last_lines(&files, self.lines)? {
            cx.out.foreign(&line)?;
        }
        if self.follow {
            let mut tail = Tail::at_end(folder, files.last());
            loop {
                let text = tail.read()?;
                if text.is_empty() {
                    tokio::time::sleep(LOOK_EVERY).await;
                } else {
                    cx.out.foreign(&text)?;
                }
            }
        }
        if files.is_empty() {
            cx.out.note(&format!("no log in '{}' yet; `fleetctl up` begins one", folder.display()));
        }
        Ok(exit::OK)
    }
}

/// The log files, oldest first.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read '{}'", folder.display()));
        }
    };
    let mut files = Vec::new();
    for entry in entries.flatten() {
        // A file that was just removed by a rotation is no error.
        let Ok(about) = entry.metadata() else { continue };
        if about.is_file() {
            files.push(((about.mtime(), about.mtime_nsec()), entry.path()));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn last_lines(files: &[PathBuf], most: usize) -> anyhow::Result<VecDeque<String>> {
    let mut lines = VecDeque::new();
    for path in files.iter().rev() {
        let Ok(file) = File::open(path) else { continue };
        let mut of_file = VecDeque::new();
        for line in BufReader::new(file).split(b'\n') {
            let line = line.with_context(|| format!("cannot read '{}'", path.display()))?;
            of_file.push_back(String::from_utf8_lossy(&line).into_owned());
            if of_file.len() > most - lines.len() {
                of_file.pop_front();
            }
        }
        of_file.append(&mut lines);
        lines = of_file;
        if lines.len() >= most {
            break;
        }
    }
    Ok(lines)
}

/// The newest log file, followed across rotations.
struct Tail {
    folder: PathBuf,
    open: Option<(u64, File)>,
}

impl Tail {
    fn at_end(folder: PathBuf, newest: Option<&PathBuf>) -> Self {
        use std::io::{Seek, SeekFrom};
        let open = newest.and_then(|path| {
            let mut file = File::open(path).ok()?;
            file.seek(SeekFrom::End(0)).ok()?;
            Some((file.metadata().ok()?.ino(), file))
        });
        Self { folder, open }
    }

    /// What was added; empty if nothing was.
    fn read(&mut self) -> anyhow::Result<String> {
        if let Some((_, file)) = &mut self.open {
            let mut bytes = Vec::new();
            Read::by_ref(file)
                .take(CHUNK)
                .read_to_end(&mut bytes)
                .context("cannot read the log")?;
            if !bytes.is_empty() {
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        // This file is at its end: has another become the newest?
        if let Some(path) = files(&self.folder)?.last()
            && let Ok(file) = File::open(path)
            && let Ok(about) = file.metadata()
            && self.open.as_ref().is_none_or(|(inode, _)| *inode != about.ino())
        {
            self.open = Some((about.ino(), file));
        }
        Ok(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_last_lines_come_from_as_many_files_as_it_takes() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| folder.path().join(name));
        std::fs::write(&paths[0], "1\n2\n3\n").unwrap();
        std::fs::write(&paths[1], "4\n5\n").unwrap();
        let last = |most| Vec::from(last_lines(&paths, most).unwrap());
        assert_eq!(last(3), ["3", "4", "5"]);
        assert_eq!(last(1), ["5"]);
        assert_eq!(last(9), ["1", "2", "3", "4", "5"]);
        assert!(last(0).is_empty());
    }

    #[test]
    fn a_tail_follows_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let current = folder.path().join("fleetd.log");
        std::fs::write(&current, "before\n").unwrap();
        let mut tail = Tail::at_end(folder.path().to_owned(), Some(&current));
        assert_eq!(tail.read().unwrap(), "");
        File::options().append(true).open(&current).unwrap().write_all(b"old\n").unwrap();
        assert_eq!(tail.read().unwrap(), "old\n");
        std::fs::rename(&current, folder.path().join("fleetd.log.1")).unwrap();
        std::fs::write(&current, "new\n").unwrap();
        let later = std::time::SystemTime::now() + Duration::from_secs(5);
        File::open(&current).unwrap().set_modified(later).unwrap();
        assert_eq!(tail.read().unwrap(), "");
        assert_eq!(tail.read().unwrap(), "new\n");
    }
}
