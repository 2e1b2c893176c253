//! Starting fleetd so that it outlives the terminal.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use process_wrap::std::{ChildWrapper, CommandWrap, ProcessSession};

use super::{exit, text};

/// The status with which fleetd ends when another holds the lock.
pub const ALREADY_RUNNING: u8 = 3;

/// Recovery of a large journal takes up to two seconds (R39).
const READY_WITHIN: Duration = Duration::from_secs(20);

/// The most of fleetd's own words that are shown.
const MOST_WORDS: u64 = 16 * 1024;

/// A daemon that was started and is not ready yet.
pub struct Fleetd {
    child: Box<dyn ChildWrapper>,
    words: File,
    deadline: Instant,
}

/// The daemon ended instead of becoming ready.
#[derive(Debug, thiserror::Error)]
#[error("fleetd could not start{}", said(.words))]
pub struct End {
    pub status: u8,
    /// What it said, without control sequences.
    pub words: String,
}

fn said(words: &str) -> String {
    match words.trim() {
        "" => "; look with `fleetctl logs`".to_owned(),
        words => format!(": {}", words.strip_prefix("fleetd: ").unwrap_or(words)),
    }
}

impl Fleetd {
    /// Starts the fleetd that lies beside this program, or else the one on PATH,
    /// in a session of its own, with nothing of ours open.
    pub fn spawn(config: Option<PathBuf>) -> anyhow::Result<Self> {
        let program = beside_us().unwrap_or_else(|| "fleetd".into());
        // fleetd has a log; this catches what it says before that is open. The
        // file has no name and is gone with the daemon.
        let words = tempfile::tempfile().context("cannot make a temporary file")?;
        let stderr = words.try_clone().context("cannot share a temporary file")?;
        let config = match config {
            Some(path) => {
                Some(std::path::absolute(&path).context("cannot find the current folder")?)
            }
            None => None,
        };
        let mut command = CommandWrap::with_new(&program, |command| {
            command
                .current_dir("/")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::from(stderr));
            if let Some(config) = config {
                command.arg("--config").arg(config);
            }
        });
        let child = command.wrap(ProcessSession).spawn().with_context(|| {
            format!("cannot start '{}'; install it beside fleetctl", program.display())
        })?;
        Ok(Self { child, words, deadline: Instant::now() + READY_WITHIN })
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    /// How it ended, if it has.
    pub fn end(&mut self) -> anyhow::Result<Option<End>> {
        let Some(status) = self.child.try_wait().context("cannot watch fleetd")? else {
            return Ok(None);
        };
        let status = match (status.code(), status.signal()) {
            (Some(code), _) => u8::try_from(code).unwrap_or(exit::FAILED),
            (None, Some(signal)) => exit::of_signal(signal),
            (None, None) => exit::FAILED,
        };
        let mut words = Vec::new();
        self.words.seek(SeekFrom::Start(0)).context("cannot read what fleetd said")?;
        Read::by_ref(&mut self.words)
            .take(MOST_WORDS)
            .read_to_end(&mut words)
            .context("cannot read what fleetd said")?;
        let words = text::printable(&String::from_utf8_lossy(&words));
        Ok(Some(End { status, words }))
    }

    /// Whether it should have been ready by now.
    pub fn is_late(&self) -> bool {
        Instant::now() > self.deadline
    }
}

fn beside_us() -> Option<OsString> {
    let program = std::env::current_exe().ok()?.parent()?.join("fleetd");
    program.is_file().then(|| program.into_os_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_s_own_words_are_shown() {
        let end = |words: &str| End { status: 4, words: words.into() }.to_string();
        assert_eq!(end(""), "fleetd could not start; look with `fleetctl logs`");
        assert_eq!(end("fleetd: no room\n"), "fleetd could not start: no room");
    }
}
