//! HTTP/1.1 by hand: what is sent is exactly what the test wrote.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::body::Body;
use super::wait::PATIENCE;

/// A request, made of headers in the order they were added.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.into(), target: target.into(), headers: Vec::new(), body: None }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Replaces a header, or leaves it out with `None`.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    pub fn host(self, host: &str) -> Self {
        self.without("Host").header("Host", host)
    }

    pub fn bearer(self, token: &str) -> Self {
        self.without("Authorization").header("Authorization", &format!("Bearer {token}"))
    }

    pub fn body(mut self, content_type: &str, bytes: &[u8]) -> Self {
        self.body = Some(bytes.to_vec());
        self.without("Content-Type").header("Content-Type", content_type)
    }

    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string().as_bytes())
    }

    /// The bytes on the wire. `Content-Length` is added unless the test set its own framing.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.headers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        let framed = self.headers.iter().any(|(name, _)| {
            name.eq_ignore_ascii_case("content-length")
                || name.eq_ignore_ascii_case("transfer-encoding")
        });
        if let Some(body) = self.body.as_ref().filter(|_| !framed) {
            out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.body.as_deref().unwrap_or_default());
        out
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, wanted: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in the body of {self:?}: {}", self.text()))
    }

    /// `error.code` of a refusal, whose body has to be JSON with a code and a message.
    #[track_caller]
    pub fn error_code(&self) -> String {
        let json = self.json();
        assert!(json["error"]["message"].as_str().is_some_and(|m| !m.is_empty()), "{json}");
        json["error"]["code"].as_str().unwrap_or_else(|| panic!("no code in {json}")).to_owned()
    }
}

/// A connection, over TCP or the Unix socket.
pub struct Conn {
    socket: Socket,
}

impl Conn {
    #[track_caller]
    pub fn tcp(port: u16) -> Self {
        Self::try_tcp(port).unwrap_or_else(|error| panic!("connect to port {port}: {error}"))
    }

    pub fn try_tcp(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Self::over(Wire::Tcp(stream))
    }

    /// A connection whose kernel holds as little as it can for a reader that
    /// does not read.
    pub fn narrow(port: u16) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        socket.connect(&address.into()).unwrap_or_else(|error| panic!("port {port}: {error}"));
        Self::over(Wire::Tcp(socket.into())).expect("a fresh socket takes a timeout")
    }

    #[track_caller]
    pub fn unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path);
        let stream = stream.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::over(Wire::Unix(stream)).expect("a fresh socket takes a timeout")
    }

    fn over(wire: Wire) -> io::Result<Self> {
        let mut socket = Socket { wire, ahead: Vec::new() };
        socket.patience(PATIENCE)?;
        Ok(Self { socket })
    }

    /// Sends bytes as they are; the daemon may have hung up already, which is
    /// what the next read shows.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.wire.write_all(bytes)
    }

    /// Says that no more will be sent.
    pub fn finish_writing(&self) {
        match &self.socket.wire {
            Wire::Tcp(stream) => drop(stream.shutdown(std::net::Shutdown::Write)),
            Wire::Unix(stream) => drop(stream.shutdown(std::net::Shutdown::Write)),
        }
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub fn exchange(&mut self, request: &Request) -> Answer {
        self.try_exchange(request).unwrap_or_else(|error| panic!("{request:?}: {error}"))
    }

    pub fn try_exchange(&mut self, request: &Request) -> io::Result<Answer> {
        self.write(&request.bytes())?;
        self.read_answer(&request.method)
    }

    /// Reads an answer, to the end of its body.
    pub fn read_answer(&mut self, method: &str) -> io::Result<Answer> {
        let (mut answer, mut body) = self.read_head(method)?;
        loop {
            let bytes = body.next(&mut self.socket, 64 * 1024)?;
            if bytes.is_empty() {
                return Ok(answer);
            }
            answer.body.extend_from_slice(&bytes);
        }
    }

    /// Reads an answer's head; the body is still to come.
    pub fn read_head(&mut self, method: &str) -> io::Result<(Answer, Body)> {
        let line = self.socket.line_after(0)?;
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status =
            status.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("{line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.socket.line_after(0)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let body = Body::of(&headers, status, method);
        Ok((Answer { status, headers, body: Vec::new() }, body))
    }

    /// Whether the other side closes within `limit`, whatever it says before.
    pub fn closes_within(&mut self, limit: Duration) -> bool {
        let begun = std::time::Instant::now();
        while let Some(left) = limit.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            drop(self.socket.patience(left));
            match self.socket.take(64 * 1024) {
                Ok(bytes) if bytes.is_empty() => return true,
                Ok(_) => {}
                Err(error) if is_timeout(&error) => return false,
                Err(_) => return true,
            }
        }
        false
    }

    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }
}

/// Whether a read only ran out of time.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// A socket with what was read ahead of what was wanted.
pub struct Socket {
    wire: Wire,
    ahead: Vec<u8>,
}

enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// How long one read may wait.
    pub fn patience(&mut self, limit: Duration) -> io::Result<()> {
        // Zero would mean for ever.
        let limit = Some(limit.max(Duration::from_millis(1)));
        match &self.wire {
            Wire::Tcp(stream) => stream.set_read_timeout(limit),
            Wire::Unix(stream) => stream.set_read_timeout(limit),
        }
    }

    /// Some bytes, at most `most`; empty at the end.
    pub fn take(&mut self, most: usize) -> io::Result<Vec<u8>> {
        if self.ahead.is_empty() {
            self.fill()?;
        }
        let end = self.ahead.len().min(most);
        Ok(self.ahead.drain(..end).collect())
    }

    /// The line that begins `skip` bytes from here, without its end. Nothing is
    /// taken if it is not there in time.
    pub fn line_after(&mut self, skip: usize) -> io::Result<String> {
        loop {
            let rest = self.ahead.get(skip..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&rest[..end]).trim_end().to_owned();
                self.ahead.drain(..skip + end + 1);
                return Ok(line);
            }
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 64 * 1024];
        let count = loop {
            let read = match &mut self.wire {
                Wire::Tcp(stream) => stream.read(&mut buffer),
                Wire::Unix(stream) => stream.read(&mut buffer),
            };
            match read {
                // Another test's child has ended and somebody handles SIGCHLD.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.ahead.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

impl Wire {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
        }
    }
}
