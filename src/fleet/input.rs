//! Standard input that comes piece by piece.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::MutexGuard;

use super::drive::blocking;
use super::live::Live;
use super::rundir::RunDir;
use super::{Fleet, FleetError, Inner};
use crate::model::{Principal, TaskId};
use crate::store::StoreError;

/// Bytes that may lie unread before the sender has to wait.
const UNREAD: u64 = 1024 * 1024;

/// Pause between two looks at how far the command has read. Only a sender that
/// is faster than the command ever waits for it.
const LOOK: Duration = Duration::from_millis(20);

impl Fleet {
    /// Appends to the standard input of a task that has it open. `offset` makes
    /// a repeated request harmless; `end` closes it. Returns the bytes held.
    /// Waits while much of what was sent before is still unread.
    ///
    /// # Errors
    /// [`FleetError::NoTask`]; [`FleetError::Invalid`] if the input is not open,
    /// no longer read, or `offset` leaves a hole.
    pub async fn input(
        &self,
        principal: &Principal,
        id: TaskId,
        offset: u64,
        bytes: Bytes,
        end: bool,
    ) -> Result<u64, FleetError> {
        self.task(principal, id).await?;
        let Some(live) = self.0.book().get(id) else {
            let problem = String::from("has ended and reads no more input");
            return Err(FleetError::Invalid { argument: "task", problem });
        };
        self.0.append_input(&live, offset, bytes, end).await
    }
}

impl Inner {
    /// Appends `bytes` at `offset` of a task's input, and perhaps its end.
    pub async fn append_input(
        &self,
        live: &Live,
        offset: u64,
        bytes: Bytes,
        end: bool,
    ) -> Result<u64, FleetError> {
        if !live.open_stdin {
            return refuse("task", "did not leave its standard input open");
        }
        let turn = self.await_room(live).await?;
        let dir = live.dir();
        let path = dir.path().to_owned();
        let appended = blocking(move || append(&dir, offset, &bytes, end)).await;
        drop(turn);
        let held = appended.map_err(|source| FleetError::Run { path, source })??;
        live.poke();
        Ok(held)
    }

    /// A turn to append. It is not held while there is no room: a run that has
    /// ended takes a turn as well, to hand its input to the next.
    async fn await_room<'a>(&self, live: &'a Live) -> Result<MutexGuard<'a, ()>, FleetError> {
        loop {
            let turn = live.input.lock().await;
            let dir = live.dir();
            if dir.has("stdin.closed") || self.book().get(live.id).is_none() {
                return refuse("task", "no longer reads its standard input");
            }
            let held = std::fs::metadata(dir.file("stdin")).map_or(0, |meta| meta.len());
            if held.saturating_sub(dir.number("stdin.taken")) <= UNREAD {
                return Ok(turn);
            }
            drop(turn);
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.closing.cancelled() => return Err(StoreError::Closed.into()),
            }
        }
    }
}

fn refuse<T>(argument: &'static str, problem: &str) -> Result<T, FleetError> {
    Err(FleetError::Invalid { argument, problem: problem.to_owned() })
}

/// Appends what is not held yet. A repeated request changes nothing.
fn append(
    dir: &RunDir,
    offset: u64,
    bytes: &[u8],
    end: bool,
) -> io::Result<Result<u64, FleetError>> {
    let mut file = OpenOptions::new().append(true).open(dir.file("stdin"))?;
    let held = file.metadata()?.len();
    let Some(known) = held.checked_sub(offset) else {
        return Ok(refuse("offset", &format!("lies after the {held} bytes held; send from there")));
    };
    let known = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
    let new = &bytes[known..];
    if !new.is_empty() {
        if dir.has("stdin.end") {
            return Ok(refuse("offset", &format!("lies after the end, at {held} bytes")));
        }
        file.write_all(new)?;
    }
    if end {
        dir.mark("stdin.end")?;
    }
    Ok(Ok(held + new.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_piece_is_held_once() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::new(folder.path().to_owned());
        dir.mark("stdin").unwrap();
        assert_eq!(append(&dir, 0, b"abc", false).unwrap().unwrap(), 3);
        assert_eq!(append(&dir, 0, b"abcd", false).unwrap().unwrap(), 4);
        assert!(append(&dir, 5, b"x", false).unwrap().is_err(), "a hole");
        assert_eq!(append(&dir, 4, b"", true).unwrap().unwrap(), 4);
        assert_eq!(append(&dir, 2, b"cd", true).unwrap().unwrap(), 4);
        assert!(append(&dir, 4, b"e", false).unwrap().is_err(), "after the end");
        assert_eq!(std::fs::read(dir.file("stdin")).unwrap(), b"abcd");
    }
}
