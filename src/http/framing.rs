//! A strict look at HTTP/1 framing (RFC 9112, sections 2 to 7), before hyper.
//!
//! hyper forgives what can make two readers disagree about where a request
//! ends: repeated lengths, a length beside `Transfer-Encoding`, bare line
//! feeds. We stand alone on loopback and forgive nothing, so that no handler
//! ever sees a request that could be read in two ways.

/// The most bytes of a request line with its header lines.
pub const MAX_HEAD: usize = 16 * 1024;

/// The most bytes of the line that begins a chunk.
const MAX_CHUNK_LINE: usize = 256;

/// Why a connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The head is longer than [`MAX_HEAD`].
    TooLarge,
    /// Names the rule that was broken.
    Malformed(&'static str),
}

/// Follows one connection's bytes from request to request.
#[derive(Debug, Default)]
pub struct Framing {
    state: State,
    line: Vec<u8>,
    head: Head,
    requests: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    RequestLine,
    Headers,
    /// Bytes of the body that are still to come.
    Body(u64),
    ChunkLine,
    /// Bytes of the chunk that are still to come, its line end included.
    Chunk(u64),
    Trailers,
}

#[derive(Debug, Default)]
struct Head {
    bytes: usize,
    hosts: u32,
    length: Option<u64>,
    chunked: bool,
}

type Checked = Result<(), Violation>;

impl Framing {
    /// Follows the next bytes.
    ///
    /// # Errors
    /// At the first byte that cannot be part of a well-framed request.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Checked {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Body(left) => self.skip(bytes, left, State::Body),
                State::Chunk(left) => self.skip_chunk(bytes, left)?,
                _ => self.take_line(bytes)?,
            };
        }
        Ok(())
    }

    /// Requests that have arrived whole.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Whether the bytes so far end with a whole request.
    pub fn is_between_requests(&self) -> bool {
        self.state == State::RequestLine && self.line.is_empty()
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64, state: fn(u64) -> State) -> &'a [u8] {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - taken as u64;
        if left == 0 {
            self.request_ended();
        } else {
            self.state = state(left);
        }
        &bytes[taken..]
    }

    fn skip_chunk<'a>(&mut self, bytes: &'a [u8], left: u64) -> Result<&'a [u8], Violation> {
        // The last two bytes of a chunk are its line end.
        if left <= 2 {
            let expected = if left == 2 { b'\r' } else { b'\n' };
            if bytes[0] != expected {
                return Err(Violation::Malformed("a chunk does not end where it says"));
            }
            self.state = if left == 1 { State::ChunkLine } else { State::Chunk(1) };
            return Ok(&bytes[1..]);
        }
        let taken = usize::try_from(left - 2).unwrap_or(usize::MAX).min(bytes.len());
        self.state = State::Chunk(left - taken as u64);
        Ok(&bytes[taken..])
    }

    fn take_line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Violation> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |at| at + 1);
        self.line.extend_from_slice(&bytes[..taken]);
        self.head.bytes += taken;
        if self.head.bytes > MAX_HEAD {
            return Err(Violation::TooLarge);
        }
        if self.state == State::ChunkLine && self.line.len() > MAX_CHUNK_LINE {
            return Err(Violation::Malformed("a chunk begins with an overlong line"));
        }
        if end.is_some() {
            let line = std::mem::take(&mut self.line);
            let Some(content) = line.strip_suffix(b"\r\n") else {
                return Err(Violation::Malformed("a line does not end with CR LF"));
            };
            if content.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
                return Err(Violation::Malformed("a line has a control character"));
            }
            self.line_ended(content)?;
        }
        Ok(&bytes[taken..])
    }

    fn line_ended(&mut self, line: &[u8]) -> Checked {
        match self.state {
            // Empty lines before a request are allowed (RFC 9112, section 2.2).
            State::RequestLine if line.is_empty() => Ok(()),
            State::RequestLine => {
                check_request_line(line)?;
                self.state = State::Headers;
                Ok(())
            }
            State::Headers if line.is_empty() => self.head_ended(),
            State::Headers => self.header(line),
            State::ChunkLine => self.chunk_line(line),
            State::Trailers => {
                if line.is_empty() {
                    self.request_ended();
                }
                Ok(())
            }
            State::Body(_) | State::Chunk(_) => Ok(()),
        }
    }

    fn header(&mut self, line: &[u8]) -> Checked {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Err(Violation::Malformed("a header line has no colon"));
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || name.iter().any(|byte| byte.is_ascii_whitespace()) {
            return Err(Violation::Malformed("a header name is empty or has a space"));
        }
        if name.eq_ignore_ascii_case(b"host") {
            self.head.hosts += 1;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.head.length.is_some() {
                return Err(Violation::Malformed("there are two Content-Length headers"));
            }
            self.head.length = Some(decimal(value)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.head.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Violation::Malformed("Transfer-Encoding has to be chunked, once"));
            }
            self.head.chunked = true;
        }
        Ok(())
    }

    fn head_ended(&mut self) -> Checked {
        if self.head.hosts != 1 {
            return Err(Violation::Malformed("there has to be one Host header"));
        }
        let head = std::mem::take(&mut self.head);
        match (head.chunked, head.length) {
            (true, Some(_)) => {
                return Err(Violation::Malformed("Content-Length beside Transfer-Encoding"));
            }
            (true, None) => self.state = State::ChunkLine,
            (false, Some(length)) if length > 0 => self.state = State::Body(length),
            _ => self.request_ended(),
        }
        Ok(())
    }

    fn chunk_line(&mut self, line: &[u8]) -> Checked {
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let bad = Violation::Malformed("a chunk's length is not a hexadecimal number");
        if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(bad);
        }
        let text = std::str::from_utf8(digits).map_err(|_| bad)?;
        let length = u64::from_str_radix(text, 16).map_err(|_| bad)?;
        self.head.bytes = 0;
        self.state = if length == 0 { State::Trailers } else { State::Chunk(length + 2) };
        Ok(())
    }

    fn request_ended(&mut self) {
        self.state = State::RequestLine;
        self.head = Head::default();
        self.requests += 1;
    }
}

