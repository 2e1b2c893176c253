//! A task's two streams on their way to ours.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::Cx;
use super::run::STREAMS;
use crate::model::{OutputStream, TaskId};

/// The end of both streams, for `--json`.
#[derive(Default)]
pub struct Gathered {
    tails: [Mutex<Tail>; 2],
}

/// The last bytes of a stream, and how many came before them.
#[derive(Default)]
struct Tail {
    bytes: VecDeque<u8>,
    omitted: u64,
}

/// Both streams as text.
pub struct Texts {
    pub stdout: String,
    pub stderr: String,
    /// Bytes that stand in neither.
    pub omitted: u64,
    /// Every byte was text.
    pub exact: bool,
}

/// Kept of each stream; `fleetctl tasks output` has all of it.
const KEEP: usize = 256 * 1024;

impl Gathered {
    fn push(&self, which: usize, bytes: &[u8]) {
        let mut tail = self.tails[which].lock().unwrap_or_else(PoisonError::into_inner);
        tail.bytes.extend(bytes);
        let over = tail.bytes.len().saturating_sub(KEEP);
        tail.bytes.drain(..over);
        tail.omitted += over as u64;
    }

    /// Both streams as text.
    pub fn texts(&self) -> Texts {
        let [stdout, stderr] = [0, 1].map(|which| {
            let mut tail = self.tails[which].lock().unwrap_or_else(PoisonError::into_inner);
            let omitted = tail.omitted;
            let text = String::from_utf8_lossy(tail.bytes.make_contiguous());
            (matches!(text, Cow::Borrowed(_)), text.into_owned(), omitted)
        });
        Texts {
            exact: stdout.0 && stderr.0,
            omitted: stdout.2 + stderr.2,
            stdout: stdout.1,
            stderr: stderr.1,
        }
    }
}

/// Passes both streams on as they come, until the task has ended. Returns the
/// bytes of each.
///
/// # Errors
/// If the output cannot be read, or our own reader has gone.
pub async fn streams(cx: &Cx, id: TaskId, gathered: Option<&Gathered>) -> anyhow::Result<[u64; 2]> {
    let (stdout, stderr) =
        tokio::try_join!(pass_on(cx, id, 0, gathered), pass_on(cx, id, 1, gathered),)?;
    Ok([stdout, stderr])
}

async fn pass_on(
    cx: &Cx,
    id: TaskId,
    which: usize,
    gathered: Option<&Gathered>,
) -> anyhow::Result<u64> {
    let stream: OutputStream = STREAMS[which];
    let mut output = cx.client.output(id, stream, 0, true);
    while let Some(bytes) = output.next().await? {
        match gathered {
            Some(gathered) => gathered.push(which, &bytes),
            None => cx.out.bytes(stream, &bytes).await?,
        }
    }
    Ok(output.offset())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept_and_the_rest_counted() {
        let gathered = Gathered::default();
        gathered.push(0, b"first ");
        gathered.push(0, &vec![b'x'; KEEP]);
        gathered.push(1, b"\xff\n");
        let texts = gathered.texts();
        assert_eq!((texts.stdout.len(), texts.omitted), (KEEP, 6));
        assert_eq!((texts.stderr.as_str(), texts.exact), ("\u{fffd}\n", false));
    }
}
