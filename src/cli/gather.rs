//! A task's two streams on their way to ours.

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

    /// Both streams as text, and the bytes that stand in neither.
    pub fn texts(&self) -> (String, String, u64) {
        let [stdout, stderr] = [0, 1].map(|which| {
            let mut tail = self.tails[which].lock().unwrap_or_else(PoisonError::into_inner);
            let text = String::from_utf8_lossy(tail.bytes.make_contiguous()).into_owned();
            (text, tail.omitted)
        });
        (stdout.0, stderr.0, stdout.1 + stderr.1)
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
        let (stdout, stderr, omitted) = gathered.texts();
        assert_eq!((stdout.len(), stderr.as_str(), omitted), (KEEP, "\u{fffd}\n", 6));
    }
}
