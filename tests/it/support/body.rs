//! The body of an HTTP answer as it arrives: by length, in chunks, or to the end.

use std::io::{self, ErrorKind};

use super::http::Socket;

/// How the end of a body is known (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    /// Bytes left of the current chunk; the first comes with its size line.
    Chunked {
        left: u64,
        begun: bool,
    },
    UntilClose,
    Ended,
}

/// Reads a body piece by piece. A read timeout of the socket comes out as
/// `WouldBlock` or `TimedOut`, and reading may go on afterwards.
pub struct Body {
    framing: Framing,
}

impl Body {
    pub fn of(headers: &[(String, String)], status: u16, method: &str) -> Self {
        let header = |wanted: &str| {
            headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, v)| v)
        };
        let framing = if method == "HEAD" || matches!(status, 100..=199 | 204 | 304) {
            Framing::Ended
        } else if header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            Framing::Chunked { left: 0, begun: false }
        } else if let Some(length) = header("content-length") {
            Framing::Length(length.parse().expect("Content-Length is a number"))
        } else {
            Framing::UntilClose
        };
        Self { framing }
    }

    /// The next bytes, at most `most`; empty at the end of the body.
    pub fn next(&mut self, socket: &mut Socket, most: usize) -> io::Result<Vec<u8>> {
        match self.framing {
            Framing::Ended | Framing::Length(0) => Ok(Vec::new()),
            Framing::UntilClose => socket.take(most),
            Framing::Length(left) => {
                let bytes = socket.take(most.min(clamp(left)))?;
                if bytes.is_empty() {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                self.framing = Framing::Length(left - bytes.len() as u64);
                Ok(bytes)
            }
            Framing::Chunked { left: 0, begun } => {
                self.next_chunk(socket, begun)?;
                self.next(socket, most)
            }
            Framing::Chunked { left, .. } => {
                let bytes = socket.take(most.min(clamp(left)))?;
                if bytes.is_empty() {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                self.framing = Framing::Chunked { left: left - bytes.len() as u64, begun: true };
                Ok(bytes)
            }
        }
    }

    /// Reads a chunk's size line, and the end of the chunk before it. Nothing
    /// is taken from the socket before all of it is there.
    fn next_chunk(&mut self, socket: &mut Socket, begun: bool) -> io::Result<()> {
        let skip = if begun { 2 } else { 0 };
        let line = socket.line_after(skip)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16)
            .map_err(|_| io::Error::new(ErrorKind::InvalidData, format!("chunk size {line:?}")))?;
        if size == 0 {
            socket.line_after(0)?;
            self.framing = Framing::Ended;
        } else {
            self.framing = Framing::Chunked { left: size, begun: true };
        }
        Ok(())
    }
}

fn clamp(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