/// `METHOD SP /path SP HTTP/1.x`: absolute URIs and `CONNECT` are for proxies.
fn check_request_line(line: &[u8]) -> Checked {
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, target, version) = (parts.next(), parts.next(), parts.next());
    if parts.next().is_some() || method.is_none_or(<[u8]>::is_empty) {
        return Err(Violation::Malformed("the request line does not have three parts"));
    }
    let Some(target) = target.filter(|target| target.starts_with(b"/")) else {
        return Err(Violation::Malformed("the request target has to be a path"));
    };
    // RFC 3986, section 2: these and bytes outside of ASCII have to be encoded.
    if target.iter().any(|byte| !byte.is_ascii() || b"\"<>\\^`{|}#".contains(byte)) {
        return Err(Violation::Malformed(
            "the request target has a character that has to be percent-encoded, such as > as %3E",
        ));
    }
    match version {
        Some(b"HTTP/1.1" | b"HTTP/1.0") => Ok(()),
        _ => Err(Violation::Malformed("the version has to be HTTP/1.1")),
    }
}

fn decimal(value: &[u8]) -> Result<u64, Violation> {
    let bad = Violation::Malformed("Content-Length is not a number");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad);
    }
    std::str::from_utf8(value).map_err(|_| bad)?.parse().map_err(|_| bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &[&str] = &[
        "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: v\r\n\r\nGET / HTTP/1.1\r\nhost:a\r\n\r\n",
        "POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    ];

    const BAD: &[&str] = &[
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET /events?types=a.> HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n100000000\r\n",
    ];

    #[test]
    fn well_framed_requests_pass_however_they_are_cut() {
        for text in GOOD {
            for size in [1, 2, 3, 7, text.len()] {
                let mut framing = Framing::default();
                for part in text.as_bytes().chunks(size) {
                    assert_eq!(framing.feed(part), Ok(()), "{text}");
                }
                assert!(framing.is_between_requests(), "{text}");
                assert_eq!(framing.requests() as usize, text.matches("HTTP/1").count(), "{text}");
            }
        }
    }

    #[test]
    fn anything_that_two_readers_could_read_differently_is_refused() {
        for text in BAD {
            for size in [1, text.len()] {
                let mut framing = Framing::default();
                let result = text.as_bytes().chunks(size).try_for_each(|part| framing.feed(part));
                assert!(matches!(result, Err(Violation::Malformed(_))), "{text}: {result:?}");
            }
        }
    }

    #[test]
    fn an_endless_head_is_cut_at_its_bound() {
        let mut framing = Framing::default();
        framing.feed(b"GET / HTTP/1.1\r\nHost: a\r\nX: ").unwrap();
        assert_eq!(framing.feed(&[b'x'; MAX_HEAD]), Err(Violation::TooLarge));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut framing = Framing::default();
            let _ = framing.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            let _ = framing.feed(&bytes);
            let _ = Framing::default().feed(&bytes);
        }
    }
}
