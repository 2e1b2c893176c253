//! A connection's socket under watch: framing on the way in, progress on the way out.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::framing::{Framing, Violation};
use super::metrics::Metrics;

/// How long a reader may take nothing before it is cut (R16 allows 30 s).
pub const STALL: Duration = Duration::from_secs(20);

/// How long a peer that has stopped sending may wait for its answer to begin.
/// It may as well be gone, and then nobody should work for it any more.
const HALF_CLOSED: Duration = Duration::from_secs(3);

/// Wraps a socket. It is cut when its reader takes nothing for [`STALL`], and
/// when its bytes are not well-framed HTTP/1.
pub struct Guarded<T> {
    socket: T,
    framing: Framing,
    metrics: Arc<Metrics>,
    /// Runs while a write makes no progress; made at the first stall, so that
    /// an idle connection pays nothing for it.
    stalled: Option<Pin<Box<Sleep>>>,
    refused: bool,
    /// Requests that had arrived when an answer last left.
    answered: u64,
    half: Option<Half>,
}

/// The peer has said its last word and waits for the answer.
struct Half {
    patience: Pin<Box<Sleep>>,
    reader: Waker,
}

impl<T> Guarded<T> {
    pub fn new(socket: T, metrics: Arc<Metrics>) -> Self {
        Self {
            socket,
            framing: Framing::default(),
            metrics,
            stalled: None,
            refused: false,
            answered: 0,
            half: None,
        }
    }

    /// Passes a write's outcome on, and the error once it has stalled too long.
    fn progressed(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = outcome {
            self.stalled = None;
            self.answered = self.framing.requests();
            if let Some(half) = self.half.take() {
                half.reader.wake();
            }
            self.note_timeout(result.as_ref().err());
            return Poll::Ready(result);
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + STALL)));
        ready!(stalled.as_mut().poll(context));
        self.cut();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the reader has stalled")))
    }

    /// hyper takes the end of what a peer sends for the end of the peer. Many
    /// small clients stop sending and then wait: they are given their answer's
    /// beginning first. A stream that has begun ends at once, so that nobody
    /// works on for a reader who is gone.
    fn ended(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waits = self.framing.is_between_requests() && self.framing.requests() > self.answered;
        if !waits {
            return Poll::Ready(Ok(()));
        }
        let half = self.half.get_or_insert_with(|| Half {
            patience: Box::pin(tokio::time::sleep(HALF_CLOSED)),
            reader: context.waker().clone(),
        });
        half.reader.clone_from(context.waker());
        half.patience.as_mut().poll(context).map(Ok)
    }

    /// The kernel's TCP_USER_TIMEOUT says so of a peer that is gone or full, to
    /// whoever reads or writes next.
    fn note_timeout(&self, error: Option<&io::Error>) {
        if error.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            self.cut();
        }
    }

    fn cut(&self) {
        self.metrics.cut_readers.add();
        tracing::info!(reason = "stalled", "cut a reader that took nothing; it can resume");
    }
}

impl<T: AsyncWrite + Unpin> Guarded<T> {
    /// Answers what cannot be parsed, as far as the socket takes it at once.
    fn refuse(&mut self, context: &mut Context<'_>, violation: Violation) -> io::Error {
        self.refused = true;
        self.metrics.refused_requests.add();
        let answer = refusal(violation);
        // The connection ends either way; there is nobody to tell if this fails.
        let _ = Pin::new(&mut self.socket).poll_write(context, answer.as_bytes());
        let _ = Pin::new(&mut self.socket).poll_shutdown(context);
        io::Error::new(io::ErrorKind::InvalidData, "the request is not well framed")
    }
}

fn refusal(violation: Violation) -> String {
    let (status, code, message) = match violation {
        Violation::TooLarge => (
            "431 Request Header Fields Too Large",
            "too_large",
            "the request's head has more than 16 KiB",
        ),
        Violation::Malformed(message) => ("400 Bad Request", "invalid_argument", message),
    };
    let body = format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#);
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.refused {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let outcome = ready!(Pin::new(&mut self.socket).poll_read(context, buffer));
        self.note_timeout(outcome.as_ref().err());
        outcome?;
        if buffer.filled().len() == before {
            return self.ended(context);
        }
        match self.framing.feed(&buffer.filled()[before..]) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(violation) => {
                // Nothing of it may be parsed by anybody behind us.
                buffer.set_filled(before);
                Poll::Ready(Err(self.refuse(context, violation)))
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.progressed(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write_vectored(context, parts);
        self.progressed(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_cut_and_counted() {
        let (ours, theirs) = tokio::io::duplex(16);
        let metrics = Arc::new(Metrics::default());
        let mut guarded = Guarded::new(ours, Arc::clone(&metrics));
        let begun = Instant::now();
        let error = guarded.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= STALL && begun.elapsed() < STALL * 2);
        assert_eq!(metrics.cut_readers.get(), 1);
        drop(theirs);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_that_takes_a_little_is_not_cut() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let metrics = Arc::new(Metrics::default());
        let mut guarded = Guarded::new(ours, Arc::clone(&metrics));
        let slow = async {
            let mut taken = 0;
            while taken < 64 {
                tokio::time::sleep(STALL - Duration::from_secs(1)).await;
                taken += theirs.read(&mut [0; 8]).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(guarded.write_all(&[0; 64]), slow);
        written.unwrap();
        assert_eq!(metrics.cut_readers.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_request_is_not_the_end_of_its_sender() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let mut guarded = Guarded::new(ours, Arc::new(Metrics::default()));
        theirs.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut seen = [0; 100];
        assert!(guarded.read(&mut seen).await.unwrap() > 0);
        let begun = Instant::now();
        let early = tokio::time::timeout(Duration::from_secs(1), guarded.read(&mut seen));
        assert!(early.await.is_err(), "the end was told before the answer");
        guarded.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
        assert_eq!(guarded.read(&mut seen).await.unwrap(), 0);
        assert!(begun.elapsed() < HALF_CLOSED);
    }

    #[tokio::test]
    async fn what_is_not_well_framed_is_answered_and_never_passed_on() {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let mut guarded = Guarded::new(ours, Arc::new(Metrics::default()));
        theirs.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await.unwrap();
        let mut seen = [0; 100];
        assert!(guarded.read(&mut seen).await.is_err());
        drop(guarded);
        let mut answer = String::new();
        theirs.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("invalid_argument"), "{answer}");
    }
}
